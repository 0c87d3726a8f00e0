//! Section 3.1, CONNECT: protocol name and version, Clean Start, Client Identifier.

use std::collections::BTreeSet;

use gateway_protocol::Property;
use gateway_protocol::packet::Packet;
use gateway_tests::{Client, Gateway, Hello, ReasonCode, TIMEOUT};

use super::support::{
    absent, announced, answer_to, assert_next, assert_refused, back, connect, connect_with_flags, packet,
    text,
};
use crate::{QOS1, V5};

#[test]
fn mqtt_3_1_0_2_a_second_connect_closes() {
    let gateway = Gateway::start();
    for second in ["twice", "other"] {
        let mut client = gateway.connect(V5, "twice");
        client.send_bytes(&Hello::new(V5, second).bytes());
        assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::ProtocolError), "{second}");
    }
    // In one write with the first.
    let bytes = Hello::new(V5, "twice").bytes().repeat(2);
    let mut client = Client::open(gateway.mqtt(), V5);
    client.send_bytes(&bytes);
    assert!(matches!(client.next_packet().packet(), Packet::ConnAck(_)));
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::ProtocolError));
}

/// CONNECT with another protocol name and version.
fn named(name: &str, version: u8) -> Vec<u8> {
    packet(0x10, &[&text(name), &[version, 2, 0, 0, 0], &text("c")])
}

#[test]
fn mqtt_3_1_2_1_another_protocol_name_is_refused() {
    let gateway = Gateway::start();
    for name in ["mqtt", "MQTX", "MQT", "MQTT ", "MQTTT", "\u{FEFF}MQTT", "", "AMQP", "HTTP"] {
        let bytes = named(name, 5);
        assert_refused(&gateway, name, &bytes, ReasonCode::UnsupportedProtocolVersion);
    }
}

#[test]
fn mqtt_3_1_2_2_another_protocol_version_is_refused() {
    let gateway = Gateway::start();
    for version in [0, 1, 2, 6, 7, 0x15, 0x80, 0x85, 0xFF] {
        let answer = answer_to(&gateway, &named("MQTT", version));
        // Whoever speaks neither version is told in the form of the oldest, if at all.
        let is_refusal = match answer.as_slice() {
            [] | [0x20, 2, 0, 1] => true,
            [0x20, _, 0, code, ..] => *code == ReasonCode::UnsupportedProtocolVersion.as_u8(),
            _ => false,
        };
        assert!(is_refusal, "version {version}: {answer:02x?}");
    }
}

#[test]
fn mqtt_3_1_2_3_the_reserved_connect_flag_is_0() {
    let gateway = Gateway::start();
    for flags in [0x01, 0x03] {
        let bytes = connect_with_flags(flags, "c", &[]);
        assert_refused(&gateway, "reserved flag", &bytes, ReasonCode::MalformedPacket);
    }
    let accepted = answer_start(&gateway, &connect_with_flags(0x02, "c", &[]));
    assert_eq!(accepted, (0x20, 0), "but for the flag it is right");
}

/// The first byte and the Reason Code of the answer to a first packet.
fn answer_start(gateway: &Gateway, bytes: &[u8]) -> (u8, u8) {
    let mut client = Client::open(gateway.mqtt(), V5);
    client.send_bytes(bytes);
    let answer = client.next_packet();
    (answer.bytes()[0], answer.bytes()[3])
}

#[test]
fn mqtt_3_1_2_4_clean_start_discards_the_session() {
    let gateway = Gateway::start();
    absent(&gateway, "reader", "t/#", QOS1);
    let mut publisher = gateway.connect(V5, "publisher");
    publisher.publish("t/1", "for the old session", QOS1);
    let hello = Hello::durable(V5, "reader").clean_start(true);
    let (mut reader, present) = Client::connect(gateway.mqtt(), &hello);
    assert!(!present);
    publisher.publish("t/2", "the subscription is gone", QOS1);
    reader.subscribe(&[("t/3", QOS1)]);
    publisher.publish("t/3", "new", QOS1);
    assert_next(&mut reader, "new");
    reader.leave();
    // The new one is a Session like any other.
    publisher.publish("t/3", "while absent", QOS1);
    assert_next(&mut back(&gateway, "reader"), "while absent");
}

#[test]
fn mqtt_3_1_2_4_clean_start_discards_the_session_of_a_living_connection() {
    let gateway = Gateway::start();
    let (mut old, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "reader"));
    old.subscribe(&[("t/1", QOS1)]);
    let mut publisher = gateway.connect(V5, "publisher");
    publisher.publish("t/1", "not acknowledged", QOS1);
    old.message();
    let hello = Hello::durable(V5, "reader").clean_start(true);
    let (mut new, present) = Client::connect(gateway.mqtt(), &hello);
    assert!(!present);
    publisher.publish("t/1", "the subscription is gone", QOS1);
    new.subscribe(&[("t/2", QOS1)]);
    publisher.publish("t/2", "new", QOS1);
    assert_next(&mut new, "new");
}

#[test]
fn mqtt_3_1_2_5_without_clean_start_the_session_goes_on() {
    let gateway = Gateway::start();
    absent(&gateway, "reader", "t/#", QOS1);
    gateway.connect(V5, "publisher").publish("t/1", "while absent", QOS1);
    let mut reader = back(&gateway, "reader");
    assert_next(&mut reader, "while absent");
    gateway.connect(V5, "publisher").publish("t/1", "the subscription goes on", QOS1);
    assert_next(&mut reader, "the subscription goes on");
}

#[test]
fn mqtt_3_1_2_6_without_a_session_a_new_one_is_made() {
    let gateway = Gateway::start();
    let (mut reader, present) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "reader"));
    assert!(!present);
    reader.subscribe(&[("t", QOS1)]);
    reader.publish("t", "x", QOS1);
    assert_next(&mut reader, "x");
    reader.leave();
    back(&gateway, "reader").leave();
}

#[test]
fn mqtt_3_1_3_2_the_client_identifier_names_the_session() {
    let gateway = Gateway::start();
    let names = ["reader", "Reader", "reader ", "reader/1", "é", "e\u{301}"];
    for (number, name) in names.iter().enumerate() {
        absent(&gateway, name, &format!("t/{number}"), QOS1);
    }
    let mut publisher = gateway.connect(V5, "publisher");
    for number in 0..names.len() {
        publisher.publish(&format!("t/{number}"), &format!("for {number}"), QOS1);
    }
    // Each gets what is its own; at any place in the order.
    for (number, name) in names.iter().enumerate().rev() {
        let mut client = back(&gateway, name);
        assert_next(&mut client, &format!("for {number}"));
        client.ping();
    }
}

#[test]
fn mqtt_3_1_3_5_letters_and_digits_are_accepted() {
    let gateway = Gateway::start();
    let all: String = ('0'..='9').chain('a'..='z').chain('A'..='Z').collect();
    let mut clients = Vec::new();
    for name in all.as_bytes().chunks(23).chain(all.as_bytes().chunks(1)) {
        let mut client = Client::open(gateway.mqtt(), V5);
        client.send_bytes(&connect_with_flags(0x02, name, &[]));
        let connack = client.next_packet();
        assert_eq!(connack.bytes()[3], 0, "{connack:?}");
        clients.push(client);
    }
    for client in &mut clients {
        client.ping();
    }
}

#[test]
fn mqtt_3_1_3_6_an_empty_client_identifier_gets_a_unique_one() {
    let gateway = Gateway::start();
    let mut names = BTreeSet::new();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let (client, connack) = connect(&gateway, &Hello::new(V5, ""));
        let properties = announced(&connack);
        let name = properties.assigned_client_identifier().expect("an Assigned Client Identifier");
        assert!(!name.is_empty());
        assert!(names.insert(name.to_owned()), "{name} is taken");
        clients.push(client);
    }
    for client in &mut clients {
        client.ping();
    }
    // Who brought a name is not given another.
    let (_, connack) = connect(&gateway, &Hello::new(V5, "named"));
    assert_eq!(announced(&connack).assigned_client_identifier(), None);
}

#[test]
fn mqtt_3_1_3_7_the_assigned_client_identifier_is_the_client_s() {
    let gateway = Gateway::start();
    let (mut client, connack) = connect(&gateway, &Hello::durable(V5, ""));
    let name = announced(&connack).assigned_client_identifier().unwrap().to_owned();
    client.subscribe(&[("t", QOS1)]);
    client.leave();
    gateway.connect(V5, "publisher").publish("t", "while absent", QOS1);
    let mut client = back(&gateway, &name);
    assert_next(&mut client, "while absent");
    let _newcomer = gateway.connect(V5, &name);
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::SessionTakenOver));
}

#[test]
fn mqtt_3_1_3_8_a_refused_client_identifier_is_told_and_closed() {
    let gateway = Gateway::start_set(&["mqtt.allow_empty_client_id=false"]);
    for hello in [Hello::new(V5, ""), Hello::durable(V5, "")] {
        let answer = answer_to(&gateway, &hello.bytes());
        assert_eq!(answer[..4], [0x20, 3, 0, ReasonCode::ClientIdentifierNotValid.as_u8()]);
        assert_eq!(answer.len(), 5);
    }
    connect(&gateway, &Hello::new(V5, "named").with(Property::ReceiveMaximum(1))).0.ping();
}

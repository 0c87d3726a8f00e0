//! Section 2, the packet format: fixed header, Packet Identifier, properties.

use std::collections::BTreeSet;

use gateway_protocol::packet::{Ack, Packet};
use gateway_tests::{Client, Gateway, Hello, ReasonCode, TIMEOUT};

use super::support::{
    PINGREQ, assert_refused, await_pubcomp, await_pubrec, await_pubrel, connect_with_flags, id, packet, text,
    told_for,
};
use crate::{QOS0, QOS1, QOS2, V5};

#[test]
fn mqtt_2_1_3_1_reserved_flags_have_the_value_of_the_table() {
    let gateway = Gateway::start();
    // Each packet a client can send, without its flags, and the flags it has to have.
    let packets = [
        ("PUBACK", 0x40, 0, vec![0, 1]),
        ("PUBREC", 0x50, 0, vec![0, 1]),
        ("PUBREL", 0x60, 2, vec![0, 1]),
        ("PUBCOMP", 0x70, 0, vec![0, 1]),
        ("SUBSCRIBE", 0x80, 2, [&[0, 1, 0][..], &text("a"), &[0]].concat()),
        ("UNSUBSCRIBE", 0xA0, 2, [&[0, 1, 0][..], &text("a")].concat()),
        ("PINGREQ", 0xC0, 0, vec![]),
        ("DISCONNECT", 0xE0, 0, vec![]),
    ];
    for (name, kind, right, body) in &packets {
        for flags in (0..16).filter(|flags| flags != right) {
            let told = told_for(&gateway, &packet(kind | flags, &[body]));
            assert_eq!(told, Some(ReasonCode::MalformedPacket), "{name} with flags {flags:04b}");
        }
    }
    for flags in 1..16 {
        let mut connect = connect_with_flags(0x02, "c", &[]);
        connect[0] |= flags;
        assert_refused(&gateway, &format!("CONNECT {flags:04b}"), &connect, ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt_2_1_3_1_reserved_flags_of_what_is_sent() {
    let gateway = Gateway::start();
    let mut client = Client::open(gateway.mqtt(), V5);
    let mut first_byte_of_answer = |bytes: &[u8]| {
        client.send_bytes(bytes);
        client.next_packet().bytes()[0]
    };
    assert_eq!(first_byte_of_answer(&Hello::new(V5, "c").bytes()), 0x20, "CONNACK");
    let subscribe = packet(0x82, &[&[0, 1, 0], &text("t"), &[2]]);
    assert_eq!(first_byte_of_answer(&subscribe), 0x90, "SUBACK");
    assert_eq!(first_byte_of_answer(&PINGREQ), 0xD0, "PINGRESP");
    assert_eq!(first_byte_of_answer(&packet(0x30, &[&text("t"), &[0]])), 0x30, "PUBLISH, QoS 0");
    assert_eq!(first_byte_of_answer(&packet(0x32, &[&text("u"), &[0, 1, 0]])), 0x40, "PUBACK");
    assert_eq!(first_byte_of_answer(&packet(0x34, &[&text("u"), &[0, 1, 0]])), 0x50, "PUBREC");
    assert_eq!(first_byte_of_answer(&packet(0x62, &[&[0, 1]])), 0x70, "PUBCOMP");
    assert_eq!(first_byte_of_answer(&packet(0x50, &[&[0x7F, 0xFF]])), 0x62, "PUBREL");
    assert_eq!(first_byte_of_answer(&packet(0xA2, &[&[0, 1, 0], &text("t")])), 0xB0, "UNSUBACK");
    assert_eq!(first_byte_of_answer(&packet(0x00, &[])), 0xE0, "DISCONNECT");
}

#[test]
fn mqtt_2_2_1_2_a_qos_0_publish_has_no_packet_identifier() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "c");
    client.subscribe(&[("t", QOS2)]);
    client.send_publish("t", "payload", QOS0);
    assert_eq!(client.next_packet().bytes(), b"\x30\x0b\0\x01t\0payload");
    // In the place where it would be, a client's QoS 0 PUBLISH has its Property Length.
    client.send_bytes(b"\x30\x06\0\x01t\0\0\x01");
    assert_eq!(client.next_packet().bytes(), b"\x30\x06\0\x01t\0\0\x01");
}

#[test]
fn mqtt_2_2_1_4_packet_identifiers_of_the_server_are_not_in_use() {
    let gateway = Gateway::start();
    for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
        let (mut reader, _) = Client::connect(gateway.mqtt(), &hello);
        reader.subscribe(&[("t", QOS2)]);
        let mut publisher = gateway.connect(V5, "publisher");
        let mut in_use = BTreeSet::new();
        for round in 0..3 {
            for number in 0..20 {
                let qos = if number % 2 == 0 { QOS1 } else { QOS2 };
                publisher.send_publish("t", "x", qos);
            }
            for _ in 0..20 {
                let message = reader.message();
                let packet_id = message.packet_id.expect("above QoS 0").get();
                assert_ne!(packet_id, 0);
                assert!(in_use.insert(packet_id), "{packet_id} is in use in round {round}: {in_use:?}");
                // Some are freed by being acknowledged, some are not.
                if message.qos == QOS1 && packet_id % 4 == 0 {
                    reader.acknowledge(&message);
                    in_use.remove(&packet_id);
                }
            }
        }
        reader.leave();
    }
}

#[test]
fn mqtt_2_2_1_5_acknowledgements_repeat_the_packet_identifier() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "c");
    for packet_id in [1, 2, 0x1234, 0xFFFE, 0xFFFF, 0x100] {
        let [high, low] = u16::to_be_bytes(packet_id);
        client.send_bytes(&packet(0x32, &[&text("t"), &[high, low, 0]]));
        assert_eq!(client.next_packet().bytes()[2..4], [high, low], "PUBACK");
        client.send_bytes(&packet(0x34, &[&text("t"), &[high, low, 0]]));
        assert_eq!(await_pubrec(&mut client, id(packet_id)), ReasonCode::Success);
        client.send(&Packet::PubRel(Ack::success(id(packet_id))));
        assert_eq!(await_pubcomp(&mut client, id(packet_id)), ReasonCode::Success);
    }
    // And the other way: the PUBREL for the identifier that PUBREC named.
    client.subscribe(&[("u", QOS2)]);
    client.send_publish("u", "x", QOS2);
    client.send_publish("u", "y", QOS2);
    let ids = [client.message().packet_id.unwrap(), client.message().packet_id.unwrap()];
    for packet_id in [ids[1], ids[0]] {
        client.send(&Packet::PubRec(Ack::success(packet_id)));
        await_pubrel(&mut client, packet_id);
    }
}

#[test]
fn mqtt_2_2_1_6_suback_and_unsuback_repeat_the_packet_identifier() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "c");
    for packet_id in [0xFFFF_u16, 1, 0x8000, 0x1234] {
        let packet_id = packet_id.to_be_bytes();
        client.send_bytes(&packet(0x82, &[&packet_id, &[0], &text("t"), &[0]]));
        let suback = client.next_packet();
        assert_eq!((suback.bytes()[0], &suback.bytes()[2..4]), (0x90, &packet_id[..]));
        client.send_bytes(&packet(0xA2, &[&packet_id, &[0], &text("t")]));
        let unsuback = client.next_packet();
        assert_eq!((unsuback.bytes()[0], &unsuback.bytes()[2..4]), (0xB0, &packet_id[..]));
    }
}

#[test]
fn mqtt_2_2_2_1_no_properties_are_a_property_length_of_0() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "c");
    client.send_bytes(&packet(0x82, &[&[0, 7, 0], &text("t"), &[1]]));
    assert_eq!(client.next_packet().bytes(), [0x90, 4, 0, 7, 0, 1], "SUBACK");
    client.send_publish("t", "x", QOS0);
    assert_eq!(client.next_packet().bytes(), b"\x30\x05\0\x01t\0x", "PUBLISH, QoS 0");
    client.send_publish("t", "x", QOS1);
    let frame = client.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)));
    assert_eq!((frame.bytes().len(), frame.bytes()[7]), (9, 0), "PUBLISH, QoS 1");
    client.send_bytes(&packet(0xA2, &[&[0, 8, 0], &text("t")]));
    let frame = client.await_frame("UNSUBACK", |packet| matches!(packet, Packet::UnsubAck(_)));
    assert_eq!(frame.bytes(), [0xB0, 4, 0, 8, 0, 0], "UNSUBACK");
    // A PUBLISH, SUBSCRIBE or UNSUBSCRIBE without a Property Length is malformed.
    for bytes in [packet(0x30, &[&text("t")]), packet(0x32, &[&text("t"), &[0, 1]])] {
        let mut client = gateway.connect(V5, "offender");
        client.send_bytes(&bytes);
        assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::MalformedPacket), "{bytes:02x?}");
    }
}

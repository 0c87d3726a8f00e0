//! Section 3.2, CONNACK.

use std::time::Duration;

use gateway_protocol::{PacketType, Property};
use gateway_tests::{Client, Ended, Gateway, Hello, QoS, ReasonCode, TIMEOUT, Will};

use super::support::{
    PINGREQ, announced, answer_to, assert_next, connect, connect_with_flags, packet, pass, properties, text,
};
use crate::{QOS0, QOS1, QOS2, V5};

/// Reason Codes that a CONNACK may have: table 3-1.
const CONNACK_CODES: [u8; 22] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
    0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];

#[test]
fn mqtt_3_2_0_1_connack_comes_before_all_else() {
    let gateway = Gateway::start();
    let (mut reader, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "reader"));
    reader.subscribe(&[("t", QOS1)]);
    reader.leave();
    let mut publisher = gateway.connect(V5, "publisher");
    for number in 0..10 {
        publisher.publish("t", &number.to_string(), QOS1);
    }
    // Messages wait, and the client asks for more before it has an answer.
    let subscribe = packet(0x82, &[&[0, 1, 0], &text("u"), &[1]]);
    let publish = packet(0x32, &[&text("u"), &[0, 2, 0], b"x"]);
    let bytes = [&Hello::durable(V5, "reader").bytes()[..], &PINGREQ, &subscribe, &publish].concat();
    let mut reader = Client::open(gateway.mqtt(), V5);
    reader.send_bytes(&bytes);
    let first = reader.next_packet();
    assert_eq!((first.bytes()[0], first.bytes()[3]), (0x20, 0), "{first:?}");
    for number in 0..10 {
        assert_next(&mut reader, &number.to_string());
    }
    reader.await_frame("SUBACK", |packet| packet.packet_type() == PacketType::SubAck);
    reader.await_frame("PUBACK", |packet| packet.packet_type() == PacketType::PubAck);
    reader.await_frame("PINGRESP", |packet| packet.packet_type() == PacketType::PingResp);
}

#[test]
fn mqtt_3_2_0_2_there_is_one_connack() {
    let gateway = Gateway::start();
    let mut client = Client::open(gateway.mqtt(), V5);
    let subscribe = packet(0x82, &[&[0, 1, 0], &text("u"), &[1]]);
    let hello = Hello::new(V5, "c").bytes();
    client.send_bytes(&[&hello[..], &PINGREQ, &subscribe, &PINGREQ, &hello].concat());
    let mut connacks = 0;
    let ended = loop {
        match client.receive(TIMEOUT) {
            Ok(frame) => connacks += usize::from(frame.packet().packet_type() == PacketType::ConnAck),
            Err(ended) => break ended,
        }
    };
    assert_eq!((connacks, ended), (1, Ended::Closed));
}

#[test]
fn mqtt_3_2_2_1_reserved_connack_flags_are_0() {
    let gateway = Gateway::start_set(&["mqtt.allow_empty_client_id=false"]);
    for expected in [0, 1] {
        let (client, connack) = connect(&gateway, &Hello::durable(V5, "c"));
        assert_eq!(connack.bytes()[2], expected);
        client.leave();
    }
    assert_eq!(answer_to(&gateway, &Hello::new(V5, "").bytes())[2], 0);
}

#[test]
fn mqtt_3_2_2_2_after_a_clean_start_no_session_is_present() {
    let gateway = Gateway::start();
    for _ in 0..2 {
        for hello in [Hello::durable(V5, "c").clean_start(true), Hello::new(V5, "c")] {
            let (client, connack) = connect(&gateway, &hello);
            assert_eq!(connack.bytes()[2..4], [0, 0]);
            client.leave();
            Client::connect(gateway.mqtt(), &Hello::durable(V5, "c")).0.leave();
        }
    }
}

#[test]
fn mqtt_3_2_2_3_session_present_tells_whether_there_was_a_session() {
    let gateway = Gateway::start();
    let flags = |hello: &Hello| {
        let (client, connack) = connect(&gateway, hello);
        client.leave();
        connack.bytes()[2]
    };
    assert_eq!(flags(&Hello::durable(V5, "c")), 0, "the first time");
    assert_eq!(flags(&Hello::durable(V5, "c")), 1, "it went on");
    assert_eq!(flags(&Hello::durable(V5, "other")), 0, "somebody else");
    let ends = Hello::new(V5, "c").clean_start(false);
    assert_eq!(flags(&ends), 1, "it went on for the last time");
    assert_eq!(flags(&ends), 0, "it ended with its connection");
}

#[test]
fn mqtt_3_2_2_6_a_refusal_has_session_present_0() {
    let gateway = Gateway::start_set(&["mqtt.max_qos=1"]);
    Client::connect(gateway.mqtt(), &Hello::durable(V5, "c")).0.leave();
    let will = Will { qos: QOS2, ..Will::new("t", "x") };
    let refused = Hello::durable(V5, "c").will(will);
    let answer = answer_to(&gateway, &refused.bytes());
    assert_eq!(answer[2..4], [0, ReasonCode::QosNotSupported.as_u8()]);
    // It is still there.
    let (_, connack) = connect(&gateway, &Hello::durable(V5, "c"));
    assert_eq!(connack.bytes()[2..4], [1, 0]);
}

/// Refusals of all kinds: what to set, and what to send.
fn refusals() -> Vec<(&'static str, Vec<u8>)> {
    let will = |qos, retain| Hello::new(V5, "c").will(Will { qos, retain, ..Will::new("t", "x") }).bytes();
    let with = |list: &[&[u8]]| packet(0x10, &[b"\0\x04MQTT\x05\x02\0\0", &properties(list), &text("c")]);
    vec![
        ("empty name", Hello::new(V5, "").bytes()),
        ("Will QoS", will(QOS2, false)),
        ("Will Retain", will(QOS1, true)),
        ("method", Hello::new(V5, "c").with(Property::AuthenticationMethod("x")).bytes()),
        ("malformed", connect_with_flags(0x03, "c", &[])),
        ("will topic", connect_with_flags(0x06, "c", &[&[0], &text("t/+"), &text("")])),
        ("Receive Maximum 0", with(&[&[0x21, 0, 0]])),
        ("another version", packet(0x10, &[b"\0\x04MQTT\x06\x02\0\0\0", &text("c")])),
        ("another name", packet(0x10, &[b"\0\x04MQTX\x05\x02\0\0\0", &text("c")])),
        ("large", connect_with_flags(0x06, "c", &[&[0], &text("t"), &text("x".repeat(60_000))])),
    ]
}

#[test]
fn mqtt_3_2_2_7_after_a_refusal_the_connection_is_closed() {
    let gateway = Gateway::start_set(&[
        "mqtt.max_qos=1",
        "mqtt.retain_available=false",
        "mqtt.allow_empty_client_id=false",
    ]);
    for (what, bytes) in refusals() {
        // All that comes until it is closed: one CONNACK at most.
        let answer = answer_to(&gateway, &bytes);
        match answer.as_slice() {
            [] => {}
            [0x20, 2, 0, 1] => assert_eq!(what, "another version"),
            [0x20, len, 0, code, ..] => {
                assert_eq!(answer.len(), 2 + usize::from(*len), "{what}: {answer:02x?}");
                assert!(*code >= 0x80 && CONNACK_CODES.contains(code), "{what}: {code:#04x}");
            }
            _ => panic!("{what}: {answer:02x?}"),
        }
    }
}

#[test]
fn mqtt_3_2_2_8_reason_codes_are_those_of_the_table() {
    // A server that is full, and one that is leaving, have codes of their own.
    let gateway = Gateway::start_set(&["admission.max_connections=1"]);
    let first = gateway.connect(V5, "first");
    let answer = answer_to(&gateway, &Hello::new(V5, "second").bytes());
    assert!(CONNACK_CODES.contains(&answer[3]) && answer[3] >= 0x80, "{answer:02x?}");
    first.leave();
    gateway.await_connections(0);
    let (_client, connack) = connect(&gateway, &Hello::new(V5, "second"));
    assert_eq!(connack.bytes()[3], 0);
}

#[test]
fn mqtt_3_2_2_9_maximum_qos_is_announced() {
    for (max_qos, expected) in [(0, Some(QOS0)), (1, Some(QOS1)), (2, None)] {
        let gateway = Gateway::start_set(&[&format!("mqtt.max_qos={max_qos}")]);
        let (_client, connack) = connect(&gateway, &Hello::new(V5, "c"));
        assert_eq!(announced(&connack).maximum_qos(), expected, "max_qos = {max_qos}");
    }
}

#[test]
fn mqtt_3_2_2_10_every_qos_may_be_subscribed_to() {
    for (max_qos, granted) in [(0, [0, 0, 0]), (1, [0, 1, 1]), (2, [0, 1, 2])] {
        let gateway = Gateway::start_set(&[&format!("mqtt.max_qos={max_qos}")]);
        let mut client = gateway.connect(V5, "c");
        let codes = client.subscribe(&[("a", QOS0), ("b", QOS1), ("c", QOS2)]);
        assert_eq!(codes.iter().map(|code| code.as_u8()).collect::<Vec<_>>(), granted, "max_qos = {max_qos}");
        client.send_publish("c", "x", QOS0);
        assert_next(&mut client, "x");
    }
}

#[test]
fn mqtt_3_2_2_12_a_will_above_maximum_qos_is_refused() {
    for (max_qos, qoses) in [(0, &[QOS1, QOS2][..]), (1, &[QOS2])] {
        let gateway = Gateway::start_set(&[&format!("mqtt.max_qos={max_qos}")]);
        for &qos in qoses {
            let hello = Hello::new(V5, "c").will(Will { qos, ..Will::new("t", "x") });
            let answer = answer_to(&gateway, &hello.bytes());
            assert_eq!(answer[2..4], [0, ReasonCode::QosNotSupported.as_u8()], "{qos:?}");
        }
        let qos = QoS::from_u8(max_qos).unwrap();
        connect(&gateway, &Hello::new(V5, "c").will(Will { qos, ..Will::new("t", "x") })).0.ping();
    }
}

#[test]
fn mqtt_3_2_2_13_a_retained_will_is_refused_where_nothing_is_retained() {
    let gateway = Gateway::start_set(&["mqtt.retain_available=false"]);
    let will = |retain| Hello::new(V5, "c").will(Will { retain, ..Will::new("t", "x") });
    let answer = answer_to(&gateway, &will(true).bytes());
    assert_eq!(answer[2..4], [0, ReasonCode::RetainNotSupported.as_u8()]);
    let (_client, connack) = connect(&gateway, &will(false));
    assert_eq!(announced(&connack).retain_available(), Some(false));
    // Where it is available, nobody says that it is not.
    let gateway = Gateway::start();
    let (_client, connack) = connect(&gateway, &will(true));
    assert_ne!(announced(&connack).retain_available(), Some(false));
}

#[test]
fn mqtt_3_2_2_16_an_assigned_client_identifier_is_nobody_else_s() {
    let gateway = Gateway::start();
    let mut clients = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for round in 0..10 {
        let hello = if round % 2 == 0 { Hello::new(V5, "") } else { Hello::durable(V5, "") };
        let (client, connack) = connect(&gateway, &hello);
        assert_eq!(connack.bytes()[2], 0, "a new name has no Session");
        names.push(announced(&connack).assigned_client_identifier().unwrap().to_owned());
        // Sessions that wait for their client keep their names too.
        if round % 4 == 1 { client.leave() } else { clients.push(client) }
    }
    for client in &mut clients {
        client.ping();
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 10, "{names:?}");
}

#[test]
fn mqtt_3_2_2_19_a_reason_string_that_does_not_fit_is_left_out() {
    let gateway = Gateway::start_set(&["admission.max_connections=1"]);
    let _first = gateway.connect(V5, "first");
    let refused = |hello: &Hello| {
        let mut client = Client::open(gateway.mqtt(), V5);
        client.send_bytes(&hello.bytes());
        let connack = client.next_packet();
        assert_eq!(client.await_close(TIMEOUT), None);
        connack
    };
    let connack = refused(&Hello::new(V5, "second"));
    assert!(announced(&connack).reason_string().is_some_and(|reason| reason.len() > 10), "{connack:?}");
    let len = connack.bytes().len() as u32;
    let connack = refused(&Hello::new(V5, "second").with(Property::MaximumPacketSize(len)));
    assert_eq!(connack.bytes().len(), len as usize, "it fits");
    for maximum in [len - 1, 10, 5] {
        let connack = refused(&Hello::new(V5, "second").with(Property::MaximumPacketSize(maximum)));
        assert_eq!(connack.bytes(), [0x20, 3, 0, ReasonCode::ServerBusy.as_u8(), 0], "at most {maximum}");
    }
}

#[test]
fn mqtt_3_2_2_22_without_a_server_keep_alive_the_client_s_own_counts() {
    let gateway = Gateway::start();
    let (mut client, connack) = connect(&gateway, &Hello::new(V5, "c").keep_alive_secs(1));
    assert_eq!(announced(&connack).server_keep_alive(), None);
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::KeepAliveTimeout));
    // With one, that counts, and the client is told.
    let gateway = Gateway::start_set(&["mqtt.server_keep_alive_secs=3"]);
    let (mut client, connack) = connect(&gateway, &Hello::new(V5, "c").keep_alive_secs(1));
    assert_eq!(announced(&connack).server_keep_alive(), Some(3));
    pass(&mut client, Duration::from_millis(2_500));
    client.ping();
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::KeepAliveTimeout));
}

//! Sections 3.12 to 3.15: PINGREQ, DISCONNECT, AUTH.

use std::time::Duration;

use gateway_protocol::packet::Packet;
use gateway_protocol::{PacketType, Property};
use gateway_tests::{Client, Ended, Frame, Gateway, Hello, ReasonCode, TIMEOUT, Will};

use super::support::{
    PINGREQ, PINGRESP, answer_to, assert_disconnect, assert_next, connect, connect_with_flags, packet, pass,
    properties, rest_of, text, told_for,
};
use crate::{QOS1, V5};

const DISCONNECT_CODES: [u8; 29] = [
    0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];

#[test]
fn mqtt_3_12_4_1_pingreq_is_answered_by_pingresp() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "c");
    for count in [1, 2, 10] {
        client.send_bytes(&PINGREQ.repeat(count));
        for _ in 0..count {
            assert_eq!(client.next_packet().bytes(), PINGRESP);
        }
    }
    // One with a body is malformed.
    assert_eq!(told_for(&gateway, &[0xC0, 1, 0]), Some(ReasonCode::MalformedPacket));
}

#[test]
fn mqtt_3_14_0_1_no_disconnect_before_a_connack() {
    let gateway = Gateway::start_set(&["mqtt.connect_timeout_ms=300", "mqtt.allow_empty_client_id=false"]);
    let first_packets = [
        Hello::new(V5, "").bytes(),
        connect_with_flags(0x03, "c", &[]),
        PINGREQ.to_vec(),
        packet(0xE0, &[]),
        packet(0x82, &[&[0, 1, 0], &text("t"), &[0]]),
        b"\xF0\0".to_vec(),
        vec![0x00, 0x00],
        vec![0x10],
        vec![],
        Hello::new(V5, "").bytes().repeat(2),
    ];
    for bytes in first_packets {
        let answer = answer_to(&gateway, &bytes);
        assert!(matches!(answer.first(), None | Some(0x20)), "{bytes:02x?} is answered by {answer:02x?}");
    }
}

#[test]
fn mqtt_3_14_1_1_disconnect_flags_are_0() {
    let gateway = Gateway::start();
    for flags in 1..16 {
        for body in [&[][..], &[0], &[0, 0]] {
            let told = told_for(&gateway, &packet(0xE0 | flags, &[body]));
            assert_eq!(told, Some(ReasonCode::MalformedPacket), "{flags:04b} {body:?}");
        }
    }
}

/// What ends a connection, for all that the gateway has a reason to close it.
fn last_words(gateway: &Gateway) -> Vec<(&'static str, Frame)> {
    let offend = |bytes: Vec<u8>| move |client: &mut Client| client.send_bytes(&bytes);
    type Offence = Box<dyn FnOnce(&mut Client)>;
    let offences: Vec<(&'static str, Offence)> = vec![
        ("malformed", Box::new(offend(vec![0x36, 0]))),
        ("Protocol Error", Box::new(offend(Hello::new(V5, "c").bytes()))),
        ("Topic Name", Box::new(offend(packet(0x30, &[&text("t/#"), &[0]])))),
        ("Topic Filter", Box::new(offend(packet(0x82, &[&[0, 1, 0], &text("t/#/u"), &[0]])))),
        ("Topic Alias", Box::new(offend(packet(0x30, &[&text("t"), &properties(&[&[0x23, 0xFF, 0xFF]])])))),
        ("QoS", Box::new(offend(packet(0x34, &[&text("t"), &[0, 1, 0]])))),
        ("RETAIN", Box::new(offend(packet(0x31, &[&text("t"), &[0]])))),
        ("too large", Box::new(offend(vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0]))),
        ("AUTH", Box::new(offend(packet(0xF0, &[&[0x19], &properties(&[&[0x15], &text("x")])])))),
        ("Keep Alive", Box::new(|_: &mut Client| {})),
    ];
    let hello = Hello::new(V5, "c").with(Property::SessionExpiryInterval(60)).keep_alive_secs(1);
    let mut told = Vec::new();
    for (what, offend) in offences {
        let (mut client, _) = connect(gateway, &hello);
        offend(&mut client);
        told.push((what, client.await_frame(what, |packet| packet.packet_type() == PacketType::Disconnect)));
        assert_eq!(client.receive(TIMEOUT).err(), Some(Ended::Closed), "{what}");
    }
    let (mut client, _) = connect(gateway, &hello);
    let _newcomer = connect(gateway, &hello);
    told.push(("takeover", client.next_packet()));
    told
}

#[test]
fn mqtt_3_14_2_1_reason_codes_are_those_of_the_table() {
    let mut gateway = Gateway::start_set(&["mqtt.max_qos=1", "mqtt.retain_available=false"]);
    let mut told = last_words(&gateway);
    let mut client = gateway.connect(V5, "c");
    gateway.begin_terminate();
    told.push(("shutdown", client.next_packet()));
    for (what, frame) in &told {
        let Packet::Disconnect(disconnect) = frame.packet() else { panic!("{what}: {frame:?}") };
        let code = disconnect.reason_code.as_u8();
        assert!(DISCONNECT_CODES.contains(&code) && code >= 0x80, "{what}: {frame:?}");
        // [MQTT-3.14.2-2] A server has no Session Expiry Interval to tell; at most it says what is the matter.
        assert!(
            disconnect.properties.iter().all(|property| matches!(property, Property::ReasonString(_))),
            "{what}"
        );
        assert_eq!(disconnect.properties.session_expiry_interval(), None, "{what}");
    }
    gateway.await_exit();
}

/// What a client is told when another one comes with its Client Identifier.
fn told_at_takeover(gateway: &Gateway, hello: &Hello) -> Frame {
    let (mut client, _) = connect(gateway, hello);
    let _newcomer = connect(gateway, hello);
    client.next_packet()
}

#[test]
fn mqtt_3_14_2_3_a_reason_string_that_does_not_fit_or_is_not_wanted_is_left_out() {
    let gateway = Gateway::start();
    let hello = || Hello::new(V5, "c");
    let frame = told_at_takeover(&gateway, &hello());
    let Packet::Disconnect(disconnect) = frame.packet() else { panic!("{frame:?}") };
    assert_eq!(disconnect.reason_code, ReasonCode::SessionTakenOver);
    assert!(disconnect.properties.reason_string().is_some_and(|why| why.len() > 10), "{frame:?}");
    let len = frame.bytes().len() as u32;
    let whole = told_at_takeover(&gateway, &hello().with(Property::MaximumPacketSize(len)));
    assert_eq!(whole.bytes(), frame.bytes(), "it fits");
    for property in [Property::MaximumPacketSize(len - 1), Property::RequestProblemInformation(0)] {
        let frame = told_at_takeover(&gateway, &hello().with(property));
        let code = ReasonCode::SessionTakenOver.as_u8();
        assert_eq!(frame.bytes(), [0xE0, 2, code, 0], "{property:?}");
    }
}

#[test]
fn mqtt_3_14_2_1_a_client_s_reason_code_is_one_of_the_table() {
    let gateway = Gateway::start();
    for code in [0x01, 0x02, 0x10, 0x18, 0x19, 0x84, 0x85, 0x86, 0x88, 0x8A, 0x91, 0x92, 0xA3, 0xFF] {
        let told = told_for(&gateway, &packet(0xE0, &[&[code]]));
        assert_eq!(told, Some(ReasonCode::ProtocolError), "{code:#04x}");
    }
    for code in DISCONNECT_CODES {
        assert_eq!(told_for(&gateway, &packet(0xE0, &[&[code]])), None, "{code:#04x}: taken without a word");
    }
}

#[test]
fn mqtt_3_14_4_1_after_disconnect_nothing_is_sent() {
    let gateway = Gateway::start();
    let mut publisher = gateway.connect(V5, "publisher");
    // The server's: with deliveries at hand, its DISCONNECT is the last.
    let mut client = gateway.connect(V5, "c");
    client.subscribe(&[("t", QOS1)]);
    for _ in 0..100 {
        publisher.send_publish("t", "x", QOS1);
    }
    client.send_bytes(&[0x36, 0]);
    let mut last = None;
    while let Ok(frame) = client.receive(TIMEOUT) {
        assert_ne!(last, Some(PacketType::Disconnect), "{frame:?} follows");
        last = Some(frame.packet().packet_type());
    }
    assert_eq!(last, Some(PacketType::Disconnect));
    // The client's: what it has asked for before it left is the end, and what it sends behind it is not looked at.
    let mut watcher = gateway.connect(V5, "watcher");
    watcher.subscribe(&[("u", QOS1)]);
    let mut client = gateway.connect(V5, "c");
    let publish = packet(0x32, &[&text("u"), &[0, 1, 0], b"too late"]);
    client.send_bytes(&[&[0xE0, 0][..], &publish, &PINGREQ].concat());
    assert_eq!(rest_of(&mut client), []);
    publisher.publish("u", "marker", QOS1);
    assert_next(&mut watcher, "marker");
}

#[test]
fn mqtt_3_14_4_2_who_sends_disconnect_closes() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "c");
    client.send_bytes(&[0x36, 0]);
    assert_disconnect(&rest_of(&mut client), ReasonCode::MalformedPacket, "QoS 3");
    // And so does who receives one, in each of its forms.
    for body in [&[][..], &[0], &[0, 0], &[4], &[0x80, 0]] {
        let mut client = gateway.connect(V5, "c");
        client.send_bytes(&packet(0xE0, &[body]));
        assert_eq!(rest_of(&mut client), [], "{body:?}");
    }
}

#[test]
fn mqtt_3_14_4_3_disconnect_deletes_the_will() {
    let gateway = Gateway::start();
    let mut watcher = gateway.connect(V5, "watcher");
    watcher.subscribe(&[("will", QOS1)]);
    let will = Will::new("will", "will");
    let delayed = will.clone().with(Property::WillDelayInterval(1));
    for hello in [
        Hello::new(V5, "c").will(will.clone()),
        Hello::durable(V5, "c").will(will),
        Hello::durable(V5, "c").will(delayed.clone()),
        Hello::durable(V5, "c").with(Property::RequestProblemInformation(0)).will(delayed),
    ] {
        for body in [&[][..], &[0], &[0, 0], &[0, 5, 0x11, 0, 0, 0, 0]] {
            // With the last of them the Session ends here, which is no reason to publish it either.
            let (mut client, _) = connect(&gateway, &hello);
            client.send_bytes(&packet(0xE0, &[body]));
            assert_eq!(client.await_close(TIMEOUT), None);
        }
    }
    pass(&mut watcher, Duration::from_millis(1_500));
    gateway.connect(V5, "publisher").publish("will", "marker", QOS1);
    assert_next(&mut watcher, "marker");
}

#[test]
fn mqtt_3_14_4_3_a_deleted_will_stays_deleted_when_the_client_is_back_at_once() {
    let gateway = Gateway::start();
    let mut watcher = gateway.connect(V5, "watcher");
    watcher.subscribe(&[("will", QOS1)]);
    for (what, hello) in [
        ("a Session that goes on", Hello::durable(V5, "c")),
        ("a clean start of a Session that lasts", Hello::durable(V5, "c").clean_start(true)),
        ("a Session that ends with its connection", Hello::new(V5, "c")),
    ] {
        for _ in 0..20 {
            let (mut client, _) = connect(&gateway, &hello.clone().will(Will::new("will", what)));
            client.send_bytes(&[0xE0, 0]);
            assert_eq!(client.await_close(TIMEOUT), None);
            // At once: whatever the server still has to do about the old connection, its will was dropped.
            connect(&gateway, &hello).0.leave();
        }
        gateway.connect(V5, "publisher").publish("will", "marker", QOS1);
        assert_next(&mut watcher, "marker");
    }
}

#[test]
fn mqtt_3_15_1_1_auth_flags_are_0() {
    let gateway = Gateway::start();
    for flags in 1..16 {
        let bytes = packet(0xF0 | flags, &[&[0x19], &properties(&[&[0x15], &text("x")])]);
        assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::MalformedPacket), "{flags:04b}");
    }
}

#[test]
fn mqtt_3_15_2_1_the_reason_code_of_auth_is_one_of_the_table() {
    let gateway = Gateway::start();
    for code in [0x01, 0x17, 0x1A, 0x80, 0x8C, 0xFF] {
        let bytes = packet(0xF0, &[&[code], &properties(&[&[0x15], &text("x")])]);
        assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::ProtocolError), "{code:#04x}");
    }
}

//! Section 1.5, data representation.

use gateway_protocol::packet::Packet;
use gateway_protocol::{Properties, Property};
use gateway_tests::{Client, Frame, Gateway, Hello, ReasonCode};

use super::support::{
    assert_next, assert_refused, connect_with_flags, list, packet, properties, text, told_for, varint,
};
use crate::{QOS0, QOS1, V5};

/// One packet for each string that a client can send after CONNECT, the string being `bytes`.
fn strings_after_connect(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let string = text(bytes);
    let user_property = |name: &[u8], value: &[u8]| properties(&[&[0x26], name, value]);
    let publish = |properties: &[u8]| packet(0x30, &[&text("a"), properties]);
    vec![
        ("Topic Name", packet(0x30, &[&string, &[0]])),
        ("Content Type", publish(&properties(&[&[0x03], &string]))),
        ("Response Topic", publish(&properties(&[&[0x08], &string]))),
        ("name of a User Property", publish(&user_property(&string, &text("v")))),
        ("value of a User Property", publish(&user_property(&text("n"), &string))),
        ("Topic Filter to subscribe to", packet(0x82, &[&[0, 1, 0], &string, &[0]])),
        ("User Property of SUBSCRIBE", {
            packet(0x82, &[&[0, 1], &user_property(&string, &text("v")), &text("a"), &[0]])
        }),
        ("Topic Filter to unsubscribe from", packet(0xA2, &[&[0, 1, 0], &string])),
        ("Reason String of PUBACK", packet(0x40, &[&[0, 1, 0], &properties(&[&[0x1F], &string])])),
        ("Reason String of DISCONNECT", packet(0xE0, &[&[0], &properties(&[&[0x1F], &string])])),
    ]
}

/// One CONNECT for each string in it, the string being `bytes`.
fn strings_of_connect(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let string = text(bytes);
    let with_properties = |list: &[&[u8]]| {
        let head = [&b"\0\x04MQTT\x05\x02\0\0"[..], &properties(list), &text("c")].concat();
        packet(0x10, &[&head])
    };
    let will = |properties: &[u8], topic: &[u8]| {
        connect_with_flags(0x06, "c", &[properties, topic, &text("payload")])
    };
    vec![
        ("Client Identifier", connect_with_flags(0x02, bytes, &[])),
        ("User Name", connect_with_flags(0x82, "c", &[&string])),
        ("Will Topic", will(&[0], &string)),
        ("Content Type of the will", will(&properties(&[&[0x03], &string]), &text("t"))),
        ("User Property of the will", will(&properties(&[&[0x26], &string, &text("v")]), &text("t"))),
        ("Authentication Method", with_properties(&[&[0x15], &string])),
        ("User Property of CONNECT", with_properties(&[&[0x26], &text("n"), &string])),
    ]
}

fn assert_all_malformed(gateway: &Gateway, bytes: &[u8]) {
    for (what, packet) in strings_after_connect(bytes) {
        let told = told_for(gateway, &packet);
        assert_eq!(told, Some(ReasonCode::MalformedPacket), "{what}: {packet:02x?}");
    }
    for (what, packet) in strings_of_connect(bytes) {
        assert_refused(gateway, what, &packet, ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt_1_5_4_1_ill_formed_utf_8_is_malformed() {
    let gateway = Gateway::start();
    let surrogate = [0xED, 0xA0, 0x80];
    let (overlong, above_unicode, cut_off, stray) =
        ([0xC0, 0x80], [0xF4, 0x90, 0x80, 0x80], [b'a', 0xE2, 0x82], [0xFF]);
    for bytes in [&surrogate[..], &[0xED, 0xBF, 0xBF], &overlong, &above_unicode, &cut_off, &stray] {
        assert_all_malformed(&gateway, bytes);
    }
    gateway.assert_sound();
}

#[test]
fn mqtt_1_5_4_2_no_null_character_in_a_string() {
    let gateway = Gateway::start();
    for bytes in [&b"\0"[..], b"a\0b"] {
        assert_all_malformed(&gateway, bytes);
    }
    gateway.assert_sound();
}

#[test]
fn mqtt_1_5_4_3_u_feff_is_a_character_like_any_other() {
    let gateway = Gateway::start();
    let mut marked = gateway.connect(V5, "\u{FEFF}reader");
    marked.subscribe(&[("\u{FEFF}t", QOS1)]);
    // Were it skipped in Client Identifiers, this one would take over.
    let mut plain = gateway.connect(V5, "reader");
    plain.subscribe(&[("t", QOS1)]);
    let mut publisher = gateway.connect(V5, "publisher");
    let properties = list(&[
        Property::ContentType("\u{FEFF}text"),
        Property::UserProperty { name: "a\u{FEFF}b", value: "\u{FEFF}" },
    ]);
    publisher.send_publish_with("\u{FEFF}t", b"marked", QOS1, properties.as_properties());
    publisher.publish("t", "plain", QOS1);
    let frame = marked.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)));
    let Packet::Publish(publish) = frame.packet() else { panic!("{frame:?}") };
    assert_eq!((publish.topic.as_bytes(), publish.payload), (&b"\xEF\xBB\xBFt"[..], &b"marked"[..]));
    assert_eq!(publish.properties, properties.as_properties());
    assert_eq!(assert_next(&mut plain, "plain").topic, "t");
    plain.ping();
    marked.ping();
}

/// The Variable Byte Integer at the start: its value and its length.
fn read_varint(bytes: &[u8]) -> (usize, usize) {
    let len = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let value = bytes[..len].iter().rev().fold(0, |value, byte| value * 128 + usize::from(byte & 0x7F));
    (value, len)
}

/// Asserts that the Remaining Length and, for a QoS 0 PUBLISH, the Property Length have the shortest form.
fn assert_shortest(frame: &Frame) {
    let bytes = frame.bytes();
    let (remaining, len) = read_varint(&bytes[1..]);
    assert_eq!(varint(remaining).len(), len, "{:02x?}", &bytes[..8]);
    assert_eq!(1 + len + remaining, bytes.len());
    if bytes[0] == 0x30 {
        let topic_at = 1 + len;
        let topic_len = usize::from(u16::from_be_bytes([bytes[topic_at], bytes[topic_at + 1]]));
        let (property_len, len) = read_varint(&bytes[topic_at + 2 + topic_len..]);
        assert_eq!(varint(property_len).len(), len);
    }
}

#[test]
fn mqtt_1_5_5_1_variable_byte_integers_are_as_short_as_can_be() {
    let gateway = Gateway::start();
    let mut client = Client::open(gateway.mqtt(), V5);
    client.send_bytes(&Hello::new(V5, "c").bytes());
    assert_shortest(&client.next_packet());
    // A Subscription Identifier of each length, given back in the shortest form.
    for (number, bytes) in [
        (127, &[0x0B, 0x7F][..]),
        (128, &[0x0B, 0x80, 0x01]),
        (16_383, &[0x0B, 0xFF, 0x7F]),
        (16_384, &[0x0B, 0x80, 0x80, 0x01]),
        (268_435_455, &[0x0B, 0xFF, 0xFF, 0xFF, 0x7F]),
    ] {
        let identifier = list(&[Property::SubscriptionIdentifier(number)]);
        client.subscribe_with(&[("t", super::support::at_most(QOS0))], identifier.as_properties());
        client.send_publish("t", "x", QOS0);
        let frame = client.next_packet();
        let expected = packet(0x30, &[&text("t"), &properties(&[bytes]), b"x"]);
        assert_eq!(frame.bytes(), expected, "{number}");
    }
    // Packets and property lists around the lengths at which one more byte is needed.
    client.unsubscribe(&["t"]);
    client.subscribe(&[("t", QOS0)]);
    for len in [100, 122, 123, 124, 125, 16_370, 16_378, 16_379, 16_380, 16_381, 70_000] {
        client.send_publish("t", &"x".repeat(len), QOS0);
        assert_shortest(&client.next_packet());
    }
    for len in [100, 120, 121, 122, 123, 124, 16_376, 16_377, 16_378, 16_379, 16_380] {
        let value = "v".repeat(len);
        let properties = list(&[Property::UserProperty { name: "n", value: &value }]);
        client.send_publish_with("t", b"x", QOS0, properties.as_properties());
        assert_shortest(&client.next_packet());
    }
    // What a client sends in a longer form than needed is malformed.
    for bytes in [
        &[0xC0, 0x80, 0x00][..],
        &[0x30, 0x85, 0x00, 0, 1, b'a', 0, b'x'],
        &[0x30, 6, 0, 1, b'a', 0x80, 0x00, b'x'],
        &[0x82, 11, 0, 1, 3, 0x0B, 0x81, 0x00, 0, 2, b'a', b'b', 0],
    ] {
        assert_eq!(told_for(&gateway, bytes), Some(ReasonCode::MalformedPacket), "{bytes:02x?}");
    }
}

#[test]
fn mqtt_1_5_7_1_both_strings_of_a_pair_are_strings() {
    let gateway = Gateway::start();
    for bytes in [&b"\0"[..], &[0xFF], &[0xED, 0xA0, 0x80]] {
        for (name, value) in [(bytes, &b"v"[..]), (b"n", bytes)] {
            let pair = properties(&[&[0x26], &text(name), &text(value)]);
            let publish = packet(0x30, &[&text("a"), &pair]);
            assert_eq!(told_for(&gateway, &publish), Some(ReasonCode::MalformedPacket), "{publish:02x?}");
        }
    }
    // An empty half is a string too, and what is forwarded has both halves.
    let mut client = gateway.connect(V5, "c");
    client.subscribe_with(&[("a", super::support::at_most(QOS0))], Properties::default());
    let pair = properties(&[&[0x26], &text(""), &text("é")]);
    let publish = packet(0x30, &[&text("a"), &pair, b"x"]);
    client.send_bytes(&publish);
    assert_eq!(client.next_packet().bytes(), publish);
}

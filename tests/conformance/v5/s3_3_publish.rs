//! Sections 3.3.1 and 3.3.2, PUBLISH: flags, Topic Name, and the properties that travel with a message.

use std::time::Duration;

use gateway_protocol::packet::{Packet, Publish};
use gateway_protocol::{Properties, PropertiesBuf, Property};
use gateway_tests::{Client, Frame, Gateway, Hello, ReasonCode, TIMEOUT};

use super::support::{
    absent, assert_next, back, list, packet, pass, properties, publish, publish_exactly_once,
    receive_exactly_once, retain, take, text, told_for,
};
use crate::{QOS0, QOS1, QOS2, V5};

#[test]
fn mqtt_3_3_1_1_dup_is_set_on_what_is_sent_again() {
    let gateway = Gateway::start();
    absent(&gateway, "reader", "t", QOS2);
    let mut publisher = gateway.connect(V5, "publisher");
    publisher.publish("t", "one", QOS1);
    publish_exactly_once(&mut publisher, "t", "two");
    let mut reader = back(&gateway, "reader");
    let first = [reader.message(), reader.message()];
    assert!(first.iter().all(|message| !message.dup), "{first:?}");
    drop(reader);
    let mut reader = back(&gateway, "reader");
    let again = [reader.message(), reader.message()];
    for (first, again) in first.iter().zip(&again) {
        assert!(again.dup, "{again:?}");
        assert_eq!((again.packet_id, &again.payload), (first.packet_id, &first.payload));
    }
    reader.acknowledge(&again[0]);
    receive_exactly_once(&mut reader, &again[1]);
    reader.publish("t", "three", QOS1);
    assert!(!assert_next(&mut reader, "three").dup, "the first time");
}

#[test]
fn mqtt_3_3_1_1_dup_is_set_on_what_is_sent_again_after_a_crash() {
    let mut gateway = Gateway::start();
    let (mut reader, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "reader"));
    reader.subscribe(&[("t", QOS2)]);
    let mut publisher = gateway.connect(V5, "publisher");
    publisher.publish("t", "one", QOS1);
    publish_exactly_once(&mut publisher, "t", "two");
    let first = [reader.message(), reader.message()];
    gateway.kill();
    gateway.restart();
    let mut reader = back(&gateway, "reader");
    for first in &first {
        let again = reader.message();
        assert_eq!((again.packet_id, &again.payload), (first.packet_id, &first.payload));
        assert!(again.dup, "{again:?}");
    }
}

#[test]
fn mqtt_3_3_1_2_dup_is_0_at_qos_0() {
    let gateway = Gateway::start();
    let mut reader = gateway.connect(V5, "reader");
    reader.subscribe(&[("t", QOS0), ("u", QOS2)]);
    let mut publisher = gateway.connect(V5, "publisher");
    // Sent with DUP at QoS 1, delivered at QoS 0; and QoS 0 all the way.
    publisher.send(&Packet::Publish(Publish { dup: true, ..publish("t", "x", QOS1) }));
    publisher.send_publish("u", "x", QOS0);
    for _ in 0..2 {
        let frame = reader.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)));
        assert_eq!(frame.bytes()[0], 0x30, "{frame:?}");
    }
    // A client's QoS 0 PUBLISH with DUP is malformed.
    let with_dup = packet(0x38, &[&text("t"), &[0], b"x"]);
    assert_eq!(told_for(&gateway, &with_dup), Some(ReasonCode::MalformedPacket));
}

#[test]
fn mqtt_3_3_1_3_dup_does_not_travel() {
    let gateway = Gateway::start();
    for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
        let (mut reader, _) = Client::connect(gateway.mqtt(), &hello);
        reader.subscribe(&[("t", QOS2)]);
        let mut publisher = gateway.connect(V5, "publisher");
        for qos in [QOS1, QOS2] {
            publisher.send(&Packet::Publish(Publish { dup: true, ..publish("t", "x", qos) }));
            let message = take(&mut reader);
            assert_eq!((message.qos, message.dup), (qos, false));
            // Its identifier may be used again from now on, and not before.
            publisher.await_frame("an acknowledgement", |packet| {
                matches!(packet, Packet::PubAck(_) | Packet::PubRec(_))
            });
        }
    }
}

#[test]
fn mqtt_3_3_1_4_there_is_no_qos_3() {
    let gateway = Gateway::start();
    let mut watcher = gateway.connect(V5, "watcher");
    watcher.subscribe(&[("t", QOS2)]);
    for first in [0x36, 0x37, 0x3E, 0x3F] {
        let bytes = packet(first, &[&text("t"), &[0, 1, 0], b"x"]);
        assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::MalformedPacket), "{first:#04x}");
    }
    gateway.connect(V5, "publisher").publish("t", "honest", QOS1);
    assert_next(&mut watcher, "honest");
}

#[test]
fn mqtt_3_3_2_1_the_topic_name_comes_first() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "c");
    let topic = "t/é/\u{1F600}";
    client.subscribe(&[(topic, QOS1)]);
    client.send_publish(topic, "x", QOS0);
    assert_eq!(client.next_packet().bytes(), packet(0x30, &[&text(topic), &[0], b"x"]));
    // One that is cut short, or is longer than the packet.
    for bytes in [packet(0x30, &[&[0]]), packet(0x30, &[&[0, 9], b"t"]), packet(0x30, &[])] {
        assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::MalformedPacket), "{bytes:02x?}");
    }
}

#[test]
fn mqtt_3_3_2_2_a_topic_name_has_no_wildcards() {
    let gateway = Gateway::start();
    let mut watcher = gateway.connect(V5, "watcher");
    watcher.subscribe(&[("#", QOS1)]);
    for topic in ["#", "+", "t/#", "t/+/u", "+/t", "t+", "#t"] {
        let bytes = packet(0x30, &[&text(topic), &[0], b"x"]);
        assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::TopicNameInvalid), "{topic}");
    }
    gateway.connect(V5, "publisher").publish("t/u", "honest", QOS1);
    assert_eq!(assert_next(&mut watcher, "honest").topic, "t/u", "and not the filter");
}

#[test]
fn mqtt_3_3_2_3_the_topic_name_matches_the_filter() {
    let gateway = Gateway::start();
    // Filter; what of the topics below it takes, by the rules of 4.7.
    let topics = ["a", "a/b", "a/b/c", "a/", "/a", "/", "b", "a/c/c"];
    let filters: [(&str, &[&str]); 9] = [
        ("a", &["a"]),
        ("a/b", &["a/b"]),
        ("#", &topics),
        ("a/#", &["a", "a/b", "a/b/c", "a/", "a/c/c"]),
        ("+", &["a", "b"]),
        ("a/+", &["a/b", "a/"]),
        ("+/+", &["a/b", "a/", "/a", "/"]),
        ("/+", &["/a", "/"]),
        ("a/+/c", &["a/b/c", "a/c/c"]),
    ];
    let mut publisher = gateway.connect(V5, "publisher");
    for (filter, expected) in filters {
        let mut reader = gateway.connect(V5, "reader");
        let end = "end/of/the/test";
        reader.subscribe(&[(filter, QOS1), (end, QOS1)]);
        for topic in topics {
            publisher.publish(topic, topic, QOS1);
        }
        publisher.publish(end, end, QOS1);
        let mut came = Vec::new();
        loop {
            let message = take(&mut reader);
            if message.topic == end {
                break;
            }
            assert_eq!(message.topic, message.payload, "the topic that it was published to");
            came.push(message.topic);
        }
        assert_eq!(came, expected, "{filter}");
        reader.leave();
    }
}

/// A publish with `sent` goes to a reader that is connected, to one that is absent, and into the Retained Messages; what each of
/// them is sent.
fn forwarded(gateway: &Gateway, sent: &PropertiesBuf) -> Vec<Frame> {
    absent(gateway, "sleeper", "t", QOS1);
    let mut reader = gateway.connect(V5, "reader");
    reader.subscribe(&[("t", QOS1)]);
    let mut publisher = gateway.connect(V5, "publisher");
    retain(&mut publisher, "t", "payload", sent);
    let mut late = gateway.connect(V5, "late");
    late.subscribe(&[("t", QOS1)]);
    let publish = |packet: &Packet<'_>| matches!(packet, Packet::Publish(_));
    let mut readers = [reader, back(gateway, "sleeper"), late];
    let frames = readers.iter_mut().map(|client| client.await_frame("PUBLISH", publish)).collect();
    // Nothing of it is left for the next.
    retain(&mut publisher, "t", "", &list(&[]));
    drop(readers);
    gateway.connect(V5, "sleeper").leave();
    frames
}

fn properties_of(frame: &Frame) -> Properties<'_> {
    match frame.packet() {
        Packet::Publish(publish) => publish.properties,
        other => panic!("{other:?}"),
    }
}

#[test]
fn mqtt_3_3_2_4_the_payload_format_indicator_is_forwarded() {
    let gateway = Gateway::start();
    for indicator in [0, 1] {
        let sent = list(&[Property::PayloadFormatIndicator(indicator)]);
        for frame in forwarded(&gateway, &sent) {
            assert_eq!(properties_of(&frame).payload_format_indicator(), Some(indicator), "{frame:?}");
        }
    }
    for frame in forwarded(&gateway, &list(&[])) {
        assert_eq!(properties_of(&frame), Properties::default(), "nothing is added: {frame:?}");
    }
}

#[test]
fn mqtt_3_3_2_5_an_expired_message_is_not_delivered() {
    let gateway = Gateway::start();
    absent(&gateway, "reader", "t/#", QOS1);
    let mut publisher = gateway.connect(V5, "publisher");
    let expiry = |secs| list(&[Property::MessageExpiryInterval(secs)]);
    for (payload, secs) in [("expires", 1), ("stays", 600), ("expires too", 1)] {
        let packet_id =
            publisher.send_publish_with("t/1", payload.as_bytes(), QOS1, expiry(secs).as_properties());
        publisher.await_puback(packet_id.unwrap());
    }
    retain(&mut publisher, "u/1", "expires", &expiry(1));
    retain(&mut publisher, "u/2", "stays", &expiry(600));
    pass(&mut publisher, Duration::from_millis(1_200));
    let mut reader = back(&gateway, "reader");
    assert_next(&mut reader, "stays");
    reader.subscribe(&[("u/#", QOS1)]);
    assert_next(&mut reader, "stays");
    publisher.publish("t/1", "end", QOS1);
    assert_next(&mut reader, "end");
}

#[test]
fn mqtt_3_3_2_6_the_message_expiry_interval_is_what_is_left_of_it() {
    let gateway = Gateway::start();
    absent(&gateway, "reader", "t", QOS1);
    let mut live = gateway.connect(V5, "live");
    live.subscribe(&[("t", QOS1)]);
    let mut publisher = gateway.connect(V5, "publisher");
    retain(&mut publisher, "t", "x", &list(&[Property::MessageExpiryInterval(100)]));
    let at_once = take(&mut live).expiry_secs.expect("it is forwarded");
    assert!((95..=100).contains(&at_once), "{at_once}");
    pass(&mut publisher, Duration::from_millis(2_100));
    let mut reader = back(&gateway, "reader");
    live.subscribe(&[("t", QOS1)]);
    for client in [&mut reader, &mut live] {
        let left = take(client).expiry_secs.expect("it is forwarded");
        assert!((90..=98).contains(&left), "{left}");
    }
    // Without one there is none.
    publisher.publish("t", "y", QOS1);
    assert_eq!(assert_next(&mut reader, "y").expiry_secs, None);
}

#[test]
fn mqtt_3_3_2_13_a_response_topic_is_a_string() {
    let gateway = Gateway::start();
    for topic in [&[0xFF][..], b"a\0b", &[0xED, 0xA0, 0x80]] {
        let bytes = packet(0x30, &[&text("t"), &properties(&[&[0x08], &text(topic)]), b"x"]);
        assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::MalformedPacket), "{topic:02x?}");
    }
}

#[test]
fn mqtt_3_3_2_14_a_response_topic_has_no_wildcards() {
    let gateway = Gateway::start();
    let mut watcher = gateway.connect(V5, "watcher");
    watcher.subscribe(&[("t", QOS1)]);
    for topic in ["#", "a/+", "+", "a/#"] {
        let bytes = packet(0x30, &[&text("t"), &properties(&[&[0x08], &text(topic)]), b"x"]);
        let mut client = gateway.connect(V5, "offender");
        client.send_bytes(&bytes);
        assert!(client.await_close(TIMEOUT).is_some_and(ReasonCode::is_error), "{topic}");
    }
    gateway.connect(V5, "publisher").publish("t", "honest", QOS1);
    assert_next(&mut watcher, "honest");
}

#[test]
fn mqtt_3_3_2_15_the_response_topic_is_forwarded() {
    let gateway = Gateway::start();
    for topic in ["answers/1", "/", "$odd", "é"] {
        for frame in forwarded(&gateway, &list(&[Property::ResponseTopic(topic)])) {
            assert_eq!(properties_of(&frame).response_topic(), Some(topic), "{frame:?}");
        }
    }
}

#[test]
fn mqtt_3_3_2_16_correlation_data_are_forwarded() {
    let gateway = Gateway::start();
    for data in [&b""[..], b"\0\xFF\x80", &[7; 3_000]] {
        for frame in forwarded(&gateway, &list(&[Property::CorrelationData(data)])) {
            assert_eq!(properties_of(&frame).correlation_data(), Some(data), "{frame:?}");
        }
    }
}

#[test]
fn mqtt_3_3_2_17_user_properties_are_forwarded_in_their_order() {
    let gateway = Gateway::start();
    let long = "long ".repeat(500);
    let pairs = [("z", "1"), ("a", "2"), ("z", "1"), ("", ""), ("é", &long), ("z", "0")];
    let mut sent = PropertiesBuf::new();
    for (number, (name, value)) in pairs.into_iter().enumerate() {
        sent.push(Property::UserProperty { name, value }).unwrap();
        if number == 2 {
            // Another property between them, and one that is not forwarded as it is.
            sent.push(Property::ContentType("text")).unwrap();
            sent.push(Property::MessageExpiryInterval(600)).unwrap();
        }
    }
    for frame in forwarded(&gateway, &sent) {
        assert_eq!(properties_of(&frame).user_properties().collect::<Vec<_>>(), pairs);
    }
}

#[test]
fn mqtt_3_3_2_19_a_content_type_is_a_string() {
    let gateway = Gateway::start();
    for content_type in [&[0xC0, 0x80][..], b"\0", &[0x80]] {
        let bytes = packet(0x30, &[&text("t"), &properties(&[&[0x03], &text(content_type)]), b"x"]);
        assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::MalformedPacket), "{content_type:02x?}");
    }
}

#[test]
fn mqtt_3_3_2_20_the_content_type_is_forwarded() {
    let gateway = Gateway::start();
    for content_type in ["application/json", "", "é"] {
        for frame in forwarded(&gateway, &list(&[Property::ContentType(content_type)])) {
            assert_eq!(properties_of(&frame).content_type(), Some(content_type), "{frame:?}");
        }
    }
}

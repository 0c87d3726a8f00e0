//! Section 4.7, Topic Names and Topic Filters.

use gateway_tests::{Gateway, ReasonCode};

use super::support::{assert_next, assert_quiet, packet, take, text, told_for};
use crate::{QOS0, QOS1, V5};

#[test]
fn mqtt_4_7_0_1_wildcards_are_for_filters_alone() {
    let gateway = Gateway::start();
    let mut reader = gateway.connect(V5, "reader");
    let codes = reader.subscribe(&[("t/+", QOS1), ("u/#", QOS1), ("+", QOS1), ("+/+/v", QOS1)]);
    assert!(codes.iter().all(|code| !code.is_error()), "{codes:?}");
    for topic in ["t/+", "u/#", "+", "#", "t/+x"] {
        for first in [0x30, 0x31, 0x32] {
            let packet_id: &[u8] = if first == 0x32 { &[0, 1] } else { &[] };
            let bytes = packet(first, &[&text(topic), packet_id, &[0], b"x"]);
            assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::TopicNameInvalid), "{topic}");
        }
    }
    gateway.connect(V5, "publisher").publish("t/1", "honest", QOS1);
    assert_next(&mut reader, "honest");
}

#[test]
fn mqtt_4_7_2_1_a_leading_wildcard_does_not_match_a_leading_dollar() {
    let gateway = Gateway::start();
    let mut reader = gateway.connect(V5, "reader");
    let mut publisher = gateway.connect(V5, "publisher");
    for filter in ["#", "+/monitor", "+/#", "+/+"] {
        reader.subscribe(&[(filter, QOS1)]);
        for topic in ["$SYS/monitor", "$SYS", "$other/monitor", "$", "$/monitor"] {
            for qos in [QOS0, QOS1] {
                publisher.publish(topic, "not for a wildcard", qos);
            }
        }
        // A `$` anywhere else is a character like any other.
        publisher.publish("a$/monitor", "marker", QOS1);
        assert_eq!(assert_next(&mut reader, "marker").topic, "a$/monitor");
        assert_quiet(&mut reader);
        assert_eq!(reader.unsubscribe(&[filter]), [ReasonCode::Success]);
    }
    reader.subscribe(&[("#", QOS1)]);
    publisher.publish("a/$SYS", "below", QOS1);
    assert_next(&mut reader, "below");
}

#[test]
fn mqtt_4_7_2_1_the_server_s_own_topics_are_not_for_a_leading_wildcard() {
    let gateway = Gateway::start_set(&["mqtt.sys_interval_secs=1"]);
    let mut insider = gateway.connect(V5, "insider");
    insider.subscribe(&[("$SYS/#", QOS1)]);
    // Whoever asks for everything hears nothing of them, neither retained nor live.
    let mut reader = gateway.connect(V5, "reader");
    reader.subscribe(&[("#", QOS1), ("+/#", QOS1), ("+/broker/#", QOS1), ("+/+/+/+", QOS1)]);
    let first = take(&mut insider).topic;
    assert!(first.starts_with("$SYS/"), "{first}");
    // Until each of them has been told twice.
    let mut again = 0;
    while again < 2 {
        again += usize::from(take(&mut insider).topic == first);
    }
    assert_quiet(&mut reader);
}

#[test]
fn mqtt_4_7_3_1_topics_and_filters_are_not_empty() {
    let gateway = Gateway::start();
    for bytes in [
        packet(0x30, &[&text(""), &[0], b"x"]),
        packet(0x32, &[&text(""), &[0, 1, 0], b"x"]),
        packet(0x82, &[&[0, 1, 0], &text(""), &[0]]),
        packet(0xA2, &[&[0, 1, 0], &text("")]),
    ] {
        assert!(told_for(&gateway, &bytes).is_some_and(ReasonCode::is_error), "{bytes:02x?}");
    }
    // One character is enough, and so is a level without one.
    let mut client = gateway.connect(V5, "c");
    for topic in ["a", "/", "//", " ", "é"] {
        client.subscribe(&[(topic, QOS1)]);
        client.publish(topic, topic, QOS1);
        assert_eq!(assert_next(&mut client, topic).topic, topic);
    }
}

#[test]
fn mqtt_4_7_3_2_no_null_character_in_topics_and_filters() {
    let gateway = Gateway::start();
    for topic in ["\0", "t\0", "t/\0/u"] {
        for bytes in [
            packet(0x30, &[&text(topic), &[0], b"x"]),
            packet(0x82, &[&[0, 1, 0], &text(topic), &[0]]),
            packet(0xA2, &[&[0, 1, 0], &text(topic)]),
        ] {
            assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::MalformedPacket), "{bytes:02x?}");
        }
    }
}

#[test]
fn mqtt_4_7_3_3_a_topic_of_65_535_bytes_is_a_topic() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "c");
    let two_bytes_each = "é".repeat(32_767);
    for topic in ["x".repeat(65_535), format!("{two_bytes_each}/"), format!("a/{}", "y".repeat(65_533))] {
        assert_eq!(topic.len(), 65_535);
        assert_eq!(client.subscribe(&[(&topic, QOS1)]), [ReasonCode::GrantedQos1]);
        client.publish(&topic, "long", QOS1);
        assert_eq!(assert_next(&mut client, "long").topic, topic);
        // One that differs in its last character is another.
        let other = format!("{}z", &topic[..topic.len() - 1]);
        client.publish(&other, "other", QOS1);
        client.publish(&topic, "marker", QOS1);
        assert_next(&mut client, "marker");
        assert_eq!(client.unsubscribe(&[&topic]), [ReasonCode::Success]);
    }
    assert_quiet(&mut client);
}

#[test]
fn mqtt_4_7_3_4_topics_are_matched_as_they_are() {
    let gateway = Gateway::start();
    // Pairs that some normalisation or other would make equal.
    let lookalikes = [
        ("t/a", "T/a"),
        ("é", "e\u{301}"),
        ("\u{212B}", "\u{C5}"),
        ("ﬁ", "fi"),
        ("t/a", "t/a/"),
        ("t/a", "/t/a"),
        ("t/a", "t//a"),
        ("t/a", "t/./a"),
        ("t/a", "t/b/../a"),
        ("t/a", "t/a "),
        ("t/a", "t/%61"),
        ("t/a", "t\\a"),
        ("t/a", "t/\u{FEFF}a"),
        ("t/a", "t/\u{200B}a"),
    ];
    let mut publisher = gateway.connect(V5, "publisher");
    for (filter, topic) in lookalikes.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]) {
        let mut reader = gateway.connect(V5, "reader");
        reader.subscribe(&[(filter, QOS1)]);
        publisher.publish(topic, "another topic", QOS1);
        publisher.publish(filter, "the topic", QOS1);
        let message = assert_next(&mut reader, "the topic");
        assert_eq!(message.topic.as_bytes(), filter.as_bytes());
        reader.leave();
    }
}

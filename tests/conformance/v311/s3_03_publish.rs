//! 3.3 PUBLISH: its flags, its topic, and how it is answered.

use gateway_tests::Gateway;

use super::wire::{
    DUP, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH_0, PUBLISH_1, PUBLISH_2, PUBREC, PUBREL, RETAIN, ack,
    assert_closed, assert_nothing_more, assert_offends, client, durable, exchange, expect, id_of, packet,
    payloads, publish, put, subscribe, take, take_until_end, text,
};
use crate::{QOS0, QOS1, QOS2};

#[test]
fn mqtt_3_3_1_1_a_delivery_that_is_repeated_has_dup_1() {
    let mut gateway = Gateway::start();
    let (mut device, _) = durable(&gateway, "device");
    device.subscribe(&[("a", QOS2)]);
    let mut publisher = client(&gateway, "");
    put(&mut publisher, PUBLISH_1, "a", "one");
    put(&mut publisher, PUBLISH_2, "a", "two");
    let first: Vec<_> = (0..2).map(|_| device.message()).collect();
    assert!(first.iter().all(|message| !message.dup), "{first:?}");
    drop(device);
    for round in 0..3 {
        if round == 2 {
            gateway.kill();
            gateway.restart();
        }
        let (mut device, present) = durable(&gateway, "device");
        assert!(present);
        for sent in &first {
            let again = device.message();
            assert!(again.dup, "round {round}: {again:?}");
            assert_eq!(
                (&again.payload, again.qos, again.packet_id),
                (&sent.payload, sent.qos, sent.packet_id)
            );
        }
    }
}

#[test]
fn mqtt_3_3_1_2_dup_is_0_at_qos_0() {
    let gateway = Gateway::start();
    let (mut device, _) = durable(&gateway, "device");
    device.subscribe(&[("a", QOS0)]);
    let mut publisher = client(&gateway, "");
    for first in [PUBLISH_0, PUBLISH_1, PUBLISH_1 | DUP, PUBLISH_2, PUBLISH_2 | DUP] {
        put(&mut publisher, first, "a", "x");
        expect(&mut device, &publish(PUBLISH_0, "a", 0, "x"));
    }
    for first in [PUBLISH_0 | DUP, PUBLISH_0 | DUP | RETAIN] {
        assert_offends(&gateway, "DUP 1 at QoS 0", &publish(first, "a", 0, "x"));
    }
}

#[test]
fn mqtt_3_3_1_3_dup_is_not_handed_on() {
    let gateway = Gateway::start();
    let (durable, _) = durable(&gateway, "durable");
    let mut publisher = client(&gateway, "publisher");
    for mut subscriber in [durable, client(&gateway, "clean")] {
        subscriber.subscribe(&[("a", QOS2)]);
        for first in [PUBLISH_1 | DUP, PUBLISH_2 | DUP, PUBLISH_1 | DUP | RETAIN] {
            put(&mut publisher, first, "a", "x");
            let message = take(&mut subscriber, 1).remove(0);
            assert!(!message.dup, "{message:?}");
        }
    }
    // And the other way round: DUP of a repeated delivery is the gateway's own.
    let (mut away, _) = super::wire::durable(&gateway, "away");
    away.subscribe(&[("b", QOS1)]);
    put(&mut publisher, PUBLISH_1, "b", "x");
    assert!(!away.message().dup);
    drop(away);
    let (mut away, _) = super::wire::durable(&gateway, "away");
    assert!(away.message().dup);
}

#[test]
fn mqtt_3_3_1_4_qos_3_closes_the_connection() {
    let gateway = Gateway::start();
    for flags in [0x06, 0x06 | RETAIN, 0x06 | DUP] {
        assert_offends(&gateway, "QoS 3", &publish(PUBLISH_0 | flags, "a", 1, "x"));
    }
    let mut client = client(&gateway, "");
    client.subscribe(&[("a", QOS0)]);
    put(&mut client, PUBLISH_1, "a", "not from them");
    assert_eq!(payloads(&take(&mut client, 1)), ["not from them"]);
}

#[test]
fn mqtt_3_3_2_1_the_topic_name_comes_first() {
    let gateway = Gateway::start();
    let mut client = client(&gateway, "");
    exchange(&mut client, &subscribe(1, &[("t/\u{e9}", 1)]), &[0x90, 3, 0, 1, 1]);
    client.send_bytes(b"\x32\x0a\0\x04t/\xC3\xA9\x12\x34hi");
    let frame = client
        .await_frame("PUBLISH", |packet| matches!(packet, gateway_protocol::packet::Packet::Publish(_)));
    assert_eq!(frame.bytes()[..8], *b"\x32\x0a\0\x04t/\xC3\xA9");
    assert_eq!(frame.bytes()[10..], *b"hi");
    assert_ne!(frame.bytes()[8..10], [0, 0]);
    // What there is instead of one.
    for body in [&b""[..], b"\0", b"\0\x05t/a", b"\xFF\xFFt"] {
        assert_offends(&gateway, "a topic that is cut off", &packet(PUBLISH_0, &[body]));
    }
    assert_offends(&gateway, "no Packet Identifier", &packet(PUBLISH_1, &[&text("a")]));
    assert_offends(&gateway, "half a Packet Identifier", &packet(PUBLISH_1, &[&text("a"), &[1]]));
}

#[test]
fn mqtt_3_3_2_2_wildcards_in_a_topic_name_close_the_connection() {
    let gateway = Gateway::start();
    for topic in ["#", "+", "a/#", "a/+", "+/a", "a/+/b", "a+", "a#", "a/#/b", "+a", "#a"] {
        for first in [PUBLISH_0, PUBLISH_1, PUBLISH_2, PUBLISH_1 | RETAIN] {
            assert_offends(&gateway, topic, &publish(first, topic, 1, "x"));
        }
    }
}

#[test]
fn mqtt_3_3_2_3_what_is_delivered_has_its_own_topic_and_a_filter_that_matches_it() {
    let gateway = Gateway::start();
    let topics = ["a", "a/b", "a/b/c", "b/b", "a//c", "/a", "a/"];
    let cases: [(&str, &[usize]); 10] = [
        ("#", &[0, 1, 2, 3, 4, 5, 6]),
        ("a/#", &[0, 1, 2, 4, 6]),
        ("a", &[0]),
        ("+", &[0]),
        ("a/+", &[1, 6]),
        ("+/b", &[1, 3]),
        ("+/b/#", &[1, 2, 3]),
        ("a/+/c", &[2, 4]),
        ("/+", &[5]),
        ("+/+", &[1, 3, 5, 6]),
    ];
    let mut publisher = client(&gateway, "publisher");
    for kept in [false, true] {
        for (number, (filter, expected)) in cases.iter().enumerate() {
            let name = format!("subscriber-{number}");
            let mut subscriber = if kept { durable(&gateway, &name).0 } else { client(&gateway, &name) };
            subscriber.subscribe(&[(filter, QOS1), ("the/end/of/it", QOS1)]);
            for topic in topics {
                put(&mut publisher, PUBLISH_1, topic, topic);
            }
            put(&mut publisher, PUBLISH_1, "the/end/of/it", "end");
            let messages = take_until_end(&mut subscriber);
            let expected: Vec<_> = expected.iter().map(|&at| topics[at]).collect();
            assert_eq!(payloads(&messages), expected, "{filter}");
            assert!(messages.iter().all(|message| message.topic == message.payload), "{messages:?}");
            client(&gateway, &name).leave();
        }
    }
}

#[test]
fn mqtt_3_3_4_1_each_publish_is_answered_as_its_qos_demands() {
    let gateway = Gateway::start();
    let (mut away, _) = durable(&gateway, "away");
    away.subscribe(&[("kept/#", QOS2)]);
    away.leave();
    let mut live = client(&gateway, "live");
    live.subscribe(&[("live/#", QOS0)]);
    let mut publisher = client(&gateway, "publisher");
    for topic in ["kept/a", "live/a", "nobody/a"] {
        for flags in [0, RETAIN] {
            // Nothing at all at QoS 0.
            publisher.send_bytes(&publish(PUBLISH_0 | flags, topic, 0, "x"));
            exchange(&mut publisher, &PINGREQ, &PINGRESP);
            exchange(&mut publisher, &publish(PUBLISH_1 | flags, topic, 5, "x"), &ack(PUBACK, 5));
            exchange(&mut publisher, &publish(PUBLISH_2 | flags, topic, 6, "x"), &ack(PUBREC, 6));
            exchange(&mut publisher, &ack(PUBREL, 6), &ack(PUBCOMP, 6));
        }
    }
    assert_nothing_more(&mut publisher);
}

#[test]
fn mqtt_3_3_5_1_overlapping_subscriptions_deliver_at_the_highest_qos_among_them() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let mut number = 0;
    for kept in [false, true] {
        for [a, b, c] in [[0, 1, 2], [2, 1, 0], [1, 0, 1], [0, 2, 0], [0, 0, 1], [0, 0, 0]] {
            number += 1;
            let name = format!("subscriber-{number}");
            let mut subscriber = if kept { durable(&gateway, &name).0 } else { client(&gateway, &name) };
            let filters = subscribe(1, &[("a/#", a), ("a/+", b), ("a/b", c)]);
            exchange(&mut subscriber, &filters, &[0x90, 5, 0, 1, a, b, c]);
            subscriber.subscribe(&[("end", QOS2)]);
            let granted = a.max(b).max(c);
            for (published, first) in [(0, PUBLISH_0), (1, PUBLISH_1), (2, PUBLISH_2)] {
                put(&mut publisher, first, "a/b", "x");
                put(&mut publisher, PUBLISH_2, "end", "end");
                // The delivery of the highest QoS may be the only one; others could come beside it.
                let mut messages = take_until_end(&mut subscriber);
                if messages.is_empty() {
                    // At QoS 0 nothing holds it to the order of those above.
                    messages = take(&mut subscriber, 1);
                }
                let highest = messages.iter().map(|message| message.qos as u8).max();
                assert_eq!(highest, Some(granted.min(published)), "{name} {published}: {messages:?}");
                assert!(messages.len() <= 3, "{messages:?}");
            }
            client(&gateway, &name).leave();
        }
    }
}

#[test]
fn mqtt_3_3_5_2_a_publish_that_is_not_allowed_is_acknowledged_like_any_other() {
    let gateway = Gateway::start();
    let mut watcher = client(&gateway, "watcher");
    watcher.subscribe(&[("#", QOS2), ("$reserved/#", QOS2)]);
    let mut publisher = client(&gateway, "publisher");
    // Topics that clients may not publish to.
    for topic in ["$reserved/a", "$SYS/a", "$"] {
        publisher.send_bytes(&publish(PUBLISH_0, topic, 0, "x"));
        exchange(&mut publisher, &publish(PUBLISH_1, topic, 5, "x"), &ack(PUBACK, 5));
        exchange(&mut publisher, &publish(PUBLISH_2, topic, 6, "x"), &ack(PUBREC, 6));
        exchange(&mut publisher, &ack(PUBREL, 6), &ack(PUBCOMP, 6));
        exchange(&mut publisher, &publish(PUBLISH_1 | RETAIN, topic, 7, "x"), &ack(PUBACK, 7));
    }
    put(&mut publisher, PUBLISH_2, "allowed", "end");
    assert!(take_until_end(&mut watcher).is_empty());
}

#[test]
fn mqtt_3_6_1_1_pubrel_has_the_flags_0010() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (durable, _) = durable(&gateway, "durable");
    for mut subscriber in [durable, client(&gateway, "clean")] {
        subscriber.subscribe(&[("a", QOS2)]);
        put(&mut publisher, PUBLISH_2, "a", "x");
        let message = subscriber.message();
        exchange(&mut subscriber, &ack(PUBREC, id_of(&message)), &ack(0x62, id_of(&message)));
    }
    for flags in (0..16).filter(|flags| *flags != 0b0010) {
        let mut offender = client(&gateway, "");
        exchange(&mut offender, &publish(PUBLISH_2, "b", 5, "x"), &ack(PUBREC, 5));
        offender.send_bytes(&ack(0x60 | flags, 5));
        assert_closed(&mut offender, &format!("PUBREL with flags {flags:#06b}"));
    }
}

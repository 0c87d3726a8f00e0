//! 3.8 SUBSCRIBE.

use gateway_tests::Gateway;

use super::wire::{
    PUBLISH_0, PUBLISH_1, PUBLISH_2, RETAIN, assert_nothing_more, assert_offends, client, complete, durable,
    exchange, expect, payloads, publish, put, subscribe, take, take_until_end,
};
use crate::{QOS0, QOS1, QOS2};

#[test]
fn mqtt_3_8_1_1_subscribe_with_other_flags_closes_the_connection() {
    let gateway = Gateway::start();
    for flags in (0..16).filter(|flags| *flags != 0b0010) {
        let mut bytes = subscribe(1, &[("a", 0)]);
        bytes[0] = 0x80 | flags;
        assert_offends(&gateway, &format!("SUBSCRIBE with flags {flags:#06b}"), &bytes);
    }
}

#[test]
fn mqtt_3_8_3_2_where_wildcards_are_not_offered_filters_that_have_them_are_refused() {
    let gateway = Gateway::start_set(&["mqtt.wildcard_subscription_available=false"]);
    let (kept, _) = durable(&gateway, "kept");
    let mut publisher = client(&gateway, "publisher");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        for filter in ["#", "+", "a/#", "a/+", "+/a", "a/+/b"] {
            exchange(&mut subscriber, &subscribe(1, &[(filter, 1)]), &[0x90, 3, 0, 1, 0x80]);
        }
        let mixed = subscribe(2, &[("a/b", 1), ("a/+", 1), ("end", 1)]);
        exchange(&mut subscriber, &mixed, &[0x90, 5, 0, 2, 1, 0x80, 1]);
        for topic in ["a", "a/b", "a/c"] {
            put(&mut publisher, PUBLISH_1, topic, topic);
        }
        put(&mut publisher, PUBLISH_1, "end", "end");
        assert_eq!(payloads(&take_until_end(&mut subscriber)), ["a/b"]);
    }
}

#[test]
fn mqtt_3_8_3_4_reserved_bits_and_qos_3_close_the_connection() {
    let mut gateway = Gateway::start();
    for byte in [0x03, 0x04, 0x05, 0x08, 0x10, 0x20, 0x40, 0x80, 0x81, 0xFC, 0xFF] {
        let what = format!("requested QoS {byte:#04x}");
        assert_offends(&gateway, &what, &subscribe(1, &[("a", byte)]));
        assert_offends(&gateway, &what, &subscribe(1, &[("a", 1), ("b", byte), ("c", 1)]));
    }
    gateway.assert_alive();
}

#[test]
fn mqtt_3_8_4_1_subscribe_is_answered_with_suback() {
    let gateway = Gateway::start();
    let (kept, _) = durable(&gateway, "kept");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        for qos in 0..3 {
            exchange(&mut subscriber, &subscribe(9, &[("a/#", qos)]), &[0x90, 3, 0, 9, qos]);
        }
        // Refused ones are answered too.
        exchange(&mut subscriber, &subscribe(9, &[("$consumer/none", 1)]), &[0x90, 3, 0, 9, 0x80]);
        assert_nothing_more(&mut subscriber);
    }
}

#[test]
fn mqtt_3_8_4_2_suback_has_the_identifier_of_its_subscribe() {
    let gateway = Gateway::start();
    let (kept, _) = durable(&gateway, "kept");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        // Several at once, and an identifier again as soon as it is answered.
        let ids = [3u16, 0x8000, 1, 0xFFFF, 0x0100];
        for _ in 0..2 {
            let all: Vec<u8> = ids.iter().flat_map(|id| subscribe(*id, &[(&format!("a/{id}"), 1)])).collect();
            subscriber.send_bytes(&all);
            for id in ids {
                let [high, low] = id.to_be_bytes();
                expect(&mut subscriber, &[0x90, 3, high, low, 1]);
            }
        }
    }
}

#[test]
fn mqtt_3_8_4_3_the_same_filter_again_replaces_the_subscription() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    put(&mut publisher, PUBLISH_2 | RETAIN, "a/b", "retained");
    let (kept, _) = durable(&gateway, "kept");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        for (round, qos) in [QOS2, QOS0, QOS1, QOS1, QOS2].into_iter().enumerate() {
            assert_eq!(subscriber.subscribe(&[("a/+", qos)]).len(), 1);
            let retained = take(&mut subscriber, 1).remove(0);
            assert_eq!((&*retained.payload, retained.retain, retained.qos), ("retained", true, qos));
            for (first, published) in [(PUBLISH_1, QOS1), (PUBLISH_2, QOS2)] {
                let payload = format!("{round}");
                put(&mut publisher, first, "a/b", &payload);
                let message = take(&mut subscriber, 1).remove(0);
                assert_eq!((&message.payload, message.retain), (&payload, false), "and that once");
                assert_eq!(message.qos, qos.min(published), "round {round}");
            }
            assert_nothing_more(&mut subscriber);
        }
        // One UNSUBSCRIBE ends it: there was one only.
        subscriber.unsubscribe(&["a/+"]);
        subscriber.subscribe(&[("end", QOS1)]);
        put(&mut publisher, PUBLISH_1, "a/b", "x");
        put(&mut publisher, PUBLISH_1, "end", "end");
        assert!(take_until_end(&mut subscriber).is_empty());
        subscriber.leave();
    }
}

#[test]
fn mqtt_3_8_4_3_the_flow_of_messages_is_not_interrupted_by_the_same_filter_again() {
    let gateway = Gateway::start();
    let (kept, _) = durable(&gateway, "kept");
    for (name, mut subscriber) in [("clean", client(&gateway, "clean")), ("kept", kept)] {
        subscriber.subscribe(&[("a/#", QOS2)]);
        let mut publisher = client(&gateway, "publisher");
        let mut expected = Vec::new();
        for round in 0..20 {
            for number in 0..10u16 {
                let payload = format!("{round} {number}");
                publisher.send_bytes(&publish(PUBLISH_1, "a/b", round * 10 + number + 1, &payload));
                expected.push(payload);
            }
            let qos = if round % 3 == 0 { 1 } else { 2 };
            subscriber.send_bytes(&subscribe(round + 1, &[("a/#", qos)]));
        }
        // Acknowledged late: what was sent under the subscription before is still in flight.
        let messages: Vec<_> = (0..expected.len()).map(|_| subscriber.message()).collect();
        assert_eq!(payloads(&messages), expected, "{name}");
        messages.iter().for_each(|message| complete(&mut subscriber, message));
        subscriber.ping();
    }
}

#[test]
fn mqtt_3_8_4_4_several_filters_are_like_several_subscribes_with_one_suback() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    for topic in ["a/1", "b/1"] {
        put(&mut publisher, PUBLISH_1 | RETAIN, topic, "retained");
    }
    let (kept, _) = durable(&gateway, "kept");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        // One filter twice: the later takes the place of the earlier.
        let filters = [("a/+", 0), ("b/#", 2), ("$consumer/none", 1), ("c", 1), ("a/+", 1)];
        subscriber.send_bytes(&subscribe(77, &filters));
        let suback = subscriber
            .await_frame("SUBACK", |packet| matches!(packet, gateway_protocol::packet::Packet::SubAck(_)));
        assert_eq!(suback.bytes(), [0x90, 7, 0, 77, 0, 2, 0x80, 1, 1]);
        // Each brings the Retained Messages it matches, the one that came twice as often.
        let retained = take(&mut subscriber, 3);
        assert!(retained.iter().all(|message| message.retain), "{retained:?}");
        let topics: Vec<_> = retained.iter().map(|message| &*message.topic).collect();
        assert_eq!(topics.iter().filter(|topic| **topic == "b/1").count(), 1, "{topics:?}");
        for (topic, qos) in [("a/2", QOS1), ("b/2/3", QOS2), ("c", QOS1)] {
            put(&mut publisher, PUBLISH_2, topic, topic);
            let message = take(&mut subscriber, 1).remove(0);
            assert_eq!((&*message.topic, message.qos), (topic, qos));
        }
        assert_nothing_more(&mut subscriber);
    }
}

#[test]
fn mqtt_3_8_4_6_a_delivery_has_the_lesser_of_the_published_and_the_granted_qos() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (kept, _) = durable(&gateway, "kept");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        for (granted, qos) in [QOS0, QOS1, QOS2].into_iter().enumerate() {
            subscriber.subscribe(&[("a/b", qos)]);
            for (published, first) in [PUBLISH_0, PUBLISH_1, PUBLISH_2].into_iter().enumerate() {
                put(&mut publisher, first, "a/b", "x");
                let message = take(&mut subscriber, 1).remove(0);
                assert_eq!(message.qos as usize, granted.min(published), "{published} to {granted}");
                assert_eq!(message.packet_id.is_some(), message.qos != QOS0);
            }
        }
    }
}

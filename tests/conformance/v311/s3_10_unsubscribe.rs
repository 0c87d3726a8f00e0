//! 3.10 UNSUBSCRIBE and its answer, and 3.12 PINGREQ and its.

use gateway_tests::Gateway;

use super::wire::{
    PINGREQ, PUBACK, PUBCOMP, PUBLISH_0, PUBLISH_1, PUBLISH_2, RETAIN, ack, assert_nothing_more,
    assert_offends, await_release, client, complete, durable, exchange, expect, id_of, payloads, put,
    receive_release, take_until_end, unsubscribe,
};
use crate::{QOS1, QOS2};

#[test]
fn mqtt_3_10_1_1_unsubscribe_with_other_flags_closes_the_connection() {
    let gateway = Gateway::start();
    for flags in (0..16).filter(|flags| *flags != 0b0010) {
        let mut bytes = unsubscribe(1, &["a"]);
        bytes[0] = 0xA0 | flags;
        assert_offends(&gateway, &format!("UNSUBSCRIBE with flags {flags:#06b}"), &bytes);
    }
}

#[test]
fn mqtt_3_10_4_1_filters_are_compared_character_by_character() {
    let gateway = Gateway::start();
    let filters = ["a/b", "A/b", "a/+", "a/#", "/a/b", "a/b/", "\u{e9}/b", "e\u{301}/b", "+/b", "#"];
    let mut publisher = client(&gateway, "publisher");
    for (number, deleted) in filters.iter().enumerate() {
        for kept in [false, number == 0] {
            let name = format!("subscriber-{number}");
            let mut subscriber = if kept { durable(&gateway, &name).0 } else { client(&gateway, &name) };
            subscriber.subscribe(&[("the/end/of/it", QOS1)]);
            for other in filters.iter().filter(|other| *other != deleted) {
                subscriber.subscribe(&[(other, QOS1)]);
                subscriber.unsubscribe(&[deleted]);
                let topic = other.replace('+', "a").replace('#', "b");
                put(&mut publisher, PUBLISH_1, &topic, other);
                put(&mut publisher, PUBLISH_1, "the/end/of/it", "end");
                let found = take_until_end(&mut subscriber);
                assert_eq!(payloads(&found), [*other], "{deleted} is not {other}");
                subscriber.unsubscribe(&[other]);
                put(&mut publisher, PUBLISH_1, &topic, other);
                put(&mut publisher, PUBLISH_1, "the/end/of/it", "end");
                assert!(take_until_end(&mut subscriber).is_empty(), "{other} is {other}");
            }
            client(&gateway, &name).leave();
        }
    }
}

#[test]
fn mqtt_3_10_4_2_nothing_new_is_added_for_a_deleted_subscription() {
    let mut gateway = Gateway::start();
    let (mut kept, _) = durable(&gateway, "kept");
    let mut clean = client(&gateway, "clean");
    let mut publisher = client(&gateway, "publisher");
    for subscriber in [&mut clean, &mut kept] {
        put(&mut publisher, PUBLISH_1 | RETAIN, "a/1", "");
        subscriber.subscribe(&[("a/#", QOS2), ("end", QOS1)]);
        put(&mut publisher, PUBLISH_1, "a/1", "before");
        subscriber.unsubscribe(&["a/#"]);
        for first in [PUBLISH_0, PUBLISH_1, PUBLISH_2, PUBLISH_1 | RETAIN] {
            put(&mut publisher, first, "a/1", "after");
        }
        put(&mut publisher, PUBLISH_1, "end", "end");
        assert_eq!(payloads(&take_until_end(subscriber)), ["before"]);
    }
    // It stays deleted when the client was away, and when the gateway was.
    kept.leave();
    put(&mut publisher, PUBLISH_1, "a/1", "while it is away");
    gateway.kill();
    gateway.restart();
    let mut publisher = client(&gateway, "publisher");
    put(&mut publisher, PUBLISH_1, "a/1", "after a restart");
    put(&mut publisher, PUBLISH_1, "end", "end");
    let (mut kept, present) = durable(&gateway, "kept");
    assert!(present);
    // Acknowledgements that had not reached the disk before the kill: their messages come again.
    let found = take_until_end(&mut kept);
    assert!(found.iter().all(|message| message.dup), "{found:?}");
}

#[test]
fn mqtt_3_10_4_3_deliveries_that_were_begun_are_finished() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (kept, _) = durable(&gateway, "kept");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        subscriber.subscribe(&[("a/#", QOS2)]);
        for first in [PUBLISH_1, PUBLISH_2, PUBLISH_2] {
            put(&mut publisher, first, "a/1", "x");
        }
        let begun: Vec<_> = (0..3).map(|_| subscriber.message()).collect();
        receive_release(&mut subscriber, &begun[2]);
        subscriber.unsubscribe(&["a/#"]);
        subscriber.send_bytes(&ack(PUBACK, id_of(&begun[0])));
        complete(&mut subscriber, &begun[1]);
        subscriber.send_bytes(&ack(PUBCOMP, id_of(&begun[2])));
        assert_nothing_more(&mut subscriber);
        subscriber.leave();
    }
}

#[test]
fn mqtt_3_10_4_3_deliveries_that_were_begun_are_repeated_to_a_session_that_goes_on() {
    let mut gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (mut subscriber, _) = durable(&gateway, "kept");
    subscriber.subscribe(&[("a/#", QOS2)]);
    for first in [PUBLISH_1, PUBLISH_2, PUBLISH_2] {
        put(&mut publisher, first, "a/1", "x");
    }
    let begun: Vec<_> = (0..3).map(|_| subscriber.message()).collect();
    receive_release(&mut subscriber, &begun[2]);
    subscriber.unsubscribe(&["a/#"]);
    drop(subscriber);
    for round in 0..2 {
        if round == 1 {
            gateway.kill();
            gateway.restart();
        }
        let (mut subscriber, present) = durable(&gateway, "kept");
        assert!(present);
        for message in &begun[..2] {
            let again = subscriber.message();
            assert_eq!((again.packet_id, again.qos, again.dup), (message.packet_id, message.qos, true));
            if round == 1 {
                complete(&mut subscriber, &again);
            }
        }
        await_release(&mut subscriber, id_of(&begun[2]));
    }
}

#[test]
fn mqtt_3_10_4_4_unsubscribe_is_answered_with_unsuback_of_its_identifier() {
    let gateway = Gateway::start();
    let (kept, _) = durable(&gateway, "kept");
    for mut client in [client(&gateway, "clean"), kept] {
        client.subscribe(&[("a", QOS1), ("b", QOS1), ("c/#", QOS1)]);
        let ids = [0x00FFu16, 1, 0xABCD];
        let filters = ["a", "b", "c/#"];
        let all: Vec<u8> =
            ids.iter().zip(filters).flat_map(|(id, filter)| unsubscribe(*id, &[filter])).collect();
        client.send_bytes(&all);
        for id in ids {
            let [high, low] = id.to_be_bytes();
            expect(&mut client, &[0xB0, 2, high, low]);
        }
    }
}

#[test]
fn mqtt_3_10_4_5_unsuback_comes_though_nothing_was_deleted() {
    let gateway = Gateway::start();
    let (kept, _) = durable(&gateway, "kept");
    for mut client in [client(&gateway, "clean"), kept] {
        for filters in [&["a"][..], &["#"], &["$consumer/none"], &["a", "b/+", "c/#"]] {
            exchange(&mut client, &unsubscribe(0x1234, filters), &[0xB0, 2, 0x12, 0x34]);
        }
    }
}

#[test]
fn mqtt_3_10_4_6_several_filters_are_like_several_unsubscribes_with_one_unsuback() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (kept, _) = durable(&gateway, "kept");
    for mut client in [client(&gateway, "clean"), kept] {
        client.subscribe(&[("a", QOS1), ("b/#", QOS1), ("c/+", QOS1), ("d", QOS1), ("end", QOS1)]);
        exchange(&mut client, &unsubscribe(5, &["a", "none", "b/#", "a", "c/+"]), &[0xB0, 2, 0, 5]);
        for topic in ["a", "b/1", "c/1", "d"] {
            put(&mut publisher, PUBLISH_1, topic, topic);
        }
        put(&mut publisher, PUBLISH_1, "end", "end");
        assert_eq!(payloads(&take_until_end(&mut client)), ["d"]);
        assert_nothing_more(&mut client);
    }
}

#[test]
fn mqtt_3_12_4_1_pingreq_is_answered_with_pingresp() {
    let gateway = Gateway::start();
    let (kept, _) = durable(&gateway, "kept");
    for mut client in [client(&gateway, "clean"), kept] {
        exchange(&mut client, &PINGREQ, &[0xD0, 0]);
        // Each has its own answer.
        client.send_bytes(&PINGREQ.repeat(100));
        for _ in 0..100 {
            expect(&mut client, &[0xD0, 0]);
        }
        assert_nothing_more(&mut client);
    }
}

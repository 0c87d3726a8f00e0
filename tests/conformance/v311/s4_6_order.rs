//! 4.6 Message ordering.

use std::collections::BTreeMap;

use gateway_protocol::packet::Packet;
use gateway_tests::{Client, Gateway, Message};

use super::wire::{
    PUBLISH_0, PUBLISH_1, PUBLISH_2, PUBREC, PUBREL, ack, client, complete, durable, expect, id_of, payloads,
    publish, put, take,
};
use crate::{QOS1, QOS2};

/// What came, by topic and QoS, in the order in which it came.
fn by_topic_and_qos(messages: &[Message]) -> BTreeMap<(String, u8), Vec<u32>> {
    let mut found = BTreeMap::<_, Vec<u32>>::new();
    for message in messages {
        let number = message.payload.parse().expect("a number");
        found.entry((message.topic.clone(), message.qos as u8)).or_default().push(number);
    }
    found
}

/// Publishes `count` messages for each of two topics and each QoS, all mixed, with no wait in between.
fn publish_mixed(publisher: &mut Client, count: u32) {
    let mut bytes = Vec::new();
    let mut id = 0;
    for number in 0..count {
        for (topic, first) in [("a/1", PUBLISH_1), ("a/2", PUBLISH_0), ("a/1", PUBLISH_2), ("a/2", PUBLISH_1)]
        {
            id += 1;
            bytes.extend(publish(first, topic, id, &number.to_string()));
        }
        for (topic, first) in [("a/1", PUBLISH_0), ("a/2", PUBLISH_2)] {
            id += 1;
            bytes.extend(publish(first, topic, id, &number.to_string()));
        }
    }
    publisher.send_bytes(&bytes);
}

#[test]
fn mqtt_4_6_0_5_every_topic_is_ordered() {
    let gateway = Gateway::start();
    let (kept, _) = durable(&gateway, "kept");
    let count = 100;
    for (name, mut subscriber) in [("clean", client(&gateway, "clean")), ("kept", kept)] {
        subscriber.subscribe(&[("a/#", QOS2)]);
        let mut publisher = client(&gateway, "publisher");
        publish_mixed(&mut publisher, count);
        let messages = take(&mut subscriber, 6 * count as usize);
        let found = by_topic_and_qos(&messages);
        assert_eq!(found.len(), 6, "{name}");
        for (of, numbers) in found {
            assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "{name} {of:?}");
        }
        subscriber.leave();
    }
}

#[test]
fn mqtt_4_6_0_6_messages_of_one_publisher_arrive_in_the_order_received() {
    // With a full window, with one message at a time, and from the disk.
    for window in ["mqtt.max_inflight=1024", "mqtt.max_inflight=1", "mqtt.max_inflight=7"] {
        let gateway = Gateway::start_set(&[window]);
        let count = 30;
        let (mut away, _) = durable(&gateway, "away");
        away.subscribe(&[("a/#", QOS2)]);
        away.leave();
        let (kept, _) = durable(&gateway, "kept");
        let mut subscribers = [client(&gateway, "clean"), kept];
        for subscriber in &mut subscribers {
            subscriber.subscribe(&[("a/#", QOS2)]);
        }
        let mut publishers = [client(&gateway, "one"), client(&gateway, "two")];
        for (at, publisher) in publishers.iter_mut().enumerate() {
            for number in 0..count {
                for (first, id) in [(PUBLISH_1, 1), (PUBLISH_2, 2)] {
                    let topic = format!("a/{at}");
                    publisher.send_bytes(&publish(first, &topic, 2 * number + id, &number.to_string()));
                }
            }
        }
        for mut subscriber in subscribers {
            assert_in_order(&take(&mut subscriber, 4 * usize::from(count)), count, window);
        }
        let (mut away, _) = durable(&gateway, "away");
        assert_in_order(&take(&mut away, 4 * usize::from(count)), count, window);
    }
}

fn assert_in_order(messages: &[Message], count: u16, what: &str) {
    let found = by_topic_and_qos(messages);
    assert_eq!(found.len(), 4, "{what}");
    for (of, numbers) in found {
        assert_eq!(numbers, (0..u32::from(count)).collect::<Vec<_>>(), "{what}: {of:?}");
    }
}

#[test]
fn mqtt_4_6_0_6_acknowledgements_leave_in_the_order_of_the_publishes() {
    let gateway = Gateway::start();
    let (mut away, _) = durable(&gateway, "away");
    away.subscribe(&[("kept/#", QOS2)]);
    away.leave();
    let mut publisher = client(&gateway, "publisher");
    // Some have to reach the disk, some nobody wants, some are not allowed: it makes no difference.
    let mut bytes = Vec::new();
    let (mut pubacks, mut pubrecs) = (Vec::new(), Vec::new());
    for number in 0..120u16 {
        let topic = ["kept/a", "nobody", "$reserved", "kept/b", "nobody/2"][usize::from(number % 5)];
        let id = 1_000 - number * 7;
        let (first, ids) =
            if number % 3 == 0 { (PUBLISH_2, &mut pubrecs) } else { (PUBLISH_1, &mut pubacks) };
        bytes.extend(publish(first, topic, id, "x"));
        ids.push(id);
    }
    publisher.send_bytes(&bytes);
    let (mut found_pubacks, mut found_pubrecs) = (Vec::new(), Vec::new());
    for _ in 0..120 {
        match publisher.next_packet().packet() {
            Packet::PubAck(ack) => found_pubacks.push(ack.packet_id.get()),
            Packet::PubRec(ack) => found_pubrecs.push(ack.packet_id.get()),
            other => panic!("no acknowledgement: {other:?}"),
        }
    }
    assert_eq!(found_pubacks, pubacks);
    assert_eq!(found_pubrecs, pubrecs);
}

#[test]
fn mqtt_4_6_0_6_pubrels_leave_in_the_order_of_the_pubrecs() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (kept, _) = durable(&gateway, "kept");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        subscriber.subscribe(&[("a", QOS2)]);
        for _ in 0..20 {
            put(&mut publisher, PUBLISH_2, "a", "x");
        }
        let messages: Vec<_> = (0..20).map(|_| subscriber.message()).collect();
        let ids: Vec<_> =
            [7, 3, 19, 0, 12, 1, 18, 2].into_iter().map(|at: usize| id_of(&messages[at])).collect();
        let pubrecs: Vec<u8> = ids.iter().flat_map(|id| ack(PUBREC, *id)).collect();
        subscriber.send_bytes(&pubrecs);
        for id in ids {
            expect(&mut subscriber, &ack(PUBREL, id));
        }
        subscriber.leave();
    }
}

#[test]
fn mqtt_4_6_0_6_what_is_sent_again_keeps_its_order() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (mut device, _) = durable(&gateway, "device");
    device.subscribe(&[("a/#", QOS1)]);
    for number in 0..50 {
        put(&mut publisher, PUBLISH_1, &format!("a/{}", number % 3), &number.to_string());
    }
    let sent: Vec<_> = (0..50).map(|_| device.message()).collect();
    // Acknowledged out of order, here and there.
    for at in [49, 3, 30, 4, 0, 17] {
        complete(&mut device, &sent[at]);
    }
    device.ping();
    device.leave();
    put(&mut publisher, PUBLISH_1, "a/0", "new");
    let expected: Vec<_> = (0..50)
        .filter(|number| ![49, 3, 30, 4, 0, 17].contains(number))
        .map(|number| number.to_string())
        .chain(["new".to_owned()])
        .collect();
    for _ in 0..2 {
        let (mut device, _) = durable(&gateway, "device");
        let again: Vec<_> = (0..expected.len()).map(|_| device.message()).collect();
        assert_eq!(payloads(&again), expected);
    }
}

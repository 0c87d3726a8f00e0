//! 3.1.2.4 Clean Session: what is kept, and for how long.

use gateway_tests::{Gateway, TIMEOUT};

use super::wire::{
    DISCONNECT, DUP, PUBLISH_1, PUBLISH_2, PUBREC, PUBREL, RETAIN, ack, client, durable, exchange, payloads,
    publish, put, take, take_until_end,
};
use crate::{QOS1, QOS2};

#[test]
fn mqtt_3_1_2_4_a_session_that_is_not_clean_goes_on() {
    let mut gateway = Gateway::start();
    let (mut device, present) = durable(&gateway, "device");
    assert!(!present, "there is none yet: it is created");
    device.subscribe(&[("a/+", QOS2), ("b/#", QOS1)]);
    drop(device);
    // However it went: a connection that broke, one that said DISCONNECT, and a gateway that went down hard or soft.
    for round in 0..4 {
        match round {
            2 => gateway.kill(),
            3 => gateway.terminate(),
            _ => {}
        }
        if round >= 2 {
            gateway.restart();
        }
        let (mut device, present) = durable(&gateway, "device");
        assert!(present, "round {round}");
        let mut publisher = client(&gateway, "publisher");
        put(&mut publisher, PUBLISH_2, "a/1", "one");
        put(&mut publisher, PUBLISH_1, "b/1/2", "two");
        // The last PUBACK may not have reached the disk before the kill: then its message comes again.
        let mut messages = take(&mut device, 2);
        while messages.iter().any(|message| message.dup) {
            messages.retain(|message| !message.dup);
            messages.extend(take(&mut device, 1));
        }
        assert_eq!(payloads(&messages), ["one", "two"], "round {round}");
        assert_eq!((messages[0].qos, messages[1].qos), (QOS2, QOS1), "as granted then");
        if round == 0 {
            device.leave();
        }
    }
}

#[test]
fn mqtt_3_1_2_5_messages_at_qos_1_and_2_are_kept_for_a_client_that_is_away() {
    let mut gateway = Gateway::start();
    let (mut device, _) = durable(&gateway, "device");
    device.subscribe(&[("q1/#", QOS1), ("q2/#", QOS2)]);
    device.leave();
    let mut expected = Vec::new();
    for round in 0..3 {
        let mut publisher = client(&gateway, "publisher");
        for number in 0..10 {
            for (first, qos) in [(PUBLISH_1, 1), (PUBLISH_2, 2)] {
                let payload = format!("{round} {number} at {qos}");
                put(&mut publisher, first, &format!("q{qos}/{number}"), &payload);
                expected.push(payload);
            }
        }
        match round {
            0 => gateway.terminate(),
            1 => gateway.kill(),
            _ => continue,
        }
        gateway.restart();
    }
    let (mut device, present) = durable(&gateway, "device");
    assert!(present);
    let messages = take(&mut device, expected.len());
    assert_eq!(payloads(&messages), expected);
    for message in &messages {
        assert_eq!(message.qos, if message.topic.starts_with("q1") { QOS1 } else { QOS2 });
        assert!(!message.retain && !message.dup, "{message:?}");
    }
}

#[test]
fn mqtt_3_1_2_6_a_clean_session_begins_with_nothing_and_leaves_nothing() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    // Everything a Session can have: a subscription, a message that waits, one in flight, one half received.
    let (mut device, _) = durable(&gateway, "device");
    device.subscribe(&[("a/#", QOS2)]);
    put(&mut publisher, PUBLISH_2, "a/1", "in flight");
    assert_eq!(device.message().payload, "in flight");
    exchange(&mut device, &publish(PUBLISH_2, "b", 9, "half received"), &ack(PUBREC, 9));
    drop(device);
    put(&mut publisher, PUBLISH_1, "a/2", "waits");

    let mut device = client(&gateway, "device");
    device.subscribe(&[("b", QOS1), ("end", QOS1)]);
    put(&mut publisher, PUBLISH_1, "a/3", "to the subscription of before");
    // The identifier is not known any more: this is a new message.
    exchange_among_others(&mut device, &publish(PUBLISH_2 | DUP, "b", 9, "new"));
    put(&mut publisher, PUBLISH_1, "end", "end");
    assert_eq!(payloads(&take_until_end(&mut device)), ["new"]);
    device.leave();

    // What the clean one subscribed to is gone with its connection.
    let (mut device, present) = durable(&gateway, "device");
    assert!(!present);
    device.subscribe(&[("end2", QOS1)]);
    put(&mut publisher, PUBLISH_1, "b", "to the subscription of before");
    put(&mut publisher, PUBLISH_1, "end2", "end");
    assert!(take_until_end(&mut device).is_empty());
}

/// Publishes `message` at QoS 2 under the identifier 9; its own delivery may come between.
fn exchange_among_others(client: &mut gateway_tests::Client, message: &[u8]) {
    use gateway_protocol::packet::Packet;
    client.send_bytes(message);
    client.await_frame("PUBREC", |packet| matches!(packet, Packet::PubRec(ack) if ack.packet_id.get() == 9));
    client.send_bytes(&ack(PUBREL, 9));
    client
        .await_frame("PUBCOMP", |packet| matches!(packet, Packet::PubComp(ack) if ack.packet_id.get() == 9));
}

#[test]
fn mqtt_3_1_2_6_a_clean_session_does_not_survive_its_connection() {
    let mut gateway = Gateway::start();
    let mut device = client(&gateway, "device");
    device.subscribe(&[("a/#", QOS1)]);
    drop(device);
    let mut publisher = client(&gateway, "publisher");
    put(&mut publisher, PUBLISH_1, "a/1", "while it is away");
    for restarted in [false, true] {
        if restarted {
            gateway.kill();
            gateway.restart();
        }
        let (mut device, present) = durable(&gateway, "device");
        assert!(!present, "restarted: {restarted}");
        device.subscribe(&[("end", QOS1)]);
        let mut publisher = client(&gateway, "publisher");
        put(&mut publisher, PUBLISH_1, "a/2", "to the subscription of before");
        put(&mut publisher, PUBLISH_1, "end", "end");
        assert!(take_until_end(&mut device).is_empty());
        device.leave();
        client(&gateway, "device").leave();
    }
}

#[test]
fn mqtt_3_1_2_7_retained_messages_outlive_the_session_that_published_them() {
    let mut gateway = Gateway::start();
    for (number, end) in ["leaves", "breaks", "is discarded", "the gateway is killed"].into_iter().enumerate()
    {
        let topic = format!("retained/{number}");
        let (mut publisher, _) = match number {
            2 => durable(&gateway, "publisher"),
            _ => (client(&gateway, "publisher"), false),
        };
        put(&mut publisher, PUBLISH_1 | RETAIN, &topic, end);
        match number {
            0 => publisher.leave(),
            1 => drop(publisher),
            2 => {
                publisher.leave();
                client(&gateway, "publisher").leave();
            }
            _ => {
                gateway.kill();
                gateway.restart();
            }
        }
        // The Session is over: a newcomer of that name finds none.
        let (newcomer, present) = durable(&gateway, "publisher");
        assert!(!present, "{end}");
        newcomer.leave();
        client(&gateway, "publisher").leave();
        let mut subscriber = client(&gateway, "subscriber");
        subscriber.subscribe(&[(&topic, QOS1)]);
        let message = take(&mut subscriber, 1).remove(0);
        assert_eq!((&*message.payload, message.retain), (end, true));
        subscriber.send_bytes(&DISCONNECT);
        subscriber.await_close(TIMEOUT);
    }
}

//! 4.3 Quality of Service levels and protocol flows, sender and receiver.

use gateway_tests::Gateway;

use super::wire::{
    DUP, PUBACK, PUBCOMP, PUBLISH_1, PUBLISH_2, PUBREC, PUBREL, ack, assert_nothing_more, client, complete,
    durable, exchange, expect, id_of, payloads, publish, put, subscribe, take, take_until_end,
};
use crate::{QOS0, QOS1, QOS2};

#[test]
fn mqtt_4_3_1_1_qos_0_is_sent_with_qos_0_and_dup_0() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (kept, _) = durable(&gateway, "kept");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        for granted in 0..3 {
            exchange(&mut subscriber, &subscribe(1, &[("a/b", granted)]), &[0x90, 3, 0, 1, granted]);
            publisher.send_bytes(b"\x30\x06\0\x03a/bx");
            expect(&mut subscriber, b"\x30\x06\0\x03a/bx");
        }
    }
}

#[test]
fn mqtt_4_3_2_1_qos_1_is_sent_with_dup_0_and_is_unacknowledged_until_puback() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (mut device, _) = durable(&gateway, "device");
    let mut clean = client(&gateway, "clean");
    for subscriber in [&mut clean, &mut device] {
        subscriber.subscribe(&[("a/b", QOS1)]);
    }
    put(&mut publisher, PUBLISH_2, "a/b", "one");
    for subscriber in [&mut clean, &mut device] {
        let frame = subscriber.next_packet();
        let bytes = frame.bytes();
        assert_eq!((&bytes[..7], &bytes[9..]), (&b"\x32\x0a\0\x03a/b"[..], &b"one"[..]));
        assert_ne!(bytes[7..9], [0, 0]);
        assert_nothing_more(subscriber);
    }
    // Only PUBACK with its own identifier is an acknowledgement of it.
    for other in [ack(PUBACK, 0x7654), ack(PUBCOMP, 1)] {
        device.send_bytes(&other);
    }
    device.ping();
    drop(device);
    let (mut device, _) = durable(&gateway, "device");
    let again = device.message();
    assert_eq!((&*again.payload, again.dup), ("one", true));
    complete(&mut device, &again);
    device.ping();
    drop(device);
    let (mut device, _) = durable(&gateway, "device");
    put(&mut publisher, PUBLISH_1, "a/b", "end");
    assert!(take_until_end(&mut device).is_empty(), "acknowledged, and sent again");
}

#[test]
fn mqtt_4_3_2_2_puback_comes_after_the_gateway_has_taken_the_message_over() {
    let mut gateway = Gateway::start();
    let (mut device, _) = durable(&gateway, "device");
    device.subscribe(&[("a", QOS1)]);
    device.leave();
    for round in 0..3 {
        let mut publisher = client(&gateway, "publisher");
        for number in 0..5u16 {
            let id = number + 1;
            let payload = format!("{round} {number}");
            exchange(&mut publisher, &publish(PUBLISH_1, "a", id, &payload), &ack(PUBACK, id));
        }
        // The last PUBACK has hardly left.
        gateway.kill();
        gateway.restart();
    }
    let (mut device, _) = durable(&gateway, "device");
    let expected: Vec<_> = (0..15).map(|number| format!("{} {}", number / 5, number % 5)).collect();
    assert_eq!(payloads(&take(&mut device, 15)), expected);
}

#[test]
fn mqtt_4_3_2_2_the_same_identifier_after_puback_is_a_new_message() {
    let gateway = Gateway::start();
    let (kept, _) = durable(&gateway, "kept");
    let mut publisher = client(&gateway, "publisher");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        subscriber.subscribe(&[("a", QOS1)]);
        // Whatever DUP says.
        for (number, first) in
            [PUBLISH_1, PUBLISH_1 | DUP, PUBLISH_1, PUBLISH_1 | DUP].into_iter().enumerate()
        {
            let payload = number.to_string();
            exchange(&mut publisher, &publish(first, "a", 7, &payload), &ack(PUBACK, 7));
            assert_eq!(payloads(&take(&mut subscriber, 1)), [payload]);
        }
        subscriber.leave();
    }
}

#[test]
fn mqtt_4_3_3_1_qos_2_is_sent_with_dup_0_and_is_unacknowledged_until_pubrec() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (mut device, _) = durable(&gateway, "device");
    let mut clean = client(&gateway, "clean");
    for subscriber in [&mut clean, &mut device] {
        subscriber.subscribe(&[("a/b", QOS2)]);
    }
    put(&mut publisher, PUBLISH_2, "a/b", "one");
    for subscriber in [&mut clean, &mut device] {
        let frame = subscriber.next_packet();
        let bytes = frame.bytes();
        assert_eq!((&bytes[..7], &bytes[9..]), (&b"\x34\x0a\0\x03a/b"[..], &b"one"[..]));
        assert_ne!(bytes[7..9], [0, 0]);
        assert_nothing_more(subscriber);
    }
    // PUBREL answers PUBREC, with the same identifier, each time.
    let message = take(&mut clean_delivery(&gateway, &mut publisher), 1);
    assert_eq!(message[0].qos, QOS2);
    drop(device);
    let (mut device, _) = durable(&gateway, "device");
    let again = device.message();
    assert_eq!((&*again.payload, again.dup, again.qos), ("one", true, QOS2));
    for _ in 0..2 {
        exchange(&mut device, &ack(PUBREC, id_of(&again)), &ack(PUBREL, id_of(&again)));
    }
    // Until PUBCOMP it is PUBREL that is repeated, and never the message.
    for _ in 0..2 {
        drop(device);
        (device, _) = durable(&gateway, "device");
        expect(&mut device, &ack(PUBREL, id_of(&again)));
        assert_nothing_more(&mut device);
    }
    device.send_bytes(&ack(PUBCOMP, id_of(&again)));
    device.ping();
    drop(device);
    let (mut device, _) = durable(&gateway, "device");
    put(&mut publisher, PUBLISH_2, "a/b", "end");
    assert!(take_until_end(&mut device).is_empty(), "complete, and sent again");
    assert_nothing_more(&mut device);
}

/// A client that is sent one message at QoS 2.
fn clean_delivery(gateway: &Gateway, publisher: &mut gateway_tests::Client) -> gateway_tests::Client {
    let mut client = client(gateway, "one more");
    client.subscribe(&[("c", QOS2)]);
    put(publisher, PUBLISH_2, "c", "x");
    client
}

#[test]
fn mqtt_4_3_3_2_a_message_at_qos_2_is_taken_over_once() {
    let gateway = Gateway::start();
    let (mut kept, _) = durable(&gateway, "kept");
    let mut clean = client(&gateway, "clean");
    let mut low = client(&gateway, "low");
    for (subscriber, qos) in [(&mut kept, QOS2), (&mut clean, QOS2), (&mut low, QOS0)] {
        subscriber.subscribe(&[("a", qos)]);
    }
    let (durable_publisher, _) = durable(&gateway, "durable publisher");
    for mut publisher in [client(&gateway, "publisher"), durable_publisher] {
        for number in 0..3 {
            let payload = number.to_string();
            exchange(&mut publisher, &publish(PUBLISH_2, "a", 9, &payload), &ack(PUBREC, 9));
            // Before PUBREL the identifier means the same message, whatever is sent under it.
            for _ in 0..2 {
                exchange(&mut publisher, &publish(PUBLISH_2 | DUP, "a", 9, &payload), &ack(PUBREC, 9));
            }
            exchange(&mut publisher, &ack(PUBREL, 9), &ack(PUBCOMP, 9));
            // PUBREL again, because PUBCOMP was lost; then the identifier is free for a new message.
            exchange(&mut publisher, &ack(PUBREL, 9), &ack(PUBCOMP, 9));
        }
        put(&mut publisher, PUBLISH_2, "a", "end");
        for subscriber in [&mut kept, &mut clean, &mut low] {
            assert_eq!(payloads(&take_until_end(subscriber)), ["0", "1", "2"]);
        }
    }
}

#[test]
fn mqtt_4_3_3_2_a_message_at_qos_2_is_taken_over_once_across_connections_and_restarts() {
    let mut gateway = Gateway::start();
    let (mut subscriber, _) = durable(&gateway, "subscriber");
    subscriber.subscribe(&[("a", QOS2)]);
    subscriber.leave();
    let (mut publisher, _) = durable(&gateway, "publisher");
    exchange(&mut publisher, &publish(PUBLISH_2, "a", 9, "once"), &ack(PUBREC, 9));
    for end in 0..3 {
        drop(publisher);
        match end {
            0 => {}
            1 => gateway.kill(),
            _ => gateway.terminate(),
        }
        if end > 0 {
            gateway.restart();
        }
        let present;
        (publisher, present) = durable(&gateway, "publisher");
        assert!(present);
        exchange(&mut publisher, &publish(PUBLISH_2 | DUP, "a", 9, "once"), &ack(PUBREC, 9));
    }
    exchange(&mut publisher, &ack(PUBREL, 9), &ack(PUBCOMP, 9));
    drop(publisher);
    gateway.kill();
    gateway.restart();
    // Released: PUBCOMP again, and then a new message.
    let (mut publisher, _) = durable(&gateway, "publisher");
    exchange(&mut publisher, &ack(PUBREL, 9), &ack(PUBCOMP, 9));
    exchange(&mut publisher, &publish(PUBLISH_2, "a", 9, "new"), &ack(PUBREC, 9));
    exchange(&mut publisher, &ack(PUBREL, 9), &ack(PUBCOMP, 9));
    put(&mut publisher, PUBLISH_2, "a", "end");
    let (mut subscriber, _) = durable(&gateway, "subscriber");
    assert_eq!(payloads(&take_until_end(&mut subscriber)), ["once", "new"]);
}

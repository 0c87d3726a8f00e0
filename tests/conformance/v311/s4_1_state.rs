//! 4.1 Session state, and 4.5 Message receipt.

use std::time::{Duration, Instant};

use gateway_tests::{Ended, Gateway};

use super::wire::{
    DUP, PUBLISH_1, PUBLISH_2, PUBREC, PUBREL, ack, assert_nothing_more, await_release, client, complete,
    durable, exchange, id_of, payloads, publish, put, receive_release, take, take_until_end,
};
use crate::{QOS1, QOS2};

#[test]
fn mqtt_4_1_0_1_session_state_is_kept_for_the_whole_session() {
    let mut gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (mut device, _) = durable(&gateway, "device");
    device.subscribe(&[("a", QOS2), ("gone", QOS1)]);
    device.unsubscribe(&["gone"]);
    // Sent and not acknowledged; sent and half acknowledged; not sent; received and not released.
    put(&mut publisher, PUBLISH_1, "a", "unacknowledged");
    put(&mut publisher, PUBLISH_2, "a", "half acknowledged");
    let [one, two] = [device.message(), device.message()];
    receive_release(&mut device, &two);
    exchange(&mut device, &publish(PUBLISH_2, "b", 0x4321, "received"), &ack(PUBREC, 0x4321));
    drop(device);
    put(&mut publisher, PUBLISH_2, "a", "not sent");
    drop(publisher);
    for end in [Gateway::kill as fn(&mut Gateway), Gateway::terminate, |_| {}] {
        end(&mut gateway);
        if gateway_is_down(&gateway) {
            gateway.restart();
        }
        let (mut device, present) = durable(&gateway, "device");
        assert!(present);
        let again = device.message();
        assert_eq!((&again.payload, again.packet_id, again.dup), (&one.payload, one.packet_id, true));
        let next = device.message();
        assert_eq!((&*next.payload, next.qos), ("not sent", QOS2));
        await_release(&mut device, id_of(&two));
        // The other direction: still received, so not taken a second time.
        let mut listener = client(&gateway, "listener");
        listener.subscribe(&[("b", QOS2), ("gone", QOS2), ("end", QOS2)]);
        exchange(&mut device, &publish(PUBLISH_2 | DUP, "b", 0x4321, "received"), &ack(PUBREC, 0x4321));
        put(&mut listener, PUBLISH_2, "gone", "x");
        put(&mut listener, PUBLISH_2, "end", "end");
        assert_eq!(payloads(&take_until_end(&mut listener)), ["x"]);
        assert_nothing_more(&mut device);
    }
}

fn gateway_is_down(gateway: &Gateway) -> bool {
    std::net::TcpStream::connect(gateway.mqtt()).is_err()
}

#[test]
fn mqtt_4_1_0_2_a_session_lasts_at_least_as_long_as_its_connection() {
    // However short a time Sessions outlive their connections.
    for expiry in ["mqtt.session_expiry_max_secs=1", "mqtt.session_expiry_max_secs=0"] {
        let gateway = Gateway::start_set(&[expiry]);
        let (kept, _) = durable(&gateway, "kept");
        let mut subscribers = [client(&gateway, "clean"), kept];
        let mut publisher = client(&gateway, "publisher");
        let mut in_flight = Vec::new();
        for subscriber in &mut subscribers {
            subscriber.subscribe(&[("a", QOS2)]);
        }
        put(&mut publisher, PUBLISH_2, "a", "in flight");
        for subscriber in &mut subscribers {
            in_flight.push(subscriber.message());
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2_500) {
            for subscriber in &mut subscribers {
                assert_eq!(subscriber.receive(Duration::from_millis(250)).err(), Some(Ended::TimedOut));
            }
        }
        put(&mut publisher, PUBLISH_1, "a", "late");
        for (subscriber, message) in subscribers.iter_mut().zip(&in_flight) {
            assert_eq!(payloads(&take(subscriber, 1)), ["late"], "{expiry}");
            complete(subscriber, message);
        }
    }
}

#[test]
fn mqtt_4_5_0_1_a_message_is_added_to_the_session_of_every_client_that_subscribed_to_it() {
    let mut gateway = Gateway::start();
    let filters = ["a/b", "a/+", "+/b", "a/#", "#", "+/+", "c"];
    let mut clean = Vec::new();
    let mut kept = Vec::new();
    for (number, filter) in filters.iter().enumerate() {
        let mut client = client(&gateway, &format!("clean-{number}"));
        client.subscribe(&[(filter, QOS2)]);
        clean.push(client);
        let (mut client, _) = durable(&gateway, &format!("kept-{number}"));
        client.subscribe(&[(filter, QOS2)]);
        kept.push(client);
        let (mut client, _) = durable(&gateway, &format!("away-{number}"));
        client.subscribe(&[(filter, QOS2)]);
        client.leave();
    }
    let mut publisher = client(&gateway, "publisher");
    // Its publisher, too, if it subscribed.
    publisher.subscribe(&[("a/b", QOS2)]);
    // The message may come back before its PUBACK does: until then its Packet Identifier is in use.
    for (id, first) in [(1, PUBLISH_1), (2, PUBLISH_2)] {
        publisher.send_bytes(&publish(first, "a/b", id, "x"));
        if first == PUBLISH_2 {
            publisher.send_bytes(&ack(PUBREL, id));
        }
        let message = take(&mut publisher, 1).remove(0);
        assert_eq!(message.topic, "a/b");
    }
    let is_wanted = |filter: &str| filter != "c";
    let expected = [QOS1, QOS2];
    for (number, filter) in filters.iter().enumerate() {
        for client in [&mut clean[number], &mut kept[number]] {
            if is_wanted(filter) {
                let qos: Vec<_> = take(client, 2).iter().map(|message| message.qos).collect();
                assert_eq!(qos, expected, "{filter}");
            }
            assert_nothing_more(client);
        }
    }
    drop((clean, kept, publisher));
    gateway.kill();
    gateway.restart();
    for (number, filter) in filters.iter().enumerate() {
        let (mut client, present) = durable(&gateway, &format!("away-{number}"));
        assert!(present);
        if is_wanted(filter) {
            let qos: Vec<_> = take(&mut client, 2).iter().map(|message| message.qos).collect();
            assert_eq!(qos, expected, "{filter}");
        }
        // `#` is subscribed to the end of it already.
        client.subscribe(&[("end", QOS1)]);
        put(&mut client, PUBLISH_1, "end", "end");
        assert_eq!(take_until_end(&mut client).len(), 0, "{filter}");
        client.leave();
    }
}

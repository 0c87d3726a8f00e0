//! Section 4.6, message ordering.

use gateway_protocol::packet::{Ack, Packet};
use gateway_tests::{Client, Gateway, Hello, QoS};

use super::support::{absent, assert_next, back, receive_exactly_once, take};
use crate::{QOS0, QOS1, QOS2, V5};

const MESSAGES: usize = 120;

/// Publishes numbered messages at one QoS, all of them on their way at once.
fn publish_in_order(publisher: &mut Client, topic: &str, qos: QoS) {
    for number in 0..MESSAGES {
        publisher.send_publish(topic, &number.to_string(), qos);
    }
    finish(publisher, qos);
}

/// Takes the acknowledgements of all, and releases those of QoS 2.
fn finish(publisher: &mut Client, qos: QoS) {
    for _ in 0..MESSAGES {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                drop(publisher.await_frame("PUBACK", |packet| matches!(packet, Packet::PubAck(_))))
            }
            QoS::ExactlyOnce => {
                let pubrec = publisher.await_frame("PUBREC", |packet| matches!(packet, Packet::PubRec(_)));
                let Packet::PubRec(ack) = pubrec.packet() else { panic!("{pubrec:?}") };
                publisher.send(&Packet::PubRel(Ack::success(ack.packet_id)));
            }
        }
    }
    publisher.ping();
}

#[test]
fn mqtt_4_6_0_5_messages_of_a_client_on_a_topic_keep_their_order() {
    let gateway = Gateway::start();
    absent(&gateway, "absent", "t/#", QOS2);
    let hellos = [Hello::new(V5, "live"), Hello::durable(V5, "durable"), Hello::new(crate::V3_1_1, "old")];
    let mut readers: Vec<_> = hellos.iter().map(|hello| Client::connect(gateway.mqtt(), hello).0).collect();
    for reader in &mut readers {
        reader.subscribe(&[("t/#", QOS2)]);
    }
    // Another client publishes to the same topic at the same time: its own order is kept as well.
    let mut publishers = [gateway.connect(V5, "a"), gateway.connect(V5, "b")];
    for qos in [QOS0, QOS1, QOS2] {
        for (publisher, name) in publishers.iter_mut().zip(["a", "b"]) {
            for number in 0..MESSAGES {
                publisher.send_publish("t/1", &format!("{name} {number}"), qos);
            }
        }
        for reader in &mut readers {
            let mut next = [0; 2];
            for _ in 0..2 * MESSAGES {
                let message = take(reader);
                let (name, number) = message.payload.split_once(' ').unwrap();
                let of_whom = usize::from(name == "b");
                assert_eq!(number, next[of_whom].to_string(), "{name} at {qos:?}");
                next[of_whom] += 1;
            }
        }
        for publisher in &mut publishers {
            finish(publisher, qos);
        }
    }
    let mut reader = back(&gateway, "absent");
    let mut next = [0; 2];
    for _ in 0..4 * MESSAGES {
        let message = take(&mut reader);
        let (name, number) = message.payload.split_once(' ').unwrap();
        let of_whom = usize::from(name == "b");
        assert_eq!(number, (next[of_whom] % MESSAGES).to_string(), "{name} from the backlog");
        next[of_whom] += 1;
    }
}

#[test]
fn mqtt_4_6_0_5_the_order_is_kept_when_the_session_goes_on() {
    let gateway = Gateway::start();
    absent(&gateway, "reader", "t", QOS2);
    let mut publisher = gateway.connect(V5, "publisher");
    for qos in [QOS1, QOS2] {
        publish_in_order(&mut publisher, "t", qos);
    }
    let expected: Vec<_> = (0..2 * MESSAGES).map(|number| (number % MESSAGES).to_string()).collect();
    // Each connection takes some, acknowledges fewer, and is lost.
    let mut done = 0;
    while done < expected.len() {
        let mut reader = back(&gateway, "reader");
        let seen: Vec<_> = (0..50.min(expected.len() - done)).map(|_| reader.message()).collect();
        for (number, message) in seen.iter().enumerate() {
            assert_eq!(message.payload, expected[done + number], "after {done}");
        }
        for message in seen.iter().take(30) {
            match message.qos {
                QoS::ExactlyOnce => receive_exactly_once(&mut reader, message),
                _ => reader.acknowledge(message),
            }
            done += 1;
        }
        reader.ping();
        drop(reader);
    }
    let mut reader = back(&gateway, "reader");
    publisher.publish("t", "end", QOS1);
    assert_next(&mut reader, "end");
}

#[test]
fn mqtt_4_6_0_6_every_topic_is_ordered() {
    let gateway = Gateway::start();
    // Whatever the topic is called, whether a stream keeps it, and however the subscription is made.
    for topic in ["t", "/", "devices/1/telemetry", "a//b", "é/\u{1F600}"] {
        for filter in [topic, "#"] {
            for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
                let (mut reader, _) = Client::connect(gateway.mqtt(), &hello);
                reader.subscribe(&[(filter, QOS1)]);
                let mut publisher = gateway.connect(V5, "publisher");
                publish_in_order(&mut publisher, topic, QOS1);
                for number in 0..MESSAGES {
                    let message = assert_next(&mut reader, &number.to_string());
                    assert_eq!(message.topic, topic);
                }
                reader.unsubscribe(&[filter]);
                reader.leave();
            }
        }
    }
}

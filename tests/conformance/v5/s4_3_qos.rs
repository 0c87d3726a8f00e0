//! Section 4.3, Quality of Service: both ends of QoS 0, 1 and 2.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_protocol::packet::{Ack, Packet, Publish};
use gateway_protocol::{PacketId, Property};
use gateway_tests::{Client, Gateway, Hello, ReasonCode};

use super::support::{
    absent, assert_next, assert_quiet, await_pubcomp, await_pubrec, await_pubrel, back, connect, id, list,
    packet, pass, publish, receive_exactly_once, receive_first_half, take, text,
};
use crate::{QOS0, QOS1, QOS2, V5};

/// A Session that ends with its connection, and one that goes on.
fn both() -> [Hello; 2] {
    [Hello::new(V5, "live"), Hello::durable(V5, "durable")]
}

/// Sends a PUBLISH with this very identifier.
fn send_as(client: &mut Client, packet_id: u16, dup: bool, publish: Publish<'_>) {
    client.send(&Packet::Publish(Publish { dup, packet_id: Some(id(packet_id)), ..publish }));
}

#[test]
fn mqtt_4_3_1_1_qos_0_is_sent_with_qos_0_and_dup_0() {
    let gateway = Gateway::start();
    for hello in both() {
        let (mut client, _) = connect(&gateway, &hello);
        client.subscribe(&[("t", QOS0)]);
        let expected = packet(0x30, &[&text("t"), &[0], b"x"]);
        for qos in [QOS0, QOS1, QOS2] {
            client.send_publish("t", "x", qos);
            let frame = client.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)));
            assert_eq!(frame.bytes(), expected, "published at {qos:?}");
        }
        // It is not sent again.
        client.ping();
        drop(client);
        let (mut client, _) = connect(&gateway, &hello);
        assert_quiet(&mut client);
        client.leave();
    }
}

#[test]
fn mqtt_4_3_2_1_each_new_message_has_an_unused_identifier_and_dup_0() {
    let gateway = Gateway::start();
    for (qos, hello) in [QOS1, QOS2].into_iter().flat_map(|qos| both().map(|hello| (qos, hello))) {
        let (mut reader, _) = connect(&gateway, &hello.clean_start(true));
        reader.subscribe(&[("t", qos)]);
        let mut publisher = gateway.connect(V5, "publisher");
        let mut in_use: BTreeSet<PacketId> = BTreeSet::new();
        let mut unfinished = Vec::new();
        for number in 0..60 {
            publisher.send_publish("t", &number.to_string(), qos);
            let message = reader.message();
            assert_eq!((&*message.payload, message.qos, message.dup), (&*number.to_string(), qos, false));
            assert!(in_use.insert(message.packet_id.unwrap()), "{message:?} of {in_use:?}");
            unfinished.push(message);
            if number % 3 != 0 {
                let message = unfinished.remove(number % unfinished.len());
                if qos == QOS2 {
                    receive_exactly_once(&mut reader, &message);
                } else {
                    reader.acknowledge(&message);
                }
                in_use.remove(&message.packet_id.unwrap());
            }
        }
        reader.leave();
    }
}

#[test]
fn mqtt_4_3_2_3_a_qos_1_message_is_unacknowledged_until_puback() {
    let gateway = Gateway::start();
    let (mut reader, _) = connect(&gateway, &Hello::durable(V5, "reader"));
    reader.subscribe(&[("t", QOS1)]);
    for payload in ["one", "two", "three"] {
        reader.publish("t", payload, QOS1);
    }
    // No other packet counts as its acknowledgement: not PUBREC, PUBCOMP, or a PUBACK for another.
    let messages = [reader.message(), reader.message(), reader.message()];
    let first = messages[0].packet_id.unwrap();
    reader.send(&Packet::PubComp(Ack::success(first)));
    reader.acknowledge(&messages[1]);
    reader.ping();
    drop(reader);
    for round in 0..2 {
        let mut reader = back(&gateway, "reader");
        for expected in ["one", "three"] {
            let message = reader.message();
            assert_eq!((&*message.payload, message.dup), (expected, true), "round {round}");
        }
        assert_quiet(&mut reader);
        drop(reader);
    }
    let mut reader = back(&gateway, "reader");
    for expected in ["one", "three"] {
        let message = assert_next(&mut reader, expected);
        assert!(message.dup);
    }
    reader.ping();
    drop(reader);
    assert_quiet(&mut back(&gateway, "reader"));
}

#[test]
fn mqtt_4_3_2_4_puback_follows_ownership() {
    let mut gateway = Gateway::start();
    absent(&gateway, "reader", "t", QOS1);
    let mut publisher = gateway.connect(V5, "publisher");
    for packet_id in [7, 1, 0xFFFF, 300] {
        send_as(&mut publisher, packet_id, false, publish("t", &packet_id.to_string(), QOS1));
        assert_eq!(publisher.await_puback(id(packet_id)), ReasonCode::Success);
    }
    // It is the gateway's now, whatever happens to it.
    gateway.kill();
    gateway.restart();
    let mut reader = back(&gateway, "reader");
    for packet_id in [7, 1, 0xFFFF, 300] {
        assert_next(&mut reader, &packet_id.to_string());
    }
}

#[test]
fn mqtt_4_3_2_5_after_puback_the_same_identifier_is_a_new_message() {
    let gateway = Gateway::start();
    let mut reader = gateway.connect(V5, "reader");
    reader.subscribe(&[("t", QOS1)]);
    for hello in both() {
        let (mut publisher, _) = connect(&gateway, &hello);
        for (payload, dup) in [("one", false), ("two", false), ("three", true), ("four", true)] {
            send_as(&mut publisher, 9, dup, publish("t", payload, QOS1));
            publisher.await_puback(id(9));
            assert_next(&mut reader, payload);
        }
    }
}

#[test]
fn mqtt_4_3_3_3_a_qos_2_message_is_unacknowledged_until_pubrec() {
    let gateway = Gateway::start();
    let (mut reader, _) = connect(&gateway, &Hello::durable(V5, "reader"));
    reader.subscribe(&[("t", QOS2)]);
    reader.send_publish("t", "one", QOS2);
    reader.send_publish("t", "two", QOS2);
    let messages = [reader.message(), reader.message()];
    reader.ping();
    drop(reader);
    for _ in 0..2 {
        let mut reader = back(&gateway, "reader");
        for message in &messages {
            let again = reader.message();
            assert_eq!(
                (&again.payload, again.packet_id, again.dup),
                (&message.payload, message.packet_id, true)
            );
        }
        drop(reader);
    }
    let mut reader = back(&gateway, "reader");
    for _ in &messages {
        assert!(take(&mut reader).dup);
    }
}

#[test]
fn mqtt_4_3_3_4_pubrec_is_answered_by_pubrel() {
    let gateway = Gateway::start();
    for hello in both() {
        let (mut reader, _) = connect(&gateway, &hello);
        reader.subscribe(&[("t", QOS2)]);
        let mut publisher = gateway.connect(V5, "publisher");
        // With each Reason Code below 0x80; as often as it is said before PUBCOMP.
        for code in [ReasonCode::Success, ReasonCode::NoMatchingSubscribers] {
            publisher.send_publish("t", "x", QOS2);
            let packet_id = reader.message().packet_id.unwrap();
            reader.send(&Packet::PubRec(Ack { reason_code: code, ..Ack::success(packet_id) }));
            let pubrel = await_pubrel(&mut reader, packet_id);
            assert_eq!(pubrel.bytes(), [&[0x62, 2][..], &packet_id.get().to_be_bytes()].concat());
            reader.send(&Packet::PubComp(Ack::success(packet_id)));
            assert_quiet(&mut reader);
        }
        // Not after an error: the delivery is over.
        publisher.send_publish("t", "x", QOS2);
        let packet_id = reader.message().packet_id.unwrap();
        let refusal = Ack { reason_code: ReasonCode::UnspecifiedError, ..Ack::success(packet_id) };
        reader.send(&Packet::PubRec(refusal));
        assert_quiet(&mut reader);
        reader.leave();
    }
}

#[test]
fn mqtt_4_3_3_5_pubrel_is_unacknowledged_until_pubcomp() {
    let gateway = Gateway::start();
    let (mut reader, _) = connect(&gateway, &Hello::durable(V5, "reader"));
    reader.subscribe(&[("t", QOS2)]);
    reader.send_publish("t", "x", QOS2);
    let packet_id = reader.message().packet_id.unwrap();
    receive_first_half(&mut reader, packet_id);
    reader.ping();
    drop(reader);
    for _ in 0..3 {
        let mut reader = back(&gateway, "reader");
        // [MQTT-4.3.3-6] The PUBREL, and not the PUBLISH.
        let frame = reader.next_packet();
        assert_eq!(frame.bytes(), [&[0x62, 2][..], &packet_id.get().to_be_bytes()].concat());
        assert_quiet(&mut reader);
        drop(reader);
    }
    let mut reader = back(&gateway, "reader");
    await_pubrel(&mut reader, packet_id);
    reader.send(&Packet::PubComp(Ack::success(packet_id)));
    reader.ping();
    drop(reader);
    assert_quiet(&mut back(&gateway, "reader"));
}

#[test]
fn mqtt_4_3_3_7_a_qos_2_message_that_was_sent_does_not_expire() {
    let gateway = Gateway::start();
    let (mut reader, _) = connect(&gateway, &Hello::durable(V5, "reader"));
    reader.subscribe(&[("t", QOS2)]);
    let expiry = list(&[Property::MessageExpiryInterval(2)]);
    reader.send_publish_with("t", b"sent", QOS2, expiry.as_properties());
    reader.send_publish_with("t", b"released", QOS2, expiry.as_properties());
    let (sent, released) = (reader.message(), reader.message());
    receive_first_half(&mut reader, released.packet_id.unwrap());
    reader.ping();
    for _ in 0..2 {
        reader.await_frame("PUBREC", |packet| matches!(packet, Packet::PubRec(_)));
    }
    pass(&mut reader, Duration::from_millis(2_300));
    drop(reader);
    // What is under way is brought to its end, although its time is over.
    let mut reader = back(&gateway, "reader");
    let again = reader.message();
    assert_eq!((&*again.payload, again.packet_id), ("sent", sent.packet_id));
    await_pubrel(&mut reader, released.packet_id.unwrap());
    reader.send(&Packet::PubComp(Ack::success(released.packet_id.unwrap())));
    receive_exactly_once(&mut reader, &again);
    assert_quiet(&mut reader);
}

#[test]
fn mqtt_4_3_3_8_pubrec_follows_ownership() {
    let mut gateway = Gateway::start();
    absent(&gateway, "reader", "t", QOS2);
    let mut publisher = gateway.connect(V5, "publisher");
    for packet_id in [7, 1, 0xFFFF] {
        send_as(&mut publisher, packet_id, false, publish("t", &packet_id.to_string(), QOS2));
        assert_eq!(await_pubrec(&mut publisher, id(packet_id)), ReasonCode::Success);
    }
    gateway.kill();
    gateway.restart();
    let mut reader = back(&gateway, "reader");
    for packet_id in [7, 1, 0xFFFF] {
        assert_eq!(assert_next(&mut reader, &packet_id.to_string()).qos, QOS2);
    }
}

#[test]
fn mqtt_4_3_3_9_after_a_refusing_pubrec_the_identifier_is_free() {
    let gateway = Gateway::start();
    let mut reader = gateway.connect(V5, "reader");
    reader.subscribe(&[("t", QOS2)]);
    for hello in both() {
        let (mut publisher, _) = connect(&gateway, &hello);
        send_as(&mut publisher, 9, false, publish("$SYS/not/allowed", "x", QOS2));
        assert!(await_pubrec(&mut publisher, id(9)).is_error());
        // The same identifier, as a new message: even without a PUBREL in between.
        send_as(&mut publisher, 9, false, publish("t", "new", QOS2));
        assert!(!await_pubrec(&mut publisher, id(9)).is_error());
        assert_next(&mut reader, "new");
        publisher.send(&Packet::PubRel(Ack::success(id(9))));
        assert_eq!(await_pubcomp(&mut publisher, id(9)), ReasonCode::Success);
    }
}

#[test]
fn mqtt_4_3_3_10_until_pubrel_a_repetition_is_answered_and_not_delivered() {
    let mut gateway = Gateway::start();
    let mut reader = gateway.connect(V5, "reader");
    reader.subscribe(&[("t", QOS2)]);
    for hello in both() {
        let (mut publisher, _) = connect(&gateway, &hello);
        send_as(&mut publisher, 9, false, publish("t", "once", QOS2));
        assert!(!await_pubrec(&mut publisher, id(9)).is_error());
        for dup in [true, false, true] {
            send_as(&mut publisher, 9, dup, publish("t", "once", QOS2));
            assert!(!await_pubrec(&mut publisher, id(9)).is_error());
        }
        publisher.publish("t", "marker", QOS1);
        assert_next(&mut reader, "once");
        assert_next(&mut reader, "marker");
        publisher.leave();
    }
    // On another connection of the same Session, and after a crash of the server.
    for _ in 0..2 {
        let mut publisher = back(&gateway, "durable");
        send_as(&mut publisher, 9, true, publish("t", "once", QOS2));
        assert!(!await_pubrec(&mut publisher, id(9)).is_error());
        let mut reader = gateway.connect(V5, "reader");
        reader.subscribe(&[("t", QOS2)]);
        send_as(&mut publisher, 9, true, publish("t", "once", QOS2));
        assert!(!await_pubrec(&mut publisher, id(9)).is_error());
        publisher.publish("t", "marker", QOS1);
        assert_next(&mut reader, "marker");
        gateway.kill();
        gateway.restart();
    }
    let mut publisher = back(&gateway, "durable");
    publisher.send(&Packet::PubRel(Ack::success(id(9))));
    assert_eq!(await_pubcomp(&mut publisher, id(9)), ReasonCode::Success);
}

#[test]
fn mqtt_4_3_3_11_pubrel_is_answered_by_pubcomp() {
    let gateway = Gateway::start();
    for hello in both() {
        let (mut publisher, _) = connect(&gateway, &hello);
        for packet_id in [1, 0xFFFF, 500] {
            send_as(&mut publisher, packet_id, false, publish("t", "x", QOS2));
            await_pubrec(&mut publisher, id(packet_id));
        }
        // In whatever order; and again, where the first PUBCOMP was lost.
        for packet_id in [500, 1, 0xFFFF] {
            publisher.send(&Packet::PubRel(Ack::success(id(packet_id))));
            assert_eq!(await_pubcomp(&mut publisher, id(packet_id)), ReasonCode::Success);
            publisher.send(&Packet::PubRel(Ack::success(id(packet_id))));
            let again = await_pubcomp(&mut publisher, id(packet_id));
            assert_eq!(again, ReasonCode::PacketIdentifierNotFound);
        }
    }
}

#[test]
fn mqtt_4_3_3_12_after_pubcomp_the_identifier_is_a_new_message() {
    let gateway = Gateway::start();
    let mut reader = gateway.connect(V5, "reader");
    reader.subscribe(&[("t", QOS2)]);
    for hello in both() {
        let (mut publisher, _) = connect(&gateway, &hello);
        for (payload, dup) in [("one", false), ("two", false), ("three", true)] {
            send_as(&mut publisher, 9, dup, publish("t", payload, QOS2));
            assert!(!await_pubrec(&mut publisher, id(9)).is_error());
            publisher.send(&Packet::PubRel(Ack::success(id(9))));
            assert_eq!(await_pubcomp(&mut publisher, id(9)), ReasonCode::Success);
            assert_next(&mut reader, payload);
        }
    }
}

#[test]
fn mqtt_4_3_3_13_the_handshake_is_finished_though_the_message_expired() {
    let gateway = Gateway::start();
    absent(&gateway, "reader", "t", QOS2);
    for hello in both() {
        let (mut publisher, _) = connect(&gateway, &hello);
        let expiry = list(&[Property::MessageExpiryInterval(1)]);
        let message = Publish { properties: expiry.as_properties(), ..publish("t", "x", QOS2) };
        send_as(&mut publisher, 9, false, message);
        assert!(!await_pubrec(&mut publisher, id(9)).is_error());
        pass(&mut publisher, Duration::from_millis(1_300));
        send_as(&mut publisher, 9, true, message);
        assert!(!await_pubrec(&mut publisher, id(9)).is_error(), "a repetition");
        publisher.send(&Packet::PubRel(Ack::success(id(9))));
        assert_eq!(await_pubcomp(&mut publisher, id(9)), ReasonCode::Success);
        publisher.leave();
    }
    let mut reader = back(&gateway, "reader");
    reader.publish("t", "marker", QOS1);
    assert_next(&mut reader, "marker");
}

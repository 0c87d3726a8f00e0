//! Sections 3.3.4 and 4.9: what a PUBLISH causes, overlapping subscriptions, Subscription Identifiers, Receive Maximum.

use gateway_protocol::Property;
use gateway_protocol::packet::{Ack, Packet, SubscribeOptions};
use gateway_tests::{Client, Gateway, Hello, Message, QoS, ReasonCode, TIMEOUT};

use super::support::{
    absent, announced, assert_next, assert_quiet, at_most, await_pubcomp, await_pubrec, await_pubrel, back,
    connect, list, packet, publish_exactly_once, receive_exactly_once, receive_first_half, retain, take,
    text, told_for,
};
use crate::{QOS0, QOS1, QOS2, V5};

#[test]
fn mqtt_3_3_4_1_a_publish_is_answered_as_its_qos_demands() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "c");
    client.send_publish("t", "x", QOS0);
    assert_quiet(&mut client);
    // Whether anybody wants it or not, and whether anything of it is stored.
    let mut reader = gateway.connect(V5, "reader");
    reader.subscribe(&[("live", QOS2)]);
    absent(&gateway, "sleeper", "stored", QOS2);
    for topic in ["nobody", "live", "stored", "devices/1"] {
        let packet_id = client.send_publish(topic, "x", QOS1).unwrap();
        assert_eq!(
            client.next_packet().bytes()[..4],
            [&[0x40, 2][..], &packet_id.get().to_be_bytes()].concat()
        );
        let packet_id = client.send_publish(topic, "x", QOS2).unwrap();
        assert_eq!(
            client.next_packet().bytes()[..4],
            [&[0x50, 2][..], &packet_id.get().to_be_bytes()].concat()
        );
        client.send(&Packet::PubRel(Ack::success(packet_id)));
        assert_eq!(client.next_packet().bytes(), [&[0x70, 2][..], &packet_id.get().to_be_bytes()].concat());
        assert_quiet(&mut client);
    }
}

/// Subscribes with an identifier.
fn subscribe_as(client: &mut Client, filter: &str, options: SubscribeOptions, identifier: u32) {
    let properties = list(&[Property::SubscriptionIdentifier(identifier)]);
    let codes = client.subscribe_with(&[(filter, options)], properties.as_properties());
    assert!(!codes[0].is_error(), "{codes:?}");
}

/// All copies of what one publish to `t/1` gives, live or from a backlog.
fn copies(
    gateway: &Gateway,
    name: &str,
    filters: &[(&str, QoS, u32)],
    qos: QoS,
    absent: bool,
) -> Vec<Message> {
    let hello = Hello::durable(V5, name).clean_start(true);
    let (mut reader, _) = Client::connect(gateway.mqtt(), &hello);
    for &(filter, granted, identifier) in filters {
        match identifier {
            0 => drop(reader.subscribe(&[(filter, granted)])),
            _ => subscribe_as(&mut reader, filter, at_most(granted), identifier),
        }
    }
    reader.subscribe(&[("end", qos)]);
    let mut reader = if absent {
        reader.leave();
        None
    } else {
        Some(reader)
    };
    let mut publisher = gateway.connect(V5, "publisher");
    for topic in ["t/1", "end"] {
        match qos {
            QoS::ExactlyOnce => publish_exactly_once(&mut publisher, topic, topic),
            _ => drop(publisher.publish(topic, topic, qos)),
        }
    }
    let reader = reader.get_or_insert_with(|| back(gateway, name));
    let mut copies = Vec::new();
    loop {
        let message = take(reader);
        if message.topic == "end" {
            return copies;
        }
        copies.push(message);
    }
}

#[test]
fn mqtt_3_3_4_2_overlapping_subscriptions_get_the_highest_qos() {
    let gateway = Gateway::start();
    let filters = [("t/#", QOS0, 0), ("t/1", QOS2, 0), ("t/+", QOS1, 0), ("other", QOS2, 0)];
    for (qos, absent) in [(QOS1, false), (QOS2, false), (QOS1, true), (QOS2, true)] {
        let copies = copies(&gateway, "reader", &filters, qos, absent);
        let highest = copies.iter().map(|copy| copy.qos).max();
        assert_eq!(highest, Some(qos), "{copies:?}");
        // With one copy for all, that is what it is; with one copy for each, none may be above its own.
        if copies.len() > 1 {
            let mut granted: Vec<_> = copies.iter().map(|copy| copy.qos).collect();
            granted.sort();
            assert_eq!(granted, [QOS0, QOS1, qos]);
        }
    }
    let copies = copies(&gateway, "reader", &filters, QOS0, false);
    assert!(!copies.is_empty() && copies.iter().all(|copy| copy.qos == QOS0), "{copies:?}");
}

#[test]
fn mqtt_3_3_4_3_the_subscription_identifier_is_given_back() {
    let gateway = Gateway::start();
    for (qos, absent) in [(QOS0, false), (QOS1, false), (QOS2, false), (QOS1, true), (QOS2, true)] {
        for identifier in [1, 127, 128, 268_435_455] {
            let copies = copies(&gateway, "reader", &[("t/+", QOS2, identifier)], qos, absent);
            assert_eq!(copies.len(), 1);
            assert_eq!(copies[0].subscription_ids, [identifier], "{copies:?}");
        }
        // None, if it was made without.
        let copies = copies(&gateway, "reader", &[("t/+", QOS2, 0)], qos, absent);
        assert_eq!(copies[0].subscription_ids, [], "{copies:?}");
    }
    // A replacement replaces the identifier too, and a Retained Message carries it.
    let mut reader = gateway.connect(V5, "replacer");
    subscribe_as(&mut reader, "u", at_most(QOS1), 1);
    subscribe_as(&mut reader, "u", at_most(QOS1), 2);
    retain(&mut reader, "u", "x", &list(&[]));
    assert_eq!(take(&mut reader).subscription_ids, [2]);
    subscribe_as(&mut reader, "u", at_most(QOS1), 3);
    assert_eq!(take(&mut reader).subscription_ids, [3]);
    reader.subscribe(&[("u", QOS1)]);
    assert_eq!(take(&mut reader).subscription_ids, []);
    // Identifier 0 is a Protocol Error.
    let zero = packet(0x82, &[&[0, 1, 2, 0x0B, 0], &text("t"), &[0]]);
    assert_eq!(told_for(&gateway, &zero), Some(ReasonCode::ProtocolError));
}

#[test]
fn mqtt_3_3_4_4_identifiers_of_all_matching_subscriptions_are_told() {
    let gateway = Gateway::start();
    let filters =
        [("t/#", QOS1, 10), ("t/1", QOS2, 20), ("#", QOS0, 30), ("+/1", QOS1, 0), ("t/2", QOS1, 40)];
    for (qos, absent) in [(QOS0, false), (QOS1, false), (QOS2, false), (QOS1, true), (QOS2, true)] {
        let copies = copies(&gateway, "reader", &filters, qos, absent);
        let copies: Vec<_> = copies.into_iter().filter(|copy| copy.topic == "t/1").collect();
        let mut told: Vec<_> = copies.iter().flat_map(|copy| copy.subscription_ids.clone()).collect();
        told.sort_unstable();
        assert_eq!(told, [10, 20, 30], "{copies:?}");
        match copies.as_slice() {
            [_one_for_all] => {}
            several => {
                // [MQTT-3.3.4-5] Each its own, and the one without identifier has none.
                assert_eq!(several.len(), 4, "{several:?}");
                assert!(several.iter().all(|copy| copy.subscription_ids.len() <= 1), "{several:?}");
            }
        }
    }
}

/// Publishes `count` messages at QoS 1 or 2 by turns.
fn flood(publisher: &mut Client, topic: &str, count: usize) {
    for number in 0..count {
        let qos = if number % 2 == 0 { QOS1 } else { QOS2 };
        publisher.send_publish(topic, &number.to_string(), qos);
    }
    publisher.ping();
}

#[test]
fn mqtt_3_3_4_9_deliveries_in_flight_stay_within_receive_maximum() {
    let gateway = Gateway::start();
    for maximum in [1, 2, 7] {
        for durable in [false, true] {
            let hello = if durable { Hello::durable(V5, "reader") } else { Hello::new(V5, "reader") };
            let hello = hello.with(Property::ReceiveMaximum(maximum));
            let (mut reader, _) = connect(&gateway, &hello);
            reader.subscribe(&[("t", QOS2)]);
            let mut publisher = gateway.connect(V5, "publisher");
            flood(&mut publisher, "t", 30);
            let mut next = 0;
            let mut in_flight = Vec::new();
            while next < 30 {
                while in_flight.len() < usize::from(maximum) && next < 30 {
                    let message = reader.message();
                    assert_eq!(message.payload, next.to_string());
                    in_flight.push(message);
                    next += 1;
                }
                // The quota is used up: nothing comes, not even after a round trip of the publisher, until one is done.
                publisher.ping();
                assert_quiet(&mut reader);
                let message = in_flight.remove(in_flight.len() / 2);
                match message.qos {
                    QoS::ExactlyOnce => {
                        // A PUBREC does not give it back, a PUBCOMP does.
                        receive_first_half(&mut reader, message.packet_id.unwrap());
                        assert_quiet(&mut reader);
                        reader.send(&Packet::PubComp(Ack::success(message.packet_id.unwrap())));
                    }
                    _ => reader.acknowledge(&message),
                }
            }
            for message in in_flight {
                match message.qos {
                    QoS::ExactlyOnce => receive_exactly_once(&mut reader, &message),
                    _ => reader.acknowledge(&message),
                }
            }
            assert_quiet(&mut reader);
            reader.leave();
            Client::connect(gateway.mqtt(), &Hello::new(V5, "reader")).0.leave();
        }
    }
}

#[test]
fn mqtt_3_3_4_9_a_pubrec_with_an_error_gives_the_quota_back() {
    let gateway = Gateway::start();
    let (mut reader, _) = connect(&gateway, &Hello::new(V5, "reader").with(Property::ReceiveMaximum(1)));
    reader.subscribe(&[("t", QOS2)]);
    for payload in ["one", "two", "three"] {
        reader.send_publish("t", payload, QOS2);
    }
    for payload in ["one", "two", "three"] {
        let message = reader.message();
        assert_eq!(message.payload, payload);
        let packet_id = message.packet_id.unwrap();
        let refusal = Ack { reason_code: ReasonCode::QuotaExceeded, ..Ack::success(packet_id) };
        reader.send(&Packet::PubRec(refusal));
    }
}

#[test]
fn mqtt_3_3_4_10_other_packets_are_not_held_back_by_the_quota() {
    let gateway = Gateway::start();
    for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
        let (mut client, _) = connect(&gateway, &hello.with(Property::ReceiveMaximum(1)));
        client.subscribe(&[("t", QOS1)]);
        let mut publisher = gateway.connect(V5, "publisher");
        flood(&mut publisher, "t", 5);
        let first = client.message();
        // Everything else goes on: PINGRESP, SUBACK, UNSUBACK, PUBACK, PUBREC, PUBCOMP.
        client.ping();
        assert_eq!(client.subscribe(&[("v", QOS1)]), [ReasonCode::GrantedQos1]);
        assert_eq!(client.unsubscribe(&["v"]), [ReasonCode::Success]);
        assert!(client.publish("nobody", "x", QOS1).is_some_and(|code| !code.is_error()));
        let packet_id = client.send_publish("nobody", "x", QOS2).unwrap();
        assert!(!await_pubrec(&mut client, packet_id).is_error());
        client.send(&Packet::PubRel(Ack::success(packet_id)));
        assert_eq!(await_pubcomp(&mut client, packet_id), ReasonCode::Success);
        client.acknowledge(&first);
        for number in 1..5 {
            assert_next(&mut client, &number.to_string());
        }
    }
}

#[test]
fn mqtt_4_9_0_1_the_server_s_receive_maximum_is_a_quota_for_the_client() {
    let gateway = Gateway::start_set(&["mqtt.receive_maximum=5"]);
    let (mut client, connack) = connect(&gateway, &Hello::new(V5, "c"));
    assert_eq!(announced(&connack).receive_maximum(), Some(5));
    // As many QoS 2 publishes as are announced, none of them released; and everything else goes on.
    let ids: Vec<_> = (0..5).map(|_| client.send_publish("t", "x", QOS2).unwrap()).collect();
    for &packet_id in &ids {
        assert!(!await_pubrec(&mut client, packet_id).is_error());
    }
    client.ping();
    assert_eq!(client.subscribe(&[("t", QOS2)]), [ReasonCode::GrantedQos2]);
    client.send_publish("t", "at QoS 0", QOS0);
    assert_next(&mut client, "at QoS 0");
    // One that is released makes room for one.
    client.send(&Packet::PubRel(Ack::success(ids[0])));
    await_pubcomp(&mut client, ids[0]);
    let packet_id = client.send_publish("u", "x", QOS2).unwrap();
    await_pubrec(&mut client, packet_id);
    // And one more is too much.
    client.send_publish("u", "x", QOS1);
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::ReceiveMaximumExceeded));
}

#[test]
fn mqtt_4_9_0_2_the_quota_begins_anew_with_each_connection() {
    let gateway = Gateway::start();
    let hello = Hello::durable(V5, "reader").with(Property::ReceiveMaximum(2));
    let (mut reader, _) = connect(&gateway, &hello);
    reader.subscribe(&[("t", QOS2)]);
    let mut publisher = gateway.connect(V5, "publisher");
    flood(&mut publisher, "t", 6);
    // One of each stays unfinished: an unacknowledged PUBLISH, a PUBREL without PUBCOMP.
    let (first, second) = (reader.message(), reader.message());
    receive_first_half(&mut reader, second.packet_id.unwrap());
    drop(reader);
    let (mut reader, _) = connect(&gateway, &hello);
    assert!(reader.message().dup);
    await_pubrel(&mut reader, second.packet_id.unwrap());
    assert_quiet(&mut reader);
    reader.acknowledge(&first);
    assert_eq!(reader.message().payload, "2");
    assert_quiet(&mut reader);
    reader.send(&Packet::PubComp(Ack::success(second.packet_id.unwrap())));
    assert_eq!(reader.message().payload, "3");
    assert_quiet(&mut reader);
}

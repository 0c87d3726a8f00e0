//! Sections 4.4 and 4.5: what is sent again when a Session goes on, and who is sent a message at all.

use std::time::Duration;

use gateway_protocol::Property;
use gateway_protocol::packet::{Ack, Packet};
use gateway_tests::{Client, Gateway, Hello, ReasonCode};

use super::support::{
    absent, assert_next, assert_quiet, at_most, await_pubrel, back, connect, pass, publish_exactly_once,
    receive_exactly_once, receive_first_half, subscribe,
};
use crate::{QOS0, QOS1, QOS2, V5};

#[test]
fn mqtt_4_4_0_1_a_resumed_session_sends_again_what_is_unacknowledged() {
    let mut gateway = Gateway::start();
    absent(&gateway, "reader", "t", QOS2);
    let mut publisher = gateway.connect(V5, "publisher");
    for number in 0..9 {
        let payload = number.to_string();
        match number % 3 {
            0 => drop(publisher.publish("t", &payload, QOS1)),
            _ => publish_exactly_once(&mut publisher, "t", &payload),
        }
    }
    let mut reader = back(&gateway, "reader");
    let first: Vec<_> = (0..9).map(|_| reader.message()).collect();
    // Done: 3 (QoS 1) and 4 (QoS 2). Released: 5. The others are not acknowledged.
    reader.acknowledge(&first[3]);
    receive_exactly_once(&mut reader, &first[4]);
    receive_first_half(&mut reader, first[5].packet_id.unwrap());
    reader.ping();
    reader.leave();
    for crash in [false, true] {
        if crash {
            gateway.kill();
            gateway.restart();
        }
        let mut reader = back(&gateway, "reader");
        for number in [0, 1, 2, 6, 7, 8] {
            let again = reader.message();
            assert_eq!((&again.payload, again.packet_id), (&first[number].payload, first[number].packet_id));
            assert_eq!((again.qos, again.dup), (first[number].qos, true));
        }
        await_pubrel(&mut reader, first[5].packet_id.unwrap());
        assert_quiet(&mut reader);
        reader.leave();
    }
}

#[test]
fn mqtt_4_4_0_1_nothing_is_sent_again_at_any_other_time() {
    let gateway = Gateway::start();
    for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
        let (mut reader, _) = connect(&gateway, &hello);
        reader.subscribe(&[("t", QOS2)]);
        reader.send_publish("t", "at QoS 1", QOS1);
        reader.send_publish("t", "at QoS 2", QOS2);
        let unacknowledged = [reader.message(), reader.message()];
        reader.await_frame("PUBACK", |packet| matches!(packet, Packet::PubAck(_)));
        reader.await_frame("PUBREC", |packet| matches!(packet, Packet::PubRec(_)));
        // However long it takes the client.
        pass(&mut reader, Duration::from_secs(3));
        subscribe(&mut reader, "t", at_most(QOS2));
        assert_quiet(&mut reader);
        reader.acknowledge(&unacknowledged[0]);
        receive_exactly_once(&mut reader, &unacknowledged[1]);
        assert_quiet(&mut reader);
        reader.leave();
    }
    // Nor to a Session that begins anew.
    let (mut reader, _) = connect(&gateway, &Hello::durable(V5, "durable"));
    reader.publish("t", "not acknowledged", QOS1);
    reader.message();
    drop(reader);
    let (mut reader, _) = connect(&gateway, &Hello::durable(V5, "durable").clean_start(true));
    assert_quiet(&mut reader);
}

#[test]
fn mqtt_4_4_0_2_an_error_acknowledges_too() {
    let gateway = Gateway::start();
    let (mut reader, _) = connect(&gateway, &Hello::durable(V5, "reader"));
    reader.subscribe(&[("t", QOS2)]);
    for code in [ReasonCode::UnspecifiedError, ReasonCode::QuotaExceeded, ReasonCode::PayloadFormatInvalid] {
        reader.send_publish("t", "at QoS 1", QOS1);
        reader.send_publish("t", "at QoS 2", QOS2);
        let messages = [reader.message(), reader.message()];
        let refusal = |packet_id| Ack { reason_code: code, ..Ack::success(packet_id) };
        reader.send(&Packet::PubAck(refusal(messages[0].packet_id.unwrap())));
        reader.send(&Packet::PubRec(refusal(messages[1].packet_id.unwrap())));
        reader.ping();
    }
    drop(reader);
    let mut reader = back(&gateway, "reader");
    assert_quiet(&mut reader);
    reader.publish("t", "new", QOS1);
    assert_next(&mut reader, "new");
}

#[test]
fn mqtt_4_5_0_1_an_accepted_message_goes_to_every_matching_session() {
    let gateway = Gateway::start();
    absent(&gateway, "absent", "t/#", QOS1);
    absent(&gateway, "absent too", "+/1", QOS2);
    absent(&gateway, "elsewhere", "u/#", QOS2);
    let hellos = [
        Hello::new(V5, "live"),
        Hello::durable(V5, "durable"),
        Hello::new(V5, "narrow").with(Property::ReceiveMaximum(1)),
        Hello::new(crate::V3_1_1, "old"),
    ];
    let mut connected: Vec<_> = hellos.iter().map(|hello| Client::connect(gateway.mqtt(), hello).0).collect();
    for client in &mut connected {
        client.subscribe(&[("t/1", QOS1)]);
    }
    let mut at_qos_0 = gateway.connect(V5, "at QoS 0");
    at_qos_0.subscribe(&[("#", QOS0)]);
    let mut publisher = gateway.connect(V5, "publisher");
    for number in 0..20 {
        publisher.publish("t/1", &number.to_string(), QOS1);
    }
    for number in 0..20 {
        for client in &mut connected {
            assert_next(client, &number.to_string());
        }
        assert_next(&mut at_qos_0, &number.to_string());
    }
    for name in ["absent", "absent too"] {
        let mut client = back(&gateway, name);
        for number in 0..20 {
            assert_next(&mut client, &number.to_string());
        }
    }
    assert_quiet(&mut back(&gateway, "elsewhere"));
}

//! Sections 3.10 and 3.11, UNSUBSCRIBE and UNSUBACK.

use gateway_protocol::packet::{Ack, Packet};
use gateway_protocol::{Properties, Property};
use gateway_tests::{Client, Gateway, Hello, ReasonCode};

use super::support::{
    assert_next, assert_quiet, await_pubrel, back, connect, packet, receive_exactly_once, text, told_for,
};
use crate::{QOS0, QOS1, QOS2, V5};

const UNSUBACK_CODES: [u8; 7] = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];

#[test]
fn mqtt_3_10_1_1_unsubscribe_has_flags_0010() {
    let gateway = Gateway::start();
    for flags in (0..16).filter(|flags| *flags != 2) {
        let bytes = packet(0xA0 | flags, &[&[0, 1, 0], &text("t")]);
        assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::MalformedPacket), "{flags:04b}");
    }
    // And at least one filter.
    assert_eq!(told_for(&gateway, &packet(0xA2, &[&[0, 1, 0]])), Some(ReasonCode::ProtocolError));
}

#[test]
fn mqtt_3_10_4_1_filters_are_compared_character_by_character() {
    let gateway = Gateway::start();
    for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
        let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
        client.subscribe(&[("t/#", QOS1), ("t/1", QOS1), ("T/1", QOS1), ("e\u{301}", QOS1)]);
        // What would match, or looks alike, is another filter.
        let others = ["t/+", "+/1", "#", "t/1/", "/t/1", "t", "t//1", "T/#", "é", "t/1 "];
        for other in others {
            assert_eq!(client.unsubscribe(&[other]), [ReasonCode::NoSubscriptionExisted], "{other}");
        }
        for (filter, topic) in [("t/1", "t/1"), ("T/1", "T/1"), ("e\u{301}", "e\u{301}")] {
            client.publish(topic, "there", QOS1);
            assert_next(&mut client, "there");
            assert_eq!(client.unsubscribe(&[filter]), [ReasonCode::Success]);
            assert_eq!(client.unsubscribe(&[filter]), [ReasonCode::NoSubscriptionExisted]);
        }
        // `t/#` is still there, and `t/1` does not come twice.
        client.publish("t/1", "by the wildcard", QOS1);
        assert_next(&mut client, "by the wildcard");
        assert_quiet(&mut client);
        client.leave();
    }
}

#[test]
fn mqtt_3_10_4_2_no_more_messages_after_unsuback() {
    let gateway = Gateway::start();
    for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
        let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
        client.subscribe(&[("t/1", QOS1), ("t/2", QOS1)]);
        assert_eq!(client.unsubscribe(&["t/1"]), [ReasonCode::Success]);
        let mut publisher = gateway.connect(V5, "publisher");
        for qos in [QOS0, QOS1] {
            publisher.publish("t/1", "not wanted", qos);
            publisher.publish("t/2", "wanted", qos);
            assert_next(&mut client, "wanted");
        }
        let present = hello.properties.as_properties().session_expiry_interval().is_some();
        client.leave();
        if present {
            // Nor while it is away.
            publisher.publish("t/1", "not wanted", QOS1);
            publisher.publish("t/2", "wanted", QOS1);
            assert_next(&mut back(&gateway, "durable"), "wanted");
        }
    }
}

#[test]
fn mqtt_3_10_4_3_deliveries_that_have_begun_are_finished() {
    let gateway = Gateway::start();
    let (mut client, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "durable"));
    client.subscribe(&[("t", QOS2)]);
    client.send_publish("t", "at QoS 1", QOS1);
    client.send_publish("t", "at QoS 2", QOS2);
    client.send_publish("t", "at QoS 2, begun", QOS2);
    let begun = [client.message(), client.message(), client.message()];
    client.send(&Packet::PubRec(Ack::success(begun[2].packet_id.unwrap())));
    await_pubrel(&mut client, begun[2].packet_id.unwrap());
    assert_eq!(client.unsubscribe(&["t"]), [ReasonCode::Success]);
    // The handshake goes on, on this connection or on the next.
    receive_exactly_once(&mut client, &begun[1]);
    client.ping();
    drop(client);
    let mut client = back(&gateway, "durable");
    let again = client.message();
    assert_eq!((&*again.payload, again.dup, again.packet_id), ("at QoS 1", true, begun[0].packet_id));
    client.acknowledge(&again);
    await_pubrel(&mut client, begun[2].packet_id.unwrap());
    client.send(&Packet::PubComp(Ack::success(begun[2].packet_id.unwrap())));
    client.ping();
    client.leave();
    let mut client = back(&gateway, "durable");
    assert_quiet(&mut client);
}

#[test]
fn mqtt_3_10_4_4_unsubscribe_is_answered_by_unsuback() {
    let gateway = Gateway::start();
    for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
        let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
        client.subscribe(&[("t", QOS1)]);
        // [MQTT-3.10.4-5] With its Packet Identifier, whether there was anything to remove or not.
        for (packet_id, code) in [(0xFFFF_u16, 0x00), (1, 0x11), (0x1234, 0x11)] {
            let packet_id = packet_id.to_be_bytes();
            client.send_bytes(&packet(0xA2, &[&packet_id, &[0], &text("t")]));
            let unsuback = client.next_packet();
            assert_eq!(unsuback.bytes(), [0xB0, 4, packet_id[0], packet_id[1], 0, code]);
        }
    }
}

#[test]
fn mqtt_3_10_4_6_several_filters_are_several_unsubscribes_with_one_unsuback() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "c");
    client.subscribe(&[("a", QOS1), ("b/#", QOS1), ("c", QOS1), ("d", QOS1)]);
    // [MQTT-3.11.3-1] In the order of the filters; [MQTT-3.11.3-2] codes of the table alone.
    let filters = ["a", "unknown", "b/#", "a", "c"];
    let body: Vec<u8> = filters.iter().flat_map(text).collect();
    client.send_bytes(&packet(0xA2, &[&[0, 9, 0], &body]));
    let unsuback = client.next_packet();
    assert_eq!(unsuback.bytes(), [0xB0, 8, 0, 9, 0, 0x00, 0x11, 0x00, 0x11, 0x00]);
    assert!(unsuback.bytes()[5..].iter().all(|code| UNSUBACK_CODES.contains(code)));
    assert_quiet(&mut client);
    for topic in ["a", "b/1", "c", "d"] {
        client.publish(topic, topic, QOS1);
    }
    assert_next(&mut client, "d");
    assert_quiet(&mut client);
}

#[test]
fn mqtt_3_11_2_1_unsuback_explains_nothing_and_fits() {
    let gateway = Gateway::start();
    let (mut client, _) = connect(&gateway, &Hello::new(V5, "c").with(Property::MaximumPacketSize(40)));
    for filter in ["unknown", "$share/g/unknown", "$stream/no/such"] {
        client.send_bytes(&packet(0xA2, &[&[0, 1, 0], &text(filter)]));
        let unsuback = client.await_frame("UNSUBACK", |packet| matches!(packet, Packet::UnsubAck(_)));
        assert_eq!(unsuback.bytes().len(), 6, "{unsuback:?}");
        let Packet::UnsubAck(ack) = unsuback.packet() else { panic!("{unsuback:?}") };
        assert_eq!(ack.properties, Properties::default());
    }
}

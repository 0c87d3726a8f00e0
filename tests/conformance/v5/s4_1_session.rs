//! Sections 4.1 and 4.2: Session State, and the connection that carries it.

use std::time::Duration;

use gateway_protocol::Property;
use gateway_protocol::packet::{Ack, Disconnect, Packet};
use gateway_tests::{Client, Gateway, Hello, ReasonCode, TIMEOUT};

use super::support::{
    assert_next, await_pubcomp, await_pubrec, await_pubrel, back, list, packet, pass, take, text,
};
use crate::{QOS1, QOS2, V5};

#[test]
fn mqtt_4_1_0_1_the_session_is_kept_while_the_connection_is_open() {
    let gateway = Gateway::start();
    // Even one that ends with its connection, and that says nothing for longer than any interval of its own.
    let hello = Hello::new(V5, "c").with(Property::SessionExpiryInterval(1));
    let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
    client.subscribe(&[("t", QOS2)]);
    client.send_publish("t", "one", QOS1);
    let unacknowledged = client.message();
    let packet_id = client.send_publish("nobody", "x", QOS2).unwrap();
    await_pubrec(&mut client, packet_id);
    client.await_frame("PUBACK", |packet| matches!(packet, Packet::PubAck(_)));
    pass(&mut client, Duration::from_millis(2_500));
    // Subscriptions, deliveries, and what is half received: all as it was.
    let mut publisher = gateway.connect(V5, "publisher");
    publisher.publish("t", "two", QOS1);
    assert_next(&mut client, "two");
    client.acknowledge(&unacknowledged);
    client.send(&Packet::PubRel(Ack::success(packet_id)));
    assert_eq!(await_pubcomp(&mut client, packet_id), ReasonCode::Success);
}

#[test]
fn mqtt_4_1_0_1_the_session_is_kept_for_its_expiry_interval() {
    let mut gateway = Gateway::start();
    let (mut client, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "c"));
    client.subscribe(&[("t", QOS2)]);
    client.send_publish("t", "at QoS 1", QOS1);
    client.send_publish("t", "at QoS 2", QOS2);
    let deliveries = [client.message(), client.message()];
    client.send(&Packet::PubRec(Ack::success(deliveries[1].packet_id.unwrap())));
    await_pubrel(&mut client, deliveries[1].packet_id.unwrap());
    let half_received = client.send_publish("nobody", "x", QOS2).unwrap();
    await_pubrec(&mut client, half_received);
    drop(client);
    gateway.connect(V5, "publisher").publish("t", "while absent", QOS1);
    // Over a crash as well.
    gateway.kill();
    gateway.restart();
    let mut client = back(&gateway, "c");
    let again = client.message();
    assert_eq!((&*again.payload, again.packet_id), ("at QoS 1", deliveries[0].packet_id));
    client.acknowledge(&again);
    await_pubrel(&mut client, deliveries[1].packet_id.unwrap());
    client.send(&Packet::PubComp(Ack::success(deliveries[1].packet_id.unwrap())));
    assert_next(&mut client, "while absent");
    client.send(&Packet::PubRel(Ack::success(half_received)));
    assert_eq!(await_pubcomp(&mut client, half_received), ReasonCode::Success);
    client.publish("t", "still subscribed", QOS1);
    assert_next(&mut client, "still subscribed");
}

#[test]
fn mqtt_4_1_0_2_the_session_is_dropped_when_its_interval_has_passed() {
    let gateway = Gateway::start();
    let lasting = |name: &str, secs| {
        Hello::new(V5, name).clean_start(false).with(Property::SessionExpiryInterval(secs))
    };
    // One expires, one has no interval at all, one gets its interval by DISCONNECT; and one stays.
    let connect = |hello: &Hello| {
        let (mut client, _) = Client::connect(gateway.mqtt(), hello);
        client.subscribe(&[("t", QOS1)]);
        client
    };
    connect(&lasting("expires", 1)).leave();
    connect(&Hello::new(V5, "none").clean_start(false)).leave();
    connect(&lasting("stays", 3_600)).leave();
    let mut shortened = connect(&lasting("shortened", 3_600));
    let mut ended = connect(&lasting("ended", 3_600));
    for (client, secs) in [(&mut shortened, 1), (&mut ended, 0)] {
        let interval = list(&[Property::SessionExpiryInterval(secs)]);
        let properties = interval.as_properties();
        client.send(&Packet::Disconnect(Disconnect { reason_code: ReasonCode::Success, properties }));
        assert_eq!(client.await_close(TIMEOUT), None);
    }
    let mut publisher = gateway.connect(V5, "publisher");
    publisher.publish("t", "x", QOS1);
    pass(&mut publisher, Duration::from_millis(2_500));
    for (name, expected) in
        [("expires", false), ("none", false), ("shortened", false), ("ended", false), ("stays", true)]
    {
        let (mut client, present) = Client::connect(gateway.mqtt(), &lasting(name, 3_600));
        assert_eq!(present, expected, "{name}");
        if expected {
            assert_next(&mut client, "x");
        } else {
            assert_eq!(client.unsubscribe(&["t"]), [ReasonCode::NoSubscriptionExisted], "{name}");
            client.subscribe(&[("u", QOS1)]);
            client.publish("u", "new", QOS1);
            assert_next(&mut client, "new");
        }
    }
    // An interval of 0 in CONNECT cannot be raised by DISCONNECT.
    let mut client = gateway.connect(V5, "none");
    client.send_bytes(&packet(0xE0, &[&[0, 5, 0x11, 0, 0, 0, 9]]));
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::ProtocolError));
}

#[test]
fn mqtt_4_2_1_tcp_carries_packets_in_order_and_in_any_portions() {
    let gateway = Gateway::start();
    let mut client = Client::open(gateway.mqtt(), V5);
    // Byte by byte.
    let packets = [
        Hello::new(V5, "c").bytes(),
        packet(0x82, &[&[0, 1, 0], &text("t"), &[1]]),
        packet(0x32, &[&text("t"), &[0, 1, 0], &[b'x'; 200]]),
    ];
    for byte in packets.concat() {
        client.send_bytes(&[byte]);
    }
    assert_eq!(client.next_packet().bytes()[0], 0x20);
    assert_eq!(take(&mut client).payload.len(), 200);
    // Many in one write, and one that is large.
    let mut bytes = Vec::new();
    for number in 0..500 {
        let payload = format!("{number}");
        bytes.extend(packet(0x30, &[&text("t"), &[0], payload.as_bytes()]));
    }
    client.send_bytes(&bytes);
    for number in 0..500 {
        assert_next(&mut client, &number.to_string());
    }
    let large = "y".repeat(900_000);
    client.publish("t", &large, QOS1);
    assert_eq!(take(&mut client).payload, large);
}

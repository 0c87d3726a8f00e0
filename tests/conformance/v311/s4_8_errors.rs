//! 4.8 Handling errors.

use gateway_tests::{Ended, Gateway, TIMEOUT};

use super::wire::{
    CLEAN, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBLISH_0, PUBLISH_1, PUBREL, WILL, ack, assert_no_connack,
    assert_offends, client, connack, connect, durable, packet, publish, put, subscribe, take, take_until_end,
    text,
};
use crate::QOS1;

#[test]
fn mqtt_4_8_0_1_a_protocol_violation_closes_the_connection_it_came_on() {
    let mut gateway = Gateway::start();
    let mut bystander = client(&gateway, "bystander");
    bystander.subscribe(&[("a", QOS1)]);
    let violations: Vec<(&str, Vec<u8>)> = vec![
        ("SUBSCRIBE without a filter", packet(0x82, &[&[0, 1]])),
        ("SUBSCRIBE without a QoS", packet(0x82, &[&[0, 1], &text("a")])),
        ("SUBSCRIBE without anything", packet(0x82, &[])),
        ("UNSUBSCRIBE without a filter", packet(0xA2, &[&[0, 1]])),
        ("UNSUBSCRIBE that is cut off", packet(0xA2, &[&[0, 1], b"\0\x02a"])),
        ("PUBACK without an identifier", packet(PUBACK, &[])),
        ("PUBACK with something behind it", packet(PUBACK, &[&[0, 1, 0]])),
        ("PUBREL with half an identifier", packet(PUBREL, &[&[0]])),
        ("PINGREQ with a body", packet(0xC0, &[&[0]])),
        ("a Remaining Length of five bytes", vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01]),
        ("a second CONNECT", connect(CLEAN, 0, &["again"])),
        ("CONNACK", connack(0, 0).to_vec()),
        ("SUBACK", packet(0x90, &[&[0, 1, 0]])),
        ("UNSUBACK", packet(0xB0, &[&[0, 1]])),
        ("PINGRESP", PINGRESP.to_vec()),
        ("QoS 3", publish(0x36, "a", 1, "x")),
        ("an identifier of 0", publish(PUBLISH_1, "a", 0, "x")),
    ];
    for (what, bytes) in &violations {
        // What follows it is not looked at either.
        assert_offends(&gateway, what, &[&bytes[..], &publish(PUBLISH_1, "a", 1, what)].concat());
    }
    for first in
        [PINGREQ.to_vec(), publish(PUBLISH_0, "a", 0, "x"), subscribe(1, &[("a", 0)]), DISCONNECT.to_vec()]
    {
        assert_no_connack(&gateway, "no CONNECT before it", &first);
    }
    // Nobody else has noticed.
    put(&mut bystander, PUBLISH_1, "a", "end");
    assert!(take_until_end(&mut bystander).is_empty());
    gateway.assert_alive();
}

#[test]
fn mqtt_4_8_0_2_a_packet_too_large_to_take_closes_its_connection() {
    let mut gateway = Gateway::start_set(&["mqtt.max_packet_bytes=4KiB"]);
    let mut bystander = client(&gateway, "bystander");
    bystander.subscribe(&[("a", QOS1)]);
    let payload = "x".repeat(5_000);
    assert_offends(&gateway, "a packet past the limit", &publish(PUBLISH_1, "a", 1, &payload));
    // It need not come whole.
    assert_offends(&gateway, "the header of one", &publish(PUBLISH_1, "a", 1, &payload)[..3]);
    let hello = connect(CLEAN | WILL, 0, &["name", "will", &payload]);
    assert_no_connack(&gateway, "a CONNECT past the limit", &hello);
    put(&mut bystander, PUBLISH_1, "a", "end");
    assert!(take_until_end(&mut bystander).is_empty());
    gateway.assert_alive();
}

#[test]
fn mqtt_4_8_0_2_a_message_that_can_not_be_stored_closes_its_connection() {
    let gateway = Gateway::start_set(&[
        "storage.max_bytes=8MiB",
        "storage.segment_bytes=1MiB",
        "storage.group_bytes_max=1MiB",
        "mqtt.max_packet_bytes=256KiB",
        "delivery.outbox_bytes_max=1MiB",
        "stream.0.max_bytes=1MiB",
        // With it the publisher would be made to wait until there is room.
        "admission.ladder=false",
    ]);
    let (mut away, _) = durable(&gateway, "away");
    away.subscribe(&[("a", QOS1)]);
    away.leave();
    let mut bystander = client(&gateway, "bystander");
    bystander.subscribe(&[("live", QOS1)]);
    let mut publisher = client(&gateway, "publisher");
    let payload = "x".repeat(200_000);
    let mut acknowledged = 0u16;
    loop {
        let id = acknowledged + 1;
        publisher.send_bytes(&publish(PUBLISH_1, "a", id, &payload));
        match publisher.receive(TIMEOUT) {
            Ok(frame) => assert_eq!(frame.bytes(), ack(PUBACK, id)),
            Err(Ended::Closed) => break,
            Err(Ended::TimedOut) => panic!("after {acknowledged} messages, neither an answer nor the end"),
        }
        acknowledged += 1;
        assert!(acknowledged < 100, "a log of 8 MiB has taken {acknowledged} messages of 200,000 bytes");
    }
    // The others go on, and what was acknowledged is there.
    put(&mut bystander, PUBLISH_1, "live", "end");
    assert!(take_until_end(&mut bystander).is_empty());
    let (mut away, present) = durable(&gateway, "away");
    assert!(present);
    assert_eq!(take(&mut away, usize::from(acknowledged)).len(), usize::from(acknowledged));
}

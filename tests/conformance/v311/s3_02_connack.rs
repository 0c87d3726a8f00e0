//! 3.2 CONNACK: that it comes first, Session Present, and what follows a refusal.

use gateway_tests::{Client, Gateway, TIMEOUT, wait};

use super::wire::{
    CLEAN, DISCONNECT, PINGREQ, PUBLISH_0, PUBLISH_1, WILL, WILL_QOS_2, WILL_RETAIN, assert_closed,
    assert_no_connack, client, connack, connect, connected, durable, exchange, expect, packet, publish, put,
    silent, subscribe, take, text,
};
use crate::QOS1;

#[test]
fn mqtt_3_2_0_1_connack_comes_before_anything_else() {
    let gateway = Gateway::start();
    let (mut device, _) = durable(&gateway, "device");
    device.subscribe(&[("a", QOS1)]);
    device.leave();
    let mut publisher = client(&gateway, "");
    for _ in 0..10 {
        put(&mut publisher, PUBLISH_1, "a", "waits");
    }
    // Messages wait for it, and it does not wait for CONNACK before it goes on.
    let mut device = silent(&gateway);
    let all = [
        connect(0, 0, &["device"]),
        PINGREQ.to_vec(),
        publish(PUBLISH_1, "b", 7, "x"),
        subscribe(8, &[("c", 1)]),
        PINGREQ.to_vec(),
    ]
    .concat();
    exchange(&mut device, &all, &connack(1, 0));
    // Nothing of what it sent along is lost.
    device.await_frame("PUBACK", |packet| matches!(packet, gateway_protocol::packet::Packet::PubAck(_)));
    device.await_frame("SUBACK", |packet| matches!(packet, gateway_protocol::packet::Packet::SubAck(_)));
    assert_eq!(take(&mut device, 10).len(), 10);
}

#[test]
fn mqtt_3_2_2_1_session_present_is_0_for_a_clean_session() {
    let gateway = Gateway::start();
    for kept_before in [false, true] {
        if kept_before {
            let (mut device, _) = durable(&gateway, "device");
            device.subscribe(&[("a", QOS1)]);
            device.leave();
        }
        let mut device = silent(&gateway);
        exchange(&mut device, &connect(CLEAN, 0, &["device"]), &connack(0, 0));
        device.leave();
    }
}

#[test]
fn mqtt_3_2_2_2_session_present_is_1_where_a_session_goes_on() {
    let mut gateway = Gateway::start();
    connected(&gateway, &connect(0, 0, &["device"])).leave();
    for round in 0..3 {
        if round == 2 {
            gateway.kill();
            gateway.restart();
        }
        let mut device = silent(&gateway);
        exchange(&mut device, &connect(0, 0, &["device"]), &connack(1, 0));
        device.send_bytes(&DISCONNECT);
        device.await_close(TIMEOUT);
    }
}

#[test]
fn mqtt_3_2_2_3_session_present_is_0_where_there_is_no_session() {
    let gateway = Gateway::start();
    connected(&gateway, &connect(0, 0, &["first"])).leave();
    let mut device = silent(&gateway);
    exchange(&mut device, &connect(0, 0, &["second"]), &connack(0, 0));
    // The Session before was clean, so it has left none.
    connected(&gateway, &connect(CLEAN, 0, &["third"])).leave();
    let mut device = silent(&gateway);
    exchange(&mut device, &connect(0, 0, &["third"]), &connack(0, 0));
}

/// Refusals that need no more than a CONNECT, for a Session that may be there.
fn refused(name: &str) -> [(Vec<u8>, [u8; 4]); 2] {
    [
        (packet(0x10, &[b"\0\x04MQTT\x07", &[0, 0, 60], &text(name)]), connack(0, 1)),
        (connect(0, 60, &[""]), connack(0, 2)),
    ]
}

/// Connects as soon as a connection before has left its place; answers with the CONNACK.
fn connect_into_place(gateway: &Gateway, hello: &[u8]) -> (Client, Vec<u8>) {
    wait::until("a place", TIMEOUT, || {
        let mut client = silent(gateway);
        client.send_bytes(hello);
        let answer = client.next_packet().bytes().to_vec();
        (answer != connack(0, 3)).then_some((client, answer))
    })
}

#[test]
fn mqtt_3_2_2_4_session_present_is_0_beside_every_refusal() {
    let gateway = Gateway::start_set(&["admission.max_connections=1"]);
    connected(&gateway, &connect(0, 0, &["device"])).leave();
    // Its Session is there, but there is no place for it.
    let (only, answer) = connect_into_place(&gateway, &connect(CLEAN, 0, &["only"]));
    assert_eq!(answer, connack(0, 0));
    exchange(&mut silent(&gateway), &connect(0, 0, &["device"]), &connack(0, 3));
    for (hello, answer) in refused("device") {
        exchange(&mut silent(&gateway), &hello, &answer);
    }
    // It was there all the time.
    only.leave();
    let (_device, answer) = connect_into_place(&gateway, &connect(0, 0, &["device"]));
    assert_eq!(answer, connack(1, 0));
}

#[test]
fn mqtt_3_2_2_5_the_connection_is_closed_after_a_refusal() {
    let gateway = Gateway::start_set(&["admission.max_connections=1"]);
    let _only = connected(&gateway, &connect(CLEAN, 0, &["only"]));
    let no_place = [(connect(CLEAN, 0, &["one too many"]), connack(0, 3))];
    for (hello, answer) in refused("device").into_iter().chain(no_place) {
        let mut client = silent(&gateway);
        // Whatever it has sent along.
        client.send_bytes(&[&hello[..], &PINGREQ].concat());
        expect(&mut client, &answer);
        assert_closed(&mut client, "refused");
    }
}

#[test]
fn mqtt_3_2_2_6_a_first_packet_that_is_no_connect_is_answered_by_closing_alone() {
    let gateway = Gateway::start();
    let packets = [
        ("PINGREQ", PINGREQ.to_vec()),
        ("PUBLISH", publish(PUBLISH_0, "a", 0, "x")),
        ("CONNACK", connack(0, 0).to_vec()),
        ("DISCONNECT", DISCONNECT.to_vec()),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in packets {
        assert_no_connack(&gateway, what, &bytes);
    }
}

#[test]
fn mqtt_3_2_2_6_a_will_that_is_not_offered_is_answered_by_closing_alone() {
    // None of the five refusals says that a will cannot be kept as it is; that the server is unavailable, least of all.
    let gateway = Gateway::start_set(&["mqtt.max_qos=1", "mqtt.retain_available=false"]);
    let hello = connect(CLEAN | WILL | WILL_QOS_2, 60, &["name", "will", "x"]);
    assert_no_connack(&gateway, "Will QoS 2 where 1 is the highest", &hello);
    let hello = connect(CLEAN | WILL | WILL_RETAIN, 60, &["name", "will", "x"]);
    assert_no_connack(&gateway, "Will Retain where nothing is retained", &hello);
}

//! 2 The fixed header and Packet Identifiers.

use std::collections::BTreeSet;

use gateway_tests::Gateway;

use super::wire::{
    CLEAN, PINGREQ, PUBACK, PUBCOMP, PUBLISH_0, PUBLISH_1, PUBLISH_2, PUBREC, PUBREL, ack, assert_no_connack,
    assert_offends, client, complete, connect, durable, exchange, id_of, packet, publish, put,
    receive_release, silent, subscribe, text, unsubscribe,
};

/// One packet of each kind that a client sends, the flags of its fixed header left out.
fn packets() -> Vec<(&'static str, u8, Vec<u8>)> {
    let subscription = [&[0, 1][..], &text("a"), &[0]].concat();
    let filter = [&[0, 1][..], &text("a")].concat();
    vec![
        ("PUBACK", 0x40, vec![0, 1]),
        ("PUBREC", 0x50, vec![0, 1]),
        ("PUBREL", 0x62, vec![0, 1]),
        ("PUBCOMP", 0x70, vec![0, 1]),
        ("SUBSCRIBE", 0x82, subscription),
        ("UNSUBSCRIBE", 0xA2, filter),
        ("PINGREQ", 0xC0, Vec::new()),
        ("DISCONNECT", 0xE0, Vec::new()),
    ]
}

#[test]
fn mqtt_2_2_2_1_every_packet_of_the_server_has_the_flags_of_its_type() {
    let gateway = Gateway::start();
    let mut client = silent(&gateway);
    let mut first_of_answer = |request: &[u8]| {
        client.send_bytes(request);
        client.next_packet().bytes()[0]
    };
    assert_eq!(first_of_answer(&connect(CLEAN, 0, &["flags"])), 0x20, "CONNACK");
    assert_eq!(first_of_answer(&subscribe(1, &[("a", 2)])), 0x90, "SUBACK");
    assert_eq!(first_of_answer(&publish(PUBLISH_1, "b", 2, "x")), 0x40, "PUBACK");
    assert_eq!(first_of_answer(&publish(PUBLISH_2, "b", 3, "x")), 0x50, "PUBREC");
    assert_eq!(first_of_answer(&ack(PUBREL, 3)), 0x70, "PUBCOMP");
    assert_eq!(first_of_answer(&PINGREQ), 0xD0, "PINGRESP");
    assert_eq!(first_of_answer(&publish(PUBLISH_0, "a", 0, "x")), 0x30, "PUBLISH");
    assert_eq!(first_of_answer(&unsubscribe(4, &["b"])), 0xB0, "UNSUBACK");
    put(&mut super::wire::client(&gateway, ""), PUBLISH_2, "a", "x");
    let message = client.message();
    client.send_bytes(&ack(PUBREC, id_of(&message)));
    assert_eq!(client.next_packet().bytes()[0], 0x62, "PUBREL");
}

#[test]
fn mqtt_2_2_2_2_other_flags_close_the_connection() {
    let mut gateway = Gateway::start();
    for (name, first, body) in packets() {
        for flags in (0..16).filter(|flags| flags | first & 0xF0 != first) {
            let bytes = packet(first & 0xF0 | flags, &[&body]);
            assert_offends(&gateway, &format!("{name} with flags {flags:#06b}"), &bytes);
        }
    }
    let mut hello = connect(CLEAN, 0, &["flags"]);
    for flags in 1..16 {
        hello[0] = 0x10 | flags;
        assert_no_connack(&gateway, &format!("CONNECT with flags {flags:#06b}"), &hello);
    }
    // Reserved packet types.
    for first in [0x00, 0x0F, 0xF0, 0xFF] {
        assert_offends(&gateway, &format!("a packet {first:#04x}"), &packet(first, &[]));
    }
    gateway.assert_alive();
}

#[test]
fn mqtt_2_3_1_1_a_packet_identifier_of_zero_closes_the_connection() {
    let gateway = Gateway::start();
    let offend = |what, bytes: Vec<u8>| assert_offends(&gateway, what, &bytes);
    offend("SUBSCRIBE", subscribe(0, &[("a", 0)]));
    offend("UNSUBSCRIBE", unsubscribe(0, &["a"]));
    offend("PUBLISH at QoS 1", publish(PUBLISH_1, "a", 0, "x"));
    offend("PUBLISH at QoS 2", publish(PUBLISH_2, "a", 0, "x"));
    for (name, first) in [("PUBACK", PUBACK), ("PUBREC", PUBREC), ("PUBREL", PUBREL), ("PUBCOMP", PUBCOMP)] {
        offend(name, ack(first, 0));
    }
}

#[test]
fn mqtt_2_3_1_4_deliveries_have_identifiers_that_are_not_zero_and_not_in_use() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (durable, _) = durable(&gateway, "durable");
    for mut subscriber in [client(&gateway, "clean"), durable] {
        exchange(&mut subscriber, &subscribe(1, &[("a/#", 2)]), &[0x90, 3, 0, 1, 2]);
        let mut in_use = BTreeSet::new();
        for round in 0..4 {
            let mut messages = Vec::new();
            for number in 0..10 {
                let first = if number % 2 == 0 { PUBLISH_1 } else { PUBLISH_2 };
                put(&mut publisher, first, "a/b", "x");
                let message = subscriber.message();
                assert_ne!(id_of(&message), 0);
                assert!(in_use.insert(id_of(&message)), "{} is in use, round {round}", id_of(&message));
                messages.push(message);
            }
            // Some are done with; one has only come half the way, and keeps its identifier.
            for message in &messages[2..6] {
                complete(&mut subscriber, message);
                in_use.remove(&id_of(message));
            }
            receive_release(&mut subscriber, &messages[1]);
        }
        assert_eq!(in_use.len(), 4 * 6);
        subscriber.leave();
    }
}

#[test]
fn mqtt_2_3_1_5_a_delivery_at_qos_0_has_no_packet_identifier() {
    let gateway = Gateway::start();
    let mut client = client(&gateway, "");
    exchange(&mut client, &subscribe(1, &[("a/b", 2)]), &[0x90, 3, 0, 1, 2]);
    exchange(&mut client, b"\x30\x06\0\x03a/bx", b"\x30\x06\0\x03a/bx");
    exchange(&mut client, b"\x30\x05\0\x03a/b", b"\x30\x05\0\x03a/b");
}

#[test]
fn mqtt_2_3_1_6_acknowledgements_repeat_the_identifier_of_the_publish() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "");
    let (mut subscriber, _) = durable(&gateway, "subscriber");
    exchange(&mut subscriber, &subscribe(1, &[("wanted", 2)]), &[0x90, 3, 0, 1, 2]);
    for topic in ["wanted", "unwanted"] {
        for id in [1, 0x00FF, 0x0100, 0xABCD, 0xFFFF] {
            exchange(&mut publisher, &publish(PUBLISH_1, topic, id, "x"), &ack(PUBACK, id));
            exchange(&mut publisher, &publish(PUBLISH_2, topic, id, "x"), &ack(PUBREC, id));
            exchange(&mut publisher, &ack(PUBREL, id), &ack(PUBCOMP, id));
        }
    }
    let messages: Vec<_> = (0..10).map(|_| subscriber.message()).collect();
    for message in messages {
        if message.qos == crate::QOS2 {
            exchange(&mut subscriber, &ack(PUBREC, id_of(&message)), &ack(PUBREL, id_of(&message)));
        }
    }
}

#[test]
fn mqtt_2_3_1_7_suback_and_unsuback_repeat_the_identifier_of_the_request() {
    let gateway = Gateway::start();
    let (durable, _) = durable(&gateway, "durable");
    for mut client in [client(&gateway, ""), durable] {
        for id in [1u16, 0x00FF, 0x0100, 0xABCD, 0xFFFF] {
            let [high, low] = id.to_be_bytes();
            exchange(&mut client, &subscribe(id, &[("a", 1)]), &[0x90, 3, high, low, 1]);
            exchange(&mut client, &unsubscribe(id, &["a"]), &[0xB0, 2, high, low]);
        }
    }
}

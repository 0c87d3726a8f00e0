//! 4.2 and 7 The transport, and what a plain client needs.

use gateway_tests::Gateway;

use super::wire::{
    CLEAN, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH_0, PUBLISH_1, PUBLISH_2, PUBREC, PUBREL,
    ack, assert_closed, complete, connack, connect, exchange, expect, id_of, publish, silent, subscribe,
};

#[test]
fn mqtt_7_0_0_2_a_client_that_knows_the_text_alone_is_served() {
    // Nothing but packets out of the text, over a TCP connection, with a configuration that nobody touched.
    let gateway = Gateway::start();
    let mut receiver = silent(&gateway);
    exchange(&mut receiver, b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02rx", b"\x20\x02\0\0");
    exchange(&mut receiver, b"\x82\x08\0\x01\0\x03a/b\x02", b"\x90\x03\0\x01\x02");
    let mut sender = silent(&gateway);
    exchange(&mut sender, b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02tx", b"\x20\x02\0\0");
    sender.send_bytes(b"\x30\x08\0\x03a/bone");
    expect(&mut receiver, b"\x30\x08\0\x03a/bone");
    exchange(&mut sender, b"\x32\x0a\0\x03a/b\0\x07two", b"\x40\x02\0\x07");
    let two = receiver.message();
    receiver.send_bytes(&ack(PUBACK, id_of(&two)));
    exchange(&mut sender, b"\x34\x0c\0\x03a/b\0\x08three", b"\x50\x02\0\x08");
    exchange(&mut sender, b"\x62\x02\0\x08", b"\x70\x02\0\x08");
    let three = receiver.message();
    complete(&mut receiver, &three);
    assert_eq!((&*two.payload, &*three.payload), ("two", "three"));
    exchange(&mut receiver, b"\xA2\x07\0\x02\0\x03a/b", b"\xB0\x02\0\x02");
    exchange(&mut receiver, b"\xC0\0", b"\xD0\0");
    receiver.send_bytes(b"\xE0\0");
    assert_closed(&mut receiver, "after DISCONNECT");
}

#[test]
fn mqtt_7_1_1_1_packets_are_found_in_a_stream_of_bytes_however_it_is_cut() {
    let gateway = Gateway::start();
    let payload = "0123456789".repeat(100);
    let parts = [
        connect(CLEAN, 0, &["stream"]),
        subscribe(1, &[("a/b", 2)]),
        publish(PUBLISH_1, "b", 2, "x"),
        publish(PUBLISH_0, "a/b", 0, &payload),
        publish(PUBLISH_2, "b", 3, ""),
        ack(PUBREL, 3),
        PINGREQ.to_vec(),
    ];
    let answers = [
        connack(0, 0).to_vec(),
        vec![0x90, 3, 0, 1, 2],
        ack(PUBACK, 2),
        publish(PUBLISH_0, "a/b", 0, &payload),
        ack(PUBREC, 3),
        ack(PUBCOMP, 3),
        PINGRESP.to_vec(),
    ];
    let all = parts.concat();
    for size in [1, 2, 3, 7, 64, all.len()] {
        let mut client = silent(&gateway);
        for piece in all.chunks(size) {
            client.send_bytes(piece);
        }
        let mut expected = answers.to_vec();
        while !expected.is_empty() {
            let frame = client.next_packet();
            // Where they are answers to different packets, the text leaves their order open.
            let at = expected.iter().position(|bytes| bytes == frame.bytes());
            let at =
                at.unwrap_or_else(|| panic!("pieces of {size}: {:02x?} was not asked for", frame.bytes()));
            expected.remove(at);
        }
        for byte in DISCONNECT {
            client.send_bytes(&[byte]);
        }
        assert_closed(&mut client, "after DISCONNECT");
    }
}

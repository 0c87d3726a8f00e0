//! Publishers that do not read their acknowledgements.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use gateway_protocol::PacketId;
use gateway_protocol::codec::{PublishFrame, encode_publish};
use gateway_tests::{Client, Gateway, Hello};

use crate::bystander::{Bystander, Route};
use crate::small_window;
use crate::{MIB, QOS0, QOS1, V3_1_1, V5};

/// Publishes that a client may get rid of before it has to read something: what the buffers of two sockets take.
const SENT_MAX: usize = 3_000_000;
/// Nothing taken for so long means held back.
const HELD_BACK_AFTER: Duration = Duration::from_secs(2);

/// A client that never reads, and whose socket is full already: else the kernel would keep a million PUBACKs for it.
fn stuffed(gateway: &Gateway) -> Client {
    let mut client = small_window::open(gateway.mqtt(), V3_1_1);
    client.greet(&Hello::new(V3_1_1, "flood"));
    client.subscribe(&[("stuffing", QOS0)]);
    let mut publisher = gateway.connect(V5, "stuffer");
    let payload = "x".repeat(60_000);
    let dropped = || gateway.metrics().get("gateway_deliveries_dropped_total{reason=\"outbox_full\"}");
    let before = dropped();
    for _ in 0..1_000 {
        publisher.publish("stuffing", &payload, QOS1);
        if dropped() > before {
            publisher.leave();
            return client;
        }
    }
    panic!("the socket takes more than it should");
}

/// Sends publishes at QoS 1 to `topic` without ever reading, until nothing is taken any more. How many were sent.
fn flood(client: &mut Client, topic: &str) -> usize {
    client.stream().set_write_timeout(Some(HELD_BACK_AFTER)).unwrap();
    let mut bytes = Vec::new();
    for id in 1..=u16::MAX {
        let frame = PublishFrame {
            dup: false,
            qos: QOS1,
            retain: false,
            topic,
            packet_id: PacketId::new(id),
            extra: &[],
            properties: &[],
            payload: b"x",
        };
        encode_publish(&frame, V3_1_1, &mut bytes).unwrap();
    }
    let frame_bytes = bytes.len() / usize::from(u16::MAX);
    let mut sent = 0;
    loop {
        match client.stream().write(&bytes[sent % bytes.len()..]) {
            Ok(count) => sent += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("the gateway closed: {error}"),
        }
        assert!(sent < SENT_MAX * frame_bytes, "nothing holds the flood back");
    }
    sent / frame_bytes
}

#[test]
fn a_publisher_that_reads_no_pubacks_is_held_back() {
    let mut gateway = Gateway::start_set(&["delivery.outbox_bytes_max=2MiB"]);
    let bystander = Bystander::start_on(gateway.mqtt(), Route::Live);
    for topic in ["nobody/wants", "devices/1"] {
        let mut client = stuffed(&gateway);
        let before = gateway.memory();
        let sent = flood(&mut client, topic);
        let after = gateway.memory();
        eprintln!(
            "{topic}: held back after {sent} publishes; anonymous memory {} KiB before, {} KiB after",
            before.anonymous / 1024,
            after.anonymous / 1024
        );
        assert!(after.anonymous <= before.anonymous + 8 * MIB, "{before:?} {after:?}");
        gateway.assert_alive();
        drop(client);
        gateway.await_connections(1);
    }
    let observed = bystander.stop();
    assert!(observed.messages > 10, "{observed:?}");
}

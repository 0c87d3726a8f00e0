//! Subscribers that do not read.

use std::time::{Duration, Instant};

use gateway_tests::{Client, Gateway, Hello, ReasonCode};

use crate::bystander::Bystander;
use crate::small_window;
use crate::{MIB, QOS0, QOS1, V3_1_1, V5};

/// Publishes `rounds` times a window of messages at QoS 0 and waits each time until `healthy` has them all: it is
/// never behind by more than a window. The time that took.
fn drive(
    publisher: &mut Client,
    healthy: &mut Client,
    topic: &str,
    payload: &str,
    rounds: usize,
) -> Duration {
    const WINDOW: usize = 32;
    let began = Instant::now();
    for _ in 0..rounds {
        for _ in 0..WINDOW {
            publisher.send_publish(topic, payload, QOS0);
        }
        assert!(healthy.messages(WINDOW).iter().all(|message| message.payload == payload));
    }
    began.elapsed()
}

#[test]
fn a_live_subscriber_that_never_reads_costs_its_outbox_and_nobodys_time() {
    const OUTBOX: u64 = 2 * MIB;
    let mut gateway = Gateway::start_set(&["delivery.outbox_bytes_max=2MiB"]);
    let mut publisher = gateway.connect(V5, "publisher");
    let mut healthy = gateway.connect(V5, "healthy");
    healthy.subscribe(&[("plant/#", QOS0)]);
    let payload = "x".repeat(2_000);
    drive(&mut publisher, &mut healthy, "plant/1", &payload, 50);
    let alone = drive(&mut publisher, &mut healthy, "plant/1", &payload, 250);

    let mut stuck = Vec::new();
    for (number, qos) in [QOS0, QOS1].into_iter().enumerate() {
        let mut client = small_window::open(gateway.mqtt(), V3_1_1);
        client.greet(&Hello::new(V3_1_1, &format!("stuck-{number}")));
        client.subscribe(&[("plant/#", qos)]);
        stuck.push(client);
    }
    let before = gateway.memory();
    // 16 MB for each, with room for 2 and what the kernel takes.
    let beside = drive(&mut publisher, &mut healthy, "plant/1", &payload, 250);
    let after = gateway.memory();
    let metrics = gateway.metrics();
    let dropped = metrics.get("gateway_deliveries_dropped_total{reason=\"outbox_full\"}");
    eprintln!(
        "8,000 messages took {alone:?} alone and {beside:?} beside two that do not read; {dropped} dropped for those; \
         anonymous memory {} KiB before, {} KiB after",
        before.anonymous / 1024,
        after.anonymous / 1024
    );
    assert!(dropped > 2.0 * 2_000.0, "they were not stuck");
    assert!(after.anonymous <= before.anonymous + 2 * OUTBOX + 4 * MIB, "{before:?} {after:?}");
    assert!(beside <= alone * 3 + Duration::from_millis(500), "{alone:?} alone, {beside:?} beside them");
    gateway.assert_alive();
}

#[test]
fn a_live_subscriber_that_never_reads_may_be_disconnected_instead() {
    let gateway =
        Gateway::start_set(&["delivery.outbox_bytes_max=2MiB", "delivery.slow_subscriber=disconnect"]);
    let mut publisher = gateway.connect(V5, "publisher");
    let mut healthy = gateway.connect(V5, "healthy");
    healthy.subscribe(&[("plant/#", QOS0)]);
    let mut stuck = small_window::open(gateway.mqtt(), V5);
    stuck.greet(&Hello::new(V5, "stuck"));
    stuck.subscribe(&[("plant/#", QOS0)]);
    drive(&mut publisher, &mut healthy, "plant/1", &"x".repeat(2_000), 250);
    gateway.await_connections(2);
    drop(stuck);
    drive(&mut publisher, &mut healthy, "plant/1", "x", 10);
}

/// Keep Alive is about what the client says. One that says nothing is gone, whether or not the gateway has
/// something to say to it [MQTT-3.1.2-22].
#[test]
fn a_subscriber_that_neither_reads_nor_speaks_is_closed_by_its_keep_alive() {
    let gateway = Gateway::start_set(&["delivery.outbox_bytes_max=2MiB"]);
    let mut publisher = gateway.connect(V5, "publisher");
    let mut healthy = gateway.connect(V5, "healthy");
    healthy.subscribe(&[("plant/#", QOS0)]);
    let mut stuck = small_window::open(gateway.mqtt(), V5);
    stuck.greet(&Hello::new(V5, "stuck").keep_alive_secs(1));
    stuck.subscribe(&[("plant/#", QOS0)]);
    drive(&mut publisher, &mut healthy, "plant/1", &"x".repeat(2_000), 250);
    let dropped = gateway.metrics().get("gateway_deliveries_dropped_total{reason=\"outbox_full\"}");
    assert!(dropped > 0.0, "it is not stuck");
    gateway.await_connections(2);
    drop(stuck);
}

/// An outbox holds batches that are shared with all subscribers. One small message for a subscriber that does not
/// read must not keep the whole batch, with everybody else's messages in it, in memory.
#[test]
fn a_live_subscriber_that_never_reads_keeps_nobody_elses_messages_in_memory() {
    let mut gateway = Gateway::start_set(&["delivery.outbox_bytes_max=2MiB"]);
    let mut stuck = small_window::open(gateway.mqtt(), V3_1_1);
    stuck.greet(&Hello::new(V3_1_1, "stuck"));
    stuck.subscribe(&[("plant/stuck/#", QOS0)]);
    let mut publisher = gateway.connect(V5, "publisher");
    let mut healthy = gateway.connect(V5, "healthy");
    healthy.subscribe(&[("plant/healthy/#", QOS0)]);
    // Its socket is full: whatever comes now stays in the outbox.
    let large = "x".repeat(60_000);
    for _ in 0..100 {
        publisher.publish("plant/stuck/1", &large, QOS1);
    }
    let dropped = || gateway.metrics().get("gateway_deliveries_dropped_total{reason=\"outbox_full\"}");
    assert!(dropped() > 0.0, "its socket takes more than it should");

    let rest = "x".repeat(15_000);
    let mut round = |rounds: usize| {
        for _ in 0..rounds {
            // One read for the gateway, and so one batch: four large ones for the healthy one, a tiny one for the
            // other.
            let mut bytes = Vec::new();
            for (topic, payload) in
                [("plant/healthy/1", &*rest); 4].into_iter().chain([("plant/stuck/1", "")])
            {
                let frame = gateway_protocol::codec::PublishFrame {
                    dup: false,
                    qos: QOS0,
                    retain: false,
                    topic,
                    packet_id: None,
                    extra: &[],
                    properties: &[],
                    payload: payload.as_bytes(),
                };
                gateway_protocol::codec::encode_publish(&frame, V5, &mut bytes).unwrap();
            }
            publisher.send_bytes(&bytes);
            healthy.messages(4);
        }
    };
    round(20);
    let before = gateway.memory();
    let dropped_before = dropped();
    round(600);
    let after = gateway.memory();
    eprintln!(
        "600 tiny messages for one that does not read: anonymous memory {} KiB before, {} KiB after, {} dropped",
        before.anonymous / 1024,
        after.anonymous / 1024,
        dropped() - dropped_before
    );
    assert!(after.anonymous <= before.anonymous + 6 * MIB, "{before:?} {after:?}");
    gateway.assert_alive();
}

#[test]
fn a_durable_subscriber_that_never_reads_costs_disk() {
    let mut gateway = Gateway::start();
    let bystander = Bystander::start(gateway.mqtt());
    let hello = Hello::durable(V3_1_1, "stuck");
    let mut stuck = small_window::open(gateway.mqtt(), V3_1_1);
    stuck.greet(&hello);
    assert_eq!(stuck.subscribe(&[("plant/#", QOS1)]), [ReasonCode::GrantedQos1]);
    let mut publisher = gateway.connect(V5, "publisher");
    let payload = "x".repeat(10_000);
    let mut publish = |count: usize| {
        let mut ids = std::collections::VecDeque::new();
        for _ in 0..count {
            ids.extend(publisher.send_publish("plant/1", &payload, QOS1));
            if ids.len() == 100 {
                publisher.await_puback(ids.pop_front().unwrap());
            }
        }
        for id in ids {
            publisher.await_puback(id);
        }
    };
    // The newest 32 MiB of the log stay in memory for those who keep up.
    publish(5_000);
    let before = gateway.memory();
    publish(5_000);
    let after = gateway.memory();
    let observed = bystander.stop();
    eprintln!(
        "a backlog of 50 MB and another: anonymous memory {} KiB before, {} KiB after; {observed:?}",
        before.anonymous / 1024,
        after.anonymous / 1024
    );
    assert!(after.anonymous <= before.anonymous + 8 * MIB, "{before:?} {after:?}");
    // It reads at last, and everything is there.
    drop(stuck);
    let (mut client, present) = Client::connect(gateway.mqtt(), &hello);
    assert!(present);
    assert_eq!(client.messages(10_000).len(), 10_000);
    gateway.assert_alive();
}

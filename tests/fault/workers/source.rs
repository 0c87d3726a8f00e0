//! Publishers of a known number of events.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gateway_protocol::packet::Packet;
use gateway_protocol::{ProtocolVersion, QoS};
use gateway_tests::Hello;
use tokio::time::MissedTickBehavior;

use crate::event::Event;
use crate::sending::put_publish;
use crate::wire::Wire;

/// Events that may be unacknowledged.
const WINDOW: u32 = 250;
/// Between looks at what is due.
const TICK: Duration = Duration::from_millis(1);

/// When the events of one publisher were sent, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct SentAt(Arc<Mutex<Vec<Instant>>>);

impl SentAt {
    /// When this one was.
    pub(super) fn get(&self, number: u32) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(number as usize).copied()
    }

    fn push(&self, at: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(at);
    }
}

/// Publishes these events of one publisher, no faster than `per_second`, and returns when all are acknowledged.
pub(super) async fn publish(
    address: SocketAddr,
    publisher: u32,
    numbers: Range<u32>,
    per_second: f64,
    sent_at: Option<SentAt>,
) {
    let hello = Hello::new(ProtocolVersion::V5, &format!("source-{publisher}"));
    let (mut wire, _) = Wire::connect(address, &hello).await.expect("the gateway is up");
    let began = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut next, mut acknowledged) = (numbers.start, numbers.start);
    let mut out = Vec::new();
    while acknowledged < numbers.end {
        let due = (began.elapsed().as_secs_f64() * per_second).min(f64::from(u32::MAX)) as u32;
        let due = numbers.start.saturating_add(due).min(numbers.end);
        while next < due && next - acknowledged < WINDOW {
            put_publish(Event { publisher, number: next }, QoS::AtLeastOnce, false, wire.version(), &mut out);
            if let Some(sent_at) = &sent_at {
                sent_at.push(Instant::now());
            }
            next += 1;
        }
        if !out.is_empty() {
            wire.write(&out).await.expect("the gateway is up");
            out.clear();
        }
        tokio::select! {
            read = wire.read(|packet| {
                match packet {
                    Packet::PubAck(ack) => assert!(!ack.reason_code.is_error(), "{ack:?}"),
                    other => panic!("source {publisher}: {other:?}"),
                }
                acknowledged += 1;
                true
            }) => read.expect("the gateway is up"),
            _ = ticks.tick(), if next < numbers.end && next - acknowledged < WINDOW => {}
        }
    }
}

/// Publishes `events` by `publishers` at once, as fast as it goes.
pub(super) async fn publish_all(address: SocketAddr, publishers: Range<u32>, each: Range<u32>) {
    let tasks = publishers
        .map(|publisher| tokio::spawn(publish(address, publisher, each.clone(), f64::INFINITY, None)))
        .collect::<Vec<_>>();
    for task in tasks {
        task.await.expect("a publisher finishes");
    }
}

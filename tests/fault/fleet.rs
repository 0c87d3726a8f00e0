//! Publishers that keep to the rules: a window at QoS 1, and after a broken connection the same again, in order,
//! with DUP.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gateway_protocol::packet::Packet;
use gateway_protocol::{PacketId, ProtocolVersion, QoS, ReasonCode};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::event::Event;
use crate::sending::{connect, hello, packet_id, put_publish};
use crate::wire::{Wire, ends};

/// Events that one publisher has unacknowledged at most. At 100 events/s it needs one or two; the rest is for
/// catching up.
pub(crate) const WINDOW: usize = 64;
/// Between looks at what is due.
const TICK: Duration = Duration::from_millis(10);

/// What clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Orders {
    /// The gateway is up: connect.
    pub(crate) gateway_up: bool,
    /// Publish new events; else only what is unacknowledged.
    pub(crate) publish: bool,
}

/// Waits until the gateway is said to be up.
pub(crate) async fn gateway_up(orders: &mut watch::Receiver<Orders>) {
    orders.wait_for(|orders| orders.gateway_up).await.expect("the test goes on");
}

/// What the fleet has done so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) acknowledged: AtomicU64,
    pub(crate) retransmitted: AtomicU64,
    pub(crate) reconnected: AtomicU64,
}

/// One publisher.
pub(crate) struct Publisher {
    pub(crate) number: u32,
    pub(crate) address: SocketAddr,
    pub(crate) events_per_second: f64,
    pub(crate) began: Instant,
    /// When its events were acknowledged, for those who want to know.
    pub(crate) acknowledged: Option<Acknowledged>,
}

/// When the events of one publisher were acknowledged, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acknowledged(Arc<Mutex<Vec<Instant>>>);

impl Acknowledged {
    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.lock().len() as u32
    }

    /// How many there were before this moment.
    pub(crate) fn count_before(&self, moment: Instant) -> u32 {
        self.lock().partition_point(|at| *at < moment) as u32
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher {
    /// Publishes until the orders say no more and everything is acknowledged. How many events that were.
    pub(crate) async fn run(self, mut orders: watch::Receiver<Orders>, counts: &Counts) -> u32 {
        let hello = hello(self.number);
        let mut window = Window::default();
        let mut first = true;
        loop {
            let (wire, _) = connect(self.address, &hello, &mut orders).await;
            if !first {
                counts.reconnected.fetch_add(1, Ordering::Relaxed);
            }
            first = false;
            if self.publish(wire, &mut window, &mut orders, counts).await.is_ok() {
                return window.next;
            }
        }
    }

    /// On one connection. `Ok`: done.
    async fn publish(
        &self,
        mut wire: Wire,
        window: &mut Window,
        orders: &mut watch::Receiver<Orders>,
        counts: &Counts,
    ) -> io::Result<()> {
        let mut out = Vec::new();
        for number in &window.unacknowledged {
            self.put(*number, true, wire.version(), &mut out);
        }
        counts.retransmitted.fetch_add(window.unacknowledged.len() as u64, Ordering::Relaxed);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let wanted = orders.borrow().publish;
            if wanted {
                let due = (self.began.elapsed().as_secs_f64() * self.events_per_second) as u32;
                while window.next < due && window.unacknowledged.len() < WINDOW {
                    self.put(window.next, false, wire.version(), &mut out);
                    window.unacknowledged.push_back(window.next);
                    window.next += 1;
                }
            } else if window.unacknowledged.is_empty() {
                return Ok(());
            }
            if !out.is_empty() {
                wire.write(&out).await?;
                out.clear();
            }
            let mut acknowledged = 0;
            tokio::select! {
                read = wire.read(|packet| {
                    match packet {
                        Packet::PubAck(ack) => {
                            assert_eq!(ack.reason_code, ReasonCode::Success);
                            window.acknowledge(ack.packet_id);
                            acknowledged += 1;
                        }
                        // The end of the connection follows.
                        Packet::Disconnect(last) if ends(last.reason_code) => {}
                        other => panic!("publisher {}: {other:?}", self.number),
                    }
                    true
                }) => read?,
                _ = ticks.tick() => {}
            }
            counts.acknowledged.fetch_add(acknowledged, Ordering::Relaxed);
            if let Some(moments) = &self.acknowledged {
                moments.lock().extend((0..acknowledged).map(|_| Instant::now()));
            }
        }
    }

    fn put(&self, number: u32, dup: bool, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_publish(Event { publisher: self.number, number }, QoS::AtLeastOnce, dup, version, out);
    }
}

/// What is unacknowledged, in order, and the next new number.
#[derive(Debug, Default)]
struct Window {
    unacknowledged: VecDeque<u32>,
    next: u32,
}

impl Window {
    fn acknowledge(&mut self, acknowledged: PacketId) {
        let oldest = self.unacknowledged.pop_front();
        assert_eq!(
            oldest.map(packet_id),
            Some(acknowledged),
            "PUBACKs come in the order of the publishes [MQTT-4.6.0-2]"
        );
    }
}

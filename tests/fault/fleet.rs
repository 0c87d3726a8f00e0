//! Publishers that keep to the rules: a window at QoS 1, and after a broken connection the same again, in order,
//! with DUP.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gateway_protocol::codec::{PublishFrame, encode_publish};
use gateway_protocol::packet::Packet;
use gateway_protocol::{PacketId, ProtocolVersion, QoS, ReasonCode};
use gateway_tests::Hello;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::event::Event;
use crate::wire::{Wire, ends};

/// Events that one publisher has unacknowledged at most. At 100 events/s it needs one or two; the rest is for
/// catching up.
pub(crate) const WINDOW: usize = 64;
/// Between looks at what is due.
const TICK: Duration = Duration::from_millis(10);
/// Before another attempt to connect to a gateway that is said to be up.
const RETRY: Duration = Duration::from_millis(20);

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
        // Both versions, and sessions that the gateway has to keep for them.
        let version =
            if self.number.is_multiple_of(2) { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
        let hello = Hello::durable(version, &format!("publisher-{}", self.number));
        let mut window = Window::default();
        let mut first = true;
        loop {
            gateway_up(&mut orders).await;
            match Wire::connect(self.address, &hello).await {
                Ok((wire, _)) => {
                    if !first {
                        counts.reconnected.fetch_add(1, Ordering::Relaxed);
                    }
                    first = false;
                    if self.publish(wire, &mut window, &mut orders, counts).await.is_ok() {
                        return window.next;
                    }
                }
                Err(_) => tokio::time::sleep(RETRY).await,
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
        let topic = format!("devices/{}/telemetry", self.number);
        let mut out = Vec::new();
        for number in &window.unacknowledged {
            self.put(*number, true, &topic, wire.version(), &mut out);
        }
        counts.retransmitted.fetch_add(window.unacknowledged.len() as u64, Ordering::Relaxed);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let wanted = orders.borrow().publish;
            if wanted {
                let due = (self.began.elapsed().as_secs_f64() * self.events_per_second) as u32;
                while window.next < due && window.unacknowledged.len() < WINDOW {
                    self.put(window.next, false, &topic, wire.version(), &mut out);
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

    fn put(&self, number: u32, dup: bool, topic: &str, version: ProtocolVersion, out: &mut Vec<u8>) {
        let payload = Event { publisher: self.number, number }.payload();
        let frame = PublishFrame {
            dup,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic,
            packet_id: Some(packet_id(number)),
            extra: &[],
            properties: &[],
            payload: &payload,
        };
        encode_publish(&frame, version, out).expect("a legal PUBLISH");
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

fn packet_id(number: u32) -> PacketId {
    PacketId::new((number % 65_535) as u16 + 1).expect("not 0")
}

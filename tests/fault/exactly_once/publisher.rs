//! The sending half of QoS 2: what is in flight outlives the connection, and is taken up again where it was.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gateway_protocol::packet::{Ack, Packet};
use gateway_protocol::{PacketId, Properties, ProtocolVersion, QoS, ReasonCode, encode};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::event::Event;
use crate::fleet::Orders;
use crate::sending::{connect, hello, packet_id, put_publish};
use crate::wire::Wire;

/// Events that one publisher has in flight at most.
const WINDOW: usize = 32;
/// Between writes. PUBRELs wait for the next one, so that an end of the gateway meets flows in every state.
const TICK: Duration = Duration::from_millis(20);
/// Parts of a period over which publishers are spread.
const PHASES: u32 = 50;

/// What all publishers have done so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Events whose PUBCOMP came.
    pub(crate) completed: AtomicU64,
    /// PUBLISH sent again, since no PUBREC had come.
    pub(crate) published_again: AtomicU64,
    /// PUBREL sent again, since no PUBCOMP had come.
    pub(crate) released_again: AtomicU64,
    /// PUBCOMP for an identifier that the gateway had forgotten already.
    pub(crate) forgotten: AtomicU64,
}

/// One publisher.
pub(crate) struct Publisher {
    pub(crate) number: u32,
    pub(crate) address: SocketAddr,
    pub(crate) events_per_second: f64,
    pub(crate) began: Instant,
}

impl Publisher {
    /// Publishes until the orders say no more and every PUBCOMP is there. How many events that were.
    pub(crate) async fn run(self, mut orders: watch::Receiver<Orders>, counts: &Counts) -> u32 {
        let hello = hello(self.number);
        let mut flows = Flows::default();
        let mut connected_before = false;
        loop {
            let (wire, session_present) = connect(self.address, &hello, &mut orders).await;
            assert!(session_present || !connected_before, "the session of {} is lost", hello.client_id);
            connected_before = true;
            if self.publish(wire, &mut flows, &mut orders, counts).await.is_ok() {
                return flows.next;
            }
        }
    }

    /// On one connection. `Ok`: done.
    async fn publish(
        &self,
        mut wire: Wire,
        flows: &mut Flows,
        orders: &mut watch::Receiver<Orders>,
        counts: &Counts,
    ) -> io::Result<()> {
        let version = wire.version();
        let mut out = Vec::new();
        // In the order of the first time [MQTT-4.6.0-1], with the original identifiers [MQTT-4.4.0-1].
        for flow in &mut flows.in_flight {
            if flow.received {
                flow.released_again = true;
                put_pubrel(packet_id(flow.number), version, &mut out);
                counts.released_again.fetch_add(1, Ordering::Relaxed);
            } else {
                self.put_publish(flow.number, true, version, &mut out);
                counts.published_again.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Not in step with the other publishers, which came back at the same moment.
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + self.phase(TICK), TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let read = wire.read(|packet| {
                match packet {
                    Packet::PubRec(ack) => {
                        assert_eq!(ack.reason_code, ReasonCode::Success, "publisher {}", self.number);
                        flows.receive(ack.packet_id);
                        put_pubrel(ack.packet_id, version, &mut out);
                    }
                    Packet::PubComp(ack) => flows.complete(&ack, counts),
                    // The drain; the end of the connection follows.
                    Packet::Disconnect(last) if last.reason_code == ReasonCode::ServerShuttingDown => {}
                    other => panic!("publisher {}: {other:?}", self.number),
                }
                true
            });
            tokio::select! {
                read = read => {
                    read?;
                    continue;
                }
                _ = ticks.tick() => {}
            }
            if orders.borrow().publish {
                let period = Duration::from_secs_f64(self.events_per_second.recip());
                let elapsed = self.began.elapsed() + self.phase(period);
                let due = (elapsed.as_secs_f64() * self.events_per_second) as u32;
                while flows.next < due && flows.in_flight.len() < WINDOW {
                    self.put_publish(flows.next, false, version, &mut out);
                    flows.begin();
                }
            } else if flows.in_flight.is_empty() {
                return Ok(());
            }
            if !out.is_empty() {
                wire.write(&out).await?;
                out.clear();
            }
        }
    }

    /// A share of `period`, different from publisher to publisher.
    fn phase(&self, period: Duration) -> Duration {
        period * (self.number % PHASES) / PHASES
    }

    fn put_publish(&self, number: u32, dup: bool, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_publish(Event { publisher: self.number, number }, QoS::ExactlyOnce, dup, version, out);
    }
}

/// One event between its PUBLISH and its PUBCOMP.
#[derive(Debug)]
struct Flow {
    number: u32,
    /// PUBREC has come: PUBREL is what is to be repeated, never PUBLISH.
    received: bool,
    /// PUBREL was repeated, so that its identifier may be unknown by now.
    released_again: bool,
}

/// All that is in flight, in order, and the next new number.
#[derive(Debug, Default)]
struct Flows {
    in_flight: VecDeque<Flow>,
    next: u32,
}

impl Flows {
    fn begin(&mut self) {
        self.in_flight.push_back(Flow { number: self.next, received: false, released_again: false });
        self.next += 1;
    }

    fn receive(&mut self, received: PacketId) {
        let oldest = self.in_flight.iter_mut().find(|flow| !flow.received);
        let oldest = oldest.unwrap_or_else(|| panic!("PUBREC {received:?} answers no PUBLISH"));
        assert_eq!(
            packet_id(oldest.number),
            received,
            "PUBRECs come in the order of the publishes [MQTT-4.6.0-3]"
        );
        oldest.received = true;
    }

    fn complete(&mut self, ack: &Ack<'_>, counts: &Counts) {
        let found =
            self.in_flight.iter().position(|flow| flow.received && packet_id(flow.number) == ack.packet_id);
        let flow = found.and_then(|at| self.in_flight.remove(at));
        let flow = flow.unwrap_or_else(|| panic!("PUBCOMP {:?} answers no PUBREL", ack.packet_id));
        match ack.reason_code {
            ReasonCode::Success => {}
            ReasonCode::PacketIdentifierNotFound if flow.released_again => {
                counts.forgotten.fetch_add(1, Ordering::Relaxed);
            }
            other => panic!("PUBCOMP of {flow:?}: {other:?}"),
        }
        counts.completed.fetch_add(1, Ordering::Relaxed);
    }
}

fn put_pubrel(packet_id: PacketId, version: ProtocolVersion, out: &mut Vec<u8>) {
    let ack = Ack { packet_id, reason_code: ReasonCode::Success, properties: Properties::default() };
    encode(&Packet::PubRel(ack), version, out).expect("a legal PUBREL");
}

//! One connection of a replay: reads the capture, keeps to its own topics, and publishes each message when it is due.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_protocol::packet::{Packet, Publish};
use gateway_protocol::{PacketId, Properties, ProtocolVersion, QoS, TopicName};
use hdrhistogram::Histogram;
use tokio::sync::watch;

use super::Speed;
use crate::capture::Message;
use crate::capture::anonymise::Anonymiser;
use crate::capture::file::{Item, Reader};
use crate::capture::link::{Link, LinkError};
use crate::command::CommandError;
use crate::process;
use crate::stop::Stop;

/// What is gathered for one write.
const WRITE_BYTES: usize = 32 << 10;
/// How long one look at the connection takes at most, so that a signal is seen.
const LOOK: Duration = Duration::from_millis(100);
/// At the end: how long without an acknowledgement the rest is waited for.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// What all senders do.
pub(super) struct Plan {
    pub(super) address: SocketAddr,
    pub(super) version: ProtocolVersion,
    pub(super) speed: Speed,
    pub(super) shift: Duration,
    pub(super) from: Duration,
    pub(super) until: Duration,
    pub(super) connections: u16,
    pub(super) qos_max: QoS,
    pub(super) window: u16,
    pub(super) prefix: String,
    pub(super) anonymiser: Option<Anonymiser>,
}

/// One connection.
pub(super) struct Sender {
    plan: Arc<Plan>,
    number: u16,
    link: Link,
    books: Books,
    /// What may be unacknowledged, as the broker allows.
    window: u16,
    next_id: u16,
}

/// What was sent and what is awaited.
struct Books {
    /// When what is unacknowledged was due.
    in_flight: HashMap<PacketId, Instant>,
    sent: Sent,
}

/// Sums of one or more senders.
pub(super) struct Sent {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) unacknowledged: u64,
    pub(super) withheld: u64,
    /// From due to acknowledged, microseconds.
    pub(super) latency: Histogram<u64>,
    /// From due to written by this program's own doing, microseconds.
    pub(super) lag: Histogram<u64>,
    pub(super) complete: bool,
}

impl Sent {
    pub(super) fn new() -> Result<Self, CommandError> {
        let histogram = || {
            Histogram::new_with_bounds(1, 600_000_000, 3)
                .map_err(|error| CommandError::CouldNotRun(error.to_string()))
        };
        let (latency, lag) = (histogram()?, histogram()?);
        Ok(Sent {
            sent: 0,
            acknowledged: 0,
            refused: 0,
            unacknowledged: 0,
            withheld: 0,
            latency,
            lag,
            complete: true,
        })
    }

    pub(super) fn add(&mut self, more: &Sent) {
        self.sent += more.sent;
        self.acknowledged += more.acknowledged;
        self.refused += more.refused;
        self.unacknowledged += more.unacknowledged;
        self.withheld += more.withheld;
        self.complete &= more.complete;
        // All have the same bounds, so nothing is out of range.
        let _ = self.latency.add(&more.latency);
        let _ = self.lag.add(&more.lag);
    }
}

impl Sender {
    pub(super) fn connect(plan: Arc<Plan>, number: u16) -> Result<Self, CommandError> {
        let client_id = format!("device-sim-replay-{:08x}", process::fresh_number() as u32);
        let link = Link::connect(plan.address, &client_id, plan.version).map_err(could_not)?;
        let books = Books { in_flight: HashMap::new(), sent: Sent::new()? };
        let window = plan.window.min(link.receive_maximum());
        Ok(Sender { plan, number, link, books, window, next_id: 0 })
    }

    /// Publishes what is this connection's, until the capture ends or someone stops it.
    pub(super) fn play(
        mut self,
        mut capture: Reader<impl Read>,
        began: Instant,
        stop: &watch::Receiver<Stop>,
    ) -> Result<Sent, CommandError> {
        let unreadable =
            |error| CommandError::CouldNotRun(format!("cannot go on reading the capture: {error}"));
        while *stop.borrow() == Stop::No {
            let message = match capture.next().map_err(unreadable)? {
                Some(Item::Message(message)) => message,
                Some(Item::CutShort { .. }) => {
                    self.books.sent.complete = false;
                    break;
                }
                Some(Item::End(_)) | None => break,
            };
            let at = Duration::from_micros(message.at_us);
            if at < self.plan.from || at >= self.plan.until || !self.is_own(&message.topic) {
                continue;
            }
            let due = began + self.plan.shift + self.plan.speed.due(at.saturating_sub(self.plan.from));
            let message = match &self.plan.anonymiser {
                Some(anonymiser) => anonymiser.apply(message),
                None => Some(message),
            };
            match message {
                Some(message) => self.send(message, due, stop).map_err(could_not)?,
                None => self.books.sent.withheld += 1,
            }
        }
        self.drain(stop).map_err(could_not)?;
        self.link.disconnect();
        Ok(self.books.sent)
    }

    /// Topics are spread by their hash, which is the same in every process.
    fn is_own(&self, topic: &str) -> bool {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(topic);
        hash % u64::from(self.plan.connections) == u64::from(self.number)
    }

    fn send(
        &mut self,
        message: Message,
        due: Instant,
        stop: &watch::Receiver<Stop>,
    ) -> Result<(), LinkError> {
        let mut free_since = due;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            let is_full = self.books.in_flight.len() >= usize::from(self.window);
            if left.is_zero() && !is_full {
                break;
            }
            if *stop.borrow() != Stop::No {
                return Ok(());
            }
            self.poll(if is_full { LOOK } else { left.min(LOOK) })?;
            if is_full {
                // Waiting for the broker is not this program's lag.
                free_since = Instant::now().max(due);
            }
        }
        let topic = format!("{}{}", self.plan.prefix, message.topic);
        let qos = message.qos.min(self.plan.qos_max);
        if TopicName::parse(&topic).is_err() {
            self.books.sent.refused += 1;
            return Ok(());
        }
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.free_id()).flatten();
        let properties = match self.link.version().is_v5() {
            true => message.properties.as_properties(),
            false => Properties::default(),
        };
        self.link.put(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain: message.retain,
            topic: &topic,
            packet_id,
            properties,
            payload: &message.payload,
        }))?;
        let lag = free_since.elapsed().as_micros() as u64;
        self.books.sent.lag.saturating_record(if self.plan.speed == Speed::Max { 0 } else { lag });
        self.books.sent.sent += 1;
        if let Some(packet_id) = packet_id {
            // As fast as it goes, nothing is due before it is sent.
            let due = if self.plan.speed == Speed::Max { Instant::now() } else { due };
            self.books.in_flight.insert(packet_id, due);
        }
        if self.link.unwritten() >= WRITE_BYTES || self.plan.speed != Speed::Max {
            self.link.flush()?;
        }
        Ok(())
    }

    /// A Packet Identifier that is not in use.
    fn free_id(&mut self) -> Option<PacketId> {
        for _ in 0..u16::MAX {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            let id = PacketId::new(self.next_id).filter(|id| !self.books.in_flight.contains_key(id));
            if id.is_some() {
                return id;
            }
        }
        None
    }

    fn poll(&mut self, wait: Duration) -> Result<(), LinkError> {
        let books = &mut self.books;
        self.link.poll(wait, |packet, replies| match packet {
            Packet::PubAck(ack) | Packet::PubComp(ack) => {
                books.done(ack.packet_id, !ack.reason_code.is_error());
                Ok(())
            }
            Packet::PubRec(ack) if ack.reason_code.is_error() => {
                books.done(ack.packet_id, false);
                Ok(())
            }
            Packet::PubRec(ack) => replies.release(ack.packet_id),
            _ => Ok(()),
        })
    }

    fn drain(&mut self, stop: &watch::Receiver<Stop>) -> Result<(), LinkError> {
        self.link.flush()?;
        let (mut left, mut since) = (self.books.in_flight.len(), Instant::now());
        while left > 0 && since.elapsed() < DRAIN_PATIENCE && *stop.borrow() != Stop::Now {
            self.poll(LOOK)?;
            if self.books.in_flight.len() < left {
                (left, since) = (self.books.in_flight.len(), Instant::now());
            }
        }
        self.books.sent.unacknowledged = left as u64;
        Ok(())
    }
}

impl Books {
    fn done(&mut self, packet_id: PacketId, accepted: bool) {
        let Some(due) = self.in_flight.remove(&packet_id) else { return };
        match accepted {
            true => self.sent.acknowledged += 1,
            false => self.sent.refused += 1,
        }
        self.sent.latency.saturating_record(due.elapsed().as_micros() as u64);
    }
}

fn could_not(error: LinkError) -> CommandError {
    CommandError::CouldNotRun(error.to_string())
}

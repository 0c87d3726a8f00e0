//! Families of connections and of what they bring: the publisher's books. `received = accepted + rejected + shed`.

use super::task::Outcome;
use crate::delivery::metrics::{self as delivery, Dropped};
use crate::ingest::Refusal;
use gateway_protocol::QoS;
use metrics::{Counter, Unit, counter, describe_counter};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

static RECEIVED: AtomicU64 = AtomicU64::new(0);
static SENT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Sums since the process started, for those who do not scrape.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// PUBLISH packets received.
    pub received: u64,
    /// PUBLISH packets sent.
    pub sent: u64,
    /// Bytes of packets received.
    pub bytes_received: u64,
}

/// The sums as they stand.
#[must_use]
pub fn totals() -> Totals {
    Totals {
        received: RECEIVED.load(Ordering::Relaxed),
        sent: SENT.load(Ordering::Relaxed),
        bytes_received: BYTES.load(Ordering::Relaxed),
    }
}

/// How a connection attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connect {
    Accepted,
    /// CONNECT did not come in time.
    TimedOut,
    /// The bytes were no CONNECT.
    Malformed,
    /// CONNECT asked for what is not offered.
    Refused,
    /// The peer went away.
    Gone,
    TooMany,
    NotAuthorized,
    /// Whoever had the Client Identifier did not leave.
    TakeoverTimedOut,
    /// The log took no entry.
    Unavailable,
}

impl Connect {
    const ALL: [Self; 9] = [
        Self::Accepted,
        Self::TimedOut,
        Self::Malformed,
        Self::Refused,
        Self::Gone,
        Self::TooMany,
        Self::NotAuthorized,
        Self::TakeoverTimedOut,
        Self::Unavailable,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::TimedOut => "timed_out",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::TooMany => "too_many",
            Self::NotAuthorized => "not_authorized",
            Self::TakeoverTimedOut => "takeover_timed_out",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why events that were staged are not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotStored {
    /// `storage.max_bytes` is reached.
    LogFull,
    /// The log has failed.
    LogUnavailable,
}

const ENDS: [&str; 3] = ["left", "lost", "closed"];
const REJECTIONS: [&str; 5] = ["reserved_topic", "too_large", "retained_full", "log_full", "log_unavailable"];

struct Families {
    connects: [Counter; 9],
    disconnects: [Counter; 3],
    packets: Counter,
    bytes: Counter,
    received: [Counter; 3],
    live: Counter,
    unwanted: Counter,
    duplicate: Counter,
    rejected: [Counter; 5],
    sessions_left_open: Counter,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| Families {
    connects: Connect::ALL.map(|outcome| counter!("gateway_connects_total", "outcome" => outcome.label())),
    disconnects: ENDS.map(|cause| counter!("gateway_disconnects_total", "cause" => cause)),
    packets: counter!("gateway_packets_received_total"),
    bytes: counter!("gateway_bytes_received_total"),
    received: ["0", "1", "2"].map(|qos| counter!("gateway_events_received_total", "qos" => qos)),
    live: counter!("gateway_events_accepted_total", "kind" => "live"),
    unwanted: counter!("gateway_events_accepted_total", "kind" => "unwanted"),
    duplicate: counter!("gateway_events_accepted_total", "kind" => "duplicate"),
    rejected: REJECTIONS.map(|reason| counter!("gateway_events_rejected_total", "reason" => reason)),
    sessions_left_open: counter!("gateway_sessions_left_open_total"),
});

/// Names the families for `/metrics`.
pub fn describe() {
    describe_counter!(
        "gateway_connects_total",
        Unit::Count,
        "Connections by how the attempt to connect ended"
    );
    describe_counter!(
        "gateway_disconnects_total",
        Unit::Count,
        "Connections ended: left by DISCONNECT, lost without one, or closed by the gateway"
    );
    describe_counter!(
        "gateway_packets_received_total",
        Unit::Count,
        "Control Packets received after CONNECT"
    );
    describe_counter!(
        "gateway_bytes_received_total",
        Unit::Bytes,
        "Bytes of Control Packets received after CONNECT"
    );
    describe_counter!("gateway_events_received_total", Unit::Count, "PUBLISH packets received, by QoS");
    describe_counter!(
        "gateway_events_accepted_total",
        Unit::Count,
        "Events taken: stored in the log, handed to live subscribers only, wanted by nobody, or stored before under the same event-id"
    );
    describe_counter!("gateway_events_rejected_total", Unit::Count, "Events not taken, by reason");
    describe_counter!(
        "gateway_sessions_left_open_total",
        Unit::Count,
        "Ends of connections that could not be logged at once; they are logged when the log takes entries again"
    );
    LazyLock::force(&FAMILIES);
}

pub(super) fn connect(outcome: Connect) {
    if let Some((_, counter)) =
        Connect::ALL.iter().zip(&FAMILIES.connects).find(|(known, _)| **known == outcome)
    {
        counter.increment(1);
    }
}

pub(super) fn disconnect(outcome: &Outcome) {
    let [left, lost, closed] = &FAMILIES.disconnects;
    match outcome {
        Outcome::Left | Outcome::LeftWithWill => left.increment(1),
        Outcome::Lost => lost.increment(1),
        Outcome::Closed(_) => closed.increment(1),
    }
}

/// PINGREQs that were answered out of their turn.
pub(super) fn pings(count: u64) {
    add(&FAMILIES.packets, count);
    add(&FAMILIES.bytes, 2 * count);
    BYTES.fetch_add(2 * count, Ordering::Relaxed);
}

pub(super) fn session_left_open() {
    FAMILIES.sessions_left_open.increment(1);
}

/// A Will Message was published: it counts as received from its client.
pub fn will(qos: u8) {
    if let Some(counter) = FAMILIES.received.get(usize::from(qos)) {
        counter.increment(1);
    }
}

/// Events that were counted as accepted when they were staged turn out not to be.
pub(super) fn not_stored(reason: NotStored, events: usize) {
    let [_, _, _, log_full, log_unavailable] = &FAMILIES.rejected;
    match reason {
        NotStored::LogFull => log_full.increment(events as u64),
        NotStored::LogUnavailable => log_unavailable.increment(events as u64),
    }
}

/// What one read brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    events: [u64; 3],
    pub(super) live: u64,
    pub(super) unwanted: u64,
    pub(super) duplicates: u64,
    reserved_topic: u64,
    too_large: u64,
    retained_full: u64,
}

impl Received {
    pub(super) fn event(&mut self, qos: QoS) {
        let [at_most_once, at_least_once, exactly_once] = &mut self.events;
        match qos {
            QoS::AtMostOnce => *at_most_once += 1,
            QoS::AtLeastOnce => *at_least_once += 1,
            QoS::ExactlyOnce => *exactly_once += 1,
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::ReservedTopic => self.reserved_topic += 1,
            Refusal::TooLarge => self.too_large += 1,
            Refusal::RetainedFull => self.retained_full += 1,
        }
    }

    pub(super) fn report(&self) {
        let families = &*FAMILIES;
        RECEIVED.fetch_add(self.events.iter().sum(), Ordering::Relaxed);
        BYTES.fetch_add(self.bytes, Ordering::Relaxed);
        families.packets.increment(self.packets);
        families.bytes.increment(self.bytes);
        for (counter, count) in families.received.iter().zip(self.events) {
            add(counter, count);
        }
        add(&families.live, self.live);
        add(&families.unwanted, self.unwanted);
        add(&families.duplicate, self.duplicates);
        let [reserved_topic, too_large, retained_full, ..] = &families.rejected;
        add(reserved_topic, self.reserved_topic);
        add(too_large, self.too_large);
        add(retained_full, self.retained_full);
    }
}

/// What was sent since the last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    by_qos: [u64; 3],
    /// Live messages that are done with: sent at QoS 0, or acknowledged.
    pub(super) acked: u64,
    pub(super) expired: u64,
    pub(super) too_large: u64,
    /// Read from a stream: routed by the very act of being sent.
    pub(super) routed: u64,
}

impl Sent {
    pub(super) fn sent(&mut self, qos: QoS, is_durable: bool) {
        let [at_most_once, at_least_once, exactly_once] = &mut self.by_qos;
        match qos {
            QoS::AtMostOnce => {
                *at_most_once += 1;
                self.acked += u64::from(!is_durable);
            }
            QoS::AtLeastOnce => *at_least_once += 1,
            QoS::ExactlyOnce => *exactly_once += 1,
        }
    }

    /// So many live messages at once.
    pub(super) fn sent_live(&mut self, qos: QoS, count: usize) {
        let count = count as u64;
        if let Some(sent) = self.by_qos.get_mut(usize::from(qos.as_u8())) {
            *sent += count;
        }
        if qos == QoS::AtMostOnce {
            self.acked += count;
        }
    }

    /// Messages that will never be sent.
    pub(super) const fn undeliverable(&self) -> u64 {
        self.expired + self.too_large
    }

    pub(super) fn report(&mut self) {
        let counts = std::mem::take(self);
        if counts == Self::default() {
            return;
        }
        SENT.fetch_add(counts.by_qos.iter().sum(), Ordering::Relaxed);
        delivery::sent(counts.by_qos);
        delivery::routed(counts.routed);
        delivery::acked(counts.acked);
        if counts.expired > 0 {
            delivery::expired(counts.expired);
        }
        if counts.too_large > 0 {
            delivery::dropped(Dropped::TooLarge, counts.too_large);
        }
    }
}

fn add(counter: &Counter, count: u64) {
    if count > 0 {
        counter.increment(count);
    }
}

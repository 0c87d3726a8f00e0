//! Families of connections and of what they bring: the publisher's books. `received = accepted + rejected + shed`.

use super::task::Outcome;
use crate::decisions::Reason;
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
    /// As many as may be from its address.
    TooManyFromAddress,
    /// As many as may be on its listener.
    TooManyOnListener,
    /// Connects come too fast, or faster than they are taken under pressure.
    Paced(Reason),
    /// The client connects again and again.
    Flapping,
    /// No sessions are made under this pressure.
    NoNewSessions,
}

impl Connect {
    const LABELS: [&str; 14] = [
        "accepted",
        "timed_out",
        "malformed",
        "refused",
        "gone",
        "too_many",
        "not_authorized",
        "takeover_timed_out",
        "unavailable",
        "too_many_from_address",
        "too_many_on_listener",
        "paced",
        "flapping",
        "no_new_sessions",
    ];

    /// Why it was refused, as the decision log has it; `None` where it was not, or the peer left on its own account.
    pub(super) const fn reason(self) -> Option<Reason> {
        Some(match self {
            Self::Accepted | Self::Gone => return None,
            Self::TimedOut => Reason::ConnectTimeout,
            Self::Malformed => Reason::Malformed,
            Self::Refused => Reason::ConnectRefused,
            Self::TooMany => Reason::MaxConnections,
            Self::NotAuthorized => Reason::NotAuthorized,
            Self::TakeoverTimedOut => Reason::TakeoverTimedOut,
            Self::Unavailable => Reason::LogUnavailable,
            Self::TooManyFromAddress => Reason::AddressConnections,
            Self::TooManyOnListener => Reason::ListenerConnections,
            Self::Paced(reason) => reason,
            Self::Flapping => Reason::Flapping,
            Self::NoNewSessions => Reason::NoNewSessions,
        })
    }

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
            Self::TooManyFromAddress => "too_many_from_address",
            Self::TooManyOnListener => "too_many_on_listener",
            Self::Paced(_) => "paced",
            Self::Flapping => "flapping",
            Self::NoNewSessions => "no_new_sessions",
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

impl NotStored {
    /// As the decision log has it.
    pub(super) const fn reason(self) -> Reason {
        match self {
            Self::LogFull => Reason::LogFull,
            Self::LogUnavailable => Reason::LogUnavailable,
        }
    }
}

/// Why events are shed: the closed list of the family's label.
const SHED: [Reason; 9] = [
    Reason::OverShare,
    Reason::ShedBulk,
    Reason::ShedNormal,
    Reason::ReadOnly,
    Reason::Offender,
    Reason::ClientEventRate,
    Reason::ClientByteRate,
    Reason::ListenerEventRate,
    Reason::ListenerByteRate,
];

const ENDS: [&str; 3] = ["left", "lost", "closed"];
const REJECTIONS: [&str; 8] = [
    "reserved_topic",
    "too_large",
    "retained_full",
    "log_full",
    "log_unavailable",
    "payload_too_large",
    "offender",
    "over_rate",
];

struct Families {
    connects: [Counter; 14],
    disconnects: [Counter; 3],
    packets: Counter,
    bytes: Counter,
    received: [Counter; 3],
    live: Counter,
    unwanted: Counter,
    duplicate: Counter,
    rejected: [Counter; 8],
    shed: [Counter; SHED.len()],
    sessions_left_open: Counter,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| Families {
    connects: Connect::LABELS.map(|outcome| counter!("gateway_connects_total", "outcome" => outcome)),
    disconnects: ENDS.map(|cause| counter!("gateway_disconnects_total", "cause" => cause)),
    packets: counter!("gateway_packets_received_total"),
    bytes: counter!("gateway_bytes_received_total"),
    received: ["0", "1", "2"].map(|qos| counter!("gateway_events_received_total", "qos" => qos)),
    live: counter!("gateway_events_accepted_total", "kind" => "live"),
    unwanted: counter!("gateway_events_accepted_total", "kind" => "unwanted"),
    duplicate: counter!("gateway_events_accepted_total", "kind" => "duplicate"),
    rejected: REJECTIONS.map(|reason| counter!("gateway_events_rejected_total", "reason" => reason)),
    shed: SHED.map(|reason| counter!("gateway_events_shed_total", "reason" => reason.label())),
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
    describe_counter!("gateway_events_shed_total", Unit::Count, "Events given up under pressure, by reason");
    describe_counter!("gateway_events_rejected_total", Unit::Count, "Events not taken, by reason");
    describe_counter!(
        "gateway_sessions_left_open_total",
        Unit::Count,
        "Ends of connections that could not be logged at once; they are logged when the log takes entries again"
    );
    LazyLock::force(&FAMILIES);
}

pub(super) fn connect(outcome: Connect) {
    let known = |(label, _): &(&str, &Counter)| *label == outcome.label();
    if let Some((_, counter)) = Connect::LABELS.into_iter().zip(&FAMILIES.connects).find(known) {
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
    let [_, _, _, log_full, log_unavailable, ..] = &FAMILIES.rejected;
    match reason {
        NotStored::LogFull => log_full.increment(events as u64),
        NotStored::LogUnavailable => log_unavailable.increment(events as u64),
    }
}

/// What one read brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Control Packets.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    events: [u64; 3],
    /// Events that only live subscribers want.
    pub live: u64,
    /// Events that nobody wants.
    pub unwanted: u64,
    /// Events that were stored before, under the same event-id.
    pub duplicates: u64,
    reserved_topic: u64,
    too_large: u64,
    retained_full: u64,
    payload_too_large: u64,
    offender: u64,
    over_rate: u64,
    shed: [u64; SHED.len()],
}

impl Received {
    /// A PUBLISH packet.
    pub fn event(&mut self, qos: QoS) {
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
            Refusal::PayloadTooLarge => self.payload_too_large += 1,
        }
    }

    /// An event was given up. A reason that is none of the list, which there is not, counts as the first.
    pub(super) fn shed(&mut self, reason: Reason) {
        let at = SHED.iter().position(|known| *known == reason).unwrap_or(0);
        if let Some(count) = self.shed.get_mut(at) {
            *count += 1;
        }
    }

    /// An event above QoS 0 was not taken, for a rate it is over, or ended its connection.
    pub(super) fn reject(&mut self, reason: Reason) {
        match reason {
            Reason::Offender => self.offender += 1,
            _ => self.over_rate += 1,
        }
    }

    /// Adds it to the books.
    pub fn report(&self) {
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
        let [reserved_topic, too_large, retained_full, _, _, payload_too_large, offender, over_rate] =
            &families.rejected;
        add(reserved_topic, self.reserved_topic);
        add(too_large, self.too_large);
        add(retained_full, self.retained_full);
        add(payload_too_large, self.payload_too_large);
        add(offender, self.offender);
        add(over_rate, self.over_rate);
        for (counter, count) in families.shed.iter().zip(self.shed) {
            add(counter, count);
        }
    }
}

/// What was sent since the last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    by_qos: [u32; 3],
    /// Live messages that are done with: sent at QoS 0, or acknowledged.
    pub acked: u32,
    /// Messages whose Message Expiry Interval had passed.
    pub expired: u32,
    /// Messages larger than the client's Maximum Packet Size.
    pub too_large: u32,
    /// Read from a stream: routed by the very act of being sent.
    pub routed: u32,
}

impl Sent {
    pub(super) fn sent(&mut self, qos: QoS, is_durable: bool) {
        let [at_most_once, at_least_once, exactly_once] = &mut self.by_qos;
        match qos {
            QoS::AtMostOnce => {
                *at_most_once += 1;
                self.acked += u32::from(!is_durable);
            }
            QoS::AtLeastOnce => *at_least_once += 1,
            QoS::ExactlyOnce => *exactly_once += 1,
        }
    }

    /// So many live messages at once.
    pub fn sent_live(&mut self, qos: QoS, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if let Some(sent) = self.by_qos.get_mut(usize::from(qos.as_u8())) {
            *sent += count;
        }
        if qos == QoS::AtMostOnce {
            self.acked += count;
        }
    }

    /// Messages that will never be sent.
    pub(super) const fn undeliverable(&self) -> u32 {
        self.expired + self.too_large
    }

    /// Adds it to the books, and begins anew.
    pub fn report(&mut self) {
        let counts = std::mem::take(self);
        if counts == Self::default() {
            return;
        }
        let by_qos = counts.by_qos.map(u64::from);
        SENT.fetch_add(by_qos.iter().sum(), Ordering::Relaxed);
        delivery::sent(by_qos);
        // A counter is a line of memory that all workers write to, so nothing is added to it in vain.
        if counts.routed > 0 {
            delivery::routed(counts.routed.into());
        }
        if counts.acked > 0 {
            delivery::acked(counts.acked.into());
        }
        if counts.expired > 0 {
            delivery::expired(counts.expired.into());
        }
        if counts.too_large > 0 {
            delivery::dropped(Dropped::TooLarge, counts.too_large.into());
        }
    }
}

fn add(counter: &Counter, count: u64) {
    if count > 0 {
        counter.increment(count);
    }
}

//! Families of delivery: the books of every subscriber, summed.

use metrics::{Counter, Unit, counter, describe_counter};
use std::sync::LazyLock;

/// What became of messages after they were routed. `routed = acked + pending + expired + dropped`.
struct Families {
    routed: Counter,
    sent: [Counter; 3],
    acked: Counter,
    dropped: [Counter; 5],
    expired: Counter,
}

/// Why a routed message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The subscriber's outbox was full.
    OutboxFull,
    /// The subscriber went away with messages waiting that were not to be kept.
    SubscriberGone,
    /// Larger than the subscriber's Maximum Packet Size [MQTT-3.1.2-25].
    TooLarge,
    /// The log lost it: its group is damaged, or it was trimmed.
    Damaged,
    /// A Retained Message that the log no longer has, and that was replaced or removed before it was sent.
    RetainedReplaced,
}

impl Dropped {
    const ALL: [Self; 5] =
        [Self::OutboxFull, Self::SubscriberGone, Self::TooLarge, Self::Damaged, Self::RetainedReplaced];

    const fn label(self) -> &'static str {
        match self {
            Self::OutboxFull => "outbox_full",
            Self::SubscriberGone => "subscriber_gone",
            Self::TooLarge => "too_large",
            Self::Damaged => "damaged",
            Self::RetainedReplaced => "retained_replaced",
        }
    }
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| Families {
    routed: counter!("gateway_deliveries_routed_total", "kind" => "live"),
    sent: ["0", "1", "2"].map(|qos| counter!("gateway_deliveries_sent_total", "qos" => qos)),
    acked: counter!("gateway_deliveries_acked_total", "kind" => "live"),
    dropped: Dropped::ALL
        .map(|reason| counter!("gateway_deliveries_dropped_total", "reason" => reason.label())),
    expired: counter!("gateway_deliveries_expired_total"),
});

/// Names the families for `/metrics`.
pub fn describe() {
    describe_counter!(
        "gateway_deliveries_routed_total",
        Unit::Count,
        "Messages put in front of a subscriber: in the outbox of a live one, in the backlog of a durable session"
    );
    describe_counter!(
        "gateway_deliveries_sent_total",
        Unit::Count,
        "PUBLISH packets sent to subscribers, by QoS"
    );
    describe_counter!(
        "gateway_deliveries_acked_total",
        Unit::Count,
        "Messages that subscribers are done with: acknowledged, or sent at QoS 0"
    );
    describe_counter!(
        "gateway_deliveries_dropped_total",
        Unit::Count,
        "Messages taken away from one subscriber, by reason"
    );
    describe_counter!(
        "gateway_deliveries_expired_total",
        Unit::Count,
        "Messages whose Message Expiry Interval had passed before delivery began"
    );
    LazyLock::force(&FAMILIES);
}

/// `count` messages were routed to live subscribers.
pub fn routed(count: u64) {
    FAMILIES.routed.increment(count);
}

/// PUBLISH packets went out, by QoS.
pub fn sent(by_qos: [u64; 3]) {
    for (counter, count) in FAMILIES.sent.iter().zip(by_qos) {
        if count > 0 {
            counter.increment(count);
        }
    }
}

/// Live subscribers are done with `count` messages.
pub fn acked(count: u64) {
    FAMILIES.acked.increment(count);
}

/// `count` messages were taken away from a subscriber.
pub fn dropped(reason: Dropped, count: u64) {
    if let Some((_, counter)) =
        Dropped::ALL.iter().zip(&FAMILIES.dropped).find(|(known, _)| **known == reason)
    {
        counter.increment(count);
    }
}

/// `count` messages had expired before their delivery began.
pub fn expired(count: u64) {
    FAMILIES.expired.increment(count);
}

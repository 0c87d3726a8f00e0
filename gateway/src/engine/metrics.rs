//! Families of the engine: the books of durable sessions.

use metrics::{Counter, Unit, counter, describe_counter};
use std::sync::LazyLock;

/// What applying a batch did, in numbers for the books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events among the entries.
    pub events: u64,
    /// Messages added to backlogs or refused by their limits.
    pub routed: u64,
    /// Of those, refused because the backlog was at a limit.
    pub backlog_full: u64,
    /// Given up by a full backlog for newer ones.
    pub oldest_dropped: u64,
    /// Messages that ended their session by finding its backlog full, and those that ended with it.
    pub over_quota: u64,
    /// Given up so that the log could be trimmed.
    pub backlog_cut: u64,
    /// Messages that waited for a Session which has ended.
    pub session_ended: u64,
    /// Messages that went from one member of a group to another.
    pub passed_on: u64,
    /// Messages that a client has acknowledged.
    pub acknowledged: u64,
}

impl Applied {
    pub(super) fn add(&mut self, more: &Self) {
        self.events += more.events;
        self.routed += more.routed;
        self.backlog_full += more.backlog_full;
        self.oldest_dropped += more.oldest_dropped;
        self.over_quota += more.over_quota;
        self.backlog_cut += more.backlog_cut;
        self.session_ended += more.session_ended;
        self.passed_on += more.passed_on;
        self.acknowledged += more.acknowledged;
    }
}

struct Families {
    routed: Counter,
    acked: Counter,
    backlog_full: Counter,
    oldest_dropped: Counter,
    over_quota: Counter,
    backlog_cut: Counter,
    session_ended: Counter,
    stored: Counter,
    passed_on: Counter,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| Families {
    routed: counter!("gateway_deliveries_routed_total", "kind" => "durable"),
    acked: counter!("gateway_deliveries_acked_total", "kind" => "durable"),
    backlog_full: counter!("gateway_deliveries_dropped_total", "reason" => "backlog_full"),
    oldest_dropped: counter!("gateway_deliveries_dropped_total", "reason" => "backlog_oldest"),
    over_quota: counter!("gateway_deliveries_dropped_total", "reason" => "session_over_quota"),
    backlog_cut: counter!("gateway_deliveries_dropped_total", "reason" => "log_full"),
    session_ended: counter!("gateway_deliveries_dropped_total", "reason" => "session_ended"),
    stored: counter!("gateway_events_accepted_total", "kind" => "stored"),
    passed_on: counter!("gateway_deliveries_passed_on_total"),
});

/// Names the families for `/metrics`.
pub fn describe() {
    describe_counter!(
        "gateway_deliveries_dropped_total",
        Unit::Count,
        "Messages taken away from one subscriber, by reason"
    );
    describe_counter!(
        "gateway_deliveries_passed_on_total",
        Unit::Count,
        "Messages that a member of a shared subscription left to another one"
    );
    super::consumers::describe();
    LazyLock::force(&FAMILIES);
}

/// A group was applied. `undeliverable` of the acknowledged messages were never sent, and are counted where that was found out.
pub fn applied(applied: &Applied, undeliverable: u64) {
    add(&FAMILIES.stored, applied.events);
    add(&FAMILIES.routed, applied.routed);
    add(&FAMILIES.acked, applied.acknowledged.saturating_sub(undeliverable));
    add(&FAMILIES.backlog_full, applied.backlog_full);
    add(&FAMILIES.oldest_dropped, applied.oldest_dropped);
    add(&FAMILIES.over_quota, applied.over_quota);
    add(&FAMILIES.backlog_cut, applied.backlog_cut);
    add(&FAMILIES.session_ended, applied.session_ended);
    add(&FAMILIES.passed_on, applied.passed_on);
}

/// Messages that waited when the gateway was started: routed before it, but pending in it.
pub(super) fn restored(pending: u64) {
    FAMILIES.routed.increment(pending);
}

fn add(counter: &Counter, count: u64) {
    if count > 0 {
        counter.increment(count);
    }
}

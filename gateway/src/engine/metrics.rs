//! Families of the engine: the books of durable sessions.

use super::apply::Applied;
use metrics::{Counter, Unit, counter, describe_counter};
use std::sync::LazyLock;

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
pub(super) fn applied(applied: &Applied, undeliverable: u64) {
    FAMILIES.stored.increment(applied.events);
    FAMILIES.routed.increment(applied.routed);
    FAMILIES.acked.increment(applied.acknowledged.saturating_sub(undeliverable));
    FAMILIES.backlog_full.increment(applied.backlog_full);
    FAMILIES.oldest_dropped.increment(applied.oldest_dropped);
    FAMILIES.over_quota.increment(applied.over_quota);
    FAMILIES.backlog_cut.increment(applied.backlog_cut);
    FAMILIES.session_ended.increment(applied.session_ended);
    FAMILIES.passed_on.increment(applied.passed_on);
}

/// Messages that waited when the gateway was started: routed before it, but pending in it.
pub(super) fn restored(pending: u64) {
    FAMILIES.routed.increment(pending);
}

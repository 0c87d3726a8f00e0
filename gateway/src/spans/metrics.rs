//! Families of spans. `ended = exported + waiting + dropped`, those that were never opened aside.

use super::span::Kind;
use metrics::{Counter, Unit, counter, describe_counter};
use std::sync::LazyLock;

/// Why there is no such span at the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// As many are open as may be; it was not begun.
    TooManyOpen,
    /// As many wait as may.
    QueueFull,
    /// The collector did not answer, as often as it was tried.
    Unreachable,
    /// The collector does not take it.
    Refused,
}

impl Dropped {
    const LABELS: [&str; 4] = ["too_many_open", "queue_full", "unreachable", "refused"];
}

struct Families {
    ended: [Counter; 2],
    exported: Counter,
    dropped: [Counter; 4],
    failures: Counter,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| Families {
    ended: [Kind::Publish, Kind::Deliver].map(|kind| counter!("gateway_spans_total", "name" => kind.name())),
    exported: counter!("gateway_spans_exported_total"),
    dropped: Dropped::LABELS.map(|reason| counter!("gateway_spans_dropped_total", "reason" => reason)),
    failures: counter!("gateway_spans_export_failures_total"),
});

/// Names the families for `/metrics`.
pub fn describe() {
    describe_counter!(
        "gateway_spans_total",
        Unit::Count,
        "Spans of traced publishes and deliveries that ended"
    );
    describe_counter!("gateway_spans_exported_total", Unit::Count, "Spans that the collector has taken");
    describe_counter!(
        "gateway_spans_dropped_total",
        Unit::Count,
        "Spans that were not begun, or that the collector did not get, by reason"
    );
    describe_counter!(
        "gateway_spans_export_failures_total",
        Unit::Count,
        "Requests to the collector of traces that failed; most are tried again"
    );
    LazyLock::force(&FAMILIES);
}

pub(super) fn ended(kind: Kind) {
    let [publish, deliver] = &FAMILIES.ended;
    match kind {
        Kind::Publish => publish.increment(1),
        Kind::Deliver => deliver.increment(1),
    }
}

pub(super) fn exported(count: usize) {
    FAMILIES.exported.increment(count as u64);
}

pub(super) fn dropped(reason: Dropped, count: usize) {
    if let Some(counter) = FAMILIES.dropped.get(reason as usize) {
        counter.increment(count as u64);
    }
}

pub(super) fn failed() {
    FAMILIES.failures.increment(1);
}

//! Families of decisions.

use super::reason::{Action, Reason};
use metrics::{Counter, Unit, counter, describe_counter, describe_gauge, gauge};
use std::sync::{LazyLock, OnceLock};

/// What alerts watch (dashboards/alerts.yml): counters that are there from the start, at 0, because an increase shows only from a value to
/// the next one.
const WATCHED: [(Action, &[Reason]); 2] = [
    (
        Action::Shed,
        &[
            Reason::OverShare,
            Reason::ShedBulk,
            Reason::ShedNormal,
            Reason::ReadOnly,
            Reason::Offender,
            Reason::ClientEventRate,
            Reason::ClientByteRate,
            Reason::ListenerEventRate,
            Reason::ListenerByteRate,
        ],
    ),
    (
        Action::Disconnected,
        &[
            Reason::Offender,
            Reason::SlowSubscriber,
            Reason::ClientEventRate,
            Reason::ClientByteRate,
            Reason::ListenerEventRate,
            Reason::ListenerByteRate,
        ],
    ),
];

/// A counter for each action and reason; others than those above are made when they are needed.
static DECISIONS: LazyLock<Vec<OnceLock<Counter>>> = LazyLock::new(|| {
    let cells = Action::ALL.len() * Reason::ALL.len();
    std::iter::repeat_with(OnceLock::new).take(cells).collect()
});

/// Names the families for `/metrics`, and makes the counters that alerts watch.
pub fn describe() {
    describe_counter!(
        "gateway_decisions_total",
        Unit::Count,
        "Events, messages and connections that did not go through as asked, by what was done and why; steps of the ladder, too"
    );
    describe_gauge!("gateway_decisions_entries", Unit::Count, "Entries of the decision log in memory");
    describe_gauge!("gateway_decisions_held_bytes", Unit::Bytes, "Memory of the decision log's entries");
    describe_counter!(
        "gateway_decisions_file_missed_total",
        Unit::Count,
        "Decisions that are not in the file of decisions, since it could not be written or was too slow"
    );
    for (action, reasons) in WATCHED {
        reasons.iter().for_each(|reason| decided(action, *reason, 0));
    }
    file_missed(0);
}

pub(super) fn decided(action: Action, reason: Reason, count: u32) {
    let cell = action as usize * Reason::ALL.len() + reason as usize;
    if let Some(cell) = DECISIONS.get(cell) {
        let make =
            || counter!("gateway_decisions_total", "action" => action.label(), "reason" => reason.label());
        cell.get_or_init(make).increment(count.into());
    }
}

pub(super) fn held(entries: u64, bytes: usize) {
    gauge!("gateway_decisions_entries").set(entries as f64);
    gauge!("gateway_decisions_held_bytes").set(bytes as f64);
}

pub(super) fn file_missed(count: u64) {
    counter!("gateway_decisions_file_missed_total").increment(count);
}

//! Families of decisions.

use super::reason::{Action, Reason};
use metrics::{Counter, Unit, counter, describe_counter, describe_gauge, gauge};
use std::sync::{LazyLock, OnceLock};

/// A counter for each action and reason; one that was never needed is not made.
static DECISIONS: LazyLock<Vec<OnceLock<Counter>>> = LazyLock::new(|| {
    let cells = Action::ALL.len() * Reason::ALL.len();
    std::iter::repeat_with(OnceLock::new).take(cells).collect()
});

/// Names the families for `/metrics`.
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

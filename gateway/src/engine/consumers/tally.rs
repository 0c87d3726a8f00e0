//! What consumers do, in numbers for `/metrics`, counted by the apply step and brought up to date once for each batch.
//!
//! The label `consumer` is a consumer's name: there are no more of those than `consumers.max`.

use super::item::Cause;
use super::state::ConsumerEntry;
use crate::engine::dead_letters::{LetterUsage, Removal};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

/// What has happened to one consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Tally {
    /// It stands in the list of consumers whose figures have changed.
    pub(super) listed: bool,
    pub(super) handed_out: u64,
    pub(super) redelivered: u64,
    pub(super) acked: u64,
    pub(super) expired: u64,
    pub(super) lost: u64,
    pub(super) missed: u64,
    pub(super) discarded: u64,
    /// By the number of their cause.
    pub(super) dead_lettered: [u64; Cause::ALL.len()],
    /// By the number of the reason.
    pub(super) letters_removed: [u64; Removal::ALL.len()],
}

impl Tally {
    /// Nothing, of a consumer that stands in the list.
    pub(super) fn listed() -> Self {
        Self { listed: true, ..Self::default() }
    }

    pub(super) fn count_dead(&mut self, cause: Cause) {
        if let Some(count) = self.dead_lettered.get_mut(usize::from(cause.number())) {
            *count += 1;
        }
    }

    pub(super) fn count_removed(&mut self, reason: Removal, letters: u64) {
        if let Some(count) = self.letters_removed.get_mut(reason.number()) {
            *count += letters;
        }
    }
}

/// Names the families for `/metrics`.
pub(in crate::engine) fn describe() {
    for (name, text) in [
        ("gateway_consumer_handed_out_total", "Events handed out to workers, by consumer"),
        (
            "gateway_consumer_redelivered_total",
            "Hand-outs of events that were handed out before, by consumer",
        ),
        ("gateway_consumer_acked_total", "Events that workers have acknowledged, by consumer"),
        ("gateway_consumer_expired_total", "Events that expired before they were acknowledged, by consumer"),
        ("gateway_consumer_lost_total", "Events that the log could not read back, by consumer"),
        (
            "gateway_consumer_missed_total",
            "Events that retention took away before they were settled, by consumer",
        ),
        (
            "gateway_consumer_discarded_total",
            "Open events given up by a reset, a removal or a purge, by consumer",
        ),
        ("gateway_dead_letters_total", "Events that became dead letters, by consumer and cause"),
        ("gateway_dead_letters_removed_total", "Dead letters that are no more, by consumer and reason"),
    ] {
        describe_counter!(name, Unit::Count, text);
    }
    describe_gauge!("gateway_consumers", Unit::Count, "Consumers");
    describe_gauge!("gateway_consumer_open", Unit::Count, "Events handed out and not settled, by consumer");
    describe_gauge!("gateway_dead_letters", Unit::Count, "Dead letters, by consumer");
    describe_gauge!("gateway_dead_letters_bytes", Unit::Bytes, "Bytes that dead letters take, by consumer");
}

/// Brings the figures of one consumer up to date.
pub(super) fn report(entry: &ConsumerEntry, letters: &LetterUsage) {
    let (tally, open) = {
        let mut state = entry.state();
        (std::mem::take(&mut state.tally), state.open.len())
    };
    let name = || entry.name.to_string();
    for (family, count) in [
        ("gateway_consumer_handed_out_total", tally.handed_out),
        ("gateway_consumer_redelivered_total", tally.redelivered),
        ("gateway_consumer_acked_total", tally.acked),
        ("gateway_consumer_expired_total", tally.expired),
        ("gateway_consumer_lost_total", tally.lost),
        ("gateway_consumer_missed_total", tally.missed),
        ("gateway_consumer_discarded_total", tally.discarded),
    ] {
        counter!(family, "consumer" => name()).increment(count);
    }
    for (cause, count) in Cause::ALL.into_iter().zip(tally.dead_lettered).filter(|(_, count)| *count > 0) {
        counter!("gateway_dead_letters_total", "consumer" => name(), "cause" => cause.as_str())
            .increment(count);
    }
    for (reason, count) in Removal::ALL.into_iter().zip(tally.letters_removed).filter(|(_, count)| *count > 0)
    {
        counter!("gateway_dead_letters_removed_total", "consumer" => name(), "reason" => reason.as_str())
            .increment(count);
    }
    let open = if entry.is_removed() { 0 } else { open };
    gauge!("gateway_consumer_open", "consumer" => name()).set(open as f64);
    gauge!("gateway_dead_letters", "consumer" => name()).set(letters.count as f64);
    gauge!("gateway_dead_letters_bytes", "consumer" => name()).set(letters.bytes as f64);
}

/// How many consumers there are.
pub(super) fn report_count(count: usize) {
    gauge!("gateway_consumers").set(count as f64);
}

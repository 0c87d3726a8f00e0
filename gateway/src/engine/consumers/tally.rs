//! What consumers do, in numbers for `/metrics`, counted by the apply step and brought up to date once for each batch.
//!
//! The label `consumer` is a consumer's name: there are no more of those than `consumers.max`.

use super::item::Cause;
use super::state::ConsumerEntry;
use crate::engine::dead_letters::{LetterUsage, Removal};
use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

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
        (
            "gateway_consumer_handed_out_total",
            "Events claimed for workers, by consumer; one that is taken back before it leaves counts again",
        ),
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

/// The metrics of one consumer, looked up once.
#[derive(Clone)]
pub(super) struct Figures {
    handed_out: Counter,
    redelivered: Counter,
    acked: Counter,
    expired: Counter,
    lost: Counter,
    missed: Counter,
    discarded: Counter,
    /// For each cause: at 0 before there is one, so that the first is an increase to whoever watches.
    dead_lettered: [Counter; Cause::ALL.len()],
    open: Gauge,
    letters: Gauge,
    letter_bytes: Gauge,
}

impl Figures {
    fn of(consumer: &str) -> Self {
        let counter = |family| counter!(family, "consumer" => consumer.to_owned());
        let gauge = |family| gauge!(family, "consumer" => consumer.to_owned());
        Self {
            handed_out: counter("gateway_consumer_handed_out_total"),
            redelivered: counter("gateway_consumer_redelivered_total"),
            acked: counter("gateway_consumer_acked_total"),
            expired: counter("gateway_consumer_expired_total"),
            lost: counter("gateway_consumer_lost_total"),
            missed: counter("gateway_consumer_missed_total"),
            discarded: counter("gateway_consumer_discarded_total"),
            dead_lettered: Cause::ALL.map(|cause| {
                let name = consumer.to_owned();
                counter!("gateway_dead_letters_total", "consumer" => name, "cause" => cause.as_str())
            }),
            open: gauge("gateway_consumer_open"),
            letters: gauge("gateway_dead_letters"),
            letter_bytes: gauge("gateway_dead_letters_bytes"),
        }
    }
}

impl std::fmt::Debug for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

/// Brings the figures of one consumer up to date.
pub(super) fn report(entry: &ConsumerEntry, letters: &LetterUsage) {
    let (tally, open) = {
        let mut state = entry.state();
        (std::mem::take(&mut state.tally), state.open.len())
    };
    let figures = entry.figures.get_or_init(|| Figures::of(&entry.name));
    figures.handed_out.increment(tally.handed_out);
    figures.redelivered.increment(tally.redelivered);
    figures.acked.increment(tally.acked);
    figures.expired.increment(tally.expired);
    figures.lost.increment(tally.lost);
    figures.missed.increment(tally.missed);
    figures.discarded.increment(tally.discarded);
    let open = if entry.is_removed() { 0 } else { open };
    figures.open.set(open as f64);
    figures.letters.set(letters.count as f64);
    figures.letter_bytes.set(letters.bytes as f64);
    let name = || entry.name.to_string();
    for (counter, count) in figures.dead_lettered.iter().zip(tally.dead_lettered) {
        counter.increment(count);
    }
    for (reason, count) in Removal::ALL.into_iter().zip(tally.letters_removed).filter(|(_, count)| *count > 0)
    {
        counter!("gateway_dead_letters_removed_total", "consumer" => name(), "reason" => reason.as_str())
            .increment(count);
    }
}

/// How many consumers there are.
pub(super) fn report_count(count: usize) {
    gauge!("gateway_consumers").set(count as f64);
}

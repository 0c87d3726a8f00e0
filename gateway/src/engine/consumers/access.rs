//! What others ask the engine about consumers and dead letters.

use super::state::ConsumerEntry;
use crate::engine::Engine;
use crate::engine::dead_letters::{DeadLetter, LetterUsage, LettersChange};
use gateway_storage::{Entry, Staging, Urgency};
use std::sync::Arc;
use std::task::Waker;

/// Dead letters removed for their age in one turn; the others follow in the next.
const AGED_MAX: usize = 10_000;

impl Engine {
    /// All consumers, by name.
    #[must_use]
    pub fn consumers(&self) -> Vec<Arc<ConsumerEntry>> {
        self.shared.table.consumers.all()
    }

    /// The consumer of this name, if there is one.
    #[must_use]
    pub fn consumer(&self, name: &str) -> Option<Arc<ConsumerEntry>> {
        self.shared.table.consumers.get(name)
    }

    /// Dead letters of a consumer by offset, at most `limit` of those behind offset `after`.
    #[must_use]
    pub fn dead_letters(&self, consumer: &str, after: Option<u64>, limit: usize) -> Vec<Arc<DeadLetter>> {
        self.shared.table.consumers.letters().page(consumer, after, limit)
    }

    /// The dead letter of a consumer whose event lies at `offset`, if there is one.
    #[must_use]
    pub fn dead_letter(&self, consumer: &str, offset: u64) -> Option<Arc<DeadLetter>> {
        self.shared.table.consumers.letters().get(consumer, offset)
    }

    /// How many dead letters a consumer has, and what they take.
    #[must_use]
    pub fn dead_letter_usage(&self, consumer: &str) -> LetterUsage {
        self.shared.table.consumers.letters().usage(consumer)
    }

    /// Dead letters that are too old are no more, by entries of the log.
    pub(in crate::engine) fn age_letters(&self, now_ms: u64) {
        let before_ms = now_ms.saturating_sub(self.letters_max_age_ms);
        let old = self.shared.table.consumers.letters().older_than(before_ms, AGED_MAX);
        let mut staging = Staging::new();
        for (consumer, offsets) in old {
            let change = LettersChange::Aged(offsets.into_iter().collect()).encode();
            // So many offsets are not too much for an entry.
            let _ =
                staging.push(&Entry::DeadLettersChanged { name: &consumer, at_ms: now_ms, change: &change });
        }
        if !staging.is_empty() {
            // Refused or full: it is tried again in a second.
            let _ = self.submit(&mut staging, Urgency::Lazy, Waker::noop(), None);
        }
    }
}

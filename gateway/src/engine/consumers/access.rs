//! What others ask the engine about consumers and dead letters.

use super::state::ConsumerEntry;
use crate::engine::Engine;
use crate::engine::dead_letters::{DeadLetter, LetterUsage};
use std::sync::Arc;

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
}

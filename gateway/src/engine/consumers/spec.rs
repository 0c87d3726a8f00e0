//! What a consumer is to read, and how its events are handed out.

use crate::engine::snapshot;
use serde::{Deserialize, Serialize};

/// The longest name of a consumer in bytes.
pub const CONSUMER_NAME_BYTES_MAX: usize = 128;

/// Which events may be under way at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Any.
    #[default]
    None,
    /// One at a time of each publisher and topic.
    Key,
}

/// What a consumer is to read, and how its events are handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerSpec {
    /// The name of its stream. A consumer whose stream is gone stays, and is shown as such.
    pub stream: Box<str>,
    /// Topic Filter: which of the stream's events it wants.
    pub filter: Box<str>,
    /// The log offset at which it begins, resolved by who makes it.
    pub start: u64,
    /// How long a worker may have an event without a word, in milliseconds.
    pub ack_wait_ms: u64,
    /// Attempts before an event becomes a dead letter; 0: it never does.
    pub max_deliver: u32,
    /// The wait after the nth failure in milliseconds at place n - 1; the last one repeats. Empty: at once.
    pub backoff_ms: Vec<u64>,
    /// Events that may be open at one time.
    pub max_ack_pending: u32,
    /// Which may be under way at the same time.
    pub order: Order,
    /// Nothing is handed out.
    pub paused: bool,
    /// It stands in the configuration.
    pub configured: bool,
    /// Which making of the consumer it is. Another number begins anew: at `start`, with nothing open.
    pub generation: u64,
}

impl ConsumerSpec {
    /// The form in the log and in the view.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        snapshot::pack(self)
    }

    /// A spec from its form in the log; `None` where it is not legible.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes).ok()
    }

    /// How long to wait after an event has failed `failures` times, in milliseconds.
    #[must_use]
    pub fn backoff_after(&self, failures: u32) -> u64 {
        let at = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
        self.backoff_ms.get(at).or(self.backoff_ms.last()).copied().unwrap_or(0)
    }
}

/// Whether a consumer may have this name: 1 to [`CONSUMER_NAME_BYTES_MAX`] of a-z, 0-9, -, _ and /.
#[must_use]
pub fn is_consumer_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_/".contains(&byte);
    (1..=CONSUMER_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_wait_repeats() {
        let spec = ConsumerSpec { backoff_ms: vec![10, 20], ..super::super::tests::spec() };
        let waits: Vec<_> = (0..5).map(|failures| spec.backoff_after(failures)).collect();
        assert_eq!(waits, [10, 10, 20, 20, 20]);
        assert_eq!(ConsumerSpec { backoff_ms: Vec::new(), ..spec }.backoff_after(3), 0);
    }

    #[test]
    fn a_spec_reads_back_and_rubbish_does_not() {
        let spec = ConsumerSpec { order: Order::Key, backoff_ms: vec![1, 2], ..super::super::tests::spec() };
        assert_eq!(ConsumerSpec::decode(&spec.encode()), Some(spec));
        assert_eq!(ConsumerSpec::decode(b"\x91\x01"), None);
    }

    #[test]
    fn names_are_words_that_need_no_quoting() {
        for name in ["billing", "sink/billing-2", "a_b", &"x".repeat(128)] {
            assert!(is_consumer_name(name), "{name}");
        }
        for name in ["", "Billing", "a b", "a\0b", "ä", "+", "#", &"x".repeat(129)] {
            assert!(!is_consumer_name(name), "{name}");
        }
    }
}

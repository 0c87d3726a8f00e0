//! Dead letters: events that a consumer gave up, kept with a copy of their content until somebody has dealt with them.
//!
//! What it promises: a letter is there from its entry in the log on, whatever is trimmed, until it is acknowledged after a redrive,
//! purged, too old, or displaced. What displaces it is said by the rules: no consumer has more than so many, and all together take
//! no more than so many bytes; then the consumer whose letters take the most gives its oldest, so that one that fails at everything does
//! not displace the letters of another.
//!
//! Letters are in memory as a whole, bounded by that limit, and in rows of the saved view. They go with their consumer.
//!
//! `letter` is one of them, `change` what becomes of several, `table` all of them. The entries are applied by
//! [`super::consumers`], since a letter and what is open in its consumer change together.

mod change;
mod letter;
mod table;

pub use change::LettersChange;
pub use letter::{DeadLetter, LetterFacts, NOTE_BYTES_MAX};
pub use table::LetterUsage;

pub(super) use table::LetterTable;

use serde::{Deserialize, Serialize};

/// Bounds of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterLimits {
    /// Bytes that those of all consumers take together.
    pub bytes_max: u64,
    /// How many one consumer has.
    pub count_max: u64,
}

impl Default for LetterLimits {
    /// Those of logs that do not say any.
    fn default() -> Self {
        Self { bytes_max: 64 << 20, count_max: 100_000 }
    }
}

/// Why a letter is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Removal {
    /// Its event was settled after a redrive.
    Settled,
    /// Somebody asked for it.
    Purged,
    /// It was too old.
    Aged,
    /// Others took its room.
    OverLimit,
    /// Its consumer is no more.
    ConsumerRemoved,
}

impl Removal {
    pub(in crate::engine) const ALL: [Self; 5] =
        [Self::Settled, Self::Purged, Self::Aged, Self::OverLimit, Self::ConsumerRemoved];

    /// The label of the metric, out of a closed set.
    pub(in crate::engine) const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Purged => "purged",
            Self::Aged => "aged",
            Self::OverLimit => "over_limit",
            Self::ConsumerRemoved => "consumer_removed",
        }
    }

    /// Its place among [`Removal::ALL`].
    pub(in crate::engine) const fn number(self) -> usize {
        self as usize
    }
}

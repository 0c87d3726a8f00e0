//! The position of an entry in the log.

use std::fmt;

/// The position of one entry in the log.
///
/// Every entry, of whatever kind, takes exactly one offset; the first entry of a log is 0. Offsets only grow and are
/// never used twice. They may have holes: a damaged group, or one lost with a disk that failed, keeps its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);

    /// The offset with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this offset.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset right after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The offset `entries` further on. Saturates at the largest number, which no log reaches.
    #[must_use]
    pub const fn plus(self, entries: u64) -> Self {
        Self(self.0.saturating_add(entries))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

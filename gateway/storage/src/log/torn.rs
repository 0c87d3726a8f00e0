//! The end of a log that is no whole group, and what is known of how it came to be.

use std::fmt;
use std::path::PathBuf;

/// The end of a file that is no whole group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Which file.
    pub file: PathBuf,
    /// Where it was cut off.
    pub at_byte: u64,
    /// How many bytes were cut off, space reserved behind them included.
    pub bytes: u64,
    /// What the bytes show.
    pub shows: TailShows,
}

/// What the bytes behind the last whole group show. As text: a clause that says what can be concluded from it.
///
/// A write that a crash interrupts can leave each of these, and damage all but the first: what is concluded is for
/// people. What is done about it is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailShows {
    /// One group, shorter than its header says.
    CutShort,
    /// One group of its whole length with a wrong checksum, that ends in zeros, as space does that was reserved and not
    /// written yet.
    EndsInZeros,
    /// One group of its whole length with a wrong checksum.
    WrongChecksum,
    /// Bytes that begin with no header of a group.
    NoHeader,
    /// Several stretches of these kinds.
    Several,
}

impl fmt::Display for TailShows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CutShort => "a group is shorter than its header says: a write that was interrupted",
            Self::EndsInZeros => {
                "a group has the wrong checksum and ends in zeros, as in space that was reserved: as a rule a write \
                 that was interrupted"
            }
            Self::WrongChecksum => {
                "a group has its whole length and the wrong checksum: it is damaged, or its write was interrupted"
            }
            Self::NoHeader => "no header of a group is there: it is damaged, or its write was interrupted",
            Self::Several => {
                "there are several groups that are not whole: they are damaged, or were written and not synced"
            }
        })
    }
}

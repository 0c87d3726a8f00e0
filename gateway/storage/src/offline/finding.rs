//! What can be wrong with a store, in words.

use std::fmt;
use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::log::{OpenError, ReadError, SkippedGroup, TornTail};
use crate::offset::Offset;
use crate::view::ViewError;

/// One thing that is not as it should be. As text: what it is, where, and what it costs.
#[derive(Debug)]
pub enum Finding {
    /// The log ends in what is no whole group.
    TornTail(TornTail),
    /// The last file of the log never took a group.
    Unfinished {
        /// Which file.
        file: PathBuf,
    },
    /// Copies of the header of a file of the log are damaged.
    DamagedHeader {
        /// Which file.
        file: PathBuf,
        /// Whether the other copy is whole.
        one_copy_left: bool,
    },
    /// Damaged groups.
    DamagedGroups(SkippedGroup),
    /// Offsets that are in no file.
    Hole {
        /// The first one.
        first: Offset,
        /// The first one behind them.
        end: Offset,
    },
    /// From here on the log was not read.
    Unreadable {
        /// The offset at which reading ended.
        from: Offset,
        /// Why.
        reason: Box<ReadError>,
    },
    /// Nothing of the log can be read.
    LogUnusable(Box<OpenError>),
    /// The view cannot be opened, or a value in it is damaged.
    ViewUnusable(Box<ViewError>),
    /// The view has seen more than the log holds.
    ViewAhead {
        /// Up to which offset it is applied.
        applied: Offset,
        /// Where the log ends.
        end: Offset,
    },
    /// The entries right behind the view have been trimmed.
    ViewBehind {
        /// Up to which offset it is applied.
        applied: Offset,
        /// Where the log begins.
        earliest: Offset,
    },
    /// A checkpoint is damaged or cannot be read.
    Checkpoint {
        /// Which file.
        file: PathBuf,
        /// Why.
        reason: Box<CheckpointError>,
    },
    /// Neither view nor checkpoint is of use, and the log does not begin at offset 0: the gateway does not start.
    NothingToRebuildFrom {
        /// Where the log begins.
        earliest: Offset,
        /// Where it ends.
        end: Offset,
    },
}

impl Finding {
    /// What a reader passed over.
    pub(super) fn of_skipped(group: SkippedGroup) -> Self {
        match group.bytes {
            0 => Self::Hole { first: group.first, end: group.end },
            _ => Self::DamagedGroups(group),
        }
    }

    /// Whether [`super::repair()`] does something about it.
    pub fn is_mendable(&self) -> bool {
        match self {
            Self::TornTail(_)
            | Self::Unfinished { .. }
            | Self::DamagedHeader { .. }
            | Self::ViewBehind { .. }
            | Self::NothingToRebuildFrom { .. } => true,
            // Another view would do better where this one is to blame.
            Self::ViewUnusable(error) => matches!(
                **error,
                ViewError::Corrupt { .. }
                    | ViewError::Format { .. }
                    | ViewError::EnginePanicked { .. }
                    | ViewError::Engine(_)
            ),
            Self::Checkpoint { reason, .. } => matches!(**reason, CheckpointError::Damaged { .. }),
            Self::DamagedGroups(_)
            | Self::Hole { .. }
            | Self::Unreadable { .. }
            | Self::LogUnusable(_)
            | Self::ViewAhead { .. } => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornTail(torn) => write!(
                f,
                "{} ends in {} bytes that are no whole group, from byte {} on: {}. Of a write that was interrupted \
                 nothing was acknowledged after a sync. The next start cuts them off",
                torn.file.display(),
                torn.bytes,
                torn.at_byte,
                torn.shows
            ),
            Self::Unfinished { file } => write!(
                f,
                "{} was begun and never took a group: a crash came between. It holds nothing",
                file.display()
            ),
            Self::DamagedHeader { file, one_copy_left: true } => write!(
                f,
                "one of the two copies of the header of {} is damaged. The other one serves, nothing is lost",
                file.display()
            ),
            Self::DamagedHeader { file, one_copy_left: false } => write!(
                f,
                "both copies of the header of {} are damaged. Its neighbours tell how to read it; nothing is lost \
                 for as long as one of them is there",
                file.display()
            ),
            Self::DamagedGroups(group) => write!(
                f,
                "{} lost: {} bytes at byte {} of {} are damaged. Readers pass over them",
                Span(group.first, group.end),
                group.bytes,
                group.at_byte,
                group.file.display()
            ),
            Self::Hole { first, end } => write!(
                f,
                "{} not in the log: lost earlier, with a disk that failed or with the power. The numbers are not used \
                 again",
                Span(*first, *end)
            ),
            Self::Unreadable { from, reason } => {
                write!(f, "the log was not read from offset {from} on: {reason}")
            }
            Self::LogUnusable(reason) => write!(f, "the log cannot be read: {reason}"),
            Self::ViewUnusable(reason) => write!(f, "the view cannot be used: {reason}"),
            Self::ViewAhead { applied, end } => write!(
                f,
                "the view is applied up to offset {applied} and the log ends at {end}: entries were lost with the \
                 power, or at the damaged end of the log. The log will go on at {applied}"
            ),
            Self::ViewBehind { applied, earliest } => write!(
                f,
                "the view is applied up to offset {applied}, and the entries from there to {earliest} are not in \
                 the log any more"
            ),
            Self::Checkpoint { reason, .. } => write!(f, "{reason}"),
            Self::NothingToRebuildFrom { earliest, .. } => write!(
                f,
                "no view and no checkpoint can be used, and the log begins at offset {earliest}: a gateway does not \
                 start on it. Sessions, subscriptions, Retained Messages and pending deliveries are lost"
            ),
        }
    }
}

/// The entries from the first offset to the one before the second, and a verb.
struct Span(Offset, Offset);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.1.get().saturating_sub(1).max(self.0.get());
        if last == self.0.get() {
            write!(f, "the entry at offset {last} is")
        } else {
            write!(f, "the entries at offsets {} to {last} are", self.0)
        }
    }
}

//! The log: groups in, durable offsets out, pages back.
//!
//! [`Log`] is the writing end, owned by the one committer thread; [`LogReader`] is the reading end, shared by everybody
//! who lags behind the tail; [`LogTrimmer`] takes away from the front what nobody needs. All implementations pass one contract suite ([`contract`], feature `testing`):
//!
//! - [`SegmentsLog`]: append-only files, the default.
//! - [`SledLog`]: groups as values in sled, for those who want one engine.
//! - [`MemoryLog`]: the twin for tests, with faults on demand.
//!
//! **What every log promises.** A reader never sees a group that is not durable (as far as the configured durability
//! goes, see [`Log::release`]). Offsets and commit times only grow. A damaged group costs that group alone and is
//! reported. After a failed append or sync the log does nothing more until [`Log::reopen`], which goes on behind the
//! last group that was durable and never reuses an offset a reader could have seen. A trimmed log is what is left of it,
//! without a gap: trimming is no damage, and nobody who reads while it happens is told of an error.
//!
//! A log does not know what is in an entry beyond its format, nor who reads it.

#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod faults;
#[cfg(any(test, feature = "testing"))]
pub mod faulty_disk;
mod memory;
mod page;
pub mod segments;
pub mod sled_log;
mod torn;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

pub use self::faults::Faults;
pub use self::memory::{MemoryHandle, MemoryLog};
pub use self::page::{Page, SkippedGroup};
pub use self::segments::{OpenError, RecoveryReport, SegmentsLog, SegmentsOptions};
pub use self::sled_log::{SledLog, SledLogOptions};
pub use self::torn::{TailShows, TornTail};
use crate::entry::EntryError;
use crate::offset::Offset;

/// What the committer says about a group it appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// The offset of the group's first entry: [`Log::next_offset`].
    pub first: Offset,
    /// Entries in the group; at least one.
    pub entries: u32,
    /// The commit time in milliseconds since the Unix epoch; never less than that of the group before.
    pub time_ms: u64,
}

impl GroupInfo {
    /// The offset right after the group's last entry.
    pub const fn end(&self) -> Offset {
        self.first.plus(self.entries as u64)
    }
}

/// The writing end of a log. One owner, no locks: the committer thread.
pub trait Log: Send {
    /// Writes one group behind the last one. It is not durable, and no reader sees it, before [`Log::sync`], or before a
    /// later append has made it durable on its way.
    ///
    /// # Errors
    ///
    /// Whatever the error, nothing of the group will ever be read, and the log takes nothing more before
    /// [`Log::reopen`].
    fn append(&mut self, frame: &[u8], info: GroupInfo) -> Result<(), LogError>;

    /// Makes everything appended durable and lets readers see it.
    ///
    /// # Errors
    ///
    /// What was appended since the last sync is lost. The sync is not to be tried again: the kernel may have dropped
    /// the pages it could not write and would answer the second sync with success.
    fn sync(&mut self) -> Result<(), LogError>;

    /// Lets readers see everything appended although it is not synced yet, for the durabilities that acknowledge
    /// before the sync. From here on the offsets are taken even if the entries are lost.
    fn release(&mut self);

    /// After a failure: drops what no reader could see, and after a failed sync everything since the last good one,
    /// and makes the log usable again. Offsets a reader could have seen are not given again.
    ///
    /// # Errors
    ///
    /// The log stays as it is, unusable, and reopening may be tried again.
    fn reopen(&mut self) -> Result<(), LogError>;

    /// Continues at `offset` if the log ends before it, leaving a hole. For a log that lost a tail whose effects are
    /// known elsewhere, so that no offset ever means two things.
    ///
    /// # Errors
    ///
    /// As [`Log::append`].
    fn advance_to(&mut self, offset: Offset) -> Result<(), LogError>;

    /// The offset the next group begins with.
    fn next_offset(&self) -> Offset;

    /// The commit time of the last group; the next one must not have an earlier one. 0 in an empty log.
    fn last_time_ms(&self) -> u64;

    /// The secret that the checksums of this log's groups begin with.
    fn salt(&self) -> u64;

    /// A reading end of this log.
    fn reader(&self) -> Arc<dyn LogReader>;

    /// The end of this log that gives space back.
    fn trimmer(&self) -> Arc<dyn LogTrimmer>;

    /// Bytes of the log, as far as they are in use. Cheap: it is asked under a lock after every group.
    fn size_bytes(&self) -> u64;
}

/// Removes old parts of a log. On any thread, beside the writer and the readers; two trims at once take turns. A log
/// that has failed can be trimmed too: on a full disk that is the way out.
pub trait LogTrimmer: Send + Sync {
    /// Removes whole segments (or whatever unit the log has) all of whose offsets lie below `before`, oldest first,
    /// never the one being written. What is gone is gone for good when this returns.
    ///
    /// # Errors
    ///
    /// When a part cannot be removed. The parts before it are gone, those from it on are left, and trimming may be tried
    /// again. Readers may no longer see the part at which it failed.
    fn trim(&self, before: Offset) -> Result<Trimmed, LogError>;

    /// The same as [`Log::size_bytes`], for those who do not own the log.
    fn size_bytes(&self) -> u64;
}

/// What a trim removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// How many segments.
    pub segments: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The earliest offset left: the same as in [`LogReader::bounds`].
    pub earliest: Offset,
}

/// The reading end of a log. Any number of threads read at once, and none of them holds up the committer.
pub trait LogReader: Send + Sync {
    /// The earliest offset still there, which grows as the log is trimmed, and the offset after the last durable entry.
    fn bounds(&self) -> (Offset, Offset);

    /// Reads whole groups from `from` on: at least the one that holds `from`, more as long as they fit `max_bytes` and
    /// lie in the same file.
    /// None when there is nothing durable at or after `from`.
    ///
    /// The page begins with the first readable group at or after `from`; the caller skips entries before `from`
    /// ([`crate::Batch::index_from`]) and goes on at [`Page::next`]. Before the earliest offset, the page begins with the
    /// earliest: trimmed entries are not reported as skipped.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]. Damage is not an error: damaged groups are listed in the page.
    fn read_page(&self, from: Offset, max_bytes: usize) -> Result<Option<Page>, ReadError>;

    /// The first offset whose group was committed at `time_ms` or later; the end of the log if there is none.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    fn offset_at(&self, time_ms: u64) -> Result<Offset, ReadError>;
}

/// Why a log could not write.
#[derive(Debug, Error)]
pub enum LogError {
    /// The disk, or the quota, is full.
    #[error("no space left to {doing} {}: {source}", file.display())]
    NoSpace {
        /// What was tried: a verb.
        doing: &'static str,
        /// With which file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused or failed.
    #[error("could not {doing} {}: {source}", file.display())]
    Io {
        /// What was tried: a verb.
        doing: &'static str,
        /// With which file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier failure has not been followed by a successful [`Log::reopen`].
    #[error("the log failed earlier and has not been reopened since")]
    Failed,
    /// A group does not follow the one before it: an error of the caller.
    #[error("a group at offset {given} was given to a log that continues at {expected}")]
    OutOfOrder {
        /// The offset given.
        given: Offset,
        /// The offset the log continues at.
        expected: Offset,
    },
}

impl LogError {
    /// An error of the system, told apart by whether space is what it lacks.
    pub(crate) fn from_io(doing: &'static str, file: impl Into<PathBuf>, source: io::Error) -> Self {
        let file = file.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { doing, file, source }
            }
            _ => Self::Io { doing, file, source },
        }
    }
}

/// Why a page could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system refused or failed.
    #[error("could not read {}: {source}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A group was written by a newer version of this software.
    #[error(
        "{} holds a group of format version {found}, and this version reads up to {known}: it was written by a newer \
         gateway",
        file.display()
    )]
    NewerFormat {
        /// Which file.
        file: PathBuf,
        /// The version found.
        found: u16,
        /// The newest version this software reads.
        known: u16,
    },
    /// A group has flags that only a newer version of this software gives a meaning.
    #[error(
        "{} holds a group with flags {flags:#06x}, which this version does not know: it was written by a newer gateway",
        file.display()
    )]
    UnknownFlags {
        /// Which file.
        file: PathBuf,
        /// The flags found.
        flags: u16,
    },
    /// A group is undamaged but holds an entry this version cannot read.
    #[error("the entry at offset {offset} in {} cannot be read: {source}", file.display())]
    Entry {
        /// Which file.
        file: PathBuf,
        /// The offset of the entry.
        offset: Offset,
        /// Why it cannot be read.
        source: EntryError,
    },
}

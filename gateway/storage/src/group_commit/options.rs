//! What group commit can be told, and what it says about itself.

use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::receipt::{Durable, Ticket};
use crate::batch::Batch;
use crate::compression::Compression;

/// Wall-clock time in milliseconds since the Unix epoch. It stamps groups and nothing else: delays are measured on the
/// monotonic clock, and a wall clock that jumps back never makes commit times go back.
pub type ClockMs = Box<dyn Fn() -> u64 + Send>;

/// Asked before each attempt to reopen a failed log; an error puts the attempt off by
/// [`GroupCommitOptions::reopen_delay`]. For a condition outside the log, such as that the disk has room again.
pub type BeforeReopen = Box<dyn FnMut() -> io::Result<()> + Send>;

/// When a receipt is minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// After the group is on stable storage: one `fdatasync` per group. Nothing acknowledged is ever lost to a crash
    /// of the process, the machine or its power.
    #[default]
    Fsync,
    /// After the group is written to the operating system, which is told to put it on stable storage at this interval.
    /// A crash of the process loses nothing; a crash of the machine or its power loses what was acknowledged within
    /// the last interval, plus the time a sync takes. Groups lost that way leave a hole in the offsets.
    Interval(Duration),
    /// After the group is written to the operating system, which puts it on stable storage when it sees fit. A crash
    /// of the process loses nothing; a crash of the machine or its power loses everything the operating system had
    /// not written, commonly the last 30 seconds and without a bound in principle. A regular shutdown syncs.
    Memory,
}

/// Options of [`super::GroupCommit::start`].
#[derive(Clone, Copy, Debug)]
pub struct GroupCommitOptions {
    /// The open group takes no more than this many bytes; submitters wait for the next one. One submission larger than
    /// this still goes through, as a group of its own.
    pub group_bytes_max: usize,
    /// How long entries submitted as [`Urgency::Lazy`] may wait for company.
    pub lazy_delay: Duration,
    /// When a receipt is minted.
    pub durability: Durability,
    /// The size of the whole log in bytes at which events are refused; control entries may exceed it by a sixteenth,
    /// so that sessions and acknowledgements go on while the disk is drained. `u64::MAX` is no limit.
    pub max_bytes: u64,
    /// What becomes of a group before it is written.
    pub compression: Compression,
    /// How long to wait before each attempt to reopen a failed log.
    pub reopen_delay: Duration,
}

impl Default for GroupCommitOptions {
    fn default() -> Self {
        Self {
            group_bytes_max: 1 << 20,
            lazy_delay: Duration::from_millis(20),
            durability: Durability::Fsync,
            max_bytes: u64::MAX,
            compression: Compression::None,
            reopen_delay: Duration::from_secs(1),
        }
    }
}

/// Whether a submission starts a commit by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits who is not to wait for others: as `Now`, and the group does not linger for company
    /// ([`super::GroupCommit::linger`]); of those who submitted to it this one is woken before those of the other kinds.
    AtOnce,
    /// Somebody waits: commit as soon as the sync under way, if any, returns.
    Now,
    /// Nobody waits (acknowledgements of deliveries): go with the next group, or alone after the lazy delay.
    Lazy,
}

/// Why a submission was not taken. The staging area is as before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// The open group is full. The waker is kept and woken once there is room.
    #[error("the open commit group is full")]
    Full,
    /// The log has reached its size limit, and the submission holds events. The waker is not kept: room comes with
    /// retention, not with the next commit.
    #[error("the log has reached its size limit")]
    LogFull,
    /// The log has failed and takes nothing until it is reopened.
    #[error("the log has failed: {reason}")]
    Unavailable {
        /// The same as in [`CommitState::Poisoned`].
        reason: Arc<str>,
    },
    /// Group commit has been shut down.
    #[error("the log has been shut down")]
    Stopped,
}

/// How group commit is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitState {
    /// Groups are committed.
    Running,
    /// An append or a sync failed. Nothing is acknowledged until reopening succeeds.
    Poisoned {
        /// Since when, in milliseconds since the Unix epoch.
        since_ms: u64,
        /// What kind of failure it was.
        cause: PoisonCause,
        /// The failure in words, for people.
        reason: Arc<str>,
    },
    /// Shut down.
    Stopped,
}

/// A group that somebody waits for.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// What its submitters were given.
    pub ticket: Ticket,
    /// When the first of them submitted.
    pub since: Instant,
}

/// What kind of failure poisoned the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoisonCause {
    /// The disk is full.
    NoSpace,
    /// Writing failed.
    Append,
    /// Syncing failed.
    Sync,
    /// The committer thread panicked, or the log ran out of lives; only a restart helps.
    Fatal,
}

/// A group that is as durable as configured.
#[derive(Debug)]
pub struct CommittedGroup {
    /// Its entries.
    pub batch: Arc<Batch>,
    /// The receipt that covers it.
    pub durable: Durable,
    /// The wakers of those who submitted to it, for whoever acknowledges, in the order in which they are to be woken: those of
    /// [`Urgency::AtOnce`] first. A submitter that named its last ticket is in
    /// here once.
    pub contributors: Vec<Waker>,
}

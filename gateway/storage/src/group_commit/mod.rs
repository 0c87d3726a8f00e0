//! Group commit: many submitters, one committer thread, one sync for all of them.
//!
//! **Promises.** A receipt ([`Durable`]) is minted after the group is as durable as configured and never otherwise.
//! Groups reach the sink in order. A failed append or sync poisons the log: no receipt for the group, no second sync of
//! the same file, every submitter is told, and the log is reopened behind the last durable group. Memory is bounded by
//! two groups. Trimming ([`GroupCommit::trim`]) makes room in a full log at once and does not wait for the committer.
//!
//! **Operation.** Submitting copies staged entries into the open group under one short lock. The committer takes the
//! whole open group the moment the sync before it returns, so a lone entry is committed at once and under load groups
//! grow by themselves; there is no delay to tune. The sink is called on the committer thread and may block: the open
//! group then fills up and submitters wait, which is the backpressure.
//!
//! ```text
//!            submit                 take                    append, sync
//! staging ───────────▶ open group ────────▶ group in flight ─────────────▶ CommittedGroup ──▶ sink
//!            Full: wait                                         │ failed
//!                                                               ▼
//!                                          Poisoned ──(gate open, reopened)──▶ Running, next life
//! ```
//!
//! Nothing here knows what a log is made of ([`crate::log`]) or who acknowledges what to whom.

mod committer;
mod open_group;
mod options;
mod receipt;
mod stats;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::committer::Committer;
use self::open_group::{OpenGroup, Waiters};
pub use self::options::{
    BeforeReopen, ClockMs, CommitState, CommittedGroup, Durability, GroupCommitOptions, PoisonCause,
    SubmitError, Urgency, Waiting,
};
pub use self::receipt::{Durable, ReceiptCell, Ticket};
use self::stats::Counters;
pub use self::stats::{CommitSample, CommitStats};
use crate::buffers::BufferPool;
use crate::log::{Log, LogError, LogTrimmer, Trimmed};
use crate::offset::Offset;
use crate::staging::Staging;

/// The largest [`GroupCommitOptions::group_bytes_max`]; larger values are cut down to it. Together with the largest
/// submission a group then has less than 2 GiB, and places in it fit 32 bits.
pub const GROUP_BYTES_LIMIT: usize = 1 << 30;

/// Buffers of groups that are used again: two for the group that is open and the one that is written, two more on their way back.
const GROUPS_KEPT: usize = 4;

/// A handle to the committer; clones share it. When the last one is dropped, the committer is shut down.
#[derive(Clone, Debug)]
pub struct GroupCommit {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    trimmer: Arc<dyn LogTrimmer>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What submitters and the committer share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    counters: Counters,
    pool: Arc<BufferPool>,
    options: GroupCommitOptions,
}

#[derive(Debug)]
struct State {
    open: OpenGroup,
    /// The number of the open group, from 1.
    group: u64,
    /// The life of the log, see [`Ticket`].
    life: u64,
    mode: CommitState,
    stop: bool,
    /// The committer sleeps and must be notified. Notifying costs a system call whether or not anybody sleeps.
    committer_waits: bool,
    /// It sleeps until the open group has had company, and is notified for what does not wait for that.
    committer_lingers: bool,
    waiting_for_room: Waiters,
    /// Size of the log, and of the group in flight that is not yet part of it.
    log_bytes: u64,
    in_flight_bytes: u64,
    /// The group in flight, and since when somebody waits for it.
    in_flight: Option<Waiting>,
    /// See [`GroupCommit::linger`].
    linger: Duration,
    /// See [`GroupCommit::refuses_events`].
    refuses_events: bool,
}

impl GroupCommit {
    /// Starts the committer thread, which owns the log from here on. `clock` stamps the groups; `sink` is called on
    /// the committer thread for every committed group, in order.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(
        log: Box<dyn Log>,
        options: GroupCommitOptions,
        clock: ClockMs,
        sink: Box<dyn FnMut(CommittedGroup) + Send>,
    ) -> io::Result<Self> {
        Self::start_gated(log, options, clock, sink, Box::new(|| Ok(())))
    }

    /// As [`GroupCommit::start`]. After a failure the log is not reopened before `before_reopen` agrees, which is called
    /// on the committer thread ahead of each attempt; until then it stays poisoned for the reason it had.
    ///
    /// # Errors
    ///
    /// As [`GroupCommit::start`].
    pub fn start_gated(
        log: Box<dyn Log>,
        options: GroupCommitOptions,
        clock: ClockMs,
        sink: Box<dyn FnMut(CommittedGroup) + Send>,
        before_reopen: BeforeReopen,
    ) -> io::Result<Self> {
        let options =
            GroupCommitOptions { group_bytes_max: options.group_bytes_max.min(GROUP_BYTES_LIMIT), ..options };
        // The index of a group of very small entries can be larger than the group.
        let pool = Arc::new(BufferPool::new(options.group_bytes_max.saturating_mul(2), GROUPS_KEPT));
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                open: OpenGroup::new(pool.take()),
                group: 1,
                life: 0,
                mode: CommitState::Running,
                stop: false,
                committer_waits: false,
                committer_lingers: false,
                waiting_for_room: Waiters::default(),
                log_bytes: log.size_bytes(),
                in_flight_bytes: 0,
                in_flight: None,
                linger: Duration::ZERO,
                refuses_events: false,
            }),
            work: Condvar::new(),
            counters: Counters::default(),
            pool,
            options,
        });
        let trimmer = log.trimmer();
        let committer = Committer::new(Arc::clone(&shared), log, clock, sink, before_reopen);
        let thread = thread::Builder::new().name("committer".to_owned()).spawn(move || committer.run())?;
        Ok(Self { handle: Arc::new(Handle { shared, trimmer, thread: Mutex::new(Some(thread)) }) })
    }

    /// Copies what is staged into the open group and clears the staging area. The ticket is covered by a later
    /// receipt, or outlived by one, or the state becomes [`CommitState::Poisoned`]; the waker is handed to the sink, or
    /// woken, in each case. `last` is the caller's previous ticket: when it is the open group's, the waker is there
    /// already and is not stored twice.
    ///
    /// A submission is never split: it goes into one group as a whole. An empty one is given the ticket of the group
    /// before the open one.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`]. The staging area is then as before.
    pub fn submit(
        &self,
        staging: &mut Staging,
        urgency: Urgency,
        waker: &Waker,
        last: Option<Ticket>,
    ) -> Result<Ticket, SubmitError> {
        let shared = &*self.handle.shared;
        let mut guard = shared.lock();
        let state = &mut *guard;
        state.accepts()?;
        if staging.is_empty() {
            return Ok(Ticket::new(state.life, state.group - 1));
        }
        if state.log_is_full(staging, shared.options.max_bytes) {
            state.refuses_events |= staging.events() > 0;
            return Err(SubmitError::LogFull);
        }
        if !state.open.is_empty()
            && state.open.bytes.len() + staging.byte_len() > shared.options.group_bytes_max
        {
            state.open.urgent = true;
            let overflow = state.waiting_for_room.keep(waker);
            let notify = std::mem::take(&mut state.committer_waits);
            drop(guard);
            shared.notify(notify);
            wake_all(overflow);
            return Err(SubmitError::Full);
        }

        state.refuses_events &= staging.events() == 0;
        let ticket = Ticket::new(state.life, state.group);
        if last != Some(ticket) {
            state.open.keep(waker, urgency);
        }
        state.open.extend(staging, shared.options.group_bytes_max);
        let fills_up = state.open.bytes.len() >= shared.options.group_bytes_max / 2;
        let is_awaited = urgency != Urgency::Lazy;
        state.open.urgent |= is_awaited || fills_up;
        if is_awaited && state.open.awaited_since.is_none() {
            state.open.awaited_since = Some(Instant::now());
        }
        let starts_delay = !state.open.urgent && state.open.lazy_since.is_none();
        if starts_delay {
            state.open.lazy_since = Some(Instant::now());
        }
        let is_at_once = urgency == Urgency::AtOnce;
        // Of a client that has submitted to this group before, too, whose waker keeps its place.
        state.open.at_once |= is_at_once;
        let notify = (is_at_once && std::mem::take(&mut state.committer_lingers))
            || ((state.open.urgent || starts_delay) && std::mem::take(&mut state.committer_waits));
        drop(guard);
        shared.notify(notify);
        staging.clear();
        Ok(ticket)
    }

    /// Removes old parts of the log, see [`LogTrimmer::trim`], on the caller's thread and in whatever state group commit
    /// is. Events that the log was too full for are taken again as soon as this returns; nobody is woken, because
    /// nobody waits for that.
    ///
    /// # Errors
    ///
    /// As [`LogTrimmer::trim`]. What was removed before the error counts.
    pub fn trim(&self, before: Offset) -> Result<Trimmed, LogError> {
        let Handle { shared, trimmer, .. } = &*self.handle;
        let trimmed = trimmer.trim(before);
        {
            // Under the lock: of two who measure, the later one has the newer size.
            let mut state = shared.lock();
            state.log_bytes = trimmer.size_bytes();
            state.refuses_events &= !trimmed.as_ref().is_ok_and(|trimmed| trimmed.segments > 0);
            shared.counters.log_bytes(state.log_bytes);
        }
        trimmed
    }

    /// Whether the events submitted last were refused because the log is full, and it has not been trimmed since.
    pub fn refuses_events(&self) -> bool {
        self.handle.shared.lock().refuses_events
    }

    /// The oldest submission that somebody waits for and that is not committed, if there is one.
    pub fn waiting(&self) -> Option<Waiting> {
        let state = self.handle.shared.lock();
        let open = || {
            let since = state.open.awaited_since?;
            Some(Waiting { ticket: Ticket::new(state.life, state.group), since })
        };
        state.in_flight.or_else(open)
    }

    /// From now on a group waits this long for company after the first submission that somebody waits for, unless it fills up before or is
    /// given something that is to go [`Urgency::AtOnce`]. For times when fewer syncs matter more than the time of each; zero, as at the start, is no delay.
    pub fn linger(&self, linger: Duration) {
        self.handle.shared.lock().linger = linger;
    }

    /// The longest time in nanoseconds from a group's first submission that somebody waited for to its commit, of the groups committed
    /// since the last call.
    pub fn take_longest_sojourn(&self) -> u64 {
        self.handle.shared.counters.take_longest_sojourn()
    }

    /// How group commit is doing.
    pub fn state(&self) -> CommitState {
        self.handle.shared.lock().mode.clone()
    }

    /// Totals since the start.
    pub fn stats(&self) -> CommitStats {
        self.handle.shared.counters.read()
    }

    /// Takes the samples of groups committed since the last call, at most 4096 of the newest ones.
    pub fn drain_samples(&self) -> Vec<CommitSample> {
        self.handle.shared.counters.drain_samples()
    }

    /// Commits what is open, syncs, stops the committer and waits for it. Calling it again does nothing. From within
    /// the sink it only asks the committer to stop.
    pub fn shutdown(&self) {
        self.handle.shutdown();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Handle {
    fn shutdown(&self) {
        let notify = {
            let mut state = self.shared.lock();
            state.stop = true;
            std::mem::take(&mut state.committer_waits)
        };
        self.shared.notify(notify);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_some_and(|thread| thread.thread().id() == thread::current().id()) {
            return;
        }
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the committer thread had panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock while the state is inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, needed: bool) {
        if needed {
            self.work.notify_one();
        }
    }
}

impl State {
    fn accepts(&self) -> Result<(), SubmitError> {
        match &self.mode {
            CommitState::Poisoned { reason, .. } => {
                Err(SubmitError::Unavailable { reason: Arc::clone(reason) })
            }
            CommitState::Stopped => Err(SubmitError::Stopped),
            CommitState::Running if self.stop => Err(SubmitError::Stopped),
            CommitState::Running => Ok(()),
        }
    }

    /// Whether the log with this submission would exceed its limit: `max_bytes` for events, a sixteenth more for
    /// control entries alone.
    fn log_is_full(&self, staging: &Staging, max_bytes: u64) -> bool {
        let limit = match staging.events() {
            0 => max_bytes.saturating_add(max_bytes / 16),
            _ => max_bytes,
        };
        let open = self.open.bytes.len() as u64;
        let size = self.log_bytes.saturating_add(self.in_flight_bytes).saturating_add(open);
        size.saturating_add(staging.byte_len() as u64) > limit
    }
}

fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

//! The one thread that writes the log.

use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::open_group::OpenGroup;
use super::options::{
    BeforeReopen, ClockMs, CommitState, CommittedGroup, Durability, GroupCommitOptions, PoisonCause, Waiting,
};
use super::receipt::{Durable, LIVES_MAX, Ticket};
use super::stats::CommitSample;
use super::{Shared, State, wake_all};
use crate::batch::{Batch, GroupSpan};
use crate::compression::{Compression, Packer};
use crate::frame::{self, FRAME_HEADER_LEN};
use crate::index::EntryIndex;
use crate::log::{GroupInfo, Log, LogError};

/// A batch whose buffers have at most this much spare room keeps them; otherwise its entries are copied out. A reader
/// that keeps the last thousand small groups must not keep a thousand megabytes with them.
const SPARE_BYTES_MAX: usize = 64 << 10;

pub(super) struct Committer {
    shared: Arc<Shared>,
    log: Box<dyn Log>,
    clock: ClockMs,
    sink: Box<dyn FnMut(CommittedGroup) + Send>,
    before_reopen: BeforeReopen,
    packer: Option<Packer>,
    /// Something was appended and not synced.
    unsynced: bool,
    /// When it is to be synced.
    sync_due: Option<Instant>,
}

/// What the committer does next.
enum Work {
    Commit(OpenGroup, Ticket),
    Sync,
    Stop,
}

/// A failure of the log that poisons it.
struct Failure {
    cause: PoisonCause,
    reason: String,
    /// The group that is lost with it.
    group: Option<Box<OpenGroup>>,
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        log: Box<dyn Log>,
        clock: ClockMs,
        sink: Box<dyn FnMut(CommittedGroup) + Send>,
        before_reopen: BeforeReopen,
    ) -> Self {
        let GroupCommitOptions { compression, group_bytes_max, .. } = shared.options;
        let packer = match compression {
            Compression::None => None,
            Compression::Lz4 => Some(Packer::new(group_bytes_max)),
        };
        Self { shared, log, clock, sink, before_reopen, packer, unsynced: false, sync_due: None }
    }

    pub(super) fn run(mut self) {
        let _exit = OnExit(Arc::clone(&self.shared));
        loop {
            let done = match self.next_work() {
                Work::Commit(group, ticket) => self.commit(group, ticket),
                Work::Sync => self.sync().map(drop).map_err(|error| Failure::of(PoisonCause::Sync, &error)),
                Work::Stop => break,
            };
            if let Err(failure) = done {
                self.poison(failure);
                if !self.reopen() {
                    return;
                }
            }
        }
        if self.unsynced
            && let Err(error) = self.sync()
        {
            tracing::error!(%error, "the last sync of the log failed at shutdown");
        }
    }

    /// Waits until there is something to do and takes it.
    fn next_work(&self) -> Work {
        let shared = &*self.shared;
        // Looked up before the lock, so that submitters do not wait for it.
        let spare = shared.pool.take();
        let mut state = shared.lock();
        loop {
            let now = Instant::now();
            if self.sync_due.is_some_and(|due| due <= now) {
                drop(state);
                shared.pool.put(spare.0, spare.1);
                return Work::Sync;
            }
            let lazy_due = state.open.lazy_since.map(|since| since + shared.options.lazy_delay);
            if let Some(left) = lingers(&state, now, shared.options.group_bytes_max) {
                // Notified only for what is not to wait: it looks again soon enough, whatever else comes.
                state.committer_lingers = true;
                state = shared.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                state.committer_lingers = false;
                continue;
            }
            if !state.open.is_empty()
                && (state.open.urgent || state.stop || lazy_due.is_some_and(|due| due <= now))
            {
                let group = std::mem::replace(&mut state.open, OpenGroup::new(spare));
                let ticket = Ticket::new(state.life, state.group);
                state.group += 1;
                state.in_flight_bytes = group.bytes.len() as u64;
                state.in_flight = group.awaited_since.map(|since| Waiting { ticket, since });
                let waiters = state.waiting_for_room.take();
                drop(state);
                wake_all(waiters);
                return Work::Commit(group, ticket);
            }
            if state.stop {
                return Work::Stop;
            }
            state.committer_waits = true;
            let due = [lazy_due, self.sync_due].into_iter().flatten().min();
            state = match due {
                Some(due) => {
                    let waited = shared.work.wait_timeout(state, due.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => shared.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.committer_waits = false;
        }
    }

    fn commit(&mut self, mut group: OpenGroup, ticket: Ticket) -> Result<(), Failure> {
        let info = GroupInfo {
            first: self.log.next_offset(),
            entries: group.index.len() as u32,
            time_ms: (self.clock)().max(self.log.last_time_ms()),
        };
        let written = match self.write(&mut group.bytes, info) {
            Ok(written) => written,
            Err(error) => return Err(Failure::of(PoisonCause::Append, &error).losing(group)),
        };
        self.unsynced = true;
        let sync_nanos = match self.shared.options.durability {
            Durability::Fsync => match self.sync() {
                Ok(nanos) => nanos,
                Err(error) => return Err(Failure::of(PoisonCause::Sync, &error).losing(group)),
            },
            Durability::Interval(interval) => {
                self.log.release();
                self.sync_due.get_or_insert_with(|| Instant::now() + interval);
                0
            }
            Durability::Memory => {
                self.log.release();
                0
            }
        };
        {
            let mut state = self.shared.lock();
            self.measure(&mut state);
            state.in_flight_bytes = 0;
            state.in_flight = None;
        }
        if let Some(since) = group.awaited_since {
            self.shared.counters.sojourned(nanos(since.elapsed()));
        }
        let bytes = group.bytes.len();
        self.shared.counters.committed(
            CommitSample { sync_nanos, entries: info.entries, bytes: written as u32 },
            group.events,
            (bytes - FRAME_HEADER_LEN) as u64,
        );
        let contributors = group.take_contributors();
        let batch = Arc::new(self.batch_of(group, info));
        (self.sink)(CommittedGroup { batch, durable: Durable::mint(ticket), contributors });
        Ok(())
    }

    /// Gives a group to the log, compressed if that is wanted and worth it, and says how many bytes that were. The
    /// group's own bytes are for those who read it from memory and stay as they are.
    fn write(&mut self, bytes: &mut [u8], info: GroupInfo) -> Result<usize, LogError> {
        let salt = self.log.salt();
        if let Some(frame) = self.packer.as_mut().and_then(|packer| packer.pack(bytes, &info, salt)) {
            return self.log.append(frame, info).map(|()| frame.len());
        }
        let sealed = frame::seal(bytes, &info, salt);
        debug_assert!(sealed, "an open group has room for its header and less than 4 GiB");
        self.log.append(bytes, info).map(|()| bytes.len())
    }

    /// Notes how large the log is. Whoever trims does the same, under the same lock.
    fn measure(&self, state: &mut State) {
        state.log_bytes = self.log.size_bytes();
        self.shared.counters.log_bytes(state.log_bytes);
    }

    fn sync(&mut self) -> Result<u64, LogError> {
        self.sync_due = None;
        let started = Instant::now();
        self.log.sync()?;
        self.unsynced = false;
        let nanos = nanos(started.elapsed());
        self.shared.counters.synced(nanos);
        Ok(nanos)
    }

    fn batch_of(&self, group: OpenGroup, info: GroupInfo) -> Batch {
        let OpenGroup { bytes, index, .. } = group;
        let span = GroupSpan { first_index: 0, first: info.first, time_ms: info.time_ms };
        let spare_bytes = bytes.capacity() - bytes.len();
        let spare_index = (index.capacity() - index.len()) * size_of::<EntryIndex>();
        if spare_bytes + spare_index <= SPARE_BYTES_MAX.max(bytes.len() / 2) {
            return Batch::new(bytes, index, vec![span]).pooled(Arc::clone(&self.shared.pool));
        }
        let batch = Batch::new(bytes.as_slice().into(), index.as_slice().into(), vec![span]);
        self.shared.pool.put(bytes, index);
        batch
    }

    /// Tells everybody that the log has failed. The open group goes too: its entries were to follow the lost ones.
    fn poison(&mut self, failure: Failure) {
        let Failure { cause, reason, group } = failure;
        tracing::error!(?cause, %reason, "the log has failed; nothing is acknowledged until it is reopened");
        self.unsynced = false;
        self.sync_due = None;
        let since_ms = (self.clock)();
        let mut open = self.shared.fail(CommitState::Poisoned { since_ms, cause, reason: reason.into() });
        let lost = open.index.len() + group.as_ref().map_or(0, |group| group.index.len());
        let events = open.events + group.as_ref().map_or(0, |group| group.events);
        self.shared.counters.failed(lost as u64, events);
        wake_all(group.map(|mut group| group.take_contributors()).unwrap_or_default());
        wake_all(open.take_contributors());
    }

    /// Tries to reopen the log until it succeeds. False when group commit is to stop, or when no life is left.
    fn reopen(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        loop {
            let mut state = shared.lock();
            let retry_at = Instant::now() + shared.options.reopen_delay;
            loop {
                if state.stop {
                    return false;
                }
                let left = retry_at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state.committer_waits = true;
                let waited = shared.work.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                state.committer_waits = false;
            }
            let out_of_lives = state.life >= LIVES_MAX;
            drop(state);
            if out_of_lives {
                tracing::error!("the log has failed too often in this process; only a restart helps");
                shared.fail_for_good("the log has failed too often in this process");
                return false;
            }
            if let Err(error) = (self.before_reopen)() {
                tracing::warn!(%error, "the log is not reopened yet");
                continue;
            }
            match self.log.reopen() {
                Ok(()) => {
                    tracing::info!(next_offset = %self.log.next_offset(), "the log has been reopened");
                    shared.counters.reopened();
                    let mut state = shared.lock();
                    state.life += 1;
                    self.measure(&mut state);
                    state.mode = CommitState::Running;
                    return true;
                }
                Err(error) => tracing::warn!(%error, "the log could not be reopened"),
            }
        }
    }
}

impl Failure {
    fn of(cause: PoisonCause, error: &LogError) -> Self {
        let cause = if matches!(error, LogError::NoSpace { .. }) { PoisonCause::NoSpace } else { cause };
        Self { cause, reason: error.to_string(), group: None }
    }

    fn losing(self, group: OpenGroup) -> Self {
        Self { group: Some(Box::new(group)), ..self }
    }
}

impl Shared {
    /// Sets a mode in which nothing is taken, wakes who waits for room, and returns what was open.
    fn fail(&self, mode: CommitState) -> OpenGroup {
        let spare = self.pool.take();
        let mut guard = self.lock();
        let state: &mut State = &mut guard;
        state.mode = mode;
        state.in_flight_bytes = 0;
        state.in_flight = None;
        // The lost group's number is not given again in this life.
        state.group += 1;
        let open = std::mem::replace(&mut state.open, OpenGroup::new(spare));
        let waiters = state.waiting_for_room.take();
        drop(guard);
        wake_all(waiters);
        open
    }

    fn fail_for_good(&self, reason: &str) {
        let since_ms = match &self.lock().mode {
            CommitState::Poisoned { since_ms, .. } => *since_ms,
            _ => 0,
        };
        let mode = CommitState::Poisoned { since_ms, cause: PoisonCause::Fatal, reason: reason.into() };
        let mut open = self.fail(mode);
        self.counters.failed(open.index.len() as u64, open.events);
        wake_all(open.take_contributors());
    }
}

/// However the thread ends, nobody waits for it in vain.
struct OnExit(Arc<Shared>);

impl Drop for OnExit {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail_for_good("the committer thread panicked");
            return;
        }
        let fatal = {
            let state = self.0.lock();
            matches!(state.mode, CommitState::Poisoned { cause: PoisonCause::Fatal, .. })
        };
        if !fatal {
            let mut open = self.0.fail(CommitState::Stopped);
            wake_all(open.take_contributors());
        }
    }
}

/// How long the open group goes on waiting for company, if it does.
fn lingers(state: &State, now: Instant, group_bytes_max: usize) -> Option<Duration> {
    let since = state.open.awaited_since?;
    let left = state.linger.checked_sub(now.saturating_duration_since(since))?;
    let is_full = state.open.bytes.len() >= group_bytes_max / 2;
    (!left.is_zero() && !is_full && !state.open.at_once && !state.stop).then_some(left)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

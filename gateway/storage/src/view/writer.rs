//! The view's own thread: saves and checkpoints in the background, one at a time.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::saver::Saver;
use super::{Changes, View, ViewError};
use crate::checkpoint::{CheckpointError, Checkpoints};
use crate::offset::Offset;
use crate::reserve::Reserve;

/// While the disk is full, a save is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

/// Saves changes, and writes checkpoints of what is saved, on a thread of its own. At most one of them is under way, and
/// nothing queues behind it: the caller keeps collecting changes while the writer is busy.
///
/// A save that fails because the disk is full is tried again until it succeeds, with the reserve given up; the writer is
/// busy all that time. Any other failure is final.
#[derive(Debug)]
pub struct ViewWriter {
    view: Arc<View>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The checkpoints there are, and what became of the last attempt to write one.
#[derive(Clone, Debug, Default)]
pub struct CheckpointState {
    /// Up to which offset the newest one is applied.
    pub newest: Option<Offset>,
    /// Up to which offset the oldest one is applied: so far the log may be trimmed.
    pub oldest: Option<Offset>,
    /// Length of the newest one in bytes.
    pub bytes: u64,
    /// Why the last attempt failed, if it did.
    pub failed: Option<Arc<CheckpointError>>,
}

/// How the writer gets along with a full disk. The counts only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceState {
    /// A save waits for space now.
    pub waiting: bool,
    /// Attempts to save that were put off, or failed, for want of space.
    pub put_off: u64,
    /// Times the view was opened again after one of them had failed.
    pub reopened: u64,
}

/// What the thread and its callers share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stopping: AtomicBool,
    retry: Duration,
}

#[derive(Debug, Default)]
struct State {
    save: Option<(Changes, Offset)>,
    /// A save is handed over or under way.
    saving: bool,
    checkpoint: bool,
    /// A checkpoint is asked for or under way.
    checkpointing: bool,
    error: Option<Arc<ViewError>>,
    checkpoints: CheckpointState,
    space: SpaceState,
    refused: u64,
}

#[derive(Debug)]
enum Job {
    Save(Changes, Offset),
    Checkpoint,
}

/// What ended the waiting for space.
#[derive(Clone, Copy, Debug)]
pub(super) enum Woken {
    /// It is time to try again.
    Retry,
    /// A checkpoint is asked for: it lets the log be trimmed, which makes room.
    Checkpoint,
    /// The writer stops.
    Stop,
}

impl ViewWriter {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(view: Arc<View>, checkpoints: Checkpoints, reserve: Arc<Reserve>) -> io::Result<Self> {
        Self::start_retrying(view, checkpoints, reserve, RETRY)
    }

    pub(super) fn start_retrying(
        view: Arc<View>,
        checkpoints: Checkpoints,
        reserve: Arc<Reserve>,
        retry: Duration,
    ) -> io::Result<Self> {
        let state = State { checkpoints: checkpoint_state(&checkpoints, None), ..State::default() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            retry,
        });
        let saver = Saver::new(Arc::clone(&view), checkpoints, reserve, Arc::clone(&shared));
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("view-writer".to_owned()).spawn(move || shared.run(saver))?
        };
        Ok(Self { view, shared, thread: Mutex::new(Some(thread)) })
    }

    /// Hands over changes to be saved with the offset they reach to.
    ///
    /// # Errors
    ///
    /// The changes themselves while the writer is busy, after a save has failed for good ([`ViewWriter::error`]), and
    /// after [`ViewWriter::shutdown`].
    pub fn try_save(&self, changes: Changes, applied: Offset) -> Result<(), Changes> {
        let mut state = self.shared.lock();
        if state.saving || !self.shared.takes_on(&state) {
            state.refused += 1;
            return Err(changes);
        }
        state.saving = true;
        state.save = Some((changes, applied));
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Asks for a checkpoint of what is saved, and says whether the writer takes that on: not while it is busy, unless
    /// with a save that waits for space, and not after a save has failed for good. What becomes of it,
    /// [`ViewWriter::checkpoint_state`] says.
    pub fn try_checkpoint(&self) -> bool {
        let mut state = self.shared.lock();
        if (state.saving && !state.space.waiting) || !self.shared.takes_on(&state) {
            return false;
        }
        state.checkpoint = true;
        state.checkpointing = true;
        drop(state);
        self.shared.changed.notify_all();
        true
    }

    /// The checkpoints there are.
    pub fn checkpoint_state(&self) -> CheckpointState {
        self.shared.lock().checkpoints.clone()
    }

    /// How it gets along with a full disk.
    pub fn space_state(&self) -> SpaceState {
        self.shared.lock().space
    }

    /// Saves that were not taken on.
    pub fn refused(&self) -> u64 {
        self.shared.lock().refused
    }

    /// The view, for reading. While it is being opened again, reads end in [`ViewError::Closed`].
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Up to which offset the view is saved.
    pub fn saved(&self) -> Offset {
        self.view.applied()
    }

    /// Waits until nothing is under way but a save that waits for space.
    pub fn wait_idle(&self) {
        let mut state = self.shared.lock();
        while state.checkpointing || (state.saving && !state.space.waiting) {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The error that ended saving, if there was one. The view on disk is as it was after the last good save, or is
    /// set aside at the next start.
    pub fn error(&self) -> Option<Arc<ViewError>> {
        self.shared.lock().error.clone()
    }

    /// Finishes the save under way, unless that waits for space, gives up a checkpoint under way, and stops the thread.
    /// Calling it again does nothing.
    pub fn shutdown(&self) {
        {
            // Under the lock, so that nobody goes to sleep between looking and being told.
            let _state = self.shared.lock();
            self.shared.stopping.store(true, Ordering::Release);
        }
        self.shared.changed.notify_all();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the view's thread had panicked");
        }
    }
}

impl Drop for ViewWriter {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn takes_on(&self, state: &State) -> bool {
        !state.checkpointing && !self.is_stopping() && state.error.is_none()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn run(&self, mut saver: Saver) {
        while let Some(job) = self.next_job() {
            match job {
                Job::Save(changes, applied) => {
                    let saved = saver.save(&changes, applied);
                    let mut state = self.lock();
                    if let Err(error) = saved {
                        tracing::error!(%error, "the view could not be saved; it will be rebuilt at the next start");
                        state.error = Some(Arc::new(error));
                    }
                    state.saving = false;
                    state.space.waiting = false;
                }
                Job::Checkpoint => saver.checkpoint(),
            }
            self.changed.notify_all();
        }
        // What was asked for when the writer was told to stop comes to nothing.
        self.lock().checkpointing = false;
        self.changed.notify_all();
    }

    fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some((changes, applied)) = state.save.take() {
                return Some(Job::Save(changes, applied));
            }
            if self.is_stopping() {
                return None;
            }
            if std::mem::take(&mut state.checkpoint) {
                return Some(Job::Checkpoint);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes what has become of a checkpoint.
    pub(super) fn end_checkpoint(&self, kept: &Checkpoints, failed: Option<CheckpointError>) {
        let mut state = self.lock();
        match &failed {
            Some(CheckpointError::Stopped) => {}
            // Whoever asks again and again is told in the state, not in the log.
            Some(error) if state.checkpoints.failed.is_none() => {
                tracing::error!(%error, "a checkpoint could not be written");
            }
            _ => {}
        }
        state.checkpoints = checkpoint_state(kept, failed.map(Arc::new));
        state.checkpointing = false;
        drop(state);
        self.changed.notify_all();
    }

    /// Counts an attempt that found no space.
    pub(super) fn count_put_off(&self) {
        self.lock().space.put_off += 1;
    }

    /// Counts the view's being opened again.
    pub(super) fn count_reopened(&self) {
        self.lock().space.reopened += 1;
    }

    /// Waits for space, or for something better to do meanwhile.
    pub(super) fn wait_for_space(&self) -> Woken {
        let until = Instant::now() + self.retry;
        let mut state = self.lock();
        state.space.waiting = true;
        self.changed.notify_all();
        loop {
            if self.is_stopping() {
                return Woken::Stop;
            }
            if std::mem::take(&mut state.checkpoint) {
                return Woken::Checkpoint;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Woken::Retry;
            }
            let (guard, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = guard;
        }
    }
}

fn checkpoint_state(checkpoints: &Checkpoints, failed: Option<Arc<CheckpointError>>) -> CheckpointState {
    CheckpointState {
        newest: checkpoints.newest(),
        oldest: checkpoints.oldest(),
        bytes: checkpoints.newest_bytes(),
        failed,
    }
}

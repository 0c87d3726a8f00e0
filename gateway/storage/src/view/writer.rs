//! The view's own thread: saves in the background, one at a time.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::{Changes, View, ViewError};
use crate::offset::Offset;

/// Saves changes on a thread of its own. At most one save is under way, and nothing queues behind it: the caller keeps
/// collecting changes while the writer is busy.
#[derive(Debug)]
pub struct ViewWriter {
    view: Arc<View>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    job: Option<(Changes, Offset)>,
    busy: bool,
    stop: bool,
    error: Option<Arc<ViewError>>,
}

impl ViewWriter {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(view: Arc<View>) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let thread = {
            let (view, shared) = (Arc::clone(&view), Arc::clone(&shared));
            thread::Builder::new().name("view-writer".to_owned()).spawn(move || shared.run(&view))?
        };
        Ok(Self { view, shared, thread: Mutex::new(Some(thread)) })
    }

    /// Hands over changes to be saved with the offset they reach to.
    ///
    /// # Errors
    ///
    /// The changes themselves while a save is under way, after one has failed ([`ViewWriter::error`]), and after
    /// [`ViewWriter::shutdown`].
    pub fn try_save(&self, changes: Changes, applied: Offset) -> Result<(), Changes> {
        let mut state = self.shared.lock();
        if state.busy || state.stop || state.error.is_some() {
            return Err(changes);
        }
        state.busy = true;
        state.job = Some((changes, applied));
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Up to which offset the view is saved.
    pub fn saved(&self) -> Offset {
        self.view.applied()
    }

    /// Waits until no save is under way.
    pub fn wait_idle(&self) {
        let mut state = self.shared.lock();
        while state.busy {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The error that ended saving, if there was one. The view on disk is as it was after the last good save, or is
    /// set aside at the next start.
    pub fn error(&self) -> Option<Arc<ViewError>> {
        self.shared.lock().error.clone()
    }

    /// Finishes the save under way and stops the thread. Calling it again does nothing.
    pub fn shutdown(&self) {
        self.shared.lock().stop = true;
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

    fn run(&self, view: &View) {
        loop {
            let mut state = self.lock();
            let (changes, applied) = loop {
                if let Some(job) = state.job.take() {
                    break job;
                }
                if state.stop {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            let saved = view.save(&changes, applied);
            let mut state = self.lock();
            state.busy = false;
            if let Err(error) = saved {
                tracing::error!(%error, "the view could not be saved; it will be rebuilt from the log");
                state.error = Some(Arc::new(error));
            }
            drop(state);
            self.changed.notify_all();
        }
    }
}

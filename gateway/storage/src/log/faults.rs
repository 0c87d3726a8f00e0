//! Faults on demand, for the tests of whoever must survive them.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A plan of faults, shared between a test and the log it troubles. Counts are from now on: 1 is the next call.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Plan {
    /// Calls until the one that fails, and the bytes it still writes.
    write: Option<(u64, usize)>,
    sync: Option<u64>,
    reopen: Option<u64>,
    remove: Option<u64>,
    sync_dir: Option<u64>,
    /// Bytes until the disk is full.
    space: Option<u64>,
    stall: bool,
    /// The next sync is to hang, and one does.
    stall_one: bool,
    holds_one: bool,
    stalled: bool,
    writes: u64,
    syncs: u64,
    dir_syncs: u64,
}

impl Faults {
    /// No faults yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The `nth` write fails and leaves nothing behind.
    pub fn fail_write(&self, nth: u64) {
        self.tear_write(nth, 0);
    }

    /// The `nth` write fails after `bytes` bytes of it are written.
    pub fn tear_write(&self, nth: u64, bytes: usize) {
        self.lock().write = Some((nth, bytes));
    }

    /// The `nth` sync fails.
    pub fn fail_sync(&self, nth: u64) {
        self.lock().sync = Some(nth);
    }

    /// The `nth` attempt to begin anew after a failure fails.
    pub fn fail_reopen(&self, nth: u64) {
        self.lock().reopen = Some(nth);
    }

    /// The `nth` removal of an old part of the log fails.
    pub fn fail_remove(&self, nth: u64) {
        self.lock().remove = Some(nth);
    }

    /// The `nth` sync of a directory fails.
    pub fn fail_sync_dir(&self, nth: u64) {
        self.lock().sync_dir = Some(nth);
    }

    /// The disk is full after `bytes` more bytes; None gives it endless space again.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.lock().space = bytes;
    }

    /// Syncs hang from now on, until [`Faults::release_sync`].
    pub fn stall_sync(&self) {
        self.lock().stall = true;
    }

    /// The next sync hangs, and no other, until [`Faults::release_sync`].
    pub fn stall_one_sync(&self) {
        self.lock().stall_one = true;
    }

    /// Lets hanging syncs, and all later ones, go on.
    pub fn release_sync(&self) {
        let mut plan = self.lock();
        (plan.stall, plan.stall_one, plan.holds_one) = (false, false, false);
        drop(plan);
        self.0.changed.notify_all();
    }

    /// Whether a sync hangs.
    pub fn is_stalled(&self) -> bool {
        self.lock().stalled
    }

    /// Waits until a sync hangs.
    pub fn wait_until_stalled(&self) {
        let mut plan = self.lock();
        while !plan.stalled {
            plan = self.0.changed.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes and syncs seen so far, failed ones included.
    pub fn calls(&self) -> (u64, u64) {
        let plan = self.lock();
        (plan.writes, plan.syncs)
    }

    /// Syncs of directories seen so far, failed ones included.
    pub fn dir_syncs(&self) -> u64 {
        self.lock().dir_syncs
    }

    /// Bytes until the disk is full, if there is a limit.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn space(&self) -> Option<u64> {
        self.lock().space
    }

    /// What becomes of a write of `len` bytes: how many are written, and with what error it ends.
    pub(crate) fn on_write(&self, len: usize) -> (usize, io::Result<()>) {
        let mut plan = self.lock();
        plan.writes += 1;
        if let Some((calls, bytes)) = plan.write.take() {
            match calls {
                0 | 1 => return (bytes.min(len), Err(io::Error::other("injected write failure"))),
                _ => plan.write = Some((calls - 1, bytes)),
            }
        }
        match &mut plan.space {
            Some(left) if *left < len as u64 => {
                let written = std::mem::take(left) as usize;
                (written, Err(io::ErrorKind::StorageFull.into()))
            }
            Some(left) => {
                *left -= len as u64;
                (len, Ok(()))
            }
            None => (len, Ok(())),
        }
    }

    /// What becomes of a sync. Hangs when told to.
    pub(crate) fn on_sync(&self) -> io::Result<()> {
        let mut plan = self.lock();
        plan.syncs += 1;
        let is_the_one = std::mem::take(&mut plan.stall_one);
        plan.holds_one |= is_the_one;
        while plan.stall || (is_the_one && plan.holds_one) {
            plan.stalled = true;
            self.0.changed.notify_all();
            plan = self.0.changed.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
        plan.stalled = plan.holds_one;
        count_down(&mut plan.sync, "injected sync failure")
    }

    /// What becomes of an attempt to begin anew.
    pub(crate) fn on_reopen(&self) -> io::Result<()> {
        count_down(&mut self.lock().reopen, "injected failure to reopen")
    }

    /// What becomes of the removal of a file, or of a unit of a log in memory.
    pub(crate) fn on_remove(&self) -> io::Result<()> {
        count_down(&mut self.lock().remove, "injected failure to remove")
    }

    /// What becomes of a sync of a directory.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn on_sync_dir(&self) -> io::Result<()> {
        let mut plan = self.lock();
        plan.dir_syncs += 1;
        count_down(&mut plan.sync_dir, "injected failure to sync a directory")
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count_down(calls: &mut Option<u64>, message: &'static str) -> io::Result<()> {
    match calls.take() {
        Some(0 | 1) => Err(io::Error::other(message)),
        Some(more) => {
            *calls = Some(more - 1);
            Ok(())
        }
        None => Ok(()),
    }
}

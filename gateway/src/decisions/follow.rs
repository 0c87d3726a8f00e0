//! Following the log as it grows. There is no queue for a follower: it reads the ring at its own pace, and is told what it missed.

use super::log::DecisionLog;
use super::record::Recorded;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Those who wait for something new.
#[derive(Debug, Default)]
pub(super) struct Followers {
    count: AtomicUsize,
    grown: Notify,
}

impl Followers {
    /// Something is new.
    pub(super) fn tell(&self) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.grown.notify_waiters();
        }
    }
}

/// What is new.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    /// Entries that were given up before this follower came to them.
    pub missed: u64,
    /// Oldest first.
    pub decisions: Vec<Recorded>,
}

/// A place in the log that moves forward.
#[derive(Debug)]
pub struct Follower {
    log: DecisionLog,
    next: u64,
}

impl Follower {
    pub(super) fn new(log: DecisionLog, next: u64) -> Self {
        log.followers().count.fetch_add(1, Ordering::Relaxed);
        Self { log, next }
    }

    /// What is new, at most `max` entries; nothing if nothing is.
    pub fn take(&mut self, max: usize) -> News {
        let (missed, decisions) = self.log.read(&mut self.next, max);
        News { missed, decisions }
    }

    /// What is new, as soon as something is. Nothing is lost if it is given up while it waits.
    pub async fn next(&mut self, max: usize) -> News {
        loop {
            let log = self.log.clone();
            let mut grown = std::pin::pin!(log.followers().grown.notified());
            // Listens from here on, so that what comes behind the look into the log is not overslept.
            grown.as_mut().enable();
            let news = self.take(max);
            if news != News::default() {
                return news;
            }
            grown.await;
        }
    }

    /// The log it follows.
    #[must_use]
    pub const fn log(&self) -> &DecisionLog {
        &self.log
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.log.followers().count.fetch_sub(1, Ordering::Relaxed);
    }
}

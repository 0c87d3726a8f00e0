//! Spans that are open or wait to be sent: both bounded, neither waited for.

use super::metrics::{self, Dropped};
use super::span::{OpenSpan, Span};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Spans that are sent together.
pub(super) const BATCH: usize = 512;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Queue {
    /// Spans that may be open, and spans that may wait.
    limit: usize,
    open: AtomicUsize,
    waiting: Mutex<VecDeque<Box<Span>>>,
    /// There is a batch.
    filled: Notify,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: AtomicUsize::new(0), waiting: Mutex::default(), filled: Notify::new() }
    }

    /// Begins a span, if there is room for one.
    pub(super) fn open(self: &Arc<Self>, span: Span) -> Option<OpenSpan> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.open.fetch_sub(1, Ordering::Relaxed);
            metrics::dropped(Dropped::TooManyOpen, 1);
            return None;
        }
        Some(OpenSpan::new(span, self.clone()))
    }

    /// Takes a span that has ended.
    pub(super) fn close(&self, span: Box<Span>) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        metrics::ended(span.kind);
        let mut waiting = self.lock();
        if waiting.len() >= self.limit {
            drop(waiting);
            metrics::dropped(Dropped::QueueFull, 1);
            return;
        }
        waiting.push_back(span);
        let is_batch = waiting.len() == BATCH.min(self.limit);
        drop(waiting);
        if is_batch {
            self.filled.notify_one();
        }
    }

    /// Until a whole batch waits.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The oldest of those that wait, a batch at most.
    #[expect(clippy::vec_box, reason = "moved while others wait for the lock")]
    pub(super) fn take(&self) -> Vec<Box<Span>> {
        let mut waiting = self.lock();
        let count = waiting.len().min(BATCH);
        waiting.drain(..count).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Box<Span>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! One consumer, for those who take part in it.

use super::core::Settled;
use super::id::DeliveryId;
use super::shared::{Seat, Shared};
use super::worker::{Ended, Worker, WorkerKind};
use crate::clock;
use crate::engine::Cause;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// What became of a hand-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done with.
    Ack,
    /// The worker has failed at it.
    Nak {
        /// How long it waits, in milliseconds; `None`: the consumer's backoff.
        delay_ms: Option<u64>,
    },
    /// Nobody can do it.
    Reject {
        /// The cause that its dead letter gets; [`Cause::Rejected`] or [`Cause::TooLarge`].
        cause: Cause,
        /// What the worker says of it; empty as a rule.
        note: Box<str>,
    },
    /// The worker needs longer.
    Extend,
    /// Its Message Expiry Interval has passed: it is not delivered any more.
    Expired,
}

/// Nobody may take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The consumer has as many workers as it may.
    #[error("the consumer has {0} workers, which is the most")]
    TooManyWorkers(usize),
    /// The consumer is no more, or the gateway ends.
    #[error("the consumer has ended")]
    Ended,
}

/// A handle on a consumer; cheap to clone.
#[derive(Clone)]
pub struct Consumer {
    pub(super) shared: Arc<Shared>,
}

impl Consumer {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Takes part. `credit`: how many events it may be handed at first; `waker` is woken when there is one, until [`Worker::poll_next`] is given
    /// another.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn join(&self, name: &str, kind: WorkerKind, credit: u32, waker: Waker) -> Result<Worker, JoinError> {
        let most = self.shared.limits.workers_max;
        let id = self.shared.change(|inner| {
            if inner.ended.is_some() {
                return Err(JoinError::Ended);
            }
            if inner.core.workers() >= most {
                return Err(JoinError::TooManyWorkers(most));
            }
            let id = inner.core.join(name, credit, clock::unix_ms());
            inner.seats.insert(id, Seat { kind, queue: VecDeque::new(), waker, ended: None });
            Ok(id)
        })?;
        Ok(Worker::new(self.shared.clone(), id))
    }

    /// Says what became of a hand-out, whoever got it, also before a restart.
    pub fn settle(&self, id: DeliveryId, outcome: Outcome) -> Settled {
        self.shared.settle(id, outcome)
    }

    /// [`Outcome::Ack`] for each of many.
    pub fn acknowledge(&self, ids: impl IntoIterator<Item = DeliveryId>) {
        let now = clock::unix_ms();
        self.shared.change(|inner| {
            for id in ids.into_iter().filter(|id| id.generation == inner.spec.generation) {
                inner.core.ack(id.offset, id.attempt, now);
            }
        });
    }

    /// Whether both are the same one, and not another that was made later under its name.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether the consumer has ended, and why.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.shared.lock().ended
    }

    /// Waits until what was said so far is durable and what is dead by it is a dead letter, or the consumer has ended. While the log takes nothing
    /// that is not before it does again.
    pub async fn flush(&self) {
        let mut goal = None;
        poll_fn(|cx| {
            let mut inner = self.shared.lock();
            let is_first = goal.is_none();
            let goal = *goal.get_or_insert(inner.core.last_change());
            let is_confirmed = goal.is_none_or(|goal| inner.core.is_confirmed(goal));
            if inner.ended.is_some() || (is_confirmed && !inner.core.has_dead()) {
                return Poll::Ready(());
            }
            if !inner.flushing.iter().any(|waiter| waiter.will_wake(cx.waker())) {
                inner.flushing.push(cx.waker().clone());
            }
            let driver = if is_first { inner.driver.take() } else { None };
            drop(inner);
            if let Some(driver) = driver {
                driver.wake();
            }
            Poll::Pending
        })
        .await;
    }
}

impl Shared {
    pub(super) fn settle(&self, id: DeliveryId, outcome: Outcome) -> Settled {
        let now = clock::unix_ms();
        self.change(|inner| {
            if id.generation != inner.spec.generation {
                return Settled::Stale;
            }
            let core = &mut inner.core;
            match outcome {
                Outcome::Ack => core.ack(id.offset, id.attempt, now),
                Outcome::Nak { delay_ms } => core.nak(id.offset, id.attempt, delay_ms, now),
                Outcome::Expired => core.expired(id.offset, id.attempt),
                Outcome::Extend => core.extend(id.offset, id.attempt, now),
                Outcome::Reject { cause, note } => {
                    let settled = core.reject(id.offset, id.attempt, cause, now);
                    if settled == Settled::Done && !note.is_empty() {
                        inner.notes.insert(id.offset, note);
                    }
                    settled
                }
            }
        })
    }
}

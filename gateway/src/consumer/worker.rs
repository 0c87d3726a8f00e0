//! A worker's side of a consumer.

use super::content::Delivery;
use super::core::{Settled, WorkerId};
use super::handle::Outcome;
use super::id::DeliveryId;
use super::shared::{Inner, Shared};
use crate::clock;
use crate::engine::Cause;
use std::sync::Arc;
use std::task::{Context, Poll};

/// By which way a worker takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerKind {
    /// A client that has subscribed.
    Mqtt,
    /// A request for the next events.
    Http,
    /// A sink of this gateway.
    Sink,
}

impl WorkerKind {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Http => "http",
            Self::Sink => "sink",
        }
    }
}

/// Why a worker gets nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The consumer is no more.
    Deleted,
    /// The worker let its leases run out and was not heard of for too long.
    Hanging,
    /// The gateway ends.
    ShutDown,
}

/// What a worker gets.
#[derive(Clone, Debug)]
pub enum Handed {
    /// An event to work on.
    Item(Delivery),
    /// Nothing ever again.
    Ended(Ended),
}

/// A worker of one consumer. Dropped, it counts as lost: it may be working still, and its leases run on. [`Worker::leave`] gives back what it
/// has.
pub struct Worker {
    shared: Arc<Shared>,
    id: WorkerId,
    has_left: bool,
}

impl Worker {
    pub(super) const fn new(shared: Arc<Shared>, id: WorkerId) -> Self {
        Self { shared, id, has_left: false }
    }

    /// The consumer's name.
    #[must_use]
    pub fn consumer(&self) -> &str {
        &self.shared.name
    }

    /// Whether the worker gets nothing more, and why, although there may be events that it has not polled.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        let inner = self.shared.lock();
        let seat = inner.seats.get(&self.id);
        inner.ended.or_else(|| seat.map_or(Some(Ended::Hanging), |seat| seat.ended))
    }

    /// The next event for this worker. It uses up one of its credit.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Handed> {
        let mut inner = self.shared.lock();
        let Inner { core, seats, ended, .. } = &mut *inner;
        if let Some(ended) = *ended {
            return Poll::Ready(Handed::Ended(ended));
        }
        let Some(seat) = seats.get_mut(&self.id) else { return Poll::Ready(Handed::Ended(Ended::Hanging)) };
        while let Some(delivery) = seat.queue.pop_front() {
            if core.pick_up(self.id, delivery.id.offset, delivery.attempt) {
                return Poll::Ready(Handed::Item(delivery));
            }
        }
        if let Some(ended) = seat.ended {
            return Poll::Ready(Handed::Ended(ended));
        }
        if !seat.waker.will_wake(cx.waker()) {
            seat.waker.clone_from(cx.waker());
        }
        Poll::Pending
    }

    /// How many events the worker may be handed from now on, those included that are on their way to it. Each that it polls takes one off.
    pub fn set_credit(&mut self, credit: u32) {
        let id = self.id;
        let mut inner = self.shared.lock();
        let driver = if inner.core.set_credit(id, credit) { inner.driver.take() } else { None };
        drop(inner);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// The event is done with.
    pub fn ack(&mut self, id: DeliveryId) -> Settled {
        self.shared.settle(id, Outcome::Ack)
    }

    /// The worker has failed at it. It comes again after `delay_ms`, or the consumer's backoff, unless that was its last attempt.
    pub fn nak(&mut self, id: DeliveryId, delay_ms: Option<u64>) -> Settled {
        self.shared.settle(id, Outcome::Nak { delay_ms })
    }

    /// Nobody can do it: it becomes a dead letter.
    pub fn reject(&mut self, id: DeliveryId, cause: Cause) -> Settled {
        self.shared.settle(id, Outcome::Reject { cause, note: Box::default() })
    }

    /// The worker needs longer: its time for the event begins anew.
    pub fn extend(&mut self, id: DeliveryId) -> Settled {
        self.shared.settle(id, Outcome::Extend)
    }

    /// Gives back what the worker has and has not settled: others get it at once.
    pub fn leave(mut self) {
        self.has_left = true;
        let id = self.id;
        self.shared.change(|inner| {
            inner.unseat(id);
            inner.core.leave(id, clock::unix_ms());
        });
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.has_left {
            let id = self.id;
            self.shared.change(|inner| {
                inner.unseat(id);
                inner.core.lost(id);
            });
        }
    }
}

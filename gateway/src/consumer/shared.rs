//! What a consumer's driver and its workers share: the state machine and the seats, behind one short lock.

use super::content::{Content, Delivery};
use super::core::{Core, Hand, Rules, WorkerId};
use super::id::DeliveryId;
use super::manage::ConsumerLimits;
use super::worker::{Ended, WorkerKind};
use crate::engine::ConsumerSpec;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// One consumer.
pub(super) struct Shared {
    pub(super) name: Box<str>,
    pub(super) limits: ConsumerLimits,
    inner: Mutex<Inner>,
}

/// What is behind the lock.
pub(super) struct Inner {
    pub(super) core: Core<Arc<Content>>,
    pub(super) spec: ConsumerSpec,
    pub(super) seats: HashMap<WorkerId, Seat>,
    /// What rejecting workers said of events that are to become dead letters.
    pub(super) notes: HashMap<u64, Box<str>>,
    pub(super) driver: Option<Waker>,
    pub(super) ended: Option<Ended>,
    /// Those who wait until what was said is durable.
    pub(super) flushing: Vec<Waker>,
    /// The log does not give what is due.
    pub(super) unreadable: bool,
}

/// A worker's seat: what was handed to it and not picked up yet.
pub(super) struct Seat {
    pub(super) kind: WorkerKind,
    pub(super) queue: VecDeque<Delivery>,
    pub(super) waker: Waker,
    pub(super) ended: Option<Ended>,
}

impl Shared {
    pub(super) fn new(name: &str, limits: ConsumerLimits, inner: Inner) -> Self {
        Self { name: name.into(), limits, inner: Mutex::new(inner) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete before it can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something, and wakes the driver for it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let (done, driver) = {
            let mut inner = self.lock();
            (change(&mut inner), inner.driver.take())
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        done
    }

    /// Ends the consumer for everybody.
    pub(super) fn end(&self, why: Ended) {
        let wakers: Vec<Waker> = self.change(|inner| {
            inner.ended.get_or_insert(why);
            let flushing = std::mem::take(&mut inner.flushing);
            inner.seats.values().map(|seat| seat.waker.clone()).chain(flushing).collect()
        });
        for waker in wakers {
            waker.wake();
        }
    }

    /// The rules that follow from a spec.
    pub(super) fn rules(spec: &ConsumerSpec, limits: &ConsumerLimits) -> Rules {
        Rules {
            order: spec.order,
            ack_wait_ms: spec.ack_wait_ms.max(1),
            max_deliver: spec.max_deliver,
            backoff_ms: spec.backoff_ms.clone(),
            max_ack_pending: spec.max_ack_pending,
            hang_limit: limits.hang_limit,
            paused: spec.paused,
            read_ahead_bytes: limits.read_ahead_bytes,
        }
    }
}

impl Inner {
    pub(super) fn new(core: Core<Arc<Content>>, spec: ConsumerSpec) -> Self {
        Self {
            core,
            spec,
            seats: HashMap::new(),
            notes: HashMap::new(),
            driver: None,
            ended: None,
            flushing: Vec::new(),
            unreadable: false,
        }
    }

    /// Puts what leaves into the seats. Answers whom to wake.
    pub(super) fn seat(&mut self, hands: &mut Vec<Hand<Arc<Content>>>) -> Vec<Waker> {
        let generation = self.spec.generation;
        let mut wakers: Vec<Waker> = Vec::new();
        for hand in hands.drain(..) {
            let Some(seat) = self.seats.get_mut(&hand.worker) else {
                self.core.not_picked_up(hand.offset, hand.attempt, hand.content);
                continue;
            };
            if seat.queue.is_empty() {
                wakers.push(seat.waker.clone());
            }
            seat.queue.push_back(Delivery {
                id: DeliveryId { offset: hand.offset, attempt: hand.attempt, generation },
                attempt: hand.attempt,
                due_ms: hand.due_ms,
                content: hand.content,
            });
        }
        wakers
    }

    /// A worker gets nothing more. What it has not picked up was not handed out. Answers whom to wake.
    pub(super) fn end_seat(&mut self, worker: WorkerId, why: Ended) -> Option<Waker> {
        let seat = self.seats.get_mut(&worker)?;
        for delivery in seat.queue.drain(..) {
            self.core.not_picked_up(delivery.id.offset, delivery.attempt, delivery.content);
        }
        seat.ended = Some(why);
        Some(seat.waker.clone())
    }

    /// Takes a worker out; what it never picked up was not handed out.
    pub(super) fn unseat(&mut self, worker: WorkerId) -> Option<Seat> {
        let mut seat = self.seats.remove(&worker)?;
        for delivery in seat.queue.drain(..) {
            self.core.not_picked_up(delivery.id.offset, delivery.attempt, delivery.content);
        }
        Some(seat)
    }
}

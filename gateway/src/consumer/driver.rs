//! The task of one consumer: it reads the log, lets the core decide, and puts what that says into the log.
//!
//! A hand-out leaves when the entry that claims it is stored and applied. While the log takes nothing, hand-outs leave unclaimed: draining never
//! stops; they are claimed when the log is open again, or forgotten if the gateway ends before.

use super::content::Content;
use super::core::Hand;
use super::reader::{Progressed, Reader};
use super::shared::{Inner, Shared};
use super::worker::Ended;
use crate::clock;
use crate::engine::{Cause, DeadLetter, Engine, LetterFacts};
use gateway_storage::{Entry, Staging, SubmitError, Ticket, Urgency};
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Submissions under way.
const IN_FLIGHT_MAX: usize = 4;
/// Dead letters, and bytes of them, in one submission.
const LETTERS_MAX: usize = 64;
const LETTER_BYTES_MAX: usize = 1 << 20;
/// Offsets read with nothing for this consumer before that is said to the log.
const SILENT_OFFSETS_MAX: u64 = 16 * 1024;
/// The longest sleep while something is due: the wall clock may be set.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// How often it is tried again to reach a log that takes nothing, or cannot be read.
const RETRY: Duration = Duration::from_millis(250);
/// Rounds before others get a turn.
const ROUNDS: usize = 16;

/// Something on its way to the log.
struct InFlight {
    ticket: Ticket,
    /// The number of the change in it.
    change: Option<u64>,
    letters: Vec<u64>,
}

/// What is staged.
struct Held {
    change: Option<u64>,
    letters: Vec<u64>,
    urgency: Urgency,
}

/// See the module's documentation.
pub(super) struct Driver {
    engine: Engine,
    shared: Arc<Shared>,
    reader: Reader,
    staging: Staging,
    /// What `staging` holds while the open group has no room for it.
    held: Option<Held>,
    in_flight: VecDeque<InFlight>,
    /// Dead letters on their way.
    burying: BTreeSet<u64>,
    /// `read_to` as it was last said.
    said: u64,
    generation: u64,
    hands: Vec<Hand<Arc<Content>>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Driver {
    pub(super) fn new(engine: Engine, shared: Arc<Shared>) -> Self {
        let (said, generation) = {
            let inner = shared.lock();
            (inner.core.read_to(), inner.spec.generation)
        };
        Self {
            engine,
            shared,
            reader: Reader::new(),
            staging: Staging::new(),
            held: None,
            in_flight: VecDeque::new(),
            burying: BTreeSet::new(),
            said,
            generation,
            hands: Vec::new(),
            timer: None,
        }
    }

    /// Runs until the consumer has ended.
    pub(super) async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        for _ in 0..ROUNDS {
            let mut wakers = Vec::new();
            let (moved, due_ms, is_over) = {
                let mut inner = shared.lock();
                // Whoever changes something from here on wakes this task.
                inner.driver = Some(cx.waker().clone());
                let moved = self.round(&mut inner, &mut wakers, cx);
                (moved, inner.core.next_timeout(), self.is_over(&inner))
            };
            for waker in wakers {
                waker.wake();
            }
            if is_over {
                return Poll::Ready(());
            }
            if !moved && !self.sleep(due_ms, cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One round under the lock. Whether there may be more to do at once.
    fn round(&mut self, inner: &mut Inner, wakers: &mut Vec<Waker>, cx: &mut Context<'_>) -> bool {
        if inner.spec.generation != self.generation {
            // It begins anew: what is on its way is of the one before, and nobody waits for it.
            self.forget();
            (self.generation, self.said) = (inner.spec.generation, inner.core.read_to());
        }
        let now = clock::unix_ms();
        if self.receive(inner, now) {
            wakers.append(&mut inner.flushing);
        }
        for worker in inner.core.expire(now).hanging {
            if let Some(waker) = inner.end_seat(worker, Ended::Hanging) {
                tracing::warn!(
                    consumer = %self.shared.name,
                    "a worker lets its leases run out and is not heard of: it is ended"
                );
                wakers.push(waker);
            }
        }
        if inner.core.workers() == 0 && inner.core.counts().1 > 0 {
            inner.core.forget_fresh();
        }
        let moved = inner.ended.is_none() && self.read(inner, cx);
        if inner.ended.is_none() {
            inner.core.hand_out(now);
        }
        self.send(inner, cx);
        if inner.core.is_unclaimed() {
            inner.core.unclaimed(now, &mut self.hands);
        }
        wakers.extend(inner.seat(&mut self.hands));
        moved
    }

    /// Whether there is nothing left to do: what was said before the gateway ends is said to the log.
    fn is_over(&self, inner: &Inner) -> bool {
        match inner.ended {
            None => false,
            Some(Ended::ShutDown) => {
                let is_said =
                    self.held.is_none() && self.in_flight.is_empty() && inner.core.last_change().is_none();
                is_said || self.engine.is_poisoned()
            }
            Some(_) => true,
        }
    }

    /// Looks what has become durable. Whether something has.
    fn receive(&mut self, inner: &mut Inner, now: u64) -> bool {
        let mut has_moved = false;
        let receipt = self.engine.receipt();
        while let (Some(first), Some(receipt)) = (self.in_flight.front(), receipt) {
            if receipt.outlives(first.ticket) {
                self.lose(inner, now);
                break;
            }
            if !receipt.covers(first.ticket) {
                break;
            }
            let Some(stored) = self.in_flight.pop_front() else { break };
            has_moved = true;
            if let Some(number) = stored.change {
                inner.core.confirm(number, now, &mut self.hands);
            }
            for offset in stored.letters {
                self.burying.remove(&offset);
                inner.core.dead_lettered(offset);
                self.engine.record_dead_letter(&self.shared.name, offset);
                inner.notes.remove(&offset);
            }
        }
        if self.engine.is_poisoned() {
            self.lose(inner, now);
        }
        has_moved
    }

    fn forget(&mut self) {
        self.held = None;
        self.in_flight.clear();
        self.burying.clear();
    }

    /// The log has failed under what is on its way.
    fn lose(&mut self, inner: &mut Inner, now: u64) {
        self.forget();
        inner.core.unclaimed(now, &mut self.hands);
    }

    fn read(&mut self, inner: &mut Inner, cx: &mut Context<'_>) -> bool {
        let again = self.reader.read_again(&self.engine, &self.shared.name, &inner.spec, &mut inner.core, cx);
        let forward = self.reader.read(&self.engine, &inner.spec, &mut inner.core, cx);
        let found = [again, forward];
        inner.unreadable = found.contains(&Progressed::Failed);
        if found == [Progressed::Done; 2] && inner.core.workers() == 0 {
            self.reader.rest();
        }
        found.contains(&Progressed::Some)
    }

    /// Says to the log what has changed.
    fn send(&mut self, inner: &mut Inner, cx: &mut Context<'_>) {
        if self.engine.is_poisoned() {
            return;
        }
        inner.core.claimed_if(true);
        if self.held.is_none() && self.in_flight.len() < IN_FLIGHT_MAX {
            self.stage(inner);
        }
        let Some(held) = self.held.take() else { return };
        match self.engine.submit(&mut self.staging, held.urgency, cx.waker(), None) {
            Ok(ticket) => {
                let Held { change, letters, .. } = held;
                self.in_flight.push_back(InFlight { ticket, change, letters });
            }
            // The task is woken when there is room.
            Err(SubmitError::Full) => self.held = Some(held),
            Err(_) => self.lose(inner, clock::unix_ms()),
        }
    }

    /// Stages what there is to say, if it is to be said now.
    fn stage(&mut self, inner: &mut Inner) {
        self.staging.clear();
        let at_ms = clock::unix_ms();
        let core = &mut inner.core;
        let is_silent = core.read_to() >= self.said.saturating_add(SILENT_OFFSETS_MAX);
        let is_waited_for = core.has_claims() || (core.has_change() && !inner.flushing.is_empty());
        // What nobody waits for is said when what was said before is stored.
        let may_wait = (core.has_change() || is_silent) && self.in_flight.is_empty();
        let mut change = None;
        if is_waited_for || may_wait {
            let said = core.change(self.generation);
            let progress = said.progress.encode();
            let entry = Entry::ConsumerProgress { name: &self.shared.name, at_ms, progress: &progress };
            // Some ten bytes for each of a bounded number of items: it is always taken.
            let _ = self.staging.push(&entry);
            self.said = said.progress.read_to;
            change = Some(said.number);
        }
        let letters = self.bury(inner, at_ms);
        if !self.staging.is_empty() {
            self.burying.extend(&letters);
            let is_urgent = is_waited_for || !letters.is_empty();
            let urgency = if is_urgent { Urgency::Now } else { Urgency::Lazy };
            self.held = Some(Held { change, letters, urgency });
        }
    }

    /// Stages the letters of what is dead. Answers of what.
    fn bury(&mut self, inner: &mut Inner, at_ms: u64) -> Vec<u64> {
        let mut letters = Vec::new();
        let mut from = 0;
        let mut bytes = 0;
        while letters.len() < LETTERS_MAX && bytes < LETTER_BYTES_MAX {
            let Some((offset, item, content)) = inner.core.dead(from) else { break };
            from = offset + 1;
            if self.burying.contains(&offset) {
                continue;
            }
            // It was on its way when the log failed, and is stored all the same.
            let known = self.engine.dead_letter(&self.shared.name, offset);
            if known.is_some_and(|letter| !letter.is_redriven() && letter.first_ms == item.first_ms) {
                inner.core.dead_lettered(offset);
                continue;
            }
            let Some(event) = content.event() else { continue };
            let cause = match item.cause {
                Some(cause @ (Cause::Rejected(_) | Cause::TooLarge)) => cause,
                _ => Cause::MaxDeliver,
            };
            let facts = LetterFacts {
                cause,
                failure: item.cause.filter(|failure| *failure != cause),
                attempts: item.attempts,
                first_ms: item.first_ms,
                worker: &item.worker,
                note: inner.notes.get(&offset).map_or("", |note| note),
            };
            let letter = DeadLetter::new(offset, &facts, &event).encode();
            bytes += letter.len();
            let entry = Entry::DeadLettered { name: &self.shared.name, at_ms, letter: &letter };
            if self.staging.push(&entry).is_err() {
                break;
            }
            letters.push(offset);
        }
        letters
    }

    /// Sleeps until something is due. True when that is now.
    fn sleep(&mut self, due_ms: Option<u64>, cx: &mut Context<'_>) -> bool {
        let waits = {
            let inner = self.shared.lock();
            inner.core.is_unclaimed() || inner.unreadable || self.engine.is_poisoned()
        };
        let now = clock::unix_ms();
        let due = due_ms.map(|at| Duration::from_millis(at.saturating_sub(now)).min(SLEEP_MAX));
        let retry = waits.then_some(RETRY);
        let in_flight = (!self.in_flight.is_empty()).then_some(SLEEP_MAX);
        let Some(wait) = due.into_iter().chain(retry).chain(in_flight).min() else {
            self.timer = None;
            return false;
        };
        // A timer is good to a millisecond; a lease that is not over is not over.
        let at = Instant::now() + wait.max(Duration::from_millis(1));
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        timer.as_mut().reset(at);
        timer.as_mut().poll(cx).is_ready()
    }
}

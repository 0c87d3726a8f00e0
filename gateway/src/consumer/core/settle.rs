//! What becomes of items that were handed out, and who has been silent for too long.

use super::Core;
use super::item::State;
use super::workers::WorkerId;
use crate::engine::{Cause, OpenItem};
use std::sync::Arc;

/// What a word about an item has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// What was asked for.
    Done,
    /// The item was acknowledged although its lease was over: the work is done.
    Late,
    /// The item is settled already, is not known, or another attempt at it is under way.
    Stale,
}

/// What has happened since the consumer runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Items acknowledged.
    pub acked: u64,
    /// Of these, after their lease was over.
    pub acked_late: u64,
    /// Failed attempts.
    pub failed: u64,
}

/// Why an item cannot be delivered any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Its Message Expiry Interval has passed.
    Expired,
    /// The log cannot read it back.
    Lost,
    /// The stream does not keep it any more.
    Missed,
    /// Somebody has removed its letter, which has been counted.
    Purged,
}

/// What [`Core::expire`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Failed attempts, by cause.
    pub failed: Vec<(u64, Cause)>,
    /// Workers that hang: they were taken out, as with [`Core::lost`].
    pub hanging: Vec<WorkerId>,
}

impl<C> Core<C> {
    /// A worker takes part. `credit`: how many items it may be handed from now on.
    pub fn join(&mut self, name: &str, credit: u32, now_ms: u64) -> WorkerId {
        self.workers.join(name, credit, now_ms)
    }

    /// How many workers take part.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Name, items leased, acknowledged and failed of each worker.
    pub fn worker_figures(&self) -> impl Iterator<Item = (WorkerId, &str, u32, u64, u64)> {
        self.workers
            .iter()
            .map(|(id, worker)| (id, &*worker.name, worker.leased, worker.acked, worker.failed))
    }

    /// How many items the worker may be handed from now on, those included that were taken for it and that it has not picked up. Whether it takes
    /// more now.
    pub fn set_credit(&mut self, worker: WorkerId, credit: u32) -> bool {
        let takes_more = match self.workers.get_mut(worker) {
            Some(worker) => {
                worker.credit = credit;
                worker.takes_more()
            }
            None => false,
        };
        self.workers.line_up(worker);
        takes_more
    }

    /// The worker picks up an item. False when it is not the worker's any more: it has no business with it then.
    pub fn pick_up(&mut self, worker: WorkerId, offset: u64, attempt: u32) -> bool {
        let is_its = self.is_current(offset, attempt);
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.coming = worker.coming.saturating_sub(1);
            worker.credit = worker.credit.saturating_sub(u32::from(is_its));
        }
        self.workers.line_up(worker);
        is_its
    }

    /// An item that was on its way to a worker did not arrive: it was not handed out.
    pub fn not_picked_up(&mut self, offset: u64, attempt: u32, content: C) {
        let Some(item) = self.items.get_mut(&offset) else { return };
        let State::Leased { worker: Some(worker), due_ms } = item.state else { return };
        if item.attempts != attempt {
            return;
        }
        item.content = Some(content);
        self.held_bytes += item.bytes as usize;
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.leased = worker.leased.saturating_sub(1);
        }
        self.set_state(offset, State::Claimed { worker, due_ms, claim: 0 });
        self.undo(offset);
    }

    /// The worker is done. `attempt` is that of the hand-out.
    pub fn ack(&mut self, offset: u64, attempt: u32, now_ms: u64) -> Settled {
        let Some(item) = self.items.get(&offset) else { return Settled::Stale };
        let was_handed_out = match item.state {
            State::Claimed { .. } => attempt < item.attempts,
            _ => attempt <= item.attempts,
        };
        if !was_handed_out || attempt == 0 {
            return Settled::Stale;
        }
        let is_late = attempt != item.attempts || !matches!(item.state, State::Leased { .. });
        if !is_late
            && let State::Leased { worker: Some(worker), .. } = item.state
            && let Some(worker) = self.workers.get_mut(worker)
        {
            worker.acked += 1;
            worker.heard(now_ms);
        }
        self.totals.acked += 1;
        self.totals.acked_late += u64::from(is_late);
        self.settle(offset);
        self.claims.done.acked.insert(offset);
        if is_late { Settled::Late } else { Settled::Done }
    }

    /// The worker failed at it. `delay_ms` in place of the backoff.
    pub fn nak(&mut self, offset: u64, attempt: u32, delay_ms: Option<u64>, now_ms: u64) -> Settled {
        if !self.is_current(offset, attempt) {
            return Settled::Stale;
        }
        self.hear_of(offset, now_ms);
        self.fail(offset, Cause::Nak, delay_ms, now_ms);
        Settled::Done
    }

    /// Nobody will ever be able to do it: it becomes a dead letter.
    pub fn reject(&mut self, offset: u64, attempt: u32, cause: Cause, now_ms: u64) -> Settled {
        if !self.is_current(offset, attempt) {
            return Settled::Stale;
        }
        self.hear_of(offset, now_ms);
        self.note_failed(offset);
        self.die(offset, Some(cause));
        Settled::Done
    }

    /// The worker needs longer: the lease begins anew.
    pub fn extend(&mut self, offset: u64, attempt: u32, now_ms: u64) -> Settled {
        if !self.is_current(offset, attempt) {
            return Settled::Stale;
        }
        self.hear_of(offset, now_ms);
        if let Some(State::Leased { worker, .. }) = self.items.get(&offset).map(|item| item.state) {
            let due_ms = now_ms.saturating_add(self.rules.ack_wait_ms);
            self.set_state(offset, State::Leased { worker, due_ms });
            self.claims.changed.insert(offset);
        }
        Settled::Done
    }

    /// When the lease of this hand-out is over.
    pub fn due_ms(&self, offset: u64, attempt: u32) -> Option<u64> {
        let item = self.items.get(&offset).filter(|item| item.attempts == attempt)?;
        item.state.timer().filter(|_| matches!(item.state, State::Leased { .. }))
    }

    /// The worker goes and gives back what it has: others may have it at once.
    pub fn leave(&mut self, worker: WorkerId, now_ms: u64) {
        for offset in self.held_by(worker) {
            if self.items.get(&offset).is_some_and(|item| matches!(item.state, State::Leased { .. })) {
                self.fail(offset, Cause::Released, Some(0), now_ms);
            }
        }
        self.lost(worker);
    }

    /// The worker is gone without a word, and may be working still: its leases run on.
    pub fn lost(&mut self, worker: WorkerId) {
        for offset in self.held_by(worker) {
            self.undo(offset);
        }
        self.workers.remove(worker);
    }

    fn held_by(&self, worker: WorkerId) -> Vec<u64> {
        let is_its = |state| match state {
            State::Claimed { worker: of, .. } => of == worker,
            State::Leased { worker: of, .. } => of == Some(worker),
            _ => false,
        };
        self.items.iter().filter(|(_, item)| is_its(item.state)).map(|(offset, _)| *offset).collect()
    }

    /// Leases that are over and waits that have passed.
    pub fn expire(&mut self, now_ms: u64) -> Expired {
        let mut expired = Expired::default();
        while let Some((at, offset)) = self.timers.first().copied()
            && at <= now_ms
        {
            self.timers.remove(&(at, offset));
            match self.items.get(&offset).map(|item| item.state) {
                Some(State::Waiting(_)) => self.set_state(offset, State::Ready),
                Some(State::Leased { worker, .. }) => {
                    let cause = self.note_silence(worker);
                    expired.failed.push((offset, cause));
                    self.fail(offset, cause, None, now_ms);
                }
                _ => {}
            }
        }
        let hangs = |at: Option<u64>| at.is_some_and(|at| at <= now_ms);
        let hanging = self.workers.iter().filter(|(_, worker)| hangs(self.hangs_at(worker)));
        expired.hanging = hanging.map(|(id, _)| id).collect();
        expired.hanging.sort_unstable();
        for worker in &expired.hanging {
            self.lost(*worker);
        }
        expired
    }

    fn note_silence(&mut self, worker: Option<WorkerId>) -> Cause {
        match worker.and_then(|worker| self.workers.get_mut(worker)) {
            Some(worker) => {
                worker.silent_since.get_or_insert(worker.heard_ms);
                Cause::Timeout
            }
            None => Cause::WorkerLost,
        }
    }

    /// An item to become a dead letter, at or after `offset`: what is kept of it, why, and its content.
    pub fn dead(&self, offset: u64) -> Option<(u64, OpenItem, &C)> {
        let offset = *self.dead.range(offset..).next()?;
        let item = self.items.get(&offset)?;
        Some((offset, super::claims::record(item), item.content.as_ref()?))
    }

    /// Whether anything is to become a dead letter.
    pub fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    /// Whether the item is to become a dead letter.
    pub fn is_dead(&self, offset: u64) -> bool {
        self.items.get(&offset).is_some_and(|item| item.state == State::Dead)
    }

    /// The dead letter is durable. It says itself that the item is settled.
    pub fn dead_lettered(&mut self, offset: u64) {
        if self.items.get(&offset).is_some_and(|item| item.state == State::Dead) {
            self.remove(offset);
            self.claims.changed.remove(&offset);
        }
    }

    /// The item cannot be delivered any more.
    pub fn gone(&mut self, offset: u64, why: Gone) {
        let Some(is_open) = self.items.get(&offset).map(|item| item.is_open) else { return };
        self.settle(offset);
        if is_open && why != Gone::Purged {
            self.claims.done.gone.insert(offset);
        }
        self.count_gone(why, 1);
    }

    /// What a worker was about to get has expired.
    pub fn expired(&mut self, offset: u64, attempt: u32) -> Settled {
        if !self.is_current(offset, attempt) {
            return Settled::Stale;
        }
        self.gone(offset, Gone::Expired);
        Settled::Done
    }

    /// The letter of a redriven item was removed: there is nothing to deliver any more.
    pub fn purged(&mut self, offset: u64) {
        if self.items.get(&offset).is_some_and(|item| item.is_letter) {
            self.gone(offset, Gone::Purged);
        }
    }

    /// Events that were never offered cannot be delivered.
    pub fn count_gone(&mut self, why: Gone, events: u64) {
        let done = &mut self.claims.done;
        match why {
            Gone::Expired => done.expired += events,
            Gone::Lost => done.lost += events,
            Gone::Missed => done.missed += events,
            Gone::Purged => {}
        }
    }

    /// A dead letter is to be delivered again, from its first attempt.
    pub fn redrive(&mut self, offset: u64, letter: &OpenItem, now_ms: u64) {
        // Whoever redrives it has seen the letter, which may not have been confirmed here yet.
        self.dead_lettered(offset);
        if !self.items.contains_key(&offset) {
            self.insert_open(offset, letter, now_ms);
        }
    }

    fn is_current(&self, offset: u64, attempt: u32) -> bool {
        self.items
            .get(&offset)
            .is_some_and(|item| item.attempts == attempt && matches!(item.state, State::Leased { .. }))
    }

    fn hear_of(&mut self, offset: u64, now_ms: u64) {
        if let Some(worker) = self.items.get(&offset).and_then(|item| item.worker_id)
            && let Some(worker) = self.workers.get_mut(worker)
        {
            worker.heard(now_ms);
        }
    }

    /// The attempt under way has failed.
    fn note_failed(&mut self, offset: u64) {
        self.totals.failed += 1;
        if let Some(State::Leased { worker: Some(worker), .. }) =
            self.items.get(&offset).map(|item| item.state)
            && let Some(worker) = self.workers.get_mut(worker)
        {
            worker.failed += 1;
            worker.leased = worker.leased.saturating_sub(1);
        }
    }

    fn fail(&mut self, offset: u64, cause: Cause, delay_ms: Option<u64>, now_ms: u64) {
        self.note_failed(offset);
        let Some(item) = self.items.get_mut(&offset) else { return };
        item.cause = Some(cause);
        let attempts = item.attempts;
        if self.is_over(attempts) {
            self.die(offset, None);
            return;
        }
        let backoff = &self.rules.backoff_ms;
        let nth = (attempts as usize).saturating_sub(1);
        let wait_ms = delay_ms.or_else(|| backoff.get(nth).or(backoff.last()).copied()).unwrap_or(0);
        let state = match wait_ms {
            0 => State::Ready,
            wait_ms => State::Waiting(now_ms.saturating_add(wait_ms)),
        };
        self.claims.changed.insert(offset);
        self.set_state(offset, state);
    }

    pub(super) fn die(&mut self, offset: u64, cause: Option<Cause>) {
        if let Some(item) = self.items.get_mut(&offset) {
            item.cause = cause.or(item.cause);
            self.claims.changed.insert(offset);
            self.set_state(offset, State::Dead);
        }
    }

    fn settle(&mut self, offset: u64) {
        let Some(item) = self.remove(offset) else { return };
        match item.state {
            State::Claimed { worker, .. } => {
                if let Some(of) = self.workers.get_mut(worker) {
                    of.coming = of.coming.saturating_sub(1);
                }
                self.workers.line_up(worker);
            }
            State::Leased { worker: Some(worker), .. } => {
                if let Some(of) = self.workers.get_mut(worker) {
                    of.leased = of.leased.saturating_sub(1);
                }
            }
            _ => {}
        }
        self.claims.changed.remove(&offset);
    }

    /// The name of a worker.
    pub fn worker_name(&self, worker: WorkerId) -> Option<Arc<str>> {
        self.workers.get(worker).map(|worker| worker.name.clone())
    }
}

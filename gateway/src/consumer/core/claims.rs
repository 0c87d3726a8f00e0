//! Handing out: taking for a worker, saying so durably, and only then letting go.

use super::item::State;
use super::workers::WorkerId;
use super::{Core, Item};
use crate::engine::{OffsetRuns, OpenItem, Progress};
use std::collections::{BTreeSet, VecDeque};

/// What is to become durable. Later ones say what has changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number, from 1.
    pub number: u64,
    /// What has changed.
    pub progress: Progress,
    /// It claims hand-outs: workers wait for it.
    pub has_claims: bool,
}

/// Items that are not open any more, and events that never were.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    pub(super) acked: OffsetRuns,
    pub(super) gone: OffsetRuns,
    pub(super) expired: u64,
    pub(super) lost: u64,
    pub(super) missed: u64,
}

impl Done {
    fn is_empty(&self) -> bool {
        self.acked.is_empty() && self.gone.is_empty() && (self.expired, self.lost, self.missed) == (0, 0, 0)
    }

    fn add(&mut self, other: &Self) {
        let all = |runs: &OffsetRuns| -> Vec<u64> {
            runs.runs().flat_map(|(first, len)| first..first.saturating_add(len)).collect()
        };
        for offset in all(&other.acked) {
            self.acked.insert(offset);
        }
        for offset in all(&other.gone) {
            self.gone.insert(offset);
        }
        self.expired += other.expired;
        self.lost += other.lost;
        self.missed += other.missed;
    }
}

/// An item that leaves for its worker.
#[derive(Debug, PartialEq, Eq)]
pub struct Hand<C> {
    /// For whom.
    pub worker: WorkerId,
    /// Its offset.
    pub offset: u64,
    /// The how manieth hand-out it is, from 1.
    pub attempt: u32,
    /// When the lease is over.
    pub due_ms: u64,
    /// What was offered.
    pub content: C,
}

/// What has changed and is not known to be durable.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Taken since the last change, each with the number of its claim: an item may be taken back and claimed again before the log has the
    /// first claim.
    taken: Vec<(u64, u64)>,
    last_claim: u64,
    pub(super) changed: BTreeSet<u64>,
    pub(super) done: Done,
    sent: VecDeque<Sent>,
    last: u64,
    confirmed: u64,
    /// The log takes nothing.
    unclaimed: bool,
}

/// A change on its way to the log.
#[derive(Debug)]
struct Sent {
    number: u64,
    taken: Vec<(u64, u64)>,
    changed: Vec<u64>,
    done: Done,
}

impl Claims {
    /// Nothing has changed that is to be said; who waits for it waits no longer.
    pub(super) fn forget(&mut self) {
        let (last, last_claim) = (self.last + 1, self.last_claim);
        *self = Self { last, last_claim, confirmed: last, unclaimed: self.unclaimed, ..Self::default() };
    }
}

impl<C> Core<C> {
    /// Takes items for the workers whose turn it is, until there are no more of either. How many were taken.
    pub fn hand_out(&mut self, now_ms: u64) -> usize {
        let before = self.claims.taken.len();
        while !self.rules.paused && self.keyless == 0 && self.workers.has_room() {
            let Some(offset) = self.next_ready() else { break };
            self.pass_over(offset);
            let last = self.items.get(&offset).and_then(|item| item.worker_id);
            let Some(worker) = self.workers.take_turn(last) else { break };
            self.take(offset, worker, now_ms);
        }
        self.claims.taken.len() - before
    }

    /// Items that come again and fresh ones alternate: neither keeps the other back.
    fn next_ready(&mut self) -> Option<u64> {
        let again = self.ready_again.first().copied();
        let fresh = self.fresh_to_leave();
        let takes_fresh = again.is_none() || (fresh.is_some() && !self.fresh_was_last);
        self.fresh_was_last = takes_fresh;
        if takes_fresh { fresh } else { again }
    }

    /// The first fresh item that is ready, if there is room among the open ones for it and for all it passes over. Those after it would pass
    /// over more.
    pub(super) fn fresh_to_leave(&self) -> Option<u64> {
        let offset = *self.ready_fresh.first()?;
        let most = self.rules.max_ack_pending.max(1) as usize;
        let may_pass = most.checked_sub(self.open + 1)?;
        let passes_more = self.fresh.range(..offset).nth(may_pass).is_some();
        (!passes_more).then_some(offset)
    }

    /// Fresh items before this one wait for their key: they become open, never handed out, so that what is read up to is one offset.
    fn pass_over(&mut self, offset: u64) {
        if !self.fresh.contains(&offset) {
            return;
        }
        for offset in self.fresh.range(..offset).copied().collect::<Vec<_>>() {
            if let Some(item) = self.items.get_mut(&offset) {
                item.is_open = true;
                self.open += 1;
            }
            self.claims.changed.insert(offset);
            self.place(offset);
        }
    }

    fn take(&mut self, offset: u64, worker: WorkerId, now_ms: u64) {
        let name = self.workers.get(worker).map(|worker| worker.name.clone());
        let Some(item) = self.items.get_mut(&offset) else { return };
        item.attempts = item.attempts.saturating_add(1);
        if item.first_ms == 0 {
            item.first_ms = now_ms.max(1);
        }
        item.worker = name.unwrap_or_else(|| "".into());
        item.worker_id = Some(worker);
        if !item.is_open {
            item.is_open = true;
            self.open += 1;
        }
        self.claims.last_claim += 1;
        let claim = self.claims.last_claim;
        let due_ms = now_ms.saturating_add(self.rules.ack_wait_ms);
        self.set_state(offset, State::Claimed { worker, due_ms, claim });
        self.claims.changed.insert(offset);
        self.claims.taken.push((offset, claim));
    }

    /// Whether something has changed that should become durable.
    pub fn has_change(&self) -> bool {
        !self.claims.changed.is_empty() || !self.claims.done.is_empty()
    }

    /// Whether workers wait for the next change.
    pub const fn has_claims(&self) -> bool {
        !self.claims.taken.is_empty()
    }

    /// The number of the change with which everything so far is durable; `None`: it is.
    pub fn last_change(&self) -> Option<u64> {
        let claims = &self.claims;
        match self.has_change() {
            true => Some(claims.last + 1),
            false => claims.sent.back().map(|sent| sent.number),
        }
    }

    /// Whether the change with this number is durable, or a later one that says the same.
    pub const fn is_confirmed(&self, number: u64) -> bool {
        self.claims.confirmed >= number
    }

    /// What has changed since this was last called. `generation` is the consumer's.
    pub fn change(&mut self, generation: u64) -> Change {
        let claims = &mut self.claims;
        claims.last += 1;
        let number = claims.last;
        let changed: Vec<u64> = std::mem::take(&mut claims.changed).into_iter().collect();
        let done = std::mem::take(&mut claims.done);
        let taken = std::mem::take(&mut claims.taken);
        let has_claims = !taken.is_empty();
        let open = changed.iter().filter_map(|offset| Some((*offset, record(self.items.get(offset)?))));
        let progress = Progress {
            generation,
            read_to: self.read_to(),
            opened: open.collect(),
            acked: done.acked.clone(),
            gone: done.gone.clone(),
            expired: done.expired,
            lost: done.lost,
            missed: done.missed,
        };
        self.claims.sent.push_back(Sent { number, taken, changed, done });
        Change { number, progress, has_claims }
    }

    /// Changes up to `number` are durable: what they claim leaves.
    pub fn confirm(&mut self, number: u64, now_ms: u64, out: &mut Vec<Hand<C>>) {
        self.claims.confirmed = self.claims.confirmed.max(number);
        while self.claims.sent.front().is_some_and(|sent| sent.number <= number) {
            let Some(sent) = self.claims.sent.pop_front() else { break };
            for (offset, claim) in sent.taken {
                self.release(offset, claim, now_ms, out);
            }
        }
    }

    /// The log takes nothing: what is claimed leaves all the same, and so does what is taken from now on, until [`Core::claimed_if`] says that it
    /// takes entries again. What was on its
    /// way is said again later.
    pub fn unclaimed(&mut self, now_ms: u64, out: &mut Vec<Hand<C>>) {
        self.claims.unclaimed = true;
        for sent in std::mem::take(&mut self.claims.sent) {
            let open = sent.changed.iter().filter(|offset| self.items.contains_key(offset));
            self.claims.changed.extend(open);
            self.claims.done.add(&sent.done);
            for (offset, claim) in sent.taken {
                self.release(offset, claim, now_ms, out);
            }
        }
        for (offset, claim) in std::mem::take(&mut self.claims.taken) {
            self.release(offset, claim, now_ms, out);
        }
    }

    /// Whether the log takes entries again.
    pub const fn claimed_if(&mut self, takes: bool) {
        self.claims.unclaimed &= !takes;
    }

    /// Whether hand-outs do not wait for the log.
    pub const fn is_unclaimed(&self) -> bool {
        self.claims.unclaimed
    }

    fn release(&mut self, offset: u64, claim: u64, now_ms: u64, out: &mut Vec<Hand<C>>) {
        let Some(item) = self.items.get_mut(&offset) else { return };
        let State::Claimed { worker, due_ms, claim: its } = item.state else { return };
        if its != claim {
            return;
        }
        let attempt = item.attempts;
        if due_ms <= now_ms {
            // The log was too slow: nobody has seen it.
            self.undo(offset);
            return;
        }
        let Some(content) = item.content.take() else { return };
        self.held_bytes -= item.bytes as usize;
        if let Some(worker) = self.workers.get_mut(worker) {
            if worker.leased == 0 {
                worker.heard_ms = now_ms;
            }
            worker.leased += 1;
        }
        self.set_state(offset, State::Leased { worker: Some(worker), due_ms });
        out.push(Hand { worker, offset, attempt, due_ms, content });
    }

    /// Takes back a claim that never left.
    pub(super) fn undo(&mut self, offset: u64) {
        let Some(item) = self.items.get_mut(&offset) else { return };
        let State::Claimed { worker, .. } = item.state else { return };
        item.attempts = item.attempts.saturating_sub(1);
        if item.attempts == 0 {
            item.first_ms = 0;
        }
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.coming = worker.coming.saturating_sub(1);
        }
        self.workers.line_up(worker);
        self.claims.changed.insert(offset);
        self.set_state(offset, State::Ready);
    }
}

/// The item as it is kept.
pub(super) fn record<C>(item: &Item<C>) -> OpenItem {
    let (leased, due_ms) = match item.state {
        State::Claimed { due_ms, .. } | State::Leased { due_ms, .. } => (true, due_ms),
        State::Waiting(until) => (false, until),
        State::Ready | State::Dead => (false, 0),
    };
    OpenItem {
        attempts: item.attempts,
        due_ms,
        first_ms: item.first_ms,
        worker: (&*item.worker).into(),
        cause: item.cause,
        leased,
        is_letter: item.is_letter,
    }
}

//! What has happened to each event, as plain as can be.

use super::*;
use crate::consumer::core::{Hand, Settled};
use crate::engine::OpenItem;
use std::collections::{BTreeMap, VecDeque};

/// Offsets of which two in three are events of the consumer.
const KEYS: u64 = 3;

fn is_event(offset: u64) -> bool {
    offset % 3 != 1
}

fn key(offset: u64) -> u64 {
    offset % 7 % KEYS
}

/// What is known of one event.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Hand-outs that were picked up.
    seen: u32,
    /// Of these, while the log took nothing: a crash may forget them.
    unclaimed: u32,
    last_attempt: u32,
    /// The lease under way ends; 0: none is.
    leased_until: u64,
    /// Not to be handed out again before.
    not_before: u64,
    settled: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Acked,
    Dead,
}

/// The log's side: what is durable.
#[derive(Clone, Debug, Default)]
struct Durable {
    read_to: u64,
    open: BTreeMap<u64, OpenItem>,
}

pub(super) struct Book {
    core: Core<u64>,
    rules: Rules,
    now: u64,
    end: u64,
    known: BTreeMap<u64, Known>,
    durable: Durable,
    sent: VecDeque<crate::consumer::core::Change>,
    workers: Vec<WorkerId>,
    credit: BTreeMap<WorkerId, u32>,
    handed: Vec<(WorkerId, u64, u32)>,
    /// The next hand-out does not reach its worker.
    pub(super) drop_next: bool,
}

impl Book {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            core: Core::restore(rules.clone(), 0, [], 0),
            rules,
            now: 1000,
            end: 0,
            known: BTreeMap::new(),
            durable: Durable::default(),
            sent: VecDeque::new(),
            workers: Vec::new(),
            credit: BTreeMap::new(),
            handed: Vec::new(),
            drop_next: false,
        }
    }

    fn of(&mut self, offset: u64) -> &mut Known {
        self.known.entry(offset).or_default()
    }

    pub(super) fn wait(&mut self, ms: u64) -> Result<(), TestCaseError> {
        self.now += ms;
        let expired = self.core.expire(self.now);
        for (offset, cause) in expired.failed {
            let now = self.now;
            let backoff = self.backoff(offset);
            let known = self.of(offset);
            prop_assert!(known.leased_until <= now, "{offset} timed out early");
            prop_assert!(matches!(cause, Cause::Timeout | Cause::WorkerLost));
            (known.leased_until, known.not_before) = (0, now + backoff);
        }
        for worker in expired.hanging {
            prop_assert!(self.rules.hang_limit > 0);
            self.forget(worker);
        }
        prop_assert!(self.core.next_timeout().is_none_or(|at| at > self.now));
        Ok(())
    }

    fn backoff(&mut self, offset: u64) -> u64 {
        let nth = self.of(offset).last_attempt.saturating_sub(1) as usize;
        let backoff = &self.rules.backoff_ms;
        backoff.get(nth).or(backoff.last()).copied().unwrap_or(0)
    }

    fn forget(&mut self, worker: WorkerId) {
        self.workers.retain(|other| *other != worker);
        self.credit.remove(&worker);
    }

    pub(super) fn join(&mut self, credit: u32) {
        if self.workers.len() < 6 {
            let id = self.core.join("w", credit, self.now);
            self.workers.push(id);
            self.credit.insert(id, credit);
        }
    }

    pub(super) fn credit(&mut self, at: usize, credit: u32) {
        if let Some(worker) = self.workers.get(at % self.workers.len().max(1)) {
            // What was taken is on its way: less than that it does not become.
            let had = self.credit.entry(*worker).or_default();
            *had = credit.max(*had);
            self.core.set_credit(*worker, *had);
        }
    }

    pub(super) fn leave(&mut self, at: usize, says_so: bool) {
        let Some(worker) = self.workers.get(at % self.workers.len().max(1)).copied() else { return };
        if says_so {
            self.core.leave(worker, self.now);
            let its: Vec<_> = self.handed.iter().filter(|(of, ..)| *of == worker).copied().collect();
            for (_, offset, attempt) in its {
                let now = self.now;
                let known = self.of(offset);
                if known.last_attempt == attempt && known.settled.is_none() && known.leased_until > 0 {
                    (known.leased_until, known.not_before) = (0, now);
                }
            }
        } else {
            self.core.lost(worker);
        }
        self.forget(worker);
    }

    pub(super) fn read(&mut self, count: u64) {
        for _ in 0..count {
            if !self.core.wants_more() {
                break;
            }
            let offset = self.core.scanned();
            self.end = self.end.max(offset + 1);
            match is_event(offset) {
                true => self.core.offer(offset, key(offset), 8, offset),
                false => self.core.skip_to(offset + 1),
            }
        }
    }

    pub(super) fn hand_out(&mut self) -> Result<(), TestCaseError> {
        self.core.hand_out(self.now);
        if self.core.is_unclaimed() {
            let mut out = Vec::new();
            self.core.unclaimed(self.now, &mut out);
            self.take(out, true)?;
        }
        Ok(())
    }

    pub(super) fn send(&mut self) {
        if self.core.has_change() && self.sent.len() < 3 {
            self.sent.push_back(self.core.change(0));
        }
    }

    pub(super) fn stored(&mut self) -> Result<(), TestCaseError> {
        let Some(change) = self.sent.pop_front() else { return Ok(()) };
        let number = change.number;
        self.apply(change)?;
        let mut out = Vec::new();
        self.core.confirm(number, self.now, &mut out);
        self.take(out, false)
    }

    fn apply(&mut self, change: crate::consumer::core::Change) -> Result<(), TestCaseError> {
        let progress = change.progress;
        prop_assert!(progress.read_to >= self.durable.read_to);
        self.durable.read_to = progress.read_to;
        for (offset, item) in progress.opened {
            self.durable.open.insert(offset, item);
        }
        for (first, len) in progress.acked.runs() {
            for offset in first..first + len {
                prop_assert_eq!(self.of(offset).settled, Some(End::Acked));
                self.durable.open.remove(&offset);
            }
        }
        prop_assert!(progress.gone.is_empty());
        Ok(())
    }

    fn take(&mut self, hands: Vec<Hand<u64>>, unclaimed: bool) -> Result<(), TestCaseError> {
        for Hand { worker, offset, attempt, due_ms, content } in hands {
            prop_assert_eq!(content, offset);
            let credit = self.credit.get_mut(&worker).map(|credit| (*credit > 0, credit));
            if let Some((had, credit)) = credit {
                prop_assert!(had, "handed out beyond its credit");
                *credit -= 1;
            } else {
                prop_assert!(false, "handed to one who is gone");
            }
            if std::mem::take(&mut self.drop_next) {
                *self.credit.entry(worker).or_default() += 1;
                self.core.not_picked_up(offset, attempt, content);
                continue;
            }
            prop_assert!(self.core.pick_up(worker, offset, attempt));
            let (now, rules) = (self.now, self.rules.clone());
            let held = self.known.iter().find(|(other, known)| {
                **other != offset && key(**other) == key(offset) && known.leased_until > now
            });
            let passed = (0..offset).find(|other| {
                let settled = self.known.get(other).and_then(|known| known.settled);
                is_event(*other) && key(*other) == key(offset) && settled.is_none()
            });
            if rules.order == Order::Key {
                prop_assert!(held.is_none(), "{offset} and {:?} are of one key", held);
                prop_assert!(passed.is_none(), "{offset} overtakes {:?}", passed);
            }
            let known = self.of(offset);
            prop_assert_eq!(known.settled, None, "{} was settled", offset);
            prop_assert!(known.leased_until <= now && known.not_before <= now, "{offset} {now} {known:?}");
            known.seen += 1;
            known.unclaimed += u32::from(unclaimed);
            known.last_attempt = attempt;
            known.leased_until = due_ms;
            prop_assert!(due_ms > now && due_ms <= now + rules.ack_wait_ms);
            let most = rules.max_deliver;
            prop_assert!(most == 0 || known.seen <= most + known.unclaimed, "{offset} {known:?}");
            prop_assert!(most == 0 || attempt <= most);
            if !unclaimed {
                let durable = self.durable.open.get(&offset);
                let says_so = durable.is_some_and(|item| item.attempts >= attempt && item.leased);
                prop_assert!(says_so, "{offset} left before it was durable: {durable:?}");
            }
            self.handed.push((worker, offset, attempt));
        }
        Ok(())
    }

    fn pick(&self, at: usize) -> Option<(WorkerId, u64, u32)> {
        self.handed.iter().rev().nth(at % self.handed.len().clamp(1, 20)).copied()
    }

    pub(super) fn ack(&mut self, at: usize, before: u32) -> Result<(), TestCaseError> {
        let Some((_, offset, attempt)) = self.pick(at) else { return Ok(()) };
        let said = self.core.ack(offset, attempt.saturating_sub(before), self.now);
        let known = self.of(offset);
        match said {
            Settled::Done | Settled::Late => {
                prop_assert_eq!(known.settled, None, "{} was settled twice", offset);
                (known.settled, known.leased_until) = (Some(End::Acked), 0);
            }
            Settled::Stale => {
                let was_open = known.settled.is_none() && known.leased_until > 0;
                prop_assert!(!was_open || attempt != known.last_attempt || before > 0);
            }
        }
        Ok(())
    }

    pub(super) fn nak(&mut self, at: usize, delay: Option<u64>) {
        let Some((_, offset, attempt)) = self.pick(at) else { return };
        let backoff = self.backoff(offset);
        if self.core.nak(offset, attempt, delay, self.now) == Settled::Done {
            let now = self.now;
            let known = self.of(offset);
            (known.leased_until, known.not_before) = (0, now + delay.unwrap_or(backoff));
        }
    }

    pub(super) fn reject(&mut self, at: usize) {
        let Some((_, offset, attempt)) = self.pick(at) else { return };
        if self.core.reject(offset, attempt, Cause::Rejected(0x99), self.now) == Settled::Done {
            self.of(offset).leased_until = 0;
        }
    }

    pub(super) fn extend(&mut self, at: usize) {
        let Some((_, offset, attempt)) = self.pick(at) else { return };
        if self.core.extend(offset, attempt, self.now) == Settled::Done {
            self.of(offset).leased_until = self.now + self.rules.ack_wait_ms;
        }
    }

    pub(super) fn load(&mut self) {
        while let Some((offset, _)) = self.core.wanted(0) {
            self.core.give(offset, key(offset), 8, offset);
        }
    }

    pub(super) fn bury(&mut self) -> Result<(), TestCaseError> {
        while let Some((offset, item, content)) = self.core.dead(0) {
            prop_assert_eq!(*content, offset);
            let over = self.rules.max_deliver > 0 && item.attempts >= self.rules.max_deliver;
            prop_assert!(over || matches!(item.cause, Some(Cause::Rejected(_))));
            if self.core.is_unclaimed() {
                break;
            }
            // Whatever was sent before stands before it in the log.
            while let Some(change) = self.sent.pop_front() {
                let number = change.number;
                self.apply(change)?;
                let mut out = Vec::new();
                self.core.confirm(number, self.now, &mut out);
                self.take(out, false)?;
            }
            self.durable.open.remove(&offset);
            self.core.dead_lettered(offset);
            let known = self.of(offset);
            prop_assert_eq!(known.settled, None);
            known.settled = Some(End::Dead);
        }
        Ok(())
    }

    /// The log fails, or takes entries again.
    pub(super) fn fail_log(&mut self) -> Result<(), TestCaseError> {
        if self.core.is_unclaimed() {
            self.core.claimed_if(true);
            return Ok(());
        }
        self.sent.clear();
        let mut out = Vec::new();
        self.core.unclaimed(self.now, &mut out);
        self.take(out, true)
    }

    /// Of what was sent, `kept` changes became durable all the same.
    pub(super) fn crash(&mut self, kept: usize) -> Result<(), TestCaseError> {
        let kept = kept % (self.sent.len() + 1);
        for change in self.sent.drain(..).take(kept).collect::<Vec<_>>() {
            self.apply(change)?;
        }
        self.sent.clear();
        for offset in (0..self.durable.read_to).filter(|offset| is_event(*offset)) {
            let is_settled = self.known.get(&offset).is_some_and(|known| known.settled.is_some());
            prop_assert!(is_settled || self.durable.open.contains_key(&offset), "{offset} is lost");
        }
        for (offset, known) in &mut self.known {
            let durable = self.durable.open.get(offset);
            if *offset >= self.durable.read_to || durable.is_some() {
                // What it was told since is forgotten, but not that it is not dead.
                known.settled = known.settled.filter(|end| *end == End::Dead);
            }
            let durable_until = durable.filter(|item| item.leased).map_or(0, |item| item.due_ms);
            known.not_before = known.not_before.min(durable.map_or(0, |item| item.due_ms));
            known.leased_until = known.leased_until.min(durable_until);
            let forgotten = known.seen.saturating_sub(durable.map_or(0, |item| item.attempts));
            known.seen -= forgotten.min(known.unclaimed);
            known.unclaimed = 0;
            known.last_attempt = durable.map_or(0, |item| item.attempts);
        }
        self.workers.clear();
        self.credit.clear();
        self.handed.clear();
        let open = self.durable.open.clone();
        self.core = Core::restore(self.rules.clone(), self.durable.read_to, open, self.now);
        self.wait(0)
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.rules.paused = paused;
        self.core.set_rules(self.rules.clone(), self.now);
    }

    pub(super) fn check(&self) -> Result<(), TestCaseError> {
        let (open, fresh, _) = self.core.counts();
        prop_assert!(open <= self.rules.max_ack_pending as usize, "{open} are open");
        prop_assert!(fresh <= self.rules.max_ack_pending as usize + 1);
        Ok(())
    }

    /// One good worker finishes everything.
    pub(super) fn finish(mut self) -> Result<(), TestCaseError> {
        self.core.claimed_if(true);
        self.drop_next = false;
        self.pause(false);
        for worker in self.workers.clone() {
            self.core.lost(worker);
            self.forget(worker);
        }
        let goal = self.end + 10;
        for _ in 0..20_000 {
            if self.workers.is_empty() {
                self.join(100);
            }
            self.credit(0, 100);
            self.wait(7)?;
            self.load();
            self.bury()?;
            if self.core.scanned() < goal {
                self.read(goal - self.core.scanned());
            }
            self.hand_out()?;
            self.send();
            while !self.sent.is_empty() {
                self.stored()?;
            }
            let handed = std::mem::take(&mut self.handed);
            for hand in handed {
                self.handed = vec![hand];
                self.ack(0, 0)?;
            }
            self.handed.clear();
            if self.core.read_to() >= goal
                && self.core.counts().0 == 0
                && !self.core.has_change()
                && self.sent.is_empty()
            {
                break;
            }
        }
        prop_assert!(self.durable.open.is_empty(), "left open: {:?}", self.durable.open);
        prop_assert!(self.durable.read_to >= goal);
        for offset in (0..goal).filter(|offset| is_event(*offset)) {
            prop_assert!(self.of(offset).settled.is_some(), "{} was not settled", offset);
        }
        Ok(())
    }
}

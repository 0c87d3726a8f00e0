//! The state machine of a consumer: which event goes to whom, and what becomes of it. No clock, no runtime, no disk: times are
//! arguments in milliseconds, contents are of any type.
//!
//! ```text
//!  offer --> fresh --hand_out--> claimed --confirm--> leased --ack--------------> settled
//!              ^                    |  (durable)        | nak, lease over
//!              |                    v                   v
//!           redrive              (undone)            waiting, ready --> claimed ...
//!                                                       | max_deliver, rejected
//!                                                       v
//!                                                      dead --> dead letter, settled
//! ```
//!
//! What it promises: an event leaves only after its claim was confirmed (or while it was told that the log takes nothing), never more than
//! `max_deliver` times, never before its time, one at a time of each key if order is kept, and is settled once. Workers with room
//! are served in turn, one event each.
//!
//! What is durable is said in [`Change`]s; after a crash [`Core::restore`] goes on from the last one. Contents are held only between
//! reading and handing out; what is to be handed out again is asked for with [`Core::wanted`].

mod claims;
mod item;
mod keys;
mod settle;
#[cfg(test)]
mod tests;
mod workers;

pub use claims::{Change, Hand};
pub use settle::{Expired, Gone, Settled, Totals};
pub use workers::WorkerId;

use crate::engine::{Cause, OpenItem, Order};
use claims::Claims;
use item::{Item, State};
use keys::Keys;
use std::collections::{BTreeMap, BTreeSet};
use workers::{Worker, Workers};

/// By which rules a consumer delivers.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whether events of one key are handed out one at a time.
    pub order: Order,
    /// How long a worker has for an event, in milliseconds.
    pub ack_wait_ms: u64,
    /// Hand-outs of one event; 0: no limit.
    pub max_deliver: u32,
    /// How long an event waits after its nth failure, in milliseconds; the last repeats.
    pub backoff_ms: Vec<u64>,
    /// Events that may be open.
    pub max_ack_pending: u32,
    /// A worker that was not heard of for so many times `ack_wait_ms`, and let a lease run out, hangs; 0: never.
    pub hang_limit: u32,
    /// Nothing is handed out.
    pub paused: bool,
    /// Bytes that may be read ahead.
    pub read_ahead_bytes: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Core<C> {
    rules: Rules,
    /// What is not settled, by offset.
    items: BTreeMap<u64, Item<C>>,
    keys: Keys,
    /// May be handed out now, for the first time or again.
    ready_fresh: BTreeSet<u64>,
    ready_again: BTreeSet<u64>,
    fresh_was_last: bool,
    fresh: BTreeSet<u64>,
    /// Content is needed.
    wanted: BTreeSet<u64>,
    /// To become dead letters; the content is here.
    dead: BTreeSet<u64>,
    timers: BTreeSet<(u64, u64)>,
    workers: Workers,
    claims: Claims,
    open: usize,
    /// Open items whose key is not known yet.
    keyless: usize,
    held_bytes: usize,
    /// Events below were offered.
    scanned: u64,
    totals: Totals,
}

impl<C> Core<C> {
    /// Goes on from what is durable: `open` items, and the offset up to which everything else is settled.
    pub fn restore(
        rules: Rules,
        read_to: u64,
        open: impl IntoIterator<Item = (u64, OpenItem)>,
        now_ms: u64,
    ) -> Self {
        let mut core = Self {
            rules,
            items: BTreeMap::new(),
            keys: Keys::default(),
            ready_fresh: BTreeSet::new(),
            ready_again: BTreeSet::new(),
            fresh_was_last: false,
            fresh: BTreeSet::new(),
            wanted: BTreeSet::new(),
            dead: BTreeSet::new(),
            timers: BTreeSet::new(),
            workers: Workers::default(),
            claims: Claims::default(),
            open: 0,
            keyless: 0,
            held_bytes: 0,
            scanned: read_to,
            totals: Totals::default(),
        };
        for (offset, open) in open {
            core.insert_open(offset, &open, now_ms);
        }
        core
    }

    /// Begins anew at `start`, with nothing open. The workers stay; what they have is none of this any more.
    pub fn begin_anew(&mut self, start: u64) {
        for offset in self.items.keys().copied().collect::<Vec<_>>() {
            self.remove(offset);
        }
        self.claims.forget();
        self.workers.forget();
        self.scanned = start;
    }

    fn insert_open(&mut self, offset: u64, open: &OpenItem, now_ms: u64) {
        let state = if open.leased {
            State::Leased { worker: None, due_ms: open.due_ms }
        } else if self.is_over(open.attempts)
            || matches!(open.cause, Some(Cause::Rejected(_) | Cause::TooLarge))
        {
            State::Dead
        } else if open.due_ms > now_ms {
            State::Waiting(open.due_ms)
        } else {
            State::Ready
        };
        let item = Item {
            attempts: open.attempts,
            first_ms: open.first_ms,
            worker: (&*open.worker).into(),
            cause: open.cause,
            is_letter: open.is_letter,
            is_open: true,
            ..Item::new(state)
        };
        if let Some(timer) = item.state.timer() {
            self.timers.insert((timer, offset));
        }
        if self.items.insert(offset, item).is_none() {
            self.open += 1;
            self.keyless += usize::from(self.rules.order == Order::Key);
        }
        self.place(offset);
    }

    /// An event of the log, in order. `key` counts where order is kept.
    pub fn offer(&mut self, offset: u64, key: u64, bytes: u32, content: C) {
        self.scanned = self.scanned.max(offset.saturating_add(1));
        if self.items.contains_key(&offset) {
            return; // It is redriven, and ahead of its time.
        }
        let item = Item { bytes, content: Some(content), ..Item::new(State::Ready) };
        self.held_bytes += bytes as usize;
        self.items.insert(offset, item);
        self.set_key(offset, key);
        self.place(offset);
    }

    /// There is nothing for this consumer below `offset` that was not offered.
    pub fn skip_to(&mut self, offset: u64) {
        self.scanned = self.scanned.max(offset);
    }

    /// The offset to read on from.
    pub const fn scanned(&self) -> u64 {
        self.scanned
    }

    /// Everything below is settled or open.
    pub fn read_to(&self) -> u64 {
        self.fresh.first().copied().unwrap_or(self.scanned)
    }

    /// Whether more should be read: there is room for it, and somebody to take it.
    pub fn wants_more(&self) -> bool {
        !self.rules.paused
            && self.keyless == 0
            && self.fresh.len() < self.rules.max_ack_pending.max(1) as usize
            && self.held_bytes < self.rules.read_ahead_bytes
            && self.workers.has_room()
    }

    /// The first open item at or after `offset` whose content is needed, and whether that is a dead letter's.
    pub fn wanted(&self, offset: u64) -> Option<(u64, bool)> {
        let is_keyless = |offset: &&u64| self.items.get(offset).is_some_and(|item| item.key.is_none());
        let found = match self.may_hold_more() {
            true => self.wanted.range(offset..).next(),
            // Nothing leaves before all keys are known; their contents need not stay.
            false if self.keyless > 0 => self.wanted.range(offset..).find(is_keyless),
            false => None,
        };
        let offset = *found?;
        Some((offset, self.items.get(&offset)?.is_letter))
    }

    /// What was read ahead may fill all the room there is and wait for an item that has none: that one is let in. It may wait for its key, or
    /// be ready itself and wait for room among the open items.
    fn may_hold_more(&self) -> bool {
        let is_stuck = || self.keyless == 0 && self.ready_again.is_empty() && self.fresh_to_leave().is_none();
        self.held_bytes < self.rules.read_ahead_bytes || is_stuck()
    }

    /// The content that was wanted.
    pub fn give(&mut self, offset: u64, key: u64, bytes: u32, content: C) {
        self.set_key(offset, key);
        let may_hold_more = self.may_hold_more();
        let Some(item) = self.items.get_mut(&offset) else { return };
        if may_hold_more && item.content.is_none() && matches!(item.state, State::Ready | State::Dead) {
            item.bytes = bytes;
            item.content = Some(content);
            self.held_bytes += bytes as usize;
        }
        self.place(offset);
    }

    /// Takes over other rules.
    pub fn set_rules(&mut self, rules: Rules, now_ms: u64) {
        let order_changes = rules.order != self.rules.order;
        self.rules = rules;
        let offsets: Vec<u64> = self.items.keys().copied().collect();
        if order_changes {
            self.keys = Keys::default();
            self.keyless = 0;
        }
        for offset in offsets {
            let Some(item) = self.items.get_mut(&offset) else { continue };
            if order_changes {
                if let (Order::Key, Some(key)) = (self.rules.order, item.key) {
                    self.keys.insert(key, offset);
                    // Two of a key may be under way; order holds from the next on.
                    self.keys.set_in_flight(key, offset, item.state.is_in_flight());
                }
                self.keyless += usize::from(self.rules.order == Order::Key && item.key.is_none());
            }
            let (state, attempts) = (item.state, item.attempts);
            if self.is_over(attempts) && matches!(state, State::Ready | State::Waiting(_)) {
                self.die(offset, None);
            } else if let State::Waiting(until) = state
                && until <= now_ms
            {
                self.set_state(offset, State::Ready);
            }
            self.place(offset);
        }
    }

    /// Nobody takes part: what was read ahead is let go of.
    pub fn forget_fresh(&mut self) {
        self.scanned = self.read_to();
        for offset in std::mem::take(&mut self.fresh) {
            self.remove(offset);
        }
    }

    /// When something is due next.
    pub fn next_timeout(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let hang = self.workers.iter().filter_map(|(_, worker)| self.hangs_at(worker)).min();
        timer.into_iter().chain(hang).min()
    }

    fn hangs_at(&self, worker: &Worker) -> Option<u64> {
        let limit = u64::from(self.rules.hang_limit);
        let silent_since = worker.silent_since.filter(|_| limit > 0)?;
        Some(silent_since.saturating_add(self.rules.ack_wait_ms.saturating_mul(limit)))
    }

    /// How many items are open, how many are read ahead, and when the oldest open one was first handed out.
    pub fn counts(&self) -> (usize, usize, Option<u64>) {
        let oldest = self.items.values().filter(|item| item.first_ms > 0).map(|item| item.first_ms).min();
        (self.open, self.fresh.len(), oldest)
    }

    /// What has happened since this consumer runs.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    fn is_over(&self, attempts: u32) -> bool {
        self.rules.max_deliver > 0 && attempts >= self.rules.max_deliver
    }

    fn keeps_order(&self) -> bool {
        self.rules.order == Order::Key
    }

    fn set_key(&mut self, offset: u64, key: u64) {
        let keeps_order = self.keeps_order();
        let Some(item) = self.items.get_mut(&offset).filter(|item| item.key.is_none()) else { return };
        item.key = Some(key);
        if !keeps_order {
            return;
        }
        let first = self.keys.next(key);
        self.keyless -= usize::from(item.is_open);
        self.keys.insert(key, offset);
        self.keys.set_in_flight(key, offset, item.state.is_in_flight());
        if let Some(first) = first.filter(|first| *first > offset) {
            self.place(first);
        }
    }

    fn set_state(&mut self, offset: u64, state: State) {
        let Some(item) = self.items.get_mut(&offset) else { return };
        if let Some(timer) = item.state.timer() {
            self.timers.remove(&(timer, offset));
        }
        if let Some(timer) = state.timer() {
            self.timers.insert((timer, offset));
        }
        let had = item.state.is_in_flight();
        item.state = state;
        let key = item.key.filter(|_| self.rules.order == Order::Key);
        if let Some(key) = key
            && had != state.is_in_flight()
        {
            self.keys.set_in_flight(key, offset, state.is_in_flight());
            self.place_next(key);
        }
        self.place(offset);
    }

    /// The item is settled or let go of. Nobody holds anything of it any more.
    fn remove(&mut self, offset: u64) -> Option<Item<C>> {
        let item = self.items.remove(&offset)?;
        if let Some(timer) = item.state.timer() {
            self.timers.remove(&(timer, offset));
        }
        if item.content.is_some() {
            self.held_bytes -= item.bytes as usize;
        }
        self.open -= usize::from(item.is_open);
        for set in
            [&mut self.ready_fresh, &mut self.ready_again, &mut self.fresh, &mut self.wanted, &mut self.dead]
        {
            set.remove(&offset);
        }
        match item.key {
            Some(key) if self.keeps_order() => {
                self.keys.remove(key, offset);
                self.place_next(key);
            }
            None if self.keeps_order() => self.keyless -= usize::from(item.is_open),
            _ => {}
        }
        Some(item)
    }

    /// The next of a key may be handed out.
    fn place_next(&mut self, key: u64) {
        if let Some(next) = self.keys.next(key) {
            self.place(next);
        }
    }

    /// Puts the item into the sets in which it belongs, and takes it out of the others.
    fn place(&mut self, offset: u64) {
        let keeps_order = self.keeps_order();
        let Some(item) = self.items.get(&offset) else { return };
        let is_here = item.content.is_some();
        let needs_content = !is_here && matches!(item.state, State::Ready | State::Dead);
        let may_leave = item.state == State::Ready
            && is_here
            && (!keeps_order || item.key.is_some_and(|key| self.keys.next(key) == Some(offset)));
        let is_fresh = item.is_fresh();
        set(&mut self.wanted, offset, needs_content || (keeps_order && item.key.is_none()));
        set(&mut self.dead, offset, is_here && item.state == State::Dead);
        set(&mut self.fresh, offset, is_fresh);
        set(&mut self.ready_fresh, offset, may_leave && is_fresh);
        set(&mut self.ready_again, offset, may_leave && !is_fresh);
    }
}

fn set(offsets: &mut BTreeSet<u64>, offset: u64, is_in: bool) {
    if is_in {
        offsets.insert(offset);
    } else {
        offsets.remove(&offset);
    }
}

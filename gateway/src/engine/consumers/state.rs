//! One consumer as the view has it, and the rules by which entries change it.
//!
//! Every rule is a function of the state and the entry alone. An entry that the state has already seen, as a replay over a newer view
//! brings it, changes nothing: the state knows the offset of the last one.

use super::item::OpenItem;
use super::offset_runs::OffsetRuns;
use super::progress::Progress;
use super::spec::ConsumerSpec;
use super::tally::{Figures, Tally};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Offsets in one row of the saved view: what is open of them stands there together.
pub(super) const ROW_OFFSETS: u64 = 512;

/// A consumer. Written by the apply step alone.
#[derive(Debug)]
pub struct ConsumerEntry {
    /// Its name.
    pub name: Box<str>,
    removed: AtomicBool,
    pub(super) figures: OnceLock<Figures>,
    state: Mutex<ConsumerState>,
}

/// What is behind the lock.
#[derive(Debug)]
pub struct ConsumerState {
    /// What it is to read, and how.
    pub spec: ConsumerSpec,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Every event below was looked at.
    pub read_to: u64,
    /// What is handed out or waits to be handed out again, by offset.
    pub open: BTreeMap<u64, OpenItem>,
    /// Hand-outs since it was made.
    pub handed_out: u64,
    /// Of those, of events that were handed out before.
    pub redelivered: u64,
    /// Events settled by an acknowledgement.
    pub acked: u64,
    /// Events that became dead letters.
    pub dead_lettered: u64,
    /// Events that have expired.
    pub expired: u64,
    /// Events that the log could not read back.
    pub lost: u64,
    /// Events that the stream's retention took away.
    pub missed: u64,
    /// Items that were open when it was made anew, or whose letters were purged.
    pub discarded: u64,
    /// The offset of the last entry that changed it, plus one.
    pub(super) seen: u64,
    pub(super) unsaved: Unsaved,
    /// What has happened since the figures were last brought up to date.
    pub(in crate::engine) tally: Tally,
}

/// What differs from the saved view.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    /// It stands in the list of consumers to be saved.
    pub(super) listed: bool,
    /// Rows of open items, by offset over [`ROW_OFFSETS`].
    pub(super) rows: BTreeSet<u64>,
}

impl ConsumerEntry {
    pub(super) fn new(name: &str, state: ConsumerState) -> Self {
        Self {
            name: name.into(),
            removed: AtomicBool::new(false),
            figures: OnceLock::new(),
            state: Mutex::new(state),
        }
    }

    /// Looks at the state.
    pub fn state(&self) -> MutexGuard<'_, ConsumerState> {
        // Every change is complete before it can panic; a poisoned lock says nothing about the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the consumer is no more.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    pub(super) fn note_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }
}

impl ConsumerState {
    pub(super) fn new(spec: ConsumerSpec, created_ms: u64) -> Self {
        Self {
            read_to: spec.start,
            spec,
            created_ms,
            open: BTreeMap::new(),
            handed_out: 0,
            redelivered: 0,
            acked: 0,
            dead_lettered: 0,
            expired: 0,
            lost: 0,
            missed: 0,
            discarded: 0,
            seen: 0,
            unsaved: Unsaved::default(),
            tally: Tally::default(),
        }
    }

    /// It is altered, or made anew under another generation. Answers whether it begins anew.
    pub(super) fn set(&mut self, spec: ConsumerSpec) -> bool {
        let is_anew = spec.generation != self.spec.generation;
        if is_anew {
            let discarded = self.open.len() as u64;
            for offset in std::mem::take(&mut self.open).into_keys() {
                self.note(offset);
            }
            self.discarded += discarded;
            self.tally.discarded += discarded;
            self.read_to = spec.start;
        }
        self.spec = spec;
        is_anew
    }

    /// Takes over what was done. Answers which dead letters are settled by that.
    pub(super) fn advance(&mut self, progress: Progress) -> Vec<u64> {
        if progress.generation != self.spec.generation {
            return Vec::new();
        }
        let before = self.read_to;
        self.read_to = before.max(progress.read_to);
        for (offset, item) in progress.opened {
            let known = self.open.get(&offset).map_or(0, |item| item.attempts);
            let handed_out = u64::from(item.attempts.saturating_sub(known));
            // The first of them, where there was none before, is no redelivery.
            let redelivered = handed_out.saturating_sub(u64::from(known == 0));
            self.handed_out += handed_out;
            self.redelivered += redelivered;
            self.tally.handed_out += handed_out;
            self.tally.redelivered += redelivered;
            self.note(offset);
            self.open.insert(offset, item);
        }
        let mut letters = Vec::new();
        let acked = self.close(&progress.acked, before, &mut letters);
        self.close(&progress.gone, before, &mut letters);
        self.acked += acked;
        self.expired += progress.expired;
        self.lost += progress.lost;
        self.missed += progress.missed;
        self.tally.acked += acked;
        self.tally.expired += progress.expired;
        self.tally.lost += progress.lost;
        self.tally.missed += progress.missed;
        letters
    }

    /// Items that are not open any more. Answers how many that are: those that were open, and those from `read_to` on, which were
    /// handed out and settled without having been seen here.
    fn close(&mut self, offsets: &OffsetRuns, read_to: u64, letters: &mut Vec<u64>) -> u64 {
        let mut closed = 0;
        for (first, len) in offsets.runs() {
            let end = first.saturating_add(len);
            let unseen = end.saturating_sub(first.max(read_to));
            let open: Vec<u64> = self.open.range(first..end).map(|(offset, _)| *offset).collect();
            closed += unseen;
            for offset in open {
                closed += u64::from(offset < read_to);
                if self.settle(offset).is_some_and(|item| item.is_letter) {
                    letters.push(offset);
                }
            }
        }
        closed
    }

    /// One item is open now, or differently.
    pub(super) fn reopen(&mut self, offset: u64, item: OpenItem) {
        self.note(offset);
        self.open.insert(offset, item);
    }

    /// One item is not open any more.
    pub(super) fn settle(&mut self, offset: u64) -> Option<OpenItem> {
        let item = self.open.remove(&offset)?;
        self.note(offset);
        Some(item)
    }

    fn note(&mut self, offset: u64) {
        self.unsaved.rows.insert(offset / ROW_OFFSETS);
    }
}

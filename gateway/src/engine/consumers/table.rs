//! All consumers and their dead letters, and what each entry does to them.

use super::item::OpenItem;
use super::progress::Progress;
use super::saving::{self, Loader};
use super::spec::{ConsumerSpec, is_consumer_name};
use super::state::{ConsumerEntry, ConsumerState};
use super::tally;
use crate::engine::dead_letters::{DeadLetter, LetterTable, LettersChange, Removal};
use crate::engine::rules::Rules;
use crate::engine::snapshot::{IllegibleRow, chunked};
use gateway_storage::{ChangeError, Changes, Entry, Offset};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The table. Everybody may read it; only the apply step changes it.
#[derive(Debug, Default)]
pub(in crate::engine) struct ConsumerTable {
    entries: RwLock<BTreeMap<Box<str>, Arc<ConsumerEntry>>>,
    letters: RwLock<LetterTable>,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    /// What differs from the saved view, and what is gone but still in it.
    unsaved: Vec<Arc<ConsumerEntry>>,
    removed: Vec<Arc<ConsumerEntry>>,
    /// Whose figures have changed.
    touched: Vec<Arc<ConsumerEntry>>,
}

/// What a view had saved of consumers.
#[derive(Debug, Default)]
pub(in crate::engine) struct SavedConsumers {
    pub(in crate::engine) consumers: Vec<(Box<str>, ConsumerState)>,
    pub(in crate::engine) letters: LetterTable,
}

impl SavedConsumers {
    pub(in crate::engine) fn finish(
        consumers: Loader,
        letters: chunked::Loader,
    ) -> Result<Self, IllegibleRow> {
        Ok(Self { consumers: consumers.finish()?, letters: LetterTable::restore(letters)? })
    }
}

impl ConsumerTable {
    pub(in crate::engine) fn get(&self, name: &str) -> Option<Arc<ConsumerEntry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(in crate::engine) fn all(&self) -> Vec<Arc<ConsumerEntry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(in crate::engine) fn letters(&self) -> RwLockReadGuard<'_, LetterTable> {
        self.letters.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn letters_mut(&self) -> RwLockWriteGuard<'_, LetterTable> {
        self.letters.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<Box<str>, Arc<ConsumerEntry>>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies an entry that lies at `offset`; entries of other kinds are not for this table.
    pub(in crate::engine) fn apply(&self, entry: &Entry<'_>, offset: Offset, rules: &Rules) {
        match *entry {
            Entry::ConsumerSet { name, at_ms, spec } => {
                if let Some(spec) = ConsumerSpec::decode(spec) {
                    self.set(name, at_ms, spec, offset, rules);
                }
            }
            Entry::ConsumerRemoved { name, .. } => self.remove(name, offset),
            Entry::ConsumerProgress { name, progress, .. } => {
                if let Some(progress) = Progress::decode(progress) {
                    self.change(name, offset, |state, letters| {
                        for letter in state.advance(progress) {
                            if letters.remove(name, letter).is_some() {
                                state.tally.count_removed(Removal::Settled, 1);
                            }
                        }
                    });
                }
            }
            Entry::DeadLettered { name, at_ms, letter } => {
                if let Some(letter) = DeadLetter::decode(letter) {
                    self.change(name, offset, |state, letters| {
                        dead_letter(name, at_ms, letter, state, letters)
                    });
                    self.limit(rules);
                }
            }
            Entry::DeadLettersChanged { name, at_ms, change } => {
                if let Some(change) = LettersChange::decode(change) {
                    self.change(name, offset, |state, letters| {
                        change_letters(name, at_ms, change, state, letters);
                    });
                }
            }
            _ => {}
        }
    }

    /// Dead letters beyond the limits are no more.
    pub(in crate::engine) fn limit(&self, rules: &Rules) {
        let removed = self.letters_mut().limit(&rules.letters);
        for (name, letter) in removed {
            let Some(entry) = self.get(&name) else { continue };
            let mut state = entry.state();
            state.tally.count_removed(Removal::OverLimit, 1);
            discard(&mut state, letter.offset());
            self.list(&entry, &mut state);
        }
    }

    fn set(&self, name: &str, at_ms: u64, spec: ConsumerSpec, offset: Offset, rules: &Rules) {
        if let Some(entry) = self.get(name) {
            drop(entry);
            self.change(name, offset, |state, letters| {
                if state.set(spec) {
                    letters.end_redrives(name);
                }
            });
            return;
        }
        let mut entries = self.entries_mut();
        if !is_consumer_name(name) || entries.len() as u64 >= u64::from(rules.consumers_max) {
            return;
        }
        let mut state = ConsumerState::new(spec, at_ms);
        state.seen = offset.get().saturating_add(1);
        let entry = Arc::new(ConsumerEntry::new(name, state));
        entries.insert(name.into(), entry.clone());
        drop(entries);
        self.list(&entry, &mut entry.state());
    }

    fn remove(&self, name: &str, offset: Offset) {
        let Some(entry) = self.get(name) else { return };
        let mut state = entry.state();
        if state.seen > offset.get() {
            return;
        }
        self.entries_mut().remove(name);
        entry.note_removed();
        let letters = self.letters_mut().remove_all(name);
        state.tally.count_removed(Removal::ConsumerRemoved, letters);
        state.tally.discarded += state.open.len() as u64;
        let mut lists = self.lists();
        lists.removed.push(entry.clone());
        if !std::mem::replace(&mut state.tally.listed, true) {
            lists.touched.push(entry.clone());
        }
    }

    /// Changes a consumer by the entry at `offset`, unless it has seen that one already.
    fn change(&self, name: &str, offset: Offset, change: impl FnOnce(&mut ConsumerState, &mut LetterTable)) {
        let Some(entry) = self.get(name) else { return };
        let mut state = entry.state();
        if state.seen > offset.get() {
            return;
        }
        state.seen = offset.get().saturating_add(1);
        change(&mut state, &mut self.letters_mut());
        self.list(&entry, &mut state);
    }

    fn list(&self, entry: &Arc<ConsumerEntry>, state: &mut ConsumerState) {
        let is_unsaved = std::mem::replace(&mut state.unsaved.listed, true);
        let is_touched = std::mem::replace(&mut state.tally.listed, true);
        if is_unsaved && is_touched {
            return;
        }
        let mut lists = self.lists();
        if !is_unsaved {
            lists.unsaved.push(entry.clone());
        }
        if !is_touched {
            lists.touched.push(entry.clone());
        }
    }

    /// Brings the metrics up to date.
    pub(in crate::engine) fn report(&self) {
        let touched = std::mem::take(&mut self.lists().touched);
        if touched.is_empty() {
            return;
        }
        for entry in touched {
            // One of the same name may have been made meanwhile; its letters count.
            let usage = self.letters().usage(&entry.name);
            tally::report(&entry, &usage);
        }
        tally::report_count(self.entries.read().unwrap_or_else(PoisonError::into_inner).len());
    }

    /// What a replay has done was counted when it was done first; what there is now has not been.
    pub(in crate::engine) fn begin_report(&self) {
        let all = self.all();
        for entry in &all {
            entry.state().tally = tally::Tally::listed();
        }
        self.lists().touched = all;
        self.report();
    }

    pub(in crate::engine) fn has_unsaved(&self) -> bool {
        let lists = self.lists();
        !lists.unsaved.is_empty() || !lists.removed.is_empty() || self.letters().has_unsaved()
    }

    /// Adds the rows of what has changed since this was last called.
    pub(in crate::engine) fn save(&self, changes: &mut Changes) -> Result<(), ChangeError> {
        let (removed, unsaved) = {
            let mut lists = self.lists();
            (std::mem::take(&mut lists.removed), std::mem::take(&mut lists.unsaved))
        };
        for entry in removed {
            saving::forget(&entry, changes)?;
        }
        for entry in unsaved {
            saving::save(&entry, changes)?;
        }
        self.letters_mut().save(changes)
    }

    /// Puts back what a view had saved.
    pub(in crate::engine) fn restore(&self, saved: SavedConsumers) {
        let mut entries = self.entries_mut();
        for (name, state) in saved.consumers {
            let entry = Arc::new(ConsumerEntry::new(&name, state));
            entries.insert(name, entry);
        }
        *self.letters_mut() = saved.letters;
    }
}

/// An item becomes a dead letter, or one again.
fn dead_letter(
    name: &str,
    at_ms: u64,
    mut letter: DeadLetter,
    state: &mut ConsumerState,
    letters: &mut LetterTable,
) {
    let offset = letter.offset();
    let was_open = state.settle(offset).is_some();
    let before = letters.get(name, offset);
    if !was_open && offset < state.read_to && before.is_some() {
        return; // It was said twice.
    }
    letter.dead_ms = at_ms;
    letter.redriven_ms = 0;
    letter.redrives = before.map_or(0, |before| before.redrives);
    state.dead_lettered += 1;
    state.tally.count_dead(letter.cause());
    letters.insert(name, letter);
}

fn change_letters(
    name: &str,
    at_ms: u64,
    change: LettersChange,
    state: &mut ConsumerState,
    letters: &mut LetterTable,
) {
    match change {
        LettersChange::Redriven(items) => {
            for (offset, due_ms) in items {
                if letters.get(name, offset).is_none_or(|letter| letter.is_redriven()) {
                    continue;
                }
                letters.change(name, offset, |letter| {
                    letter.redriven_ms = at_ms.max(1);
                    letter.redrives = letter.redrives.saturating_add(1);
                });
                let item = OpenItem {
                    attempts: 0,
                    due_ms,
                    first_ms: 0,
                    worker: Box::default(),
                    cause: None,
                    leased: false,
                    is_letter: true,
                };
                state.reopen(offset, item);
            }
        }
        LettersChange::Purged(offsets) => {
            for offset in present(name, &offsets, letters) {
                letters.remove(name, offset);
                state.tally.count_removed(Removal::Purged, 1);
                discard(state, offset);
            }
        }
        LettersChange::Aged(offsets) => {
            for offset in present(name, &offsets, letters) {
                if letters.get(name, offset).is_some_and(|letter| !letter.is_redriven()) {
                    letters.remove(name, offset);
                    state.tally.count_removed(Removal::Aged, 1);
                }
            }
        }
    }
}

/// Those of the offsets that are letters: runs may be longer than the table is.
fn present(name: &str, offsets: &super::OffsetRuns, letters: &LetterTable) -> Vec<u64> {
    offsets.runs().flat_map(|(first, len)| letters.within(name, first, first.saturating_add(len))).collect()
}

/// The letter at `offset` is no more: what of it is under way is not open any more.
fn discard(state: &mut ConsumerState, offset: u64) {
    if state.open.get(&offset).is_some_and(|item| item.is_letter) {
        state.settle(offset);
        state.discarded += 1;
        state.tally.discarded += 1;
    }
}

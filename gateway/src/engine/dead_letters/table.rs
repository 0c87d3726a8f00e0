//! All dead letters, by consumer and offset.

use super::{DeadLetter, LetterLimits};
use crate::engine::snapshot::{IllegibleRow, chunked};
use gateway_storage::{ChangeError, Changes, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// How many dead letters a consumer has, and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LetterUsage {
    /// How many.
    pub count: u64,
    /// Of those, under way in the consumer after a redrive.
    pub redriven: u64,
    /// Bytes they are charged with.
    pub bytes: u64,
    /// When the oldest was given up, in milliseconds since the Unix epoch; 0: there is none.
    pub oldest_ms: u64,
}

#[derive(Debug, Default)]
pub(in crate::engine) struct LetterTable {
    consumers: BTreeMap<Box<str>, Letters>,
    bytes: u64,
    /// What differs from the saved view, and how many rows it has there.
    unsaved: BTreeMap<(Box<str>, u64), u32>,
}

/// Those of one consumer.
#[derive(Debug, Default)]
struct Letters {
    slots: BTreeMap<u64, Slot>,
    /// By age: when a letter was given up, and its offset.
    ages: BTreeSet<(u64, u64)>,
    bytes: u64,
    redriven: u64,
}

#[derive(Debug)]
struct Slot {
    letter: Arc<DeadLetter>,
    /// Rows in the saved view.
    rows: u32,
}

impl LetterTable {
    pub(in crate::engine) fn get(&self, consumer: &str, offset: u64) -> Option<Arc<DeadLetter>> {
        Some(self.consumers.get(consumer)?.slots.get(&offset)?.letter.clone())
    }

    /// At most `limit` letters behind offset `after`, by offset.
    pub(in crate::engine) fn page(
        &self,
        consumer: &str,
        after: Option<u64>,
        limit: usize,
    ) -> Vec<Arc<DeadLetter>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let Some(letters) = self.consumers.get(consumer) else { return Vec::new() };
        letters
            .slots
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(_, slot)| slot.letter.clone())
            .collect()
    }

    /// Offsets of letters in a stretch.
    pub(in crate::engine) fn within(&self, consumer: &str, first: u64, end: u64) -> Vec<u64> {
        let letters = self.consumers.get(consumer).into_iter();
        letters
            .flat_map(|letters| letters.slots.range(first..end.max(first)))
            .map(|(offset, _)| *offset)
            .collect()
    }

    pub(in crate::engine) fn usage(&self, consumer: &str) -> LetterUsage {
        self.consumers.get(consumer).map_or_else(LetterUsage::default, |letters| LetterUsage {
            count: letters.slots.len() as u64,
            redriven: letters.redriven,
            bytes: letters.bytes,
            oldest_ms: letters.ages.first().map_or(0, |(dead_ms, _)| *dead_ms),
        })
    }

    /// Letters given up before `before_ms` and not under way, by consumer; at most `max` offsets in all.
    pub(in crate::engine) fn older_than(&self, before_ms: u64, max: usize) -> Vec<(Box<str>, Vec<u64>)> {
        let mut left = max;
        let mut found = Vec::new();
        for (consumer, letters) in &self.consumers {
            let waits =
                |offset: &u64| letters.slots.get(offset).is_some_and(|slot| !slot.letter.is_redriven());
            let old = letters.ages.iter().take_while(|(dead_ms, _)| *dead_ms < before_ms);
            let old: Vec<u64> = old.map(|(_, offset)| *offset).filter(waits).take(left).collect();
            left -= old.len();
            if !old.is_empty() {
                found.push((consumer.clone(), old));
            }
        }
        found
    }

    /// Puts a letter in, in place of one under the same offset.
    pub(in crate::engine) fn insert(&mut self, consumer: &str, letter: DeadLetter) {
        let offset = letter.offset();
        let rows = self.take(consumer, offset).map_or(0, |slot| slot.rows);
        self.put(consumer, Slot { letter: Arc::new(letter), rows });
        self.note(consumer, offset, rows);
    }

    /// Changes a letter, if it is there.
    pub(in crate::engine) fn change(
        &mut self,
        consumer: &str,
        offset: u64,
        change: impl FnOnce(&mut DeadLetter),
    ) -> bool {
        let Some(mut slot) = self.take(consumer, offset) else { return false };
        change(Arc::make_mut(&mut slot.letter));
        let rows = slot.rows;
        self.put(consumer, slot);
        self.note(consumer, offset, rows);
        true
    }

    pub(in crate::engine) fn remove(&mut self, consumer: &str, offset: u64) -> Option<Arc<DeadLetter>> {
        let slot = self.take(consumer, offset)?;
        self.note(consumer, offset, slot.rows);
        Some(slot.letter)
    }

    /// Removes those of a consumer; answers how many there were.
    pub(in crate::engine) fn remove_all(&mut self, consumer: &str) -> u64 {
        let Some(letters) = self.consumers.remove(consumer) else { return 0 };
        self.bytes -= letters.bytes;
        for (offset, slot) in &letters.slots {
            self.note(consumer, *offset, slot.rows);
        }
        letters.slots.len() as u64
    }

    /// Nothing of a consumer is under way any more.
    pub(in crate::engine) fn end_redrives(&mut self, consumer: &str) {
        let Some(letters) = self.consumers.get(consumer) else { return };
        let under_way = letters.slots.iter().filter(|(_, slot)| slot.letter.is_redriven());
        for offset in under_way.map(|(offset, _)| *offset).collect::<Vec<_>>() {
            self.change(consumer, offset, |letter| letter.redriven_ms = 0);
        }
    }

    /// Removes what is beyond the limits: of a consumer that has too many its oldest, then the oldest of whoever takes the most bytes.
    pub(in crate::engine) fn limit(&mut self, limits: &LetterLimits) -> Vec<(Box<str>, Arc<DeadLetter>)> {
        let mut removed = Vec::new();
        let has_too_many = |letters: &Letters| letters.slots.len() as u64 > limits.count_max;
        while let Some(name) = self
            .consumers
            .iter()
            .find(|(_, letters)| has_too_many(letters))
            .map(|(name, _)| name.clone())
            .or_else(|| (self.bytes > limits.bytes_max).then(|| self.largest()).flatten())
        {
            let oldest = self.consumers.get(&name).and_then(|letters| letters.ages.first().copied());
            let Some(letter) = oldest.and_then(|(_, offset)| self.remove(&name, offset)) else { break };
            removed.push((name, letter));
        }
        removed
    }

    fn largest(&self) -> Option<Box<str>> {
        // Of several the first by name: a replay chooses the same.
        let most = self.consumers.values().map(|letters| letters.bytes).max()?;
        self.consumers.iter().find(|(_, letters)| letters.bytes == most).map(|(name, _)| name.clone())
    }

    fn put(&mut self, consumer: &str, slot: Slot) {
        if !self.consumers.contains_key(consumer) {
            self.consumers.insert(consumer.into(), Letters::default());
        }
        let Some(letters) = self.consumers.get_mut(consumer) else { return };
        let letter = &slot.letter;
        self.bytes += letter.cost();
        letters.bytes += letter.cost();
        letters.redriven += u64::from(letter.is_redriven());
        letters.ages.insert((letter.dead_ms, letter.offset()));
        letters.slots.insert(letter.offset(), slot);
    }

    fn take(&mut self, consumer: &str, offset: u64) -> Option<Slot> {
        let letters = self.consumers.get_mut(consumer)?;
        let slot = letters.slots.remove(&offset)?;
        let letter = &slot.letter;
        self.bytes -= letter.cost();
        letters.bytes -= letter.cost();
        letters.redriven -= u64::from(letter.is_redriven());
        letters.ages.remove(&(letter.dead_ms, offset));
        if letters.slots.is_empty() {
            self.consumers.remove(consumer);
        }
        Some(slot)
    }

    fn note(&mut self, consumer: &str, offset: u64, rows: u32) {
        let before = self.unsaved.entry((consumer.into(), offset)).or_insert(rows);
        *before = rows.max(*before);
    }

    pub(in crate::engine) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// Adds the rows of every letter that has changed.
    pub(in crate::engine) fn save(&mut self, changes: &mut Changes) -> Result<(), ChangeError> {
        for ((consumer, offset), before) in std::mem::take(&mut self.unsaved) {
            let name = row_name(&consumer, offset);
            let slot = self.consumers.get_mut(&consumer).and_then(|letters| letters.slots.get_mut(&offset));
            let now = match slot {
                Some(slot) => {
                    slot.rows = chunked::put(changes, Table::DeadLetters, &name, &*slot.letter)?;
                    slot.rows
                }
                None => 0,
            };
            chunked::delete(changes, Table::DeadLetters, &name, now..before)?;
        }
        Ok(())
    }

    /// A table as it was saved.
    pub(in crate::engine) fn restore(rows: chunked::Loader) -> Result<Self, IllegibleRow> {
        let mut table = Self::default();
        for (name, rows, letter) in rows.finish::<DeadLetter>(Table::DeadLetters)? {
            let illegible = || IllegibleRow { table: Table::DeadLetters, key: name.as_bytes().into() };
            let (consumer, _) = name.rsplit_once(' ').ok_or_else(illegible)?;
            table.put(consumer, Slot { letter: Arc::new(letter), rows });
        }
        Ok(table)
    }
}

/// A consumer's name has no space; the offset has all its digits, so that rows are in the order of offsets.
fn row_name(consumer: &str, offset: u64) -> String {
    format!("{consumer} {offset:020}")
}

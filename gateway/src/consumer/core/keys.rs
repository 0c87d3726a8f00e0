//! Which item of each key comes next, where a consumer keeps order by key.

use std::collections::{BTreeSet, HashMap};

/// The unsettled items by key. Only the first of a key may be handed out, and only while no other of it is.
#[derive(Debug, Default)]
pub(super) struct Keys {
    lines: HashMap<u64, Line, foldhash::fast::RandomState>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: BTreeSet<u64>,
    in_flight: Option<u64>,
}

impl Keys {
    pub(super) fn insert(&mut self, key: u64, offset: u64) {
        self.lines.entry(key).or_default().waiting.insert(offset);
    }

    /// The item that may be handed out now, if one may.
    pub(super) fn next(&self, key: u64) -> Option<u64> {
        let line = self.lines.get(&key)?;
        if line.in_flight.is_some() {
            return None;
        }
        line.waiting.first().copied()
    }

    /// A worker has this item, or has it no longer.
    pub(super) fn set_in_flight(&mut self, key: u64, offset: u64, is_in_flight: bool) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        if is_in_flight {
            line.in_flight = Some(offset);
        } else if line.in_flight == Some(offset) {
            line.in_flight = None;
        }
    }

    pub(super) fn remove(&mut self, key: u64, offset: u64) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        line.waiting.remove(&offset);
        if line.in_flight == Some(offset) {
            line.in_flight = None;
        }
        if line.waiting.is_empty() {
            self.lines.remove(&key);
        }
    }
}

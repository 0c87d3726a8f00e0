//! A table of those who were seen lately, bounded: two halves, of which the older is given up as a whole.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

/// What is known of the most recent keys. Keys are kept as hashes under a seed of this process: two that collide, which nobody can bring
/// about on purpose, are treated as one.
#[derive(Debug)]
pub(super) struct Recent<V> {
    seed: RandomState,
    newer: HashMap<u64, V>,
    older: HashMap<u64, V>,
    half: usize,
    turned_ms: u64,
    turn_after_ms: u64,
}

impl<V> Recent<V> {
    /// At most `entries_max` entries; one that is not asked for is forgotten after `turn_after_ms` to twice that.
    pub(super) fn new(entries_max: usize, turn_after_ms: u64) -> Self {
        Self {
            seed: RandomState::new(),
            newer: HashMap::new(),
            older: HashMap::new(),
            half: (entries_max / 2).max(1),
            turned_ms: 0,
            turn_after_ms,
        }
    }

    /// The entry of `key`, made by `make` if there is none.
    pub(super) fn entry(&mut self, now_ms: u64, key: impl Hash, make: impl FnOnce() -> V) -> &mut V {
        let key = self.seed.hash_one(key);
        if now_ms.saturating_sub(self.turned_ms) >= self.turn_after_ms || self.newer.len() >= self.half {
            self.older = std::mem::take(&mut self.newer);
            self.turned_ms = now_ms;
        }
        let before = self.older.remove(&key);
        self.newer.entry(key).or_insert_with(|| before.unwrap_or_else(make))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.newer.len() + self.older.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_lately_is_known_and_there_is_a_bound() {
        let mut recent = Recent::new(100, 60_000);
        for key in 0..1_000 {
            *recent.entry(0, key, || 0) += 1;
            assert!(recent.len() <= 100, "{}", recent.len());
        }
        assert_eq!(*recent.entry(0, 999, || 0), 1, "one of the last fifty at least");
        assert_eq!(*recent.entry(0, 960, || 0), 1);
        assert_eq!(*recent.entry(0, 3, || 0), 0, "long gone");
    }

    #[test]
    fn who_is_not_seen_is_forgotten() {
        let mut recent = Recent::new(100, 60_000);
        *recent.entry(60_000, "a", || 0) = 7;
        *recent.entry(60_000, "b", || 0) = 8;
        assert_eq!(*recent.entry(119_999, "a", || 0), 7);
        assert_eq!(*recent.entry(120_000, "a", || 0), 7, "moves to the newer half");
        assert_eq!(*recent.entry(180_000, "a", || 0), 7);
        assert_eq!(*recent.entry(180_000, "b", || 0), 0);
        assert_eq!(recent.len(), 2);
    }
}

//! Offsets as runs of consecutive ones.

use super::wire::{Reader, put};

/// A set of log offsets, ascending, as runs of consecutive ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetRuns {
    /// First offset and how many; ascending, with a gap between any two.
    runs: Vec<(u64, u64)>,
}

impl OffsetRuns {
    /// Adds one offset; one that is there already changes nothing. Cheapest at or near the end.
    pub fn insert(&mut self, offset: u64) {
        // The runs from here on begin behind the offset.
        let at = self.runs.partition_point(|(first, _)| *first <= offset);
        if let Some((first, len)) = at.checked_sub(1).and_then(|before| self.runs.get_mut(before)) {
            if offset - *first < *len {
                return;
            }
            if offset - *first == *len {
                *len += 1;
                let end = first.saturating_add(*len);
                if let Some((_, more)) = self.runs.get(at).copied().filter(|(next, _)| *next == end) {
                    self.runs.remove(at);
                    if let Some((_, len)) = self.runs.get_mut(at - 1) {
                        *len += more;
                    }
                }
                return;
            }
        }
        match self.runs.get_mut(at) {
            Some((next, len)) if offset.checked_add(1) == Some(*next) => {
                *next = offset;
                *len += 1;
            }
            _ => self.runs.insert(at, (offset, 1)),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many offsets there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().fold(0, |sum, (_, len)| sum.saturating_add(*len))
    }

    /// Whether `offset` is there.
    #[must_use]
    pub fn contains(&self, offset: u64) -> bool {
        let at = self.runs.partition_point(|(first, _)| *first <= offset);
        at.checked_sub(1).and_then(|at| self.runs.get(at)).is_some_and(|(first, len)| offset - first < *len)
    }

    /// Forgets all; the room is kept.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// The runs, ascending: first offset and how many.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().copied()
    }

    pub(in crate::engine) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.runs.len() as u64);
        let mut end = 0;
        for (first, len) in &self.runs {
            put(out, first - end);
            put(out, len - 1);
            end = first.saturating_add(*len);
        }
    }

    pub(in crate::engine) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let count = reader.count()?;
        let mut runs = Vec::new();
        let mut end: u64 = 0;
        for number in 0..count {
            let gap = reader.number()?;
            if gap == 0 && number > 0 {
                return None;
            }
            let first = end.checked_add(gap)?;
            let len = reader.number()?.checked_add(1)?;
            end = first.checked_add(len)?;
            runs.push((first, len));
        }
        Some(Self { runs })
    }
}

impl FromIterator<u64> for OffsetRuns {
    fn from_iter<I: IntoIterator<Item = u64>>(offsets: I) -> Self {
        let mut runs = Self::default();
        for offset in offsets {
            runs.insert(offset);
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Against a set of single offsets.
        #[test]
        fn runs_are_a_set(offsets in proptest::collection::vec(0u64..60, 0..60), base in 0..u64::MAX - 100) {
            let runs: OffsetRuns = offsets.iter().map(|offset| base + offset).collect();
            let set: BTreeSet<u64> = offsets.iter().map(|offset| base + offset).collect();
            let listed: Vec<u64> = runs.runs().flat_map(|(first, len)| first..first + len).collect();
            prop_assert_eq!(&listed, &set.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(runs.count(), set.len() as u64);
            prop_assert!((0..60).all(|at| runs.contains(base + at) == set.contains(&(base + at))));
            let gaps = runs.runs().zip(runs.runs().skip(1)).all(|((first, len), (next, _))| first + len < next);
            prop_assert!(gaps, "consecutive ones are one run");
            let mut bytes = Vec::new();
            runs.encode(&mut bytes);
            let mut reader = Reader(&bytes);
            prop_assert_eq!(OffsetRuns::decode(&mut reader), Some(runs));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_runs_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(runs) = OffsetRuns::decode(&mut Reader(&bytes)) {
                let mut again = Vec::new();
                runs.encode(&mut again);
                prop_assert_eq!(OffsetRuns::decode(&mut Reader(&again)), Some(runs));
            }
        }
    }
}

//! A set of numbers that are mostly consecutive, as ranges.

use std::collections::BTreeMap;

/// Disjoint ranges that do not touch, start to end (exclusive).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    ranges: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds `start..end`.
    pub(super) fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        if let Some((&before, &before_end)) = self.ranges.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&next, &next_end)) = self.ranges.range(start..=end).next() {
            end = end.max(next_end);
            self.ranges.remove(&next);
        }
        self.ranges.insert(start, end);
    }

    /// The end of the range that holds `number`.
    pub(super) fn end_of(&self, number: u64) -> Option<u64> {
        let (_, &end) = self.ranges.range(..=number).next_back()?;
        (end > number).then_some(end)
    }

    /// Forgets everything below `low`.
    pub(super) fn trim_below(&mut self, low: u64) {
        while let Some((&start, &end)) = self.ranges.first_key_value() {
            if start >= low {
                return;
            }
            self.ranges.pop_first();
            if end > low {
                self.ranges.insert(low, end);
            }
        }
    }

    /// How many numbers there are.
    pub(super) fn count(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// The ranges, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(start, end)| (*start, *end))
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> Self {
        let mut set = Self::default();
        for (start, end) in ranges {
            set.insert(start, end);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..9), 1..60)) {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for (trims, start, len) in steps {
                if trims && len < 2 {
                    ranges.trim_below(start);
                    model.retain(|number| *number >= start);
                } else {
                    ranges.insert(start, start + len);
                    model.extend(start..start + len);
                }
                prop_assert_eq!(ranges.count(), model.len() as u64);
                for number in 0..70 {
                    prop_assert_eq!(ranges.end_of(number).is_some(), model.contains(&number));
                }
                let listed: Vec<_> = ranges.iter().collect();
                prop_assert!(listed.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", listed);
            }
        }
    }
}

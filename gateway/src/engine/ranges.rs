//! A set of numbers that are mostly consecutive, as ranges.

use std::collections::BTreeMap;

/// Disjoint ranges that do not touch, start to end (exclusive).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    ranges: BTreeMap<u64, u64>,
    count: u64,
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
            self.count -= next_end - next;
        }
        self.ranges.insert(start, end);
        self.count += end - start;
    }

    /// Takes `start..end` out.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        while start < end
            && let Some((&first, &until)) = self.ranges.range(..end).next_back()
            && until > start
        {
            self.ranges.remove(&first);
            self.count -= until - first;
            self.insert(first, start);
            self.insert(end, until);
        }
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
            self.count -= end.min(low) - start;
            if end > low {
                self.ranges.insert(low, end);
            }
        }
    }

    /// How many numbers there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The least number.
    pub(super) fn first(&self) -> Option<u64> {
        self.ranges.first_key_value().map(|(start, _)| *start)
    }

    /// The start of the first range that begins after `number`.
    pub(super) fn start_after(&self, number: u64) -> Option<u64> {
        self.ranges.range(number.checked_add(1)?..).next().map(|(start, _)| *start)
    }

    /// What lies in `start..end`, cut there.
    pub(super) fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let before = self.ranges.range(..start).next_back().filter(|(_, until)| **until > start);
        let inside = self.ranges.range(start..end);
        before.into_iter().chain(inside).map(move |(from, until)| ((*from).max(start), (*until).min(end)))
    }

    /// About how many bytes of memory it has besides its own.
    pub(super) fn memory_bytes(&self) -> usize {
        // A node of the tree is at least half full, but for the first.
        if self.is_empty() { 0 } else { 208 + self.ranges.len() * 32 }
    }

    /// The ranges, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(start, end)| (*start, *end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_a_set(steps in proptest::collection::vec((0..4, 0u64..60, 0u64..9), 1..60)) {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for (kind, start, len) in steps {
                if kind == 0 && len < 2 {
                    ranges.trim_below(start);
                    model.retain(|number| *number >= start);
                } else if kind == 1 {
                    ranges.remove(start, start + len);
                    model.retain(|number| !(start..start + len).contains(number));
                } else {
                    ranges.insert(start, start + len);
                    model.extend(start..start + len);
                }
                prop_assert_eq!(ranges.first(), model.first().copied());
                prop_assert_eq!(ranges.count(), model.len() as u64);
                prop_assert_eq!(ranges.is_empty(), model.is_empty());
                for number in 0..70 {
                    prop_assert_eq!(ranges.end_of(number).is_some(), model.contains(&number));
                    let next = (number + 1..70).find(|at| model.contains(at) && !model.contains(&(at - 1)));
                    prop_assert_eq!(ranges.start_after(number), next);
                }
                let cut: Vec<u64> = ranges.within(20, 40).flat_map(|(start, end)| start..end).collect();
                prop_assert_eq!(cut, model.range(20..40).copied().collect::<Vec<_>>());
                let listed: Vec<_> = ranges.iter().collect();
                prop_assert!(listed.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", listed);
            }
        }
    }
}

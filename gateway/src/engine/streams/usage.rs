//! How much of the log is a stream's own: counted for every event, and remembered at some offsets how much came before.
//!
//! So it is known from which offset on a stream has no more than it may have, without asking the log. The answer is rounded: a stream
//! keeps at most its `max_bytes`, and less by a 512th of that at most.

use gateway_storage::Offset;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Points within a stream's `max_bytes`.
const POINTS: u64 = 512;
/// Points at most, after a change of `max_bytes`; past it every second one is given up.
const POINTS_MAX: usize = 1024;

/// What one stream has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct Usage {
    /// All its events since they are counted, those that are not kept any more included, and their bytes.
    events: u64,
    bytes: u64,
    /// The offset of the newest.
    newest: u64,
    /// From the oldest on that matters; the first event of a stream is one.
    points: VecDeque<Point>,
    #[serde(skip)]
    pub(super) unsaved: bool,
    /// What the stream may keep.
    #[serde(skip)]
    pub(super) max_bytes: u64,
}

/// An event, and what the stream had before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Point {
    offset: u64,
    bytes: u64,
    events: u64,
}

impl Usage {
    /// The same, of a stream that may keep so much.
    pub(super) fn within(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    pub(super) fn add(&mut self, offset: u64, bytes: u64, max_bytes: u64) {
        let spacing = (max_bytes / POINTS).max(1);
        if self.points.back().is_none_or(|point| self.bytes - point.bytes >= spacing) {
            self.points.push_back(Point { offset, bytes: self.bytes, events: self.events });
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.events += 1;
        self.newest = offset;
        self.unsaved = true;
        while self.points.len() > 1
            && self.points.front().is_some_and(|oldest| self.bytes - oldest.bytes > max_bytes)
        {
            self.points.pop_front();
        }
        if self.points.len() > POINTS_MAX {
            let mut number = 0;
            self.points.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
    }

    /// The first offset from which on there are no more than `max_bytes`; zero when that is all. The newest event is kept, however large.
    pub(in crate::engine) fn floor(&self, max_bytes: u64) -> Offset {
        if self.bytes <= max_bytes {
            return Offset::ZERO;
        }
        let at = self.points.partition_point(|point| self.bytes - point.bytes > max_bytes);
        let point = self.points.get(at).or(self.points.back());
        Offset::new(point.map_or(0, |point| point.offset))
    }

    /// From which offset on the log is needed for a stream that begins at `floor`; `None`: it is not.
    pub(in crate::engine) fn needed_from(&self, floor: Offset) -> Option<Offset> {
        let oldest = self.points.front()?;
        (self.newest >= floor.get()).then(|| floor.max(Offset::new(oldest.offset)))
    }

    /// About how many bytes and events there were before `offset`, of all that were counted: exact at the points, and in proportion
    /// between them.
    pub(in crate::engine) fn before(&self, offset: Offset) -> (u64, u64) {
        let offset = offset.get();
        let end = Point { offset: self.newest.saturating_add(1), bytes: self.bytes, events: self.events };
        if offset >= end.offset {
            return (end.bytes, end.events);
        }
        let behind = self.points.partition_point(|point| point.offset <= offset);
        let Some(from) = behind.checked_sub(1).and_then(|at| self.points.get(at)) else {
            return self.points.front().map_or((0, 0), |point| (point.bytes, point.events));
        };
        let to = self.points.get(behind).copied().unwrap_or(end);
        let part = u128::from(offset - from.offset);
        let whole = u128::from(to.offset.saturating_sub(from.offset).max(1));
        let between = |from: u64, to: u64| {
            let more = u128::from(to.saturating_sub(from)) * part / whole;
            from.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
        };
        (between(from.bytes, to.bytes), between(from.events, to.events))
    }

    /// About how many bytes and events there are from `floor` on.
    pub(in crate::engine) fn kept_from(&self, floor: Offset) -> (u64, u64) {
        if self.needed_from(floor).is_none() {
            return (0, 0);
        }
        let behind = self.points.partition_point(|point| point.offset <= floor.get());
        let point = self.points.get(behind.saturating_sub(1));
        point.map_or((0, 0), |point| (self.bytes - point.bytes, self.events - point.events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain list of events: no more than the limit is kept, nor much less.
        #[test]
        fn a_stream_keeps_what_it_may_and_not_much_less(
            sizes in proptest::collection::vec(1u64..2000, 1..800),
            max_bytes in 10_000u64..400_000,
        ) {
            let mut usage = Usage::default();
            let mut events = Vec::new();
            for (offset, size) in (0u64..).step_by(3).zip(&sizes) {
                usage.add(offset, *size, max_bytes);
                events.push((offset, *size));
                let floor = usage.floor(max_bytes).get();
                let kept: u64 = events.iter().filter(|(offset, _)| *offset >= floor).map(|(_, size)| size).sum();
                let total: u64 = events.iter().map(|(_, size)| size).sum();
                prop_assert!(kept <= max_bytes);
                prop_assert!(kept >= total.min(max_bytes - max_bytes / POINTS - 2000), "{} of {}", kept, total);
                prop_assert_eq!(usage.kept_from(Offset::new(floor)).0, kept);
            }
            prop_assert!(usage.points.len() <= usize::try_from(POINTS).unwrap() + 2);
        }
    }

    #[test]
    fn what_came_before_an_offset_is_known_within_a_point() {
        let mut usage = Usage::default();
        for offset in (1000u64..11_000).step_by(5) {
            usage.add(offset, 100, 1 << 20);
        }
        let close = |(bytes, events): (u64, u64), expected: u64| {
            assert!(bytes.abs_diff(expected * 100) <= (1 << 20) / POINTS + 100, "{bytes}");
            assert!(events.abs_diff(expected) <= 22, "{events} of {expected}");
        };
        close(usage.before(Offset::ZERO), 0);
        close(usage.before(Offset::new(1000)), 0);
        close(usage.before(Offset::new(6000)), 1000);
        assert_eq!(usage.before(Offset::new(10_996)), (200_000, 2000));
        assert_eq!(usage.before(Offset::new(u64::MAX)), (200_000, 2000));
        assert_eq!(Usage::default().before(Offset::new(7)), (0, 0));
    }

    #[test]
    fn points_are_bounded_however_the_limit_changes() {
        let mut usage = Usage::default();
        for offset in 0..200_000 {
            let max_bytes = 1000 << (offset / 20_000);
            usage.add(offset, 7, max_bytes);
        }
        assert!(usage.points.len() <= POINTS_MAX);
        let (bytes, _) = usage.kept_from(usage.floor(100_000));
        assert!((90_000..=100_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn an_event_larger_than_the_limit_is_kept_while_it_is_the_newest() {
        let mut usage = Usage::default();
        usage.add(1, 10, 100);
        usage.add(2, 1000, 100);
        assert_eq!(usage.floor(100), Offset::new(2));
        usage.add(3, 10, 100);
        assert_eq!(usage.floor(100), Offset::new(3));
    }

    #[test]
    fn a_stream_whose_events_are_all_too_old_needs_nothing_of_the_log() {
        let mut usage = Usage::default();
        assert_eq!(usage.needed_from(Offset::ZERO), None);
        usage.add(10, 5, 100);
        usage.add(20, 5, 100);
        assert_eq!(usage.needed_from(Offset::ZERO), Some(Offset::new(10)), "it began there");
        assert_eq!(usage.needed_from(Offset::new(15)), Some(Offset::new(15)));
        assert_eq!(usage.needed_from(Offset::new(21)), None);
        assert_eq!(usage.kept_from(Offset::new(21)), (0, 0));
    }
}

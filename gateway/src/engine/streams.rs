//! Streams: which topics each keeps, and how much of the log is its own.
//!
//! The apply step counts the bytes of every event that a stream keeps, and remembers at some offsets how many came before. So it is
//! known from which offset on the stream has no more than it may have, without asking the log. The answer is rounded: a stream keeps
//! at most its `max_bytes`, and less by a 512th of that at most.
//!
//! What is counted follows from the entries and the configuration, is part of the saved view, and goes on after a restart. A stream that is
//! new in the configuration counts from then on.
//!
//! It does not know the clock, nor who else needs the log: that is [`super::retention`].

use super::snapshot::chunked;
use crate::router::{Grant, Router};
use gateway_protocol::{QoS, TopicFilter};
use gateway_storage::{ChangeError, Changes, Offset, Table};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What keys of the table Meta begin with that hold the usage of a stream.
pub(super) const USAGE_PREFIX: &str = "stream/";
/// Points within a stream's `max_bytes`.
const POINTS: u64 = 512;
/// Points at most, after a change of `max_bytes`; past it every second one is given up.
const POINTS_MAX: usize = 1024;
/// What an event takes in the log beside its own bytes: markers and times of the entry.
const FRAMING_BYTES: u64 = 40;

/// A stream as it is configured.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Its name.
    pub name: String,
    /// Legal Topic Filters of what it keeps.
    pub topics: Vec<String>,
    /// How long events are kept, in milliseconds.
    pub max_age_ms: u64,
    /// How many bytes of its events are kept.
    pub max_bytes: u64,
}

/// All streams. Which there are is fixed while the gateway runs.
#[derive(Debug)]
pub(super) struct Streams {
    router: Router<()>,
    ids: HashMap<String, u64>,
    streams: Vec<Stream>,
    usage: Mutex<Usages>,
}

#[derive(Debug)]
struct Stream {
    options: StreamOptions,
    /// Events below are not the stream's any more.
    floor: AtomicU64,
}

/// What every stream has, in the order of their numbers, and what the saved view still has of others.
#[derive(Debug, Default)]
pub(super) struct Usages {
    streams: Vec<Usage>,
    gone: Vec<Box<str>>,
}

/// What one stream has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usage {
    /// All its events since they are counted, those that are not kept any more included, and their bytes.
    events: u64,
    bytes: u64,
    /// The offset of the newest.
    newest: u64,
    /// From the oldest on that matters; the first event of a stream is one.
    points: VecDeque<Point>,
    #[serde(skip)]
    unsaved: bool,
}

/// An event, and what the stream had before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Point {
    offset: u64,
    bytes: u64,
    events: u64,
}

impl Streams {
    pub(super) fn new(streams: &[StreamOptions]) -> Self {
        let mut router = Router::default();
        let mut ids = HashMap::new();
        for (id, stream) in (0u64..).zip(streams) {
            ids.insert(stream.name.clone(), id);
            for filter in stream.topics.iter().filter_map(|text| TopicFilter::parse(text).ok()) {
                let grant = Grant {
                    qos: QoS::ExactlyOnce,
                    no_local: false,
                    retain_as_published: false,
                    subscription_id: 0,
                };
                // Configured filters were checked against the same bound when the configuration was read.
                let _ = router.subscribe(id, (), filter, grant);
            }
        }
        let usage = Usages { streams: vec![Usage::default(); streams.len()], gone: Vec::new() };
        let streams = streams.iter().cloned().map(|options| Stream { options, floor: AtomicU64::new(0) });
        Self { router, ids, streams: streams.collect(), usage: Mutex::new(usage) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    pub(super) fn id(&self, name: &str) -> Option<u64> {
        self.ids.get(name).copied()
    }

    /// The streams that keep `topic`.
    pub(super) fn keeping(&self, topic: &str) -> Arc<[u64]> {
        self.router.matches(topic).iter().map(|found| found.id).collect()
    }

    pub(super) fn options(&self) -> impl Iterator<Item = &StreamOptions> {
        self.streams.iter().map(|stream| &stream.options)
    }

    /// Where stream number `id` begins.
    pub(super) fn floor(&self, id: u64) -> Offset {
        let stream = usize::try_from(id).ok().and_then(|at| self.streams.get(at));
        Offset::new(stream.map_or(0, |stream| stream.floor.load(Ordering::Acquire)))
    }

    /// Stream number `id` begins at `floor`, or later. Answers where.
    pub(super) fn raise_floor(&self, id: usize, floor: Offset) -> Offset {
        let Some(stream) = self.streams.get(id) else { return floor };
        Offset::new(stream.floor.fetch_max(floor.get(), Ordering::AcqRel).max(floor.get()))
    }

    /// What the streams have. The apply step holds this for one batch at a time.
    pub(super) fn usage(&self) -> MutexGuard<'_, Usages> {
        // Counting can not panic between two of its steps.
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an event for stream number `id`; `bytes` are those of its topic, properties, payload and Client Identifier.
    pub(super) fn count(&self, usage: &mut Usages, id: u64, offset: Offset, bytes: u64) {
        let Ok(at) = usize::try_from(id) else { return };
        if let (Some(usage), Some(stream)) = (usage.streams.get_mut(at), self.streams.get(at)) {
            usage.add(offset.get(), bytes + FRAMING_BYTES, stream.options.max_bytes);
        }
    }

    /// Takes over what was saved.
    pub(super) fn restore(&self, saved: Vec<(Box<str>, Usage)>) {
        let mut usages = self.usage();
        for (key, saved) in saved {
            let name = key.strip_prefix(USAGE_PREFIX).unwrap_or(&key);
            let at = self.id(name).and_then(|id| usize::try_from(id).ok());
            match at.and_then(|at| usages.streams.get_mut(at)) {
                Some(usage) => *usage = saved,
                None => usages.gone.push(key),
            }
        }
    }

    pub(super) fn has_unsaved(&self) -> bool {
        let usages = self.usage();
        !usages.gone.is_empty() || usages.streams.iter().any(|usage| usage.unsaved)
    }

    /// Adds the rows of what has changed since this was last called.
    pub(super) fn save(&self, changes: &mut Changes) -> Result<(), ChangeError> {
        let mut usages = self.usage();
        for key in std::mem::take(&mut usages.gone) {
            chunked::delete(changes, Table::Meta, &key, 0..1)?;
        }
        for (usage, stream) in usages.streams.iter_mut().zip(&self.streams) {
            if std::mem::take(&mut usage.unsaved) {
                // With the most points there may be it is less than one row.
                let key = [USAGE_PREFIX, &stream.options.name].concat();
                chunked::put(changes, Table::Meta, &key, usage)?;
            }
        }
        Ok(())
    }
}

impl Usages {
    pub(super) fn get(&self, id: usize) -> Option<&Usage> {
        self.streams.get(id)
    }
}

impl Usage {
    fn add(&mut self, offset: u64, bytes: u64, max_bytes: u64) {
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
    pub(super) fn floor(&self, max_bytes: u64) -> Offset {
        if self.bytes <= max_bytes {
            return Offset::ZERO;
        }
        let at = self.points.partition_point(|point| self.bytes - point.bytes > max_bytes);
        let point = self.points.get(at).or(self.points.back());
        Offset::new(point.map_or(0, |point| point.offset))
    }

    /// From which offset on the log is needed for a stream that begins at `floor`; `None`: it is not.
    pub(super) fn needed_from(&self, floor: Offset) -> Option<Offset> {
        let oldest = self.points.front()?;
        (self.newest >= floor.get()).then(|| floor.max(Offset::new(oldest.offset)))
    }

    /// About how many bytes and events there are from `floor` on.
    pub(super) fn kept_from(&self, floor: Offset) -> (u64, u64) {
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

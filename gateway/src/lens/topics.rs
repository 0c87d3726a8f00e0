//! Topics and their rates, counted while somebody looks.
//!
//! A rate is an average that forgets: what came [`MEMORY_MS`] ago counts for a third of what comes now. So it costs one number for each
//! topic, whenever it is asked for. Bounded in topics and in bytes of their names; what finds no room is counted as one, `other`.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::{counter, gauge};

/// Over which time a rate is an average, in milliseconds.
const MEMORY_MS: f64 = 5_000.0;
/// Tables, so that threads do not stand in line.
const SHARDS: usize = 16;
/// Topics of one table.
const TOPICS_MAX: usize = 2_048;
/// Bytes of the names of one table.
const NAME_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a name that is counted on its own.
const NAME_MAX: usize = 1_024;
/// How long it is counted for somebody who does not look any more, in milliseconds.
const LOOK_MS: u64 = 30_000;

/// Rates in a second, and how many there were in all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Events since the counting began.
    pub events: u64,
    /// Events in a second.
    pub events_per_sec: f64,
    /// Bytes of their packets in a second.
    pub bytes_per_sec: f64,
}

impl Rates {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.events_per_sec += other.events_per_sec;
        self.bytes_per_sec += other.bytes_per_sec;
    }
}

/// One level of the tree below a prefix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Level {
    /// Its name.
    pub name: Box<str>,
    /// Topics that go through it, itself included.
    pub topics: usize,
    /// Whether there is more below it.
    pub has_children: bool,
    /// Of it and everything below.
    pub rates: Rates,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    events: u64,
    weight: f64,
    bytes: f64,
    at_ms: u64,
}

#[derive(Debug, Default)]
struct Shard {
    topics: HashMap<Box<str>, Count>,
    name_bytes: usize,
    other: Count,
}

/// The table. It is empty while nobody looks.
#[derive(Debug, Default)]
pub struct Topics {
    shards: [Mutex<Shard>; SHARDS],
    hasher: foldhash::fast::RandomState,
    begun_ms: AtomicU64,
    looked_ms: AtomicU64,
}

impl Count {
    fn add(&mut self, bytes: usize, now_ms: u64) {
        let kept = kept(now_ms.saturating_sub(self.at_ms));
        self.events += 1;
        self.weight = self.weight.mul_add(kept, 1.0);
        self.bytes = self.bytes.mul_add(kept, bytes as f64);
        self.at_ms = now_ms.max(self.at_ms);
    }

    fn rates(&self, begun_ms: u64, now_ms: u64) -> Rates {
        let kept_now = kept(now_ms.saturating_sub(self.at_ms));
        // In the beginning there is less to be an average of; a second at least.
        let span_ms = MEMORY_MS * (1.0 - kept(now_ms.saturating_sub(begun_ms).max(1_000)));
        let per_sec = |weight: f64| weight * kept_now * 1_000.0 / span_ms;
        Rates {
            events: self.events,
            events_per_sec: per_sec(self.weight),
            bytes_per_sec: per_sec(self.bytes),
        }
    }
}

/// What is left of a weight after so long.
fn kept(elapsed_ms: u64) -> f64 {
    if elapsed_ms == 0 { 1.0 } else { (-(elapsed_ms as f64) / MEMORY_MS).exp() }
}

impl Topics {
    /// One event, received in so many bytes. Times are monotonic milliseconds.
    pub fn count(&self, topic: &str, bytes: usize, now_ms: u64) {
        let at = usize::try_from(self.hasher.hash_one(topic)).unwrap_or(usize::MAX) % SHARDS;
        let Some(shard) = self.shards.get(at) else { return };
        let mut shard = lock(shard);
        if let Some(count) = shard.topics.get_mut(topic) {
            return count.add(bytes, now_ms);
        }
        let has_room = shard.topics.len() < TOPICS_MAX
            && topic.len() <= NAME_MAX
            && shard.name_bytes + topic.len() <= NAME_BYTES_MAX;
        if !has_room {
            counter!("gateway_topics_other_total").increment(1);
            return shard.other.add(bytes, now_ms);
        }
        shard.name_bytes += topic.len();
        shard.topics.entry(topic.into()).or_default().add(bytes, now_ms);
    }

    /// The levels directly below `prefix`, which is a topic or empty for the first level, by name and behind `after`, `limit` at most; and
    /// whether there are more.
    #[must_use]
    pub fn below(
        &self,
        prefix: Option<&str>,
        after: Option<&str>,
        limit: usize,
        now_ms: u64,
    ) -> (Vec<Level>, bool) {
        let begun_ms = self.begun_ms.load(Ordering::Relaxed);
        let mut levels: BTreeMap<Box<str>, Level> = BTreeMap::new();
        let mut counted = 0;
        for shard in &self.shards {
            let shard = lock(shard);
            counted += shard.topics.len();
            for (topic, count) in &shard.topics {
                let below = match prefix {
                    None => Some(&**topic),
                    Some(prefix) => topic.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')),
                };
                let Some(below) = below else { continue };
                let (name, has_children) = match below.split_once('/') {
                    Some((name, _)) => (name, true),
                    None => (below, false),
                };
                let level = levels
                    .entry(name.into())
                    .or_insert_with(|| Level { name: name.into(), ..Level::default() });
                level.topics += 1;
                level.has_children |= has_children;
                level.rates.add(count.rates(begun_ms, now_ms));
            }
        }
        gauge!("gateway_topics_counted").set(counted as f64);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = levels.range::<str, _>((from, Bound::Unbounded)).map(|(_, level)| level.clone());
        let page: Vec<Level> = behind.by_ref().take(limit).collect();
        (page, behind.next().is_some())
    }

    /// What found no room in the table.
    #[must_use]
    pub fn other(&self, now_ms: u64) -> Rates {
        let begun_ms = self.begun_ms.load(Ordering::Relaxed);
        let mut rates = Rates::default();
        for shard in &self.shards {
            rates.add(lock(shard).other.rates(begun_ms, now_ms));
        }
        rates
    }

    /// How long it has been counted, in milliseconds.
    #[must_use]
    pub fn counted_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.begun_ms.load(Ordering::Relaxed))
    }

    pub(super) fn begin(&self, now_ms: u64) {
        self.begun_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(super) fn looked(&self, now_ms: u64) {
        self.looked_ms.fetch_max(now_ms, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.looked_ms.load(Ordering::Relaxed)) >= LOOK_MS
    }

    /// Forgets all of it. A connection that has not seen the end may still count a little: that is forgotten with the next end.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *lock(shard) = Shard::default();
        }
        gauge!("gateway_topics_counted").set(0.0);
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Streams: which topics each keeps, and how much of the log is its own.
//!
//! The apply step counts the bytes of every event that a stream keeps (`usage`). What is counted follows from the entries and the
//! configuration, is part of the saved view, and goes on after a restart. A stream that is new counts from then on.
//!
//! Streams are **configured**, or **made** while the gateway runs, by entries of the log. A configured one stands before one that was
//! made under the same name, which comes into force when the configuration has no such stream any more. A stream has a number for as long
//! as it is there; numbers are not used again before a restart. The routing epoch changes with every change, and so does an epoch
//! of the streams' own, for those who cache what a stream keeps.
//!
//! It does not know the clock, nor who else needs the log: that is [`super::retention`].

mod access;
mod made;
#[cfg(test)]
mod tests;
mod usage;

pub use access::{SetStreamError, StreamInfo};
pub(super) use made::{Made, SPEC_PREFIX, StreamSpec};
pub(super) use usage::Usage;

use super::snapshot::chunked;
use crate::router::{Grant, Router};
use gateway_protocol::{QoS, TopicFilter};
use gateway_storage::{ChangeError, Changes, Offset, Table};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What keys of the table Meta begin with that hold the usage of a stream.
pub(super) const USAGE_PREFIX: &str = "stream/";
/// What an event takes in the log beside its own bytes: markers and times of the entry.
const FRAMING_BYTES: u64 = 40;
/// Streams at most, configured or made.
pub const STREAMS_MAX: usize = 64;

/// A stream as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// All streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    set: RwLock<Set>,
    /// How many there are in the set.
    count: AtomicUsize,
    epoch: AtomicU64,
    usage: Mutex<Usages>,
    made: Mutex<Made>,
}

/// Those in force.
#[derive(Debug, Default)]
struct Set {
    router: Router<()>,
    ids: HashMap<String, u64>,
    streams: BTreeMap<u64, Arc<Stream>>,
    next_id: u64,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u64,
    pub(super) options: StreamOptions,
    pub(super) configured: bool,
    /// Events below are not the stream's any more. It is the same one after an alteration: nothing raised meanwhile is lost.
    floor: Arc<AtomicU64>,
}

/// What every stream has, by number, and what the saved view still has of others.
#[derive(Debug, Default)]
pub(super) struct Usages {
    streams: BTreeMap<u64, Usage>,
    gone: Vec<Box<str>>,
}

impl Streams {
    pub(super) fn new(configured: &[StreamOptions]) -> Self {
        let streams = Self::default();
        for options in configured {
            streams.enforce(options.clone(), true, &mut streams.usage());
        }
        streams
    }

    /// A stream is in force from now on, or differently.
    fn enforce(&self, options: StreamOptions, configured: bool, usages: &mut Usages) {
        let mut set = self.set_mut();
        let known = set.ids.get(&options.name).and_then(|id| set.streams.get(id)).cloned();
        let id = known.as_ref().map_or(set.next_id, |known| known.id);
        if let Some(known) = &known {
            set.unroute(known);
        } else {
            set.next_id += 1;
        }
        for filter in options.topics.iter().filter_map(|text| TopicFilter::parse(text).ok()) {
            let grant = Grant {
                qos: QoS::ExactlyOnce,
                no_local: false,
                retain_as_published: false,
                subscription_id: 0,
            };
            // Filters were checked against the same bound when the stream was configured or made.
            let _ = set.router.subscribe(id, (), filter, grant);
        }
        let usage = usages.streams.entry(id).or_default();
        usage.max_bytes = options.max_bytes;
        set.ids.insert(options.name.clone(), id);
        let floor = known.map_or_else(Arc::default, |known| known.floor.clone());
        set.streams.insert(id, Arc::new(Stream { id, options, configured, floor }));
        self.note_change(&set);
    }

    /// A stream is in force no more.
    fn end(&self, name: &str, usages: &mut Usages) {
        let mut set = self.set_mut();
        let Some(stream) = set.ids.remove(name).and_then(|id| set.streams.remove(&id)) else { return };
        set.unroute(&stream);
        usages.streams.remove(&stream.id);
        usages.gone.push([USAGE_PREFIX, name].concat().into());
        self.note_change(&set);
    }

    fn note_change(&self, set: &Set) {
        self.count.store(set.streams.len(), Ordering::Release);
        self.epoch.fetch_add(1, Ordering::Release);
    }

    fn set(&self) -> RwLockReadGuard<'_, Set> {
        self.set.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_mut(&self) -> RwLockWriteGuard<'_, Set> {
        self.set.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Changes whenever a stream does.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(super) fn id(&self, name: &str) -> Option<u64> {
        self.set().ids.get(name).copied()
    }

    /// The streams that keep `topic`.
    pub(super) fn keeping(&self, topic: &str) -> Arc<[u64]> {
        self.set().router.matches(topic).iter().map(|found| found.id).collect()
    }

    /// Whether any stream keeps `topic`.
    pub(super) fn keeps_any(&self, topic: &str) -> bool {
        !self.is_empty() && self.set().router.wants(topic)
    }

    /// The streams, in the order in which they were made.
    pub(super) fn all(&self) -> Vec<Arc<Stream>> {
        self.set().streams.values().cloned().collect()
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Stream>> {
        self.set().streams.get(&id).cloned()
    }

    /// Where stream number `id` begins.
    pub(super) fn floor(&self, id: u64) -> Offset {
        self.set().streams.get(&id).map_or(Offset::ZERO, |stream| stream.floor())
    }

    /// What the streams have. The apply step holds this for one batch at a time.
    pub(super) fn usage(&self) -> MutexGuard<'_, Usages> {
        // Counting cannot panic between two of its steps.
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what was saved: the streams that were made first, then what each has.
    pub(super) fn restore(&self, made: Made, saved: Vec<(Box<str>, Usage)>) {
        let mut usages = self.usage();
        for (name, spec) in made.iter() {
            if self.id(name).is_none() {
                self.enforce(spec.options(name), false, &mut usages);
            }
        }
        *self.made() = made;
        for (key, saved) in saved {
            let name = key.strip_prefix(USAGE_PREFIX).unwrap_or(&key);
            match self.id(name).and_then(|id| usages.streams.get_mut(&id)) {
                Some(usage) => *usage = saved.within(usage.max_bytes),
                None => usages.gone.push(key),
            }
        }
    }

    pub(super) fn has_unsaved(&self) -> bool {
        let usages = self.usage();
        !usages.gone.is_empty()
            || usages.streams.values().any(|usage| usage.unsaved)
            || self.made().has_unsaved()
    }

    /// Adds the rows of what has changed since this was last called.
    pub(super) fn save(&self, changes: &mut Changes) -> Result<(), ChangeError> {
        let mut usages = self.usage();
        for key in std::mem::take(&mut usages.gone) {
            chunked::delete(changes, Table::Meta, &key, 0..1)?;
        }
        for stream in self.all() {
            let Some(usage) = usages.streams.get_mut(&stream.id) else { continue };
            if std::mem::take(&mut usage.unsaved) {
                // With the most points there may be it is less than one row.
                let key = [USAGE_PREFIX, &stream.options.name].concat();
                chunked::put(changes, Table::Meta, &key, usage)?;
            }
        }
        self.made().save(changes)
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Set {
    fn unroute(&mut self, stream: &Stream) {
        for filter in stream.options.topics.iter().filter_map(|text| TopicFilter::parse(text).ok()) {
            self.router.unsubscribe(stream.id, filter);
        }
    }
}

impl Stream {
    /// Where it begins.
    pub(super) fn floor(&self) -> Offset {
        Offset::new(self.floor.load(Ordering::Acquire))
    }

    /// It begins at `floor`, or later. Answers where.
    pub(super) fn raise_floor(&self, floor: Offset) -> Offset {
        Offset::new(self.floor.fetch_max(floor.get(), Ordering::AcqRel).max(floor.get()))
    }
}

impl Usages {
    pub(super) fn get(&self, id: u64) -> Option<&Usage> {
        self.streams.get(&id)
    }

    /// Counts an event for stream number `id`; `bytes` are those of its topic, properties, payload and Client Identifier.
    pub(super) fn count(&mut self, id: u64, offset: Offset, bytes: u64) {
        if let Some(usage) = self.streams.get_mut(&id) {
            usage.add(offset.get(), bytes + FRAMING_BYTES, usage.max_bytes);
        }
    }
}

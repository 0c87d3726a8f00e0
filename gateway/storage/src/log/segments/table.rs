//! What the writer and the readers of a log share: which segments there are, and how far they may be read.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::offset::Offset;

/// One file of the log.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) first: Offset,
    /// Commit time of the last group before this segment.
    pub(super) base_time_ms: u64,
    /// Bytes a reader may look at: whole, durable groups.
    readable: AtomicU64,
    /// No longer in the table; its file is gone or about to go.
    trimmed: AtomicBool,
}

impl Segment {
    pub(super) fn new(path: PathBuf, first: Offset, base_time_ms: u64, readable: u64) -> Self {
        Self {
            path,
            first,
            base_time_ms,
            readable: AtomicU64::new(readable),
            trimmed: AtomicBool::new(false),
        }
    }

    pub(super) fn readable(&self) -> u64 {
        self.readable.load(Ordering::Acquire)
    }

    pub(super) fn set_readable(&self, bytes: u64) {
        self.readable.store(bytes, Ordering::Release);
    }

    /// Whether the log has let go of this segment.
    pub(super) fn is_trimmed(&self) -> bool {
        self.trimmed.load(Ordering::Acquire)
    }
}

/// The segments of a log, ascending, the end of what is durable, and how large it all is.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) salt: u64,
    /// Never empty; the last one is being written.
    segments: RwLock<Vec<Arc<Segment>>>,
    end: AtomicU64,
    /// Bytes of all segments, headers included. The writer adds, the trimmer subtracts.
    bytes: AtomicU64,
}

impl Table {
    pub(super) fn new(salt: u64, segments: Vec<Arc<Segment>>, end: Offset, bytes: u64) -> Self {
        let (end, bytes) = (AtomicU64::new(end.get()), AtomicU64::new(bytes));
        Self { salt, segments: RwLock::new(segments), end, bytes }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Notes that a file of `was` bytes has `is` bytes now.
    pub(super) fn resized(&self, was: u64, is: u64) {
        let resize = |bytes: u64| Some(bytes.saturating_sub(was).saturating_add(is));
        let _always_some = self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, resize);
    }

    /// The offset after the last durable entry. Whoever loads it sees the bytes before it as readable.
    pub(super) fn end(&self) -> Offset {
        Offset::new(self.end.load(Ordering::Acquire))
    }

    pub(super) fn set_end(&self, end: Offset) {
        self.end.store(end.get(), Ordering::Release);
    }

    pub(super) fn earliest(&self) -> Offset {
        self.read().first().map_or(Offset::ZERO, |segment| segment.first)
    }

    pub(super) fn push(&self, segment: Arc<Segment>) {
        self.write().push(segment);
    }

    /// Puts `segment` in the place of the last one, which holds nothing.
    pub(super) fn replace_last(&self, segment: Arc<Segment>) {
        let mut segments = self.write();
        if let Some(empty) = segments.pop() {
            empty.trimmed.store(true, Ordering::Release);
        }
        segments.push(segment);
    }

    /// Takes out the earliest segment if all of it lies below `before` and another one follows, marked as trimmed.
    /// Nothing that is not durable yet counts as below.
    pub(super) fn take_earliest(&self, before: Offset) -> Option<Arc<Segment>> {
        let before = before.min(self.end());
        let mut segments = self.write();
        segments.get(1).filter(|behind| behind.first <= before)?;
        let earliest = segments.remove(0);
        earliest.trimmed.store(true, Ordering::Release);
        Some(earliest)
    }

    /// The segment that holds `offset`, or the earliest one, and the one behind it.
    pub(super) fn segment_of(&self, offset: Offset) -> (Option<Arc<Segment>>, Option<Arc<Segment>>) {
        let segments = self.read();
        let at = segments.partition_point(|segment| segment.first <= offset).saturating_sub(1);
        (segments.get(at).cloned(), segments.get(at + 1).cloned())
    }

    /// The last segment that begins before `time_ms`, or the earliest one, and the one behind it.
    pub(super) fn segment_before(&self, time_ms: u64) -> (Option<Arc<Segment>>, Option<Arc<Segment>>) {
        let segments = self.read();
        let at = segments.partition_point(|segment| segment.base_time_ms < time_ms).saturating_sub(1);
        (segments.get(at).cloned(), segments.get(at + 1).cloned())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Vec<Arc<Segment>>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }
}

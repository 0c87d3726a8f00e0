//! Numbers about commits: written once per group, read at any time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Samples kept for whoever drains them; the oldest go first.
const SAMPLES_MAX: usize = 4096;

/// Totals since the start. All counts only grow, `log_bytes` and `last_sync_nanos` aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// Groups committed.
    pub groups: u64,
    /// Entries in them.
    pub entries: u64,
    /// Events among the entries.
    pub events: u64,
    /// Bytes of the entries, encoded.
    pub bytes: u64,
    /// Bytes given to the log, group headers included, as they are after compression.
    pub bytes_written: u64,
    /// Syncs done.
    pub syncs: u64,
    /// How long the last sync took, in nanoseconds.
    pub last_sync_nanos: u64,
    /// How long all syncs took, in nanoseconds.
    pub total_sync_nanos: u64,
    /// Appends and syncs that failed.
    pub failures: u64,
    /// Entries that were submitted and lost with a failed group; none of them was acknowledged.
    pub entries_failed: u64,
    /// Events among those.
    pub events_failed: u64,
    /// Times the log was reopened after a failure.
    pub reopened: u64,
    /// Size of the log in bytes after the last commit or trim.
    pub log_bytes: u64,
    /// Samples that were dropped because nobody drained them.
    pub samples_dropped: u64,
}

/// One committed group, for histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitSample {
    /// How long the group's sync took, in nanoseconds; 0 if it was not synced by itself.
    pub sync_nanos: u64,
    /// Entries in the group.
    pub entries: u32,
    /// Bytes written for it.
    pub bytes: u32,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    groups: AtomicU64,
    entries: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    bytes_written: AtomicU64,
    syncs: AtomicU64,
    last_sync_nanos: AtomicU64,
    total_sync_nanos: AtomicU64,
    failures: AtomicU64,
    entries_failed: AtomicU64,
    events_failed: AtomicU64,
    reopened: AtomicU64,
    log_bytes: AtomicU64,
    samples_dropped: AtomicU64,
    longest_sojourn_nanos: AtomicU64,
    samples: Mutex<VecDeque<CommitSample>>,
}

impl Counters {
    pub(super) fn synced(&self, nanos: u64) {
        self.syncs.fetch_add(1, Relaxed);
        self.last_sync_nanos.store(nanos, Relaxed);
        self.total_sync_nanos.fetch_add(nanos, Relaxed);
    }

    pub(super) fn log_bytes(&self, bytes: u64) {
        self.log_bytes.store(bytes, Relaxed);
    }

    pub(super) fn committed(&self, sample: CommitSample, events: u64, entry_bytes: u64) {
        self.groups.fetch_add(1, Relaxed);
        self.entries.fetch_add(u64::from(sample.entries), Relaxed);
        self.events.fetch_add(events, Relaxed);
        self.bytes.fetch_add(entry_bytes, Relaxed);
        self.bytes_written.fetch_add(u64::from(sample.bytes), Relaxed);
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
            self.samples_dropped.fetch_add(1, Relaxed);
        }
        samples.push_back(sample);
    }

    pub(super) fn sojourned(&self, nanos: u64) {
        self.longest_sojourn_nanos.fetch_max(nanos, Relaxed);
    }

    pub(super) fn take_longest_sojourn(&self) -> u64 {
        self.longest_sojourn_nanos.swap(0, Relaxed)
    }

    pub(super) fn failed(&self, entries: u64, events: u64) {
        self.failures.fetch_add(1, Relaxed);
        self.entries_failed.fetch_add(entries, Relaxed);
        self.events_failed.fetch_add(events, Relaxed);
    }

    pub(super) fn reopened(&self) {
        self.reopened.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> CommitStats {
        CommitStats {
            groups: self.groups.load(Relaxed),
            entries: self.entries.load(Relaxed),
            events: self.events.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            syncs: self.syncs.load(Relaxed),
            last_sync_nanos: self.last_sync_nanos.load(Relaxed),
            total_sync_nanos: self.total_sync_nanos.load(Relaxed),
            failures: self.failures.load(Relaxed),
            entries_failed: self.entries_failed.load(Relaxed),
            events_failed: self.events_failed.load(Relaxed),
            reopened: self.reopened.load(Relaxed),
            log_bytes: self.log_bytes.load(Relaxed),
            samples_dropped: self.samples_dropped.load(Relaxed),
        }
    }

    pub(super) fn drain_samples(&self) -> Vec<CommitSample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

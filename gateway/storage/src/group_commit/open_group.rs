//! The group that takes submissions while the one before it is written.

use std::task::Waker;
use std::time::Instant;

use super::options::Urgency;
use crate::buffers::Buffers;
use crate::frame::FRAME_HEADER_LEN;
use crate::index::EntryIndex;
use crate::staging::Staging;

/// Submitters waiting for room of which a repeated one is recognised; looking further would cost more than it saves.
const WAITERS_COMPARED: usize = 16;

/// Submitters that may wait for room. Beyond it all of them are woken to try again, so that spurious polls of the same
/// few tasks cannot let the list grow for as long as a sync stalls.
pub(super) const WAITERS_MAX: usize = 1 << 16;

/// A group in memory: room for the frame header, the entries, their index, and who submitted them.
#[derive(Debug)]
pub(super) struct OpenGroup {
    pub(super) bytes: Vec<u8>,
    pub(super) index: Vec<EntryIndex>,
    pub(super) events: u64,
    /// Those who submitted, in the order in which they are woken.
    contributors: Vec<Waker>,
    /// How many of them are to be woken before the others, the first ones.
    ahead: usize,
    /// It holds what is not to wait for company.
    pub(super) at_once: bool,
    /// Somebody waits for this group, or it is filling up: commit it as soon as possible.
    pub(super) urgent: bool,
    /// When the first entry that may wait came in.
    pub(super) lazy_since: Option<Instant>,
    /// When the first entry came in that somebody waits for.
    pub(super) awaited_since: Option<Instant>,
}

impl OpenGroup {
    pub(super) fn new((mut bytes, mut index): Buffers) -> Self {
        bytes.clear();
        bytes.resize(FRAME_HEADER_LEN, 0);
        index.clear();
        Self {
            bytes,
            index,
            events: 0,
            contributors: Vec::new(),
            ahead: 0,
            at_once: false,
            urgent: false,
            lazy_since: None,
            awaited_since: None,
        }
    }

    /// Keeps the waker of somebody who submits.
    pub(super) fn keep(&mut self, waker: &Waker, urgency: Urgency) {
        self.contributors.push(waker.clone());
        if urgency == Urgency::AtOnce {
            let last = self.contributors.len() - 1;
            self.contributors.swap(self.ahead, last);
            self.ahead += 1;
        }
    }

    /// Those to be woken, in this order.
    pub(super) fn take_contributors(&mut self) -> Vec<Waker> {
        self.ahead = 0;
        std::mem::take(&mut self.contributors)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Appends what is staged. `bytes_max` is what the group may take; its buffer grows by doubling up to that and no
    /// further, so that a full group has next to no spare room and becomes a batch without being copied.
    pub(super) fn extend(&mut self, staging: &Staging, bytes_max: usize) {
        // Fits: `group_bytes_max` and the staging limit together stay below 2 GiB.
        let base = self.bytes.len() as u32;
        let needed = self.bytes.len() + staging.byte_len();
        if needed > self.bytes.capacity() {
            let capacity = (2 * self.bytes.capacity()).min(bytes_max).max(needed);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(staging.bytes());
        self.index
            .extend(staging.index().iter().map(|entry| EntryIndex { start: entry.start + base, ..*entry }));
        self.events += staging.events() as u64;
    }
}

/// Those who found the group full.
#[derive(Debug, Default)]
pub(super) struct Waiters(Vec<Waker>);

impl Waiters {
    /// Keeps a waker, once where that is cheap to see. Returns wakers to be woken now because there are too many.
    pub(super) fn keep(&mut self, waker: &Waker) -> Vec<Waker> {
        if self.0.iter().rev().take(WAITERS_COMPARED).any(|kept| kept.will_wake(waker)) {
            return Vec::new();
        }
        let overflow = if self.0.len() >= WAITERS_MAX { self.take() } else { Vec::new() };
        self.0.push(waker.clone());
        overflow
    }

    pub(super) fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.0)
    }
}

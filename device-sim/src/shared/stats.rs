//! Counters of a run, for watching and for what the ledger does not keep.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::latency::Latencies;
use crate::class::{ByClass, Class};
use crate::qos::{ByQoS, QoS};
use crate::scenario::SubscriberSpec;

/// A counter or gauge that many tasks move.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(crate) fn subtract(&self, less: u64) {
        self.0.fetch_sub(less, Relaxed);
    }
}

/// The fleet's counters. Sums of events live in the ledger; these are for watching, and for what it does not keep.
#[derive(Debug, Default)]
pub struct Stats {
    /// Events that have become due.
    pub due: ByQoS<Count>,
    /// Of these: dropped because the device's queue of unsent events was full.
    pub overflowed: Count,
    /// Written to a connection, first time.
    pub sent: ByQoS<Count>,
    /// PUBACKs with success.
    pub acknowledged: Count,
    /// PUBACKs with a Reason Code of 0x80 or more.
    pub rejected: Count,
    /// Written to a connection again.
    pub retransmitted: Count,
    /// Devices connected now.
    pub connected: Count,
    /// Connections of devices that broke.
    pub disconnects: Count,
    /// Events that were in flight when a connection broke.
    pub in_flight_at_disconnect: Count,
    /// Of these: given up because the broker had no session any more. Sparkplug: and what was never sent, since the next
    /// connection numbers its messages anew.
    pub given_up: Count,
    /// Commands that devices received.
    pub commands: Count,
    /// Of these: replied to.
    pub replies: Count,
}

/// One subscriber's counters.
#[derive(Debug)]
pub struct SubscriberState {
    /// Its part of the scenario.
    pub spec: SubscriberSpec,
    /// First deliveries.
    pub delivered: ByQoS<Count>,
    /// Deliveries beyond the first.
    pub duplicated: Count,
    /// Damaged, moved to another topic, or never published.
    pub corrupt: Count,
    /// Of these: of a device that is known by its number or its topic, by class.
    pub corrupt_of: ByClass<Count>,
    /// Not of this run.
    pub foreign: Count,
    /// Members connected now.
    pub connected: Count,
    /// Connections that broke.
    pub disconnects: Count,
    /// Deliveries that its workers refused or never answered: as many come again.
    pub handed_back: Count,
    /// Times the broker had forgotten the session that it should have kept.
    pub sessions_lost: Count,
    /// QoS 1 deliveries shortly before a connection broke: as many may come again.
    pub may_come_again: Count,
    /// From due to delivered.
    pub latencies: Latencies,
    /// When the newest event that was delivered had been due.
    newest_due_us: AtomicU64,
    /// Members whose first subscription has been granted.
    granted: AtomicU32,
    refusal: Mutex<Option<String>>,
}

impl SubscriberState {
    pub(super) fn new(spec: SubscriberSpec) -> Self {
        SubscriberState {
            spec,
            delivered: ByQoS::default(),
            duplicated: Count::default(),
            corrupt: Count::default(),
            corrupt_of: ByClass::default(),
            foreign: Count::default(),
            connected: Count::default(),
            disconnects: Count::default(),
            handed_back: Count::default(),
            sessions_lost: Count::default(),
            may_come_again: Count::default(),
            latencies: Latencies::new(),
            newest_due_us: AtomicU64::new(0),
            granted: AtomicU32::new(0),
            refusal: Mutex::new(None),
        }
    }

    /// Whether the first subscription of every member has been granted.
    pub fn is_ready(&self) -> bool {
        self.granted.load(Relaxed) >= self.spec.members
    }

    /// One more member's first subscription has been granted.
    pub(crate) fn granted(&self) {
        self.granted.fetch_add(1, Relaxed);
    }

    pub(crate) fn newest_due_us(&self) -> u64 {
        self.newest_due_us.load(Relaxed)
    }

    pub(crate) fn delivered_due(&self, due_us: u64) {
        self.newest_due_us.fetch_max(due_us, Relaxed);
    }

    /// Something came that should not be; of a device of this class, if one is known.
    pub(crate) fn corrupt(&self, class: Option<Class>) {
        self.corrupt.add(1);
        class.into_iter().for_each(|class| self.corrupt_of[class].add(1));
    }

    pub(crate) fn refused(&self, reason: String) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// Why its subscription was refused, if it was.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether acknowledged QoS 1 events must reach it: a QoS 1 subscription whose session was never interrupted or
    /// outlives interruptions.
    pub fn is_assured(&self) -> bool {
        self.spec.qos == QoS::AtLeastOnce && (self.spec.is_kept() || self.disconnects.get() == 0)
    }
}

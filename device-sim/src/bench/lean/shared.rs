//! What workers and whoever watches them have in common: the phase, and counters.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connections are made and subscriptions granted.
    Connecting = 0,
    /// Events are published; latencies are not recorded yet.
    WarmUp = 1,
    /// Events are published and latencies recorded.
    Measure = 2,
    /// Nothing new is published; what is on its way is waited for.
    Drain = 3,
    /// Over.
    Stop = 4,
}

/// Counters of all workers. Each is added to once for each turn of a worker, not for each message.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What times in payloads are counted from.
    pub(crate) epoch: Instant,
    phase: AtomicU8,
    failed: AtomicBool,
    resting: Mutex<()>,
    failure: Condvar,
    /// Connections whose CONNACK (and SUBACK, if they subscribe) has come.
    pub(crate) ready: AtomicU64,
    /// PUBLISH packets sent.
    pub(crate) sent: AtomicU64,
    /// PUBACKs received.
    pub(crate) acknowledged: AtomicU64,
    /// PUBLISH packets received, but for those of slow subscribers.
    pub(crate) delivered: AtomicU64,
    /// PUBLISH packets received by slow subscribers.
    pub(crate) delivered_slowly: AtomicU64,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            phase: AtomicU8::new(Phase::Connecting as u8),
            failed: AtomicBool::new(false),
            resting: Mutex::default(),
            failure: Condvar::new(),
            ready: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            delivered_slowly: AtomicU64::new(0),
        }
    }

    /// Nanoseconds since the epoch.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Connecting,
            1 => Phase::WarmUp,
            2 => Phase::Measure,
            3 => Phase::Drain,
            _ => Phase::Stop,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// A worker failed: everybody stops.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.enter(Phase::Stop);
        let _resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        self.failure.notify_all();
    }

    /// Lets workers work for so long, or until one has failed.
    pub(crate) fn rest(&self, time: Duration) {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.failure.wait_timeout_while(resting, time, |()| !self.has_failed());
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Events published and not delivered yet, where each makes `fan_out` deliveries.
    pub(crate) fn in_flight(&self, fan_out: u64) -> u64 {
        let delivered = self.delivered.load(Ordering::Acquire) / fan_out.max(1);
        self.sent.load(Ordering::Relaxed).saturating_sub(delivered)
    }
}

//! The whole fleet's ledger as the run sees it: here, shared by the tasks, or in worker processes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{DeviceLedger, Expectation, Outstanding, Totals};

/// One [`DeviceLedger`] per device, each behind its own lock; or, where worker processes keep the halves, what they say of
/// them. A lock is held for a few bit operations, never across an await, and never two at a time.
#[derive(Debug)]
pub struct SharedLedger {
    devices: Box<[Mutex<DeviceLedger>]>,
    subscribers: usize,
    told: Mutex<Option<Told>>,
}

/// What worker processes said of their halves.
#[derive(Debug)]
struct Told {
    outstanding: Outstanding,
    totals: Totals,
}

impl SharedLedger {
    /// A ledger for devices whose expectations per subscriber `expectations` yields, device by device.
    pub fn new(subscribers: usize, expectations: impl Iterator<Item = Box<[Expectation]>>) -> Self {
        let devices = expectations.map(|expected| Mutex::new(DeviceLedger::new(expected))).collect();
        SharedLedger { devices, subscribers, told: Mutex::new(None) }
    }

    /// A ledger that is kept elsewhere: it knows what it is told.
    pub fn elsewhere(subscribers: usize) -> Self {
        let told = Told { outstanding: Outstanding::default(), totals: Totals::new(subscribers) };
        SharedLedger { devices: Box::default(), subscribers, told: Mutex::new(Some(told)) }
    }

    /// One device's part; none if there is no such device, or if it is kept elsewhere.
    pub fn device(&self, device: u32) -> Option<MutexGuard<'_, DeviceLedger>> {
        Some(lock(self.devices.get(device as usize)?))
    }

    /// What the whole fleet still waits for.
    pub fn outstanding(&self) -> Outstanding {
        if let Some(told) = lock(&self.told).as_ref() {
            return told.outstanding;
        }
        self.devices.iter().map(|device| lock(device).outstanding()).fold(
            Outstanding::default(),
            |sum, more| Outstanding {
                unfinished: sum.unfinished + more.unfinished,
                promised: sum.promised + more.promised,
                best_effort: sum.best_effort + more.best_effort,
            },
        )
    }

    /// The sums as they stand; those of a ledger kept elsewhere come when it is over.
    pub fn totals(&self) -> Totals {
        if let Some(told) = lock(&self.told).as_ref() {
            return told.totals.clone();
        }
        let mut totals = Totals::new(self.subscribers);
        for device in &self.devices {
            lock(device).add_to(&mut totals);
        }
        totals
    }

    /// Kept elsewhere: what is still to come, by what the workers have counted.
    pub(crate) fn tell_outstanding(&self, outstanding: Outstanding) {
        if let Some(told) = lock(&self.told).as_mut() {
            told.outstanding = outstanding;
        }
    }

    /// Kept elsewhere: the sums over all halves.
    pub(crate) fn tell_totals(&self, totals: Totals) {
        if let Some(told) = lock(&self.told).as_mut() {
            told.totals = totals;
        }
    }
}

/// A panic elsewhere leaves the bitmaps consistent: every operation is complete in itself.
fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The whole fleet's ledger, shared by the tasks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{DeviceLedger, Expectation, Outstanding, Totals};

/// One [`DeviceLedger`] per device, each behind its own lock. A lock is held for a few bit operations, never across an
/// await, and never two at a time.
#[derive(Debug)]
pub struct SharedLedger {
    devices: Box<[Mutex<DeviceLedger>]>,
    subscribers: usize,
}

impl SharedLedger {
    /// A ledger for devices whose expectations per subscriber `expectations` yields, device by device.
    pub fn new(subscribers: usize, expectations: impl Iterator<Item = Box<[Expectation]>>) -> Self {
        let devices = expectations.map(|expected| Mutex::new(DeviceLedger::new(expected))).collect();
        SharedLedger { devices, subscribers }
    }

    /// One device's part; none if there is no such device.
    pub fn device(&self, device: u32) -> Option<MutexGuard<'_, DeviceLedger>> {
        Some(lock(self.devices.get(device as usize)?))
    }

    /// What the whole fleet still waits for.
    pub fn outstanding(&self) -> Outstanding {
        self.devices.iter().map(|device| lock(device).outstanding()).fold(
            Outstanding::default(),
            |sum, more| Outstanding {
                unfinished: sum.unfinished + more.unfinished,
                promised: sum.promised + more.promised,
                best_effort: sum.best_effort + more.best_effort,
            },
        )
    }

    /// The sums as they stand.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::new(self.subscribers);
        for device in &self.devices {
            lock(device).add_to(&mut totals);
        }
        totals
    }
}

/// A panic elsewhere leaves the bitmaps consistent: every operation is complete in itself.
fn lock(device: &Mutex<DeviceLedger>) -> MutexGuard<'_, DeviceLedger> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

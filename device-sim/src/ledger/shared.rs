//! The whole fleet's ledger as the run sees it: here, shared by the tasks, or in worker processes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Delivery, DeviceLedger, Outstanding, SubscriberHalf, Totals};
use crate::class::{ByClass, Classes};
use crate::qos::QoS;

/// One [`DeviceLedger`] per device, each behind its own lock; or, where worker processes keep the halves, what they say of
/// them, and the halves of those subscribers that are here. A lock is held for a few bit operations, never across an await, and
/// never two at a time.
#[derive(Debug)]
pub struct SharedLedger {
    devices: Box<[Mutex<DeviceLedger>]>,
    subscribers: usize,
    classes: Classes,
    told: Mutex<Option<Told>>,
    /// Kept elsewhere: per subscriber its half, an empty one if that is kept elsewhere, too.
    arrived: Box<[Mutex<SubscriberHalf>]>,
}

/// What worker processes said of their halves.
#[derive(Debug)]
struct Told {
    outstanding: Outstanding,
    totals: ByClass<Totals>,
    shed_elsewhere: u64,
}

impl SharedLedger {
    /// A ledger for devices of these classes.
    pub fn new(subscribers: usize, classes: Classes, devices: impl Iterator<Item = DeviceLedger>) -> Self {
        let devices = devices.map(Mutex::new).collect();
        SharedLedger { devices, subscribers, classes, told: Mutex::new(None), arrived: Box::default() }
    }

    /// A ledger of `devices` that is kept elsewhere, but for the subscribers that are `here`.
    pub fn elsewhere(devices: u32, classes: &Classes, here: &[bool]) -> Self {
        let subscribers = here.len();
        let told = Told { outstanding: Outstanding::default(), totals: sums(subscribers), shed_elsewhere: 0 };
        let half = |is_here: &bool| {
            SubscriberHalf::new(if *is_here { devices as usize } else { 0 }, classes.clone())
        };
        SharedLedger {
            devices: Box::default(),
            subscribers,
            classes: classes.clone(),
            told: Mutex::new(Some(told)),
            arrived: here.iter().map(half).map(Mutex::new).collect(),
        }
    }

    /// An event arrived at a subscriber that is here.
    pub fn delivered(&self, device: u32, subscriber: usize, sequence: u32, qos: QoS) -> Delivery {
        if let Some(half) = self.arrived.get(subscriber) {
            // One that no longer fits into memory is one that is no longer remembered.
            return lock(half).delivered(device, sequence, qos).unwrap_or(Delivery::Late);
        }
        let device = self.device(device);
        device.map_or(Delivery::Unknown, |mut device| device.delivered(subscriber, sequence, qos))
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

    /// The sums as they stand, class by class; those of a ledger kept elsewhere come when it is over.
    pub fn totals(&self) -> ByClass<Totals> {
        if let Some(told) = lock(&self.told).as_ref() {
            return told.totals.clone();
        }
        let mut totals = sums(self.subscribers);
        for (number, device) in (0..).zip(&self.devices) {
            lock(device).add_to(&mut totals[self.classes.of(number)]);
        }
        totals
    }

    /// Kept elsewhere: what is still to come, by what the workers have counted.
    pub(crate) fn tell_outstanding(&self, outstanding: Outstanding) {
        if let Some(told) = lock(&self.told).as_mut() {
            told.outstanding = outstanding;
        }
    }

    /// Kept elsewhere: the sums over all halves, and the QoS 0 events missing on topics that nothing may be shed of.
    pub(crate) fn tell_totals(&self, totals: ByClass<Totals>, shed_elsewhere: u64) {
        if let Some(told) = lock(&self.told).as_mut() {
            told.totals = totals;
            told.shed_elsewhere = shed_elsewhere;
        }
    }

    /// Kept elsewhere: what was told with the sums; else none.
    pub(crate) fn shed_elsewhere(&self) -> Option<u64> {
        lock(&self.told).as_ref().map(|told| told.shed_elsewhere)
    }

    /// Kept elsewhere: the halves of the subscribers, empty ones where those are kept elsewhere, too.
    pub(crate) fn arrived(&self) -> Vec<MutexGuard<'_, SubscriberHalf>> {
        self.arrived.iter().map(lock).collect()
    }
}

fn sums(subscribers: usize) -> ByClass<Totals> {
    ByClass::each(|| Totals::new(subscribers))
}

/// A panic elsewhere leaves the bitmaps consistent: every operation is complete in itself.
fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

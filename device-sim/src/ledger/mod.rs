//! The ledger: who published what, what the broker acknowledged, and what reached each subscriber.
//!
//! Promise: every event handed over ends in exactly one class per subscriber, and the classes add up. Loss, duplication,
//! reordering and events nobody published are each told apart ([`Delivery`], [`Totals`]). The ledger is told facts and
//! counts them; it knows no socket, no clock and no scenario, and it judges nothing: what breaks a promise is decided in
//! [`crate::report::verdict`].
//!
//! Memory: bitmaps in a window per device ([`device`]), never a set of events. [`SharedLedger`] puts one lock around
//! each device, so that a device's task and the subscribers' tasks meet only when they touch the same device. Where publishers
//! and subscribers live in different processes each keeps its own half ([`halves`]), and the sums are made of both at the end.

pub mod device;
pub mod halves;
mod merge;
mod shared;
mod window;

pub use device::{Delivery, DeviceLedger, Expectation, Outstanding};
pub use halves::{LedgerFull, PublisherHalf, SubscriberHalf};
pub use merge::Merger;
pub use shared::SharedLedger;

use serde::{Deserialize, Serialize};

use crate::class::{ByClass, Class};
use crate::qos::{ByQoS, QoS};

/// The sums over any number of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The publishers' side, per QoS.
    pub published: ByQoS<Published>,
    /// Of these: what the brokers and uplinks of sites did with it, per QoS.
    pub at_sites: ByQoS<AtSites>,
    /// Per subscriber, in the scenario's order, per QoS the event was published with.
    pub received: Vec<ByQoS<Received>>,
}

/// What publishers did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Written to a connection at least once.
    pub sent: u64,
    /// QoS 1: acknowledged with success.
    pub acknowledged: u64,
    /// QoS 1: acknowledged with a Reason Code of 0x80 or more; the broker said openly that it does not have it.
    pub rejected: u64,
    /// QoS 1: sent, and neither acknowledged nor rejected.
    pub unacknowledged: u64,
}

/// What became of events between a device and the uplink of its site. An acknowledgement of the site's broker is none of the
/// broker behind it: what was lost here was never that one's to lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AtSites {
    /// QoS 1: acknowledged by the site's broker.
    pub acknowledged: u64,
    /// Written to the uplink's connection at least once.
    pub forwarded: u64,
    /// QoS 1: acknowledged by the site's broker, and never forwarded. QoS 0: sent to it, and never forwarded.
    pub lost: u64,
}

/// What one subscriber saw of the events that its filter matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Events that arrived at least once.
    pub delivered: u64,
    /// QoS 1: acknowledged and never delivered. QoS 0: sent and never delivered.
    pub lost: u64,
    /// Deliveries beyond an event's first.
    pub duplicated: u64,
    /// First deliveries that came after the first delivery of a later event of the same device and QoS.
    pub out_of_order: u64,
    /// Deliveries of events that this run never handed over, or that the subscriber's filter does not match.
    pub unknown: u64,
    /// Deliveries so late that the event had already been given up ([`device::WINDOW_EVENTS_MAX`]).
    pub late: u64,
}

impl Totals {
    /// Empty sums for so many subscribers.
    pub fn new(subscribers: usize) -> Self {
        Totals {
            published: ByQoS::default(),
            at_sites: ByQoS::default(),
            received: vec![ByQoS::default(); subscribers],
        }
    }

    /// Adds the sums of others, subscriber by subscriber.
    pub fn add(&mut self, more: &Totals) {
        for qos in QoS::ALL {
            let (sum, more) = (&mut self.published[qos], &more.published[qos]);
            sum.sent += more.sent;
            sum.acknowledged += more.acknowledged;
            sum.rejected += more.rejected;
            sum.unacknowledged += more.unacknowledged;
        }
        for qos in QoS::ALL {
            let (sum, more) = (&mut self.at_sites[qos], &more.at_sites[qos]);
            sum.acknowledged += more.acknowledged;
            sum.forwarded += more.forwarded;
            sum.lost += more.lost;
        }
        for (sum, more) in self.received.iter_mut().zip(&more.received) {
            for qos in QoS::ALL {
                sum[qos].add(&more[qos]);
            }
        }
    }
}

impl Received {
    fn add(&mut self, more: &Received) {
        self.delivered += more.delivered;
        self.lost += more.lost;
        self.duplicated += more.duplicated;
        self.out_of_order += more.out_of_order;
        self.unknown += more.unknown;
        self.late += more.late;
    }
}

impl ByClass<Totals> {
    /// Over all classes.
    pub fn sum(&self) -> Totals {
        let mut sum = Totals::new(self.normal.received.len());
        Class::ALL.into_iter().for_each(|class| sum.add(&self[class]));
        sum
    }
}

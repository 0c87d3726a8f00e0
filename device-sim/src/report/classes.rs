//! The sums of the ledger per class of events: `critical`, `normal`, `bulk`, as the cohorts say.
//!
//! They are the sums per QoS taken apart: over all classes they come to what [`super::QosReport`] says. Only of what is damaged
//! may there be more than the classes have, since a damaged event on a strange topic is of nobody.

use std::collections::BTreeMap;

use serde::Serialize;

use super::SubscriberReport;
use super::text::grouped;
use crate::class::{ByClass, Class};
use crate::ledger::{Received, Totals};
use crate::qos::{ByQoS, QoS};
use crate::shared::Shared;

/// What became of the events of one class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassReport {
    /// Its name.
    pub class: &'static str,
    /// How many devices publish it.
    pub devices: u32,
    /// Per QoS of publication.
    pub qos: ByQoS<ClassQosReport>,
    /// Deliveries that were damaged, or of events never published, all subscribers.
    pub corrupt: u64,
}

impl ClassReport {
    /// Its line of a table at one QoS: sent, acknowledged, rejected, unacknowledged, delivered, lost, duplicated, out of order, late, and
    /// corrupt, which is of no QoS and stands in the line of QoS 1.
    pub(super) fn cells(&self, qos: QoS) -> [String; 10] {
        let sums = &self.qos[qos];
        let corrupt = if qos == QoS::AtLeastOnce { grouped(self.corrupt) } else { String::new() };
        [
            grouped(sums.sent),
            grouped(sums.acknowledged),
            grouped(sums.rejected),
            grouped(sums.unacknowledged),
            grouped(sums.delivered()),
            grouped(sums.lost),
            grouped(sums.duplicated),
            grouped(sums.out_of_order),
            grouped(sums.late),
            corrupt,
        ]
    }
}

/// What became of the events of one class that were published with one QoS.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClassQosReport {
    /// Written to a connection.
    pub sent: u64,
    /// Acknowledged with success.
    pub acknowledged: u64,
    /// Refused with a Reason Code.
    pub rejected: u64,
    /// QoS 1: sent, and neither.
    pub unacknowledged: u64,
    /// First deliveries, by subscriber.
    pub delivered: BTreeMap<String, u64>,
    /// QoS 1: acknowledged and never delivered, over the subscribers to which that was promised.
    /// QoS 0: sent and never delivered, over all subscribers.
    pub lost: u64,
    /// Deliveries beyond the first, all subscribers.
    pub duplicated: u64,
    /// First deliveries after a later event's, all subscribers.
    pub out_of_order: u64,
    /// Deliveries after the event was given up, all subscribers.
    pub late: u64,
}

impl ClassQosReport {
    /// First deliveries to all subscribers.
    pub fn delivered(&self) -> u64 {
        self.delivered.values().sum()
    }
}

/// Of every class that has devices, the one that matters most first.
pub(super) fn classes(
    shared: &Shared,
    totals: &ByClass<Totals>,
    subscribers: &[SubscriberReport],
) -> Vec<ClassReport> {
    let sizes = shared.classes.sizes();
    let present = Class::ALL.into_iter().rev().filter(|class| sizes[*class] > 0);
    let of_class = |class: Class| ClassReport {
        class: class.as_str(),
        devices: sizes[class],
        qos: ByQoS {
            qos0: of_qos(&totals[class], subscribers, QoS::AtMostOnce),
            qos1: of_qos(&totals[class], subscribers, QoS::AtLeastOnce),
        },
        corrupt: shared.subscribers.iter().map(|one| one.corrupt_of[class].get()).sum(),
    };
    present.map(of_class).collect()
}

fn of_qos(totals: &Totals, subscribers: &[SubscriberReport], qos: QoS) -> ClassQosReport {
    let published = totals.published[qos];
    let received = || subscribers.iter().zip(totals.received.iter().map(|received| received[qos]));
    let sum = |of: fn(&Received) -> u64| received().map(|(_, received)| of(&received)).sum();
    let promised = |one: &SubscriberReport| qos == QoS::AtMostOnce || one.assured;
    ClassQosReport {
        sent: published.sent,
        acknowledged: published.acknowledged,
        rejected: published.rejected,
        unacknowledged: published.unacknowledged,
        delivered: received().map(|(one, received)| (one.name.clone(), received.delivered)).collect(),
        lost: received().filter(|(one, _)| promised(one)).map(|(_, received)| received.lost).sum(),
        duplicated: sum(|received| received.duplicated),
        out_of_order: sum(|received| received.out_of_order),
        late: sum(|received| received.late),
    }
}

//! Two halves made one: what was published against what arrived, device by device, in any order and any number of pieces.

use super::halves::{PUBLISHER_PLANES, PublisherRow};
use super::{Expectation, Published, Received, Totals};
use crate::class::{ByClass, Class};
use crate::qos::{ByQoS, QoS};

/// Adds up the sums of a fleet whose ledger is kept in halves. It keeps nothing but the sums.
#[derive(Debug)]
pub struct Merger {
    totals: ByClass<Totals>,
}

impl Merger {
    /// Empty sums for so many subscribers.
    pub fn new(subscribers: usize) -> Self {
        Merger { totals: ByClass::each(|| Totals::new(subscribers)) }
    }

    /// One device of a class: what it published ([`PublisherHalf::words`](super::PublisherHalf::words)), and per subscriber what arrived
    /// ([`SubscriberHalf::words`](super::SubscriberHalf::words)) and what was expected to. Answers how many QoS 0 events are
    /// missing at its subscribers.
    pub fn device(
        &mut self,
        class: Class,
        published: &[u64],
        delivered: &[&[u64]],
        expectations: &[Expectation],
    ) -> u64 {
        let totals = &mut self.totals[class];
        let missing =
            |totals: &Totals| totals.received.iter().map(|received| received.qos0.lost).sum::<u64>();
        let before = missing(totals);
        let arrived = delivered.iter().map(|words| words.len()).max().unwrap_or(0);
        let rows = published.len().div_ceil(PUBLISHER_PLANES).max(arrived);
        for number in 0..rows {
            let row = PublisherRow::of(published, number);
            add_published(row, &mut totals.published);
            for (place, received) in totals.received.iter_mut().enumerate() {
                let arrived = delivered.get(place).and_then(|words| words.get(number)).copied().unwrap_or(0);
                let expected = expectations.get(place).copied().unwrap_or(Expectation::Nothing);
                count(row, arrived, expected, received);
            }
        }
        missing(totals) - before
    }

    /// The counts that a subscriber keeps itself ([`SubscriberHalf::counts`](super::SubscriberHalf::counts)).
    pub fn subscriber(&mut self, place: usize, counts: &ByClass<ByQoS<Received>>) {
        for class in Class::ALL {
            let Some(received) = self.totals[class].received.get_mut(place) else { return };
            let counts = &counts[class];
            for qos in QoS::ALL {
                received[qos].duplicated += counts[qos].duplicated;
                received[qos].out_of_order += counts[qos].out_of_order;
                received[qos].unknown += counts[qos].unknown;
            }
        }
    }

    /// The sums, class by class.
    pub fn into_totals(self) -> ByClass<Totals> {
        self.totals
    }
}

fn add_published(row: PublisherRow, published: &mut ByQoS<Published>) {
    let PublisherRow { sent, assured, acknowledged, rejected } = row;
    published.qos0.sent += ones(sent & !assured);
    let qos1 = &mut published.qos1;
    qos1.sent += ones(sent & assured);
    qos1.acknowledged += ones(acknowledged);
    qos1.rejected += ones(rejected);
    qos1.unacknowledged += ones(sent & assured & !acknowledged & !rejected);
}

fn count(row: PublisherRow, arrived: u64, expected: Expectation, received: &mut ByQoS<Received>) {
    let PublisherRow { sent, assured, acknowledged, .. } = row;
    if expected == Expectation::Nothing {
        received.qos0.unknown += ones(arrived & !assured);
        received.qos1.unknown += ones(arrived & assured);
        return;
    }
    received.qos0.delivered += ones(arrived & sent & !assured);
    received.qos1.delivered += ones(arrived & sent & assured);
    // What was never sent has no QoS.
    received.qos0.unknown += ones(arrived & !sent);
    received.qos0.lost += ones(sent & !assured & !arrived);
    received.qos1.lost += ones(acknowledged & !arrived);
}

fn ones(bits: u64) -> u64 {
    u64::from(bits.count_ones())
}

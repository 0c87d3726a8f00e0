//! One device's part of the ledger.
//!
//! A row of 64 events is *settled* when everything in it is acknowledged and delivered wherever it is expected; settled
//! rows are added to the sums and dropped from the front, so that a run without loss needs a few rows however long it
//! lasts. Rows with losses stay, to be corrected by a late delivery, until the window is [`WINDOW_EVENTS_MAX`] long.

use super::Totals;
use super::window::{Fact, ROW_EVENTS, SiteFact, Window};
use crate::qos::{ByQoS, QoS};

/// How far behind a device's newest event the ledger remembers single events: 56 KiB with two subscribers, and only a
/// device that has missed something for that long takes them.
pub const WINDOW_EVENTS_MAX: u32 = 65_536;

/// What a subscriber is to get of a device's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Its filter does not match the device's topic.
    Nothing,
    /// Everything, without a promise: a QoS 0 subscription.
    BestEffort,
    /// Everything; QoS 1 events under promise.
    Assured,
}

/// What a delivery turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The event's first arrival at this subscriber, in order.
    First,
    /// The event's first arrival, after one of a later event.
    OutOfOrder,
    /// It had arrived before.
    Duplicate,
    /// Never handed over in this run, published with another QoS, or not matched by the subscriber's filter.
    Unknown,
    /// An arrival after the event was given up; whether the first or not is no longer known.
    Late,
}

/// What a device still waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Handed over, and not sent, acknowledged or rejected yet.
    pub unfinished: u64,
    /// Acknowledged, and still to be delivered to a subscriber under promise.
    pub promised: u64,
    /// Sent, and still to be delivered without a promise.
    pub best_effort: u64,
}

/// The facts about one device's events.
///
/// Order of calls for an event: [`issue`](Self::issue), with rising sequence numbers (a gap is an event that was never
/// handed over); after it, in any order, [`sent`](Self::sent), [`acknowledged`](Self::acknowledged) or
/// [`rejected`](Self::rejected), and [`delivered`](Self::delivered).
#[derive(Debug)]
pub struct DeviceLedger {
    expectations: Box<[Expectation]>,
    /// Whether it publishes to the broker of its site, which passes on what it has.
    at_site: bool,
    window: Window,
    /// All sequence numbers below have been issued or passed over.
    next: u32,
    /// Rows below this may have been dropped with events missing.
    given_up: u32,
    /// Sums over the rows dropped so far, and the counts that need no bitmap.
    settled: Totals,
    newest: Box<[ByQoS<Option<u32>>]>,
}

impl DeviceLedger {
    /// A device with no events yet and one expectation per subscriber.
    pub fn new(expectations: Box<[Expectation]>) -> Self {
        DeviceLedger::made(expectations, false)
    }

    /// The same for one that publishes to the broker of its site: [`sent`](Self::sent) and
    /// [`acknowledged_at_site`](Self::acknowledged_at_site) are between these two, [`forwarded`](Self::forwarded),
    /// [`acknowledged`](Self::acknowledged) and [`rejected`](Self::rejected) between the site's uplink and the broker.
    pub fn at_site(expectations: Box<[Expectation]>) -> Self {
        DeviceLedger::made(expectations, true)
    }

    fn made(expectations: Box<[Expectation]>, at_site: bool) -> Self {
        let subscribers = expectations.len();
        DeviceLedger {
            at_site,
            window: Window::new(subscribers, at_site),
            next: 0,
            given_up: 0,
            settled: Totals::new(subscribers),
            newest: vec![ByQoS::default(); subscribers].into(),
            expectations,
        }
    }

    /// An event is handed to the client. One that is not newer than all before it is ignored.
    pub fn issue(&mut self, sequence: u32, qos: QoS) {
        if sequence < self.next {
            return;
        }
        if let Some(place) = self.window.extend_to(sequence) {
            self.window.set(place, Fact::Issued);
            if qos == QoS::AtLeastOnce {
                self.window.set(place, Fact::Assured);
            }
        }
        self.next = sequence.saturating_add(1);
        self.retire();
    }

    /// An event was written to the connection.
    pub fn sent(&mut self, sequence: u32) {
        self.note(sequence, Fact::Sent);
    }

    /// The broker of the site acknowledged an event.
    pub fn acknowledged_at_site(&mut self, sequence: u32) {
        self.note_at_site(sequence, SiteFact::Acknowledged);
    }

    /// The uplink of the site wrote an event to its connection.
    pub fn forwarded(&mut self, sequence: u32) {
        self.note_at_site(sequence, SiteFact::Forwarded);
    }

    /// An event was acknowledged with success.
    pub fn acknowledged(&mut self, sequence: u32) {
        self.note(sequence, Fact::Acknowledged);
    }

    /// An event was refused with a Reason Code.
    pub fn rejected(&mut self, sequence: u32) {
        self.note(sequence, Fact::Rejected);
    }

    /// An event arrived at a subscriber.
    pub fn delivered(&mut self, subscriber: usize, sequence: u32, qos: QoS) -> Delivery {
        let delivery = self.judge(subscriber, sequence, qos);
        let counts = self.settled.received.get_mut(subscriber).map(|counts| &mut counts[qos]);
        match (delivery, counts) {
            (Delivery::OutOfOrder, Some(counts)) => counts.out_of_order += 1,
            (Delivery::Duplicate, Some(counts)) => counts.duplicated += 1,
            (Delivery::Unknown, Some(counts)) => counts.unknown += 1,
            (Delivery::Late, Some(counts)) => counts.late += 1,
            _ => {}
        }
        delivery
    }

    fn judge(&mut self, subscriber: usize, sequence: u32, qos: QoS) -> Delivery {
        if self.expectations.get(subscriber).is_none_or(|expected| *expected == Expectation::Nothing) {
            return Delivery::Unknown;
        }
        let Some(place) = self.window.place(sequence) else {
            return match sequence {
                _ if sequence >= self.window.base() => Delivery::Unknown,
                _ if sequence < self.given_up => Delivery::Late,
                _ => Delivery::Duplicate,
            };
        };
        let assured = self.window.has(place, Fact::Assured);
        if !self.window.has(place, Fact::Issued) || assured != (qos == QoS::AtLeastOnce) {
            return Delivery::Unknown;
        }
        if !self.window.deliver(place, subscriber) {
            return Delivery::Duplicate;
        }
        match self.newest.get_mut(subscriber).map(|newest| &mut newest[qos]) {
            Some(Some(newest)) if *newest > sequence => Delivery::OutOfOrder,
            Some(newest) => {
                *newest = Some(sequence);
                Delivery::First
            }
            None => Delivery::Unknown,
        }
    }

    /// What is still to come, as far as the window remembers.
    pub fn outstanding(&self) -> Outstanding {
        let mut sum = Outstanding::default();
        for row in 0..self.window.rows() {
            let row = self.window.row(row);
            let (issued, assured, sent) = (row.fact(Fact::Issued), row.fact(Fact::Assured), row.sent());
            let (acknowledged, rejected) = (row.fact(Fact::Acknowledged), row.fact(Fact::Rejected));
            let written = if self.at_site { row.left_site() } else { sent };
            let finished = (assured & (acknowledged | rejected)) | (!assured & written);
            sum.unfinished += count(issued & !finished);
            for (subscriber, expected) in self.expectations.iter().enumerate() {
                let missing = !row.delivered(subscriber);
                match expected {
                    Expectation::Nothing => {}
                    Expectation::BestEffort => {
                        sum.best_effort += count(sent & missing & ((assured & acknowledged) | !assured));
                    }
                    Expectation::Assured => {
                        sum.promised += count(acknowledged & missing);
                        sum.best_effort += count(sent & !assured & missing);
                    }
                }
            }
        }
        sum
    }

    /// Adds this device to the sums; with every row still in the window counted as it stands now.
    pub fn add_to(&self, totals: &mut Totals) {
        totals.add(&self.settled);
        for row in 0..self.window.rows() {
            self.count_row(row, totals);
        }
    }

    fn note(&mut self, sequence: u32, fact: Fact) {
        if let Some(place) = self.window.place(sequence) {
            self.window.set(place, fact);
        }
    }

    fn note_at_site(&mut self, sequence: u32, fact: SiteFact) {
        if let Some(place) = self.window.place(sequence) {
            self.window.set_at_site(place, fact);
        }
    }

    fn retire(&mut self) {
        while self.window.rows() > 0 {
            let end = self.window.base().saturating_add(ROW_EVENTS);
            let too_long = self.next.saturating_sub(self.window.base()) > WINDOW_EVENTS_MAX;
            let settled = self.first_row_is_settled();
            if end > self.next || !(too_long || settled) {
                return;
            }
            if !settled {
                self.given_up = end;
            }
            let mut sums = std::mem::take(&mut self.settled);
            self.count_row(0, &mut sums);
            self.settled = sums;
            self.window.drop_first_row();
        }
    }

    fn first_row_is_settled(&self) -> bool {
        let row = self.window.row(0);
        let assured = row.fact(Fact::Assured);
        let everywhere = self
            .expectations
            .iter()
            .enumerate()
            .filter(|(_, expected)| **expected != Expectation::Nothing)
            .fold(u64::MAX, |everywhere, (subscriber, _)| everywhere & row.delivered(subscriber));
        let at_site = if self.at_site { row.at_site(SiteFact::Acknowledged) } else { u64::MAX };
        let acknowledged = !assured | (row.fact(Fact::Acknowledged) & at_site);
        let done = (row.sent() & acknowledged & everywhere) | row.fact(Fact::Rejected);
        row.fact(Fact::Issued) & !done == 0
    }

    fn count_row(&self, row: usize, totals: &mut Totals) {
        let row = self.window.row(row);
        let (assured, sent) = (row.fact(Fact::Assured), row.sent());
        let (acknowledged, rejected) = (row.fact(Fact::Acknowledged), row.fact(Fact::Rejected));
        totals.published.qos0.sent += count(sent & !assured);
        let qos1 = &mut totals.published.qos1;
        qos1.sent += count(sent & assured);
        qos1.acknowledged += count(acknowledged);
        qos1.rejected += count(rejected);
        qos1.unacknowledged += count(sent & assured & !acknowledged & !rejected);
        if self.at_site {
            let (at_site, left) = (row.at_site(SiteFact::Acknowledged), row.left_site());
            totals.at_sites.qos0.forwarded += count(sent & !assured & left);
            totals.at_sites.qos0.lost += count(sent & !assured & !left);
            let qos1 = &mut totals.at_sites.qos1;
            qos1.acknowledged += count(at_site);
            qos1.forwarded += count(sent & assured & left);
            qos1.lost += count(at_site & !left);
        }
        for (subscriber, received) in totals.received.iter_mut().enumerate() {
            let delivered = row.delivered(subscriber);
            received.qos0.delivered += count(delivered & !assured);
            received.qos1.delivered += count(delivered & assured);
            if self.expectations.get(subscriber).is_some_and(|expected| *expected != Expectation::Nothing) {
                received.qos0.lost += count(sent & !assured & !delivered);
                received.qos1.lost += count(acknowledged & !delivered);
            }
        }
    }
}

fn count(bits: u64) -> u64 {
    u64::from(bits.count_ones())
}

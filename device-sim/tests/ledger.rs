//! The ledger under chosen and random histories: each kind of fault is counted as itself and as nothing else.
#![expect(clippy::indexing_slicing, reason = "a test helper; a missing element fails the test")]

use device_sim::ledger::device::WINDOW_EVENTS_MAX;
use device_sim::ledger::{Delivery, DeviceLedger, Expectation, Outstanding, Received, Totals};
use device_sim::qos::{ByQoS, QoS};
use proptest::prelude::*;

const BACKEND: usize = 0;

fn ledger() -> DeviceLedger {
    DeviceLedger::new([Expectation::Assured].into())
}

fn totals(ledger: &DeviceLedger, subscribers: usize) -> Totals {
    let mut totals = Totals::new(subscribers);
    ledger.add_to(&mut totals);
    totals
}

fn received(ledger: &DeviceLedger) -> ByQoS<Received> {
    totals(ledger, 1).received[BACKEND]
}

fn complete(ledger: &mut DeviceLedger, sequence: u32, qos: QoS) -> Delivery {
    ledger.issue(sequence, qos);
    ledger.sent(sequence);
    if qos == QoS::AtLeastOnce {
        ledger.acknowledged(sequence);
    }
    ledger.delivered(BACKEND, sequence, qos)
}

#[test]
fn an_acknowledged_event_that_never_arrives_is_lost() {
    let mut ledger = ledger();
    complete(&mut ledger, 0, QoS::AtLeastOnce);
    ledger.issue(1, QoS::AtLeastOnce);
    ledger.sent(1);
    ledger.acknowledged(1);
    assert_eq!(ledger.outstanding(), Outstanding { promised: 1, ..Outstanding::default() });
    let totals = totals(&ledger, 1);
    assert_eq!(totals.published.qos1.acknowledged, 2);
    assert_eq!(totals.received[BACKEND].qos1, Received { delivered: 1, lost: 1, ..Received::default() });
}

#[test]
fn an_unacknowledged_event_is_neither_lost_nor_missing_when_it_arrives() {
    let mut ledger = ledger();
    for sequence in [0, 1] {
        ledger.issue(sequence, QoS::AtLeastOnce);
        ledger.sent(sequence);
    }
    assert_eq!(ledger.delivered(BACKEND, 0, QoS::AtLeastOnce), Delivery::First);
    let totals = totals(&ledger, 1);
    assert_eq!(totals.published.qos1.unacknowledged, 2);
    assert_eq!(totals.received[BACKEND].qos1, Received { delivered: 1, ..Received::default() });
    assert_eq!(ledger.outstanding().unfinished, 2);
}

#[test]
fn a_rejected_event_is_not_lost() {
    let mut ledger = ledger();
    ledger.issue(0, QoS::AtLeastOnce);
    ledger.sent(0);
    ledger.rejected(0);
    assert_eq!(totals(&ledger, 1).published.qos1.rejected, 1);
    assert_eq!(received(&ledger).qos1.lost, 0);
    assert_eq!(ledger.outstanding(), Outstanding::default());
}

#[test]
fn an_event_that_was_only_handed_over_is_not_sent() {
    let mut ledger = ledger();
    ledger.issue(0, QoS::AtMostOnce);
    assert_eq!(totals(&ledger, 1).published.qos0.sent, 0);
    assert_eq!(received(&ledger).qos0.lost, 0);
    assert_eq!(ledger.outstanding().unfinished, 1);
}

#[test]
fn a_delivery_may_overtake_the_news_that_its_event_was_sent() {
    let mut ledger = ledger();
    ledger.issue(0, QoS::AtMostOnce);
    assert_eq!(ledger.delivered(BACKEND, 0, QoS::AtMostOnce), Delivery::First);
    assert_eq!(totals(&ledger, 1).published.qos0.sent, 1);
}

#[test]
fn order_is_judged_per_qos_and_on_first_deliveries_only() {
    let mut ledger = ledger();
    for (sequence, qos) in
        [(0, QoS::AtMostOnce), (1, QoS::AtLeastOnce), (2, QoS::AtMostOnce), (3, QoS::AtLeastOnce)]
    {
        ledger.issue(sequence, qos);
    }
    assert_eq!(ledger.delivered(BACKEND, 3, QoS::AtLeastOnce), Delivery::First);
    assert_eq!(ledger.delivered(BACKEND, 0, QoS::AtMostOnce), Delivery::First);
    assert_eq!(ledger.delivered(BACKEND, 2, QoS::AtMostOnce), Delivery::First);
    assert_eq!(ledger.delivered(BACKEND, 1, QoS::AtLeastOnce), Delivery::OutOfOrder);
    assert_eq!(ledger.delivered(BACKEND, 1, QoS::AtLeastOnce), Delivery::Duplicate);
    assert_eq!(ledger.delivered(BACKEND, 0, QoS::AtMostOnce), Delivery::Duplicate);
    let received = received(&ledger);
    assert_eq!((received.qos1.out_of_order, received.qos1.duplicated), (1, 1));
    assert_eq!((received.qos0.out_of_order, received.qos0.duplicated), (0, 1));
}

#[test]
fn what_was_never_handed_over_is_unknown() {
    let mut ledger = ledger();
    ledger.issue(2, QoS::AtLeastOnce);
    assert_eq!(ledger.delivered(BACKEND, 1, QoS::AtLeastOnce), Delivery::Unknown, "passed over");
    assert_eq!(ledger.delivered(BACKEND, 3, QoS::AtLeastOnce), Delivery::Unknown, "not yet handed over");
    assert_eq!(ledger.delivered(BACKEND, 2, QoS::AtMostOnce), Delivery::Unknown, "another QoS");
    assert_eq!(received(&ledger).qos1.unknown, 2);
    assert_eq!(received(&ledger).qos0.unknown, 1);
}

#[test]
fn a_subscriber_whose_filter_does_not_match_loses_nothing_and_may_receive_nothing() {
    let mut ledger = DeviceLedger::new([Expectation::Assured, Expectation::Nothing].into());
    complete(&mut ledger, 0, QoS::AtLeastOnce);
    assert_eq!(totals(&ledger, 2).received[1], ByQoS::default());
    assert_eq!(ledger.delivered(1, 0, QoS::AtLeastOnce), Delivery::Unknown);
}

#[test]
fn settled_events_are_dropped_and_a_repeat_of_one_is_still_a_duplicate() {
    let mut ledger = ledger();
    for sequence in 0..1_000 {
        assert_eq!(complete(&mut ledger, sequence, QoS::AtLeastOnce), Delivery::First);
    }
    assert_eq!(ledger.delivered(BACKEND, 3, QoS::AtLeastOnce), Delivery::Duplicate);
    assert_eq!(received(&ledger).qos1, Received { delivered: 1_000, duplicated: 1, ..Received::default() });
}

#[test]
fn a_loss_past_the_window_stays_lost_and_its_late_arrival_is_told_apart() {
    let mut ledger = ledger();
    ledger.issue(0, QoS::AtLeastOnce);
    ledger.acknowledged(0);
    let end = WINDOW_EVENTS_MAX + 64;
    for sequence in 1..end {
        complete(&mut ledger, sequence, QoS::AtLeastOnce);
    }
    assert_eq!(ledger.delivered(BACKEND, 0, QoS::AtLeastOnce), Delivery::Late);
    let counts = received(&ledger).qos1;
    assert_eq!((counts.delivered, counts.lost, counts.late), (u64::from(end) - 1, 1, 1));
    assert_eq!(ledger.outstanding(), Outstanding::default());
}

/// What happens to one event of a random history.
#[derive(Clone, Copy, Debug)]
enum Fate {
    PassedOver,
    Delivered,
    Lost,
    Duplicated,
    Unacknowledged,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        1 => Just(Fate::PassedOver),
        8 => Just(Fate::Delivered),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Duplicated),
        1 => Just(Fate::Unacknowledged),
    ]
}

proptest! {
    /// A history of random fates against plain counting: the bitmaps lose and invent nothing.
    #[test]
    fn any_history_is_counted_as_it_happened(fates in prop::collection::vec((fate(), any::<bool>()), 0..500)) {
        let mut ledger = ledger();
        let mut expected = ByQoS::<Received>::default();
        let (mut sent, mut unacknowledged) = (0, 0);
        for (sequence, (fate, assured)) in fates.into_iter().enumerate() {
            let sequence = sequence as u32;
            let qos = if assured { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            let deliveries = match fate {
                Fate::PassedOver => continue,
                Fate::Delivered => 1,
                Fate::Duplicated => 2,
                Fate::Lost | Fate::Unacknowledged => 0,
            };
            sent += 1;
            ledger.issue(sequence, qos);
            ledger.sent(sequence);
            match (qos, fate) {
                (QoS::AtLeastOnce, Fate::Unacknowledged) => unacknowledged += 1,
                (QoS::AtLeastOnce, _) => ledger.acknowledged(sequence),
                (QoS::AtMostOnce, _) => {}
            }
            for _ in 0..deliveries {
                ledger.delivered(BACKEND, sequence, qos);
            }
            let counts = &mut expected[qos];
            counts.delivered += u64::from(deliveries > 0);
            counts.duplicated += u64::from(deliveries > 1);
            let promised = qos == QoS::AtMostOnce || !matches!(fate, Fate::Unacknowledged);
            counts.lost += u64::from(deliveries == 0 && promised);
        }
        let totals = totals(&ledger, 1);
        prop_assert_eq!(totals.received[BACKEND], expected);
        prop_assert_eq!(totals.published.qos0.sent + totals.published.qos1.sent, sent);
        prop_assert_eq!(totals.published.qos1.unacknowledged, unacknowledged);
    }

    /// A shuffled arrival order is reported exactly where a later event came first.
    #[test]
    fn reordering_is_counted_exactly(order in Just((0..200_u32).collect::<Vec<_>>()).prop_shuffle()) {
        let mut ledger = ledger();
        for sequence in 0..200 {
            ledger.issue(sequence, QoS::AtLeastOnce);
            ledger.acknowledged(sequence);
        }
        let mut newest = None;
        let mut late = 0;
        for sequence in order {
            ledger.delivered(BACKEND, sequence, QoS::AtLeastOnce);
            late += u64::from(newest.is_some_and(|newest| newest > sequence));
            newest = newest.max(Some(sequence));
        }
        prop_assert_eq!(received(&ledger).qos1.out_of_order, late);
        prop_assert_eq!(received(&ledger).qos1.lost, 0);
    }
}

/// Between a device and its broker stands another one: what that one acknowledged and never passed on is its loss, what it passed
/// on and nobody answered for is unacknowledged, and only what was acknowledged behind it can be lost there.
#[test]
fn what_is_lost_at_a_site_is_told_apart_from_what_is_lost_behind_it() {
    let mut ledger = DeviceLedger::at_site([Expectation::Assured].into());
    for sequence in 0..6 {
        let qos = if sequence < 4 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        ledger.issue(sequence, qos);
        ledger.sent(sequence);
        if sequence < 4 {
            ledger.acknowledged_at_site(sequence);
        }
    }
    assert_eq!(ledger.outstanding().unfinished, 6, "QoS 0, too: a site may keep it");
    // 0 arrives; 1 is lost behind the site, 2 on the way there, 3 and 5 at the site.
    for sequence in [0, 1, 2, 4] {
        ledger.forwarded(sequence);
    }
    ledger.acknowledged(0);
    ledger.acknowledged(1);
    assert_eq!(ledger.delivered(BACKEND, 0, QoS::AtLeastOnce), Delivery::First);
    assert_eq!(ledger.delivered(BACKEND, 4, QoS::AtMostOnce), Delivery::First);
    let totals = totals(&ledger, 1);
    let (at_sites, published) = (&totals.at_sites, &totals.published);
    assert_eq!((at_sites.qos1.acknowledged, at_sites.qos1.forwarded, at_sites.qos1.lost), (4, 3, 1));
    assert_eq!((at_sites.qos0.forwarded, at_sites.qos0.lost), (1, 1));
    assert_eq!((published.qos1.sent, published.qos1.acknowledged, published.qos1.unacknowledged), (4, 2, 2));
    assert_eq!(totals.received[BACKEND].qos1.lost, 1, "the one that was acknowledged behind the site");
    assert_eq!(ledger.outstanding(), Outstanding { unfinished: 3, promised: 1, best_effort: 1 });
    // A row in which everything is done is dropped, and the sums stay.
    let mut ledger = DeviceLedger::at_site([Expectation::Assured].into());
    for sequence in 0..200 {
        complete(&mut ledger, sequence, QoS::AtLeastOnce);
        ledger.forwarded(sequence);
        ledger.acknowledged_at_site(sequence);
    }
    let mut sums = Totals::new(1);
    ledger.add_to(&mut sums);
    assert_eq!((sums.at_sites.qos1.acknowledged, sums.at_sites.qos1.forwarded), (200, 200));
}

//! The ledger in two halves: merged it says what the whole one says, and it stays within its memory.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test helper; a missing value fails the test"
)]

use device_sim::class::{ByClass, Class, Classes};
use device_sim::ledger::{
    Delivery, DeviceLedger, Expectation, LedgerFull, Merger, PublisherHalf, Received, SubscriberHalf, Totals,
};
use device_sim::qos::{ByQoS, QoS};
use proptest::prelude::*;

/// What happens to one event at the publisher.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    PassedOver,
    Sent,
    Acknowledged,
    Rejected,
}

#[derive(Clone, Debug)]
struct Event {
    fate: Fate,
    qos: QoS,
    /// Deliveries to each of two subscribers.
    deliveries: [u8; 2],
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![
        1 => Just(Fate::PassedOver),
        2 => Just(Fate::Sent),
        8 => Just(Fate::Acknowledged),
        1 => Just(Fate::Rejected),
    ];
    (fate, any::<bool>(), [0..3_u8, 0..3_u8]).prop_map(|(fate, assured, deliveries)| Event {
        fate,
        qos: if assured { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        // What was never sent cannot arrive; that case is tested by itself.
        deliveries: if fate == Fate::PassedOver { [0; 2] } else { deliveries },
    })
}

const EXPECTATIONS: [Expectation; 2] = [Expectation::Assured, Expectation::BestEffort];

fn merged(published: &PublisherHalf, arrived: &[SubscriberHalf], devices: usize) -> Totals {
    let mut merger = Merger::new(arrived.len());
    for device in 0..devices {
        let words: Vec<&[u64]> = arrived.iter().map(|half| half.words(device)).collect();
        merger.device(Class::Normal, published.words(device), &words, &EXPECTATIONS[..arrived.len()]);
    }
    for (place, half) in arrived.iter().enumerate() {
        merger.subscriber(place, half.counts());
    }
    merger.into_totals().sum()
}

proptest! {
    /// The same history told to the whole ledger and to the halves: the same sums.
    #[test]
    fn two_halves_say_what_the_whole_says(events in prop::collection::vec(event(), 0..400), late in 0..200_usize) {
        let mut whole = DeviceLedger::new(EXPECTATIONS.into());
        let mut published = PublisherHalf::new(3);
        let mut arrived = [SubscriberHalf::new(3, Classes::default()), SubscriberHalf::new(3, Classes::default())];
        let mut deliveries: Vec<(usize, u32, QoS)> = Vec::new();
        for (sequence, event) in (0_u32..).zip(&events) {
            if event.fate == Fate::PassedOver {
                continue;
            }
            whole.issue(sequence, event.qos);
            whole.sent(sequence);
            published.sent(1, sequence, event.qos).unwrap();
            match event.fate {
                Fate::Acknowledged if event.qos == QoS::AtLeastOnce => {
                    whole.acknowledged(sequence);
                    published.acknowledged(1, sequence);
                }
                Fate::Rejected if event.qos == QoS::AtLeastOnce => {
                    whole.rejected(sequence);
                    published.rejected(1, sequence);
                }
                _ => {}
            }
            for (subscriber, count) in event.deliveries.into_iter().enumerate() {
                deliveries.extend((0..count).map(|_| (subscriber, sequence, event.qos)));
            }
        }
        // Some arrive in another order.
        let late = late.min(deliveries.len());
        deliveries.rotate_left(late);
        for (subscriber, sequence, qos) in deliveries {
            let at_once = whole.delivered(subscriber, sequence, qos);
            prop_assert_eq!(arrived[subscriber].delivered(1, sequence, qos).unwrap(), at_once);
        }
        let mut expected = Totals::new(2);
        whole.add_to(&mut expected);
        prop_assert_eq!(merged(&published, &arrived, 3), expected);
    }
}

#[test]
fn what_arrives_and_was_never_sent_is_unknown() {
    let mut published = PublisherHalf::new(2);
    published.sent(0, 0, QoS::AtMostOnce).unwrap();
    let mut arrived = [SubscriberHalf::new(2, Classes::default())];
    assert_eq!(arrived[0].delivered(0, 1_000, QoS::AtMostOnce), Ok(Delivery::First));
    assert_eq!(arrived[0].delivered(1, 0, QoS::AtLeastOnce), Ok(Delivery::First));
    assert_eq!(arrived[0].delivered(2, 0, QoS::AtLeastOnce), Ok(Delivery::Unknown), "no such device");
    let totals = merged(&published, &arrived, 2);
    let unknown = totals.received.first().map(|one| one.qos0.unknown + one.qos1.unknown);
    assert_eq!(unknown, Some(3));
    assert_eq!(totals.received.first().map(|one| one.qos0.lost), Some(1));
}

/// Resident memory now and at most, bytes.
fn resident(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1_024
}

/// 100 million events of 10,000 devices with two subscribers, of which one in a thousand is lost, take less than 256 MiB:
/// by the ledger's own count and by the operating system's.
#[test]
fn a_hundred_million_events_take_less_than_256_mib() {
    const DEVICES: usize = 10_000;
    const EVENTS: u32 = 10_000;
    const BYTES_MAX: usize = 256 << 20;
    let before = resident("VmRSS:");
    let mut published = PublisherHalf::new(DEVICES);
    let mut arrived =
        [SubscriberHalf::new(DEVICES, Classes::default()), SubscriberHalf::new(DEVICES, Classes::default())];
    // Every event of a few devices. Of the others one event in each row of 64, which is what takes memory, so that this
    // takes a moment and not a minute.
    for device in 0..DEVICES {
        let step = if device % 500 == 0 { 1 } else { 64 };
        for sequence in (0..EVENTS).step_by(step) {
            published.sent(device, sequence, QoS::AtLeastOnce).unwrap();
            published.acknowledged(device, sequence);
            for half in &mut arrived {
                if sequence % 1_024 != 1 {
                    half.delivered(device as u32, sequence, QoS::AtLeastOnce).unwrap();
                }
            }
        }
    }
    let counted = published.bytes() + arrived.iter().map(SubscriberHalf::bytes).sum::<usize>();
    let grown = resident("VmHWM:").saturating_sub(before);
    assert!((60 << 20..BYTES_MAX).contains(&counted), "{counted} bytes counted");
    assert!(grown < BYTES_MAX, "{grown} bytes resident");
    assert!(
        grown > counted / 2,
        "{grown} bytes resident, {counted} counted: the measurement measures nothing"
    );
    let totals = merged(&published, &arrived, DEVICES);
    let lost = totals.received.first().map(|one| one.qos1.lost);
    assert_eq!(lost, Some((DEVICES / 500 * 10) as u64), "one in 1,024 of the devices that have every event");
}

#[test]
fn a_half_refuses_to_grow_past_its_bound() {
    let mut half = SubscriberHalf::new(1, Classes::default());
    assert_eq!(half.delivered(0, u32::MAX, QoS::AtMostOnce), Err(LedgerFull));
    assert_eq!(half.delivered(0, 5, QoS::AtMostOnce), Ok(Delivery::First), "it is as good as before");
    assert_eq!(*half.counts(), ByClass::<ByQoS<Received>>::default());
}

//! Dispatch to outboxes: who gets what, and what happens at the limit.

use super::*;
use crate::router::{Grant, Ways};
use gateway_protocol::{QoS, TopicFilter};
use gateway_storage::{Batch, Event, Staging};
use std::sync::Arc;
use std::task::Waker;

pub(super) fn batch(topics: &[(&str, u8)]) -> Arc<Batch> {
    let mut staging = Staging::new();
    for (topic, qos) in topics {
        let event = Event {
            client_id: "publisher",
            topic,
            qos: *qos,
            retain: false,
            received_ms: 0,
            expires_at_ms: 0,
            properties: &[],
            payload: &[7; 100],
        };
        staging.push_event(&event).unwrap();
    }
    Arc::new(staging.into_batch())
}

fn outbox(id: u64, client_id: &str, is_durable: bool, bytes_max: usize, when_full: WhenFull) -> Arc<Outbox> {
    Arc::new(Outbox::new(id, client_id.into(), is_durable, bytes_max, when_full, Waker::noop().clone()))
}

fn subscribe(router: &LiveRouter, outbox: &Arc<Outbox>, filter: &str, qos: QoS, no_local: bool) {
    let grant = Grant { qos, no_local, retain_as_published: false, subscription_id: 0 };
    let filter = TopicFilter::parse(filter).unwrap();
    router.change(|router| router.subscribe(outbox.id, outbox.clone(), filter, grant)).unwrap();
}

/// Topic and QoS of everything in the outbox, in order.
fn contents(outbox: &Outbox) -> Vec<(String, QoS)> {
    let mut found = Vec::new();
    while let Some(parcel) = outbox.pop() {
        for (pick, at) in
            parcel.picks.iter().flat_map(|pick| (pick.first..pick.end).map(move |at| (pick, at)))
        {
            let event = parcel.shipment.batch().event(at as usize).unwrap();
            found.push((event.topic.to_owned(), pick.granted.min(QoS::try_from(event.qos).unwrap())));
        }
    }
    assert_eq!(outbox.bytes(), 0, "an empty outbox is charged nothing");
    found
}

#[test]
fn every_subscriber_gets_its_share_in_order_at_the_lesser_qos() {
    let router = Arc::new(LiveRouter::default());
    let all = outbox(1, "all", false, 1 << 20, WhenFull::Drop);
    let some = outbox(2, "some", false, 1 << 20, WhenFull::Drop);
    subscribe(&router, &all, "#", QoS::AtMostOnce, false);
    subscribe(&router, &some, "a/+", QoS::AtLeastOnce, false);
    let mut dispatcher = Dispatcher::new(router.clone());
    dispatcher.dispatch(&batch(&[("a/1", 1), ("b/1", 1), ("a/2", 0)]));
    let expected = |list: &[(&str, QoS)]| -> Vec<(String, QoS)> {
        list.iter().map(|(topic, qos)| ((*topic).to_owned(), *qos)).collect()
    };
    let zero = QoS::AtMostOnce;
    assert_eq!(contents(&all), expected(&[("a/1", zero), ("b/1", zero), ("a/2", zero)]));
    assert_eq!(contents(&some), expected(&[("a/1", QoS::AtLeastOnce), ("a/2", zero)]));

    router.change(|router| router.unsubscribe(2, TopicFilter::parse("a/+").unwrap()));
    dispatcher.dispatch(&batch(&[("a/3", 1)]));
    assert_eq!(contents(&some), []);
}

/// The ways of a batch of these, as whoever stages it finds them.
fn ways(router: &LiveRouter, topics: &[(&str, u8)]) -> Ways<Arc<Routes>> {
    let mut ways = Ways::default();
    for (topic, qos) in topics {
        let routes = Arc::new(Routes::of(router, topic));
        ways.push(router.epoch(), QoS::try_from(*qos).unwrap(), &routes, |one, other| one == other);
    }
    ways
}

#[test]
fn where_the_way_is_known_each_gets_what_it_gets_otherwise() {
    let topics = [("a/1", 1), ("a/2", 1), ("b", 1), ("b", 0), ("publisher", 0), ("a/1", 0)];
    let router = Arc::new(LiveRouter::default());
    let outboxes = [
        outbox(1, "all", false, 1 << 20, WhenFull::Drop),
        outbox(2, "durable", true, 1 << 20, WhenFull::Drop),
        outbox(3, "publisher", false, 1 << 20, WhenFull::Drop),
        outbox(4, "some", false, 1 << 20, WhenFull::Drop),
    ];
    for (outbox, filter) in outboxes.iter().zip(["#", "#", "#", "a/+"]) {
        subscribe(&router, outbox, filter, QoS::AtLeastOnce, outbox.id == 3);
    }
    let mut dispatcher = Dispatcher::new(router.clone());
    let mut received = |ways: Option<&mut Ways<_>>| -> Vec<_> {
        match ways {
            Some(ways) => dispatcher.dispatch_on_ways(&batch(&topics), ways),
            None => dispatcher.dispatch(&batch(&topics)),
        };
        outboxes.iter().map(|outbox| contents(outbox)).collect()
    };
    let expected = received(None);
    assert_eq!(expected.iter().map(Vec::len).collect::<Vec<_>>(), [6, 3, 0, 3]);
    let mut known = ways(&router, &topics);
    assert_eq!(received(Some(&mut known)), expected);
    assert_eq!(received(Some(&mut known)), expected, "without ways they are looked for");

    let mut outdated = ways(&router, &topics);
    router.change(|router| router.unsubscribe(4, TopicFilter::parse("a/+").unwrap()));
    let now = received(Some(&mut outdated));
    assert_eq!((now[0].len(), now[3].len()), (6, 0), "who has left in between gets nothing");
}

#[test]
fn a_durable_session_gets_through_its_outbox_only_what_reaches_it_at_qos_0() {
    let router = Arc::new(LiveRouter::default());
    let durable = outbox(1, "durable", true, 1 << 20, WhenFull::Drop);
    subscribe(&router, &durable, "#", QoS::AtLeastOnce, false);
    Dispatcher::new(router).dispatch(&batch(&[("stored", 1), ("live", 0)]));
    assert_eq!(contents(&durable), [("live".to_owned(), QoS::AtMostOnce)]);
}

#[test]
fn mqtt_3_8_3_3_no_local_keeps_a_message_from_its_publisher() {
    let router = Arc::new(LiveRouter::default());
    let own = outbox(1, "publisher", false, 1 << 20, WhenFull::Drop);
    let other = outbox(2, "other", false, 1 << 20, WhenFull::Drop);
    subscribe(&router, &own, "#", QoS::AtMostOnce, true);
    subscribe(&router, &other, "#", QoS::AtMostOnce, true);
    Dispatcher::new(router).dispatch(&batch(&[("a", 0)]));
    assert_eq!((contents(&own).len(), contents(&other).len()), (0, 1));
}

#[test]
fn a_full_outbox_drops_the_newest_and_costs_nobody_else() {
    let router = Arc::new(LiveRouter::default());
    let slow = outbox(1, "slow", false, 16 << 10, WhenFull::Drop);
    let quick = outbox(2, "quick", false, 1 << 20, WhenFull::Drop);
    subscribe(&router, &slow, "#", QoS::AtMostOnce, false);
    subscribe(&router, &quick, "#", QoS::AtMostOnce, false);
    let mut dispatcher = Dispatcher::new(router);
    for _ in 0..100 {
        dispatcher.dispatch(&batch(&[("a", 0), ("b", 0), ("c", 0)]));
        assert!(slow.bytes() <= 16 << 10);
    }
    assert!(!slow.has_overflowed());
    let kept = contents(&slow);
    assert!((3..60).contains(&kept.len()) && kept[0].0 == "a", "{kept:?}");
    assert_eq!(contents(&quick).len(), 300);
    dispatcher.dispatch(&batch(&[("again", 0)]));
    assert_eq!(contents(&slow).len(), 1, "there is room again");
}

#[test]
fn an_outbox_can_ask_for_its_subscriber_to_be_disconnected() {
    let router = Arc::new(LiveRouter::default());
    let slow = outbox(1, "slow", false, 16 << 10, WhenFull::Disconnect);
    subscribe(&router, &slow, "#", QoS::AtMostOnce, false);
    let mut dispatcher = Dispatcher::new(router);
    dispatcher.dispatch(&batch(&[("a", 0)]));
    assert!(!slow.has_overflowed());
    for _ in 0..100 {
        dispatcher.dispatch(&batch(&[("a", 0), ("b", 0)]));
    }
    assert!(slow.has_overflowed());
}

#[test]
fn a_small_share_of_a_large_batch_does_not_keep_the_batch_in_memory() {
    let router = Arc::new(LiveRouter::default());
    let few = outbox(1, "few", false, 1 << 20, WhenFull::Drop);
    let most = outbox(2, "most", false, 1 << 20, WhenFull::Drop);
    subscribe(&router, &few, "rare", QoS::AtMostOnce, false);
    subscribe(&router, &most, "#", QoS::AtMostOnce, false);
    let mut topics = vec![("often", 0); 500];
    topics.push(("rare", 0));
    let large = batch(&topics);
    Dispatcher::new(router).dispatch(&large);
    assert!(few.bytes() < 8 << 10, "{}", few.bytes());
    assert!(most.bytes() >= large.memory_bytes());
    assert_eq!(contents(&few), [("rare".to_owned(), QoS::AtMostOnce)]);
    assert_eq!(Arc::strong_count(&large), 2, "held by this test and by the one who gets most of it");
    assert_eq!(contents(&most).len(), 501);
}

#[test]
fn a_closed_outbox_takes_nothing_and_says_what_was_left() {
    let closed = outbox(1, "gone", false, 1 << 20, WhenFull::Drop);
    let pick = Pick {
        first: 0,
        end: 1,
        granted: QoS::AtMostOnce,
        retain_as_published: false,
        subscription_ids: None,
    };
    let shipment = Arc::new(Shipment::for_one(batch(&[("a", 0)])));
    assert_eq!(closed.push(&shipment, [pick.clone()].into()).dropped, 0);
    assert_eq!(closed.close(), 1);
    assert_eq!(closed.push(&shipment, [pick].into()).dropped, 1);
    assert_eq!(closed.bytes(), 0);
}

#[derive(Default)]
struct Rung(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn publishers_wait_for_a_subscriber_that_is_behind_until_it_has_caught_up_or_gone() {
    let router = Arc::new(LiveRouter::default());
    let mut dispatcher = Dispatcher::new(router.clone());
    let rung = Arc::new(Rung::default());
    let waker: Waker = rung.clone().into();
    let count = || rung.0.load(std::sync::atomic::Ordering::SeqCst);
    let events = [("a", 1); 8];
    for is_closed in [false, true] {
        let before = count();
        let subscriber = outbox(1, "subscriber", false, 64 << 10, WhenFull::Drop);
        subscribe(&router, &subscriber, "#", QoS::AtLeastOnce, false);
        assert!(dispatcher.dispatch(&batch(&events)).behind.is_none(), "there is room enough");
        assert!(!subscriber.brakes(&waker));
        let behind =
            std::iter::repeat_with(|| dispatcher.dispatch(&batch(&events)).behind).take(20).flatten().last();
        assert_eq!(behind.map(|outbox| outbox.id), Some(1));
        assert!(subscriber.brakes(&waker) && subscriber.brakes(&waker));
        if is_closed {
            subscriber.close();
        } else {
            while count() == before {
                assert!(subscriber.bytes() > 0, "it is woken before all is gone");
                assert!(subscriber.brakes(&waker) && subscriber.pop().is_some());
            }
        }
        assert_eq!(count(), before + 1, "once, however often it asked");
        assert!(!subscriber.brakes(&waker));
        let all = TopicFilter::parse("#").unwrap();
        router.change(|router| router.unsubscribe(1, all));
    }
}

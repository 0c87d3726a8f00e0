//! Consumers on the memory twin of the log: what is durable when, what a crash keeps, and what becomes of dead letters.

mod letters;
mod rig;

use super::*;
use crate::engine::{Cause, OpenItem};
use crate::stream::From;
use gateway_storage::Offset;
use rig::{Rig, options};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[tokio::test]
async fn events_are_handed_out_in_order_and_settled_once() {
    let rig = Rig::new(options()).await;
    rig.publish(0..300).await;
    let mut worker = rig.join("w", 7);
    for number in 0..300 {
        let delivery = worker.next().await;
        assert_eq!((rig::payload(&delivery), delivery.attempt), (number, 1));
        assert_eq!(delivery.event().unwrap().topic, "devices/x");
        assert_eq!(worker.ack(delivery.id), Settled::Done);
        assert_eq!(worker.ack(delivery.id), Settled::Stale);
        worker.set_credit(7);
    }
    rig.consumer().flush().await;
    let status = rig.status();
    assert_eq!((status.acked, status.open, status.lag_events), (300, 0, 0));
    assert_eq!((status.handed_out, status.redeliveries), (300, 0));
}

#[tokio::test]
async fn a_hand_out_is_in_the_view_before_the_worker_has_it() {
    let rig = Rig::new(options()).await;
    rig.publish(0..20).await;
    let mut worker = rig.join("worker", 20);
    for _ in 0..20 {
        let delivery = worker.next().await;
        let open: OpenItem = rig.open()[&delivery.id.offset].clone();
        assert_eq!((open.attempts, open.leased, &*open.worker), (1, true, "worker"));
        assert_eq!(open.due_ms, delivery.due_ms);
    }
}

#[tokio::test]
async fn no_crash_makes_an_event_come_more_often_than_it_may_or_be_lost() {
    const MOST: u32 = 3;
    let wait = ConsumerOptions { ack_wait_ms: 60, max_deliver: MOST, max_ack_pending: 7, ..options() };
    let mut rig = Rig::new(wait).await;
    rig.publish(0..30).await;
    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    let mut random = 11u64;
    for _ in 0..200 {
        let status = rig.status();
        if status.open == 0 && status.read_to > 30 && status.lag_events == 0 {
            break;
        }
        {
            let mut workers = [rig.join("a", 3), rig.join("b", 3)];
            let until = Instant::now() + Duration::from_millis(random % 90);
            while Instant::now() < until {
                for worker in &mut workers {
                    let Some(delivery) = worker.next_within(Duration::from_millis(3)).await else { continue };
                    let times = seen.entry(delivery.id.offset).or_default();
                    *times += 1;
                    assert!(*times <= MOST, "{} times: {delivery:?}", *times);
                    assert!(delivery.attempt >= *times && delivery.attempt <= MOST);
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    match random >> 61 {
                        0..3 => drop(worker.ack(delivery.id)),
                        3 => drop(worker.nak(delivery.id, None)),
                        _ => {}
                    }
                    worker.set_credit(3);
                }
            }
        }
        rig = rig.crash().await;
    }
    let status = rig.status();
    assert_eq!(status.open, 0);
    assert_eq!(status.acked + status.dead_lettered, 30, "{status:?}");
    assert_eq!(rig.letters().len() as u64, status.dead_lettered);
}

#[tokio::test]
async fn while_the_log_takes_nothing_hand_outs_go_on_and_are_claimed_afterwards() {
    let rig = Rig::new(options()).await;
    rig.publish(0..10).await;
    let mut worker = rig.join("w", 0);
    rig.log.faults().fail_sync(1);
    rig.poison().await;
    worker.set_credit(4);
    for number in 0..4 {
        let delivery = worker.next().await;
        assert_eq!(rig::payload(&delivery), number);
        worker.ack(delivery.id);
    }
    rig.until("the log is open again", || !rig.engine.is_poisoned()).await;
    worker.set_credit(1);
    let delivery = worker.next().await;
    assert_eq!(rig::payload(&delivery), 4);
    rig.consumer().flush().await;
    let open: Vec<u64> = rig.open().into_keys().collect();
    assert_eq!(open, [delivery.id.offset], "four are settled, one is claimed");
}

#[tokio::test]
async fn a_pause_holds_back_what_was_not_handed_out() {
    let rig = Rig::new(options()).await;
    let mut worker = rig.join("w", 10);
    rig.publish(0..1).await;
    let first = worker.next().await;
    rig.consumers.pause("work").await.unwrap();
    rig.publish(1..2).await;
    assert_eq!(worker.ack(first.id), Settled::Done);
    assert!(worker.next_within(Duration::from_millis(50)).await.is_none());
    assert_eq!(rig.status().state, ConsumerCondition::Paused);
    let mut rig = rig.crash().await;
    assert!(rig.status().paused, "also across a crash");
    rig.consumers.resume("work").await.unwrap();
    let mut worker = rig.join("w", 10);
    assert_eq!(rig::payload(&worker.next().await), 1);
    rig.end().await;
}

#[tokio::test]
async fn a_reset_begins_anew_and_what_was_said_before_it_settles_nothing() {
    let rig = Rig::new(options()).await;
    rig.publish(0..5).await;
    let mut worker = rig.join("w", 5);
    let mut before = Vec::new();
    for _ in 0..5 {
        before.push(worker.next().await);
    }
    worker.ack(before[0].id);
    rig.consumer().flush().await;
    let from = From::Offset(Offset::new(before[1].id.offset));
    rig.consumers.reset("work", from).await.unwrap();
    worker.set_credit(5);
    for number in 1..5 {
        let again = worker.next().await;
        assert_eq!((rig::payload(&again), again.attempt, again.id.generation), (number, 1, 1));
        assert_eq!(worker.ack(before[number as usize].id), Settled::Stale);
        assert_eq!(rig.consumer().settle(again.id.to_string().parse().unwrap(), Outcome::Ack), Settled::Done);
    }
    rig.consumer().flush().await;
    assert_eq!((rig.status().open, rig.status().acked), (0, 5));
}

#[tokio::test]
async fn a_word_by_id_settles_what_was_handed_out_before_a_restart() {
    let rig = Rig::new(options()).await;
    rig.publish(0..1).await;
    let id = rig.join("w", 1).next().await.id;
    let rig = rig.crash().await;
    assert_eq!(rig.consumer().settle(id, Outcome::Ack), Settled::Done);
    rig.consumer().flush().await;
    let rig = rig.crash().await;
    assert_eq!((rig.status().acked, rig.open().len()), (1, 0));
}

#[tokio::test]
async fn altered_rules_hold_at_once_and_the_filter_from_where_it_stands() {
    let rig = Rig::new(options()).await;
    rig.publish(0..1).await;
    let mut worker = rig.join("w", 10);
    let delivery = worker.next().await;
    worker.nak(delivery.id, Some(60_000));
    let changes = ConsumerChanges {
        filter: Some("devices/other".into()),
        max_deliver: Some(1),
        ..ConsumerChanges::default()
    };
    rig.consumers.alter("work", changes).await.unwrap();
    rig.until("it is dead", || rig.letters().len() == 1).await;
    rig.publish(1..2).await;
    rig.publish_to("devices/other", 2..3).await;
    assert_eq!(rig::payload(&worker.next().await), 2);
}

#[tokio::test]
async fn what_has_expired_is_not_delivered_but_counted() {
    let rig = Rig::new(options()).await;
    rig.publish_expired(0..3).await;
    rig.publish(3..4).await;
    let mut worker = rig.join("w", 10);
    assert_eq!(rig::payload(&worker.next().await), 3);
    rig.until("they are counted", || rig.status().expired == 3).await;
}

#[tokio::test]
async fn a_consumer_that_is_deleted_ends_its_workers_and_its_letters() {
    let rig = Rig::new(options()).await;
    rig.publish(0..1).await;
    let mut worker = rig.join("w", 10);
    let delivery = worker.next().await;
    worker.reject(delivery.id, Cause::Rejected(0x99));
    rig.until("it is dead", || rig.letters().len() == 1).await;
    rig.consumers.delete("work").await.unwrap();
    assert_eq!(worker.ended(), Some(Ended::Deleted));
    assert!(rig.consumers.get("work").is_none() && rig.letters().is_empty());
    assert_eq!(rig.consumers.delete("work").await, Err(ConsumerError::NotFound));
    rig.consumers.create("work", options()).await.unwrap();
    assert_eq!(rig.status().acked, 0);
}

#[tokio::test]
async fn what_may_not_be_made_is_refused() {
    let rig = Rig::new(options()).await;
    let consumers = &rig.consumers;
    assert_eq!(consumers.create("work", options()).await, Err(ConsumerError::Exists));
    let elsewhere = ConsumerOptions { stream: "none".into(), ..options() };
    assert_eq!(consumers.create("a", elsewhere).await, Err(ConsumerError::NoStream));
    for wrong in [
        ConsumerOptions { filter: "a/#/b".into(), ..options() },
        ConsumerOptions { ack_wait_ms: 0, ..options() },
        ConsumerOptions { max_ack_pending: 0, ..options() },
    ] {
        assert!(matches!(consumers.create("a", wrong).await, Err(ConsumerError::Invalid(_))));
    }
    assert!(matches!(consumers.create("A", options()).await, Err(ConsumerError::Invalid(_))));
    consumers.create("b", options()).await.unwrap();
    assert_eq!(consumers.create("c", options()).await, Err(ConsumerError::TooMany), "two is the most");
    let names: Vec<_> = consumers.list().into_iter().map(|status| status.name).collect();
    assert_eq!(names, ["b".into(), "work".into()]);
}

#[tokio::test]
async fn there_are_no_more_workers_than_may_be() {
    let rig = Rig::new(options()).await;
    let workers: Vec<_> = (0..rig::WORKERS_MAX).map(|_| rig.join("w", 1)).collect();
    let another = rig.consumer().join("w", WorkerKind::Http, 1, std::task::Waker::noop().clone());
    assert!(matches!(another, Err(JoinError::TooManyWorkers(rig::WORKERS_MAX))));
    drop(workers);
    assert!(rig.status().workers.is_empty());
    let _worker = rig.join("w", 1);
}

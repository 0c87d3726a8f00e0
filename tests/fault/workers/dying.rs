//! Workers that die with all they have, one after another.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use gateway_tests::ReasonCode;
use tokio::task::block_in_place;

use super::hand::{Hand, HandOut};
use super::{CLOCK, LATE_MAX, STALLED, WORK, await_acked, figure, gateway, source};
use crate::Load;
use crate::event::Event;

/// Events that a worker takes to its grave.
const TAKES: u16 = 100;
const ACK_WAIT: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dying_workers_had_goes_to_another() {
    let events = Load::from_environment().deaths.next_multiple_of(u32::from(TAKES));
    let rules = format!(
        "max_deliver=0, ack_wait='{}s', max_ack_pending={}",
        ACK_WAIT.as_secs(),
        events + u32::from(TAKES)
    );
    let mut gateway = gateway(&[WORK.to_owned()], &rules);
    source::publish_all(gateway.mqtt(), 0..1, 0..events).await;

    let mut had: HashMap<Event, HandOut> = HashMap::new();
    let mut deaths = 0;
    while had.len() < events as usize {
        let name = format!("mayfly-{deaths}");
        let mut hand = Hand::join(gateway.mqtt(), &name, TAKES, WORK).await.expect("the gateway is up");
        let mut count = 0;
        while count < TAKES && had.len() < events as usize {
            let worked = hand.work(|hand_out| {
                comes(&mut had, hand_out);
                count += 1;
                None
            });
            tokio::time::timeout(STALLED, worked).await.expect("more events").expect("the gateway is up");
        }
        deaths += 1;
    }
    let died = Instant::now();

    let mut hand = Hand::join(gateway.mqtt(), "survivor", 1_000, WORK).await.expect("the gateway is up");
    let mut rest: HashMap<Event, HandOut> = had.clone();
    let mut latest = Duration::ZERO;
    while !rest.is_empty() {
        let worked = hand.work(|hand_out| {
            assert!(hand_out.attempt > 1, "{hand_out:?}");
            latest = latest.max(comes(&mut had, hand_out));
            rest.remove(&hand_out.event).expect("each comes once: it is acknowledged");
            Some(ReasonCode::Success)
        });
        let worked = tokio::time::timeout(STALLED, worked).await;
        worked
            .unwrap_or_else(|_| panic!("{} of {events} do not come", rest.len()))
            .expect("the gateway is up");
    }
    let took = died.elapsed();
    await_acked(&gateway, WORK, u64::from(events)).await;
    let redelivered = figure(&gateway, WORK, "redelivered_total");
    eprintln!(
        "dying workers: {events} events, {deaths} deaths; all at another {took:.2?} after the last, leases of {ACK_WAIT:?}, at most \
         {latest:.0?} after it was due; {redelivered} redeliveries"
    );
    assert!(redelivered >= u64::from(events));
    block_in_place(|| gateway.assert_alive());
}

/// Notes a hand-out; how long after it was due.
fn comes(had: &mut HashMap<Event, HandOut>, hand_out: &HandOut) -> Duration {
    let Some(before) = had.insert(hand_out.event, *hand_out) else { return Duration::ZERO };
    assert_eq!(hand_out.attempt, before.attempt + 1, "{hand_out:?} after {before:?}");
    assert!(
        hand_out.at + CLOCK >= before.not_before + ACK_WAIT,
        "{hand_out:?} while the lease runs: {before:?}"
    );
    let late = hand_out.late(&before, ACK_WAIT);
    assert!(late <= LATE_MAX, "{hand_out:?} only {late:?} after it was due: {before:?}");
    late
}

//! Dead letters: redriven, at a rate, purged on their way.

use super::*;

/// A consumer whose first `count` events are dead letters.
async fn dead(count: u32) -> (Rig, rig::Tester) {
    let rig = Rig::new(options()).await;
    rig.publish(0..count).await;
    let mut worker = rig.join("w", count);
    for _ in 0..count {
        let delivery = worker.next().await;
        let outcome = Outcome::Reject { cause: Cause::Rejected(0x99), note: "no such device".into() };
        assert_eq!(rig.consumer().settle(delivery.id, outcome), Settled::Done);
    }
    rig.until("they are dead", || rig.letters().len() == count as usize).await;
    worker.set_credit(count);
    (rig, worker)
}

#[tokio::test]
async fn a_letter_says_what_became_of_its_event() {
    let (rig, _worker) = dead(1).await;
    let letter = &rig.letters()[0];
    assert_eq!((letter.cause(), letter.attempts, &*letter.worker), (Cause::Rejected(0x99), 1, "w"));
    assert_eq!((&*letter.note, letter.event().topic), ("no such device", "devices/x"));
    rig.until("it is not open", || rig.status().open == 0).await;
    assert_eq!(rig.status().dead_lettered, 1);
}

#[tokio::test]
async fn a_redriven_letter_is_delivered_from_the_table_and_gone_when_it_is_settled() {
    let (rig, mut worker) = dead(3).await;
    let rig = {
        let offsets: Vec<u64> = rig.letters().iter().map(|letter| letter.offset()).collect();
        let which = Letters::Offsets(vec![offsets[1], offsets[1], 9999]);
        assert_eq!(rig.consumers.redrive("work", which, 0).await, Ok(1));
        let delivery = worker.next().await;
        assert_eq!((rig::payload(&delivery), delivery.attempt), (1, 1));
        drop(worker);
        rig.crash().await
    };
    rig.until("the lease is over", || rig.open().values().all(|item| !item.leased)).await;
    let mut worker = rig.join("w", 1);
    let delivery = worker.next().await;
    assert_eq!((rig::payload(&delivery), delivery.attempt), (1, 2), "its attempts are counted as well");
    worker.ack(delivery.id);
    rig.until("it is gone", || rig.letters().len() == 2).await;
    let all = Letters::Matching { cause: Some("rejected".into()), filter: Some("devices/#".into()) };
    assert_eq!(rig.consumers.redrive("work", all, 0).await, Ok(2));
    let none = Letters::Matching { cause: Some("nak".into()), filter: None };
    assert_eq!(rig.consumers.purge("work", none).await, Ok(0));
}

#[tokio::test]
async fn a_letter_that_fails_again_is_a_letter_again() {
    let (rig, mut worker) = dead(1).await;
    assert_eq!(rig.consumers.redrive("work", Letters::All, 0).await, Ok(1));
    assert_eq!(rig.consumers.redrive("work", Letters::All, 0).await, Ok(0), "it is under way");
    let delivery = worker.next().await;
    worker.reject(delivery.id, Cause::Rejected(0x83));
    rig.until("it is dead again", || {
        rig.letters().first().is_some_and(|letter| letter.cause() == Cause::Rejected(0x83))
    })
    .await;
    rig.until("it is not open", || rig.open().is_empty()).await;
    assert_eq!(rig.letters()[0].redrives, 1);
    worker.set_credit(1);
    assert_eq!(rig.consumers.redrive("work", Letters::All, 0).await, Ok(1));
    assert_eq!(rig::payload(&worker.next().await), 0);
}

#[tokio::test]
async fn letters_are_redriven_no_faster_than_asked_for() {
    let (rig, mut worker) = dead(4).await;
    let begun = Instant::now();
    assert_eq!(rig.consumers.redrive("work", Letters::All, 10).await, Ok(4));
    for _ in 0..4 {
        worker.next().await;
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(290), "{took:?}");
}

#[tokio::test]
async fn what_is_purged_on_its_way_is_not_delivered() {
    let (rig, mut worker) = dead(2).await;
    assert_eq!(rig.consumers.redrive("work", Letters::All, 1).await, Ok(2));
    assert_eq!(rig::payload(&worker.next().await), 0);
    assert_eq!(rig.consumers.purge("work", Letters::All).await, Ok(2));
    assert!(rig.letters().is_empty() && rig.open().is_empty());
    assert!(worker.next_within(Duration::from_millis(1200)).await.is_none());
    assert_eq!(rig.status().open, 0);
}

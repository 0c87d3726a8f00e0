//! Events at which every attempt fails, while the program is killed between attempts.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use gateway_tests::{Gateway, ReasonCode, TIMEOUT, binary, wait};
use serde_json::Value;
use tokio::task::block_in_place;

use super::hand::{Hand, HandOut};
use super::{CLOCK, STALLED, WORK, await_acked, figure, gateway, source};
use crate::Load;

/// One of so many events is poison.
const ONE_IN: u32 = 10;
const TAKES: u16 = 100;
const MAX_DELIVER: u32 = 5;
/// Kills between attempts.
const KILLS: u32 = 4;
const ACK_WAIT: &str = "1s";
const BACKOFF: [Duration; 2] = [Duration::from_millis(600), Duration::from_millis(900)];

/// Hand-outs of the poison events, by offset, and how many there were of the others.
#[derive(Debug, Default)]
struct Book {
    poison: BTreeMap<u64, Vec<HandOut>>,
    others: BTreeMap<u64, u32>,
}

impl Book {
    /// What the worker says of it.
    fn judge(&mut self, hand_out: &HandOut) -> ReasonCode {
        if !hand_out.event.number.is_multiple_of(ONE_IN) {
            *self.others.entry(hand_out.offset).or_default() += 1;
            return ReasonCode::Success;
        }
        let before = self.poison.entry(hand_out.offset).or_default();
        if let Some(last) = before.last() {
            assert!(hand_out.attempt > last.attempt, "counted anew: {hand_out:?} after {before:?}");
            // Each failed as soon as it was here; those that nobody saw would make it later still.
            let backoff = BACKOFF[(last.attempt as usize - 1).min(BACKOFF.len() - 1)];
            assert!(
                hand_out.at + CLOCK >= last.at + backoff,
                "{hand_out:?} sooner than {backoff:?} after {last:?}"
            );
        }
        assert!(hand_out.attempt <= MAX_DELIVER, "{hand_out:?} after {before:?}");
        before.push(*hand_out);
        ReasonCode::UnspecifiedError
    }
}

/// A worker works until `is_enough`, and is gone.
async fn work(gateway: &Gateway, book: &mut Book, is_enough: impl Fn(&Book) -> bool) {
    let mut hand = Hand::join(gateway.mqtt(), "worker", TAKES, WORK).await.expect("the gateway is up");
    while !is_enough(book) {
        let worked = hand.work(|hand_out| Some(book.judge(hand_out)));
        let worked = tokio::time::timeout(STALLED, worked).await;
        worked.expect("something more comes").expect("the gateway is up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_ends_as_a_dead_letter_however_often_the_program_is_killed() {
    let poison = Load::from_environment().poison;
    let [first, second] = BACKOFF.map(|backoff| backoff.as_millis());
    let rules =
        format!("max_deliver={MAX_DELIVER}, ack_wait='{ACK_WAIT}', backoff=['{first}ms', '{second}ms']");
    let mut gateway = gateway(&[WORK.to_owned()], &rules);
    source::publish_all(gateway.mqtt(), 0..1, 0..poison * ONE_IN).await;

    let mut book = Book::default();
    for kill in 1..=KILLS {
        let has_failed = |outs: &Vec<HandOut>| outs.last().is_some_and(|last| last.attempt >= kill);
        work(&gateway, &mut book, |book| {
            book.poison.len() == poison as usize && book.poison.values().all(has_failed)
        })
        .await;
        block_in_place(|| {
            gateway.kill();
            gateway.restart()
        });
    }
    let began = Instant::now();
    let letters = loop {
        let mut hand = Hand::join(gateway.mqtt(), "worker", TAKES, WORK).await.expect("the gateway is up");
        let working = async {
            loop {
                hand.work(|hand_out| Some(book.judge(hand_out))).await.expect("the gateway is up");
            }
        };
        let _: Result<(), _> = tokio::time::timeout(Duration::from_millis(300), working).await;
        let letters = letters(&gateway);
        if letters.len() == poison as usize {
            break letters;
        }
        assert!(began.elapsed() < STALLED, "{} dead letters of {poison}", letters.len());
    };
    // They are there after one more kill, and nothing is left to do.
    block_in_place(|| {
        gateway.kill();
        gateway.restart()
    });
    assert_eq!(self::letters(&gateway).len(), poison as usize);
    let mut unseen = 0;
    for (offset, letter) in &letters {
        let seen = &book.poison[offset];
        let attempts = letter["attempts"].as_u64().unwrap();
        assert_eq!((attempts, &letter["cause"]), (u64::from(MAX_DELIVER), &"max_deliver".into()), "{letter}");
        assert!(seen.len() as u32 <= MAX_DELIVER, "{letter}: {seen:?}");
        unseen += u64::from(MAX_DELIVER) - seen.len() as u64;
    }
    let of_worker = letters.values().filter(|letter| letter["failure"] == "nak").count();
    eprintln!(
        "poison: {poison} of {} events, {KILLS} kills between attempts: each is a dead letter after {MAX_DELIVER} hand-outs, of \
         which in all {unseen} were on their way when the gateway was killed; the last failure was the worker's for {of_worker}",
        poison * ONE_IN,
    );
    assert!(unseen < u64::from(poison * KILLS), "most hand-outs are received");
    assert_eq!(book.others.len() as u32, poison * (ONE_IN - 1), "the others are delivered");

    redrive(&gateway, poison);
    let mut redriven = BTreeMap::new();
    let mut hand = Hand::join(gateway.mqtt(), "worker", TAKES, WORK).await.expect("the gateway is up");
    while redriven.len() < poison as usize {
        let worked = hand.work(|hand_out| {
            // Of the others those whose acknowledgement a kill took may come once more.
            if letters.contains_key(&hand_out.offset) {
                assert_eq!(hand_out.attempt, 1, "{hand_out:?}");
                assert!(redriven.insert(hand_out.offset, hand_out.event).is_none(), "{hand_out:?} twice");
            }
            Some(ReasonCode::Success)
        });
        tokio::time::timeout(STALLED, worked)
            .await
            .expect("something more comes")
            .expect("the gateway is up");
    }
    block_in_place(|| {
        wait::until("no dead letters", TIMEOUT, || self::letters(&gateway).is_empty().then_some(()));
    });
    let acked = figure(&gateway, WORK, "acked_total");
    await_acked(&gateway, WORK, acked.max(u64::from(poison))).await;
    block_in_place(|| gateway.assert_alive());
}

/// Its dead letters, by offset, as the program lists them.
fn letters(gateway: &Gateway) -> BTreeMap<u64, Value> {
    let output =
        dead_letters(gateway, &["list", "--consumer", WORK, "--limit", "100000", "--output", "json"]);
    let list: Value = serde_json::from_str(&output).expect(&output);
    let letters = list["dead_letters"].as_array().unwrap();
    letters.iter().map(|letter| (letter["offset"].as_u64().unwrap(), letter.clone())).collect()
}

fn redrive(gateway: &Gateway, count: u32) {
    let output = dead_letters(gateway, &["redrive", WORK, "--all", "--rate", "10000"]);
    assert_eq!(output, format!("{count} redriven\n"));
}

/// Standard output of `gateway dead-letters`.
fn dead_letters(gateway: &Gateway, arguments: &[&str]) -> String {
    let admin = gateway.admin().to_string();
    let mut command = Command::new(binary::gateway());
    command.arg("dead-letters").args(arguments).args(["--admin", &admin]);
    let output = block_in_place(|| command.output()).expect("the program can be run");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(output.stderr));
    text(output.stdout)
}

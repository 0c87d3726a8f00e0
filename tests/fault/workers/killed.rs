//! Eight workers on one consumer, killed at random.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gateway_tests::{Gateway, ReasonCode};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use super::hand::{Hand, HandOut};
use super::{CLOCK, LATE_MAX, LOOK, STALLED, WORK, await_acked, figure, gateway, source};
use crate::Load;
use crate::event::Event;

const WORKERS: usize = 8;
/// Events that a worker takes at a time.
const TAKES: u16 = 100;
const ACK_WAIT: Duration = Duration::from_secs(2);
const PUBLISHERS: u32 = 4;
/// While workers are killed: what the others have time for.
const SHARE_OF_LOAD: u32 = 2;
/// How long a worker lives, and how long it is away, in milliseconds.
const LIVES_MS: Range<u64> = 200..1_500;
const AWAY_MS: Range<u64> = 0..300;
/// Of equal workers none may get a fifth more than another, and some turns in a short run.
const UNEVEN_MAX: f64 = 1.2;
const UNEVEN_TURNS: f64 = 5.0;
/// Of so many deaths one is with events in hand; the others are as it happens.
const IN_HAND: f64 = 0.5;
/// How long a worker waits for what it is to die with.
const LAST_READ: Duration = Duration::from_millis(50);

/// The last hand-out of an event, and the number of what the worker answered on that connection.
#[derive(Clone, Copy, Debug)]
struct Last {
    hand_out: HandOut,
    life: usize,
    answer: usize,
}

/// One connection of a worker.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    received: usize,
    was_killed: bool,
}

/// What the workers have together.
#[derive(Debug, Default)]
struct Book {
    last: HashMap<Event, Last>,
    lives: Vec<Life>,
    /// Hand-outs, by worker.
    shares: [u64; WORKERS],
    /// How many of them were of an event that had been seen before.
    seen_again: u64,
    /// How long after it was due an event was here again, at most.
    latest: Duration,
}

impl Book {
    fn take(&mut self, worker: usize, life: usize, hand_out: &HandOut) {
        let answer = self.lives[life].received;
        self.lives[life].received += 1;
        self.shares[worker] += 1;
        let last = self.last.insert(hand_out.event, Last { hand_out: *hand_out, life, answer });
        let Some(last) = last else { return };
        let before = last.hand_out;
        assert!(hand_out.attempt > before.attempt, "{hand_out:?} after {before:?}");
        assert_eq!(hand_out.offset, before.offset);
        let Life { received, was_killed } = self.lives[last.life];
        assert!(was_killed, "{hand_out:?} again, although its worker lives: {before:?}");
        let is_in_doubt = last.answer + usize::from(TAKES) >= received;
        assert!(is_in_doubt, "{hand_out:?} again, although it was settled: {last:?} of {received}");
        assert!(
            hand_out.at + CLOCK >= before.not_before + ACK_WAIT,
            "{hand_out:?} again while its lease runs: {before:?}"
        );
        // One that nobody saw may have been between.
        if hand_out.attempt == before.attempt + 1 {
            self.seen_again += 1;
            let late = hand_out.late(&before, ACK_WAIT);
            self.latest = self.latest.max(late);
            assert!(late <= LATE_MAX, "{hand_out:?} only {late:?} after it was due: {before:?}");
        }
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Book>>);

impl Shared {
    fn look(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works until the test ends; is killed and comes back as long as `killing` says so.
async fn run(
    number: usize,
    address: SocketAddr,
    book: Shared,
    mut killing: watch::Receiver<bool>,
    seed: u64,
) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed + number as u64);
    loop {
        let life = {
            let mut book = book.look();
            book.lives.push(Life::default());
            book.lives.len() - 1
        };
        let mut hand =
            Hand::join(address, &format!("worker-{number}"), TAKES, WORK).await.expect("the gateway is up");
        let working = async {
            loop {
                let worked = hand.work(|hand_out| {
                    book.look().take(number, life, hand_out);
                    Some(ReasonCode::Success)
                });
                worked.await.expect("the gateway is up");
            }
        };
        let lives_for = Duration::from_millis(rng.random_range(LIVES_MS));
        let dying = async {
            killing.wait_for(|killing| *killing).await.expect("the test goes on");
            tokio::time::sleep(lives_for).await;
        };
        tokio::select! {
            () = working => {}
            () = dying => {}
        }
        if rng.random_bool(IN_HAND) {
            let last = hand.work(|hand_out| {
                book.look().take(number, life, hand_out);
                None
            });
            let _: Result<_, _> = tokio::time::timeout(LAST_READ, last).await;
        }
        // It is dead for the book first: nothing may come again before.
        book.look().lives[life].was_killed = true;
        drop(hand);
        tokio::time::sleep(Duration::from_millis(rng.random_range(AWAY_MS))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_cost_a_lease_and_no_event() {
    let load = Load::from_environment();
    let each = load.work / 2 / PUBLISHERS;
    let half = u64::from(each * PUBLISHERS);
    let rules = format!("max_deliver=0, ack_wait='{}s'", ACK_WAIT.as_secs());
    let gateway = gateway(&[WORK.to_owned()], &rules);
    source::publish_all(gateway.mqtt(), 0..PUBLISHERS, 0..each).await;

    let book = Shared::default();
    let killing = watch::Sender::new(false);
    let (began, cpu) = (Instant::now(), cpu_time(&gateway));
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| tokio::spawn(run(number, gateway.mqtt(), book.clone(), killing.subscribe(), load.seed)))
        .collect();
    let assert_well = || assert!(!workers.iter().any(|worker| worker.is_finished()), "a worker has panicked");
    await_distinct(&book, half, assert_well).await;
    let took = began.elapsed();
    let cpu_each = (cpu_time(&gateway) - cpu).div_f64(half as f64);
    let shares = book.look().shares;
    await_acked(&gateway, WORK, half).await;
    assert_eq!(figure(&gateway, WORK, "redelivered_total"), 0, "nobody has died");
    let [least, most] = [shares.iter().min(), shares.iter().max()].map(|share| *share.unwrap() as f64);
    let most_even = least * UNEVEN_MAX + f64::from(TAKES) * UNEVEN_TURNS;
    assert!(most <= most_even, "equal workers, unequal work: {shares:?}");

    killing.send_replace(true);
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let rate = f64::from(load.events_per_second / SHARE_OF_LOAD) / f64::from(PUBLISHERS);
            tokio::spawn(source::publish(gateway.mqtt(), publisher, each..2 * each, rate, None))
        })
        .collect();
    for publisher in publishers {
        publisher.await.expect("a publisher finishes");
    }
    killing.send_replace(false);
    await_distinct(&book, 2 * half, assert_well).await;
    await_acked(&gateway, WORK, 2 * half).await;
    assert_well();
    // Whoever holds an acknowledged event would hand it out again by now.
    tokio::time::sleep(ACK_WAIT + LATE_MAX).await;
    assert_well();
    for worker in workers {
        worker.abort();
    }

    let book = book.look();
    let kills = book.lives.iter().filter(|life| life.was_killed).count() as u64;
    let [redelivered, handed_out, acked] =
        ["redelivered_total", "handed_out_total", "acked_total"].map(|what| figure(&gateway, WORK, what));
    eprintln!(
        "eight workers: seed {}; {half} events in {took:.2?}, {:.0} each second, {cpu_each:.2?} of the gateway's CPU each, \
         shares {shares:?}; then {half} with {kills} kills: {redelivered} handed out again, {} of them of what \
         had been seen before, at most {:.1?} after it was due",
        load.seed,
        half as f64 / took.as_secs_f64(),
        book.seen_again,
        book.latest,
    );
    assert_eq!(acked, 2 * half, "each is acknowledged once");
    // What was claimed for a worker that died before it left was not handed out, and counts once more when it is.
    let taken_back = (handed_out as i64) - (acked + redelivered) as i64;
    assert!((0..=(kills * u64::from(TAKES)) as i64).contains(&taken_back), "{handed_out} handed out");
    assert!(kills > 0 && book.seen_again > 0, "no kill met an event: this run says nothing");
    assert!(redelivered <= kills * u64::from(TAKES), "{redelivered} again by {kills} kills");
    let mut gateway = gateway;
    tokio::task::block_in_place(|| gateway.assert_alive());
}

/// Waits until so many different events were handed out.
async fn await_distinct(book: &Shared, events: u64, assert_well: impl Fn()) {
    let mut last = (0, Instant::now());
    loop {
        let distinct = book.look().last.len() as u64;
        if distinct == events {
            return;
        }
        if distinct != last.0 {
            last = (distinct, Instant::now());
        }
        assert!(last.1.elapsed() < STALLED, "{distinct} of {events} events have come");
        assert_well();
        tokio::time::sleep(LOOK).await;
    }
}

/// CPU that the gateway has used so far.
fn cpu_time(gateway: &Gateway) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.process_id())).expect("it runs");
    // Behind the name, which is in brackets: the 12th and the 13th are user and system time.
    let (_, rest) = stat.rsplit_once(')').expect("the name ends");
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
}

//! Ten consumers of one stream, of which one stands still.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gateway_tests::{Gateway, ReasonCode};
use tokio::task::{JoinHandle, block_in_place};

use super::hand::Hand;
use super::source::SentAt;
use super::{LOOK, STALLED, await_acked, gateway, quantile, source};
use crate::Load;

const CONSUMERS: usize = 10;
/// The number of the one that stands still.
const SLOW: usize = CONSUMERS - 1;
const TAKES: u16 = 100;
/// The first seconds are not counted.
const WARM_UP_SECS: u32 = 1;
/// How long all is well.
const BEFORE_SECS: u32 = 3;
/// What a busy machine adds to a tail now and then, whoever stands still.
const NOISE: Duration = Duration::from_millis(20);
const GROWTH_MAX: u64 = 64 << 20;

/// How long events took to their workers, by the second of the run in which they came.
#[derive(Clone, Default)]
struct Latencies(Arc<Mutex<BTreeMap<u64, Vec<Duration>>>>);

impl Latencies {
    fn push(&self, second: u64, latency: Duration) {
        self.0.lock().unwrap().entry(second).or_default().push(latency);
    }

    /// The quantile at `share` of each second since the last call, and of these the one in the middle: a machine that is busy for a moment is
    /// not what is measured.
    fn take(&self, shares: [f64; 2]) -> [Duration; 2] {
        let mut seconds = std::mem::take(&mut *self.0.lock().unwrap());
        seconds.values_mut().for_each(|latencies| latencies.sort_unstable());
        shares.map(|share| {
            let mut all: Vec<_> = seconds.values().map(|latencies| quantile(latencies, share)).collect();
            all.sort_unstable();
            quantile(&all, 0.5)
        })
    }
}

struct Neighbours {
    address: SocketAddr,
    sent_at: SentAt,
    began: Instant,
    latencies: Latencies,
    received: Arc<[AtomicUsize; CONSUMERS]>,
}

impl Neighbours {
    /// A worker of consumer `number`.
    fn work(&self, number: usize) -> JoinHandle<()> {
        let (address, sent_at, began) = (self.address, self.sent_at.clone(), self.began);
        let (latencies, received) = (self.latencies.clone(), self.received.clone());
        tokio::spawn(async move {
            let name = format!("worker-{number}");
            let mut hand =
                Hand::join(address, &name, TAKES, &consumer(number)).await.expect("the gateway is up");
            loop {
                let worked = hand.work(|hand_out| {
                    received[number].fetch_add(1, Ordering::Relaxed);
                    if number != SLOW {
                        let sent_at = sent_at.get(hand_out.event.number).expect("it was sent");
                        latencies.push((sent_at - began).as_secs(), hand_out.at - sent_at);
                    }
                    Some(ReasonCode::Success)
                });
                worked.await.expect("the gateway is up");
            }
        })
    }

    async fn await_received(&self, number: usize, events: u32) {
        let began = Instant::now();
        while self.received[number].load(Ordering::Relaxed) < events as usize {
            assert!(began.elapsed() < STALLED, "consumer {number}: {:?} of {events}", self.received[number]);
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What a part of the run showed.
#[derive(Debug)]
struct Figures {
    latencies: [Duration; 2],
    memory: u64,
    threads: usize,
}

fn consumer(number: usize) -> String {
    format!("consumer-{number}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_stands_still_costs_the_others_nothing() {
    let load = Load::from_environment();
    let names: Vec<String> = (0..CONSUMERS).map(consumer).collect();
    let mut gateway = gateway(&names, "max_deliver=0, ack_wait='2s'");
    let all = Neighbours {
        address: gateway.mqtt(),
        sent_at: SentAt::default(),
        began: Instant::now(),
        latencies: Latencies::default(),
        received: Arc::default(),
    };
    let mut workers: Vec<_> = (0..CONSUMERS).map(|number| all.work(number)).collect();

    let rate = load.neighbour_rate;
    let parts = [WARM_UP_SECS, BEFORE_SECS.max(load.neighbour_secs / 10), load.neighbour_secs]
        .map(|secs| secs * rate);
    let (mut next, mut figures) = (0, Vec::new());
    let mut handed_to_slow = 0;
    for (part, events) in parts.into_iter().enumerate() {
        if part == 2 {
            workers[SLOW].abort();
            handed_to_slow = next;
        }
        let source =
            source::publish(all.address, 0, next..next + events, f64::from(rate), Some(all.sent_at.clone()));
        source.await;
        next += events;
        for number in 0..SLOW {
            all.await_received(number, next).await;
        }
        let (memory, threads) = block_in_place(|| (gateway.memory().anonymous, threads(&gateway)));
        figures.push(Figures { latencies: all.latencies.take([0.5, 0.99]), memory, threads });
    }

    let began = Instant::now();
    workers[SLOW] = all.work(SLOW);
    all.await_received(SLOW, next).await;
    let caught_up = began.elapsed();
    for name in &names {
        await_acked(&gateway, name, u64::from(next)).await;
    }
    assert!(!workers.iter().any(JoinHandle::is_finished), "a worker has panicked");
    workers.iter().for_each(JoinHandle::abort);

    let [_, before, during] = <[Figures; 3]>::try_from(figures).unwrap();
    let ([p50, p99], [still_p50, still_p99]) = (before.latencies, during.latencies);
    let growth = during.memory.saturating_sub(before.memory);
    eprintln!(
        "slow neighbour: {CONSUMERS} consumers, {rate} events/s each; from publisher to worker p50 {p50:.2?}, p99 {p99:.2?} with all well; \
         p50 {still_p50:.2?}, p99 {still_p99:.2?} while one stands still for {} s; memory grows {} KiB, threads {} and {}; {} events \
         caught up in {caught_up:.2?}",
        load.neighbour_secs,
        growth >> 10,
        before.threads,
        during.threads,
        next - handed_to_slow,
    );
    assert!(still_p99 <= p99 * 2 + NOISE, "p99 {p99:?} before and {still_p99:?} while one stands still");
    assert!(growth <= GROWTH_MAX, "{growth} bytes more");
    // A consumer that reads from the disk has a thread for it, and one is for whoever looks.
    assert!(
        during.threads <= before.threads + CONSUMERS + 1,
        "{} and {} threads",
        before.threads,
        during.threads
    );
    block_in_place(|| gateway.assert_alive());
}

/// Threads of the gateway.
fn threads(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", gateway.process_id())).expect("it runs").count()
}

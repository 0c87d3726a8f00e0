//! Ten consumers of one stream, of which one stands still.

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
const NOISE: Duration = Duration::from_millis(10);
const GROWTH_MAX: u64 = 64 << 20;

/// What a part of the run showed: how long events took to their workers.
#[derive(Clone, Default)]
struct Latencies([Arc<Mutex<Vec<Duration>>>; 3]);

impl Latencies {
    fn sorted(&self, part: usize) -> Vec<Duration> {
        let mut latencies = self.0[part].lock().unwrap().clone();
        latencies.sort_unstable();
        latencies
    }
}

struct Neighbours {
    address: SocketAddr,
    sent_at: SentAt,
    part: Arc<AtomicUsize>,
    latencies: Latencies,
    received: Arc<[AtomicUsize; CONSUMERS]>,
}

impl Neighbours {
    /// A worker of consumer `number`.
    fn work(&self, number: usize) -> JoinHandle<()> {
        let (address, sent_at, part) = (self.address, self.sent_at.clone(), self.part.clone());
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
                        let took = hand_out.at.saturating_duration_since(sent_at);
                        latencies.0[part.load(Ordering::Relaxed)].lock().unwrap().push(took);
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
        part: Arc::default(),
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
        all.part.store(part, Ordering::Relaxed);
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
        figures.push(block_in_place(|| (gateway.memory().anonymous, threads(&gateway))));
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

    let [before, during] = [1, 2].map(|part| all.latencies.sorted(part));
    let [p50, p99] = [0.5, 0.99].map(|share| [&before, &during].map(|sorted| quantile(sorted, share)));
    let growth = figures[2].0.saturating_sub(figures[1].0);
    eprintln!(
        "slow neighbour: {CONSUMERS} consumers, {rate} events/s each; from publisher to worker p50 {:.2?}, p99 {:.2?} with all well; p50 \
         {:.2?}, p99 {:.2?} while one stands still for {} s; memory grows {} KiB, threads {} and {}; {} events caught up in {caught_up:.2?}",
        p50[0],
        p99[0],
        p50[1],
        p99[1],
        load.neighbour_secs,
        growth >> 10,
        figures[1].1,
        figures[2].1,
        next - handed_to_slow,
    );
    assert!(p99[1] <= p99[0] * 2 + NOISE, "p99 {:?} before and {:?} while one stands still", p99[0], p99[1]);
    assert!(growth <= GROWTH_MAX, "{growth} bytes more");
    assert!(figures[2].1 <= figures[1].1 + 1, "threads: {figures:?}");
    block_in_place(|| gateway.assert_alive());
}

/// Threads of the gateway.
fn threads(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", gateway.process_id())).expect("it runs").count()
}

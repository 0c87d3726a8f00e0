//! A fleet publishes at QoS 2 to durable subscribers at QoS 2, and the gateway is killed and terminated in turns, at
//! random moments: each event is handed on once, no more and no less, as if nothing had happened.

mod publisher;
mod subscriber;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gateway_tests::{Gateway, GatewayOptions, Hello, ProtocolVersion};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tokio::task::{JoinHandle, block_in_place};

use crate::Load;
use crate::consumer::{self, Consumer, Deaths};
use crate::fleet::Orders;
use publisher::{Counts, Publisher};
use subscriber::{Ledger, Subscriber};

const PUBLISHERS: u32 = 50;
/// The number of the one that publishes after the last restart.
const LAST_PUBLISHER: u32 = PUBLISHERS;
/// From one ready line to the next end, in milliseconds.
const ALIVE_MS: std::ops::Range<u64> = 150..1_200;
/// Who gets nothing for this long gets nothing more.
const STALLED: Duration = Duration::from_secs(20);
/// QoS 2 is four packets for each event and side: a share of the load of the other tests.
const SHARE_OF_LOAD: u32 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_once_both_ways_across_restarts() {
    let load = Load::from_environment();
    let options = GatewayOptions { on_unassigned_ports: true, ..GatewayOptions::default() };
    let mut gateway = block_in_place(|| Gateway::start_with(options));
    let orders = watch::Sender::new(Orders { gateway_up: true, publish: true });
    let counts = Arc::new(Counts::default());
    let deaths = Deaths { seed: load.seed, lives_ms: 50..700, away_ms: 0..300 };
    let steady = Hello::durable(ProtocolVersion::V5, "steady");
    let flaky = Hello::durable(ProtocolVersion::V3_1_1, "flaky");
    let subscribers = [
        Receiving::begin(
            Subscriber { address: gateway.mqtt(), hello: steady, seed: load.seed, deaths: None },
            &orders,
        )
        .await,
        Receiving::begin(
            Subscriber { address: gateway.mqtt(), hello: flaky, seed: load.seed, deaths: Some(deaths) },
            &orders,
        )
        .await,
    ];
    let rate = f64::from(load.events_per_second / SHARE_OF_LOAD) / f64::from(PUBLISHERS);
    let address = gateway.mqtt();
    let publish = |number| {
        let publisher = Publisher { number, address, events_per_second: rate, began: Instant::now() };
        let (orders, counts) = (orders.subscribe(), counts.clone());
        tokio::spawn(async move { publisher.run(orders, &counts).await })
    };
    let publishers: Vec<_> = (0..PUBLISHERS).map(publish).collect();

    let began = Instant::now();
    let mut rng = ChaCha8Rng::seed_from_u64(load.seed);
    for restart in 0..load.restarts {
        let alive = Duration::from_millis(rng.random_range(ALIVE_MS));
        tokio::time::sleep(alive).await;
        restart_gateway(&mut gateway, &orders, restart.is_multiple_of(2));
        subscribers.iter().for_each(Receiving::assert_well);
    }
    tokio::time::sleep(Duration::from_millis(ALIVE_MS.start)).await;
    orders.send_modify(|orders| orders.publish = false);
    let published_for = began.elapsed();
    let mut published = Vec::new();
    for publisher in publishers {
        published.push(publisher.await.expect("a publisher finishes"));
    }
    published.push(0);
    for subscriber in &subscribers {
        subscriber.await_all(&published).await;
    }

    // What is complete stays complete: were anything to come again after one more kill, it would come before what
    // is published then.
    restart_gateway(&mut gateway, &orders, true);
    orders.send_modify(|orders| orders.publish = true);
    let last = publish(LAST_PUBLISHER);
    while counts.completed.load(Ordering::Relaxed) <= published.iter().copied().map(u64::from).sum() {
        assert!(!last.is_finished(), "the last publisher has panicked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    orders.send_modify(|orders| orders.publish = false);
    published[LAST_PUBLISHER as usize] = last.await.expect("the last publisher finishes");
    for subscriber in &subscribers {
        subscriber.await_all(&published).await;
    }

    let total: u64 = published.iter().copied().map(u64::from).sum();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    eprintln!(
        "exactly once: seed {}, {} restarts, {total} events by {PUBLISHERS} publishers in {published_for:.1?}; sent again {} \
         PUBLISH, {} PUBREL ({} forgotten){}",
        load.seed,
        load.restarts,
        count(&counts.published_again),
        count(&counts.released_again),
        count(&counts.forgotten),
        subscribers.iter().map(|subscriber| subscriber.summary(&published)).collect::<String>(),
    );
    assert_eq!(count(&counts.completed), total, "each is complete once");
    for subscriber in &subscribers {
        subscriber.assert_exactly_once(&published);
    }
    let recognized: u64 = subscribers.iter().map(|subscriber| subscriber.ledger.look().recognized).sum();
    let taken_up = count(&counts.published_again) + count(&counts.released_again) + recognized;
    assert!(taken_up > 0 || load.restarts == 0, "no restart met a flow under way: this run says nothing");
    assert_stream_has_each_once(&gateway, &orders, &published).await;
    block_in_place(|| {
        let damage = gateway.said(|line| line.contains("damaged") || line.contains("set aside"));
        assert!(damage.is_empty(), "{damage:#?}");
        gateway.assert_alive();
        gateway.terminate();
    });
}

fn restart_gateway(gateway: &mut Gateway, orders: &watch::Sender<Orders>, kill: bool) {
    orders.send_modify(|orders| orders.gateway_up = false);
    block_in_place(|| {
        if kill {
            gateway.kill()
        } else {
            gateway.terminate()
        }
        gateway.restart()
    });
    orders.send_modify(|orders| orders.gateway_up = true);
}

/// A subscriber at work.
struct Receiving {
    name: String,
    ledger: Arc<Ledger>,
    task: JoinHandle<()>,
}

impl Receiving {
    /// Starts it and waits for its SUBACK.
    async fn begin(subscriber: Subscriber, orders: &watch::Sender<Orders>) -> Self {
        let name = subscriber.hello.client_id.clone();
        let ledger = Arc::new(Ledger::new(PUBLISHERS as usize + 1));
        let subscribed = watch::Sender::new(false);
        let mut is_subscribed = subscribed.subscribe();
        let (orders, own) = (orders.subscribe(), ledger.clone());
        let task = tokio::spawn(async move { subscriber.run(orders, &own, subscribed).await });
        is_subscribed.wait_for(|subscribed| *subscribed).await.expect("it subscribes");
        Self { name, ledger, task }
    }

    fn assert_well(&self) {
        assert!(!self.task.is_finished(), "{} has panicked", self.name);
    }

    /// Waits until it has reached the end of what was published and nothing is half done, or nothing has come for
    /// long.
    async fn await_all(&self, published: &[u32]) {
        let mut last = ((0, 0), Instant::now());
        loop {
            {
                let books = self.ledger.look();
                if books.tally.has_reached(published) && books.held.is_empty() {
                    return;
                }
                let now = (books.tally.received, books.held.len());
                if now != last.0 {
                    last = (now, Instant::now());
                } else if last.1.elapsed() > STALLED {
                    let (lost, held) = (books.tally.lost(published), books.held.len());
                    return eprintln!(
                        "{}: nothing for {STALLED:?}: {lost} missing, {held} not released",
                        self.name
                    );
                }
            }
            self.assert_well();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn summary(&self, published: &[u32]) -> String {
        let books = self.ledger.look();
        format!(
            "; {}: {} lost, {} twice, {} out of order, {} not released; came again and recognized {} PUBLISH ({} without DUP), \
             {} PUBREL; {} connections broken",
            self.name,
            books.tally.lost(published),
            books.tally.duplicates,
            books.tally.out_of_order,
            books.held.len(),
            books.recognized,
            books.without_dup,
            books.released_again,
            books.broken,
        )
    }

    fn assert_exactly_once(&self, published: &[u32]) {
        let books = self.ledger.look();
        books.tally.assert_complete(&self.name, published);
        assert_eq!(books.tally.duplicates, 0, "{}: handed on twice", self.name);
        let total: u64 = published.iter().copied().map(u64::from).sum();
        assert_eq!(books.tally.received, total, "{}: more than was published", self.name);
        assert!(books.held.is_empty(), "{}: no PUBREL for {:?}", self.name, books.held);
        assert_eq!(books.without_dup, 0, "{}: sent again without DUP [MQTT-3.3.1-1]", self.name);
    }
}

/// The log as well has each event once: a PUBLISH sent again was recognized before it was written.
async fn assert_stream_has_each_once(gateway: &Gateway, orders: &watch::Sender<Orders>, published: &[u32]) {
    let replay = Consumer {
        address: gateway.mqtt(),
        hello: Hello::new(ProtocolVersion::V5, "replay"),
        filter: "$stream/telemetry/earliest/#",
        deaths: None,
    };
    let ledger = Arc::new(consumer::Ledger::new(published.len()));
    let (own, listening) = (ledger.clone(), orders.subscribe());
    let task = tokio::spawn(async move { replay.run(listening, &own, watch::Sender::new(false)).await });
    let end = Instant::now() + STALLED;
    while !ledger.look().0.has_reached(published) && Instant::now() < end {
        assert!(!task.is_finished(), "the replay has panicked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    task.abort();
    let (tally, _) = &*ledger.look();
    tally.assert_complete("the stream", published);
    assert_eq!(tally.duplicates, 0, "in the log twice");
}

//! A fleet publishes at QoS 1, a durable subscriber listens, and the process at one end or the other is killed at
//! random moments.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gateway_tests::{Gateway, GatewayOptions, Hello, ProtocolVersion};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tokio::task::{JoinHandle, block_in_place};

use crate::Load;
use crate::consumer::{Consumer, Deaths, Ledger};
use crate::fleet::{Counts, Orders, Publisher, WINDOW};
use crate::lab::{earliest, known, trims};
use crate::tally::Tally;

const PUBLISHERS: u32 = 200;
/// `mqtt.max_inflight`: deliveries that the subscriber may have unacknowledged when somebody dies.
const SUBSCRIBER_WINDOW: u64 = 1_024;
/// From one kill's ready line to the next kill, in milliseconds.
const ALIVE_MS: Range<u64> = 100..900;
/// The same while the log is trimmed, which is looked at every second.
const ALIVE_TRIMMING_MS: Range<u64> = 800..3_000;
/// From start to ready, at worst.
const READY: Duration = Duration::from_secs(5);
/// How often the log is trimmed, and how often a reader may find out.
const TRIMS_EVERY: Duration = Duration::from_secs(1);
const TRIMMED_UNDER_READER_MAX: u32 = 10;
/// A receiver that gets nothing for this long gets nothing more.
const STALLED: Duration = Duration::from_secs(30);

/// A log that is trimmed all the time: small files, a stream of a few of them, and a view that is saved often.
const TRIMMING: [&str; 6] = [
    "mqtt.max_packet_bytes=64KiB",
    "storage.group_bytes_max=256KiB",
    "storage.segment_bytes=1MiB",
    "storage.view_save_interval_ms=200",
    "storage.reserve_bytes=1MiB",
    "stream.0.max_bytes=4MiB",
];

/// And one that is nearly full soon, so that what can go goes at once.
const NEARLY_FULL: &str = "storage.max_bytes=20MiB";

/// A gateway under load.
struct Scene {
    load: Load,
    /// The stream begins in the middle.
    trimmed: bool,
    gateway: Gateway,
    orders: watch::Sender<Orders>,
    counts: Arc<Counts>,
    ledger: Arc<Ledger>,
    consumer: JoinHandle<()>,
    publishers: Vec<JoinHandle<u32>>,
    began: Instant,
}

impl Scene {
    async fn begin(load: Load, version: ProtocolVersion, deaths: Option<Deaths>, sets: &[&str]) -> Self {
        let options =
            GatewayOptions { sets: known(sets), on_unassigned_ports: true, ..GatewayOptions::default() };
        let gateway = block_in_place(|| Gateway::start_with(options));
        let orders = watch::Sender::new(Orders { gateway_up: true, publish: true });
        let counts = Arc::new(Counts::default());
        let hello = Hello::durable(version, "backend");
        let consumer = Consumer { address: gateway.mqtt(), hello, filter: "devices/#", deaths };
        let (ledger, consumer) = spawn(consumer, Tally::new(PUBLISHERS as usize), &orders).await;
        let began = Instant::now();
        let publishers = (0..PUBLISHERS)
            .map(|number| {
                let events_per_second = f64::from(load.events_per_second) / f64::from(PUBLISHERS);
                let address = gateway.mqtt();
                let publisher = Publisher { number, address, events_per_second, began, acknowledged: None };
                let (orders, counts) = (orders.subscribe(), counts.clone());
                tokio::spawn(async move { publisher.run(orders, &counts).await })
            })
            .collect();
        let trimmed = !sets.is_empty();
        Self { load, trimmed, gateway, orders, counts, ledger, consumer, publishers, began }
    }

    /// Reads the stream from its earliest event on.
    async fn replay(&self, published: &[u32]) -> Arc<Ledger> {
        let hello = Hello::new(ProtocolVersion::V5, "replay");
        let filter = "$stream/telemetry/earliest/#";
        let replay = Consumer { address: self.gateway.mqtt(), hello, filter, deaths: None };
        let tally = match self.trimmed {
            true => Tally::from_anywhere(PUBLISHERS as usize),
            false => Tally::new(PUBLISHERS as usize),
        };
        let (replayed, replayer) = spawn(replay, tally, &self.orders).await;
        await_all(&replayed, published, &replayer).await;
        replayer.abort();
        replayed
    }

    /// Has the fleet finish and the subscriber catch up, replays the stream, and holds all of it against the
    /// promises. `kills` were there in all, each of which may cost a window of redeliveries.
    async fn end(mut self, name: &str, kills: u64, starts: &[Duration]) {
        let published_for = self.began.elapsed();
        self.orders.send_modify(|orders| orders.publish = false);
        let mut published = Vec::new();
        for publisher in std::mem::take(&mut self.publishers) {
            let finished = tokio::time::timeout(STALLED, publisher).await;
            published
                .push(finished.expect("a publisher gets its acknowledgements").expect("no publisher panics"));
        }
        await_all(&self.ledger, &published, &self.consumer).await;
        let drained_for = self.began.elapsed() - published_for;
        self.consumer.abort();

        let replaying = Instant::now();
        let mut replayed = self.replay(&published).await;
        // What is trimmed while it is read is passed over. That ends soon after the load has ended.
        for _ in 0..TRIMMED_UNDER_READER_MAX {
            if !self.trimmed || replayed.look().0.lost(&published) == 0 {
                break;
            }
            tokio::time::sleep(TRIMS_EVERY).await;
            replayed = self.replay(&published).await;
        }
        let replayed_for = replaying.elapsed();

        let total: u64 = published.iter().copied().map(u64::from).sum();
        let retransmitted = self.counts.retransmitted.load(Ordering::Relaxed);
        let (subscriber, broken) = &*self.ledger.look();
        let (replay, _) = &*replayed.look();
        let memory = block_in_place(|| self.gateway.memory().resident) >> 20;
        eprintln!(
            "{name}: seed {}, {kills} kills, {total} events acknowledged at {:.0}/s ({} wanted), subscriber: {} lost, {} twice, \
             {} out of order, {broken} connections broken; stream: {} lost, {} twice, {} out of order; {retransmitted} retransmitted; \
             drained in {drained_for:.1?}, replayed in {replayed_for:.1?}, {memory} MiB resident{}",
            self.load.seed,
            total as f64 / published_for.as_secs_f64(),
            self.load.events_per_second,
            subscriber.lost(&published),
            subscriber.duplicates,
            subscriber.out_of_order,
            replay.lost(&published),
            replay.duplicates,
            replay.out_of_order,
            summary_of(starts),
        );

        let slowest = starts.iter().max().copied().unwrap_or_default();
        assert!(slowest < READY, "{slowest:?} from start to ready");
        // At some 180 bytes each, more than the log may have.
        if self.trimmed && trims() && total > 140_000 {
            let earliest = block_in_place(|| earliest(&self.gateway.data_dir().join("log")));
            assert!(earliest > 0, "nothing was trimmed: this run says little");
        }
        subscriber.assert_complete("the durable subscriber", &published);
        replay.assert_complete("the stream", &published);
        // What is in the log twice was published twice.
        assert!(replay.duplicates <= retransmitted, "{} in the log twice", replay.duplicates);
        assert!(retransmitted <= kills * u64::from(PUBLISHERS) * WINDOW as u64);
        let in_flight = retransmitted + kills * SUBSCRIBER_WINDOW;
        assert!(
            subscriber.duplicates <= in_flight,
            "{} delivered twice, {in_flight} were in flight",
            subscriber.duplicates
        );
        assert!(
            total as f64 >= 0.5 * published_for.as_secs_f64() * f64::from(self.load.events_per_second),
            "less than half the load: this run says little"
        );
        block_in_place(|| {
            let damage = self.gateway.said(|line| line.contains("damaged") || line.contains("set aside"));
            assert!(damage.is_empty(), "{damage:#?}");
            self.gateway.assert_alive();
            self.gateway.terminate();
        });
    }
}

/// Starts a consumer and waits for its SUBACK.
async fn spawn(
    consumer: Consumer,
    tally: Tally,
    orders: &watch::Sender<Orders>,
) -> (Arc<Ledger>, JoinHandle<()>) {
    let ledger = Arc::new(Ledger::of(tally));
    let subscribed = watch::Sender::new(false);
    let mut is_subscribed = subscribed.subscribe();
    let (orders, own) = (orders.subscribe(), ledger.clone());
    let task = tokio::spawn(async move { consumer.run(orders, &own, subscribed).await });
    is_subscribed.wait_for(|subscribed| *subscribed).await.expect("the consumer subscribes");
    (ledger, task)
}

/// Waits until `ledger` has reached the end of what was published, or nothing has come for long.
async fn await_all(ledger: &Ledger, published: &[u32], consumer: &JoinHandle<()>) {
    let mut last = (0, Instant::now());
    loop {
        {
            let (tally, _) = &*ledger.look();
            if tally.has_reached(published) {
                return;
            }
            if tally.received != last.0 {
                last = (tally.received, Instant::now());
            } else if last.1.elapsed() > STALLED {
                eprintln!("nothing received for {STALLED:?}: {} events are missing", tally.lost(published));
                return;
            }
        }
        assert!(!consumer.is_finished(), "the consumer has panicked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn summary_of(starts: &[Duration]) -> String {
    let mut sorted = starts.to_vec();
    sorted.sort_unstable();
    match (sorted.first(), sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(first), Some(middle), Some(last)) => {
            format!(
                "; from start to ready: {first:.0?} at best, {middle:.0?} in the middle, {last:.0?} at worst"
            )
        }
        _ => String::new(),
    }
}

/// Kills and restarts the gateway so many times.
async fn kill_gateway(scene: &mut Scene, alive_ms: Range<u64>) -> Vec<Duration> {
    let mut rng = ChaCha8Rng::seed_from_u64(scene.load.seed);
    let mut starts = Vec::new();
    for kill in 0..scene.load.kills {
        let alive = Duration::from_millis(rng.random_range(alive_ms.clone()));
        tokio::time::sleep(alive).await;
        scene.orders.send_modify(|orders| orders.gateway_up = false);
        let start = block_in_place(|| {
            scene.gateway.kill();
            scene.gateway.restart()
        });
        scene.orders.send_modify(|orders| orders.gateway_up = true);
        eprintln!(
            "kill {kill}: after {alive:?}, ready again in {start:.0?}; {} events acknowledged so far",
            scene.counts.acknowledged.load(Ordering::Relaxed)
        );
        starts.push(start);
        assert!(!scene.consumer.is_finished(), "the consumer has panicked");
    }
    // The last start is under load as well.
    tokio::time::sleep(Duration::from_millis(alive_ms.start)).await;
    starts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_gateway_is_killed() {
    let load = Load::from_environment();
    let mut scene = Scene::begin(load, ProtocolVersion::V5, None, &[]).await;
    let starts = kill_gateway(&mut scene, ALIVE_MS).await;
    scene.end("gateway killed", u64::from(load.kills), &starts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_gateway_is_killed_while_it_trims() {
    let load = Load::from_environment().part();
    let mut sets = TRIMMING.to_vec();
    if trims() {
        sets.push(NEARLY_FULL);
    }
    let mut scene = Scene::begin(load, ProtocolVersion::V5, None, &sets).await;
    let starts = kill_gateway(&mut scene, ALIVE_TRIMMING_MS).await;
    scene.end("gateway killed while it trims", u64::from(load.kills), &starts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_consumer_is_killed() {
    let load = Load::from_environment().part();
    let deaths = Deaths { seed: load.seed, lives_ms: 20..400, away_ms: 0..300 };
    let scene = Scene::begin(load, ProtocolVersion::V3_1_1, Some(deaths), &[]).await;
    let enough = u64::from(load.kills) * 2;
    while u64::from(scene.ledger.look().1) < enough {
        assert!(!scene.consumer.is_finished(), "the consumer has panicked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let kills = u64::from(scene.ledger.look().1) + 1;
    scene.end("consumer killed", kills, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_both_are_killed() {
    let load = Load::from_environment().part();
    let deaths = Deaths { seed: load.seed, lives_ms: 100..600, away_ms: 0..900 };
    let mut scene = Scene::begin(load, ProtocolVersion::V5, Some(deaths), &[]).await;
    let starts = kill_gateway(&mut scene, ALIVE_MS).await;
    let kills = u64::from(load.kills) + u64::from(scene.ledger.look().1) + 1;
    scene.end("both killed", kills, &starts).await;
}

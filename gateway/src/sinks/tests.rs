//! The runner on an engine in memory, writing to a target that fails as it is told.

use super::batch::BatchLimits;
use super::runner::Runner;
use super::status::{Board, SinkState};
use super::target::{Failure, Outage, OutageKind, Row, Target};
use crate::clock;
use crate::engine::{
    BacklogLimits, ConsumerEntry, ConsumerSpec, Engine, EngineOptions, LettersChange, Order, Rules,
    ShareStrategy, StreamOptions, WhenFull,
};
use gateway_storage::log::segments::disk::RealDisk;
use gateway_storage::{
    Checkpoints, Entry, Event, GroupCommitOptions, MemoryHandle, MemoryLog, Offset, Reserve, Staging, View,
    ViewOptions,
};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the target has, and how it behaves.
#[derive(Default)]
struct World {
    written: Vec<(u64, Vec<u8>)>,
    batches: Vec<usize>,
    /// Payloads that are refused.
    poison: HashSet<Vec<u8>>,
    /// Attempts that fail from now on.
    outages: u32,
    /// The place the target keeps, if it keeps one.
    keeps: Option<u64>,
    opened: u32,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<World>>);

impl Fake {
    fn try_write(&self, rows: &[Row<'_>]) -> Result<(), Failure> {
        let mut world = self.0.lock().unwrap();
        if world.outages > 0 {
            world.outages -= 1;
            return Err(Outage::new(OutageKind::Server, "out of order").into());
        }
        if rows.iter().any(|row| world.poison.contains(row.event.payload)) {
            return Err(Failure::Refused("it is poison".into()));
        }
        world.batches.push(rows.len());
        world.written.extend(rows.iter().map(|row| (row.offset.get(), row.event.payload.to_vec())));
        Ok(())
    }
}

impl Target for Fake {
    async fn open(&mut self, _: u64) -> Result<Option<Offset>, Outage> {
        let mut world = self.0.lock().unwrap();
        world.opened += 1;
        Ok(world.keeps.map(Offset::new))
    }

    async fn write(&mut self, rows: &[Row<'_>], next: Offset) -> Result<(), Failure> {
        self.try_write(rows)?;
        let mut world = self.0.lock().unwrap();
        world.keeps = world.keeps.map(|_| next.get());
        Ok(())
    }

    async fn write_late(&mut self, row: &Row<'_>) -> Result<(), Failure> {
        self.try_write(std::slice::from_ref(row))
    }

    async fn lost(&mut self) -> Outage {
        std::future::pending().await
    }
}

struct Scene {
    log: MemoryHandle,
    engine: Engine,
    consumer: Arc<ConsumerEntry>,
    fake: Fake,
    _dir: tempfile::TempDir,
}

const NAME: &str = "sink/test";

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (view, _) = View::open(dir.path().join("view"), ViewOptions::default()).unwrap();
        let options = EngineOptions {
            view_save_interval: Duration::from_millis(100),
            letters_max_age_ms: 1 << 40,
            dedup: crate::engine::DedupOptions::default(),
            streams: vec![StreamOptions {
                name: "all".into(),
                topics: vec!["#".into()],
                max_age_ms: 1 << 40,
                max_bytes: 1 << 40,
            }],
            rules: Rules {
                backlog: BacklogLimits { messages_max: 100_000, bytes_max: 1 << 30 },
                share: ShareStrategy::RoundRobin,
                when_full: WhenFull::DropNewest,
                losses: 0,
                consumers_max: 10,
                letters: crate::engine::LetterLimits::default(),
            },
            segment_bytes: 1 << 20,
            recent_bytes: 1 << 20,
            commit: GroupCommitOptions::default(),
        };
        let checkpoints = Checkpoints::open(dir.path().join("checkpoint"), Arc::new(RealDisk)).unwrap();
        let log = Box::new(MemoryLog::new());
        let handle = log.handle();
        let engine =
            Engine::start(log, view, checkpoints, Reserve::none(), options, Box::new(|_| {})).unwrap();
        let spec = ConsumerSpec {
            stream: "all".into(),
            filter: "wanted/#".into(),
            start: 0,
            ack_wait_ms: 0,
            max_deliver: 1,
            backoff_ms: Vec::new(),
            max_ack_pending: 100,
            order: Order::Key,
            paused: false,
            configured: true,
            generation: 1,
        };
        let mut staging = Staging::new();
        staging.push(&Entry::ConsumerSet { name: NAME, at_ms: 1, spec: &spec.encode() }).unwrap();
        engine.store(&mut staging).await.unwrap();
        let consumer = engine.consumer(NAME).unwrap();
        Self { log: handle, engine, consumer, fake: Fake::default(), _dir: dir }
    }

    fn run(&self, events: usize) -> (JoinHandle<()>, watch::Sender<bool>, Arc<Board>) {
        let (stop, stopped) = watch::channel(false);
        let board = Arc::new(Board::new("test", "fake", NAME));
        let limits = BatchLimits { events, bytes: 1 << 20 };
        let (engine, consumer, fake) = (self.engine.clone(), self.consumer.clone(), self.fake.clone());
        let runner = Runner::new(engine, consumer, fake, limits, board.clone(), stopped);
        (tokio::spawn(runner.run()), stop, board)
    }

    async fn publish(&self, topic: &str, payloads: impl IntoIterator<Item = u32>) {
        let mut staging = Staging::new();
        for payload in payloads {
            let payload = payload.to_string();
            let event = Event {
                client_id: "p",
                topic,
                qos: 1,
                retain: false,
                received_ms: clock::unix_ms(),
                expires_at_ms: 0,
                properties: &[],
                payload: payload.as_bytes(),
            };
            staging.push_event(&event).unwrap();
        }
        self.engine.store(&mut staging).await.unwrap();
    }

    fn written(&self) -> Vec<u32> {
        let world = self.fake.0.lock().unwrap();
        world
            .written
            .iter()
            .map(|(_, payload)| std::str::from_utf8(payload).unwrap().parse().unwrap())
            .collect()
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.written());
    }
}

#[tokio::test]
async fn events_are_written_in_their_order_and_only_those_that_are_wanted() {
    let scene = Scene::new().await;
    scene.publish("wanted/a", 0..50).await;
    scene.publish("other", 1000..1010).await;
    let (task, stop, board) = scene.run(16);
    scene.publish("wanted/b", 50..100).await;
    scene.until("all are written", |scene| scene.written().len() == 100).await;
    assert!(scene.written().into_iter().eq(0..100));
    assert!(scene.fake.0.lock().unwrap().batches.iter().all(|events| *events <= 16));
    scene.until("they are acknowledged", |scene| scene.consumer.state().acked == 100).await;
    assert_eq!((board.read().state, board.read().written), (SinkState::Up, 100));
    let _ = stop.send(true);
    task.await.unwrap();
    scene.engine.shutdown();
}

#[tokio::test(start_paused = true)]
async fn an_outage_loses_nothing_and_shows() {
    let scene = Scene::new().await;
    scene.fake.0.lock().unwrap().outages = 6;
    scene.publish("wanted/a", 0..10).await;
    let (task, stop, board) = scene.run(4);
    scene.until("it is down", |_| matches!(board.read().state, SinkState::Down { .. })).await;
    scene.until("all are written", |scene| scene.written().len() == 10).await;
    assert!(scene.written().into_iter().eq(0..10));
    assert_eq!(board.read().failures, 6);
    assert_eq!(scene.fake.0.lock().unwrap().batches.first(), Some(&1), "one event is tried first");
    assert_eq!(board.read().state, SinkState::Up);
    let _ = stop.send(true);
    task.await.unwrap();
    scene.engine.shutdown();
}

#[tokio::test]
async fn what_is_refused_becomes_a_dead_letter_and_all_else_is_written() {
    let scene = Scene::new().await;
    for poison in ["3", "4", "17"] {
        scene.fake.0.lock().unwrap().poison.insert(poison.into());
    }
    scene.publish("wanted/a", 0..20).await;
    let (task, stop, board) = scene.run(20);
    scene.until("the others are written", |scene| scene.written().len() == 17).await;
    assert!(scene.written().into_iter().eq((0..20).filter(|number| ![3, 4, 17].contains(number))));
    let letters = scene.engine.dead_letters(NAME, None, 10);
    let payloads: Vec<&[u8]> = letters.iter().map(|letter| letter.event().payload).collect();
    assert_eq!(payloads, [b"3".as_slice(), b"4", b"17"]);
    assert!(letters.iter().all(|letter| &*letter.note == "it is poison" && &*letter.worker == NAME));
    assert_eq!(board.read().rejected, 3);

    // The target learns to take them, and they are redriven.
    scene.fake.0.lock().unwrap().poison.clear();
    let change = LettersChange::Redriven(letters.iter().map(|letter| (letter.offset(), 0)).collect());
    let mut staging = Staging::new();
    let entry = Entry::DeadLettersChanged { name: NAME, at_ms: 1, change: &change.encode() };
    staging.push(&entry).unwrap();
    scene.engine.store(&mut staging).await.unwrap();
    scene.until("they are written late", |scene| scene.written().len() == 20).await;
    scene.until("they are no letters", |scene| scene.engine.dead_letters(NAME, None, 10).is_empty()).await;
    scene.publish("wanted/a", [20]).await;
    scene.until("the next one is written", |scene| scene.written().contains(&20)).await;
    assert_eq!(scene.written().len(), 21, "each of them once");
    let _ = stop.send(true);
    task.await.unwrap();
    scene.engine.shutdown();
}

#[tokio::test]
async fn a_target_that_keeps_its_place_gets_each_event_once_over_restarts() {
    let scene = Scene::new().await;
    scene.fake.0.lock().unwrap().keeps = Some(0);
    for round in 0..20 {
        let (task, _stop, _) = scene.run(7);
        scene.publish("wanted/a", round * 50..(round + 1) * 50).await;
        // Wherever it is.
        task.abort();
        let _ = task.await;
    }
    let (task, stop, _) = scene.run(7);
    scene.until("all are written", |scene| scene.written().len() >= 1000).await;
    assert!(scene.written().into_iter().eq(0..1000));
    let _ = stop.send(true);
    task.await.unwrap();
    scene.engine.shutdown();
}

#[tokio::test]
async fn a_target_that_keeps_no_place_goes_on_where_the_consumer_is() {
    let scene = Scene::new().await;
    scene.publish("wanted/a", 0..10).await;
    let (task, stop, _) = scene.run(100);
    scene.until("they are acknowledged", |scene| scene.consumer.state().acked == 10).await;
    let _ = stop.send(true);
    task.await.unwrap();
    scene.publish("wanted/a", 10..20).await;
    let (task, stop, _) = scene.run(100);
    scene.until("all are written", |scene| scene.written().len() >= 20).await;
    assert!(scene.written().into_iter().eq(0..20));
    let _ = stop.send(true);
    task.await.unwrap();
    scene.engine.shutdown();
}

#[tokio::test]
async fn a_sink_goes_on_while_the_log_takes_nothing_and_writes_nothing_twice() {
    let scene = Scene::new().await;
    scene.publish("wanted/a", 0..100).await;
    scene.log.faults().fail_sync(1);
    let mut staging = Staging::new();
    staging.push(&Entry::WillCleared { client_id: "nobody" }).unwrap();
    assert!(scene.engine.store(&mut staging).await.is_err());
    assert!(scene.engine.is_poisoned());
    let (task, stop, _) = scene.run(4);
    scene.until("all are written", |scene| scene.written().len() >= 100).await;
    scene.until("the log is open again", |scene| !scene.engine.is_poisoned()).await;
    scene.publish("wanted/a", 100..110).await;
    scene.until("what came later is written", |scene| scene.written().len() >= 110).await;
    assert!(scene.written().into_iter().eq(0..110), "each of them once");
    scene.until("all are acknowledged", |scene| scene.consumer.state().acked == 110).await;
    let _ = stop.send(true);
    task.await.unwrap();
    scene.engine.shutdown();
}

#[tokio::test]
async fn the_consumer_of_a_sink_is_shown_paused_and_once_its_sink_is_gone_removed() {
    use crate::consumer::{
        ConsumerChanges, ConsumerCondition, ConsumerError, ConsumerLimits, ConsumerStatus, Consumers,
    };
    let scene = Scene::new().await;
    let consumers = Consumers::start(scene.engine.clone(), ConsumerLimits::default());
    let status = || -> ConsumerStatus { consumers.list().pop().expect("it is shown") };
    scene.publish("wanted/1", 0..3).await;
    assert_eq!((&*status().name, status().state), (NAME, ConsumerCondition::Running));
    assert_eq!(status().lag_events, 3);
    consumers.pause(NAME).await.unwrap();
    assert_eq!((status().state, status().paused), (ConsumerCondition::Paused, true));
    let (task, stop, board) = scene.run(10);
    scene.until("it is paused", |_| board.read().state == SinkState::Paused).await;
    assert_eq!(scene.written(), [0; 0]);
    consumers.resume(NAME).await.unwrap();
    scene.until("all are written", |scene| scene.written() == [0, 1, 2]).await;
    scene.until("the log knows", |_| status().lag_events == 0 && status().acked == 3).await;
    let filter = ConsumerChanges { filter: Some("x".into()), ..ConsumerChanges::default() };
    assert!(matches!(consumers.alter(NAME, filter).await, Err(ConsumerError::Invalid(_))));
    assert!(consumers.get(NAME).is_none(), "nobody else works for it");

    // It stands in the configuration no more.
    stop.send_replace(true);
    task.await.unwrap();
    let (_stop, stopped) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    super::Sinks::start(&scene.engine, &[], &crate::spans::Spans::default(), &stopped, &mut tasks)
        .await
        .unwrap();
    assert_eq!((status().state, status().spec.configured), (ConsumerCondition::Idle, false));
    consumers.delete(NAME).await.unwrap();
    assert!(consumers.list().is_empty());
    consumers.shutdown().await;
    scene.engine.shutdown();
}

//! An engine with one stream and one consumer, and workers that a test can wait for.

use super::*;
use crate::engine::{
    BacklogLimits, DeadLetter, DedupOptions, Engine, EngineOptions, LetterLimits, Order, Rules,
    ShareStrategy, StreamOptions, WhenFull,
};
use gateway_storage::log::segments::disk::RealDisk;
use gateway_storage::{
    Checkpoints, Event, GroupCommitOptions, MemoryHandle, MemoryLog, Reserve, Staging, Urgency, View,
    ViewOptions,
};
use std::future::poll_fn;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::task::{Poll, Waker};

pub(super) const WORKERS_MAX: usize = 3;
const WAIT: Duration = Duration::from_secs(20);

pub(super) struct Rig {
    pub(super) engine: Engine,
    pub(super) consumers: Consumers,
    pub(super) log: MemoryHandle,
    dir: Option<tempfile::TempDir>,
}

/// All events of the stream `telemetry`.
pub(super) fn options() -> ConsumerOptions {
    ConsumerOptions {
        stream: "telemetry".into(),
        filter: "#".into(),
        from: From::Earliest,
        ack_wait_ms: 1000,
        max_deliver: 5,
        backoff_ms: Vec::new(),
        max_ack_pending: 100,
        order: Order::None,
        configured: false,
    }
}

/// The number that an event was published with.
pub(super) fn payload(delivery: &Delivery) -> u32 {
    let event = delivery.event().unwrap();
    u32::from_le_bytes(event.payload.try_into().unwrap())
}

fn start(log: MemoryLog, dir: tempfile::TempDir) -> Rig {
    let handle = log.handle();
    let (view, _) = View::open(dir.path().join("view"), ViewOptions::default()).unwrap();
    let checkpoints = Checkpoints::open(dir.path().join("checkpoint"), Arc::new(RealDisk)).unwrap();
    let engine_options = EngineOptions {
        view_save_interval: Duration::from_millis(1),
        streams: vec![StreamOptions {
            name: "telemetry".into(),
            topics: vec!["devices/#".into()],
            max_age_ms: 1 << 40,
            max_bytes: 1 << 30,
        }],
        rules: Rules {
            backlog: BacklogLimits { messages_max: 1000, bytes_max: 1 << 20 },
            share: ShareStrategy::RoundRobin,
            when_full: WhenFull::DropNewest,
            losses: 0,
            consumers_max: 2,
            letters: LetterLimits { bytes_max: 64 << 20, count_max: 1000 },
        },
        letters_max_age_ms: 1 << 40,
        dedup: DedupOptions::default(),
        segment_bytes: 1 << 20,
        recent_bytes: 4096,
        commit: GroupCommitOptions {
            lazy_delay: Duration::from_millis(1),
            reopen_delay: Duration::from_millis(300),
            ..GroupCommitOptions::default()
        },
    };
    let engine =
        Engine::start(Box::new(log), view, checkpoints, Reserve::none(), engine_options, Box::new(|_| {}))
            .unwrap();
    let limits = ConsumerLimits { workers_max: WORKERS_MAX, hang_limit: 0, read_ahead_bytes: 2048 };
    let consumers = Consumers::start(engine.clone(), limits);
    Rig { engine, consumers, log: handle, dir: Some(dir) }
}

impl Rig {
    /// An empty log, and the consumer `work`.
    pub(super) async fn new(options: ConsumerOptions) -> Self {
        let rig = start(MemoryLog::new(), tempfile::tempdir().unwrap());
        rig.consumers.create("work", options).await.unwrap();
        rig
    }

    /// Everything goes but what the log has at this moment, and is started again on that.
    pub(super) async fn crash(mut self) -> Self {
        let log = self.log.crash(7);
        self.end().await;
        let dir = self.dir.take().unwrap();
        // They may know of what was stored since.
        std::fs::remove_dir_all(dir.path().join("view")).unwrap();
        std::fs::remove_dir_all(dir.path().join("checkpoint")).unwrap();
        drop(self);
        start(log, dir)
    }

    pub(super) async fn end(&mut self) {
        self.consumers.shutdown().await;
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || engine.shutdown()).await.unwrap();
    }

    pub(super) async fn publish(&self, numbers: Range<u32>) {
        self.publish_all("devices/x", 0, numbers).await;
    }

    pub(super) async fn publish_to(&self, topic: &str, numbers: Range<u32>) {
        self.publish_all(topic, 0, numbers).await;
    }

    pub(super) async fn publish_expired(&self, numbers: Range<u32>) {
        self.publish_all("devices/x", 1, numbers).await;
    }

    async fn publish_all(&self, topic: &str, expires_at_ms: u64, numbers: Range<u32>) {
        let mut staging = Staging::new();
        for number in numbers {
            let payload = number.to_le_bytes();
            let event = Event {
                client_id: "p",
                topic,
                qos: 1,
                retain: false,
                received_ms: 1,
                expires_at_ms,
                properties: &[],
                payload: &payload,
            };
            staging.push_event(&event).unwrap();
        }
        let ticket = self.engine.submit(&mut staging, Urgency::Now, Waker::noop(), None).unwrap();
        self.until("it is stored", || self.engine.receipt().is_some_and(|receipt| receipt.covers(ticket)))
            .await;
    }

    /// Waits until the log has failed, as it was told to.
    pub(super) async fn poison(&self) {
        let mut staging = Staging::new();
        staging.push(&gateway_storage::Entry::WillCleared { client_id: "nobody" }).unwrap();
        let _ = self.engine.submit(&mut staging, Urgency::Now, Waker::noop(), None);
        self.until("the log has failed", || self.engine.is_poisoned()).await;
    }

    pub(super) async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + WAIT;
        while !holds() {
            assert!(Instant::now() < end, "not within {WAIT:?}: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) fn consumer(&self) -> Consumer {
        self.consumers.get("work").unwrap()
    }

    pub(super) fn status(&self) -> ConsumerStatus {
        self.consumers.status("work").unwrap()
    }

    pub(super) fn open(&self) -> BTreeMap<u64, OpenItem> {
        self.engine.consumer("work").unwrap().state().open.clone()
    }

    pub(super) fn letters(&self) -> Vec<Arc<DeadLetter>> {
        self.engine.dead_letters("work", None, 1000)
    }

    pub(super) fn join(&self, name: &str, credit: u32) -> Tester {
        Tester(self.consumer().join(name, WorkerKind::Sink, credit, Waker::noop().clone()).unwrap())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Blocks for as long as the committer takes to end.
        self.engine.shutdown();
    }
}

/// A worker that can be waited for.
pub(super) struct Tester(Worker);

impl Deref for Tester {
    type Target = Worker;

    fn deref(&self) -> &Worker {
        &self.0
    }
}

impl DerefMut for Tester {
    fn deref_mut(&mut self) -> &mut Worker {
        &mut self.0
    }
}

impl Tester {
    pub(super) async fn next(&mut self) -> Delivery {
        self.next_within(WAIT).await.expect("an event")
    }

    pub(super) async fn next_within(&mut self, limit: Duration) -> Option<Delivery> {
        let next = poll_fn(|cx| match self.0.poll_next(cx) {
            Poll::Ready(Handed::Item(delivery)) => Poll::Ready(delivery),
            Poll::Ready(Handed::Ended(ended)) => panic!("it has ended: {ended:?}"),
            Poll::Pending => Poll::Pending,
        });
        tokio::time::timeout(limit, next).await.ok()
    }
}

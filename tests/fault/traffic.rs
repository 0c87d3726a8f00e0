//! Publishers and a durable subscriber on a gateway in this process, and the reckoning after it has come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_protocol::Properties;
use gateway_protocol::packet::Packet;
use gateway_tests::{Hello, ProtocolVersion, QoS, ReasonCode, wait};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::consumer::{Consumer, Ledger};
use crate::event::Event;
use crate::fleet::{Acknowledged, Counts, Orders, Publisher};
use crate::lab::{pause, try_connect};
use crate::tally::Tally;
use crate::wire::ends;

/// The name of the durable subscriber.
pub(crate) const BACKEND: &str = "backend";
/// Publishers of the test's own beside those of the traffic; the last of them publishes the last event of all.
const EXTRA: u32 = 4;
/// How often a log is trimmed, and how often one that is trimmed is read at most.
const TRIMS_EVERY: Duration = Duration::from_secs(1);
const TRIES: u32 = 5;
/// How long reading back may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Publishers there are at most, for a [`Tally`].
pub(crate) const fn slots(publishers: u32) -> usize {
    (publishers + EXTRA) as usize
}

/// Clients on a runtime of their own.
pub(crate) struct Traffic {
    runtime: Runtime,
    publishers: u32,
    orders: watch::Sender<Orders>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// What the durable subscriber has received.
    pub(crate) backend: Arc<Ledger>,
    writers: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Connects and subscribes the durable subscriber, then begins to publish.
    pub(crate) fn begin(address: SocketAddr, publishers: u32, events_per_second: u32) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
        let orders = watch::Sender::new(Orders { gateway_up: true, publish: true });
        let backend = Arc::new(Ledger::new(slots(publishers)));
        let mut traffic = Self {
            runtime,
            publishers,
            orders,
            counts: Arc::default(),
            // Not `vec![..; n]`: each has its own.
            acknowledged: (0..publishers).map(|_| Acknowledged::default()).collect(),
            backend,
            writers: Vec::new(),
            readers: Vec::new(),
        };
        let subscribed = traffic.listen(address, traffic.backend.clone(), false);
        wait::until("SUBACK", READ_TIMEOUT, || subscribed.borrow().then_some(()));
        let began = Instant::now();
        let events_per_second = f64::from(events_per_second) / f64::from(publishers);
        for number in 0..publishers {
            let acknowledged = Some(traffic.acknowledged[number as usize].clone());
            let publisher = Publisher { number, address, events_per_second, began, acknowledged };
            let (orders, counts) = (traffic.orders.subscribe(), traffic.counts.clone());
            let task = traffic.runtime.spawn(async move {
                publisher.run(orders, &counts).await;
            });
            traffic.writers.push(task);
        }
        traffic
    }

    /// The durable subscriber listens. Set once it has subscribed.
    fn listen(&mut self, address: SocketAddr, ledger: Arc<Ledger>, again: bool) -> watch::Receiver<bool> {
        let hello = Hello::durable(ProtocolVersion::V5, BACKEND);
        let consumer = Consumer { address, hello, filter: "devices/#", deaths: None };
        let subscribed = watch::Sender::new(again);
        let is_subscribed = subscribed.subscribe();
        let orders = self.orders.subscribe();
        let task = self.runtime.spawn(async move { consumer.run(orders, &ledger, subscribed).await });
        self.readers.push(task);
        is_subscribed
    }

    /// Nobody connects any more; whoever is connected goes on.
    pub(crate) fn stop_connecting(&self) {
        self.orders.send_modify(|orders| orders.gateway_up = false);
    }

    /// No new events; returns when everything is acknowledged.
    pub(crate) fn finish(&self, limit: Duration) {
        self.orders.send_modify(|orders| orders.publish = false);
        wait::until("the last acknowledgements", limit, || {
            self.writers.iter().all(JoinHandle::is_finished).then_some(())
        });
    }

    /// Nobody does anything any more. How many events each publisher has had acknowledged.
    pub(crate) fn abort(&mut self) -> Vec<u32> {
        for task in self.writers.drain(..).chain(self.readers.drain(..)) {
            task.abort();
            match self.runtime.block_on(task) {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ => {}
            }
        }
        self.acknowledged_now()
    }

    /// How many events each publisher has had acknowledged so far.
    pub(crate) fn acknowledged_now(&self) -> Vec<u32> {
        let mut counts: Vec<u32> = self.acknowledged.iter().map(Acknowledged::count).collect();
        counts.resize(slots(self.publishers), 0);
        counts
    }

    /// Reads the stream from its earliest event on, and goes on reading.
    pub(crate) fn read_stream(&mut self, address: SocketAddr, tally: Tally) -> Arc<Ledger> {
        let ledger = Arc::new(Ledger::of(tally));
        // A second reader beside the first one is another client.
        let name = format!("replay-{}", self.readers.len());
        let hello = Hello::new(ProtocolVersion::V5, &name);
        let replay = Consumer { address, hello, filter: "$stream/telemetry/earliest/#", deaths: None };
        let (orders, own) = (self.orders.subscribe(), ledger.clone());
        let task =
            self.runtime.spawn(async move { replay.run(orders, &own, watch::Sender::new(false)).await });
        self.readers.push(task);
        ledger
    }

    /// On the gateway as it came back: the rest of what waited for the durable subscriber, and the stream from its
    /// earliest event on. What both have received in all. `trimmed`: the stream begins in the middle.
    pub(crate) fn read_back(&mut self, address: SocketAddr, trimmed: bool) -> Books {
        self.orders.send_modify(|orders| orders.gateway_up = true);
        self.listen(address, self.backend.clone(), true);
        // Both receive in the order of the log: once the last event of all is there, everything is.
        let last = slots(self.publishers) - 1;
        publish_last(address, Event { publisher: last as u32, number: 0 });
        let is_there = |ledger: &Ledger| (ledger.look().0.next_of(last) > 0).then_some(());
        wait::until("the durable subscriber", READ_TIMEOUT, || is_there(&self.backend));
        let mut tries = 0;
        let stream = loop {
            let new = if trimmed { Tally::from_anywhere } else { Tally::new };
            let stream = self.read_stream(address, new(slots(self.publishers)));
            wait::until("the stream", READ_TIMEOUT, || is_there(&stream));
            tries += 1;
            // What is trimmed while it is read is passed over; the next reader begins behind it.
            if !trimmed || tries == TRIES || !stream.look().0.has_gaps() {
                break stream;
            }
            pause(TRIMS_EVERY);
        };
        self.abort();
        Books { backend: self.backend.clone(), stream }
    }
}

/// What was received in all.
pub(crate) struct Books {
    pub(crate) backend: Arc<Ledger>,
    pub(crate) stream: Arc<Ledger>,
}

impl Books {
    /// Nothing of `acknowledged` is missing, nothing is out of order, nothing is in the stream twice.
    pub(crate) fn assert_complete(&self, acknowledged: &[u32]) {
        self.backend.look().0.assert_complete("the durable subscriber", acknowledged);
        let (stream, _) = &*self.stream.look();
        stream.assert_complete("the stream", acknowledged);
    }

    /// Events of `acknowledged` that are missing: by the subscriber, and by the stream.
    pub(crate) fn lost(&self, acknowledged: &[u32]) -> (u64, u64) {
        (self.backend.look().0.lost(acknowledged), self.stream.look().0.lost(acknowledged))
    }
}

/// Publishes one event, again if it is refused for lack of room, and waits until it is acknowledged.
pub(crate) fn publish_last(address: SocketAddr, event: Event) {
    let topic = format!("devices/{}/telemetry", event.publisher);
    wait::until("the last acknowledgement", READ_TIMEOUT, || {
        let (mut client, _) = try_connect(address, &Hello::new(ProtocolVersion::V5, "last"))?;
        client.send_publish_with(&topic, &event.payload(), QoS::AtLeastOnce, Properties::default());
        match client.receive(READ_TIMEOUT).ok()?.packet() {
            Packet::PubAck(ack) => assert_eq!(ack.reason_code, ReasonCode::Success),
            Packet::Disconnect(last) if ends(last.reason_code) => return None,
            other => panic!("the last event: {other:?}"),
        }
        client.leave();
        Some(())
    });
}

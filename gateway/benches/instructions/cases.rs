//! What is counted: decoding and encoding, finding subscribers, group commit; delivery to live subscribers is in [`live`], counting
//! in [`books`].

pub(crate) mod books;
mod live;

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

use gateway::router::{Grant, RouteCache, Router};
use gateway_protocol::codec::{PublishFrame, encode_publish};
use gateway_protocol::packet::Publish;
use gateway_protocol::{
    Decoded, Packet, PacketId, Properties, ProtocolVersion, QoS, TopicFilter, decode, encode,
};
use gateway_storage::{
    Batch, CommittedGroup, Event, GroupCommit, GroupCommitOptions, Log, MemoryLog, Offset, ReceiptCell,
    Staging, Urgency,
};

/// Events of one group, and of one read of a connection.
pub(crate) const EVENTS_IN_GROUP: u64 = 32;

const ROUNDS: u64 = 1_000;
const VERSION: ProtocolVersion = ProtocolVersion::V5;
const TOPIC: &str = "devices/site-0012/sensor-0042/telemetry";
const PAYLOAD: [u8; 256] = [0x5A; 256];
const GRANT: Grant =
    Grant { qos: QoS::AtMostOnce, no_local: false, retain_as_published: false, subscription_id: 0 };

/// Something that is done `each` times.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) each: u64,
    run: Box<dyn FnMut()>,
}

impl Case {
    fn new(name: impl Into<String>, each: u64, run: impl FnMut() + 'static) -> Self {
        Self { name: name.into(), each, run: Box::new(run) }
    }

    /// Once to warm it up, once counted.
    pub(crate) fn measure(mut self) {
        (self.run)();
        counted(&mut self.run);
    }
}

/// callgrind counts while this runs, and knows it by its name.
#[inline(never)]
fn counted(run: &mut dyn FnMut()) {
    run();
    black_box(());
}

/// Makes a case; what one needs is made in the process that counts it, and nothing else.
pub(crate) type Make = Box<dyn Fn() -> Case>;

/// In the order in which they are reported.
pub(crate) fn all() -> Vec<Make> {
    let mut all: Vec<Make> = Vec::new();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        all.push(Box::new(move || decoding(qos)));
        all.push(Box::new(move || encoding(qos)));
    }
    all.push(Box::new(cached_route));
    for filters in [1, 100, 10_000] {
        all.push(Box::new(move || cold_route(filters)));
    }
    all.push(Box::new(staging));
    all.push(Box::new(reading));
    for subscribers in [1, 200] {
        all.push(Box::new(move || live::delivery(subscribers)));
    }
    all.push(Box::new(books::books));
    all
}

fn packet(qos: QoS) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        qos,
        retain: false,
        topic: TOPIC,
        packet_id: PacketId::new(77).filter(|_| qos != QoS::AtMostOnce),
        properties: Properties::default(),
        payload: &PAYLOAD,
    };
    let mut bytes = Vec::new();
    encode(&Packet::Publish(publish), VERSION, &mut bytes).expect("the packet is legal");
    bytes
}

fn decoding(qos: QoS) -> Case {
    let bytes = packet(qos);
    Case::new(format!("decode PUBLISH, 256 B, QoS {}", qos.as_u8()), ROUNDS, move || {
        for _ in 0..ROUNDS {
            let decoded = decode(black_box(&bytes), VERSION, 1 << 20);
            assert!(matches!(black_box(&decoded), Ok(Decoded::Packet { .. })));
        }
    })
}

fn encoding(qos: QoS) -> Case {
    let mut out = Vec::with_capacity(1024);
    Case::new(format!("encode PUBLISH, 256 B, QoS {}", qos.as_u8()), ROUNDS, move || {
        for _ in 0..ROUNDS {
            out.clear();
            let frame = PublishFrame {
                dup: false,
                qos,
                retain: false,
                topic: TOPIC,
                packet_id: PacketId::new(77).filter(|_| qos != QoS::AtMostOnce),
                extra: &[],
                properties: &[],
                payload: &PAYLOAD,
            };
            encode_publish(black_box(&frame), VERSION, &mut out).expect("the packet is legal");
            black_box(&out);
        }
    })
}

fn topics() -> Vec<String> {
    (0..ROUNDS).map(|number| format!("devices/site-{number:05}/sensor-0042/telemetry")).collect()
}

fn cached_route() -> Case {
    let topics = topics();
    let mut cache: RouteCache<Arc<[u64]>> = RouteCache::new(16_384);
    let answer: Arc<[u64]> = Arc::new([1, 2, 3]);
    Case::new("route, cached, 1,000 topics in turn", ROUNDS, move || {
        for topic in &topics {
            black_box(cache.get_or_find(1, black_box(topic.as_bytes()), || Arc::clone(&answer)));
        }
    })
}

/// A table with so many filters with wildcards. Each topic matches one of them.
fn cold_route(filters: u64) -> Case {
    let topics = topics();
    let mut router: Router<u64> = Router::default();
    for number in 0..filters {
        let filter = match number {
            0 => "devices/+/sensor-0042/#".to_owned(),
            _ => format!("devices/site-{number:05}/+/alarm"),
        };
        let filter = TopicFilter::parse(&filter).expect("the filter is legal");
        router.subscribe(number, number, filter, GRANT).expect("the filter is not too deep");
    }
    Case::new(format!("route, not cached, {filters} wildcard filters"), ROUNDS, move || {
        for topic in &topics {
            assert_eq!(black_box(router.matches(black_box(topic))).len(), 1);
        }
    })
}

fn event() -> Event<'static> {
    Event {
        client_id: "sensor-0042",
        topic: TOPIC,
        qos: 1,
        retain: false,
        received_ms: 1_767_225_600_123,
        expires_at_ms: 0,
        properties: &[],
        payload: &PAYLOAD,
    }
}

fn stage(staging: &mut Staging) {
    for _ in 0..EVENTS_IN_GROUP {
        staging.push_event(black_box(&event())).expect("the event is small");
    }
}

fn staging() -> Case {
    let mut staging = Staging::new();
    Case::new("stage an event for the log", ROUNDS * EVENTS_IN_GROUP, move || {
        for _ in 0..ROUNDS {
            staging.clear();
            stage(&mut staging);
        }
    })
}

/// A page of the log: checksum, index, and a look at each event.
fn reading() -> Case {
    const GROUPS: u64 = 100;
    let log = MemoryLog::new();
    let reader = log.reader();
    commit_into(log, GROUPS);
    Case::new("read an event back from the log", GROUPS * EVENTS_IN_GROUP, move || {
        let (mut from, mut events) = (Offset::ZERO, 0);
        while let Some(page) = reader.read_page(from, 1 << 20).expect("the log is whole") {
            events += look(&page.batch);
            from = page.next;
        }
        assert_eq!(events, GROUPS * EVENTS_IN_GROUP);
    })
}

fn look(batch: &Batch) -> u64 {
    (0..batch.len()).filter(|at| black_box(batch.event(*at)).is_some()).count() as u64
}

/// Stages, commits and walks so many groups, one after the other.
pub(crate) fn commit(groups: u64) {
    commit_into(MemoryLog::new(), groups);
}

fn commit_into(log: MemoryLog, groups: u64) {
    let receipts = Arc::new(ReceiptCell::new());
    let sink = {
        let receipts = Arc::clone(&receipts);
        Box::new(move |group: CommittedGroup| {
            assert_eq!(look(&group.batch), EVENTS_IN_GROUP);
            receipts.publish(group.durable);
            group.contributors.into_iter().for_each(Waker::wake);
        })
    };
    let options = GroupCommitOptions::default();
    let commit = GroupCommit::start(Box::new(log), options, Box::new(|| 1), sink).expect("a thread");
    let (mut staging, waker, mut last) = (Staging::new(), unparker(), None);
    for _ in 0..groups {
        stage(&mut staging);
        let ticket = commit.submit(&mut staging, Urgency::Now, &waker, last).expect("the log does not fail");
        while !receipts.load().is_some_and(|durable| durable.covers(ticket)) {
            thread::park();
        }
        last = Some(ticket);
    }
    commit.shutdown();
}

fn unparker() -> Waker {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    Waker::from(Arc::new(Unpark(thread::current())))
}

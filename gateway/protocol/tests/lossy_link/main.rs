//! A server `Session` and a model client over a link that keeps order and may be cut at any byte, with everything in flight lost.
//!
//! Both sides resume from what they remembered: the client from its memory, the host from what its log had. Whatever is cut and
//! whenever: at QoS 1 nothing is lost, at QoS 2 nothing is lost or doubled, order holds, and both quotas.
//!
//! The seed is fixed, so every run sees the same links; a failure prints its shortest one.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is a test: what is not as expected is to fail it"
)]

mod client;
mod host;

use client::{Client, Heard};
use gateway_protocol::session::ServerLimits;
use gateway_protocol::{Decoded, Packet, ProtocolVersion, QoS, decode};
use host::{Host, LIVE};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

/// Few topics, so that their aliases are used again.
const BACKLOG_TOPICS: u32 = 3;

fn topic(number: u32) -> String {
    format!("devices/{number}")
}

fn message(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload.try_into().expect("a message is its number"))
}

fn is_refused_by_host(number: u32) -> bool {
    number % 13 == 12
}

fn is_refused_by_client(number: u32) -> bool {
    number % 17 == 16
}

/// Shows `handle` every whole packet, until it wants no more. How many bytes it took.
fn each(bytes: &[u8], version: ProtocolVersion, mut handle: impl FnMut(Packet<'_>) -> bool) -> usize {
    let mut at = 0;
    while let Decoded::Packet { packet, consumed } =
        decode(&bytes[at..], version, usize::MAX).expect("both sides write MQTT")
        && handle(packet)
    {
        at += consumed;
    }
    at
}

/// One thing that happens; the number says how many bytes, entries or messages it is about.
#[derive(Clone, Copy, Debug)]
enum Step {
    ClientPublishes(QoS),
    Up(usize),
    Down(usize),
    Store(usize),
    Receipts(usize),
    Route(QoS),
    Feed(usize),
    Live(QoS),
    Cut(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let qos = || {
        select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce])
    };
    prop_oneof![
        4 => qos().prop_map(Step::ClientPublishes),
        5 => (1usize..60).prop_map(Step::Up),
        5 => (1usize..60).prop_map(Step::Down),
        3 => (1usize..5).prop_map(Step::Store),
        3 => (1usize..5).prop_map(Step::Receipts),
        3 => qos().prop_map(Step::Route),
        3 => (1usize..5).prop_map(Step::Feed),
        1 => qos().prop_map(Step::Live),
        1 => (0usize..6).prop_map(Step::Cut),
    ]
}

#[derive(Clone, Debug)]
struct Setting {
    version: ProtocolVersion,
    server_receive_maximum: u16,
    max_inflight: u16,
    client_receive_maximum: u16,
    client_topic_alias_maximum: u16,
    /// The number of the first durable delivery.
    start: u64,
}

fn setting() -> impl Strategy<Value = Setting> {
    let versions = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];
    // Identifiers of the durable lane begin again after 49,151.
    let start = prop_oneof![Just(0u64), 49_130u64..49_152, any::<u32>().prop_map(u64::from)];
    (select(versions.to_vec()), 1u16..6, 1u16..6, 1u16..6, 0u16..3, start).prop_map(
        |(version, server_receive_maximum, max_inflight, client_receive_maximum, aliases, start)| Setting {
            version,
            server_receive_maximum,
            max_inflight,
            client_receive_maximum,
            client_topic_alias_maximum: aliases,
            start,
        },
    )
}

struct Link {
    client: Client,
    host: Host,
    is_up: bool,
    /// Bytes on their way to the server.
    up: Vec<u8>,
    /// Bytes on their way to the client.
    down: Vec<u8>,
    /// Bytes that have arrived at the client, less than a packet.
    arrived: Vec<u8>,
}

impl Link {
    fn new(setting: &Setting) -> Self {
        let limits = ServerLimits {
            max_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_subscription_available: true,
            shared_subscription_available: true,
            subscription_identifiers_available: true,
            receive_maximum: setting.server_receive_maximum,
            max_inflight: setting.max_inflight,
            max_packet_bytes: 1 << 20,
            server_keep_alive_secs: 0,
            topic_alias_maximum: 0,
            session_expiry_max_secs: 3600,
            allow_empty_client_id: true,
            connect_timeout_ms: 5000,
        };
        let Setting { version, client_receive_maximum, client_topic_alias_maximum, start, .. } = *setting;
        Self {
            client: Client::new(version, client_receive_maximum, client_topic_alias_maximum),
            host: Host::new(limits, version, start, client_receive_maximum),
            is_up: false,
            up: Vec::new(),
            down: Vec::new(),
            arrived: Vec::new(),
        }
    }

    fn connect(&mut self) {
        if !self.is_up {
            self.is_up = true;
            self.host.listen();
            self.client.connect(&mut self.up);
        }
    }

    fn apply(&mut self, step: Step) {
        self.connect();
        match step {
            Step::ClientPublishes(qos) => self.client.publish(qos, &mut self.up),
            Step::Up(bytes) => {
                let arrived: Vec<u8> = self.up.drain(..bytes.min(self.up.len())).collect();
                self.host.receive(&arrived, &mut self.down);
            }
            Step::Down(bytes) => {
                self.arrived.extend(self.down.drain(..bytes.min(self.down.len())));
                for heard in self.client.read(&mut self.arrived, &mut self.up) {
                    self.check(&heard);
                }
            }
            Step::Store(count) => self.host.store(count),
            Step::Receipts(count) => self.host.receipts(count, &mut self.down),
            Step::Route(qos) => self.host.disk.backlog.push(qos),
            Step::Feed(count) => self.host.feed(count, &mut self.down),
            Step::Live(qos) => self.host.send_live(qos, &mut self.down),
            Step::Cut(stored) => {
                self.is_up = false;
                self.host.cut(stored);
                self.client.cut();
                self.up.clear();
                self.down.clear();
                self.arrived.clear();
            }
        }
    }

    /// Nothing is told to the client that the log does not know.
    fn check(&self, heard: &Heard) {
        let disk = &self.host.disk;
        match heard {
            Heard::Acknowledged(number) => {
                let is_stored = disk.log.iter().any(|(_, stored)| stored == number);
                assert!(is_stored || is_refused_by_host(*number), "{number} is acknowledged and not stored");
            }
            Heard::Completed(packet_id) => assert!(!disk.received.contains(packet_id)),
            Heard::Released(number) => assert!(disk.client_has(*number)),
        }
    }

    /// Without further cuts, until nothing moves.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            for step in [
                Step::Up(usize::MAX),
                Step::Store(usize::MAX),
                Step::Receipts(usize::MAX),
                Step::Feed(usize::MAX),
                Step::Down(usize::MAX),
            ] {
                self.apply(step);
            }
            // A reader that had stopped goes on.
            self.host.receive(&[], &mut self.down);
            if self.up.is_empty() && self.down.is_empty() && self.host.is_idle() {
                return;
            }
        }
        panic!("it never comes to rest");
    }
}

fn of(messages: &[(QoS, u32)], wanted: QoS) -> Vec<u32> {
    messages.iter().filter(|(qos, _)| *qos == wanted).map(|(_, number)| *number).collect()
}

/// Each message where it first appears.
fn first_of_each(messages: Vec<u32>) -> Vec<u32> {
    let mut seen = std::collections::BTreeSet::new();
    messages.into_iter().filter(|number| seen.insert(*number)).collect()
}

fn is_ascending(numbers: &[u32]) -> bool {
    numbers.windows(2).all(|pair| pair[0] < pair[1])
}

fn run(setting: &Setting, steps: &[Step]) {
    let mut link = Link::new(setting);
    for step in steps {
        link.apply(*step);
    }
    link.settle();
    let Link { client, host, .. } = &link;
    assert!(!client.has_unfinished(), "the client waits for an answer");
    host.assert_quiet();
    assert!(host.disk.received.is_empty() && host.disk.is_drained());

    // From the client to the host.
    let published = |qos| -> Vec<u32> {
        of(&client.published, qos).into_iter().filter(|number| !is_refused_by_host(*number)).collect()
    };
    assert_eq!(first_of_each(of(&host.disk.log, QoS::AtLeastOnce)), published(QoS::AtLeastOnce));
    assert_eq!(of(&host.disk.log, QoS::ExactlyOnce), published(QoS::ExactlyOnce));
    assert!(is_ascending(&host.at_most_once));

    // From the host to the client.
    let is_taken = |number: &u32| !setting.version.is_v5() || !is_refused_by_client(*number);
    let backlog: Vec<(QoS, u32)> = host.disk.backlog.iter().copied().zip(0..).collect();
    let due = |qos| -> Vec<u32> { of(&backlog, qos).into_iter().filter(is_taken).collect() };
    let (live, durable): (Vec<_>, Vec<_>) = client.taken.iter().partition(|(_, number)| *number >= LIVE);
    assert_eq!(first_of_each(of(&durable, QoS::AtLeastOnce)), due(QoS::AtLeastOnce));
    assert_eq!(of(&durable, QoS::ExactlyOnce), due(QoS::ExactlyOnce));
    assert!(is_ascending(&of(&live, QoS::AtLeastOnce)), "a live message is sent once");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(0x6c69_6e6b),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_is_lost_doubled_or_reordered(setting in setting(), steps in vec(step(), 1..400)) {
        run(&setting, &steps);
    }
}

//! One bit of the files of a store is flipped, each time another one. Whatever is delivered afterwards is as it was
//! published; what is missing lay in the group that was hit, and is reported.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::config::Config;
use gateway_protocol::ProtocolVersion;
use gateway_protocol::codec::{PublishFrame, encode_publish};
use gateway_protocol::packet::{Ack, Packet};
use gateway_storage::log::segments::disk::RealDisk;
use gateway_tests::{Client, Hello, QoS, wait};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Load;
use crate::event::Event;
use crate::lab::disk::{LabDisk, find};
use crate::lab::{InProcess, config, copy, earliest, logs, trims, try_connect};
use crate::traffic::{BACKEND, publish_last};

const PUBLISHERS: u32 = 3;
/// Events of each publisher that the view has seen, and those that only the log has.
const SAVED: u32 = 70;
const UNSAVED: u32 = 30;
/// Events of each publisher that the durable subscriber has acknowledged where the log is trimmed.
const CONSUMED: u32 = 40;
const EVENTS: u32 = SAVED + UNSAVED;
/// Events that are sent at once, and so are stored as one group.
const BURST: u32 = 10;
/// How long the next delivery may take.
const STEP: Duration = Duration::from_secs(20);
/// A start that was answered with an error has been answered in words.
const WORDS_MIN: usize = 4;

/// A store, and where its groups lie.
struct Store {
    _dir: tempfile::TempDir,
    data: PathBuf,
    config: Config,
    /// What was written at once: its file below the data directory, and its bytes there.
    groups: Vec<(PathBuf, Range<usize>)>,
    /// Everything but locks, with how far it is not just zeros.
    files: Vec<(PathBuf, usize, usize)>,
    /// What is delivered without a flip: by the stream, and to the durable subscriber.
    undamaged: Vec<Vec<Event>>,
}

impl Store {
    /// `trimmed`: part of it has been consumed, and the log begins behind that.
    fn make(trimmed: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (live, data) = (dir.path().join("live"), dir.path().join("data"));
        let disk = LabDisk::default();
        let mut config = config(&live, &["storage.view_save_interval_ms=100"]);
        config.storage.segment_bytes = 12 << 10;
        let all_bytes = config.streams[0].max_bytes;
        if trimmed {
            config.streams[0].max_bytes = 16 << 10;
        }
        let gateway = InProcess::start(config.clone(), Arc::new(disk.clone())).expect("it starts");
        let hello = Hello::durable(ProtocolVersion::V5, BACKEND);
        let (mut backend, _) = Client::connect(gateway.mqtt, &hello);
        backend.subscribe(&[("devices/#", QoS::AtLeastOnce)]);
        if trimmed {
            publish(&gateway, 0..CONSUMED);
            for _ in 0..CONSUMED * PUBLISHERS {
                take(&mut backend);
            }
        }
        backend.leave();
        publish(&gateway, if trimmed { CONSUMED } else { 0 }..SAVED);
        gateway.stop();
        if trimmed && trims() {
            // Of a log that is rather full, what can go goes at once.
            let writes = disk.writes();
            let of_log = writes.iter().filter(|(path, _, _)| path.starts_with(live.join("log")));
            let written: usize = of_log.map(|(_, _, len)| len).sum();
            let mut tight = config.clone();
            tight.storage.max_bytes = written as u64 * 100 / 85;
            let gateway = InProcess::start(tight, Arc::new(disk.clone())).expect("it starts");
            // Something is committed, however little.
            Client::connect(gateway.mqtt, &Hello::durable(ProtocolVersion::V5, "somebody")).0.leave();
            wait::until("the log is trimmed", STEP, || (earliest(&live.join("log")) > 0).then_some(()));
            gateway.stop();
        }
        config.storage.view_save_interval = Duration::from_secs(600);
        config.streams[0].max_bytes = all_bytes;
        let gateway = InProcess::start(config.clone(), Arc::new(disk.clone())).expect("it starts");
        publish(&gateway, SAVED..EVENTS);
        // As a kill would leave it.
        copy(&live, &data);
        gateway.stop();
        let below = |path: &Path| path.strip_prefix(&live).ok().map(Path::to_path_buf);
        let groups = disk
            .writes()
            .into_iter()
            .filter_map(|(path, at, len)| Some((below(&path)?, at as usize..at as usize + len)))
            .collect();
        let mut files = Vec::new();
        list(&data, &data, &mut files);
        files.sort();
        let mut store = Self { _dir: dir, data, config, groups, files, undamaged: Vec::new() };
        let undamaged = store.deliver(None).expect("it starts");
        store.undamaged = undamaged;
        store
    }

    /// A bit somewhere: every file is as likely as any other of its kind, and within it the part that holds data.
    fn choose(&self, rng: &mut ChaCha8Rng) -> Flip {
        let log = rng.random_bool(0.5);
        let of_kind: Vec<_> =
            self.files.iter().filter(|(path, len, _)| path.starts_with("log") == log && *len > 0).collect();
        let (path, len, data) = of_kind[rng.random_range(0..of_kind.len())];
        let whole = *data == 0 || rng.random_bool(0.1);
        let at = rng.random_range(0..if whole { *len } else { *data });
        Flip { path: path.clone(), at, bit: rng.random_range(0..8) }
    }

    /// The events in the group that `flip` hits.
    fn hit(&self, flip: &Flip) -> Vec<Event> {
        let group = self.groups.iter().find(|(path, range)| *path == flip.path && range.contains(&flip.at));
        let Some((path, range)) = group else { return Vec::new() };
        let contents = fs::read(self.data.join(path)).unwrap();
        let group = &contents[range.start.min(contents.len())..range.end.min(contents.len())];
        let all =
            (0..PUBLISHERS).flat_map(|publisher| (0..EVENTS).map(move |number| Event { publisher, number }));
        all.filter(|event| find(group, &event.payload()).is_some()).collect()
    }
}

/// Files below `dir`, with their lengths and how far they are not just zeros.
fn list(root: &Path, dir: &Path, files: &mut Vec<(PathBuf, usize, usize)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(root, &path, files);
        } else if path.file_name().is_some_and(|name| name != "LOCK") {
            let contents = fs::read(&path).unwrap();
            let data = contents.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            files.push((path.strip_prefix(root).unwrap().into(), contents.len(), data));
        }
    }
}

/// Every publisher sends these events, in bursts.
fn publish(gateway: &InProcess, numbers: Range<u32>) {
    for publisher in 0..PUBLISHERS {
        let hello = Hello::new(ProtocolVersion::V5, &format!("publisher-{publisher}"));
        let (mut client, _) = Client::connect(gateway.mqtt, &hello);
        for burst in numbers.clone().step_by(BURST as usize) {
            let mut bytes = Vec::new();
            for number in burst..burst + BURST {
                let frame = PublishFrame {
                    dup: false,
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    topic: &format!("devices/{publisher}/telemetry"),
                    packet_id: Some(client.new_id()),
                    extra: &[],
                    properties: &[],
                    payload: &Event { publisher, number }.payload(),
                };
                encode_publish(&frame, ProtocolVersion::V5, &mut bytes).expect("a legal PUBLISH");
            }
            client.send_bytes(&bytes);
            for _ in 0..BURST {
                client.await_frame("PUBACK", |packet| matches!(packet, Packet::PubAck(_)));
            }
        }
        client.leave();
    }
}

/// One bit.
#[derive(Clone, Debug)]
struct Flip {
    path: PathBuf,
    at: usize,
    bit: u32,
}

impl fmt::Display for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bit {} of byte {} of {}", self.bit, self.at, self.path.display())
    }
}

impl Flip {
    fn apply(&self, data: &Path) {
        let path = data.join(&self.path);
        let mut contents = fs::read(&path).unwrap();
        contents[self.at] ^= 1 << self.bit;
        fs::write(&path, contents).unwrap();
    }
}

/// What came of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything is there.
    Complete,
    /// Something is missing, and was reported.
    Lost,
    /// It did not start, and said why.
    Refused,
}

impl Store {
    /// Starts a gateway on a copy with one bit flipped, and reads the stream and what waits for the durable subscriber.
    ///
    /// # Errors
    /// What it says when it does not start.
    fn deliver(&self, flip: Option<&Flip>) -> Result<Vec<Vec<Event>>, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        copy(&self.data, &data);
        if let Some(flip) = flip {
            flip.apply(&data);
        }
        let mut config = self.config.clone();
        config.storage.data_dir = data;
        let gateway = InProcess::start(config, Arc::new(RealDisk)).map_err(|error| error.to_string())?;
        let (mut reader, _) = Client::connect(gateway.mqtt, &Hello::new(ProtocolVersion::V5, "reader"));
        reader.subscribe(&[("$stream/telemetry/earliest/#", QoS::AtLeastOnce)]);
        let hello = Hello::durable(ProtocolVersion::V5, BACKEND);
        let (backend, present) = try_connect(gateway.mqtt, &hello).expect("accepted");
        assert!(present, "{flip:?}: the session is lost");
        let last = Event { publisher: PUBLISHERS, number: 0 };
        publish_last(gateway.mqtt, last);
        let delivered = [reader, backend].map(|mut client| {
            let mut events = Vec::new();
            while events.last() != Some(&last) {
                events.push(take(&mut client));
            }
            events
        });
        gateway.stop();
        Ok(delivered.into())
    }

    fn try_flip(&self, flip: &Flip) -> Outcome {
        let mark = logs::mark();
        let delivered = match self.deliver(Some(flip)) {
            Ok(delivered) => delivered,
            Err(words) => {
                assert!(words.split(' ').count() >= WORDS_MIN, "{flip}: it did not start: {words}");
                eprintln!("{flip}: {words}");
                return Outcome::Refused;
            }
        };
        let panicked = logs::since(mark, |line| line.contains("panic") && !line.contains("store panicked"));
        assert!(panicked.is_empty(), "{flip}: {panicked:#?}");
        let hit = self.hit(flip);
        let mut outcome = Outcome::Complete;
        let receivers = ["the stream", "the durable subscriber"];
        for (who, (undamaged, delivered)) in receivers.iter().zip(self.undamaged.iter().zip(&delivered)) {
            let there: HashSet<&Event> = delivered.iter().collect();
            let (kept, missing): (Vec<_>, Vec<_>) =
                undamaged.iter().copied().partition(|event| there.contains(event));
            assert_eq!(kept, *delivered, "{flip}: {who}: twice, or out of order");
            let beyond: Vec<_> = missing.iter().filter(|event| !hit.contains(event)).collect();
            assert!(beyond.is_empty(), "{flip}: {who}: lost beyond the group that was hit: {beyond:?}");
            if !missing.is_empty() {
                let reported = logs::since(mark, |line| {
                    (line.contains(" ERROR ") || line.contains(" WARN "))
                        && ["damaged", "no whole group", "broken", "lost"]
                            .iter()
                            .any(|word| line.contains(word))
                });
                let missing = missing.len();
                assert!(!reported.is_empty(), "{flip}: {who}: {missing} events are missing without a word");
                outcome = Outcome::Lost;
            }
        }
        outcome
    }
}

/// Takes a delivery and acknowledges it. Nothing is delivered that was not published.
fn take(client: &mut Client) -> Event {
    loop {
        let frame = client.receive(STEP).expect("a delivery");
        if let Packet::Publish(publish) = frame.packet() {
            client.send(&Packet::PubAck(Ack::success(publish.packet_id.expect("QoS 1"))));
            return Event::read(publish.payload);
        }
    }
}

#[test]
fn a_flipped_bit_costs_what_it_hits_and_is_reported() {
    let _shown = logs::ShownOnFailure;
    let load = Load::from_environment();
    let stores = [false, true].map(Store::make);
    let mut rng = ChaCha8Rng::seed_from_u64(load.seed);
    let began = Instant::now();
    let mut outcomes = Vec::new();
    for nth in 0..load.flips {
        let store = &stores[nth as usize % stores.len()];
        outcomes.push(store.try_flip(&store.choose(&mut rng)));
    }
    let count = |outcome| outcomes.iter().filter(|found| **found == outcome).count();
    eprintln!(
        "bit flips, seed {}: {} over {} files in {:.1?}: {} cost nothing, {} their group, {} kept it from starting",
        load.seed,
        load.flips,
        stores.iter().map(|store| store.files.len()).sum::<usize>(),
        began.elapsed(),
        count(Outcome::Complete),
        count(Outcome::Lost),
        count(Outcome::Refused),
    );
    assert!(count(Outcome::Lost) > 0, "no flip hit a group: this run says little");
    assert!(count(Outcome::Refused) <= outcomes.len() / 10, "too many flips keep it from starting");
}

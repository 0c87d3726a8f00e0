//! Stores as earlier versions have left them on disk: whatever is done to the formats, these must open.
//!
//! `tests/golden/v1` has a log of two segments with an entry of every kind there was first, some of them in compressed groups, and a
//! checkpoint in the middle of it; `tests/golden/v1-sled` has the same log in sled. `tests/golden/v1-consumers` has the kinds and the tables that
//! came with consumers, of the same format. A change that needs other bytes needs a new format version and a new directory. Only
//! when `GATEWAY_WRITE_GOLDEN` names a directory is one written, to be looked at and moved here by hand.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::task::Waker;

use crc32c::{crc32c, crc32c_append};
use gateway_storage::checkpoint::{self, CheckpointError};
use gateway_storage::{
    Changes, CommittedGroup, Compression, Entry, Event, GroupCommit, GroupCommitOptions, Log, LogKind,
    Offset, SegmentsLog, SegmentsOptions, SledLog, SledLogOptions, Staging, Store, StoreError, StoreOptions,
    Table, Urgency, ViewOptions, ViewWriter, offline, recovery,
};
use tempfile::TempDir;

const SEGMENTS: SegmentsOptions = SegmentsOptions { segment_bytes: 1100, reserve_bytes: 0 };
/// The commit time of the first group; each next one is a second later.
const FIRST_TIME_MS: u64 = 1_767_225_603_000;
/// What the view of the checkpoint holds, and up to where it is applied.
const ROWS: [(Table, &[u8], &[u8]); 3] = [
    (Table::Meta, b"rules", b"\x08\x09"),
    (Table::Sessions, b"pump-1", b"state of pump-1"),
    (Table::Retained, b"devices/pump-1/state", &[0, 1, 2, 0xff]),
];
const APPLIED: u64 = 15;

/// The same of the view that came with consumers.
const CONSUMER_ROWS: [(Table, &[u8], &[u8]); 2] =
    [(Table::Consumers, b"billing\0m", b"a consumer"), (Table::DeadLetters, b"billing 42", &[3; 200])];
const CONSUMERS_APPLIED: u64 = 8;

/// One entry of every kind that came later.
fn consumer_entries() -> [Entry<'static>; 8] {
    [
        Entry::BacklogCut { client_id: "app", before: 1_000_000_000_000 },
        Entry::StreamSet { name: "telemetry", at_ms: 1_767_225_605_000, spec: &[1, 2, 3, 4] },
        Entry::StreamRemoved { name: "telemetry", at_ms: 1_767_225_606_000 },
        Entry::ConsumerSet { name: "billing", at_ms: 1_767_225_607_000, spec: &[5, 6] },
        Entry::ConsumerRemoved { name: "billing", at_ms: 1_767_225_608_000 },
        Entry::ConsumerProgress { name: "billing", at_ms: 1_767_225_609_000, progress: &[7; 33] },
        Entry::DeadLettered { name: "billing", at_ms: 1_767_225_610_000, letter: &[0xee; 50] },
        Entry::DeadLettersChanged { name: "billing", at_ms: 1_767_225_611_000, change: &[9] },
    ]
}

/// One entry of every kind there was first, in the order of their numbers.
fn entries() -> [Entry<'static>; 15] {
    let event = Event {
        client_id: "pump-1",
        topic: "devices/pump-1/préssure",
        qos: 1,
        retain: true,
        received_ms: 1_767_225_600_123,
        expires_at_ms: 1_767_226_000_000,
        properties: &[0x01, 0x01],
        payload: b"{\"bar\":3.2,\"bar\":3.2,\"bar\":3.2,\"bar\":3.2,\"bar\":3.2,\"bar\":3.2,\"bar\":3.2}",
    };
    [
        Entry::Event(event),
        Entry::SessionOpened {
            client_id: "pump-1",
            at_ms: 1_767_225_600_000,
            clean_start: false,
            expiry_secs: u32::MAX,
            state: &[1, 2, 3],
        },
        Entry::SessionClosed { client_id: "pump-1", at_ms: 1_767_225_601_000, expiry_secs: 300, state: &[] },
        Entry::SessionRemoved { client_id: "pump-1", at_ms: 1_767_225_602_000, cause: 200 },
        Entry::Subscribed {
            client_id: "app",
            filter: "devices/+/#",
            options: 0x2d,
            subscription_id: 268_435_455,
        },
        Entry::Unsubscribed { client_id: "app", filter: "devices/+/#" },
        Entry::Acknowledged { client_id: "app", runs: &[0xff; 40] },
        Entry::PublishReceived { client_id: "pump-1", packet_id: 65_535 },
        Entry::PublishReleased { client_id: "pump-1", packet_id: 1 },
        Entry::DeliveryReceived { client_id: "app", runs: &[7; 12] },
        Entry::WillSet { client_id: "pump-1", delay_secs: 30, will: &[4, 5, 6] },
        Entry::WillDue { client_id: "pump-1", at_ms: 1_767_225_604_000 },
        Entry::WillCleared { client_id: "pump-1" },
        Entry::RetainedRemoved { topic: "devices/pump-1/state", offset: 999_999 },
        Entry::RulesChanged { rules: &[8, 9] },
    ]
}

fn options() -> StoreOptions {
    StoreOptions {
        log: LogKind::Segments(SEGMENTS),
        view: ViewOptions { cache_bytes: 8 << 20 },
        reserve_bytes: 0,
        ..StoreOptions::default()
    }
}

/// A copy of the store of this version, for whoever opens it changes it.
fn golden() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_into("v1/log", &copy.path().join("log"));
    copy_into("v1/checkpoint", &copy.path().join("checkpoint"));
    copy
}

fn copy_into(name: &str, target: &Path) {
    fs::create_dir_all(target).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    for entry in fs::read_dir(golden).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

#[test]
fn the_store_of_format_version_1_opens_and_reads_back() {
    let dir = golden();
    let report = offline::verify(dir.path()).unwrap();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!((report.log.entries, report.log.events, report.log.files), (45, 3, 2));
    assert_eq!(report.checkpoints.len(), 1);

    let store: Store = recovery::open(dir.path(), options()).unwrap();
    assert_eq!((store.log.next_offset(), store.log.last_time_ms()), (Offset::new(45), FIRST_TIME_MS + 2000));
    // There is no view: it is made from the checkpoint.
    assert_eq!(store.replay_from, Offset::new(APPLIED));
    for (table, key, value) in ROWS {
        assert_eq!(store.view.get(table, key).unwrap().as_deref(), Some(value));
    }
    read_through(&store, &entries());
}

#[test]
fn the_store_of_format_version_1_with_consumers_opens_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    copy_into("v1-consumers/log", &dir.path().join("log"));
    copy_into("v1-consumers/checkpoint", &dir.path().join("checkpoint"));
    let report = offline::verify(dir.path()).unwrap();
    assert!(report.is_whole(), "{:?}", report.findings);
    let store: Store = recovery::open(dir.path(), options()).unwrap();
    assert_eq!(store.replay_from, Offset::new(CONSUMERS_APPLIED));
    for (table, key, value) in CONSUMER_ROWS {
        assert_eq!(store.view.get(table, key).unwrap().as_deref(), Some(value));
    }
    read_through(&store, &consumer_entries());
}

#[test]
fn the_log_in_sled_of_format_version_1_opens_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    copy_into("v1-sled/log/sled", &dir.path().join("log/sled"));
    let sled = LogKind::Sled(SledLogOptions { cache_bytes: 8 << 20 });
    let store = recovery::open(dir.path(), StoreOptions { log: sled, ..options() }).unwrap();
    assert_eq!((store.log.next_offset(), store.log.last_time_ms()), (Offset::new(45), FIRST_TIME_MS + 2000));
    assert_eq!(store.log_report.torn_tail, None);
    read_through(&store, &entries());
}

/// Compares every entry of the log with what was written: three times these.
fn read_through(store: &Store, entries: &[Entry<'_>]) {
    let mut offsets = Vec::new();
    let (log, mut next) = (store.log.reader(), Offset::ZERO);
    let count = entries.len() as u64;
    while let Some(page) = log.read_page(next, 1 << 20).unwrap() {
        for index in 0..page.batch.len() {
            let number = page.batch.offset_of(index).unwrap().get();
            assert_eq!(
                page.batch.entry(index).unwrap(),
                entries[(number % count) as usize],
                "offset {number}"
            );
            assert_eq!(page.batch.time_ms(index), FIRST_TIME_MS + number / count * 1000);
            offsets.push(number);
        }
        assert!(page.skipped.is_empty());
        next = page.next;
    }
    assert_eq!(offsets, (0..3 * count).collect::<Vec<_>>());
}

#[test]
fn a_segment_of_format_version_2_is_refused_with_a_sentence() {
    let dir = golden();
    let path = files(&dir.path().join("log"), "log").remove(0);
    let mut bytes = fs::read(&path).unwrap();
    for copy in [0, 40] {
        bytes[copy + 8] = 2;
        let crc = crc32c(&bytes[copy..copy + 36]);
        bytes[copy + 36..copy + 40].copy_from_slice(&crc.to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    refused(
        &dir,
        &path,
        "has format version 2, and this version reads up to 1: it was written by a newer gateway",
    );
}

#[test]
fn a_group_of_format_version_2_and_one_with_unknown_flags_are_refused_with_a_sentence() {
    for (at, value, sentence) in [
        (4, 2, "has format version 2, and this version reads up to 1: it was written by a newer gateway"),
        (7, 0x80, "which this version does not know: it was written by a newer gateway"),
    ] {
        let dir = golden();
        let path = files(&dir.path().join("log"), "log").pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let salted = |salt: &[u8], rest: &[u8]| crc32c_append(crc32c(salt), rest);
        let salt: [u8; 8] = bytes[28..36].try_into().unwrap();
        // The first group of the last file, with both checksums right.
        let len = 40 + u32::from_le_bytes(bytes[88..92].try_into().unwrap()) as usize;
        let group = &mut bytes[80..80 + len];
        group[at] = value;
        let crc = crc32c_append(salted(&salt, &group[..32]), &group[40..]);
        group[32..36].copy_from_slice(&crc.to_le_bytes());
        let crc = salted(&salt, &group[..36]);
        group[36..40].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        refused(&dir, &path, sentence);
    }
}

#[test]
fn a_checkpoint_of_format_version_2_is_refused_with_a_sentence() {
    let dir = golden();
    let path = files(&dir.path().join("checkpoint"), "ckpt").remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let crc = crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = checkpoint::verify(&path).unwrap_err();
    assert!(matches!(error, CheckpointError::NewerFormat { found: 2, known: 1, .. }));
    refused(
        &dir,
        &path,
        "has format version 2, and this version reads up to 1: it was written by a newer gateway",
    );
}

/// Opening the store ends in an error that names this file and says this.
fn refused(dir: &TempDir, path: &Path, sentence: &str) {
    let contents = || {
        let of = |name: &str, extension| files(&dir.path().join(name), extension);
        let all = [of("log", "log"), of("checkpoint", "ckpt")].concat();
        all.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let before = contents();
    let error: StoreError = recovery::open(dir.path(), options()).unwrap_err();
    assert!(contents() == before && !before.is_empty(), "what is refused stays as it is");
    let said = error.to_string();
    assert!(said.contains(&path.display().to_string()) && said.ends_with(sentence), "{said}");
}

#[test]
fn a_golden_store_is_written_where_that_is_asked_for() {
    let Some(target) = std::env::var_os("GATEWAY_WRITE_GOLDEN").map(PathBuf::from) else { return };
    let times = [0, 1000, 2000].map(|later| FIRST_TIME_MS + later);
    // At once: sled takes a whole segment of 16 MiB each time it is opened.
    let sled = SledLog::open(target.join("v1-sled/log/sled"), SledLogOptions::default()).unwrap().0;
    write_groups(Box::new(sled), &entries(), Compression::Lz4, &times);
    write_store(&target.join("v1"), &entries(), &ROWS, APPLIED, times);
    write_store(&target.join("v1-consumers"), &consumer_entries(), &CONSUMER_ROWS, CONSUMERS_APPLIED, times);
}

fn write_store(
    target: &Path,
    entries: &[Entry<'_>],
    rows: &[(Table, &[u8], &[u8])],
    applied: u64,
    times: [u64; 3],
) {
    for (time_ms, compression) in
        times.into_iter().zip([Compression::None, Compression::Lz4, Compression::None])
    {
        let segments = SegmentsLog::open(target.join("log"), SEGMENTS).unwrap().0;
        write_groups(Box::new(segments), entries, compression, &[time_ms]);
    }
    let store = recovery::open(target, options()).unwrap();
    let mut changes = Changes::new();
    for (table, key, value) in rows {
        changes.put(*table, key, value).unwrap();
    }
    store.view.save(&changes, Offset::new(applied)).unwrap();
    let writer = ViewWriter::start(Arc::new(store.view), store.checkpoints, store.reserve).unwrap();
    assert!(writer.try_checkpoint());
    writer.wait_idle();
    assert_eq!(writer.checkpoint_state().newest, Some(Offset::new(applied)));
    writer.shutdown();
}

fn write_groups(log: Box<dyn Log>, entries: &[Entry<'_>], compression: Compression, times: &[u64]) {
    let options = GroupCommitOptions { compression, ..GroupCommitOptions::default() };
    let (sender, committed) = sync_channel(1);
    let sink = Box::new(move |group: CommittedGroup| sender.send(group.durable).unwrap());
    let now_ms = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&now_ms);
    let clock = Box::new(move || clock.load(Ordering::SeqCst));
    let commit = GroupCommit::start(log, options, clock, sink).unwrap();
    let mut last = None;
    for time_ms in times {
        now_ms.store(*time_ms, Ordering::SeqCst);
        let mut staging = Staging::new();
        for entry in entries {
            staging.push(entry).unwrap();
        }
        last = Some(commit.submit(&mut staging, Urgency::Now, Waker::noop(), last).unwrap());
        committed.recv().unwrap();
    }
    commit.shutdown();
}

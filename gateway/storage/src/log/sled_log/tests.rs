//! What is particular to sled; the rest is the contract.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sled::Batch;
use tempfile::TempDir;

use super::engine::Engine;
use super::keys::{FORMAT_KEY, PIECE_BYTES, SALT_KEY, seal};
use super::*;
use crate::entry::Event;
use crate::frame;
use crate::log::contract::{Subject, append, fill, group, payload, read_all};
use crate::log::{Faults, TailShows};
use crate::staging::Staging;

const OPTIONS: SledLogOptions = SledLogOptions { cache_bytes: 8 << 20 };

/// sled's files on a disk that fails on demand, and what of them is on stable storage.
struct Store {
    dir: TempDir,
    plan: Plan,
}

#[derive(Clone, Debug, Default)]
struct Plan {
    faults: Faults,
    /// The files as of the last sync.
    stable: Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>,
}

impl Interference for Plan {
    fn before_write(&self, bytes: usize) -> io::Result<()> {
        self.faults.on_write(bytes).1
    }

    fn before_sync(&self) -> io::Result<()> {
        self.faults.on_sync()
    }

    fn after_sync(&self, dir: &Path) {
        *self.stable.lock().unwrap() = files(dir);
    }

    fn before_remove(&self) -> io::Result<()> {
        self.faults.on_remove()
    }

    fn before_reopen(&self) -> io::Result<()> {
        self.faults.on_reopen()
    }
}

impl Subject for Store {
    type Log = SledLog;

    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), plan: Plan::default() }
    }

    fn open(&mut self) -> SledLog {
        SledLog::open_with(Box::new(self.plan.clone()), self.dir.path(), OPTIONS).unwrap().0
    }

    /// Everything is as of the last sync, but for the first bytes of sled's file that were written since.
    fn lose_power(&mut self, torn_tail: usize) {
        let written = files(self.dir.path());
        for path in written.keys() {
            fs::remove_file(path).unwrap();
        }
        for (path, stable) in self.plan.stable.lock().unwrap().iter() {
            let survived =
                if path.ends_with("db") { torn(stable, &written[path], torn_tail) } else { stable.clone() };
            fs::write(path, survived).unwrap();
        }
    }

    /// sled notices a flipped bit in its file itself, by not opening. What it cannot notice is a value that was wrong
    /// before it was written.
    fn damage(&mut self, offset: Offset) {
        let needle = payload(offset.get());
        change_groups(self.dir.path(), |_, value| {
            let at = value.windows(needle.len()).position(|window| window == needle)?;
            let mut damaged = value.to_vec();
            damaged[at] ^= 0x04;
            Some(Some(damaged))
        });
    }

    fn faults(&self) -> Faults {
        self.plan.faults.clone()
    }
}

crate::log_contract!(Store);

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// `stable` with the first `bytes` bytes in which `written` differs from it.
fn torn(stable: &[u8], written: &[u8], bytes: usize) -> Vec<u8> {
    let mut torn = stable.to_vec();
    let differing = (0..written.len()).filter(|at| stable.get(*at) != Some(&written[*at]));
    for at in differing.take(bytes) {
        if torn.len() <= at {
            torn.resize(at + 1, 0);
        }
        torn[at] = written[at];
    }
    torn
}

/// Offers every piece in the store in `dir` to `change`: None leaves it, Some(None) removes it.
fn change_groups(dir: &Path, mut change: impl FnMut(PieceKey, &[u8]) -> Option<Option<Vec<u8>>>) {
    let engine = Engine::open(dir, OPTIONS.cache_bytes, Box::new(NoInterference)).unwrap();
    let mut batch = Batch::default();
    let mut from = PieceKey::new(Offset::ZERO, 0);
    loop {
        let rows = engine.rows(from, None, 1 << 20).unwrap();
        let Some((last, _)) = rows.last() else { break };
        from = PieceKey::new(last.first, last.piece + 1);
        for (key, value) in &rows {
            match change(*key, value) {
                Some(Some(value)) => batch.insert(&key.encode(), value),
                Some(None) => batch.remove(&key.encode()),
                None => {}
            }
        }
    }
    engine.apply(batch).unwrap();
    engine.sync().unwrap();
    engine.close().unwrap();
}

fn open(dir: &Path) -> (SledLog, RecoveryReport) {
    SledLog::open(dir, OPTIONS).unwrap()
}

/// A group of one event whose payload has `bytes` bytes that follow from its offset.
fn append_large(log: &mut SledLog, bytes: usize, time_ms: u64) {
    let first = log.next_offset();
    let payload: Vec<u8> =
        (0..bytes).map(|at| (at as u64 * 31 + first.get()) as u8 ^ (at >> 9) as u8).collect();
    let mut staging = Staging::new();
    let event = Event {
        client_id: "camera-1",
        topic: "devices/camera-1/frame",
        qos: 1,
        retain: false,
        received_ms: 1,
        expires_at_ms: 0,
        properties: &[],
        payload: &payload,
    };
    staging.push_event(&event).unwrap();
    let mut bytes = vec![0; frame::FRAME_HEADER_LEN];
    bytes.extend_from_slice(staging.bytes());
    let info = GroupInfo { first, entries: 1, time_ms };
    assert!(frame::seal(&mut bytes, &info, log.salt()));
    log.append(&bytes, info).unwrap();
}

/// Offsets that can be read, and those passed over.
fn read(log: &SledLog) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut read, mut skipped, mut next) = (Vec::new(), Vec::new(), Offset::ZERO);
    while let Some(page) = log.reader().read_page(next, 300 << 10).unwrap() {
        read.extend((0..page.batch.len()).map(|index| page.batch.offset_of(index).unwrap().get()));
        skipped.extend(page.skipped.iter().map(|group| (group.first.get(), group.end.get())));
        next = page.next;
    }
    (read, skipped)
}

#[test]
fn groups_of_many_pieces_come_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    let sizes = [10, PIECE_BYTES, 3 * PIECE_BYTES, 20 << 20, 1, PIECE_BYTES - 100];
    for (n, size) in sizes.into_iter().enumerate() {
        append_large(&mut log, size, n as u64);
        log.sync().unwrap();
    }
    let check = |log: &SledLog| {
        let reader = log.reader();
        for (n, size) in sizes.into_iter().enumerate() {
            let page = reader.read_page(Offset::new(n as u64), 1).unwrap().unwrap();
            let event = page.batch.event(0).unwrap();
            assert_eq!(event.payload.len(), size);
            let right =
                (0..size).all(|at| event.payload[at] == (at as u64 * 31 + n as u64) as u8 ^ (at >> 9) as u8);
            assert!(right && page.skipped.is_empty(), "group {n}");
        }
        assert_eq!(read(log), ((0..6).collect(), vec![]));
    };
    check(&log);
    let size = log.size_bytes();
    drop(log);
    let (log, report) = open(dir.path());
    check(&log);
    assert_eq!((log.size_bytes(), report.bytes), (size, size));
    assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0, "nothing beside the synced file");
}

#[test]
fn what_was_appended_and_never_synced_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    fill(&mut log, &[2]);
    append_large(&mut log, 1000, 1);
    log.release();
    // What a killed process leaves: the files as they are, and nothing of its memory.
    let left = tempfile::tempdir().unwrap();
    for (path, bytes) in files(dir.path()) {
        fs::write(left.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    let (after, report) = open(left.path());
    assert_eq!((report.torn_tail, read(&after)), (None, (vec![0, 1, 2], vec![])));
}

#[test]
fn a_missing_or_reordered_piece_costs_its_group_alone() {
    let missing = |gone: u32| {
        move |key: PieceKey, _: &[u8]| (key == PieceKey::new(Offset::new(1), gone)).then_some(None)
    };
    // (what becomes of the pieces, whether the header of the group is still there)
    for gone in [0, 1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open(dir.path());
        for time_ms in 0..3 {
            append_large(&mut log, 3 * PIECE_BYTES + 5000, time_ms);
        }
        log.sync().unwrap();
        drop(log);
        change_groups(dir.path(), missing(gone));
        let (log, report) = open(dir.path());
        assert_eq!(report.torn_tail, None);
        assert_eq!(read(&log), (vec![0, 2], vec![(1, 2)]), "without piece {gone}");
        for time_ms in [0, 2] {
            assert_eq!(log.reader().offset_at(time_ms).unwrap(), Offset::new(time_ms));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    for time_ms in 0..3 {
        append_large(&mut log, 3 * PIECE_BYTES + 5000, time_ms);
    }
    log.sync().unwrap();
    drop(log);
    let mut pieces = Vec::new();
    change_groups(dir.path(), |key, value| {
        pieces.push((key, value.to_vec()));
        None
    });
    let piece = |piece| {
        pieces.iter().find(|(key, _)| *key == PieceKey::new(Offset::new(1), piece)).unwrap().1.clone()
    };
    change_groups(dir.path(), |key, _| match (key.first.get(), key.piece) {
        (1, 1) => Some(Some(piece(2))),
        (1, 2) => Some(Some(piece(1))),
        _ => None,
    });
    assert_eq!(read(&open(dir.path()).0), (vec![0, 2], vec![(1, 2)]), "reordered");
}

#[test]
fn a_group_that_is_not_whole_at_the_end_is_removed_and_reported() {
    for gone in [0, 1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open(dir.path());
        fill(&mut log, &[2]);
        let size = log.size_bytes();
        append_large(&mut log, 2 * PIECE_BYTES + 5000, 2000);
        log.sync().unwrap();
        drop(log);
        change_groups(dir.path(), |key, _| (key == PieceKey::new(Offset::new(2), gone)).then_some(None));
        let (mut log, report) = open(dir.path());
        assert_eq!((report.next_offset, log.size_bytes()), (Offset::new(2), size), "without piece {gone}");
        let torn = report.torn_tail.unwrap();
        assert_eq!(torn.at_byte, size);
        assert_eq!(torn.shows, if gone == 0 { TailShows::NoHeader } else { TailShows::CutShort });
        assert!(torn.bytes > 5000);
        append(&mut log, 2, 3000).unwrap();
        log.sync().unwrap();
        drop(log);
        let (log, report) = open(dir.path());
        assert_eq!(report.torn_tail, None);
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), ((0..4).collect(), vec![]));
    }
}

#[test]
fn a_power_cut_at_any_byte_leaves_whole_groups_and_everything_synced() {
    let mut store = Store::new();
    let mut log = store.open();
    fill(&mut log, &[3, 2]);
    append(&mut log, 5, 3000).unwrap();
    append_large(&mut log, 3000, 4000);
    drop(log);
    let (before, stable) = (files(store.dir.path()), store.plan.stable.lock().unwrap().clone());
    let db = store.dir.path().join("db");
    let written = (0..before[&db].len()).filter(|at| stable[&db].get(*at) != Some(&before[&db][*at])).count();
    assert!(written > 3500, "both groups are in the file, and neither is durable");
    let mut ends = Vec::new();
    // A fixed walk over where the power may have failed, the first and the last byte included.
    for cut in (0..=written).step_by(written / 24).chain([written - 1, written]) {
        for (path, bytes) in &before {
            fs::write(path, bytes).unwrap();
        }
        *store.plan.stable.lock().unwrap() = stable.clone();
        store.lose_power(cut);
        let mut log = store.open();
        let end = log.next_offset().get();
        assert!([5, 10, 11].contains(&end), "{cut} of {written} bytes: the log ends at {end}");
        assert_eq!(read(&log), ((0..end).collect(), vec![]), "{cut} of {written} bytes");
        append(&mut log, 2, 5000).unwrap();
        log.sync().unwrap();
        ends.push(end);
    }
    assert_eq!((ends.first(), ends.last()), (Some(&5), Some(&11)));
    assert!(ends.is_sorted(), "more bytes never mean fewer groups: {ends:?}");
}

#[test]
fn a_second_opening_of_the_same_directory_is_refused_and_names_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let refused = SledLog::open(dir.path(), OPTIONS).unwrap_err();
    assert!(
        matches!(&refused, OpenError::Locked { holder, .. } if *holder == std::process::id().to_string())
    );
    assert!(refused.to_string().contains("is in use by another process"));
    // A reader that outlives the log holds nobody up.
    let reader = log.reader();
    drop(log);
    open(dir.path());
    assert!(reader.read_page(Offset::ZERO, 1).unwrap().is_none());
}

#[test]
fn a_store_of_a_newer_version_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let engine = Engine::open(dir.path(), OPTIONS.cache_bytes, Box::new(NoInterference)).unwrap();
    engine.with(|db| db.insert(FORMAT_KEY, seal(FORMAT_KEY, &2_u16.to_le_bytes()))).unwrap();
    engine.sync().unwrap();
    engine.close().unwrap();
    let refused = SledLog::open(dir.path(), OPTIONS).unwrap_err();
    assert!(matches!(refused, OpenError::NewerFormat { found: 2, known: 1, .. }));
    assert!(refused.to_string().ends_with("it was written by a newer gateway"));
}

#[test]
fn a_damaged_salt_is_an_error_and_never_a_log_without_groups() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    fill(&mut log, &[2, 2]);
    drop(log);
    let engine = Engine::open(dir.path(), OPTIONS.cache_bytes, Box::new(NoInterference)).unwrap();
    engine.with(|db| db.insert(SALT_KEY, seal(FORMAT_KEY, &7_u64.to_le_bytes()))).unwrap();
    engine.sync().unwrap();
    engine.close().unwrap();
    let refused = SledLog::open(dir.path(), OPTIONS).unwrap_err();
    assert!(matches!(refused, OpenError::DamagedHeader { .. }));
}

#[test]
fn whatever_byte_of_the_file_is_flipped_opening_ends_in_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    fill(&mut log, &[3; 20]);
    drop(log);
    let path = dir.path().join("db");
    let whole = files(dir.path());
    let used = whole[&path].iter().rposition(|byte| *byte != 0).unwrap();
    // A fixed walk over the bytes in use.
    for step in 0..24 {
        for (path, bytes) in &whole {
            fs::write(path, bytes).unwrap();
        }
        let mut damaged = whole[&path].clone();
        damaged[step * 7919 % used] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        if let Ok((log, _)) = SledLog::open(dir.path(), OPTIONS) {
            // What can be read is what was written: the helper compares every payload with its offset.
            let (read, _) = read_all(log.reader().as_ref(), 0, 1 << 20);
            assert!(read.is_sorted() && read.len() <= 60);
        }
    }
}

#[test]
fn any_offset_and_time_is_found_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    let groups = 1000;
    for time_ms in 0..groups {
        let (frame, info) = group(&log, 3, time_ms);
        log.append(&frame, info).unwrap();
    }
    log.sync().unwrap();
    let reader = log.reader();
    for step in 0..1500 {
        let from = step * 3571 % (3 * groups);
        let page = reader.read_page(Offset::new(from), 1).unwrap().unwrap();
        assert_eq!(page.batch.first().get(), from / 3 * 3);
        assert_eq!(reader.offset_at(from / 3).unwrap().get(), from / 3 * 3);
    }
    assert_eq!(read_all(reader.as_ref(), 0, 10_000), ((0..3 * groups).collect(), vec![]));
}

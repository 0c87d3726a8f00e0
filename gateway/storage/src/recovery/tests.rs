//! Opening what was closed, killed, damaged or taken apart.

use std::fs;

use super::*;
use crate::entry::Entry;
use crate::log::contract::{append, fill, payload};
use crate::view::{Changes, SetAside, Table};
use tempfile::TempDir;

const SEGMENTS: SegmentsOptions = SegmentsOptions { segment_bytes: 700, reserve_bytes: 0 };
const SMALL: ViewOptions = ViewOptions { cache_bytes: 8 << 20 };

fn try_open(dir: &Path) -> Result<Store, StoreError> {
    open(
        dir,
        StoreOptions {
            log: LogKind::Segments(SEGMENTS),
            view: SMALL,
            reserve_bytes: 0,
            ..StoreOptions::default()
        },
    )
}

fn open_store(dir: &Path) -> Store {
    try_open(dir).unwrap()
}

/// A store of 60 entries in 20 groups, a view applied up to 50, and checkpoints at 30 and 50; or as many of them.
fn with_checkpoints(checkpoints: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_store(dir.path());
    fill(store.log.as_mut(), &[3; 20]);
    for (number, applied) in [30, 50].into_iter().enumerate() {
        store.view.save(&row(applied), Offset::new(applied)).unwrap();
        if number < checkpoints {
            store.checkpoints.dump(&store.view, &|| true).unwrap();
        }
    }
    close(store);
    dir
}

fn row(applied: u64) -> Changes {
    let mut changes = Changes::new();
    changes.put(Table::Sessions, b"applied", &applied.to_le_bytes()).unwrap();
    changes
}

/// The store has a view that is applied up to there and knows it, and the log continues it.
fn assert_applied(store: &Store, applied: u64, end: u64) {
    let row = store.view.get(Table::Sessions, b"applied").unwrap();
    assert_eq!(row, (applied > 0).then(|| applied.to_le_bytes().to_vec()));
    assert_eq!((store.view.applied(), store.replay_from), (Offset::new(applied), Offset::new(applied)));
    assert_eq!(replayed(store).0, (applied..end).collect::<Vec<_>>());
}

/// The checkpoint the view was made from.
fn made_from(store: &Store) -> Option<u64> {
    let path = store.view_report.rebuilt.as_ref()?.checkpoint.as_ref()?;
    Some(path.file_stem().unwrap().to_str().unwrap().parse().unwrap())
}

fn close(store: Store) {
    store.view.close().unwrap();
}

/// The view's files become garbage.
fn ruin_view(dir: &TempDir) {
    fs::write(dir.path().join("view/conf"), [0xff; 64]).unwrap();
    fs::write(dir.path().join("view/db"), vec![0xa5; 100_000]).unwrap();
}

fn checkpoint_path(dir: &TempDir, applied: u64) -> PathBuf {
    dir.path().join(format!("checkpoint/{applied:020}.ckpt"))
}

/// A bit in the middle of a checkpoint is flipped: looking at it does not tell, reading it does.
fn damage_checkpoint(dir: &TempDir, applied: u64) {
    let path = checkpoint_path(dir, applied);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// The files of the log, oldest first.
fn segments(dir: &TempDir) -> Vec<(u64, PathBuf)> {
    let paths = fs::read_dir(dir.path().join("log")).unwrap().map(|entry| entry.unwrap().path());
    let offset = |path: &PathBuf| path.file_stem()?.to_str()?.parse().ok();
    let mut segments: Vec<_> = paths.filter_map(|path| Some((offset(&path)?, path))).collect();
    segments.sort_unstable();
    segments
}

/// Removes the files of the log that begin before `before`, and says where it begins now.
fn trim(dir: &TempDir, before: u64) -> u64 {
    for (_, path) in segments(dir).iter().filter(|(first, _)| *first < before) {
        fs::remove_file(path).unwrap();
    }
    segments(dir)[0].0
}

fn set_aside(store: &Store) -> Option<&SetAside> {
    store.view_report.rebuilt.as_ref()?.set_aside.as_ref()
}

/// The offsets of what the view has not seen, and how many stretches were passed over.
fn replayed(store: &Store) -> (Vec<u64>, usize) {
    let (mut offsets, mut skipped) = (Vec::new(), 0);
    let (log, mut next) = (store.log.reader(), store.replay_from);
    while let Some(page) = log.read_page(next, 300).unwrap() {
        for index in page.batch.index_from(next)..page.batch.len() {
            let offset = page.batch.offset_of(index).unwrap().get();
            let Some(Entry::Event(event)) = page.batch.entry(index) else {
                panic!("only events were written")
            };
            assert_eq!(event.payload, payload(offset));
            offsets.push(offset);
        }
        skipped += page.skipped.len();
        next = page.next;
    }
    (offsets, skipped)
}

#[test]
fn a_store_replays_what_its_view_has_not_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_store(dir.path());
    assert_eq!(replayed(&store).0, [0_u64; 0]);
    fill(store.log.as_mut(), &[3; 10]);
    store.view.save(&Changes::new(), Offset::new(13)).unwrap();
    drop(store);
    let store = open_store(dir.path());
    assert_eq!(replayed(&store), ((13..30).collect(), 0), "from within a group on");
}

#[test]
fn a_view_that_is_rubbish_is_rebuilt_from_the_whole_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_store(dir.path());
    fill(store.log.as_mut(), &[3; 10]);
    let mut changes = Changes::new();
    changes.put(Table::Sessions, b"a", b"b").unwrap();
    store.view.save(&changes, Offset::new(30)).unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("view")).unwrap();
    fs::create_dir(dir.path().join("view")).unwrap();
    fs::write(dir.path().join("view/conf"), [0xff; 64]).unwrap();
    let store = open_store(dir.path());
    assert!(set_aside(&store).is_some());
    assert_eq!(store.replay_from, Offset::ZERO);
    assert_eq!(replayed(&store).0, (0..30).collect::<Vec<_>>());
}

#[test]
fn a_log_that_lost_what_the_view_has_seen_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open_store(dir.path());
    fill(store.log.as_mut(), &[3; 2]);
    store.view.save(&Changes::new(), Offset::new(40)).unwrap();
    drop(store);
    let mut store = open_store(dir.path());
    assert_eq!((store.log.next_offset(), store.replay_from), (Offset::new(40), Offset::new(40)));
    append(store.log.as_mut(), 2, 9000).unwrap();
    store.log.sync().unwrap();
    drop(store);
    let store = open_store(dir.path());
    let (offsets, _) = replayed(&store);
    assert_eq!(offsets, [40, 41]);
}

#[test]
fn a_view_that_is_whole_is_used_whatever_the_checkpoints_are() {
    let dir = with_checkpoints(2);
    damage_checkpoint(&dir, 50);
    fs::write(checkpoint_path(&dir, 30), b"rubbish").unwrap();
    let store = open_store(dir.path());
    assert!(store.view_report.rebuilt.is_none());
    assert_applied(&store, 50, 60);
}

#[test]
fn a_view_that_cannot_be_opened_is_made_from_the_newest_checkpoint() {
    let dir = with_checkpoints(2);
    ruin_view(&dir);
    let store = open_store(dir.path());
    assert_eq!((made_from(&store), set_aside(&store).is_some()), (Some(50), true));
    assert_applied(&store, 50, 60);
    close(store);
    let store = open_store(dir.path());
    assert!(store.view_report.rebuilt.is_none(), "and it lasts");
    assert_applied(&store, 50, 60);
}

#[test]
fn a_view_that_is_gone_is_made_from_the_newest_checkpoint() {
    let dir = with_checkpoints(2);
    fs::remove_dir_all(dir.path().join("view")).unwrap();
    let store = open_store(dir.path());
    assert_eq!((made_from(&store), set_aside(&store).is_none()), (Some(50), true));
    assert_applied(&store, 50, 60);
}

#[test]
fn the_older_checkpoint_stands_in_for_a_damaged_newer_one() {
    let dir = with_checkpoints(2);
    ruin_view(&dir);
    damage_checkpoint(&dir, 50);
    let mut store = open_store(dir.path());
    assert_eq!(made_from(&store), Some(30));
    assert_applied(&store, 30, 60);
    assert_eq!(store.checkpoints.newest(), Some(Offset::new(30)), "the damaged one does not count");
    store.view.save(&row(60), Offset::new(60)).unwrap();
    store.checkpoints.dump(&store.view, &|| true).unwrap();
    assert!(!checkpoint_path(&dir, 50).exists(), "and is removed when there is a better one");
}

#[test]
fn without_a_whole_checkpoint_the_whole_log_is_replayed() {
    for checkpoints in [0, 2] {
        let dir = with_checkpoints(checkpoints);
        ruin_view(&dir);
        if checkpoints > 0 {
            damage_checkpoint(&dir, 50);
            damage_checkpoint(&dir, 30);
        }
        let store = open_store(dir.path());
        assert_eq!((made_from(&store), set_aside(&store).is_some()), (None, true));
        assert_applied(&store, 0, 60);
    }
}

#[test]
fn without_a_whole_checkpoint_and_without_the_whole_log_nothing_is_made_up() {
    for checkpoints in [0, 2] {
        let dir = with_checkpoints(checkpoints);
        ruin_view(&dir);
        let earliest = trim(&dir, 20);
        if checkpoints > 0 {
            damage_checkpoint(&dir, 50);
            damage_checkpoint(&dir, 30);
        }
        for _ in 0..2 {
            let error = try_open(dir.path()).unwrap_err();
            let said = error.to_string();
            let StoreError::NothingToRebuildFrom { log_earliest, .. } = error else { panic!("{said}") };
            assert_eq!(log_earliest.get(), earliest);
            assert!(said.contains("gateway storage repair"), "{said}");
        }
    }
}

#[test]
fn a_view_older_than_the_log_is_made_from_a_checkpoint() {
    let dir = with_checkpoints(2);
    // What a power cut can leave: the store's prefix, here from before the first save.
    fs::remove_dir_all(dir.path().join("view")).unwrap();
    let (view, _) = View::open(dir.path().join("view"), SMALL).unwrap();
    view.save(&row(10), Offset::new(10)).unwrap();
    view.close().unwrap();
    let store = open_store(dir.path());
    assert!(store.view_report.rebuilt.is_none(), "the log continues it");
    assert_applied(&store, 10, 60);
    close(store);
    let earliest = trim(&dir, 20);
    let store = open_store(dir.path());
    let reason = &set_aside(&store).unwrap().reason;
    assert!(
        matches!(reason, ViewError::Behind { applied, earliest: at } if applied.get() == 10 && at.get() == earliest),
        "{reason}"
    );
    assert_eq!(made_from(&store), Some(50));
    assert_applied(&store, 50, 60);
}

#[test]
fn a_checkpoint_older_than_the_log_is_of_no_use() {
    let dir = with_checkpoints(1);
    ruin_view(&dir);
    let earliest = trim(&dir, 31);
    assert!(earliest > 30 && earliest < 60);
    assert!(matches!(try_open(dir.path()), Err(StoreError::NothingToRebuildFrom { .. })));
    assert!(dir.path().join("view/conf").exists(), "nothing is touched");
}

#[test]
fn a_log_that_lost_what_a_checkpoint_has_seen_goes_on_behind_it() {
    let dir = with_checkpoints(2);
    // The log loses its newest files, the view its newest saves.
    for (_, path) in segments(&dir).into_iter().filter(|(first, _)| *first >= 40) {
        fs::remove_file(path).unwrap();
    }
    fs::remove_dir_all(dir.path().join("view")).unwrap();
    let (view, _) = View::open(dir.path().join("view"), SMALL).unwrap();
    view.save(&row(30), Offset::new(30)).unwrap();
    view.close().unwrap();
    let mut store = open_store(dir.path());
    assert_eq!((made_from(&store), store.log.next_offset()), (Some(50), Offset::new(50)));
    assert!(matches!(set_aside(&store).unwrap().reason, ViewError::Behind { .. }));
    append(store.log.as_mut(), 2, 90_000).unwrap();
    store.log.sync().unwrap();
    assert_applied(&store, 50, 52);
}

#[test]
fn a_view_is_not_given_up_for_a_checkpoint_that_is_damaged() {
    let dir = with_checkpoints(2);
    for (_, path) in segments(&dir).into_iter().filter(|(first, _)| *first >= 40) {
        fs::remove_file(path).unwrap();
    }
    fs::remove_dir_all(dir.path().join("view")).unwrap();
    let (view, _) = View::open(dir.path().join("view"), SMALL).unwrap();
    view.save(&row(33), Offset::new(33)).unwrap();
    view.close().unwrap();
    damage_checkpoint(&dir, 50);
    let store = open_store(dir.path());
    assert!(store.view_report.rebuilt.is_none());
    let end = store.log.next_offset().get();
    assert_applied(&store, 33, end);
}

#[test]
fn newer_formats_are_refused_and_left_alone() {
    let dir = with_checkpoints(2);
    let path = checkpoint_path(&dir, 30);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let error = try_open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Checkpoint(CheckpointError::NewerFormat { found: 2, known: 1, .. })));
    assert_eq!(fs::read(&path).unwrap(), bytes);
    fs::remove_file(&path).unwrap();
    assert_applied(&open_store(dir.path()), 50, 60);
}

#[test]
fn a_reserve_is_made_at_the_first_start_and_found_at_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let options = || StoreOptions {
        log: LogKind::Segments(SEGMENTS),
        view: SMALL,
        reserve_bytes: 1 << 20,
        ..StoreOptions::default()
    };
    for _ in 0..2 {
        let store = open(dir.path(), options()).unwrap();
        assert!(store.reserve.is_whole());
        assert_eq!(fs::metadata(dir.path().join("reserve")).unwrap().len(), 1 << 20);
        close(store);
    }
}

#[test]
fn a_log_of_another_kind_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let options = |log| StoreOptions { log, view: SMALL, reserve_bytes: 0, ..StoreOptions::default() };
    let kinds =
        || [LogKind::Segments(SEGMENTS), LogKind::Sled(crate::log::SledLogOptions { cache_bytes: 8 << 20 })];
    for (made, asked) in [(0, 1), (1, 0)] {
        let dir = dir.path().join(made.to_string());
        let [segments, sled] = kinds();
        let store = open(&dir, options(if made == 0 { segments } else { sled })).unwrap();
        close(store);
        let [segments, sled] = kinds();
        let error = open(&dir, options(if asked == 0 { segments } else { sled })).unwrap_err();
        assert!(matches!(&error, StoreError::Log(OpenError::OtherKind { .. })), "{error}");
    }
}

//! Opening what was closed, killed, damaged or taken apart.

use std::fs;

use super::*;
use crate::log::contract::{append, fill, payload};
use crate::view::{Changes, SetAside, Table};

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

fn set_aside(store: &Store) -> Option<&SetAside> {
    store.view_report.rebuilt.as_ref()?.set_aside.as_ref()
}

fn replayed(store: &Store) -> (Vec<u64>, ReplaySummary) {
    let mut offsets = Vec::new();
    let summary = replay(store.log.reader().as_ref(), store.replay_from, 300, &mut |replayed| {
        let Entry::Event(event) = replayed.entry else { panic!("only events were written") };
        assert_eq!(event.payload, payload(replayed.offset.get()));
        offsets.push(replayed.offset.get());
    });
    (offsets, summary.unwrap())
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
    let (offsets, summary) = replayed(&store);
    assert_eq!(offsets, (13..30).collect::<Vec<_>>(), "from within a group on");
    assert_eq!((summary.entries, summary.next, summary.skipped_count), (17, Offset::new(30), 0));
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

use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::{fs, io};

use tempfile::TempDir;

use super::value::{APPLIED_KEY, FORMAT_KEY};
use super::*;
use crate::checkpoint::{CheckpointError, Checkpoints};
use crate::log::faulty_disk::FaultyDisk;
use crate::log::segments::disk::RealDisk;
use crate::reserve::Reserve;

fn small() -> ViewOptions {
    ViewOptions { cache_bytes: 8 << 20 }
}

fn checkpoints(dir: &TempDir) -> Checkpoints {
    Checkpoints::open(dir.path().join("checkpoint"), Arc::new(RealDisk)).unwrap()
}

fn open(dir: &TempDir) -> (View, ViewOpenReport) {
    View::open(dir.path().join("view"), small()).unwrap()
}

fn rows(view: &View, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let count = view.scan(table, &mut |key, value| rows.push((key.to_vec(), value.to_vec()))).unwrap();
    assert_eq!(count as usize, rows.len());
    rows
}

/// Writes a key of the view's own, or removes it, and closes the view.
fn overwrite(view: View, key: &[u8], value: Option<&[u8]>) {
    view.with(|db| match value {
        Some(value) => db.insert(key, value),
        None => db.remove(key),
    })
    .unwrap();
    view.with(|db| db.flush()).unwrap();
    view.close().unwrap();
}

fn put(table: Table, key: &[u8], value: &[u8]) -> Changes {
    let mut changes = Changes::new();
    changes.put(table, key, value).unwrap();
    changes
}

#[test]
fn what_was_saved_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let (view, report) = open(&dir);
    assert_eq!((report.applied, report.set_aside.is_none()), (Offset::ZERO, true));
    let mut changes = Changes::new();
    changes.put(Table::Sessions, b"b", b"2").unwrap();
    changes.put(Table::Sessions, b"a", b"1").unwrap();
    changes.put(Table::Pending, b"", b"empty key").unwrap();
    changes.put(Table::Meta, b"\xff\xff", b"").unwrap();
    view.save(&changes, Offset::new(7)).unwrap();
    let mut changes = Changes::new();
    changes.delete(Table::Sessions, b"b").unwrap();
    changes.delete(Table::Sessions, b"never there").unwrap();
    view.save(&changes, Offset::new(9)).unwrap();
    drop(view);

    let (view, report) = open(&dir);
    assert_eq!((report.applied, view.applied()), (Offset::new(9), Offset::new(9)));
    assert!(report.set_aside.is_none());
    assert_eq!(rows(&view, Table::Sessions), [(b"a".to_vec(), b"1".to_vec())]);
    assert_eq!(rows(&view, Table::Pending), [(b"".to_vec(), b"empty key".to_vec())]);
    assert_eq!(rows(&view, Table::Meta), [(b"\xff\xff".to_vec(), b"".to_vec())]);
    assert_eq!(view.get(Table::Sessions, b"a").unwrap().unwrap(), b"1");
    assert_eq!(view.get(Table::Meta, b"a").unwrap(), None);
}

#[test]
fn a_scan_goes_through_a_table_of_many_steps_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (view, _) = open(&dir);
    let mut changes = Changes::new();
    for number in 0..3 * SCAN_ROWS as u32 + 7 {
        changes.put(Table::Pending, &number.to_be_bytes(), &number.to_le_bytes()).unwrap();
    }
    changes.put(Table::Sessions, b"not this one", b"").unwrap();
    view.save(&changes, Offset::new(1)).unwrap();
    let rows = rows(&view, Table::Pending);
    assert_eq!(rows.len(), 3 * SCAN_ROWS + 7);
    assert!(rows.iter().enumerate().all(|(number, (key, value))| {
        *key == (number as u32).to_be_bytes() && *value == (number as u32).to_le_bytes()
    }));
}

#[test]
fn large_values_survive_and_larger_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (view, _) = open(&dir);
    let mut changes = Changes::new();
    for key in 0..40_u8 {
        changes.put(Table::Sessions, &[key], &vec![key; VALUE_BYTES_MAX]).unwrap();
    }
    let refused = changes.put(Table::Sessions, b"x", &vec![0; VALUE_BYTES_MAX + 1]);
    assert_eq!(refused, Err(ChangeError::ValueTooLarge { bytes: VALUE_BYTES_MAX + 1 }));
    let refused = changes.delete(Table::Sessions, &vec![0; KEY_BYTES_MAX + 1]);
    assert_eq!(refused, Err(ChangeError::KeyTooLarge { bytes: KEY_BYTES_MAX + 1 }));
    assert_eq!(changes.len(), 40);
    view.save(&changes, Offset::new(3)).unwrap();
    drop(view);
    let (view, _) = open(&dir);
    assert!(rows(&view, Table::Sessions).iter().all(|(key, value)| *value == vec![key[0]; VALUE_BYTES_MAX]));
    assert!(!dir.path().join("view/blobs").read_dir().is_ok_and(|mut blobs| blobs.next().is_some()));
}

#[test]
fn a_damaged_value_is_an_error_and_the_view_can_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (view, _) = open(&dir);
    view.save(&put(Table::Sessions, b"a", b"good"), Offset::new(4)).unwrap();
    view.save(&put(Table::Sessions, b"b", b"bad"), Offset::new(5)).unwrap();
    // A value that is whole, but under another key.
    let moved = view.with(|db| db.get(Table::Sessions.key(b"a"))).unwrap().unwrap();
    view.with(|db| db.insert(Table::Sessions.key(b"b"), moved)).unwrap();
    let mut seen = Vec::new();
    let error = view.scan(Table::Sessions, &mut |key, _| seen.push(key.to_vec())).unwrap_err();
    assert!(matches!(&error, ViewError::Corrupt { table: Some(Table::Sessions), key } if **key == *b"b"));
    assert_eq!(seen, [b"a"]);
    assert!(matches!(view.get(Table::Sessions, b"b"), Err(ViewError::Corrupt { .. })));

    let (path, options) = view.close().unwrap();
    let set_aside = View::set_aside(&path, error).unwrap();
    assert_eq!(set_aside.path, dir.path().join("view.broken-1"));
    assert!(dir.path().join("view.broken-1").is_dir());
    let view = View::open_empty(&path, options).unwrap();
    assert_eq!((view.applied(), view.is_fresh()), (Offset::ZERO, true));
    assert_eq!(rows(&view, Table::Sessions), []);
    view.save(&put(Table::Sessions, b"c", b"new"), Offset::new(6)).unwrap();
    drop(view);
    assert_eq!(open(&dir).1.applied, Offset::new(6));
}

#[test]
fn a_view_without_a_format_or_with_a_damaged_offset_is_set_aside() {
    for (key, value) in [(FORMAT_KEY, None), (APPLIED_KEY, Some(b"no offset".as_slice()))] {
        let dir = tempfile::tempdir().unwrap();
        let (view, _) = open(&dir);
        view.save(&put(Table::Meta, b"a", b"b"), Offset::new(4)).unwrap();
        overwrite(view, &key, value);
        let (view, report) = open(&dir);
        let reason = report.set_aside.unwrap().reason;
        assert!(matches!(
            reason,
            ViewError::Format { found: 0, known: 1 } | ViewError::Corrupt { table: None, .. }
        ));
        assert_eq!((view.applied(), rows(&view, Table::Meta).len()), (Offset::ZERO, 0));
    }
}

#[test]
fn a_view_of_a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (view, _) = open(&dir);
    view.save(&put(Table::Meta, b"a", b"b"), Offset::new(4)).unwrap();
    overwrite(view, &FORMAT_KEY, Some(&value::seal(&FORMAT_KEY, &2_u64.to_le_bytes())));
    let path = dir.path().join("view");
    let error = View::open(&path, small()).unwrap_err();
    assert!(matches!(error, ViewError::NewerFormat { found: 2, known: 1, .. }));
    let said = error.to_string();
    assert!(said.contains(path.to_str().unwrap()) && said.contains('2') && said.contains('1'), "{said}");
    assert!(path.is_dir() && !dir.path().join("view.broken-1").exists());
}

#[test]
fn rubbish_in_place_of_a_view_is_set_aside_and_only_so_many_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("view");
    for round in 1..=5 {
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("conf"), "segment_size: rubbish\n").unwrap();
        fs::write(path.join("db"), vec![0xa5; 100_000]).unwrap();
        let (view, report) = open(&dir);
        let set_aside = report.set_aside.unwrap();
        assert_eq!(set_aside.path, dir.path().join(format!("view.broken-{round}")));
        view.save(&put(Table::Meta, b"a", b"b"), Offset::new(round)).unwrap();
        drop(view);
        assert_eq!(open(&dir).1.applied, Offset::new(round));
        fs::remove_dir_all(&path).unwrap();
    }
    let kept = (1..=5).filter(|n| dir.path().join(format!("view.broken-{n}")).exists()).collect::<Vec<_>>();
    assert_eq!(kept, [3, 4, 5]);
}

#[test]
fn a_file_in_place_of_the_directory_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("view"), "not a directory").unwrap();
    let (view, report) = open(&dir);
    assert!(report.set_aside.is_some());
    view.save(&put(Table::Meta, b"a", b"b"), Offset::new(1)).unwrap();
}

#[test]
fn bytes_flipped_all_over_the_store_are_noticed_or_harmless_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (view, _) = open(&dir);
    for number in 0..50_u64 {
        let changes = put(Table::Sessions, &number.to_be_bytes(), &[number as u8; 100]);
        view.save(&changes, Offset::new(number + 1)).unwrap();
    }
    drop(view);
    let db = dir.path().join("view/db");
    let intact = fs::read(&db).unwrap();
    let used = intact.iter().rposition(|byte| *byte != 0).unwrap();
    for round in 0..24 {
        let mut damaged = intact.clone();
        damaged[round * used / 24] ^= 0x41;
        fs::write(&db, damaged).unwrap();
        let (view, _) = open(&dir);
        // sled recovers a prefix, or the view starts anew; a value is never something else than what was saved, and
        // everything up to the applied offset is there.
        let mut seen = 0;
        let scanned = view.scan(Table::Sessions, &mut |key, value| {
            assert_eq!(value, [key[7]; 100]);
            seen += 1;
        });
        if scanned.is_ok() {
            assert_eq!(seen, view.applied().get(), "after a flip at {}", round * used / 24);
        }
        drop(view);
    }
}

#[test]
fn a_save_is_all_or_nothing_with_its_offset_wherever_the_store_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (view, _) = open(&dir);
    for round in 1..=20_u64 {
        let mut changes = Changes::new();
        for key in 0..5_u8 {
            changes.put(Table::Pending, &[key], &round.to_le_bytes()).unwrap();
        }
        view.save(&changes, Offset::new(round)).unwrap();
    }
    // What a crash leaves: the file as it is, without what sled writes when it is closed.
    let copy = tempfile::tempdir().unwrap();
    let files = ["db", "conf"].map(|name| (name, fs::read(dir.path().join("view").join(name)).unwrap()));
    let used = files[0].1.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for cut in 0..12 {
        let path = copy.path().join(format!("view-{cut}"));
        fs::create_dir(&path).unwrap();
        for (name, bytes) in &files {
            let mut bytes = bytes.clone();
            if *name == "db" {
                bytes[used - cut * used / 12..].fill(0);
            }
            fs::write(path.join(name), bytes).unwrap();
        }
        let (view, _) = View::open(&path, small()).unwrap();
        let applied = view.applied().get();
        let expected = if applied == 0 { vec![] } else { vec![applied.to_le_bytes().to_vec(); 5] };
        let values: Vec<_> = rows(&view, Table::Pending).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, expected, "cut {cut}");
    }
}

#[test]
fn the_writer_saves_one_at_a_time_and_says_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let view = Arc::new(open(&dir).0);
    let writer = ViewWriter::start(Arc::clone(&view), checkpoints(&dir), Reserve::none()).unwrap();
    assert_eq!(writer.saved(), Offset::ZERO);
    let mut refused = 0;
    for round in 1..=50_u64 {
        let mut changes = put(Table::Meta, b"round", &round.to_le_bytes());
        while let Err(back) = writer.try_save(changes, Offset::new(round)) {
            refused += 1;
            changes = back;
            writer.wait_idle();
        }
    }
    writer.wait_idle();
    assert!(refused > 0, "a save takes longer than handing one over");
    assert_eq!(writer.saved(), Offset::new(50));
    assert!(writer.error().is_none());
    writer.try_save(put(Table::Meta, b"round", &51_u64.to_le_bytes()), Offset::new(51)).unwrap();
    writer.shutdown();
    writer.shutdown();
    assert_eq!(writer.saved(), Offset::new(51), "shutdown finishes the save under way");
    assert!(writer.try_save(Changes::new(), Offset::new(52)).is_err());
    drop((writer, view));
    assert_eq!(open(&dir).1.applied, Offset::new(51));
}

#[test]
fn a_view_that_somebody_else_holds_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (view, _) = open(&dir);
    view.save(&put(Table::Meta, b"a", b"b"), Offset::new(3)).unwrap();
    let error = View::open_store(&dir.path().join("view"), small()).unwrap_err();
    assert!(!error.is_the_views_fault(&dir.path().join("view")), "{error}");
    drop(view);
    for _ in 0..20 {
        let (view, report) = open(&dir);
        assert!(report.set_aside.is_none() && report.applied == Offset::new(3));
        drop(view);
    }
}

#[test]
fn a_view_without_permission_is_left_alone() {
    let full = ViewError::Engine(Box::new(sled::Error::Io(io::ErrorKind::StorageFull.into())));
    let denied = ViewError::Engine(Box::new(sled::Error::Io(io::ErrorKind::PermissionDenied.into())));
    let handles = ViewError::Engine(Box::new(sled::Error::Io(io::Error::from_raw_os_error(24))));
    let sector = ViewError::Engine(Box::new(sled::Error::Io(io::Error::from_raw_os_error(5))));
    let broken = ViewError::Engine(Box::new(sled::Error::Unsupported("conf".to_owned())));
    let dir = tempfile::tempdir().unwrap();
    let faults = [full, denied, handles, sector, broken].map(|error| error.is_the_views_fault(dir.path()));
    assert_eq!(faults, [false, false, false, true, true]);
}

#[test]
fn a_save_is_put_off_while_the_disk_is_almost_full() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let checkpoints = Checkpoints::open(dir.path().join("checkpoint"), Arc::new(disk.clone())).unwrap();
    let view = Arc::new(open(&dir).0);
    let (reserve, retry) = (Reserve::none(), Duration::from_millis(1));
    let writer = ViewWriter::start_retrying(Arc::clone(&view), checkpoints, reserve, retry).unwrap();
    writer.try_save(put(Table::Meta, b"a", b"1"), Offset::new(1)).unwrap();
    writer.wait_idle();
    disk.faults().limit_space(Some(1 << 20));
    writer.try_save(put(Table::Meta, b"a", b"2"), Offset::new(2)).unwrap();
    writer.wait_idle();
    assert!(writer.space_state().waiting);
    assert!(writer.try_save(Changes::new(), Offset::new(3)).is_err());
    assert_eq!(
        (writer.saved(), view.get(Table::Meta, b"a").unwrap().unwrap()),
        (Offset::new(1), b"1".to_vec())
    );
    disk.faults().limit_space(None);
    while writer.space_state().waiting {
        thread::yield_now();
    }
    writer.wait_idle();
    assert_eq!(
        (writer.saved(), view.get(Table::Meta, b"a").unwrap().unwrap()),
        (Offset::new(2), b"2".to_vec())
    );
    let SpaceState { waiting, put_off, reopened } = writer.space_state();
    assert!(!waiting && put_off > 0 && reopened == 0, "the store never came to fail");

    // A checkpoint takes less space, and helps to make some.
    disk.faults().limit_space(Some(2 << 20));
    writer.try_save(put(Table::Meta, b"a", b"3"), Offset::new(3)).unwrap();
    writer.wait_idle();
    assert!(writer.space_state().waiting && writer.try_checkpoint());
    writer.wait_idle();
    assert_eq!(writer.checkpoint_state().newest, Some(Offset::new(2)));
    assert!(writer.space_state().waiting);
    writer.shutdown();
    writer.wait_idle();
    assert!(!writer.try_checkpoint());
    assert_eq!(writer.saved(), Offset::new(2), "stopping does not wait for space");
    assert!(writer.error().is_none());
}

#[test]
fn a_checkpoint_is_not_tried_where_it_cannot_have_space() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let checkpoints = Checkpoints::open(dir.path().join("checkpoint"), Arc::new(disk.clone())).unwrap();
    let view = Arc::new(open(&dir).0);
    let writer = ViewWriter::start(Arc::clone(&view), checkpoints, Reserve::none()).unwrap();
    disk.faults().limit_space(Some(1000));
    assert!(writer.try_checkpoint());
    writer.wait_idle();
    let failed = writer.checkpoint_state().failed.unwrap();
    assert!(matches!(*failed, CheckpointError::TooLittleSpace { available: 1000, .. }), "{failed}");
    disk.faults().limit_space(None);
    assert!(writer.try_checkpoint());
    writer.wait_idle();
    let state = writer.checkpoint_state();
    assert!(state.failed.is_none() && state.newest == Some(Offset::ZERO) && state.bytes > 0);
}

#[test]
fn a_view_that_is_opened_again_in_place_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (view, _) = open(&dir);
    view.save(&put(Table::Sessions, b"a", b"1"), Offset::new(7)).unwrap();
    for round in 8..12 {
        view.reopen().unwrap();
        assert_eq!(view.applied(), Offset::new(round - 1));
        assert_eq!(view.get(Table::Sessions, b"a").unwrap().unwrap(), b"1");
        view.save(&put(Table::Sessions, b"b", &[round as u8]), Offset::new(round)).unwrap();
    }
    // Somebody takes the store away while it is closed: what comes back is not what was saved.
    view.db.write().unwrap().take();
    assert!(matches!(view.get(Table::Sessions, b"a"), Err(ViewError::Closed { .. })));
    assert!(lock::wait_until_free(&dir.path().join("view")));
    fs::remove_dir_all(dir.path().join("view")).unwrap();
    let error = view.reopen().unwrap_err();
    assert!(matches!(error, ViewError::LostSaves { .. }), "{error}");
    assert!(matches!(view.scan(Table::Sessions, &mut |_, _| {}), Err(ViewError::Closed { .. })));
}

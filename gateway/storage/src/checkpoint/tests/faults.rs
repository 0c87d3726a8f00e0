//! A disk that fails at each step of writing and reading checkpoints.

use std::collections::BTreeSet;
use std::io;

use super::failing_disk::FailingDisk;
use super::*;

/// More steps than anything here takes.
const STEPS_MAX: u64 = 200;

/// Two checkpoints and a view that has gone on since.
fn before() -> (Place, View, BTreeMap<u64, Rows>) {
    let place = Place::new();
    let view = place.view();
    let mut checkpoints = place.checkpoints();
    let mut states = BTreeMap::new();
    for applied in [10, 20, 30] {
        save(&view, applied);
        if applied < 30 {
            dump(&mut checkpoints, &view).unwrap();
        }
        states.insert(applied, rows(&view));
    }
    (place, view, states)
}

/// Every checkpoint there is holds what it says, and enough of them are there.
fn check(place: &Place, states: &BTreeMap<u64, Rows>, what: &str) {
    let listed = place.listed();
    for applied in &listed {
        assert_eq!(
            &rows_in(&place.path(*applied)).unwrap(),
            &states[applied],
            "{applied} after a failed {what}"
        );
    }
    let newest_two = listed.ends_with(&[20, 30]);
    assert!(newest_two || listed.starts_with(&[10, 20]), "{listed:?} after a failed {what}");
}

#[test]
fn a_failure_at_any_step_of_writing_leaves_the_older_ones_and_no_wrong_one() {
    // A disk that is full for a moment, and one that is gone, with the process.
    for (kind, for_good) in [(io::ErrorKind::StorageFull, false), (io::ErrorKind::Other, true)] {
        let mut seen = BTreeSet::new();
        for step in 1..STEPS_MAX {
            let (place, view, states) = before();
            // Opening takes one look at the directory and several at each file; the faults begin behind that.
            let opened = Checkpoints::open(place.checkpoint_dir(), Arc::new(RealDisk)).unwrap();
            let disk = FailingDisk::failing_at(step, kind, for_good);
            let mut checkpoints = opened.on(Arc::new(disk.clone()));
            let written = dump(&mut checkpoints, &view);
            let Some(what) = disk.failed() else {
                written.unwrap();
                assert_eq!(place.listed(), [20, 30]);
                break;
            };
            seen.insert(what);
            check(&place, &states, what);
            match written {
                // What comes after the checkpoint is durable is only tidying up.
                Ok(()) => assert!(matches!(what, "remove" | "list"), "{what}"),
                Err(error) => {
                    let full = matches!(error, CheckpointError::NoSpace { .. });
                    assert_eq!(full, kind == io::ErrorKind::StorageFull, "{error}");
                    assert_eq!(checkpoints.newest(), Some(Offset::new(20)));
                    assert_eq!(checkpoints.oldest(), Some(Offset::new(10)));
                }
            }
            // The process goes on, or another one begins, and the next attempt succeeds.
            let mut checkpoints =
                if for_good { place.checkpoints() } else { checkpoints.on(Arc::new(RealDisk)) };
            assert!(checkpoints.oldest().is_some_and(|oldest| oldest <= Offset::new(20)));
            save(&view, 40);
            dump(&mut checkpoints, &view).unwrap();
            let states =
                BTreeMap::from([(20, states[&20].clone()), (30, states[&30].clone()), (40, rows(&view))]);
            let listed = place.listed();
            assert!(listed == [20, 40] || listed == [30, 40], "{listed:?}");
            for applied in listed {
                assert_eq!(rows_in(&place.path(applied)).unwrap(), states[&applied]);
            }
            let names = std::fs::read_dir(place.checkpoint_dir()).unwrap().count();
            assert_eq!(names, 2, "nothing else is left behind");
        }
        let expected = ["create", "list", "remove", "rename", "sync", "sync_dir", "write"];
        assert_eq!(seen, BTreeSet::from(expected), "every kind of step has failed once");
    }
}

#[test]
fn a_failure_at_any_step_of_reading_falls_back_and_never_makes_a_wrong_view() {
    for step in 1..STEPS_MAX {
        let (place, view, states) = before();
        let disk = FailingDisk::failing_at(step, io::ErrorKind::Other, false);
        let mut checkpoints = place.checkpoints().on(Arc::new(disk.clone()));
        let reason = ViewError::Corrupt { table: None, key: Box::default() };
        let (view, report) = checkpoints.rebuild(view, reason, Offset::new(1)).unwrap();
        let applied = report.applied.get();
        assert_eq!(rows(&view), states[&applied]);
        if disk.failed().is_none() {
            assert_eq!(applied, 20);
            assert!(step > 5, "reading takes more steps than that");
            return;
        }
        assert_eq!(applied, 10, "after a failed step {step}");
    }
    panic!("reading takes more than {STEPS_MAX} steps");
}

#[test]
fn a_view_that_is_half_filled_when_the_process_ends_is_filled_again() {
    let (place, view, states) = before();
    let (dir, options) = view.close().unwrap();
    for rows_in in [0, 1, 150, 299, 300] {
        let mut fill = View::begin_fill(&dir, options).unwrap();
        for ((table, key), value) in states[&20].iter().take(rows_in) {
            fill.put(&[&[*table], key.as_slice()].concat(), value).unwrap();
        }
        // What was handed to the store is there, what makes it a view is not.
        fill.abandon().unwrap();
        let error = View::open_existing(&dir, options).unwrap_err();
        assert!(matches!(error, ViewError::Unfinished), "{error}");
        let (view, report) = place.checkpoints().rebuild_in(&dir, options, None, Offset::ZERO).unwrap();
        assert_eq!((report.applied, rows(&view)), (Offset::new(20), states[&20].clone()));
        assert!(report.set_aside.is_none());
        view.close().unwrap();
    }
}

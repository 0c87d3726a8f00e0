//! Room made in a full log, and the gate before reopening.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::{Rig, bell, options, staged};
use crate::group_commit::{CommitState, GroupCommit, GroupCommitOptions, PoisonCause, SubmitError, Urgency};
use crate::log::{Log, LogError, MemoryLog};
use crate::offset::Offset;

const PAYLOAD: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// Submits until the log is full; how many events it took.
fn fill_up(rig: &Rig) -> u64 {
    let mut taken = 0;
    loop {
        match rig.submit(PAYLOAD, Urgency::Now) {
            Ok(_) => drop(rig.next_group()),
            Err(refused) => {
                assert_eq!(refused, SubmitError::LogFull);
                return taken;
            }
        }
        taken += 1;
    }
}

#[test]
fn a_full_log_takes_events_again_at_once_when_it_is_trimmed() {
    let limited = || GroupCommitOptions { max_bytes: 40_000, ..options() };
    for rig in [Rig::memory(limited()), Rig::file(limited())] {
        assert!(!rig.commit.refuses_events());
        let first = fill_up(&rig);
        assert!(first > 50);
        assert_eq!(rig.commit.trim(Offset::ZERO).unwrap().segments, 0);
        assert!(rig.commit.refuses_events());
        assert_eq!(rig.submit(PAYLOAD, Urgency::Now), Err(SubmitError::LogFull));
        let before = rig.commit.stats().log_bytes;
        let trimmed = rig.commit.trim(Offset::new(first / 2)).unwrap();
        assert!(trimmed.bytes > 10_000 && trimmed.earliest <= Offset::new(first / 2));
        assert_eq!(rig.commit.stats().log_bytes, before - trimmed.bytes);
        assert_eq!(rig.reader.bounds().0, trimmed.earliest);
        assert!(!rig.commit.refuses_events());
        let second = fill_up(&rig);
        // As many again as fit the room made, by their size in the log.
        let each = before / first;
        assert!(second >= trimmed.bytes / each - 2 && second <= trimmed.bytes / each + 2, "{second}");
        assert!(rig.commit.stats().log_bytes <= 40_000);
    }
}

#[test]
fn a_trim_that_fails_half_way_makes_the_room_it_made() {
    let rig = Rig::file(GroupCommitOptions { max_bytes: 40_000, ..options() });
    let taken = fill_up(&rig);
    let before = rig.commit.stats().log_bytes;
    rig.faults.fail_remove(3);
    assert!(matches!(rig.commit.trim(Offset::new(taken)), Err(LogError::Io { doing: "remove", .. })));
    let room = before - rig.commit.stats().log_bytes;
    assert!(room > 4096 && room <= 2 * 4096, "two files of three: {room}");
    assert!(fill_up(&rig) > 0);
}

#[test]
fn trimming_beside_commits_never_leaves_a_wrong_size() {
    let rig = Rig::file(GroupCommitOptions { max_bytes: 60_000, ..options() });
    let trimming = {
        let (commit, reader) = (rig.commit.clone(), Arc::clone(&rig.reader));
        thread::spawn(move || {
            let mut end = Offset::ZERO;
            while end < Offset::new(2000) {
                end = reader.bounds().1;
                commit.trim(Offset::new(end.get().saturating_sub(50))).unwrap();
            }
        })
    };
    let mut taken = 0;
    while taken < 2000 {
        match rig.submit(PAYLOAD, Urgency::Now) {
            Ok(_) => {
                taken += 1;
                rig.next_group();
            }
            Err(SubmitError::LogFull) => thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
    trimming.join().unwrap();
    let trimmed = rig.commit.trim(Offset::new(1950)).unwrap();
    let size = rig.commit.stats().log_bytes;
    let mut left = 0;
    let mut next = trimmed.earliest;
    while let Some(page) = rig.reader.read_page(next, usize::MAX).unwrap() {
        left += page.batch.byte_len() as u64 + 80;
        next = page.next;
    }
    assert_eq!(size, left, "each file is one page and its header");
}

#[test]
fn the_log_is_not_reopened_before_the_gate_agrees() {
    let log = MemoryLog::new();
    let faults = log.handle().faults().clone();
    let asked = Arc::new(AtomicUsize::new(0));
    let gate = {
        let asked = Arc::clone(&asked);
        Box::new(move || match asked.fetch_add(1, Ordering::SeqCst) {
            0..4 => Err(io::Error::other("the reserve is not back")),
            _ => Ok(()),
        })
    };
    let quick = GroupCommitOptions { reopen_delay: Duration::from_millis(1), ..options() };
    let trimmer = log.trimmer();
    let commit =
        GroupCommit::start_gated(Box::new(log), quick, Box::new(|| 777), Box::new(drop), gate).unwrap();
    faults.limit_space(Some(10));
    let (waker, _, woken) = bell();
    commit.submit(&mut staged(&["lost"]), Urgency::Now, &waker, None).unwrap();
    woken.recv_timeout(Duration::from_secs(30)).unwrap();
    faults.limit_space(None);
    while asked.load(Ordering::SeqCst) < 3 {
        thread::yield_now();
    }
    if asked.load(Ordering::SeqCst) < 5 {
        // Poisoned all the time for the reason it had, unless the gate has agreed in the meantime.
        match commit.state() {
            CommitState::Poisoned { since_ms, cause, .. } => {
                assert_eq!((since_ms, cause), (777, PoisonCause::NoSpace));
            }
            state => assert!(asked.load(Ordering::SeqCst) == 5, "{state:?}"),
        }
    }
    assert!(trimmer.trim(Offset::new(9)).is_ok(), "trimming does not depend on it");
    while commit.state() != CommitState::Running {
        thread::yield_now();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    commit.submit(&mut staged(&["taken"]), Urgency::Now, &waker, None).unwrap();
    commit.shutdown();
    assert_eq!(commit.stats().events, 1);
}

#[test]
fn a_gate_that_never_agrees_does_not_hold_up_the_shutdown() {
    let log = MemoryLog::new();
    log.handle().faults().fail_sync(1);
    let quick = GroupCommitOptions { reopen_delay: Duration::from_millis(1), ..options() };
    let gate = Box::new(|| Err(io::ErrorKind::StorageFull.into()));
    let commit =
        GroupCommit::start_gated(Box::new(log), quick, Box::new(|| 1), Box::new(drop), gate).unwrap();
    let (waker, _, woken) = bell();
    commit.submit(&mut staged(&["lost"]), Urgency::Now, &waker, None).unwrap();
    woken.recv_timeout(Duration::from_secs(30)).unwrap();
    commit.shutdown();
    assert_eq!((commit.state(), commit.stats().reopened), (CommitState::Stopped, 0));
}

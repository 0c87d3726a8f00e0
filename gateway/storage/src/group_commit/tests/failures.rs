//! What fails is never acknowledged, is told to everybody, and is recovered from.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{Rig, bell, options, payloads, staged};
use crate::group_commit::{
    CommitState, Durability, GroupCommit, GroupCommitOptions, PoisonCause, SubmitError, Urgency,
};
use crate::log::{Faults, MemoryLog};
use crate::offset::Offset;

fn a_failed_sync_is_never_acknowledged(rig: &Rig) {
    rig.submit("good", Urgency::Now).unwrap();
    let good = rig.next_group();
    rig.faults.stall_sync();
    rig.faults.fail_sync(1);
    let (waker, _, woken) = bell();
    let submit = |payload| rig.commit.submit(&mut staged(&[payload]), Urgency::Now, &waker, None).unwrap();
    let lost = submit("lost in flight");
    rig.faults.wait_until_stalled();
    let lost_too = submit("lost in the open group");
    let syncs = rig.faults.calls().1;
    rig.faults.release_sync();
    for _ in 0..2 {
        woken.recv_timeout(Duration::from_secs(30)).unwrap();
    }
    let CommitState::Poisoned { since_ms, cause, reason } = rig.commit.state() else { panic!() };
    assert_eq!((since_ms, cause), (777, PoisonCause::Sync));
    assert!(reason.contains("injected sync failure"), "{reason}");
    assert_eq!(rig.submit("refused", Urgency::Now), Err(SubmitError::Unavailable { reason }));
    assert_eq!(rig.faults.calls().1, syncs, "the sync is not tried again");
    assert!(rig.groups.try_recv().is_err(), "no group comes out");
    assert!(!good.durable.covers(lost) && !good.durable.covers(lost_too));
    assert_eq!(rig.reader.bounds().1, Offset::new(1));
    assert_eq!(rig.commit.stats().entries_failed, 2);
    rig.commit.shutdown();
    assert_eq!(rig.commit.state(), CommitState::Stopped);
}

#[test]
fn a_failed_sync_is_never_acknowledged_in_memory() {
    a_failed_sync_is_never_acknowledged(&Rig::memory(options()));
}

#[test]
fn a_failed_sync_is_never_acknowledged_on_a_file() {
    a_failed_sync_is_never_acknowledged(&Rig::file(options()));
}

fn after_reopening_offsets_go_on_and_lost_tickets_stay_lost(rig: &Rig, fail: impl Fn(&Faults)) {
    let early = rig.submit("early", Urgency::Now).unwrap();
    rig.next_group();
    fail(&rig.faults);
    let (waker, _, woken) = bell();
    let lost = rig.commit.submit(&mut staged(&["lost"]), Urgency::Now, &waker, None).unwrap();
    woken.recv_timeout(Duration::from_secs(30)).unwrap();
    rig.faults.limit_space(None);
    let late = rig.submit_when_reopened("late");
    let group = rig.next_group();
    assert_eq!(payloads(&group.batch), ["late"]);
    assert_eq!(group.batch.first(), Offset::new(1), "behind the last durable entry");
    assert!(group.durable.covers(late));
    for ticket in [early, lost] {
        assert!(!group.durable.covers(ticket) && group.durable.outlives(ticket));
    }
    assert!(!group.durable.outlives(late));
    assert!(lost < late);
    assert_eq!(rig.commit.stats().reopened, 1);
    let page = rig.reader.read_page(Offset::new(1), 1 << 20).unwrap().unwrap();
    assert_eq!(payloads(&page.batch).last().unwrap(), "late");
}

fn reopening() -> GroupCommitOptions {
    GroupCommitOptions { reopen_delay: Duration::from_millis(1), ..options() }
}

#[test]
fn after_a_failed_sync_the_log_is_reopened() {
    for rig in [Rig::memory(reopening()), Rig::file(reopening())] {
        after_reopening_offsets_go_on_and_lost_tickets_stay_lost(&rig, |faults| faults.fail_sync(1));
    }
}

#[test]
fn after_a_torn_write_the_log_is_reopened_even_if_the_first_attempt_fails() {
    for rig in [Rig::memory(reopening()), Rig::file(reopening())] {
        after_reopening_offsets_go_on_and_lost_tickets_stay_lost(&rig, |faults| {
            faults.tear_write(1, 50);
            faults.fail_reopen(1);
        });
    }
}

#[test]
fn after_a_full_disk_the_log_is_reopened_when_there_is_space() {
    for rig in [Rig::memory(reopening()), Rig::file(reopening())] {
        after_reopening_offsets_go_on_and_lost_tickets_stay_lost(&rig, |faults| faults.limit_space(Some(60)));
    }
}

#[test]
fn a_full_disk_is_told_apart_from_other_failures() {
    for rig in [Rig::memory(options()), Rig::file(options())] {
        rig.faults.limit_space(Some(60));
        let (waker, _, woken) = bell();
        rig.commit.submit(&mut staged(&["a"]), Urgency::Now, &waker, None).unwrap();
        woken.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(matches!(rig.commit.state(), CommitState::Poisoned { cause: PoisonCause::NoSpace, .. }));
    }
}

#[test]
fn a_waiter_for_room_is_woken_when_the_log_fails() {
    let rig = Rig::memory(GroupCommitOptions { group_bytes_max: 200, ..options() });
    rig.faults.stall_sync();
    rig.faults.fail_sync(1);
    rig.submit("a", Urgency::Now).unwrap();
    rig.faults.wait_until_stalled();
    rig.submit("b", Urgency::Now).unwrap();
    let (waker, _, woken) = bell();
    let mut large = staged(&["x".repeat(150).as_str()]);
    assert_eq!(rig.commit.submit(&mut large, Urgency::Now, &waker, None), Err(SubmitError::Full));
    rig.faults.release_sync();
    woken.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(matches!(
        rig.commit.submit(&mut large, Urgency::Now, &waker, None),
        Err(SubmitError::Unavailable { .. })
    ));
}

#[test]
fn a_failed_interval_sync_poisons_and_its_offsets_are_not_used_again() {
    let interval = Durability::Interval(Duration::from_millis(1));
    let rig = Rig::file(GroupCommitOptions { durability: interval, ..reopening() });
    rig.faults.fail_sync(1);
    rig.submit("acknowledged and lost", Urgency::Now).unwrap();
    rig.next_group();
    while rig.commit.stats().reopened == 0 {
        thread::yield_now();
    }
    rig.submit_when_reopened("after");
    assert_eq!(rig.next_group().batch.first(), Offset::new(1));
}

#[test]
fn a_sink_may_shut_down_and_its_panic_is_told() {
    let slot: Arc<Mutex<Option<GroupCommit>>> = Arc::default();
    let from_sink = Arc::clone(&slot);
    let sink = Box::new(move |_| {
        if let Some(commit) = from_sink.lock().unwrap().take() {
            commit.shutdown();
        }
    });
    let commit = GroupCommit::start(Box::new(MemoryLog::new()), options(), Box::new(|| 0), sink).unwrap();
    *slot.lock().unwrap() = Some(commit.clone());
    commit.submit(&mut staged(&["a"]), Urgency::Now, &bell().0, None).unwrap();
    while commit.state() != CommitState::Stopped {
        thread::yield_now();
    }

    let sink = Box::new(|_| panic!("the sink's fault"));
    let commit = GroupCommit::start(Box::new(MemoryLog::new()), options(), Box::new(|| 0), sink).unwrap();
    commit.submit(&mut staged(&["a"]), Urgency::Now, &bell().0, None).unwrap();
    loop {
        match commit.state() {
            CommitState::Poisoned { cause, .. } => break assert_eq!(cause, PoisonCause::Fatal),
            _ => thread::yield_now(),
        }
    }
}

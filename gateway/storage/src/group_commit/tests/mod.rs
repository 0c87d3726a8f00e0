//! Groups, receipts, room, urgency, durability; [`compression`], [`failures`], [`races`], [`trimming`] and [`waiting`] have files of their own.

mod compression;
mod failures;
mod races;
mod trimming;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::open_group::{self, Waiters};
use super::{
    CommitState, CommittedGroup, Durability, Durable, GroupCommit, GroupCommitOptions, ReceiptCell,
    SubmitError, Ticket, Urgency,
};
use crate::batch::Batch;
use crate::entry::{Entry, Event};
use crate::log::faulty_disk::FaultyDisk;
use crate::log::{Faults, Log, LogReader, MemoryLog, SegmentsLog, SegmentsOptions};
use crate::offset::Offset;
use crate::staging::Staging;

const NEVER: Duration = Duration::from_secs(3600);

/// Counts how often it is woken, and lets a test wait for it.
struct Bell {
    rung: AtomicUsize,
    sender: SyncSender<()>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.fetch_add(1, Ordering::SeqCst);
        let _full = self.sender.try_send(());
    }
}

fn bell() -> (Waker, Arc<Bell>, Receiver<()>) {
    let (sender, receiver) = sync_channel(64);
    let bell = Arc::new(Bell { rung: AtomicUsize::new(0), sender });
    (Waker::from(Arc::clone(&bell)), bell, receiver)
}

fn options() -> GroupCommitOptions {
    GroupCommitOptions { lazy_delay: NEVER, reopen_delay: NEVER, ..GroupCommitOptions::default() }
}

/// Group commit over a log, its faults, and what came out of the sink.
struct Rig {
    commit: GroupCommit,
    faults: Faults,
    reader: Arc<dyn LogReader>,
    groups: Receiver<CommittedGroup>,
    _dir: Option<TempDir>,
}

impl Rig {
    fn memory(options: GroupCommitOptions) -> Self {
        let log = MemoryLog::new();
        let faults = log.handle().faults().clone();
        Self::over(Box::new(log), faults, None, options)
    }

    /// A real file on a failing seam.
    fn file(options: GroupCommitOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new();
        let segments = SegmentsOptions { segment_bytes: 4096, reserve_bytes: 1024 };
        let (log, _) = SegmentsLog::open_on(Arc::new(disk.clone()), dir.path(), segments).unwrap();
        Self::over(Box::new(log), disk.faults().clone(), Some(dir), options)
    }

    fn over(log: Box<dyn Log>, faults: Faults, dir: Option<TempDir>, options: GroupCommitOptions) -> Self {
        let reader = log.reader();
        let (sender, groups) = sync_channel(1024);
        let sink = Box::new(move |group| sender.send(group).unwrap());
        let commit = GroupCommit::start(log, options, Box::new(|| 777), sink).unwrap();
        Self { commit, faults, reader, groups, _dir: dir }
    }

    fn submit(&self, payload: &str, urgency: Urgency) -> Result<Ticket, SubmitError> {
        self.commit.submit(&mut staged(&[payload]), urgency, &bell().0, None)
    }

    /// Submits, going round as long as the log is unavailable.
    fn submit_when_reopened(&self, payload: &str) -> Ticket {
        loop {
            match self.submit(payload, Urgency::Now) {
                Ok(ticket) => return ticket,
                Err(SubmitError::Unavailable { .. }) => thread::yield_now(),
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn next_group(&self) -> CommittedGroup {
        self.groups.recv_timeout(Duration::from_secs(30)).unwrap()
    }
}

fn event(payload: &str) -> Event<'_> {
    Event {
        client_id: "pump-1",
        topic: "devices/pump-1/pressure",
        qos: 1,
        retain: false,
        received_ms: 5,
        expires_at_ms: 0,
        properties: &[],
        payload: payload.as_bytes(),
    }
}

fn staged(payloads: &[&str]) -> Staging {
    let mut staging = Staging::new();
    for payload in payloads {
        staging.push_event(&event(payload)).unwrap();
    }
    staging
}

fn payloads(batch: &Batch) -> Vec<String> {
    (0..batch.len())
        .map(|index| String::from_utf8(batch.event(index).unwrap().payload.to_vec()).unwrap())
        .collect()
}

#[test]
fn a_lone_entry_is_committed_at_once_and_its_receipt_covers_its_ticket() {
    let rig = Rig::memory(options());
    let (waker, _, _) = bell();
    let mut staging = staged(&["a", "b"]);
    let ticket = rig.commit.submit(&mut staging, Urgency::Now, &waker, None).unwrap();
    assert!(staging.is_empty());
    let group = rig.next_group();
    assert!(group.durable.covers(ticket));
    assert_eq!(payloads(&group.batch), ["a", "b"]);
    assert_eq!((group.batch.first(), group.batch.end()), (Offset::ZERO, Offset::new(2)));
    assert_eq!(group.batch.time_ms(0), 777);
    assert_eq!(group.contributors.len(), 1);
    assert!(group.contributors[0].will_wake(&waker));
    assert_eq!(rig.reader.bounds().1, Offset::new(2));
    let stats = rig.commit.stats();
    assert_eq!((stats.groups, stats.entries, stats.events, stats.syncs), (1, 2, 2, 1));
    assert_eq!(stats.bytes_written, stats.bytes + 40);
    assert_eq!(rig.commit.drain_samples().len(), 1);
}

#[test]
fn what_arrives_during_a_sync_becomes_one_group_and_a_named_ticket_saves_a_wake_up() {
    let rig = Rig::memory(options());
    rig.faults.stall_sync();
    let first = rig.submit("a", Urgency::Now).unwrap();
    rig.faults.wait_until_stalled();
    let (waker, _, _) = bell();
    let submit =
        |payload, last| rig.commit.submit(&mut staged(&[payload]), Urgency::Now, &waker, last).unwrap();
    let second = submit("b", Some(first));
    let third = submit("c", Some(second));
    let fourth = submit("d", None);
    assert!(first < second && second == third && third == fourth);
    rig.faults.release_sync();
    let (one, two) = (rig.next_group(), rig.next_group());
    assert_eq!(
        (payloads(&one.batch), payloads(&two.batch)),
        (vec!["a".into()], vec!["b".into(), "c".into(), "d".into()])
    );
    assert!(one.durable.covers(first) && !one.durable.covers(second) && two.durable.covers(second));
    assert_eq!(two.contributors.len(), 2, "named once, not named once");
    assert_eq!(two.batch.first(), Offset::new(1));
}

#[test]
fn a_full_group_keeps_the_submission_back_and_wakes_each_waiter_once() {
    let rig = Rig::memory(GroupCommitOptions { group_bytes_max: 200, ..options() });
    rig.faults.stall_sync();
    rig.submit("a", Urgency::Now).unwrap();
    rig.faults.wait_until_stalled();
    rig.submit("b", Urgency::Lazy).unwrap();
    let (waker, bell, woken) = bell();
    let mut staging = staged(&["x".repeat(100).as_str()]);
    for _ in 0..3 {
        let refused = rig.commit.submit(&mut staging, Urgency::Now, &waker, None);
        assert_eq!(refused, Err(SubmitError::Full));
    }
    assert_eq!(staging.len(), 1, "the staging area is as before");
    assert_eq!(bell.rung.load(Ordering::SeqCst), 0);
    rig.faults.release_sync();
    woken.recv_timeout(Duration::from_secs(30)).unwrap();
    rig.commit.submit(&mut staging, Urgency::Now, &waker, None).unwrap();
    let sizes: Vec<_> = (0..3).map(|_| rig.next_group().batch.len()).collect();
    assert_eq!(sizes, [1, 1, 1]);
    assert_eq!(bell.rung.load(Ordering::SeqCst), 1);
}

#[test]
fn a_submission_larger_than_a_group_is_a_group_of_its_own() {
    let rig = Rig::memory(GroupCommitOptions { group_bytes_max: 100, ..options() });
    rig.submit(&"x".repeat(1000), Urgency::Now).unwrap();
    assert_eq!(rig.next_group().batch.len(), 1);
}

#[test]
fn lazy_entries_wait_for_company() {
    let rig = Rig::memory(options());
    let lazy = rig.submit("lazy", Urgency::Lazy).unwrap();
    let urgent = rig.submit("urgent", Urgency::Now).unwrap();
    assert_eq!(lazy, urgent);
    assert_eq!(payloads(&rig.next_group().batch), ["lazy", "urgent"]);
}

#[test]
fn lazy_entries_without_company_go_after_the_delay_or_at_half_a_group_or_at_shutdown() {
    let rig = Rig::memory(GroupCommitOptions { lazy_delay: Duration::from_millis(1), ..options() });
    rig.submit("after the delay", Urgency::Lazy).unwrap();
    assert_eq!(rig.next_group().batch.len(), 1);

    let rig = Rig::memory(GroupCommitOptions { group_bytes_max: 400, ..options() });
    rig.submit(&"x".repeat(200), Urgency::Lazy).unwrap();
    assert_eq!(rig.next_group().batch.len(), 1);

    let rig = Rig::memory(options());
    rig.submit("at shutdown", Urgency::Lazy).unwrap();
    rig.commit.shutdown();
    assert_eq!(rig.next_group().batch.len(), 1);
}

#[test]
fn an_empty_submission_gets_the_ticket_of_the_group_before() {
    let rig = Rig::memory(options());
    let before = rig.submit("a", Urgency::Now).unwrap();
    let durable = rig.next_group().durable;
    let ticket = rig.commit.submit(&mut Staging::new(), Urgency::Now, &bell().0, None).unwrap();
    assert_eq!(ticket, before);
    assert!(durable.covers(ticket));
}

#[test]
fn commit_times_never_go_back_with_the_clock() {
    let log = MemoryLog::new();
    let (sender, groups) = sync_channel(16);
    let times = [5000, 3000, 4000, 6000];
    let calls = AtomicUsize::new(0);
    let clock = Box::new(move || times[calls.fetch_add(1, Ordering::SeqCst).min(3)]);
    let sink = Box::new(move |group: CommittedGroup| sender.send(group.batch.time_ms(0)).unwrap());
    let commit = GroupCommit::start(Box::new(log), options(), clock, sink).unwrap();
    let stamped: Vec<u64> = (0..4)
        .map(|_| {
            commit.submit(&mut staged(&["a"]), Urgency::Now, &bell().0, None).unwrap();
            groups.recv().unwrap()
        })
        .collect();
    assert_eq!(stamped, [5000, 5000, 5000, 6000]);
}

#[test]
fn a_full_log_refuses_events_and_takes_acknowledgements_for_a_while() {
    let rig = Rig::memory(GroupCommitOptions { max_bytes: 1600, ..options() });
    let mut events = 0;
    while rig
        .submit("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", Urgency::Now)
        .is_ok()
    {
        rig.next_group();
        events += 1;
    }
    assert_eq!(rig.submit("x".repeat(200).as_str(), Urgency::Now), Err(SubmitError::LogFull));
    assert!(events > 5 && rig.commit.stats().log_bytes <= 1600);
    let mut acknowledgements = 0;
    loop {
        let mut staging = Staging::new();
        staging.push(&Entry::Acknowledged { client_id: "worker", runs: &[1, 2, 3] }).unwrap();
        match rig.commit.submit(&mut staging, Urgency::Now, &bell().0, None) {
            Ok(_) => acknowledgements += 1,
            Err(refused) => {
                assert_eq!(refused, SubmitError::LogFull);
                break;
            }
        }
        rig.next_group();
    }
    assert!(acknowledgements > 0);
    assert!(rig.commit.stats().log_bytes <= 1700);
}

#[test]
fn with_an_interval_receipts_come_before_the_sync_which_comes_in_time() {
    let rig = Rig::memory(GroupCommitOptions { durability: Durability::Interval(NEVER), ..options() });
    let ticket = rig.submit("a", Urgency::Now).unwrap();
    assert!(rig.next_group().durable.covers(ticket));
    assert_eq!(rig.faults.calls(), (1, 0));
    assert_eq!(rig.reader.bounds().1, Offset::new(1));
    rig.commit.shutdown();
    assert_eq!(rig.faults.calls(), (1, 1), "shutdown syncs");

    let interval = Durability::Interval(Duration::from_millis(1));
    let rig = Rig::memory(GroupCommitOptions { durability: interval, ..options() });
    rig.submit("a", Urgency::Now).unwrap();
    while rig.faults.calls().1 == 0 {
        thread::yield_now();
    }
}

#[test]
fn with_memory_durability_only_shutdown_syncs() {
    let rig = Rig::memory(GroupCommitOptions { durability: Durability::Memory, ..options() });
    for _ in 0..5 {
        rig.submit("a", Urgency::Now).unwrap();
        rig.next_group();
    }
    assert_eq!(rig.faults.calls(), (5, 0));
    rig.commit.shutdown();
    assert_eq!(rig.faults.calls(), (5, 1));
}

#[test]
fn shutdown_commits_what_is_open_and_can_be_repeated() {
    let rig = Rig::memory(options());
    rig.faults.stall_sync();
    rig.submit("a", Urgency::Now).unwrap();
    rig.faults.wait_until_stalled();
    rig.submit("b", Urgency::Lazy).unwrap();
    rig.faults.release_sync();
    rig.commit.shutdown();
    rig.commit.clone().shutdown();
    assert_eq!(rig.groups.try_iter().count(), 2);
    assert_eq!(rig.submit("c", Urgency::Now), Err(SubmitError::Stopped));
    assert_eq!(rig.commit.state(), CommitState::Stopped);
}

#[test]
fn dropping_the_last_handle_commits_what_is_open() {
    let rig = Rig::memory(options());
    rig.submit("a", Urgency::Lazy).unwrap();
    let Rig { commit, groups, .. } = rig;
    drop(commit);
    assert_eq!(groups.try_iter().count(), 1);
}

#[test]
fn a_small_group_does_not_keep_a_large_buffer() {
    let rig = Rig::memory(options());
    rig.submit(&"x".repeat(500_000), Urgency::Now).unwrap();
    drop(rig.next_group());
    for _ in 0..4 {
        rig.submit("small", Urgency::Now).unwrap();
        assert!(rig.next_group().batch.memory_bytes() < 1000);
    }
}

#[test]
fn waiters_for_room_are_bounded() {
    let mut waiters = Waiters::default();
    let mut woken = 0;
    for _ in 0..open_group::WAITERS_MAX + 1 {
        woken += waiters.keep(&bell().0).len();
    }
    assert_eq!(woken, open_group::WAITERS_MAX);
    assert_eq!(waiters.take().len(), 1);
}

#[test]
fn a_receipt_cell_keeps_the_newest_receipt() {
    let cell = ReceiptCell::new();
    assert_eq!(cell.load(), None);
    let (old, new) = (Durable::mint(Ticket::new(0, 4)), Durable::mint(Ticket::new(0, 9)));
    cell.publish(new);
    cell.publish(old);
    assert_eq!(cell.load(), Some(new));
    let next_life = Durable::mint(Ticket::new(1, 10));
    cell.publish(next_life);
    assert_eq!(cell.load(), Some(next_life));
}

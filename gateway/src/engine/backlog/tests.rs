//! A backlog, with its chunks let go of, read back, saved and restored at any moment.

mod model;

use super::*;
use crate::engine::snapshot::pending::{self, ChunkError, Chunks};
use gateway_protocol::QoS;
use gateway_storage::{Changes, Table, View, ViewOptions};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const NO_LIMIT: BacklogLimits = BacklogLimits { messages_max: u64::MAX, bytes_max: u64::MAX };
const CLIENT: &str = "a";

fn profile(qos: QoS) -> Profile {
    Profile { qos, retain_as_published: false, is_retained: false, subscription_ids: None, group: None }
}

fn numbered(id: u32) -> Profile {
    let qos = if id == 2 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
    Profile { subscription_ids: Some([id].into()), ..profile(qos) }
}

fn filled(offsets: impl Iterator<Item = u64>) -> Backlog {
    let mut backlog = Backlog::default();
    for offset in offsets {
        assert!(backlog.push(Offset::new(offset), &profile(QoS::AtLeastOnce), 240, &NO_LIMIT));
    }
    backlog
}

/// A view that is saved and read for real.
struct Saved {
    view: View,
    applied: u64,
    _dir: tempfile::TempDir,
}

impl Saved {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (view, _) = View::open(dir.path().join("view"), ViewOptions::default()).unwrap();
        Self { view, applied: 0, _dir: dir }
    }

    fn save(&mut self, backlog: &mut Backlog) {
        let mut changes = Changes::new();
        pending::save(CLIENT, backlog, &mut changes).unwrap();
        self.applied += 1;
        self.view.save(&changes, Offset::new(self.applied)).unwrap();
    }

    fn restore(&self, backlog: &Backlog) -> Backlog {
        let mut parts = Parts::default();
        let scanned = self.view.scan(Table::Pending, &mut |key, value| {
            pending::restore(&key[CLIENT.len() + 1..], value, &mut parts).expect("the row is legible");
        });
        scanned.unwrap();
        parts.ends(backlog.low(), backlog.end(), backlog.oldest_bytes());
        parts.given_up(backlog.given_up_ranges());
        parts.into_backlog().expect("what was saved can be restored")
    }

    fn rows(&self) -> u64 {
        self.view.scan(Table::Pending, &mut |_, _| {}).unwrap()
    }
}

/// Everything that is due, as (sequence, offset, received).
fn due(backlog: &Backlog, chunks: &dyn Chunks) -> Vec<(u64, u64, bool)> {
    let (mut reader, mut batch) = (DueReader::default(), DueBatch::default());
    let (mut from, mut found) = (0, Vec::new());
    loop {
        match backlog.fetch(from, &mut reader, &mut batch) {
            Fetch::Nothing => return found,
            Fetch::GivenUp(given_up) => panic!("{given_up:?}"),
            Fetch::NotInMemory(first) => reader.give(chunks.load(CLIENT, first).unwrap()),
            Fetch::Some => {
                for run in batch.runs() {
                    let messages = (0..u64::from(run.len))
                        .map(|at| (run.sequence + at, run.offset.get() + at, run.is_received));
                    found.extend(messages);
                    from = run.sequence + u64::from(run.len);
                }
            }
        }
    }
}

/// Where nothing is to be read back.
struct Nowhere;

impl Chunks for Nowhere {
    fn load(&self, _: &str, first: u64) -> Result<LoadedChunk, ChunkError> {
        Err(ChunkError::Missing { first })
    }
}

#[test]
fn a_million_messages_for_one_who_takes_all_take_less_than_64_kib() {
    let backlog = filled(0..1_000_000);
    assert_eq!((backlog.pending(), backlog.pending_bytes()), (1_000_000, 240_000_000));
    // Every chunk is in memory still: 489 of them, each with one run.
    assert!(backlog.memory_bytes() < 256 << 10, "{} bytes", backlog.memory_bytes());
    let mut saved = Saved::new();
    let mut backlog = backlog;
    saved.save(&mut backlog);
    backlog.page_out(None);
    assert!(backlog.memory_bytes() < 64 << 10, "{} bytes", backlog.memory_bytes());
    assert_eq!(due(&backlog, &saved.view).len(), 1_000_000);
}

#[test]
fn a_million_sparse_messages_take_less_than_256_kib_once_saved_and_after_a_restart() {
    let mut backlog = filled((0..1_000_000).map(|at| at * 1000));
    assert!(backlog.memory_bytes() < 5 << 20, "{} bytes before the save", backlog.memory_bytes());
    let mut saved = Saved::new();
    saved.save(&mut backlog);
    backlog.page_out(None);
    assert!(backlog.memory_bytes() < 256 << 10, "{} bytes", backlog.memory_bytes());
    let restored = saved.restore(&backlog);
    assert!(restored.memory_bytes() < 256 << 10, "{} bytes", restored.memory_bytes());
    let found = due(&restored, &saved.view);
    assert!(found.iter().zip(0..).all(|(found, at)| *found == (at, at * 1000, false)));
    assert_eq!(found.len(), 1_000_000);
}

#[test]
fn a_thousand_sessions_with_a_thousand_sparse_messages_each_take_less_than_6_mib() {
    let mut backlogs: Vec<Backlog> = (0..1000).map(|_| Backlog::default()).collect();
    for offset in 0..1_000_000 {
        let backlog = &mut backlogs[(offset % 1000) as usize];
        assert!(backlog.push(Offset::new(offset), &profile(QoS::AtLeastOnce), 240, &NO_LIMIT));
    }
    let memory = |backlogs: &[Backlog]| -> usize {
        backlogs.iter().map(|backlog| size_of::<Backlog>() + backlog.memory_bytes()).sum()
    };
    assert!(memory(&backlogs) < 6 << 20, "{} bytes before the save", memory(&backlogs));
    for backlog in &mut backlogs {
        Saved::mark(backlog);
        backlog.page_out(None);
    }
    assert!(memory(&backlogs) < 3 << 20, "{} bytes", memory(&backlogs));
}

impl Saved {
    /// As if it had been saved.
    fn mark(backlog: &mut Backlog) {
        for chunk in backlog.unsaved_chunks() {
            chunk.set_saved();
        }
    }
}

#[test]
fn a_chunk_that_was_added_to_since_the_save_is_never_let_go_of() {
    let mut backlog = filled(0..3000);
    let mut saved = Saved::new();
    saved.save(&mut backlog);
    for offset in 3000..5000 {
        backlog.push(Offset::new(offset), &profile(QoS::AtLeastOnce), 1, &NO_LIMIT);
    }
    backlog.page_out(None);
    // The first chunk is in its row; the second was full only after the save.
    let mut reader = DueReader::default();
    let mut batch = DueBatch::default();
    assert_eq!(backlog.fetch(0, &mut reader, &mut batch), Fetch::NotInMemory(0));
    assert_eq!(backlog.fetch(2048, &mut reader, &mut batch), Fetch::Some);
    assert_eq!(due(&backlog, &saved.view).len(), 5000);
}

#[test]
fn what_is_about_to_be_delivered_stays() {
    let mut backlog = filled(0..20_000);
    Saved::mark(&mut backlog);
    backlog.page_out(Some(5000));
    let (mut reader, mut batch) = (DueReader::default(), DueBatch::default());
    for (from, expected) in [
        (0, Fetch::NotInMemory(0)),
        (4095, Fetch::NotInMemory(2048)),
        (4096, Fetch::Some),
        (8191, Fetch::Some),
        (8192, Fetch::NotInMemory(8192)),
        (19_999, Fetch::Some),
        (20_000, Fetch::Nothing),
    ] {
        assert_eq!(backlog.fetch(from, &mut reader, &mut batch), expected, "from {from}");
    }
}

#[test]
fn a_message_past_either_limit_is_not_added() {
    let limits = BacklogLimits { messages_max: 3, bytes_max: 100 };
    let mut backlog = Backlog::default();
    for offset in 0..3 {
        assert!(backlog.push(Offset::new(offset), &profile(QoS::AtLeastOnce), 10, &limits));
    }
    assert!(!backlog.push(Offset::new(3), &profile(QoS::AtLeastOnce), 10, &limits));
    assert_eq!(backlog.acknowledge(0, 2), 2);
    assert!(!backlog.push(Offset::new(3), &profile(QoS::AtLeastOnce), 91, &limits));
    assert!(backlog.push(Offset::new(3), &profile(QoS::AtLeastOnce), 90, &limits));
}

#[test]
fn every_message_keeps_its_own_profile_however_many_there_are() {
    let mut backlog = Backlog::default();
    let mut saved = Saved::new();
    for id in 0..5000 {
        assert!(backlog.push(Offset::new(u64::from(id)), &numbered(id % 1000), 1, &NO_LIMIT));
    }
    saved.save(&mut backlog);
    backlog.page_out(None);
    let (mut reader, mut batch) = (DueReader::default(), DueBatch::default());
    for id in 0..5000 {
        if let Fetch::NotInMemory(first) = backlog.fetch(u64::from(id), &mut reader, &mut batch) {
            reader.give(saved.view.load(CLIENT, first).unwrap());
            assert_eq!(backlog.fetch(u64::from(id), &mut reader, &mut batch), Fetch::Some);
        }
        assert_eq!(*batch.runs().next().unwrap().profile, numbered(id % 1000));
    }
    let mut largest = 0;
    saved.view.scan(Table::Pending, &mut |_, row| largest = row.len().max(largest)).unwrap();
    assert!(largest < 8 << 10, "a row of {largest} bytes");
}

#[test]
fn a_profile_that_no_row_could_hold_is_refused() {
    let ids: Arc<[u32]> = (0..20_000).collect();
    let mut backlog = Backlog::default();
    let huge = Profile { subscription_ids: Some(ids), ..profile(QoS::AtLeastOnce) };
    assert!(!backlog.push(Offset::new(0), &huge, 1, &NO_LIMIT));
    assert_eq!((backlog.end(), due(&backlog, &Nowhere)), (0, vec![]));
}

#[test]
fn room_is_made_by_giving_up_the_oldest() {
    let limits = BacklogLimits { messages_max: 5000, bytes_max: 5000 * 240 };
    let mut backlog = filled(0..5000);
    backlog.acknowledge(1, 1);
    assert_eq!(
        backlog.drop_oldest(1, 240, &limits, 0),
        1,
        "for the bytes: what is acknowledged out of order still counts"
    );
    assert_eq!((backlog.low(), backlog.pending()), (2, 4998));
    assert_eq!(backlog.drop_oldest(100, 0, &limits, 0), 98);
    assert_eq!((backlog.low(), backlog.pending()), (100, 4900));
    assert_eq!(backlog.drop_oldest(1, 240 * 1000, &limits, 0), 900);
    assert_eq!(backlog.low(), 1000);
    assert_eq!(backlog.drop_oldest(1, limits.bytes_max + 1, &limits, 0), 0, "there will never be room");
    assert_eq!(backlog.acknowledge(50, 10), 0, "a late acknowledgement changes nothing");
    assert_eq!(backlog.drop_oldest(0, limits.bytes_max, &limits, 0), 4000);
    assert_eq!((backlog.pending(), backlog.pending_bytes(), backlog.oldest_offset()), (0, 0, None));
    assert!(backlog.push(Offset::new(9999), &profile(QoS::AtLeastOnce), 240, &limits));
}

#[test]
fn what_was_perhaps_under_way_at_qos_2_is_remembered_until_it_is_acknowledged() {
    let limits = BacklogLimits { messages_max: 100, bytes_max: u64::MAX };
    let mut backlog = filled(0..2048);
    backlog.drop_oldest(0, 0, &limits, u64::MAX);
    assert_eq!((backlog.low(), backlog.given_up(0, u64::MAX)), (1948, None), "at QoS 1 nothing is open");

    for offset in 3000..3110 {
        backlog.drop_oldest(1, 0, &limits, u64::MAX);
        backlog.push(Offset::new(offset), &profile(QoS::ExactlyOnce), 1, &limits);
    }
    assert_eq!(
        (backlog.low(), backlog.identifiers_from()),
        (2058, 2048),
        "of the chunk that has such messages"
    );
    let given_up = |first, end, was_sent| Some(GivenUp { first, end, was_sent });
    assert_eq!(backlog.given_up(0, 2050), given_up(2048, 2050, true));
    assert_eq!(backlog.given_up(2050, 2050), given_up(2050, 2058, false));
    assert_eq!(backlog.given_up(2058, 2050), None);
    assert_eq!(backlog.acknowledge(2048, 4), 0);
    assert_eq!((backlog.identifiers_from(), backlog.given_up_ranges()), (2052, vec![(2052, 2058)]));
    assert_eq!(backlog.drop_oldest(50, 0, &limits, 2060), 50);
    assert_eq!(backlog.given_up_ranges(), [(2052, 2060)], "what was not sent is not open");
    backlog.acknowledge(0, u64::MAX);
    assert_eq!(backlog.identifiers_from(), backlog.end());
}

#[test]
fn no_more_is_remembered_than_there_are_identifiers() {
    let mut backlog = Backlog::default();
    for offset in 0..60_000 {
        backlog.push(Offset::new(offset), &profile(QoS::ExactlyOnce), 1, &NO_LIMIT);
    }
    assert!(backlog.drop_before(Offset::new(50_000), u64::MAX) >= 50_000);
    assert_eq!(backlog.given_up_ranges(), [(0, 0xBFFF)]);
}

#[test]
fn what_lies_below_an_offset_is_given_up_and_references_to_retained_messages_are_not() {
    let mut backlog = Backlog::default();
    let retained = Profile { is_retained: true, ..profile(QoS::AtLeastOnce) };
    for offset in [3, 4] {
        backlog.push(Offset::new(offset), &retained, 1, &NO_LIMIT);
    }
    assert_eq!((backlog.oldest_offset(), backlog.drop_before(Offset::new(100), 0)), (None, 0));
    for offset in [10, 11, 12, 20, 30] {
        backlog.push(Offset::new(offset), &profile(QoS::AtLeastOnce), 1, &NO_LIMIT);
    }
    assert_eq!(backlog.oldest_offset(), Some(Offset::new(10)));
    assert_eq!(backlog.drop_before(Offset::new(10), 0), 0);
    assert_eq!(
        backlog.drop_before(Offset::new(12), 0),
        4,
        "up to the last one below it, with what lies before"
    );
    assert_eq!(backlog.oldest_offset(), Some(Offset::new(12)));
    assert_eq!(due(&backlog, &Nowhere).iter().map(|due| due.1).collect::<Vec<_>>(), [12, 20, 30]);
    backlog.acknowledge(4, 1);
    assert_eq!(backlog.oldest_offset(), Some(Offset::new(20)), "acknowledged in the middle of a chunk");
}

#[test]
fn of_a_chunk_that_takes_no_more_all_is_given_up_or_nothing() {
    let mut in_memory = filled(0..10_000);
    let mut paged_out = filled(0..10_000);
    Saved::mark(&mut paged_out);
    paged_out.page_out(None);
    for backlog in [&mut in_memory, &mut paged_out] {
        assert_eq!(backlog.drop_before(Offset::new(3000), 0), 4096);
        assert_eq!(backlog.oldest_offset(), Some(Offset::new(4096)));
        assert_eq!(
            backlog.drop_before(Offset::new(9000), 0),
            9000 - 4096,
            "the newest one goes message by message"
        );
        assert_eq!((backlog.low(), backlog.oldest_offset()), (9000, Some(Offset::new(9000))));
    }
}

#[test]
fn rows_of_what_is_done_with_go() {
    let mut saved = Saved::new();
    let mut backlog = filled(0..10_000);
    backlog.acknowledge(5000, 10);
    backlog.receive(6200, 1);
    saved.save(&mut backlog);
    assert_eq!(saved.rows(), 5 + 2);
    backlog.acknowledge(0, 9000);
    saved.save(&mut backlog);
    assert_eq!(saved.rows(), 1);
    backlog.acknowledge(9000, 1000);
    saved.save(&mut backlog);
    assert_eq!(saved.rows(), 0);
    assert_eq!(saved.restore(&backlog).end(), 10_000);
}

#[test]
fn rows_that_do_not_fit_together_make_no_backlog() {
    let mut saved = Saved::new();
    let mut backlog = filled(0..10_000);
    saved.save(&mut backlog);
    let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let scanned = saved.view.scan(Table::Pending, &mut |key, value| {
        rows.insert(key[CLIENT.len() + 1..].to_vec(), value.to_vec());
    });
    scanned.unwrap();
    let restore = |left_out: Option<usize>, low: u64, end: u64| {
        let mut parts = Parts::default();
        for (_, (key, value)) in rows.iter().enumerate().filter(|(at, _)| Some(*at) != left_out) {
            pending::restore(key, value, &mut parts)?;
        }
        parts.ends(low, end, 0);
        parts.into_backlog()
    };
    assert!(restore(None, 0, 10_000).is_some());
    for left_out in 0..rows.len() {
        assert!(restore(Some(left_out), 0, 10_000).is_none(), "without row {left_out}");
    }
    assert!(restore(None, 0, 9_999).is_none() && restore(None, 2048, 10_000).is_none());
    for (key, value) in &rows {
        for at in 0..value.len() {
            let mut cut = Parts::default();
            assert!(pending::restore(key, &value[..at], &mut cut).is_none());
        }
    }
}

//! The contract every log passes.
//!
//! An implementation provides a [`Subject`] and invokes [`log_contract!`](crate::log_contract) with it in its tests; each
//! clause becomes a test of its own.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "these are the bodies of tests; a panic is how they fail"
)]

mod trim;

use super::{Faults, GroupInfo, Log, LogError, LogReader, Page};
use crate::entry::{Entry, Event};
use crate::frame;
use crate::offset::Offset;
use crate::staging::Staging;

/// A log under test, and the world around it.
pub trait Subject {
    /// The log.
    type Log: Log;
    /// Whether trimming a log of a hundred small groups removes any. Not if all of them fit one unit.
    const TRIMS: bool = true;
    /// A place for an empty log.
    fn new() -> Self;
    /// Opens the log over what is there. The log opened before is gone.
    fn open(&mut self) -> Self::Log;
    /// The power fails: what was not synced is gone, except its first `torn_tail` bytes. The log opened before is gone.
    fn lose_power(&mut self, torn_tail: usize);
    /// Flips a bit in the body of the group that holds `offset`. The log opened before is gone.
    fn damage(&mut self, offset: Offset);
    /// The plan of faults of the log opened last.
    fn faults(&self) -> Faults;
}

/// Makes a test of every clause of the contract.
#[macro_export]
macro_rules! log_contract {
    ($subject:ty) => {
        $crate::log_contract! { $subject:
            an_empty_log_has_nothing_to_read
            groups_come_back_as_they_were_written
            nothing_is_visible_before_the_sync
            a_release_makes_visible_without_a_sync
            pages_hold_whole_groups_and_respect_their_limit
            a_page_begins_with_the_group_that_holds_the_offset
            reopening_the_place_goes_on_where_it_ended
            a_power_cut_loses_only_what_was_not_synced
            a_torn_group_is_never_read
            a_damaged_group_costs_that_group_alone
            a_failed_sync_stops_the_log_until_it_is_reopened
            a_failed_write_stops_the_log_until_it_is_reopened
            a_torn_write_leaves_nothing_behind
            a_full_disk_is_told_apart_and_survived
            a_failed_reopening_can_be_tried_again
            a_failed_write_keeps_what_was_released
            a_failed_sync_of_released_groups_never_reuses_their_offsets
            a_group_out_of_order_is_refused
            advancing_leaves_a_hole
            offsets_are_found_by_time
            trimming_removes_whole_units_and_never_the_last
            a_trimmed_log_reopens_as_it_was
            a_trim_that_fails_can_be_tried_again
            a_failed_log_can_be_trimmed
            what_is_not_durable_is_not_trimmed
            readers_of_what_is_being_trimmed_go_on_at_the_earliest
            trimming_beside_the_writer_keeps_the_size_right
        }
    };
    ($subject:ty: $($clause:ident)*) => {
        $(
            #[test]
            fn $clause() {
                $crate::log::contract::$clause::<$subject>();
            }
        )*
    };
}

/// The payload of the event at this offset.
pub fn payload(offset: u64) -> Vec<u8> {
    format!("payload-{offset}").repeat(1 + (offset % 7) as usize).into_bytes()
}

/// A sealed group of `entries` events for the end of `log`.
pub fn group(log: &dyn Log, entries: u32, time_ms: u64) -> (Vec<u8>, GroupInfo) {
    let first = log.next_offset();
    let mut staging = Staging::new();
    for n in 0..entries {
        let payload = payload(first.plus(u64::from(n)).get());
        let event = Event {
            client_id: "meter-7",
            topic: "devices/meter-7/power",
            qos: 1,
            retain: false,
            received_ms: time_ms,
            expires_at_ms: 0,
            properties: &[],
            payload: &payload,
        };
        staging.push_event(&event).unwrap();
    }
    let info = GroupInfo { first, entries, time_ms };
    let mut frame = vec![0; frame::FRAME_HEADER_LEN];
    frame.extend_from_slice(staging.bytes());
    assert!(frame::seal(&mut frame, &info, log.salt()));
    (frame, info)
}

/// Appends a group without syncing.
pub fn append(log: &mut dyn Log, entries: u32, time_ms: u64) -> Result<GroupInfo, LogError> {
    let (frame, info) = group(log, entries, time_ms);
    log.append(&frame, info).map(|()| info)
}

/// Appends and syncs groups of these sizes, with commit times 1000, 2000, and so on.
pub fn fill(log: &mut dyn Log, sizes: &[u32]) {
    for (n, size) in sizes.iter().enumerate() {
        append(log, *size, 1000 * (n as u64 + 1)).unwrap();
        log.sync().unwrap();
    }
}

/// Reads everything from `from` on in pages of `max_bytes`, checks every payload against its offset, and returns the
/// offsets read and those passed over.
pub fn read_all(reader: &dyn LogReader, from: u64, max_bytes: usize) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut read, mut skipped) = (Vec::new(), Vec::new());
    let mut next = Offset::new(from);
    while let Some(page) = reader.read_page(next, max_bytes).unwrap() {
        assert!(page.next > next, "reading makes progress");
        read.extend(offsets(&page).into_iter().filter(|offset| *offset >= from));
        skipped.extend(page.skipped.iter().map(|group| (group.first.get(), group.end.get())));
        next = page.next;
    }
    (read, skipped)
}

fn offsets(page: &Page) -> Vec<u64> {
    (0..page.batch.len())
        .map(|index| {
            let offset = page.batch.offset_of(index).unwrap();
            assert_eq!(page.batch.index_of(offset), Some(index));
            match page.batch.entry(index) {
                Some(Entry::Event(event)) => assert_eq!(event.payload, payload(offset.get())),
                other => panic!("offset {offset} holds {other:?}"),
            }
            offset.get()
        })
        .collect()
}

fn all(range: std::ops::Range<u64>) -> (Vec<u64>, Vec<(u64, u64)>) {
    (range.collect(), Vec::new())
}

#[expect(missing_docs, reason = "each clause is named after what it demands")]
mod clauses {
    use super::{GroupInfo, Log, LogError, Offset, Subject, all, append, fill, group, read_all};

    pub fn an_empty_log_has_nothing_to_read<S: Subject>() {
        let mut subject = S::new();
        let log = subject.open();
        assert_eq!(log.next_offset(), Offset::ZERO);
        assert_eq!(log.reader().bounds(), (Offset::ZERO, Offset::ZERO));
        assert!(log.reader().read_page(Offset::ZERO, 1 << 20).unwrap().is_none());
        assert_eq!(log.reader().offset_at(5).unwrap(), Offset::ZERO);
    }

    pub fn groups_come_back_as_they_were_written<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[1, 3, 20, 1, 5]);
        assert_eq!(log.reader().bounds(), (Offset::ZERO, Offset::new(30)));
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..30));
        let page = log.reader().read_page(Offset::new(2), 1 << 20).unwrap().unwrap();
        assert_eq!(page.batch.time_ms(0), 2000);
        assert_eq!(log.last_time_ms(), 5000);
    }

    pub fn nothing_is_visible_before_the_sync<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[2]);
        append(&mut log, 3, 2000).unwrap();
        let reader = log.reader();
        assert_eq!(reader.bounds().1, Offset::new(2));
        assert_eq!(read_all(reader.as_ref(), 0, 1 << 20), all(0..2));
        assert_eq!(reader.offset_at(2000).unwrap(), Offset::new(2));
        log.sync().unwrap();
        assert_eq!(read_all(reader.as_ref(), 0, 1 << 20), all(0..5));
    }

    pub fn a_release_makes_visible_without_a_sync<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        append(&mut log, 3, 1000).unwrap();
        log.release();
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..3));
        drop(log);
        subject.lose_power(0);
        assert_eq!(subject.open().next_offset(), Offset::ZERO, "but it is not durable");
    }

    pub fn pages_hold_whole_groups_and_respect_their_limit<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[4; 50]);
        let reader = log.reader();
        for max_bytes in [0, 1, 400, 1000, 5000, usize::MAX] {
            let page = reader.read_page(Offset::ZERO, max_bytes).unwrap().unwrap();
            assert_eq!(page.batch.len() % 4, 0, "whole groups");
            assert!(page.batch.len() == 4 || page.batch.byte_len() <= max_bytes);
            assert_eq!(read_all(reader.as_ref(), 0, max_bytes), all(0..200));
        }
    }

    pub fn a_page_begins_with_the_group_that_holds_the_offset<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[5, 5, 5]);
        for from in 0..15 {
            let page = log.reader().read_page(Offset::new(from), 1).unwrap().unwrap();
            assert_eq!(page.batch.first().get(), from / 5 * 5);
            assert_eq!(page.batch.index_from(Offset::new(from)) as u64, from % 5);
        }
        assert!(log.reader().read_page(Offset::new(15), 1).unwrap().is_none());
        assert!(log.reader().read_page(Offset::new(99), 1).unwrap().is_none());
    }

    pub fn reopening_the_place_goes_on_where_it_ended<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[3, 4]);
        let size = log.size_bytes();
        drop(log);
        let mut log = subject.open();
        assert_eq!((log.next_offset(), log.last_time_ms()), (Offset::new(7), 2000));
        assert_eq!(log.size_bytes(), size);
        append(&mut log, 2, 3000).unwrap();
        log.sync().unwrap();
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..9));
    }

    pub fn a_power_cut_loses_only_what_was_not_synced<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[3, 4]);
        append(&mut log, 5, 3000).unwrap();
        drop(log);
        subject.lose_power(0);
        let log = subject.open();
        assert_eq!(log.next_offset(), Offset::new(7));
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..7));
    }

    pub fn a_torn_group_is_never_read<S: Subject>() {
        for torn in [1, 4, 30, 39, 40, 41, 100] {
            let mut subject = S::new();
            let mut log = subject.open();
            fill(&mut log, &[3]);
            append(&mut log, 5, 3000).unwrap();
            drop(log);
            subject.lose_power(torn);
            let mut log = subject.open();
            assert_eq!(log.next_offset(), Offset::new(3), "torn after {torn} bytes");
            append(&mut log, 2, 4000).unwrap();
            log.sync().unwrap();
            drop(log);
            let log = subject.open();
            assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..5));
        }
    }

    pub fn a_damaged_group_costs_that_group_alone<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[3, 4, 5, 6]);
        drop(log);
        subject.damage(Offset::new(8));
        let log = subject.open();
        let (read, skipped) = read_all(log.reader().as_ref(), 0, 1 << 20);
        assert_eq!(read, (0..7).chain(12..18).collect::<Vec<_>>());
        assert_eq!(skipped, [(7, 12)]);
        // From within the damaged group, the page begins with the first readable one behind it.
        let page = log.reader().read_page(Offset::new(9), 1).unwrap().unwrap();
        assert_eq!((page.batch.first(), page.skipped.len()), (Offset::new(12), 1));
    }

    pub fn a_failed_sync_stops_the_log_until_it_is_reopened<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[2, 2]);
        append(&mut log, 3, 3000).unwrap();
        subject.faults().fail_sync(1);
        assert!(matches!(log.sync(), Err(LogError::Io { .. })));
        let syncs = subject.faults().calls().1;
        assert!(matches!(log.sync(), Err(LogError::Failed)), "the sync is not tried again");
        assert_eq!(subject.faults().calls().1, syncs);
        assert_eq!(log.reader().bounds().1, Offset::new(4));
        log.reopen().unwrap();
        assert_eq!(log.next_offset(), Offset::new(4));
        append(&mut log, 5, 4000).unwrap();
        log.sync().unwrap();
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..9));
        drop(log);
        let log = subject.open();
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..9));
    }

    pub fn a_failed_write_stops_the_log_until_it_is_reopened<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[2]);
        subject.faults().fail_write(1);
        assert!(matches!(append(&mut log, 3, 2000), Err(LogError::Io { .. })));
        assert!(matches!(append(&mut log, 3, 2000), Err(LogError::Failed)));
        assert!(matches!(log.sync(), Err(LogError::Failed)));
        assert!(matches!(log.advance_to(Offset::new(9)), Err(LogError::Failed)));
        log.reopen().unwrap();
        fill(&mut log, &[4]);
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..6));
    }

    pub fn a_torn_write_leaves_nothing_behind<S: Subject>() {
        for torn in [1, 39, 40, 77] {
            let mut subject = S::new();
            let mut log = subject.open();
            fill(&mut log, &[2]);
            subject.faults().tear_write(1, torn);
            assert!(append(&mut log, 3, 2000).is_err());
            log.reopen().unwrap();
            append(&mut log, 4, 3000).unwrap();
            log.sync().unwrap();
            drop(log);
            let log = subject.open();
            assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..6));
        }
    }

    pub fn a_full_disk_is_told_apart_and_survived<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[2]);
        subject.faults().limit_space(Some(50));
        assert!(matches!(append(&mut log, 3, 2000), Err(LogError::NoSpace { .. })));
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..2), "readers go on");
        subject.faults().limit_space(None);
        log.reopen().unwrap();
        append(&mut log, 4, 3000).unwrap();
        log.sync().unwrap();
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..6));
    }

    pub fn a_failed_reopening_can_be_tried_again<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[2]);
        append(&mut log, 3, 2000).unwrap();
        subject.faults().fail_sync(1);
        log.sync().unwrap_err();
        subject.faults().fail_reopen(1);
        log.reopen().unwrap_err();
        assert!(matches!(append(&mut log, 1, 3000), Err(LogError::Failed)));
        log.reopen().unwrap();
        append(&mut log, 1, 3000).unwrap();
        log.sync().unwrap();
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..3));
    }

    pub fn a_failed_write_keeps_what_was_released<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        append(&mut log, 3, 1000).unwrap();
        log.release();
        subject.faults().tear_write(1, 10);
        append(&mut log, 4, 2000).unwrap_err();
        log.reopen().unwrap();
        assert_eq!(log.next_offset(), Offset::new(3));
        drop(log);
        subject.lose_power(0);
        let log = subject.open();
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), all(0..3), "reopening has synced it");
    }

    pub fn a_failed_sync_of_released_groups_never_reuses_their_offsets<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[2]);
        append(&mut log, 3, 2000).unwrap();
        log.release();
        subject.faults().fail_sync(1);
        log.sync().unwrap_err();
        log.reopen().unwrap();
        assert_eq!(log.next_offset(), Offset::new(5));
        append(&mut log, 4, 3000).unwrap();
        log.sync().unwrap();
        let expected = ((0..2).chain(5..9).collect::<Vec<_>>(), vec![(2, 5)]);
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), expected);
        drop(log);
        assert_eq!(read_all(subject.open().reader().as_ref(), 0, 1 << 20), expected);
    }

    pub fn a_group_out_of_order_is_refused<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[2]);
        let (frame, info) = group(&log, 3, 2000);
        let late = GroupInfo { first: Offset::new(7), ..info };
        assert!(matches!(log.append(&frame, late), Err(LogError::OutOfOrder { .. })));
        log.append(&frame, info).unwrap();
    }

    pub fn advancing_leaves_a_hole<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        fill(&mut log, &[2]);
        log.advance_to(Offset::new(1)).unwrap();
        assert_eq!(log.next_offset(), Offset::new(2), "never backwards");
        log.advance_to(Offset::new(10)).unwrap();
        assert_eq!(log.reader().bounds(), (Offset::ZERO, Offset::new(10)));
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), ((0..2).collect(), vec![(2, 10)]));
        append(&mut log, 2, 2000).unwrap();
        log.sync().unwrap();
        let expected = (vec![0, 1, 10, 11], vec![(2, 10)]);
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), expected);
        drop(log);
        assert_eq!(read_all(subject.open().reader().as_ref(), 0, 1 << 20), expected);
    }

    pub fn offsets_are_found_by_time<S: Subject>() {
        let mut subject = S::new();
        let mut log = subject.open();
        for time_ms in [1000, 1000, 2000, 2000, 5000] {
            append(&mut log, 3, time_ms).unwrap();
            log.sync().unwrap();
        }
        let cases = [(0, 0), (1000, 0), (1001, 6), (2000, 6), (2001, 12), (5000, 12), (5001, 15)];
        for (time_ms, offset) in cases {
            assert_eq!(log.reader().offset_at(time_ms).unwrap(), Offset::new(offset), "at {time_ms}");
        }
    }
}

pub use clauses::{
    a_damaged_group_costs_that_group_alone, a_failed_reopening_can_be_tried_again,
    a_failed_sync_of_released_groups_never_reuses_their_offsets,
    a_failed_sync_stops_the_log_until_it_is_reopened, a_failed_write_keeps_what_was_released,
    a_failed_write_stops_the_log_until_it_is_reopened, a_full_disk_is_told_apart_and_survived,
    a_group_out_of_order_is_refused, a_page_begins_with_the_group_that_holds_the_offset,
    a_power_cut_loses_only_what_was_not_synced, a_release_makes_visible_without_a_sync,
    a_torn_group_is_never_read, a_torn_write_leaves_nothing_behind, advancing_leaves_a_hole,
    an_empty_log_has_nothing_to_read, groups_come_back_as_they_were_written,
    nothing_is_visible_before_the_sync, offsets_are_found_by_time,
    pages_hold_whole_groups_and_respect_their_limit, reopening_the_place_goes_on_where_it_ended,
};
pub use trim::{
    a_failed_log_can_be_trimmed, a_trim_that_fails_can_be_tried_again, a_trimmed_log_reopens_as_it_was,
    readers_of_what_is_being_trimmed_go_on_at_the_earliest, trimming_beside_the_writer_keeps_the_size_right,
    trimming_removes_whole_units_and_never_the_last, what_is_not_durable_is_not_trimmed,
};

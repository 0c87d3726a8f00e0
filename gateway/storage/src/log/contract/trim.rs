//! What trimming promises, to those who trim, write and read at the same time.

#![expect(missing_docs, reason = "each clause is named after what it demands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{Log, LogError, LogReader, Offset, Subject, all, append, fill, read_all};

/// A log of a hundred groups of two entries, and its place.
fn filled<S: Subject>() -> (S, S::Log) {
    let mut subject = S::new();
    let mut log = subject.open();
    fill(&mut log, &[2; 100]);
    (subject, log)
}

/// What is left between the earliest offset and the end, all of it and nothing else.
fn assert_readable(reader: &dyn LogReader, earliest: u64, end: u64) {
    assert_eq!(reader.bounds(), (Offset::new(earliest), Offset::new(end)));
    for max_bytes in [1, 1 << 20] {
        assert_eq!(read_all(reader, earliest, max_bytes), all(earliest..end));
    }
    if earliest < end {
        let page = reader.read_page(Offset::ZERO, 1).unwrap().unwrap();
        assert_eq!((page.batch.first().get(), page.skipped.len()), (earliest, 0), "gone is not damaged");
    }
}

pub fn trimming_removes_whole_units_and_never_the_last<S: Subject>() {
    let (_subject, mut log) = filled::<S>();
    let (reader, trimmer) = (log.reader(), log.trimmer());
    let nothing = trimmer.trim(Offset::ZERO).unwrap();
    assert_eq!((nothing.segments, nothing.bytes, nothing.earliest), (0, 0, Offset::ZERO));
    let mut earliest = 0;
    for before in [1, 61, 61, 60, 150, 200, 1 << 40] {
        let size = log.size_bytes();
        let trimmed = trimmer.trim(Offset::new(before)).unwrap();
        let now = trimmed.earliest.get();
        assert!(earliest <= now && (now == earliest || now <= before), "{now} of {before}");
        assert_eq!(now == earliest, trimmed.segments == 0);
        assert_eq!(log.size_bytes(), size - trimmed.bytes);
        assert_eq!(trimmer.size_bytes(), log.size_bytes());
        assert_eq!(now % 2, 0, "whole groups");
        assert_readable(reader.as_ref(), now, 200);
        // Groups were committed at 1000, 2000 and so on.
        for time_ms in [0, 30_000, 30_001, 90_000] {
            let (exact, after) = (time_ms / 1000, time_ms % 1000);
            let found = (2 * (exact + u64::from(after > 0)).saturating_sub(1)).max(now);
            assert_eq!(reader.offset_at(time_ms).unwrap().get(), found, "at {time_ms}");
        }
        earliest = now;
    }
    assert!(earliest < 200, "the last unit stays");
    assert_eq!(earliest > 0, S::TRIMS);
    append(&mut log, 2, 200_000).unwrap();
    log.sync().unwrap();
    assert_readable(reader.as_ref(), earliest, 202);
}

pub fn a_trimmed_log_reopens_as_it_was<S: Subject>() {
    for power_fails in [false, true] {
        let (mut subject, log) = filled::<S>();
        let earliest = log.trimmer().trim(Offset::new(120)).unwrap().earliest.get();
        let size = log.size_bytes();
        drop(log);
        if power_fails {
            subject.lose_power(0);
        }
        let mut log = subject.open();
        assert_eq!(log.size_bytes(), size);
        assert_eq!((log.next_offset(), log.last_time_ms()), (Offset::new(200), 100_000));
        assert_readable(log.reader().as_ref(), earliest, 200);
        append(&mut log, 3, 200_000).unwrap();
        log.sync().unwrap();
        let again = log.trimmer().trim(Offset::new(180)).unwrap().earliest.get();
        assert_eq!(again > earliest, S::TRIMS);
        assert_readable(log.reader().as_ref(), again, 203);
    }
}

pub fn a_trim_that_fails_can_be_tried_again<S: Subject>() {
    for failing in 1..4 {
        let (mut subject, log) = filled::<S>();
        let (reader, trimmer, size) = (log.reader(), log.trimmer(), log.size_bytes());
        subject.faults().fail_remove(failing);
        let failed = trimmer.trim(Offset::new(150));
        assert_eq!(matches!(failed, Err(LogError::Io { .. })), S::TRIMS);
        let halfway = reader.bounds().0.get();
        assert_readable(reader.as_ref(), halfway, 200);
        if failing == 2 {
            // The process ends here. What could not be removed may be back, without a gap.
            drop(log);
            let log = subject.open();
            let earliest = log.reader().bounds().0.get();
            assert!(earliest <= halfway);
            assert_readable(log.reader().as_ref(), earliest, 200);
            continue;
        }
        let left = log.size_bytes();
        let trimmed = trimmer.trim(Offset::new(150)).unwrap();
        assert!(trimmed.earliest.get() >= halfway);
        assert_readable(reader.as_ref(), trimmed.earliest.get(), 200);
        assert_eq!(log.size_bytes(), left - trimmed.bytes);
        assert_eq!(log.size_bytes() < size, S::TRIMS);
        drop(log);
        assert_readable(subject.open().reader().as_ref(), trimmed.earliest.get(), 200);
    }
}

pub fn a_failed_log_can_be_trimmed<S: Subject>() {
    let (subject, mut log) = filled::<S>();
    subject.faults().limit_space(Some(20));
    assert!(matches!(append(&mut log, 2, 200_000), Err(LogError::NoSpace { .. })));
    let earliest = log.trimmer().trim(Offset::new(100)).unwrap().earliest.get();
    assert_eq!(earliest > 0, S::TRIMS);
    assert_readable(log.reader().as_ref(), earliest, 200);
    subject.faults().limit_space(None);
    log.reopen().unwrap();
    append(&mut log, 2, 200_000).unwrap();
    log.sync().unwrap();
    assert_readable(log.reader().as_ref(), earliest, 202);
}

pub fn what_is_not_durable_is_not_trimmed<S: Subject>() {
    let mut subject = S::new();
    let mut log = subject.open();
    fill(&mut log, &[2; 5]);
    for n in 0..100 {
        append(&mut log, 2, 10_000 + n).unwrap();
    }
    let trimmed = log.trimmer().trim(Offset::new(1 << 40)).unwrap();
    assert!(trimmed.earliest <= log.reader().bounds().1);
    log.sync().unwrap();
    assert_readable(log.reader().as_ref(), trimmed.earliest.get(), 210);
    drop(log);
    assert_readable(subject.open().reader().as_ref(), trimmed.earliest.get(), 210);
}

pub fn readers_of_what_is_being_trimmed_go_on_at_the_earliest<S: Subject>() {
    let (_subject, mut log) = filled::<S>();
    let (reader, trimmer, stop) = (log.reader(), log.trimmer(), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..3)
        .map(|n| {
            let (reader, stop) = (Arc::clone(&reader), Arc::clone(&stop));
            thread::spawn(move || {
                let mut pages = 0_u64;
                while !stop.load(Ordering::SeqCst) || pages == 0 {
                    // From the beginning each time, which is where the log is trimmed.
                    let from = if n == 0 { 0 } else { reader.bounds().0.get() };
                    let (read, skipped) = read_all(reader.as_ref(), from, 300 * n);
                    assert_eq!(skipped, []);
                    assert!(read.is_sorted_by(|a, b| a < b));
                    assert!(reader.offset_at(50_000).unwrap() <= reader.bounds().1);
                    pages += 1;
                }
            })
        })
        .collect();
    for n in 0..300 {
        append(&mut log, 2, 200_000 + n).unwrap();
        log.sync().unwrap();
        trimmer.trim(Offset::new(2 * n + 100)).unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.join().unwrap();
    }
    let earliest = reader.bounds().0.get();
    assert_eq!(earliest > 400, S::TRIMS);
    assert_readable(reader.as_ref(), earliest, 800);
}

pub fn trimming_beside_the_writer_keeps_the_size_right<S: Subject>() {
    let (mut subject, mut log) = filled::<S>();
    let stop = Arc::new(AtomicBool::new(false));
    let trimming = {
        let (reader, trimmer, stop) = (log.reader(), log.trimmer(), Arc::clone(&stop));
        thread::spawn(move || {
            let mut removed = 0;
            while !stop.load(Ordering::SeqCst) || removed == 0 {
                let end = reader.bounds().1.get();
                let trimmed = trimmer.trim(Offset::new(end.saturating_sub(40))).unwrap();
                removed += trimmed.segments + u64::from(!S::TRIMS);
            }
        })
    };
    for n in 0..300 {
        append(&mut log, 2, 200_000 + n).unwrap();
        log.sync().unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    trimming.join().unwrap();
    let (size, earliest) = (log.size_bytes(), log.reader().bounds().0.get());
    assert_readable(log.reader().as_ref(), earliest, 800);
    drop(log);
    let log = subject.open();
    assert_eq!((log.size_bytes(), log.reader().bounds().0.get()), (size, earliest));
}

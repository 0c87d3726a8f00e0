//! What is particular to files; the rest is the contract. [`trim`] and [`packed`] have files of their own.

mod packed;
mod trim;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::frame::{FRAME_HEADER_LEN, FrameHeader};
use crate::log::contract::{Subject, append, fill, group, read_all};
use crate::log::faulty_disk::FaultyDisk;
use crate::log::{Faults, ReadError, TailShows, TornTail};

/// Segments of a size at which a file is begun every few groups, too.
struct Files<const SEGMENT_BYTES: u64> {
    dir: TempDir,
    disk: FaultyDisk,
}

impl<const SEGMENT_BYTES: u64> Files<SEGMENT_BYTES> {
    fn options() -> SegmentsOptions {
        SegmentsOptions { segment_bytes: SEGMENT_BYTES, reserve_bytes: 4096 }
    }

    fn file_of(&self, offset: u64) -> PathBuf {
        let mut files = log_files(self.dir.path());
        files.retain(|path| first(path) <= offset);
        files.pop().unwrap()
    }
}

impl<const SEGMENT_BYTES: u64> Subject for Files<SEGMENT_BYTES> {
    type Log = SegmentsLog;
    const TRIMS: bool = SEGMENT_BYTES < 10_000;

    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), disk: FaultyDisk::new() }
    }

    fn open(&mut self) -> SegmentsLog {
        SegmentsLog::open_on(Arc::new(self.disk.clone()), self.dir.path(), Self::options()).unwrap().0
    }

    fn lose_power(&mut self, torn_tail: usize) {
        self.disk.lose_power(torn_tail as u64).unwrap();
    }

    fn damage(&mut self, offset: Offset) {
        flip(&self.file_of(offset.get()), |bytes| last_byte_of_group(bytes, offset));
    }

    fn faults(&self) -> Faults {
        self.disk.faults().clone()
    }
}

mod contract_of_one_segment {
    crate::log_contract!(super::Files<{ 128 << 20 }>);
}

mod contract_of_many_segments {
    crate::log_contract!(super::Files<700>);
}

fn log_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files
}

fn first(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// Where the group that holds `offset` ends in the bytes of an undamaged file.
fn last_byte_of_group(bytes: &[u8], offset: Offset) -> usize {
    let salt = FileHeader::decode(bytes).unwrap().salt;
    let mut at = FILE_HEADER_LEN;
    loop {
        let header = FrameHeader::parse(&bytes[at..], salt).unwrap();
        at += header.frame_len();
        if offset < header.end() {
            return at - 1;
        }
    }
}

fn flip(path: &Path, place: impl FnOnce(&[u8]) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = place(&bytes);
    bytes[at] ^= 0x04;
    fs::write(path, bytes).unwrap();
}

fn open(dir: &Path) -> (SegmentsLog, RecoveryReport) {
    SegmentsLog::open(dir, SegmentsOptions { segment_bytes: 128 << 20, reserve_bytes: 0 }).unwrap()
}

#[test]
fn a_tail_torn_at_every_byte_of_the_last_group_is_cut_off_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    fill(&mut log, &[3, 2]);
    let whole = log.size_bytes();
    append(&mut log, 2, 3000).unwrap();
    log.sync().unwrap();
    drop(log);
    let path = log_files(dir.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    for len in whole..bytes.len() as u64 {
        fs::write(&path, &bytes[..len as usize]).unwrap();
        let (log, report) = open(dir.path());
        assert_eq!(report.next_offset, Offset::new(5), "cut at {len}");
        // Of a header that is not whole itself nothing is known.
        let has_header = len >= whole + FRAME_HEADER_LEN as u64;
        let shows = if has_header { TailShows::CutShort } else { TailShows::NoHeader };
        let (file, bytes) = (path.clone(), len - whole);
        let torn = (bytes > 0).then_some(TornTail { file, at_byte: whole, bytes, shows });
        assert_eq!(report.torn_tail, torn, "cut at {len}");
        assert_eq!((report.bytes, log.size_bytes()), (whole, whole));
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), ((0..5).collect(), vec![]));
        assert_eq!(fs::metadata(&path).unwrap().len(), whole);
    }
}

#[test]
fn what_is_wrong_with_the_end_is_told_as_far_as_it_can_be_known() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    fill(&mut log, &[3]);
    let whole = log.size_bytes() as usize;
    append(&mut log, 90, 2000).unwrap();
    let last = log.size_bytes() as usize;
    append(&mut log, 1, 3000).unwrap();
    log.sync().unwrap();
    drop(log);
    let path = log_files(dir.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let shows = |end: usize, change: &dyn Fn(&mut [u8])| {
        let mut changed = bytes[..end].to_vec();
        change(&mut changed);
        fs::write(&path, changed).unwrap();
        let (_, report) = open(dir.path());
        let torn = report.torn_tail.unwrap();
        assert_eq!((torn.at_byte, torn.bytes), (whole as u64, (end - whole) as u64));
        torn.shows
    };
    assert!(last - whole > 1200, "a group of more than two sectors");
    assert_eq!(shows(last, &|bytes| bytes[whole + 700] ^= 1), TailShows::WrongChecksum);
    assert_eq!(shows(last, &|bytes| bytes[last - 600..].fill(0)), TailShows::EndsInZeros);
    assert_eq!(
        shows(last, &|bytes| bytes[last - 100..].fill(0)),
        TailShows::WrongChecksum,
        "not enough to say"
    );
    assert_eq!(shows(last, &|bytes| bytes[whole] ^= 1), TailShows::NoHeader);
    assert_eq!(shows(last - 1, &|_| ()), TailShows::CutShort);
    let both = |bytes: &mut [u8]| {
        bytes[whole + 700] ^= 1;
        *bytes.last_mut().unwrap() ^= 1;
    };
    assert_eq!(shows(bytes.len(), &both), TailShows::Several);
}

#[test]
fn a_byte_flipped_anywhere_in_a_middle_group_costs_that_group_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    fill(&mut log, &[2]);
    let begin = log.size_bytes() as usize;
    append(&mut log, 2, 2000).unwrap();
    log.sync().unwrap();
    let end = log.size_bytes() as usize;
    append(&mut log, 2, 3000).unwrap();
    log.sync().unwrap();
    drop(log);
    let path = log_files(dir.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    for at in begin..end {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x80;
        fs::write(&path, damaged).unwrap();
        let (log, report) = open(dir.path());
        assert_eq!(report.torn_tail, None);
        let skipped: Vec<_> = report.skipped.iter().map(|s| (s.first.get(), s.end.get(), s.bytes)).collect();
        assert_eq!(skipped, [(2, 4, (end - begin) as u64)], "byte {at}");
        assert_eq!(report.skipped[0].at_byte, begin as u64);
        for max_bytes in [1, 1 << 20] {
            let read = read_all(log.reader().as_ref(), 0, max_bytes);
            assert_eq!(read, (vec![0, 1, 4, 5], vec![(2, 4)]), "byte {at}");
        }
    }
}

#[test]
fn a_payload_that_looks_like_a_group_is_not_taken_for_one_behind_a_damaged_header() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    fill(&mut log, &[1]);
    // A publisher knows the format but not the salt: it forges a group of the offset that comes next.
    let mut staging = crate::Staging::new();
    let event = crate::Event {
        client_id: "mallory",
        topic: "admin/commands",
        qos: 1,
        retain: false,
        received_ms: 0,
        expires_at_ms: 0,
        properties: &[],
        payload: b"open the door",
    };
    staging.push_event(&event).unwrap();
    let mut forged = vec![0; crate::frame::FRAME_HEADER_LEN];
    forged.extend_from_slice(staging.bytes());
    let forged_info = GroupInfo { first: Offset::new(1), entries: 1, time_ms: 2000 };
    assert!(crate::frame::seal(&mut forged, &forged_info, 0));
    staging.clear();
    staging.push_event(&crate::Event { payload: &forged, ..event }).unwrap();
    let mut frame = vec![0; crate::frame::FRAME_HEADER_LEN];
    frame.extend_from_slice(staging.bytes());
    assert!(crate::frame::seal(&mut frame, &forged_info, log.salt()));
    let begin = log.size_bytes() as usize;
    log.append(&frame, forged_info).unwrap();
    log.sync().unwrap();
    let (frame, info) = group(&log, 1, 3000);
    log.append(&frame, info).unwrap();
    log.sync().unwrap();
    drop(log);
    flip(&log_files(dir.path())[0], |_| begin);
    let (log, _) = open(dir.path());
    assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), (vec![0, 2], vec![(1, 2)]));
}

#[test]
fn damage_in_a_sealed_segment_is_found_by_the_reader_and_not_by_opening() {
    let mut files = Files::<700>::new();
    let mut log = files.open();
    fill(&mut log, &[2; 20]);
    drop(log);
    assert!(log_files(files.dir.path()).len() > 4);
    files.damage(Offset::new(4));
    let sealed = files.file_of(20);
    let len = fs::metadata(&sealed).unwrap().len();
    fs::OpenOptions::new().write(true).open(&sealed).unwrap().set_len(len - 10).unwrap();
    let lost = first(&sealed);
    let next = log_files(files.dir.path()).iter().map(|path| first(path)).find(|f| *f > lost).unwrap();

    let (log, report) = SegmentsLog::open(files.dir.path(), Files::<700>::options()).unwrap();
    assert_eq!((report.skipped.len(), report.torn_tail), (0, None));
    let (read, skipped) = read_all(log.reader().as_ref(), 0, 1 << 20);
    assert_eq!(skipped, [(4, 6), (next - 2, next)]);
    assert_eq!(read.len(), 40 - 4);
}

#[test]
fn a_group_larger_than_a_segment_or_a_page_is_written_and_read() {
    let mut files = Files::<700>::new();
    let mut log = files.open();
    fill(&mut log, &[1, 300, 1, 2, 400]);
    assert_eq!(read_all(log.reader().as_ref(), 0, 1), ((0..704).collect(), vec![]));
    drop(log);
    assert_eq!(read_all(files.open().reader().as_ref(), 250, 1), ((250..704).collect(), vec![]));
}

#[test]
fn a_second_opening_of_the_same_directory_is_refused_and_names_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let refused = SegmentsLog::open(dir.path(), SegmentsOptions::default()).unwrap_err();
    assert!(
        matches!(&refused, OpenError::Locked { holder, .. } if *holder == std::process::id().to_string())
    );
    assert!(refused.to_string().contains("is in use by another process"));
    drop(log);
    open(dir.path());
}

#[test]
fn a_file_of_a_newer_version_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let salt = log.salt();
    drop(log);
    let path = log_files(dir.path()).pop().unwrap();
    let header = FileHeader { version: 2, first: Offset::ZERO, base_time_ms: 0, salt };
    fs::write(&path, header.encode()).unwrap();
    let refused = SegmentsLog::open(dir.path(), SegmentsOptions::default()).unwrap_err();
    assert!(matches!(refused, OpenError::NewerFormat { found: 2, known: 1, .. }));
    assert!(refused.to_string().ends_with("it was written by a newer gateway"));
}

#[test]
fn a_group_of_a_newer_version_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    fill(&mut log, &[1]);
    let (mut frame, info) = group(&log, 1, 2000);
    // What a newer version would write: another number, both checksums right.
    frame[4] = 2;
    let crc = crc32c::crc32c_append(crate::frame::salted(log.salt(), &frame[..32]), &frame[40..]);
    frame[32..36].copy_from_slice(&crc.to_le_bytes());
    let crc = crate::frame::salted(log.salt(), &frame[..36]);
    frame[36..40].copy_from_slice(&crc.to_le_bytes());
    log.append(&frame, info).unwrap();
    log.sync().unwrap();
    let refused = log.reader().read_page(Offset::new(1), 1).unwrap_err();
    assert!(matches!(refused, ReadError::NewerFormat { found: 2, known: 1, .. }));
    assert!(refused.to_string().ends_with("it was written by a newer gateway"));
    drop(log);
    let refused = SegmentsLog::open(dir.path(), SegmentsOptions::default()).unwrap_err();
    assert!(matches!(refused, OpenError::NewerFormat { found: 2, known: 1, .. }));
}

#[test]
fn an_entry_of_an_unknown_kind_is_refused_and_not_taken_for_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    let mut frame = vec![0; crate::frame::FRAME_HEADER_LEN];
    frame.extend_from_slice(&[0x92, 42, 0xa1, b'x']);
    let info = GroupInfo { first: Offset::ZERO, entries: 1, time_ms: 1 };
    assert!(crate::frame::seal(&mut frame, &info, log.salt()));
    log.append(&frame, info).unwrap();
    log.sync().unwrap();
    let refused = log.reader().read_page(Offset::ZERO, 1).unwrap_err();
    let ReadError::Entry { offset, source, .. } = refused else { panic!("{refused}") };
    assert_eq!(offset, Offset::ZERO);
    assert!(matches!(source, crate::EntryError::UnknownKind { kind: 42 }));
}

#[test]
fn one_damaged_copy_of_a_header_does_not_matter_and_both_only_in_a_lone_file() {
    let mut files = Files::<700>::new();
    let mut log = files.open();
    fill(&mut log, &[2; 20]);
    drop(log);
    let paths = log_files(files.dir.path());
    flip(&paths[1], |_| 9);
    let (log, report) = SegmentsLog::open(files.dir.path(), Files::<700>::options()).unwrap();
    assert_eq!(report.damaged_headers, Vec::<PathBuf>::new());
    drop(log);
    flip(&paths[1], |_| 41);
    let (log, report) = SegmentsLog::open(files.dir.path(), Files::<700>::options()).unwrap();
    assert_eq!(report.damaged_headers, [paths[1].clone()]);
    assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), ((0..40).collect(), vec![]));
    drop(log);
    for path in &paths[..] {
        if *path != paths[1] {
            fs::remove_file(path).unwrap();
        }
    }
    let refused = SegmentsLog::open(files.dir.path(), Files::<700>::options()).unwrap_err();
    assert!(matches!(refused, OpenError::DamagedHeader { .. }));
}

#[test]
fn a_file_that_a_crash_left_without_a_header_is_removed_and_reported() {
    for len in [0, 1, 79, 80] {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open(dir.path());
        fill(&mut log, &[2]);
        drop(log);
        let unfinished = dir.path().join(file_name(Offset::new(2)));
        fs::write(&unfinished, vec![0; len]).unwrap();
        let (mut log, report) = open(dir.path());
        assert_eq!(report.unfinished, Some(unfinished.clone()));
        assert!(!unfinished.exists());
        append(&mut log, 1, 2000).unwrap();
        log.sync().unwrap();
        assert_eq!(read_all(log.reader().as_ref(), 0, 1 << 20), ((0..3).collect(), vec![]));
    }
}

#[test]
fn reserved_space_is_no_torn_tail_and_no_size() {
    let dir = tempfile::tempdir().unwrap();
    let options = SegmentsOptions { segment_bytes: 1 << 20, reserve_bytes: 256 << 10 };
    let (mut log, _) = SegmentsLog::open(dir.path(), options).unwrap();
    fill(&mut log, &[3]);
    let size = log.size_bytes();
    drop(log);
    let path = log_files(dir.path()).pop().unwrap();
    assert!(fs::metadata(&path).unwrap().len() > 200 << 10, "space is reserved");
    let (log, report) = SegmentsLog::open(dir.path(), options).unwrap();
    assert_eq!((report.torn_tail, report.bytes), (None, size));
    assert_eq!(log.size_bytes(), size);
    assert_eq!(fs::metadata(&path).unwrap().len(), size);
}

#[test]
fn a_renamed_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    fill(&mut log, &[2]);
    drop(log);
    let path = log_files(dir.path()).pop().unwrap();
    fs::rename(&path, dir.path().join(file_name(Offset::new(100)))).unwrap();
    let refused = SegmentsLog::open(dir.path(), SegmentsOptions::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Misnamed { found: Offset::ZERO, .. }));
}

#[test]
fn a_reader_keeps_a_bounded_number_of_files_and_finds_any_offset() {
    let mut files = Files::<700>::new();
    let mut log = files.open();
    fill(&mut log, &[2; 200]);
    assert!(log_files(files.dir.path()).len() > 40);
    let reader = log.reader();
    for step in 0..400 {
        // A fixed walk that touches all segments in no order.
        let from = step * 157 % 400;
        let page = reader.read_page(Offset::new(from), 1).unwrap().unwrap();
        assert_eq!(page.batch.first().get(), from / 2 * 2);
        let time = (from / 2 + 1) * 1000;
        assert_eq!(reader.offset_at(time).unwrap().get(), from / 2 * 2);
    }
    let kept = log.reader.open.lock().unwrap().len();
    assert_eq!(kept, reader::OPEN_MAX);
}

#[test]
fn any_offset_and_time_of_a_large_segment_is_found_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    let groups = 2000;
    for time_ms in 0..groups {
        append(&mut log, 3, time_ms).unwrap();
    }
    log.sync().unwrap();
    assert!(log.size_bytes() > 6 * reader::POINT_BYTES, "large enough for an index of several points");
    let reader = log.reader();
    let check = |from: u64| {
        let page = reader.read_page(Offset::new(from), 1).unwrap().unwrap();
        assert_eq!(page.batch.first().get(), from / 3 * 3);
        assert_eq!(reader.offset_at(from / 3).unwrap().get(), from / 3 * 3);
    };
    // From the end first, so that the index is built by a search; then all over, then everything in order.
    check(3 * groups - 1);
    for step in 0..1500 {
        check(step * 3571 % (3 * groups));
    }
    assert!(log.reader.open.lock().unwrap()[0].points.lock().unwrap().len() > 5);
    assert_eq!(read_all(reader.as_ref(), 0, 10_000), ((0..3 * groups).collect(), vec![]));
}

//! The same contract with compressed groups, and what is particular to them.

use super::*;
use crate::compression::Packer;
use crate::frame::{FLAG_LZ4, FRAME_HEADER_LEN, seal_as};
use crate::log::contract::payload;
use crate::{EntryError, Staging};

/// A log that compresses whatever it is given, as group commit does.
struct PackedLog {
    log: SegmentsLog,
    packer: Packer,
}

impl Log for PackedLog {
    fn append(&mut self, frame: &[u8], info: GroupInfo) -> Result<(), LogError> {
        let packed = self.packer.pack(frame, &info, self.log.salt());
        self.log.append(packed.unwrap_or(frame), info)
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.log.sync()
    }

    fn release(&mut self) {
        self.log.release();
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        self.log.reopen()
    }

    fn advance_to(&mut self, offset: Offset) -> Result<(), LogError> {
        self.log.advance_to(offset)
    }

    fn next_offset(&self) -> Offset {
        self.log.next_offset()
    }

    fn last_time_ms(&self) -> u64 {
        self.log.last_time_ms()
    }

    fn salt(&self) -> u64 {
        self.log.salt()
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.log.reader()
    }

    fn trimmer(&self) -> Arc<dyn LogTrimmer> {
        self.log.trimmer()
    }

    fn size_bytes(&self) -> u64 {
        self.log.size_bytes()
    }
}

struct PackedFiles<const SEGMENT_BYTES: u64>(Files<SEGMENT_BYTES>);

impl<const SEGMENT_BYTES: u64> Subject for PackedFiles<SEGMENT_BYTES> {
    type Log = PackedLog;
    const TRIMS: bool = Files::<SEGMENT_BYTES>::TRIMS;

    fn new() -> Self {
        Self(Files::new())
    }

    fn open(&mut self) -> PackedLog {
        PackedLog { log: self.0.open(), packer: Packer::new(10_000) }
    }

    fn lose_power(&mut self, torn_tail: usize) {
        self.0.lose_power(torn_tail);
    }

    fn damage(&mut self, offset: Offset) {
        self.0.damage(offset);
    }

    fn faults(&self) -> Faults {
        self.0.faults()
    }
}

mod contract_of_one_segment {
    crate::log_contract!(super::PackedFiles<{ 128 << 20 }>);
}

mod contract_of_many_segments {
    crate::log_contract!(super::PackedFiles<700>);
}

fn open_packed(dir: &Path) -> PackedLog {
    PackedLog { log: open(dir).0, packer: Packer::new(10_000) }
}

#[test]
fn a_page_ends_when_its_unpacked_groups_have_reached_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_packed(dir.path());
    // Groups of 40 alike entries: a few hundred bytes in the file, several thousand in memory.
    fill(&mut log, &[40; 50]);
    let unpacked: usize = (0..2000).map(|offset| payload(offset).len()).sum();
    assert!(log.size_bytes() < unpacked as u64 / 2, "worth the name of compression");
    let reader = log.reader();
    let group_bytes = reader.read_page(Offset::ZERO, 1).unwrap().unwrap().batch.byte_len();
    for groups in [1, 2, 3, 10] {
        let max_bytes = groups * group_bytes + 200;
        let page = reader.read_page(Offset::ZERO, max_bytes).unwrap().unwrap();
        assert!(page.batch.byte_len() <= max_bytes && page.batch.len() <= 40 * groups);
        assert!(page.batch.len() >= 40 * groups.div_ceil(4), "and the room is used");
        assert_eq!(page.next, page.batch.end());
        assert_eq!(read_all(reader.as_ref(), 0, max_bytes), ((0..2000).collect(), vec![]));
    }
    // Well compressed groups fill the room to the last one that fits.
    for _ in 0..20 {
        append_as(&mut log.log, FLAG_LZ4, block);
    }
    let one = reader.read_page(Offset::new(2000), 1).unwrap().unwrap().batch.byte_len();
    for groups in 1..6 {
        let page = reader.read_page(Offset::new(2000), groups * one + one / 2).unwrap().unwrap();
        assert_eq!(page.batch.len(), groups);
    }
}

#[test]
fn compressed_groups_stand_among_others_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_packed(dir.path());
    for n in 0..60_u64 {
        // Every third group as it is, the others compressed; damage in one of each.
        if n % 3 == 0 {
            append(&mut log.log, 10, n).unwrap();
        } else {
            append(&mut log, 10, n).unwrap();
        }
        log.sync().unwrap();
    }
    for from in [0, 5, 10, 11, 299, 590] {
        for max_bytes in [1, 3000, 1 << 20] {
            let read = read_all(log.reader().as_ref(), from, max_bytes);
            assert_eq!(read, ((from..600).collect(), vec![]), "{max_bytes} from {from}");
        }
    }
    drop(log);
    for offset in [31, 45] {
        flip(&log_files(dir.path())[0], |bytes| last_byte_of_group(bytes, Offset::new(offset)));
    }
    let (log, report) = open(dir.path());
    assert_eq!(report.skipped.len(), 2);
    let expected = ((0..30).chain(50..600).collect::<Vec<_>>(), vec![(30, 40), (40, 50)]);
    for max_bytes in [1, 3000, 1 << 20] {
        assert_eq!(read_all(log.reader().as_ref(), 0, max_bytes), expected);
    }
}

/// Appends a group of one entry whose frame is what `body` makes of the entries, with both checksums right.
fn append_as(log: &mut SegmentsLog, flags: u16, body: impl FnOnce(&[u8]) -> Vec<u8>) {
    let event = crate::Event {
        client_id: "meter-7",
        topic: "devices/meter-7/power",
        qos: 1,
        retain: false,
        received_ms: 0,
        expires_at_ms: 0,
        properties: &[],
        payload: &[b'x'; 3000],
    };
    let mut staging = Staging::new();
    staging.push_event(&event).unwrap();
    let mut frame = vec![0; FRAME_HEADER_LEN];
    frame.extend(body(staging.bytes()));
    let info = GroupInfo { first: log.next_offset(), entries: 1, time_ms: 1 };
    assert!(seal_as(&mut frame, &info, log.salt(), flags));
    log.append(&frame, info).unwrap();
    log.sync().unwrap();
}

fn block(entries: &[u8]) -> Vec<u8> {
    let mut block = (entries.len() as u32).to_le_bytes().to_vec();
    block.extend(lz4_flex::block::compress(entries));
    block
}

#[test]
fn compressed_bytes_that_are_none_are_an_error_and_not_a_panic() {
    type Spoil = fn(Vec<u8>) -> Vec<u8>;
    let spoilt: [(&str, Spoil); 5] = [
        ("cut short", |mut body| {
            body.truncate(body.len() - 3);
            body
        }),
        ("an offset before the beginning", |mut body| {
            body[5..].fill(0xff);
            body
        }),
        ("shorter than it says", |mut body| {
            body[0] += 1;
            body
        }),
        ("longer than it says", |mut body| {
            body[0] -= 1;
            body
        }),
        ("zeros", |mut body| {
            body[4..].fill(0);
            body
        }),
    ];
    for (what, spoil) in spoilt {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open(dir.path());
        append_as(&mut log, FLAG_LZ4, block);
        assert_eq!(log.reader().read_page(Offset::ZERO, 1).unwrap().unwrap().batch.len(), 1);
        append_as(&mut log, FLAG_LZ4, |entries| spoil(block(entries)));
        let refused = log.reader().read_page(Offset::new(1), 1).unwrap_err();
        let ReadError::Entry { offset, source, .. } = refused else { panic!("{what}: {refused}") };
        assert_eq!(offset, Offset::new(1));
        assert!(matches!(source, EntryError::Unpackable), "{what}: {source}");
    }
}

#[test]
fn a_claim_of_too_many_bytes_is_damage_and_takes_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    append_as(&mut log, 0, <[u8]>::to_vec);
    append_as(&mut log, FLAG_LZ4, |_| vec![0xff; 100]);
    append_as(&mut log, FLAG_LZ4, |_| vec![1, 0]);
    append_as(&mut log, 0, <[u8]>::to_vec);
    let page = log.reader().read_page(Offset::ZERO, 1 << 20).unwrap().unwrap();
    let skipped: Vec<_> = page.skipped.iter().map(|group| (group.first.get(), group.end.get())).collect();
    assert_eq!((page.batch.len(), skipped), (2, vec![(1, 2), (2, 3)]));
}

#[test]
fn flags_of_a_newer_version_are_refused_with_a_sentence() {
    for flags in [2, 0x8000, FLAG_LZ4 | 4] {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open(dir.path());
        append_as(&mut log, flags, <[u8]>::to_vec);
        let refused = log.reader().read_page(Offset::ZERO, 1).unwrap_err();
        assert!(matches!(refused, ReadError::UnknownFlags { flags: found, .. } if found == flags));
        assert!(refused.to_string().ends_with("it was written by a newer gateway"));
        drop(log);
        let refused = SegmentsLog::open(dir.path(), SegmentsOptions::default()).unwrap_err();
        assert!(matches!(refused, OpenError::UnknownFlags { flags: found, .. } if found == flags));
        assert!(refused.to_string().ends_with("it was written by a newer gateway"));
    }
}

//! Compressed groups: in the log and nowhere else.

use super::{Rig, options, payloads};
use crate::compression::Compression;
use crate::group_commit::{GroupCommitOptions, Urgency};
use crate::log::{Log, MemoryLog, SegmentsLog, SegmentsOptions};
use crate::offset::Offset;

fn compressing() -> GroupCommitOptions {
    GroupCommitOptions { compression: Compression::Lz4, ..options() }
}

#[test]
fn a_group_is_compressed_for_the_log_and_handed_on_as_it_was() {
    for rig in [Rig::memory(compressing()), Rig::file(compressing())] {
        let long = "the pressure is the same as before, ".repeat(20);
        for payload in ["short", &long, "x", &long] {
            rig.submit(payload, Urgency::Now).unwrap();
            assert_eq!(payloads(&rig.next_group().batch), [payload]);
        }
        let stats = rig.commit.stats();
        assert!(stats.bytes > 2 * long.len() as u64 && stats.bytes_written < stats.bytes / 3, "{stats:?}");
        assert!(stats.log_bytes < stats.bytes / 2);
        let samples = rig.commit.drain_samples();
        assert_eq!(samples.iter().map(|sample| u64::from(sample.bytes)).sum::<u64>(), stats.bytes_written);
        let page = rig.reader.read_page(Offset::ZERO, 1 << 20).unwrap().unwrap();
        assert_eq!(payloads(&page.batch), ["short", &long, "x", &long]);
        assert_eq!(page.batch.time_ms(3), 777);
    }
}

#[test]
fn compression_can_be_turned_on_and_off_over_the_same_log() {
    let dir = tempfile::tempdir().unwrap();
    let long = "the pressure is the same as before, ".repeat(20);
    for round in 0..4 {
        let (log, _) = SegmentsLog::open(dir.path(), SegmentsOptions::default()).unwrap();
        let reader = log.reader();
        let options = if round % 2 == 0 { options() } else { compressing() };
        let rig = Rig::over(Box::new(log), MemoryLog::new().handle().faults().clone(), None, options);
        rig.submit(&long, Urgency::Now).unwrap();
        rig.next_group();
        rig.commit.shutdown();
        let page = reader.read_page(Offset::ZERO, 1 << 20).unwrap().unwrap();
        assert_eq!(payloads(&page.batch), vec![long.clone(); round + 1]);
    }
}

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::checkpoint::Checkpoints;
use crate::entry::{Entry, Event};
use crate::frame;
use crate::log::contract::{append, fill, payload};
use crate::log::segments::disk::RealDisk;
use crate::log::{GroupInfo, Log, SegmentsLog, SegmentsOptions, SledLog, SledLogOptions};
use crate::offset::Offset;
use crate::recovery::{self, LogKind, StoreOptions};
use crate::staging::Staging;
use crate::view::{Changes, Table, View, ViewOptions};

const SEGMENTS: SegmentsOptions = SegmentsOptions { segment_bytes: 700, reserve_bytes: 0 };
const SLED: SledLogOptions = SledLogOptions { cache_bytes: 8 << 20 };
const VIEW: ViewOptions = ViewOptions { cache_bytes: 8 << 20 };

fn segments(dir: &Path) -> SegmentsLog {
    SegmentsLog::open(dir.join("log"), SEGMENTS).unwrap().0
}

/// A data directory with ten groups of three in segments, and a view of the first fifteen entries.
pub(super) fn store() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut segments(dir.path()), &[3; 10]);
    save_view(dir.path(), 15);
    dir
}

fn save_view(dir: &Path, applied: u64) {
    let (view, _) = View::open(dir.join("view"), VIEW).unwrap();
    let mut changes = Changes::new();
    changes.put(Table::Sessions, b"meter-7", b"state").unwrap();
    view.save(&changes, Offset::new(applied)).unwrap();
    drop(view);
    assert!(crate::view::lock::wait_until_free(&dir.join("view")));
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// The files of the log, in order.
pub(super) fn log_files(dir: &Path) -> Vec<PathBuf> {
    let files = files(&dir.join("log")).into_keys();
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x04;
    fs::write(path, bytes).unwrap();
}

/// Verifies, and checks that nothing has changed by it.
fn verified(dir: &Path) -> VerifyReport {
    let before = files(dir);
    let report = verify(dir).unwrap();
    assert!(files(dir) == before, "looking changes nothing");
    report
}

fn repaired(dir: &Path) -> (Vec<String>, VerifyReport) {
    let mut announced = Vec::new();
    let report = repair(dir, &mut |step| announced.push(step.clone())).unwrap();
    assert_eq!(announced, report.done);
    (announced.iter().map(ToString::to_string).collect(), report.after)
}

#[test]
fn a_whole_store_is_whole_and_stays_as_it_is() {
    let dir = store();
    let report = verified(dir.path());
    assert!(report.is_whole(), "{:?}", report.findings);
    let log = &report.log;
    assert_eq!(log.format, Some(LogFormat::Segments));
    assert_eq!(
        (log.earliest, log.end, log.entries, log.events, log.lost),
        (Offset::ZERO, Offset::new(30), 30, 30, 0)
    );
    assert_eq!((log.files, report.view), (log_files(dir.path()).len(), Some(Offset::new(15))));
    let (steps, after) = repaired(dir.path());
    assert!(steps.is_empty() && after.is_whole());
}

#[test]
fn an_empty_or_new_directory_is_whole_and_a_missing_one_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(verified(dir.path()).is_whole());
    fs::create_dir(dir.path().join("log")).unwrap();
    assert!(verified(dir.path()).is_whole());
    let error = verify(&dir.path().join("missing")).unwrap_err();
    assert!(matches!(error, OfflineError::Io { .. }));
}

#[test]
fn a_store_in_use_is_refused_and_names_the_holder() {
    let dir = store();
    let log = segments(dir.path());
    let pid = std::process::id();
    for refused in [
        verify(dir.path()).unwrap_err(),
        repair(dir.path(), &mut |_| {}).unwrap_err(),
        export(dir.path(), None, None, &mut Vec::new()).unwrap_err(),
    ] {
        assert!(matches!(refused, OfflineError::InUse { holder: Some(holder), .. } if holder == pid));
        assert!(refused.to_string().contains("is in use by process"));
    }
    drop(log);
    let (view, _) = View::open(dir.path().join("view"), VIEW).unwrap();
    assert!(matches!(verify(dir.path()).unwrap_err(), OfflineError::InUse { holder: None, .. }));
    drop(view);
}

#[test]
fn a_gateway_cannot_open_a_store_that_is_being_verified() {
    let dir = store();
    let place = super::place::Place::hold(dir.path()).unwrap();
    let refused = SegmentsLog::open(dir.path().join("log"), SEGMENTS).unwrap_err();
    assert!(refused.to_string().contains("is in use"));
    drop(place);
    segments(dir.path());
}

#[test]
fn damaged_groups_are_all_listed_with_their_place_and_left_where_they_are() {
    let dir = store();
    for path in [&log_files(dir.path())[1], &log_files(dir.path())[3]] {
        let len = fs::metadata(path).unwrap().len() as usize;
        flip(path, len - 5);
    }
    let report = verified(dir.path());
    assert_eq!(report.findings.len(), 2, "{:?}", report.findings);
    for (finding, file) in report.findings.iter().zip([1, 3]) {
        let Finding::DamagedGroups(group) = finding else { panic!("{finding}") };
        assert_eq!(group.file, log_files(dir.path())[file]);
        assert!(group.bytes > 0 && group.at_byte >= 80);
    }
    assert_eq!((report.log.entries, report.log.lost), (24, 6));
    assert!(report.findings[0].to_string().starts_with("the entries at offsets "));
    let before = files(dir.path());
    let (steps, after) = repaired(dir.path());
    assert!(steps.is_empty() && !after.is_whole());
    assert!(files(dir.path()) == before);
}

#[test]
fn a_torn_tail_is_found_and_cut_off_by_a_repair_alone() {
    let dir = store();
    let last = log_files(dir.path()).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    let torn = [whole.as_slice(), &whole[80..150]].concat();
    fs::write(&last, &torn).unwrap();
    let report = verified(dir.path());
    let [Finding::TornTail(found)] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert_eq!((found.at_byte, found.bytes, report.log.end), (whole.len() as u64, 70, Offset::new(30)));
    let (steps, after) = repaired(dir.path());
    assert_eq!((steps.len(), after.is_whole()), (1, true));
    assert_eq!(fs::read(&last).unwrap(), whole);
}

#[test]
fn an_unfinished_file_is_found_and_removed() {
    let dir = store();
    let unfinished = dir.path().join("log").join(format!("{:020}.log", 30));
    fs::write(&unfinished, [0; 80]).unwrap();
    let report = verified(dir.path());
    assert!(matches!(report.findings.as_slice(), [Finding::Unfinished { file }] if *file == unfinished));
    let (steps, after) = repaired(dir.path());
    assert_eq!((steps.len(), after.is_whole(), unfinished.exists()), (1, true, false));
}

#[test]
fn damaged_headers_are_written_again_as_they_were() {
    let dir = store();
    let whole = files(dir.path());
    let paths = log_files(dir.path());
    flip(&paths[0], 50);
    flip(&paths[2], 9);
    flip(&paths[2], 61);
    let report = verified(dir.path());
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|finding| match finding {
            Finding::DamagedHeader { file, one_copy_left } => (file.clone(), *one_copy_left),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(found, [(paths[2].clone(), false), (paths[0].clone(), true)]);
    assert_eq!((report.log.entries, report.log.lost), (30, 0));
    let (steps, after) = repaired(dir.path());
    assert_eq!((steps.len(), after.is_whole()), (2, true));
    assert!(files(dir.path()) == whole, "byte for byte");
}

#[test]
fn holes_and_a_view_that_is_ahead_are_told_apart_from_damage() {
    let dir = store();
    let mut log = segments(dir.path());
    log.advance_to(Offset::new(40)).unwrap();
    append(&mut log, 2, 20_000).unwrap();
    log.sync().unwrap();
    drop(log);
    save_view(dir.path(), 50);
    let report = verified(dir.path());
    let [Finding::Hole { first, end }, Finding::ViewAhead { applied, end: log_end }] =
        report.findings.as_slice()
    else {
        panic!("{:?}", report.findings)
    };
    assert_eq!((first.get(), end.get(), applied.get(), log_end.get()), (30, 40, 50, 42));
    assert!(report.findings.iter().all(|finding| !finding.is_mendable()));
}

#[test]
fn a_view_of_no_use_is_set_aside() {
    let dir = store();
    fs::write(dir.path().join("view/conf"), [0xff; 64]).unwrap();
    let report = verified(dir.path());
    assert!(matches!(report.findings.as_slice(), [Finding::ViewUnusable(_)]), "{:?}", report.findings);
    assert_eq!(report.view, None);
    let (steps, after) = repaired(dir.path());
    assert_eq!((steps.len(), after.is_whole()), (1, true));
    assert!(dir.path().join("view.broken-1").exists() && !dir.path().join("view").exists());
}

#[test]
fn a_log_of_a_newer_version_is_reported_and_not_touched() {
    let dir = store();
    let path = &log_files(dir.path())[1];
    let mut bytes = fs::read(path).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..36]);
    bytes[36..40].copy_from_slice(&crc.to_le_bytes());
    fs::write(path, bytes).unwrap();
    let report = verified(dir.path());
    assert!(matches!(report.findings.as_slice(), [Finding::LogUnusable(_)]), "{:?}", report.findings);
    assert!(report.findings[0].to_string().ends_with("it was written by a newer gateway"));
    assert!(repaired(dir.path()).0.is_empty());
    assert!(matches!(export(dir.path(), None, None, &mut Vec::new()), Err(OfflineError::Log(_))));
}

#[test]
fn a_log_in_sled_is_verified_and_repaired_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = dir.path().join("log/sled");
    let (mut log, _) = SledLog::open(&log_dir, SLED).unwrap();
    fill(&mut log, &[3; 10]);
    let size = log.size_bytes();
    // The last group says it has a piece more than there are.
    let (mut frame, info) = crate::log::contract::group(&log, 2, 20_000);
    frame.extend_from_slice(&[7; 100]);
    log.append(&frame, info).unwrap();
    log.sync().unwrap();
    drop(log);
    save_view(dir.path(), 15);
    let report = verified(dir.path());
    assert_eq!((report.log.format, report.log.bytes), (Some(LogFormat::Sled), size));
    let [Finding::TornTail(torn)] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert_eq!((torn.file.clone(), torn.bytes, torn.at_byte), (log_dir.clone(), frame.len() as u64, size));
    let (steps, after) = repaired(dir.path());
    assert_eq!((steps.len(), after.is_whole()), (1, true));
    let mut out = Vec::new();
    assert_eq!(export(dir.path(), None, None, &mut out).unwrap().events, 30);

    fs::write(dir.path().join("log").join(format!("{:020}.log", 0)), [0; 80]).unwrap();
    assert!(matches!(verify(dir.path()), Err(OfflineError::TwoLogs { .. })));
}

#[test]
fn damage_in_the_file_of_a_log_in_sled_ends_in_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = dir.path().join("log/sled");
    let (mut log, _) = SledLog::open(&log_dir, SLED).unwrap();
    fill(&mut log, &[3; 10]);
    drop(log);
    fs::write(log_dir.join("conf"), [0xff; 64]).unwrap();
    let report = verified(dir.path());
    let [Finding::LogUnusable(error)] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert!(error.to_string().contains(&log_dir.display().to_string()), "{error}");
    assert!(repaired(dir.path()).0.is_empty());
}

#[test]
fn events_are_exported_with_everything_a_publisher_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = segments(dir.path());
    let event = Event {
        client_id: "pump-\"1\"",
        topic: "devices/pump-1/préssure",
        qos: 2,
        retain: true,
        received_ms: 1,
        expires_at_ms: 0,
        properties: &[0x01, 0xff],
        payload: b"{\"bar\":3.2}",
    };
    let mut staging = Staging::new();
    staging.push_event(&event).unwrap();
    staging.push(&Entry::Unsubscribed { client_id: "app", filter: "a/b" }).unwrap();
    staging
        .push_event(&Event { payload: &[0xff, 0], properties: &[], qos: 0, retain: false, ..event })
        .unwrap();
    let mut frame = vec![0; frame::FRAME_HEADER_LEN];
    frame.extend_from_slice(staging.bytes());
    let info = GroupInfo { first: Offset::ZERO, entries: 3, time_ms: 1_767_225_603_120 };
    assert!(frame::seal(&mut frame, &info, log.salt()));
    log.append(&frame, info).unwrap();
    log.sync().unwrap();
    drop(log);
    let before = files(dir.path());
    let mut out = Vec::new();
    let report = export(dir.path(), None, None, &mut out).unwrap();
    assert!(files(dir.path()) == before);
    assert_eq!(
        (report.events, report.from, report.to, report.missing_count),
        (2, Offset::ZERO, Offset::new(3), 0)
    );
    let expected = concat!(
        r#"{"offset":0,"time":"2026-01-01T00:00:03.120Z","client_id":"pump-\"1\"","topic":"devices/pump-1/préssure","#,
        r#""qos":2,"retain":true,"payload":"{\"bar\":3.2}","properties_hex":"01ff"}"#,
        "\n",
        r#"{"offset":2,"time":"2026-01-01T00:00:03.120Z","client_id":"pump-\"1\"","topic":"devices/pump-1/préssure","#,
        r#""qos":0,"retain":false,"payload_base64":"/wA="}"#,
        "\n"
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn an_export_takes_the_offsets_asked_for_and_reports_what_it_could_not_read() {
    let dir = store();
    let exported = |from: Option<u64>, to: Option<u64>| {
        let mut out = Vec::new();
        let report = export(dir.path(), from.map(Offset::new), to.map(Offset::new), &mut out).unwrap();
        let offsets: Vec<u64> = String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                let offset = line["offset"].as_u64().unwrap();
                assert_eq!(line["payload"].as_str().unwrap().as_bytes(), payload(offset));
                offset
            })
            .collect();
        assert_eq!(offsets.len() as u64, report.events);
        (offsets, report)
    };
    for (from, to) in [
        (None, None),
        (Some(7), None),
        (Some(7), Some(20)),
        (None, Some(1)),
        (Some(30), None),
        (Some(9), Some(9)),
    ] {
        let expected: Vec<u64> = (from.unwrap_or(0)..to.unwrap_or(30)).collect();
        let (offsets, report) = exported(from, to);
        assert_eq!((offsets, report.missing_count), (expected, 0));
    }
    let path = &log_files(dir.path())[2];
    flip(path, fs::metadata(path).unwrap().len() as usize - 5);
    let (offsets, report) = exported(None, None);
    let [Finding::DamagedGroups(lost)] = report.missing.as_slice() else { panic!("{:?}", report.missing) };
    let expected: Vec<u64> = (0..lost.first.get()).chain(lost.end.get()..30).collect();
    assert_eq!((offsets, report.missing_count), (expected, 1));
    assert_eq!(exported(Some(0), Some(lost.first.get())).1.missing_count, 0, "not what nobody asked for");
}

fn checkpoint(dir: &Path, applied: u64) -> PathBuf {
    save_view(dir, applied);
    let view = View::open_existing(&dir.join("view"), VIEW).unwrap();
    let mut checkpoints = Checkpoints::open(dir.join("checkpoint"), Arc::new(RealDisk)).unwrap();
    checkpoints.dump(&view, &|| true).unwrap();
    view.close().unwrap();
    dir.join("checkpoint").join(format!("{applied:020}.ckpt"))
}

fn trim(dir: &Path, before: u64) -> Offset {
    let log = segments(dir);
    log.trimmer().trim(Offset::new(before)).unwrap().earliest
}

#[test]
fn checkpoints_are_read_through_and_damaged_ones_set_aside() {
    let dir = store();
    let (older, newer) = (checkpoint(dir.path(), 15), checkpoint(dir.path(), 21));
    let report = verified(dir.path());
    assert!(report.is_whole(), "{:?}", report.findings);
    let applied: Vec<_> = report.checkpoints.iter().map(|found| (found.applied.get(), found.rows)).collect();
    assert_eq!(applied, [(15, 1), (21, 1)]);
    flip(&newer, 40);
    let report = verified(dir.path());
    assert!(matches!(report.findings.as_slice(), [Finding::Checkpoint { file, .. }] if *file == newer));
    let (steps, after) = repaired(dir.path());
    assert_eq!((steps.len(), after.is_whole(), after.checkpoints.len()), (1, true, 1));
    assert!(older.exists() && !newer.exists() && newer.with_extension("ckpt.broken").exists());
}

#[test]
fn a_trimmed_log_without_view_and_checkpoint_is_mended_by_an_empty_checkpoint() {
    let dir = store();
    let (older, newer) = (checkpoint(dir.path(), 15), checkpoint(dir.path(), 21));
    let earliest = trim(dir.path(), 15);
    assert!(earliest > Offset::ZERO);
    assert!(verified(dir.path()).is_whole());
    fs::write(dir.path().join("view/conf"), [0xff; 64]).unwrap();
    assert!(matches!(verified(dir.path()).findings.as_slice(), [Finding::ViewUnusable(_)]));
    flip(&older, 40);
    fs::write(&newer, b"rubbish").unwrap();
    let report = verified(dir.path());
    assert!(
        matches!(
            report.findings.as_slice(),
            [
                Finding::ViewUnusable(_),
                Finding::Checkpoint { .. },
                Finding::Checkpoint { .. },
                Finding::NothingToRebuildFrom { earliest: found, .. }
            ] if *found == earliest
        ),
        "{:?}",
        report.findings
    );
    let options = || StoreOptions {
        log: LogKind::Segments(SEGMENTS),
        reserve_bytes: 0,
        view: VIEW,
        ..StoreOptions::default()
    };
    // What a gateway says to it, on a copy: it is the sentence that names the repair.
    let copy = super::copy::TemporaryCopy::of(dir.path()).unwrap();
    let refused = recovery::open(copy.path(), options()).unwrap_err();
    assert!(refused.to_string().contains("`gateway storage repair`"), "{refused}");

    let (steps, after) = repaired(dir.path());
    assert!(after.is_whole(), "{:?}", after.findings);
    assert_eq!(steps.len(), 4);
    assert!(steps[3].contains("Retained Messages and pending deliveries are given up"), "{steps:?}");
    assert_eq!(after.checkpoints.last().map(|found| (found.applied, found.rows)), Some((Offset::new(30), 0)));
    let store = recovery::open(dir.path(), options()).unwrap();
    assert_eq!((store.replay_from, store.log.next_offset()), (Offset::new(30), Offset::new(30)));
    assert_eq!(store.log.reader().bounds().0, earliest, "streams keep what there is");
}

#[test]
fn a_view_behind_the_log_is_set_aside_when_a_checkpoint_can_stand_in() {
    let dir = store();
    checkpoint(dir.path(), 21);
    save_view(dir.path(), 3);
    let earliest = trim(dir.path(), 15);
    let report = verified(dir.path());
    assert!(
        matches!(report.findings.as_slice(), [Finding::ViewBehind { applied, .. }] if applied.get() == 3),
        "{:?}",
        report.findings
    );
    let (steps, after) = repaired(dir.path());
    assert_eq!((steps.len(), after.is_whole(), after.log.earliest), (1, true, earliest));
}

#[test]
fn a_checkpoint_of_a_newer_version_is_reported_and_not_touched() {
    let dir = store();
    let path = checkpoint(dir.path(), 15);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    trim(dir.path(), 15);
    fs::remove_dir_all(dir.path().join("view")).unwrap();
    let report = verified(dir.path());
    assert!(matches!(report.findings.as_slice(), [Finding::Checkpoint { .. }]), "{:?}", report.findings);
    assert!(report.findings[0].to_string().ends_with("it was written by a newer gateway"));
    let (steps, _) = repaired(dir.path());
    assert!(steps.is_empty() && path.exists());
}

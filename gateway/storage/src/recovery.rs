//! Opening log and view together, and replaying what the view has not seen.
//!
//! The log is the truth: whatever state the view is in, the entries from [`Store::replay_from`] on bring it up to date.
//! Applying them is the engine's business.

use std::path::Path;

use thiserror::Error;

use crate::entry::Entry;
use crate::log::{
    Log, LogError, LogReader, OpenError, ReadError, RecoveryReport, SegmentsLog, SegmentsOptions,
    SkippedGroup,
};
use crate::offset::Offset;
use crate::view::{View, ViewError, ViewOpenReport, ViewOptions};

/// Damaged groups a replay reports one by one; the rest is only counted.
const SKIPPED_REPORTED_MAX: usize = 1024;

/// A log and its view, opened.
#[derive(Debug)]
pub struct Store {
    /// The log, to be given to [`crate::GroupCommit::start`].
    pub log: SegmentsLog,
    /// What opening the log found.
    pub log_report: RecoveryReport,
    /// The view.
    pub view: View,
    /// What opening the view found.
    pub view_report: ViewOpenReport,
    /// The first offset the view has not seen.
    pub replay_from: Offset,
}

/// Why log or view could not be opened.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The log.
    #[error("the log cannot be opened: {0}")]
    Log(#[from] OpenError),
    /// The view, and not even a fresh one.
    #[error("the view cannot be opened: {0}")]
    View(#[from] ViewError),
    /// The view has seen more than the log holds, and the log could not be told to go on behind it.
    #[error("the log ends before what the view has seen, and cannot go on behind it: {0}")]
    Advance(#[source] LogError),
}

/// Opens `<data_dir>/log` and `<data_dir>/view`.
///
/// A view that has seen more than the log holds (possible after a power cut with a durability other than `fsync`, or
/// after damage at the very end of the log) makes the log go on behind it: no offset ever means two things.
///
/// # Errors
///
/// See [`StoreError`].
pub fn open(data_dir: &Path, log: SegmentsOptions, view: ViewOptions) -> Result<Store, StoreError> {
    let (mut log, log_report) = SegmentsLog::open(data_dir.join("log"), log)?;
    let (view, view_report) = View::open(data_dir.join("view"), view)?;
    let replay_from = view_report.applied;
    if replay_from > log.next_offset() {
        tracing::warn!(
            log_end = %log.next_offset(), view_applied = %replay_from,
            "the log has lost entries the view had seen; it goes on behind them"
        );
        log.advance_to(replay_from).map_err(StoreError::Advance)?;
    }
    Ok(Store { log, log_report, view, view_report, replay_from })
}

/// An entry on its way into the view again.
#[derive(Clone, Copy, Debug)]
pub struct Replayed<'a> {
    /// Its offset.
    pub offset: Offset,
    /// The commit time of its group in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The entry.
    pub entry: Entry<'a>,
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplaySummary {
    /// Entries replayed.
    pub entries: u64,
    /// The offset after the last one.
    pub next: Offset,
    /// Stretches that could not be read, at most 1024 of them.
    pub skipped: Vec<SkippedGroup>,
    /// How many there were.
    pub skipped_count: u64,
}

/// Calls `apply` with every entry from `from` to the end of the log, reading pages of about `page_bytes`.
///
/// # Errors
///
/// See [`ReadError`]; the entries before the error have been applied then.
pub fn replay(
    log: &dyn LogReader,
    from: Offset,
    page_bytes: usize,
    apply: &mut dyn FnMut(Replayed<'_>),
) -> Result<ReplaySummary, ReadError> {
    let mut summary = ReplaySummary { next: from, ..ReplaySummary::default() };
    while let Some(page) = log.read_page(summary.next, page_bytes)? {
        for index in page.batch.index_from(summary.next)..page.batch.len() {
            if let (Some(offset), Some(entry)) = (page.batch.offset_of(index), page.batch.entry(index)) {
                apply(Replayed { offset, time_ms: page.batch.time_ms(index), entry });
                summary.entries += 1;
            }
        }
        summary.skipped_count += page.skipped.len() as u64;
        let room = SKIPPED_REPORTED_MAX - summary.skipped.len();
        summary.skipped.extend(page.skipped.into_iter().take(room));
        summary.next = page.next;
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::log::contract::{append, fill, payload};
    use crate::view::{Changes, Table};

    fn open_store(dir: &Path) -> Store {
        let log = SegmentsOptions { segment_bytes: 700, reserve_bytes: 0 };
        open(dir, log, ViewOptions { cache_bytes: 8 << 20 }).unwrap()
    }

    fn replayed(store: &Store) -> (Vec<u64>, ReplaySummary) {
        let mut offsets = Vec::new();
        let summary = replay(store.log.reader().as_ref(), store.replay_from, 300, &mut |replayed| {
            let Entry::Event(event) = replayed.entry else { panic!("only events were written") };
            assert_eq!(event.payload, payload(replayed.offset.get()));
            offsets.push(replayed.offset.get());
        });
        (offsets, summary.unwrap())
    }

    #[test]
    fn a_store_replays_what_its_view_has_not_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open_store(dir.path());
        assert_eq!(replayed(&store).0, [0_u64; 0]);
        fill(&mut store.log, &[3; 10]);
        store.view.save(&Changes::new(), Offset::new(13)).unwrap();
        drop(store);
        let store = open_store(dir.path());
        let (offsets, summary) = replayed(&store);
        assert_eq!(offsets, (13..30).collect::<Vec<_>>(), "from within a group on");
        assert_eq!((summary.entries, summary.next, summary.skipped_count), (17, Offset::new(30), 0));
    }

    #[test]
    fn a_view_that_is_rubbish_is_rebuilt_from_the_whole_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open_store(dir.path());
        fill(&mut store.log, &[3; 10]);
        let mut changes = Changes::new();
        changes.put(Table::Sessions, b"a", b"b").unwrap();
        store.view.save(&changes, Offset::new(30)).unwrap();
        drop(store);
        fs::remove_dir_all(dir.path().join("view")).unwrap();
        fs::create_dir(dir.path().join("view")).unwrap();
        fs::write(dir.path().join("view/conf"), [0xff; 64]).unwrap();
        let store = open_store(dir.path());
        assert!(store.view_report.set_aside.is_some());
        assert_eq!(store.replay_from, Offset::ZERO);
        assert_eq!(replayed(&store).0, (0..30).collect::<Vec<_>>());
    }

    #[test]
    fn a_log_that_lost_what_the_view_has_seen_goes_on_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open_store(dir.path());
        fill(&mut store.log, &[3; 2]);
        store.view.save(&Changes::new(), Offset::new(40)).unwrap();
        drop(store);
        let mut store = open_store(dir.path());
        assert_eq!((store.log.next_offset(), store.replay_from), (Offset::new(40), Offset::new(40)));
        append(&mut store.log, 2, 9000).unwrap();
        store.log.sync().unwrap();
        drop(store);
        let store = open_store(dir.path());
        let (offsets, _) = replayed(&store);
        assert_eq!(offsets, [40, 41]);
    }
}

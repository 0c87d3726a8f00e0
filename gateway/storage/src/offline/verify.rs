//! Reading a whole store, and believing nothing.

use std::path::{Path, PathBuf};

use super::copy::TemporaryCopy;
use super::place::{OpenedLog, Place};
use super::{Finding, LogFormat, OfflineError};
use crate::checkpoint::{self, CheckpointError, Verified};
use crate::entry::EntryKind;
use crate::log::LogReader;
use crate::offset::Offset;
use crate::view::{View, ViewError, ViewOptions};

/// Findings a report lists; the rest is counted.
const FINDINGS_MAX: usize = 1000;
/// What is read at once.
const PAGE_BYTES: usize = 4 << 20;
/// Memory for sled while it reads the copy of a view.
const CACHE_BYTES: u64 = 32 << 20;

/// What [`verify`] found.
#[derive(Debug)]
pub struct VerifyReport {
    /// The data directory.
    pub data_dir: PathBuf,
    /// What can be read of the log.
    pub log: LogSummary,
    /// Up to which offset the view is applied; None if there is none or it cannot be used.
    pub view: Option<Offset>,
    /// The checkpoints that are whole, oldest first.
    pub checkpoints: Vec<Verified>,
    /// What is wrong; of damaged groups and holes at most 1000.
    pub findings: Vec<Finding>,
    /// How much is wrong beyond that.
    pub findings_not_listed: u64,
}

/// What can be read of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSummary {
    /// Which log it is; None where there is none.
    pub format: Option<LogFormat>,
    /// Files, for a log of segments.
    pub files: usize,
    /// Bytes of groups, and headers of files.
    pub bytes: u64,
    /// The earliest offset.
    pub earliest: Offset,
    /// The offset after the last entry.
    pub end: Offset,
    /// Entries read, and how many of them were events.
    pub entries: u64,
    /// Events among them.
    pub events: u64,
    /// Offsets that cannot be read.
    pub lost: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn add(&mut self, finding: Finding) {
        // Damage may be everywhere; of anything else there is one to a file at most, and what follows depends on it.
        let is_damage = matches!(finding, Finding::DamagedGroups(_) | Finding::Hole { .. });
        if !is_damage || self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_not_listed += 1;
        }
    }
}

/// Reads everything in the store of a gateway that does not run: every group and entry of the log, every value of the
/// view, every checkpoint. Changes nothing. Takes a bounded amount of memory, and for sled's part of the store as much space
/// in the system's temporary directory as that part has.
///
/// # Errors
///
/// When the store is in use or the system fails. Damage is no error.
pub fn verify(data_dir: &Path) -> Result<VerifyReport, OfflineError> {
    let place = Place::hold(data_dir)?;
    verify_held(&place)
}

pub(super) fn verify_held(place: &Place) -> Result<VerifyReport, OfflineError> {
    let mut report = VerifyReport {
        data_dir: place.data_dir.clone(),
        log: LogSummary { format: place.format, ..LogSummary::default() },
        view: None,
        checkpoints: Vec::new(),
        findings: Vec::new(),
        findings_not_listed: 0,
    };
    match place.open_log()? {
        Ok(log) => verify_log(place, &log, &mut report),
        Err(error) => report.add(Finding::LogUnusable(Box::new(error))),
    }
    verify_view(place, &mut report)?;
    verify_checkpoints(place, &mut report)?;
    verify_start(&mut report);
    Ok(report)
}

fn verify_log(place: &Place, log: &OpenedLog, report: &mut VerifyReport) {
    let found = &log.report;
    report.log.files = found.segments;
    report.log.bytes = found.bytes;
    (report.log.earliest, report.log.end) = (found.earliest, found.next_offset);
    for file in &found.damaged_headers {
        report.add(Finding::DamagedHeader { file: file.clone(), one_copy_left: false });
    }
    for file in &log.half_headers {
        report.add(Finding::DamagedHeader { file: file.clone(), one_copy_left: true });
    }
    if let Some(reader) = &log.reader {
        read(reader.as_ref(), place, log, report);
    }
    if let Some(torn) = &found.torn_tail {
        let mut torn = torn.clone();
        place.relocate(&mut torn.file, log);
        report.add(Finding::TornTail(torn));
    }
    if let Some(file) = &found.unfinished {
        report.add(Finding::Unfinished { file: file.clone() });
    }
}

fn read(reader: &dyn LogReader, place: &Place, log: &OpenedLog, report: &mut VerifyReport) {
    let mut next = report.log.earliest;
    loop {
        let page = match reader.read_page(next, PAGE_BYTES) {
            Ok(Some(page)) => page,
            Ok(None) => return,
            Err(reason) => {
                report.log.lost += report.log.end.get().saturating_sub(next.get());
                report.add(Finding::Unreadable { from: next, reason: Box::new(reason) });
                return;
            }
        };
        let events = (0..page.batch.len()).filter(|index| page.batch.kind(*index) == Some(EntryKind::Event));
        report.log.events += events.count() as u64;
        report.log.entries += page.batch.len() as u64;
        for mut group in page.skipped {
            report.log.lost += group.end.get().saturating_sub(group.first.get());
            place.relocate(&mut group.file, log);
            report.add(Finding::of_skipped(group));
        }
        next = page.next;
    }
}

fn verify_view(place: &Place, report: &mut VerifyReport) -> Result<(), OfflineError> {
    let (earliest, end) = (report.log.earliest, report.log.end);
    let log_is_read = !report.findings.iter().any(|finding| matches!(finding, Finding::LogUnusable(_)));
    match read_view(&place.view())? {
        Ok(None) => {}
        Ok(Some(applied)) if log_is_read && applied < earliest => {
            report.add(Finding::ViewBehind { applied, earliest });
        }
        Ok(Some(applied)) => {
            report.view = Some(applied);
            if log_is_read && applied > end {
                report.add(Finding::ViewAhead { applied, end });
            }
        }
        Err(error) => report.add(Finding::ViewUnusable(Box::new(error))),
    }
    Ok(())
}

fn verify_checkpoints(place: &Place, report: &mut VerifyReport) -> Result<(), OfflineError> {
    for file in checkpoint::list(&place.checkpoints())? {
        match checkpoint::verify(&file.path) {
            Ok(verified) => report.checkpoints.push(verified),
            Err(reason) => report.add(Finding::Checkpoint { file: file.path, reason: Box::new(reason) }),
        }
    }
    Ok(())
}

/// Whether a gateway finds something to start with.
fn verify_start(report: &mut VerifyReport) {
    let earliest = report.log.earliest;
    let rebuildable = earliest == Offset::ZERO
        || report.checkpoints.iter().any(|checkpoint| checkpoint.applied >= earliest);
    // What a newer version has written is not lost.
    let newer = report.findings.iter().any(|finding| match finding {
        Finding::ViewUnusable(error) => matches!(**error, ViewError::NewerFormat { .. }),
        Finding::Checkpoint { reason, .. } => matches!(**reason, CheckpointError::NewerFormat { .. }),
        _ => false,
    });
    if report.view.is_none() && !rebuildable && !newer {
        let end = report.log.end;
        report.add(Finding::NothingToRebuildFrom { earliest, end });
    }
}

/// Reads every value of the view, from a copy, and says up to which offset it is applied. None if there is no view, or
/// none that anything was saved in.
fn read_view(dir: &Path) -> Result<Result<Option<Offset>, ViewError>, OfflineError> {
    if !dir.join("db").exists() && !dir.join("conf").exists() {
        return Ok(Ok(None));
    }
    let copy = TemporaryCopy::of(dir)?;
    let read = || {
        let view = View::open_existing(copy.path(), ViewOptions { cache_bytes: CACHE_BYTES })?;
        view.scan_all(&mut |_, _| Ok::<(), ViewError>(()))?;
        let applied = (!view.is_fresh()).then(|| view.applied());
        // sled writes to the copy until it is closed.
        view.close()?;
        Ok(applied)
    };
    Ok(match read() {
        // A start was interrupted; the next one begins it again.
        Err(ViewError::Unfinished) => Ok(None),
        // That is about the copy, and says nothing of the view.
        Err(error)
            if !error.is_the_views_fault(copy.path()) && !matches!(error, ViewError::NewerFormat { .. }) =>
        {
            return Err(error.into());
        }
        Err(ViewError::NewerFormat { found, known, .. }) => {
            Err(ViewError::NewerFormat { dir: dir.into(), found, known })
        }
        read => read,
    })
}

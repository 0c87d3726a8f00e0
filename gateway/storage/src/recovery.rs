//! Opening log, checkpoints and view together.
//!
//! The log is the truth: whatever state the view is in, the entries from [`Store::replay_from`] on bring it up to date.
//! Applying them is the engine's business. What is opened is decided here:
//!
//! | view | then |
//! |---|---|
//! | opens, and the log continues it | it is used |
//! | opens, and the log begins behind it, or ends before a newer checkpoint | set aside, made anew |
//! | is empty, or was being filled from a checkpoint | made anew |
//! | cannot be opened and is to blame for it | set aside, made anew |
//! | cannot be opened for another reason, or is of a newer format | the reason is reported, nothing is touched |
//!
//! It is made anew from the newest checkpoint that is undamaged and that the log continues; without one, from the whole
//! log, if that begins at offset 0. If view or checkpoint have seen more than the log holds, the log goes on behind them:
//! no offset ever means two things.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::checkpoint::{CheckpointError, Checkpoints, RebuildReport};
use crate::log::segments::disk::{Disk, RealDisk};
use crate::log::{
    Log, LogError, OpenError, RecoveryReport, SegmentsLog, SegmentsOptions, SledLog, SledLogOptions,
};
use crate::offset::Offset;
use crate::reserve::Reserve;
use crate::view::{View, ViewError, ViewOptions};

/// Which log is to be opened.
#[derive(Clone, Copy, Debug)]
pub enum LogKind {
    /// Append-only files in `<data_dir>/log`.
    Segments(SegmentsOptions),
    /// Values in sled in `<data_dir>/log/sled`.
    Sled(SledLogOptions),
}

/// Options of [`open`].
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The log.
    pub log: LogKind,
    /// The view.
    pub view: ViewOptions,
    /// Space set aside for a full disk, in bytes; 0 for none.
    pub reserve_bytes: u64,
    /// The file system of log, checkpoints and reserve. The view's store uses the machine's.
    pub disk: Arc<dyn Disk>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            log: LogKind::Segments(SegmentsOptions::default()),
            view: ViewOptions::default(),
            reserve_bytes: 64 << 20,
            disk: Arc::new(RealDisk),
        }
    }
}

/// A log and its view, opened.
pub struct Store {
    /// The log, to be given to [`crate::GroupCommit::start`].
    pub log: Box<dyn Log>,
    /// What opening the log found.
    pub log_report: RecoveryReport,
    /// The view.
    pub view: View,
    /// What opening the view found.
    pub view_report: ViewReport,
    /// The first offset the view has not seen.
    pub replay_from: Offset,
    /// The checkpoints, for a view that turns out illegible, and for [`crate::ViewWriter::start`].
    pub checkpoints: Checkpoints,
    /// The reserve.
    pub reserve: Arc<Reserve>,
}

/// What opening the view found.
#[derive(Debug)]
pub struct ViewReport {
    /// Up to which offset the view is applied.
    pub applied: Offset,
    /// If it had to be made anew: from what.
    pub rebuilt: Option<RebuildReport>,
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
    /// The checkpoints.
    #[error("the checkpoints cannot be used: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The view is lost, and with it what the log has no more.
    #[error(
        "the view in {} is lost and cannot be made anew: no checkpoint is whole, and the log begins at offset \
         {log_earliest}; `gateway storage repair` makes a view of what is left",
        view.display()
    )]
    NothingToRebuildFrom {
        /// Where the view was.
        view: PathBuf,
        /// The first offset in the log.
        log_earliest: Offset,
    },
    /// View or checkpoint have seen more than the log holds, and the log could not be told to go on behind it.
    #[error("the log ends before what the view has seen, and cannot go on behind it: {0}")]
    Advance(#[source] LogError),
}

/// Opens `<data_dir>/log`, `<data_dir>/checkpoint`, `<data_dir>/view` and `<data_dir>/reserve`, as the module
/// documentation says. On a full disk the reserve is given up, so that what has to be written can be.
///
/// # Errors
///
/// See [`StoreError`].
pub fn open(data_dir: &Path, options: StoreOptions) -> Result<Store, StoreError> {
    let reserve_path = data_dir.join("reserve");
    let (mut log, log_report) = open_log(data_dir, &options, &reserve_path)?;
    let mut checkpoints = Checkpoints::open(data_dir.join("checkpoint"), Arc::clone(&options.disk))?;
    let reserve = Arc::new(Reserve::open(reserve_path, options.reserve_bytes, Arc::clone(&options.disk)));

    let dir = data_dir.join("view");
    let bounds = log.reader().bounds();
    let mut opened = open_view(&dir, options.view, &mut checkpoints, bounds);
    if opened.as_ref().is_err_and(StoreError::is_lack_of_space) && reserve.release() > 0 {
        opened = open_view(&dir, options.view, &mut checkpoints, bounds);
    }
    let (view, view_report) = opened?;
    let replay_from = view_report.applied;
    if replay_from > log.next_offset() {
        tracing::warn!(
            log_end = %log.next_offset(), view_applied = %replay_from,
            "the log has lost entries the view had seen; it goes on behind them"
        );
        log.advance_to(replay_from).map_err(StoreError::Advance)?;
    }
    Ok(Store { log, log_report, view, view_report, replay_from, checkpoints, reserve })
}

fn open_log(
    data_dir: &Path,
    options: &StoreOptions,
    reserve: &Path,
) -> Result<(Box<dyn Log>, RecoveryReport), OpenError> {
    refuse_other_kind(data_dir, options)?;
    let open = || -> Result<(Box<dyn Log>, RecoveryReport), OpenError> {
        match options.log {
            LogKind::Segments(segments) => {
                let disk = Arc::clone(&options.disk);
                let (log, report) = SegmentsLog::open_on(disk, data_dir.join("log"), segments)?;
                Ok((Box::new(log), report))
            }
            LogKind::Sled(sled) => {
                let (log, report) = SledLog::open(data_dir.join("log").join("sled"), sled)?;
                Ok((Box::new(log), report))
            }
        }
    };
    match open() {
        // Nobody else has the log open, or this would be another error: the reserve is ours.
        Err(OpenError::Io { source, .. }) if no_space(&source) && options.disk.remove(reserve).is_ok() => {
            tracing::warn!(path = %reserve.display(), "the disk is full: the reserve is given up to open the log");
            open()
        }
        opened => opened,
    }
}

/// A log of the other kind would be left behind with everything in it, and an empty one be begun.
fn refuse_other_kind(data_dir: &Path, options: &StoreOptions) -> Result<(), OpenError> {
    let dir = data_dir.join("log");
    let (has_other, found, configured) = match options.log {
        LogKind::Segments(_) => (dir.join("sled").join("db").exists(), "sled", "segments"),
        LogKind::Sled(_) => {
            let names = options.disk.list(&dir);
            let names = names.map_err(|source| OpenError::Io { doing: "list", path: dir.clone(), source })?;
            let is_segment = |name: &std::ffi::OsString| Path::new(name).extension() == Some("log".as_ref());
            (names.iter().any(is_segment), "segments", "sled")
        }
    };
    if has_other { Err(OpenError::OtherKind { dir, found, configured }) } else { Ok(()) }
}

/// The view as it is, or as it could be made; `log` is where the log begins and ends.
fn open_view(
    dir: &Path,
    options: ViewOptions,
    checkpoints: &mut Checkpoints,
    log: (Offset, Offset),
) -> Result<(View, ViewReport), StoreError> {
    let (earliest, end) = log;
    let (view, report) = match View::open_existing(dir, options) {
        Ok(view) if view.is_fresh() => {
            // Nothing was saved, or everything was lost: a checkpoint spares a replay, and may be all there is.
            if earliest == Offset::ZERO && checkpoints.candidate(earliest).is_none() {
                return Ok((view, ViewReport { applied: Offset::ZERO, rebuilt: None }));
            }
            view.close()?;
            checkpoints.rebuild_in(dir, options, None, earliest)?
        }
        Ok(view) => {
            let applied = view.applied();
            // What a checkpoint knows and the log has no more. The view is only given up for one that is undamaged.
            let known = checkpoints
                .candidate(earliest)
                .filter(|file| file.applied > applied.max(end) && checkpoints.is_whole(file))
                .map_or(earliest, |file| file.applied);
            if applied >= known {
                return Ok((view, ViewReport { applied, rebuilt: None }));
            }
            checkpoints.rebuild(view, ViewError::Behind { applied, earliest: known }, earliest)?
        }
        Err(ViewError::Unfinished) => {
            tracing::warn!(view = %dir.display(), "filling the view was interrupted; it is begun again");
            checkpoints.rebuild_in(dir, options, None, earliest)?
        }
        Err(reason) if reason.is_the_views_fault(dir) => {
            checkpoints.rebuild_in(dir, options, Some(reason), earliest)?
        }
        Err(error) => return Err(error.into()),
    };
    Ok((view, ViewReport { applied: report.applied, rebuilt: Some(report) }))
}

impl StoreError {
    fn is_lack_of_space(&self) -> bool {
        match self {
            Self::View(error) => error.is_lack_of_space(),
            Self::Checkpoint(error) => matches!(error, CheckpointError::NoSpace { .. }),
            _ => false,
        }
    }
}

fn no_space(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("log_report", &self.log_report)
            .field("view_report", &self.view_report)
            .field("replay_from", &self.replay_from)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! The directory of checkpoints: which there are, writing the next one, making a view from one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CheckpointError;
use super::read::{Reader, Verified};
use super::write::Writer;
use super::{CheckpointFile, TEMPORARY_SUFFIX, offset_of};
use crate::log::segments::disk::Disk;
use crate::offset::Offset;
use crate::recovery::StoreError;
use crate::view::{RowSink, SetAside, View, ViewError, ViewOptions};

/// Checkpoints that are kept: should the newest be damaged, there is one more.
pub const CHECKPOINTS_KEPT: usize = 2;

/// The checkpoints of one data directory. See the module documentation.
#[derive(Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    /// Oldest first; those found damaged or useless are not among them.
    kept: Vec<CheckpointFile>,
    /// The view was made from this one, or it is older than that: trying it again would not help.
    tried: Option<Offset>,
    /// The whole log was the last resort, and was used.
    exhausted: bool,
}

/// What a view was made from anew.
#[derive(Debug)]
pub struct RebuildReport {
    /// Up to which offset the view is applied now: from there on the log is to be replayed.
    pub applied: Offset,
    /// The checkpoint it was filled from; None for an empty view and the whole log.
    pub checkpoint: Option<PathBuf>,
    /// Rows that were filled in.
    pub rows: u64,
    /// The view before, unless there was none worth keeping.
    pub set_aside: Option<SetAside>,
}

impl Checkpoints {
    /// The checkpoints in `dir`, which is created if it does not exist. Unfinished ones are removed; damaged ones, as far
    /// as header, length and footer tell, are passed over.
    ///
    /// # Errors
    ///
    /// When the directory cannot be used, and [`CheckpointError::NewerFormat`].
    pub fn open(dir: impl Into<PathBuf>, disk: Arc<dyn Disk>) -> Result<Self, CheckpointError> {
        let dir = dir.into();
        let names = disk.list(&dir).map_err(|source| CheckpointError::from_io("list", &dir, source))?;
        let mut kept = Vec::new();
        for name in names {
            let path = dir.join(&name);
            if name.to_str().is_some_and(|name| name.ends_with(TEMPORARY_SUFFIX)) {
                remove(disk.as_ref(), &path);
            } else if offset_of(&name).is_some() {
                match look(disk.as_ref(), &path) {
                    Ok(file) => kept.push(file),
                    Err(error @ CheckpointError::NewerFormat { .. }) => return Err(error),
                    Err(error) => tracing::error!(%error, "a checkpoint is of no use and is passed over"),
                }
            }
        }
        kept.sort_unstable_by_key(|file| file.applied);
        Ok(Self { dir, disk, kept, tried: None, exhausted: false })
    }

    /// The same directory on another disk.
    #[cfg(test)]
    pub(super) fn on(self, disk: Arc<dyn Disk>) -> Self {
        Self { disk, ..self }
    }

    /// Up to which offset the newest one is applied.
    pub fn newest(&self) -> Option<Offset> {
        self.kept.last().map(|file| file.applied)
    }

    /// Up to which offset the oldest one is applied: so far the log may be trimmed.
    pub fn oldest(&self) -> Option<Offset> {
        self.kept.first().map(|file| file.applied)
    }

    /// Length of the newest one in bytes; 0 if there is none.
    pub fn newest_bytes(&self) -> u64 {
        self.kept.last().map_or(0, |file| file.bytes)
    }

    /// The bytes that may still be written where they lie; endless where the system does not say.
    pub(crate) fn available(&self) -> u64 {
        self.disk.available(&self.dir).unwrap_or(u64::MAX)
    }

    /// Writes what `view` holds, unless the newest one holds it already, and removes all but the newest two.
    /// `go_on` is asked now and then; false gives up.
    ///
    /// # Errors
    ///
    /// See [`CheckpointError`]; the checkpoints are as before then.
    pub(crate) fn dump(&mut self, view: &View, go_on: &dyn Fn() -> bool) -> Result<(), CheckpointError> {
        let applied = view.applied();
        if self.newest() == Some(applied) {
            return Ok(());
        }
        self.remove_unfinished()?;
        let mut writer = Writer::create(self.disk.as_ref(), &self.dir, applied)?;
        let scanned = view.scan_all(&mut |key, value| {
            if !go_on() {
                return Err(CheckpointError::Stopped);
            }
            writer.add(key, value)
        });
        let file = match scanned {
            Ok(_) => writer.finish()?,
            Err(error) => return Err(writer.abandon(error)),
        };
        // After a start with a damaged newer one, that one's offset may lie ahead.
        self.kept.retain(|kept| kept.applied < applied);
        self.kept.push(file);
        let superfluous = self.kept.len().saturating_sub(CHECKPOINTS_KEPT);
        self.kept.drain(..superfluous);
        self.remove_superfluous();
        Ok(())
    }

    /// Sets a broken view aside and makes another one from the newest checkpoint not tried yet that the log, which
    /// begins at `log_earliest`, continues; with none left, an empty one if the log begins at offset 0.
    ///
    /// # Errors
    ///
    /// [`StoreError::NothingToRebuildFrom`]; a checkpoint of a newer format; and when the view cannot be written.
    pub fn rebuild(
        &mut self,
        broken: View,
        reason: ViewError,
        log_earliest: Offset,
    ) -> Result<(View, RebuildReport), StoreError> {
        let (dir, options) = broken.close()?;
        self.rebuild_in(&dir, options, Some(reason), log_earliest)
    }

    /// As [`Checkpoints::rebuild`], for a view that could not even be opened. Without a reason, what lies in `dir` is not
    /// worth keeping.
    pub(crate) fn rebuild_in(
        &mut self,
        dir: &Path,
        options: ViewOptions,
        reason: Option<ViewError>,
        log_earliest: Offset,
    ) -> Result<(View, RebuildReport), StoreError> {
        let nothing = || StoreError::NothingToRebuildFrom { view: dir.into(), log_earliest };
        if self.candidate(log_earliest).is_none() && (self.exhausted || log_earliest > Offset::ZERO) {
            tracing::error!(
                view = %dir.display(), reason = reason.as_ref().map(tracing::field::display), %log_earliest,
                "the view is lost, no checkpoint can stand in for it, and the log does not reach back to offset 0"
            );
            return Err(nothing());
        }
        let set_aside = match reason {
            Some(reason) => Some(View::set_aside(dir, reason)?),
            None => None,
        };
        while let Some(file) = self.candidate(log_earliest) {
            match self.fill(dir, options, &file) {
                Ok((view, rows)) => {
                    self.tried = Some(file.applied);
                    tracing::warn!(
                        checkpoint = %file.path.display(), rows, applied = %file.applied, %log_earliest,
                        "the view is filled from a checkpoint; the log after it is replayed"
                    );
                    let checkpoint = Some(file.path);
                    return Ok((view, RebuildReport { applied: file.applied, checkpoint, rows, set_aside }));
                }
                Err(CheckpointError::View(error)) => return Err(error.into()),
                Err(error @ (CheckpointError::NewerFormat { .. } | CheckpointError::NoSpace { .. })) => {
                    return Err(error.into());
                }
                Err(error) => {
                    tracing::error!(%error, "a checkpoint is of no use; the one before it is tried");
                    self.kept.retain(|kept| kept.applied != file.applied);
                    // The next start would take it for whole, and have the log trimmed that stands in for it.
                    if matches!(error, CheckpointError::Damaged { .. }) {
                        remove(self.disk.as_ref(), &file.path);
                    }
                }
            }
        }
        if self.exhausted || log_earliest > Offset::ZERO {
            tracing::error!(view = %dir.display(), %log_earliest, "no checkpoint is whole, and the log does not begin at 0");
            return Err(nothing());
        }
        self.exhausted = true;
        let view = View::open_empty(dir, options)?;
        tracing::warn!(view = %dir.display(), "the view is made anew from the whole log");
        Ok((view, RebuildReport { applied: Offset::ZERO, checkpoint: None, rows: 0, set_aside }))
    }

    /// The newest checkpoint that has not been tried and that the log continues.
    pub(crate) fn candidate(&self, log_earliest: Offset) -> Option<CheckpointFile> {
        let untried = |file: &&CheckpointFile| self.tried.is_none_or(|tried| file.applied < tried);
        self.kept.iter().rev().find(untried).filter(|file| file.applied >= log_earliest).cloned()
    }

    /// Whether a checkpoint is undamaged from one end to the other.
    pub(crate) fn is_whole(&self, file: &CheckpointFile) -> bool {
        let read = self.read(&file.path, &mut |_, _| Ok(()));
        if let Err(error) = &read {
            tracing::error!(%error, "a checkpoint is of no use and is passed over");
        }
        read.is_ok()
    }

    fn read(&self, path: &Path, row: &mut RowSink<'_, CheckpointError>) -> Result<Verified, CheckpointError> {
        let file = self.disk.open(path).map_err(|source| CheckpointError::from_io("open", path, source))?;
        Reader::open(path, file.as_ref())?.read(row)
    }

    fn fill(
        &self,
        dir: &Path,
        options: ViewOptions,
        file: &CheckpointFile,
    ) -> Result<(View, u64), CheckpointError> {
        let mut fill = View::begin_fill(dir, options)?;
        let rows = self.read(&file.path, &mut |key, value| Ok(fill.put(key, value)?))?.rows;
        Ok((fill.finish(file.applied)?, rows))
    }

    /// Removes what an attempt that failed may have left.
    fn remove_unfinished(&self) -> Result<(), CheckpointError> {
        let failed = |source| CheckpointError::from_io("list", &self.dir, source);
        for name in self.disk.list(&self.dir).map_err(failed)? {
            if name.to_str().is_some_and(|name| name.ends_with(TEMPORARY_SUFFIX)) {
                remove(self.disk.as_ref(), &self.dir.join(name));
            }
        }
        Ok(())
    }

    /// Removes every checkpoint that is not kept. What cannot be removed now is removed next time.
    fn remove_superfluous(&self) {
        match self.disk.list(&self.dir) {
            Ok(names) => {
                for applied in names.iter().filter_map(|name| offset_of(name)) {
                    if !self.kept.iter().any(|kept| kept.applied == applied) {
                        remove(self.disk.as_ref(), &self.dir.join(super::file_name(applied)));
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "old checkpoints could not be listed")
            }
        }
    }
}

/// Looks at header, length and footer.
fn look(disk: &dyn Disk, path: &Path) -> Result<CheckpointFile, CheckpointError> {
    let file = disk.open(path).map_err(|source| CheckpointError::from_io("open", path, source))?;
    let reader = Reader::open(path, file.as_ref())?;
    Ok(CheckpointFile { path: path.into(), applied: reader.applied(), bytes: reader.bytes() })
}

fn remove(disk: &dyn Disk, path: &Path) {
    if let Err(error) = disk.remove(path) {
        tracing::warn!(%error, path = %path.display(), "a checkpoint that is not wanted any more could not be removed");
    }
}

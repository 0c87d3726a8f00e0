//! Mending what can be mended.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copy::TemporaryCopy;
use super::place::Place;
use super::verify::verify_held;
use super::{Finding, LogFormat, OfflineError, VerifyReport};
use crate::checkpoint::Checkpoints;
use crate::log::segments::disk::RealDisk;
use crate::log::segments::rewrite_header;
use crate::log::{SledLog, SledLogOptions};
use crate::offset::Offset;
use crate::view::set_aside::set_aside;
use crate::view::{Changes, View, ViewOptions};

/// Memory for sled while it makes an empty view.
const CACHE_BYTES: u64 = 8 << 20;

/// One thing [`repair`] does. As text: a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairStep {
    /// Cuts off what is no whole group at the end of the log.
    CutOff {
        /// Which file, or sled's directory.
        file: PathBuf,
        /// Where.
        at_byte: u64,
        /// How many bytes go.
        bytes: u64,
    },
    /// Removes a file of the log that never took a group.
    RemoveUnfinished {
        /// Which file.
        file: PathBuf,
    },
    /// Writes both copies of a header of a file of the log again.
    RewriteHeader {
        /// Which file.
        file: PathBuf,
    },
    /// Renames a checkpoint that is of no use.
    SetCheckpointAside {
        /// Which file.
        file: PathBuf,
        /// What it is called then.
        target: PathBuf,
    },
    /// Renames a view that is of no use.
    SetViewAside {
        /// Which directory.
        dir: PathBuf,
    },
    /// Writes a checkpoint of an empty view, from which a gateway starts with what the log still has.
    WriteEmptyCheckpoint {
        /// Where the log begins, and the view with it.
        applied: Offset,
    },
}

/// What [`repair`] did.
#[derive(Debug)]
pub struct RepairReport {
    /// What was done.
    pub done: Vec<RepairStep>,
    /// The store as it is now.
    pub after: VerifyReport,
}

/// Does what [`super::verify()`] found to be mendable, and calls `announce` before each step. Where neither view nor
/// checkpoint is of use and the log does not begin at offset 0, a gateway then starts with what the log still has;
/// the step says what is given up. Damaged groups stay where they are: readers pass over them.
///
/// # Errors
///
/// When the store is in use, or the system fails; the steps announced before the last one are done then.
pub fn repair(data_dir: &Path, announce: &mut dyn FnMut(&RepairStep)) -> Result<RepairReport, OfflineError> {
    let mut place = Place::hold(data_dir)?;
    let before = verify_held(&place)?;
    let mut done = Vec::new();
    let steps: Vec<_> = before.findings.iter().filter_map(|finding| step_for(&place, finding)).collect();
    for step in steps {
        announce(&step);
        carry_out(&mut place, &step)?;
        done.push(step);
    }
    Ok(RepairReport { done, after: verify_held(&place)? })
}

/// What to do about a finding; None where nothing can be done.
fn step_for(place: &Place, finding: &Finding) -> Option<RepairStep> {
    if !finding.is_mendable() {
        return None;
    }
    match finding {
        Finding::TornTail(torn) => {
            let (file, at_byte, bytes) = (torn.file.clone(), torn.at_byte, torn.bytes);
            Some(RepairStep::CutOff { file, at_byte, bytes })
        }
        Finding::Unfinished { file } => Some(RepairStep::RemoveUnfinished { file: file.clone() }),
        Finding::DamagedHeader { file, .. } => Some(RepairStep::RewriteHeader { file: file.clone() }),
        Finding::ViewUnusable(_) | Finding::ViewBehind { .. } => {
            Some(RepairStep::SetViewAside { dir: place.view() })
        }
        Finding::Checkpoint { file, .. } => {
            let mut target = file.clone().into_os_string();
            target.push(".broken");
            Some(RepairStep::SetCheckpointAside { file: file.clone(), target: target.into() })
        }
        // Not where the log begins: what is left of it would be applied to an empty view, in which acknowledgements mean other
        // messages than those they were given for.
        Finding::NothingToRebuildFrom { end, .. } => Some(RepairStep::WriteEmptyCheckpoint { applied: *end }),
        Finding::DamagedGroups(_)
        | Finding::Hole { .. }
        | Finding::Unreadable { .. }
        | Finding::LogUnusable(_)
        | Finding::ViewAhead { .. } => None,
    }
}

fn carry_out(place: &mut Place, step: &RepairStep) -> Result<(), OfflineError> {
    match step {
        RepairStep::CutOff { .. } if place.format == Some(LogFormat::Sled) => {
            // Opening does it, and wants the lock for itself.
            place.release();
            SledLog::open(place.sled(), SledLogOptions::default())?;
        }
        RepairStep::CutOff { file, at_byte, .. } => {
            let opened = OpenOptions::new().write(true).open(file).map_err(OfflineError::io("open", file))?;
            opened.set_len(*at_byte).map_err(OfflineError::io("cut off", file))?;
            opened.sync_all().map_err(OfflineError::io("sync", file))?;
        }
        RepairStep::RemoveUnfinished { file } => {
            fs::remove_file(file).map_err(OfflineError::io("remove", file))?;
            sync_dir_of(file)?;
        }
        RepairStep::RewriteHeader { file } => {
            if !rewrite_header(&place.segments(), file)? {
                return Err(OfflineError::HeaderUnknown { file: file.clone() });
            }
        }
        RepairStep::SetCheckpointAside { file, target } => {
            fs::rename(file, target).map_err(OfflineError::io("rename", file))?;
            sync_dir_of(file)?;
        }
        RepairStep::SetViewAside { dir } => {
            set_aside(dir)?;
            sync_dir_of(dir)?;
        }
        RepairStep::WriteEmptyCheckpoint { applied } => write_empty_checkpoint(place, *applied)?,
    }
    Ok(())
}

/// Writes the checkpoint of a view that is applied up to `applied` and holds nothing.
fn write_empty_checkpoint(place: &Place, applied: Offset) -> Result<(), OfflineError> {
    let directory = TemporaryCopy::empty()?;
    let view = View::open_existing(directory.path(), ViewOptions { cache_bytes: CACHE_BYTES })?;
    view.save(&Changes::new(), applied)?;
    Checkpoints::open(place.checkpoints(), Arc::new(RealDisk))?.dump(&view, &|| true)?;
    // sled writes to its directory until it is closed.
    view.close()?;
    Ok(())
}

/// Makes removals and renamings beside `path` durable.
fn sync_dir_of(path: &Path) -> Result<(), OfflineError> {
    let dir = path.parent().unwrap_or(path);
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(OfflineError::io("sync", dir))
}

impl fmt::Display for RepairStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff { file, at_byte, bytes } => {
                write!(f, "cut {bytes} bytes off the end of {}, from byte {at_byte} on", file.display())
            }
            Self::RemoveUnfinished { file } => write!(f, "remove {}, which holds nothing", file.display()),
            Self::RewriteHeader { file } => write!(f, "write the header of {} again", file.display()),
            Self::SetCheckpointAside { file, target } => {
                write!(f, "rename {} to {}", file.display(), target.display())
            }
            Self::SetViewAside { dir } => {
                write!(f, "rename {0} to {0}.broken-<n>; the next start makes the view anew", dir.display())
            }
            Self::WriteEmptyCheckpoint { applied } => write!(
                f,
                "write an empty checkpoint at offset {applied}, where the log ends: sessions, subscriptions, \
                 Retained Messages and pending deliveries are given up; streams keep what the log has"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::tests::{log_files, store};

    #[test]
    fn a_header_that_nothing_tells_how_to_write_ends_the_repair_with_an_error() {
        let dir = store();
        let first = log_files(dir.path()).remove(0);
        let mut bytes = fs::read(&first).unwrap();
        bytes[..80].fill(0);
        fs::write(&first, bytes).unwrap();
        let mut steps = Vec::new();
        // Somebody takes the file away while it is being mended.
        let repaired = repair(dir.path(), &mut |step| {
            steps.push(step.clone());
            fs::rename(&first, first.with_extension("gone")).unwrap();
        });
        assert_eq!(steps, [RepairStep::RewriteHeader { file: first.clone() }]);
        let error = repaired.unwrap_err();
        assert!(matches!(&error, OfflineError::HeaderUnknown { file } if *file == first), "{error}");
        assert!(error.to_string().contains("it stays as it is"), "{error}");
    }
}

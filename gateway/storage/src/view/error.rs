//! What can go wrong with the view, and whose fault it is.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Table, lock};
use crate::offset::Offset;

/// Why the view could not be opened, read or written.
#[derive(Debug, Error)]
pub enum ViewError {
    /// A value is not what was saved. The view is to be replaced and rebuilt.
    #[error("a value in table {table:?} of the view is damaged")]
    Corrupt {
        /// The table, or None for the view's own.
        table: Option<Table>,
        /// The key, without the table.
        key: Box<[u8]>,
    },
    /// The view has another format. It is to be replaced and rebuilt.
    #[error("the view has format {found}, this version writes and reads {known}")]
    Format {
        /// The format found; 0 if none was recorded.
        found: u64,
        /// The only one known.
        known: u64,
    },
    /// The view was written by a newer version of this software. It is left alone.
    #[error(
        "the view in {} has format version {found}, and this version reads up to {known}: it was written by a newer \
         gateway",
        dir.display()
    )]
    NewerFormat {
        /// Which directory.
        dir: PathBuf,
        /// The format found.
        found: u64,
        /// The newest one known.
        known: u64,
    },
    /// Rows were being filled in from a checkpoint when the process ended. It is to be begun again.
    #[error("the view was being filled from a checkpoint and is not complete")]
    Unfinished,
    /// The entries between the view and what else there is are gone. It is to be replaced and rebuilt.
    #[error(
        "the view is applied up to {applied}, and the entries from there to {earliest} are not in the log"
    )]
    Behind {
        /// Up to which offset it is applied.
        applied: Offset,
        /// The first offset from which on something is there.
        earliest: Offset,
    },
    /// Somebody else has the view open.
    #[error("the view in {} is in use", dir.display())]
    InUse {
        /// Which directory.
        dir: PathBuf,
    },
    /// The store failed and is not open again yet. Trying later may help.
    #[error("the view in {} is being opened again", dir.display())]
    Closed {
        /// Which directory.
        dir: PathBuf,
    },
    /// The store was opened again and had lost what was saved before. It is to be rebuilt at the next start.
    #[error("the view was saved up to {saved} and is back at {found} after it was opened again")]
    LostSaves {
        /// Up to which offset it had been saved.
        saved: Offset,
        /// Up to which offset it is applied now.
        found: Offset,
    },
    /// sled reported an error.
    #[error("the view's store failed: {0}")]
    Engine(#[source] Box<sled::Error>),
    /// sled panicked, which it does on damaged files.
    #[error("the view's store panicked: {message}")]
    EnginePanicked {
        /// What it said.
        message: String,
    },
    /// A broken view could not be set aside, or a thread not be started.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ViewError {
    /// The value under `key`, table byte included, is damaged.
    pub(super) fn corrupt(key: &[u8]) -> Self {
        let (prefix, name) = key.split_first().unwrap_or((&0, &[]));
        Self::Corrupt { table: Table::of(*prefix), key: name.into() }
    }

    /// Whether setting the view aside would help. A rebuild needs space, permissions and file descriptors, too.
    pub(crate) fn is_the_views_fault(&self, dir: &Path) -> bool {
        let Self::Engine(error) = self else {
            return matches!(
                self,
                Self::Corrupt { .. }
                    | Self::Format { .. }
                    | Self::Behind { .. }
                    | Self::EnginePanicked { .. }
            );
        };
        let sled::Error::Io(error) = error.as_ref() else { return true };
        match error.kind() {
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::OutOfMemory => false,
            kind if lacks_space(kind) => false,
            // What sled says, in words only, when it cannot lock its file.
            io::ErrorKind::Other => !lock::is_held(dir),
            _ => !matches!(
                error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
                Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
            ),
        }
    }

    /// Whether the disk, or the quota, is full.
    pub(crate) fn is_lack_of_space(&self) -> bool {
        match self {
            Self::Engine(error) => {
                matches!(error.as_ref(), sled::Error::Io(error) if lacks_space(error.kind()))
            }
            Self::Io { source, .. } => lacks_space(source.kind()),
            _ => false,
        }
    }
}

const fn lacks_space(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Runs something of sled's and turns its panics into errors.
pub(super) fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, ViewError> {
    // sled's state may be torn after a panic; every caller then gives the view up.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| ViewError::Engine(Box::new(error))),
        Err(panic) => Err(panicked(panic.as_ref())),
    }
}

pub(super) fn panicked(panic: &(dyn Any + Send)) -> ViewError {
    let message = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned());
    ViewError::EnginePanicked { message }
}

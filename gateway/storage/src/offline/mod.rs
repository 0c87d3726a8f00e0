//! A store that no gateway has open: looking at it, mending it, reading it out. And a copy of one, open or not.
//!
//! **Promises.** [`verify()`] and [`export()`] change nothing: they read the files, and sled's from a temporary copy, because
//! sled writes to a store as soon as it opens it. They hold the store's lock meanwhile, so that no gateway starts over it.
//! [`repair()`] does what [`verify()`] found to be mendable, says so step by step, and never throws evidence away that could
//! still be of use: what is broken is renamed. What no reader can reach any more is not touched; readers pass over it.
//!
//! None of this runs by itself, and a gateway needs none of it to start after a crash.
//!
//! Read on in [`Finding`] for what can be wrong with a store.

mod backup;
mod copy;
mod export;
mod finding;
mod place;
mod repair;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use self::backup::{BackupReport, backup};
pub use self::export::{ExportReport, export};
pub use self::finding::Finding;
pub use self::repair::{RepairReport, RepairStep, repair};
pub use self::verify::{LogSummary, VerifyReport, verify};

/// Which of the logs a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Files, [`crate::SegmentsLog`].
    Segments,
    /// Values in sled, [`crate::SledLog`].
    Sled,
}

/// Why a store cannot be looked at.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// A gateway runs on it.
    #[error(
        "the store in {} is in use{}: stop the gateway first",
        data_dir.display(),
        holder.map(|pid| format!(" by process {pid}")).unwrap_or_default()
    )]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// The process that has it open, if that is known.
        holder: Option<u32>,
    },
    /// There are two logs in one data directory.
    #[error(
        "{} holds a log of segments and one in sled: move the one that is not in use out of it",
        data_dir.join("log").display()
    )]
    TwoLogs {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The log is in sled, whose files change all the time.
    #[error(
        "the log in {} is in sled, which cannot be copied while it is in use: stop the gateway and copy the directory",
        data_dir.display()
    )]
    InSled {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The log was trimmed behind the checkpoints again and again, or begins behind them.
    #[error("the log in {} begins behind its checkpoints: `gateway storage verify` says more", data_dir.display())]
    Moving {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The system refused or failed.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A header of a file of the log is damaged, and nothing is left that tells what it was.
    #[error("the header of {} is damaged, and nothing is left that tells what it was: it stays as it is", file.display())]
    HeaderUnknown {
        /// Which file.
        file: PathBuf,
    },
    /// The log cannot be read at all.
    #[error("the log cannot be read: {0}")]
    Log(#[from] crate::log::OpenError),
    /// The checkpoints cannot be looked at, or not be written.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// The copy of the view cannot be read for another reason than damage, the view not be set aside, or an empty one
    /// not be made.
    #[error("the view cannot be looked at or mended: {0}")]
    View(#[from] crate::view::ViewError),
    /// The output could not be written.
    #[error("could not write what was read: {0}")]
    Output(#[source] io::Error),
}

impl OfflineError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }
}

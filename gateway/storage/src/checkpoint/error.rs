//! What can be wrong with a checkpoint.

use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::view::ViewError;

/// Why a checkpoint could not be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The disk, or the quota, is full.
    #[error("no space left to {doing} {}: {source}", path.display())]
    NoSpace {
        /// What was tried: a verb.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// So little space is left that it was not tried.
    #[error("{available} bytes are available, and a checkpoint may take {needed}")]
    TooLittleSpace {
        /// What is available, the reserve included.
        available: u64,
        /// What a checkpoint may take.
        needed: u64,
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
    /// The file is not what was written.
    #[error("the checkpoint {} is damaged at byte {at}: {damage}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where, in bytes from its beginning.
        at: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// The file was written by a newer version of this software.
    #[error(
        "the checkpoint {} has format version {found}, and this version reads up to {known}: it was written by a newer \
         gateway",
        path.display()
    )]
    NewerFormat {
        /// Which file.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version this software reads.
        known: u32,
    },
    /// The view could not be read, or not be filled.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The writer was asked to stop before the checkpoint was complete.
    #[error("the checkpoint was given up because the gateway stops")]
    Stopped,
}

impl CheckpointError {
    /// An error of the system, told apart by whether space is what it lacks.
    pub(super) fn from_io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { doing, path, source }
            }
            _ => Self::Io { doing, path, source },
        }
    }
}

/// What is wrong with a damaged checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The file ends too early.
    CutOff,
    /// The header is not one.
    Header,
    /// Name and contents disagree on the offset.
    Name,
    /// A block's checksum does not match.
    Block,
    /// A block is whole and its rows cannot be read.
    Row,
    /// The footer, and with it the checksum over the whole file, does not match.
    Footer,
    /// The footer counts other rows, blocks or bytes than there are.
    Count,
}

impl Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CutOff => "it ends too early",
            Self::Header => "its header is not one",
            Self::Name => "its name gives another offset than its header",
            Self::Block => "the checksum of a block does not match",
            Self::Row => "a row cannot be read",
            Self::Footer => "the checksum over the whole file does not match",
            Self::Count => "it holds something else than its footer counts",
        })
    }
}

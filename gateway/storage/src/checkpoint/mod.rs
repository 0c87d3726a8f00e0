//! Checkpoints: the view's rows in one file, from which a lost view is made again.
//!
//! **Promises.** A file that verifies holds exactly the rows the view had when it was applied up to the offset in the
//! file's name: one cut off anywhere, or with any bit changed, does not verify. A file has its name only after it is
//! complete and durable, so a crash or a full disk leaves the checkpoints before it as they were. The two newest are kept,
//! and an older one is removed only after the newer ones are durable.
//!
//! **Format.** `<dir>/<applied offset, 20 digits>.ckpt`: a header, blocks of about 256 KiB of rows, and a footer with a
//! checksum over the whole file (`format`). Rows are written and read in bounded memory, however large the view.
//!
//! **Operation.** The view's own thread writes them ([`crate::ViewWriter::try_checkpoint`]), [`crate::recovery`] reads
//! them, [`Checkpoints`] knows which there are. [`list`] and [`verify`] are for people and tools that look from outside.
//!
//! Nothing here knows what the rows mean, nor when a checkpoint is due.

mod error;
mod format;
mod kept;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub use self::error::{CheckpointError, Damage};
pub use self::kept::{CHECKPOINTS_KEPT, Checkpoints, RebuildReport};
use self::read::Reader;
pub use self::read::Verified;
use crate::offset::Offset;

/// What names of checkpoints end in, and those of unfinished ones.
const SUFFIX: &str = ".ckpt";
const TEMPORARY_SUFFIX: &str = ".ckpt.tmp";
/// Digits of the offset in a name.
const DIGITS: usize = 20;

/// A checkpoint, as far as its name and length tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFile {
    /// The file.
    pub path: PathBuf,
    /// The offset in its name: up to there the view was applied.
    pub applied: Offset,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The checkpoints in `dir`, oldest first, unverified. None where there is no such directory.
///
/// # Errors
///
/// When the directory, or a file in it, cannot be looked at.
pub fn list(dir: &Path) -> Result<Vec<CheckpointFile>, CheckpointError> {
    let failed = |source| CheckpointError::from_io("list", dir, source);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Some(applied) = offset_of(&entry.file_name()) {
            let bytes = entry.metadata().map_err(failed)?.len();
            files.push(CheckpointFile { path: entry.path(), applied, bytes });
        }
    }
    files.sort_unstable_by_key(|file| file.applied);
    Ok(files)
}

/// Reads a checkpoint from one end to the other and says what it holds. The file is only read, and may belong to a
/// gateway that runs.
///
/// # Errors
///
/// See [`CheckpointError`]: what is wrong with it, and where.
pub fn verify(path: &Path) -> Result<Verified, CheckpointError> {
    let file = File::open(path).map_err(|source| CheckpointError::from_io("open", path, source))?;
    Reader::open(path, &file)?.read(&mut |_, _| Ok(()))
}

fn file_name(applied: Offset) -> String {
    format!("{:0DIGITS$}{SUFFIX}", applied.get())
}

fn temporary_name(applied: Offset) -> String {
    format!("{:0DIGITS$}{TEMPORARY_SUFFIX}", applied.get())
}

/// The offset in a checkpoint's name; None if it is not one.
fn offset_of(name: &OsStr) -> Option<Offset> {
    let digits = name.to_str()?.strip_suffix(SUFFIX)?;
    let all_digits = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten().map(Offset::new)
}

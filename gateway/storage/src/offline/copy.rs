//! A copy to look at what cannot be looked at without changing it: sled writes to a store as soon as it opens it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::OfflineError;

/// Copies made by this process, for their names.
static COPIES: AtomicU64 = AtomicU64::new(0);

/// A copy of a directory in the system's temporary directory, removed when it is dropped.
#[derive(Debug)]
pub(super) struct TemporaryCopy {
    path: PathBuf,
}

impl TemporaryCopy {
    /// Copies `dir` with everything in it.
    pub(super) fn of(dir: &Path) -> Result<Self, OfflineError> {
        let copy = Self::empty()?;
        copy_into(dir, &copy.path).map_err(OfflineError::io("copy", dir))?;
        Ok(copy)
    }

    /// An empty directory.
    pub(super) fn empty() -> Result<Self, OfflineError> {
        let number = COPIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("gateway-offline-{}-{number}", std::process::id());
        let copy = Self { path: std::env::temp_dir().join(name) };
        // Not into what somebody else has put there.
        fs::create_dir(&copy.path).map_err(OfflineError::io("create", &copy.path))?;
        Ok(copy)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryCopy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a temporary copy stays behind");
        }
    }
}

fn copy_into(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_into(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

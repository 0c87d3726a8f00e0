//! A file system that can be full: a tmpfs on the broker's directory.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::HostError;

/// Its size if the scenario does not say.
const BYTES: u64 = 128 << 20;

const BLOCK: usize = 1 << 16;

/// Mounted until it is dropped.
pub(super) struct Disk {
    dir: PathBuf,
}

impl Disk {
    /// Mounts one on a directory.
    pub(super) fn mount(dir: &Path, bytes: Option<u64>) -> Result<Self, HostError> {
        let size = format!("size={}", bytes.unwrap_or(BYTES));
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Disk { dir: dir.to_owned() }),
            Ok(output) => {
                Err(HostError::Mount { said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
            }
            Err(error) => Err(HostError::Mount { said: error.to_string() }),
        }
    }

    /// Takes all the space there is.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        let mut file = File::create(self.filler())?;
        let block = vec![0; BLOCK];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives it back.
    pub(super) fn free(&mut self) -> io::Result<()> {
        match std::fs::remove_file(self.filler()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the broker may still be on its way out.
        let _ = Command::new("umount").arg("--lazy").arg(&self.dir).status();
    }
}

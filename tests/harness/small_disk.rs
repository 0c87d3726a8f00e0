//! A small file system of the test's own, which may be filled.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Set in the process that may mount, when the first one may not.
const IN_NAMESPACE: &str = "GATEWAY_TEST_MAY_MOUNT";

/// A file system in memory, of a size. Unmounted when dropped.
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// None if this process may not mount one; see [`where_mounting_is_allowed`].
    ///
    /// # Panics
    /// When there is no temporary directory to mount it on.
    #[must_use]
    pub fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let size = format!("size={bytes}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self { dir })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Fills it up except for `left` bytes. The file that does it.
    ///
    /// # Panics
    /// When it cannot be written for another reason than that it is full.
    #[must_use]
    pub fn fill(&self, left: u64) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).unwrap();
        let block = vec![1; 256 << 10];
        let mut written: u64 = 0;
        loop {
            match file.write(&block) {
                Ok(count) => written += count as u64,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("filling the file system: {error}"),
            }
        }
        file.set_len(written.saturating_sub(left)).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the program may still be on its way out. Were it to fail, the directory would stay behind, and its
        // memory with it.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path().display());
        }
    }
}

/// Runs `test`, whose full name is `name`, where file systems may be mounted: in this process, or in another one that is
/// root of a namespace of its own. Where neither is allowed it says so and does nothing.
///
/// # Panics
/// When the test fails in its namespace.
pub fn where_mounting_is_allowed(name: &str, test: impl FnOnce()) {
    if SmallDisk::mount(1 << 20).is_some() {
        return test();
    }
    if std::env::var_os(IN_NAMESPACE).is_some() {
        eprintln!("SKIPPED {name}: not even root of a namespace may mount a tmpfs");
        return;
    }
    let program = std::env::current_exe().expect("the running test has a path");
    let again = Command::new("unshare")
        .args(["--map-root-user", "--mount"])
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .env(IN_NAMESPACE, "1")
        .status();
    match again {
        Ok(status) if status.success() => {}
        Ok(status) if status.code() == Some(101) => panic!("it failed in its namespace, see above"),
        other => eprintln!(
            "SKIPPED {name}: this user may neither mount a tmpfs nor make a namespace to mount it in ({other:?})"
        ),
    }
}

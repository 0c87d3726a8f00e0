//! A file system whose nth operation fails, whatever it is.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::log::segments::disk::{Disk, RealDisk, SegmentFile};

/// The file system of this machine, with a fault at one step.
#[derive(Clone, Debug)]
pub(super) struct FailingDisk(Arc<Plan>);

#[derive(Debug)]
struct Plan {
    /// Operations until the one that fails; endless for none.
    left: AtomicU64,
    kind: io::ErrorKind,
    /// Once a step has failed, all later ones do: the process is gone.
    for_good: bool,
    failed: Mutex<Option<&'static str>>,
}

impl FailingDisk {
    pub(super) fn failing_at(step: u64, kind: io::ErrorKind, for_good: bool) -> Self {
        let left = AtomicU64::new(step);
        Self(Arc::new(Plan { left, kind, for_good, failed: Mutex::default() }))
    }

    /// What was being done at the step that failed; None if it never came to that.
    pub(super) fn failed(&self) -> Option<&'static str> {
        *self.0.failed.lock().unwrap()
    }
}

impl Plan {
    fn step(&self, what: &'static str) -> io::Result<()> {
        let left = self.left.load(Ordering::Relaxed);
        match left {
            0 if self.for_good => Err(self.kind.into()),
            0 => Ok(()),
            1 => {
                *self.failed.lock().unwrap() = Some(what);
                self.left.store(0, Ordering::Relaxed);
                Err(self.kind.into())
            }
            _ => {
                self.left.store(left - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

#[derive(Debug)]
struct FailingFile {
    file: Box<dyn SegmentFile>,
    plan: Arc<Plan>,
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        self.0.step("create")?;
        Ok(Box::new(FailingFile { file: RealDisk.create(path)?, plan: Arc::clone(&self.0) }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        self.0.step("open")?;
        Ok(Box::new(FailingFile { file: RealDisk.open(path)?, plan: Arc::clone(&self.0) }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.step("remove")?;
        RealDisk.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step("rename")?;
        RealDisk.rename(from, to)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.0.step("list")?;
        RealDisk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.step("sync_dir")?;
        RealDisk.sync_dir(dir)
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.available(dir)
    }
}

impl SegmentFile for FailingFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let step = self.plan.step("write");
        // A write that fails has written a part.
        let part = if step.is_ok() { bytes.len() } else { bytes.len() / 2 };
        self.file.write_at(&bytes[..part], at)?;
        step
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.plan.step("read")?;
        self.file.read_at(into, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.plan.step("sync")?;
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.plan.step("set_len")?;
        self.file.set_len(len)
    }

    fn allocate(&self, from: u64, len: u64) -> io::Result<()> {
        self.plan.step("allocate")?;
        self.file.allocate(from, len)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}

//! Real files on a disk that fails on demand, and that can lose its power.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::faults::Faults;
use super::segments::disk::{Disk, RealDisk, SegmentFile};

/// The file system of this machine behind a plan of faults. Writes, syncs and removals follow [`Faults`]; creating a
/// file counts as an attempt to begin anew.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk {
    faults: Faults,
    extents: Extents,
}

/// How far each file is written, and how far of that is on stable storage.
type Extents = Arc<Mutex<HashMap<PathBuf, Extent>>>;

#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    written: u64,
    synced: u64,
}

impl FaultyDisk {
    /// A disk without faults yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The plan of faults.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The power fails: every file loses what was not synced, except the first `torn_tail` bytes of it. Whoever had
    /// the files open must be gone.
    ///
    /// # Errors
    ///
    /// When the files cannot be cut off.
    pub fn lose_power(&self, torn_tail: u64) -> io::Result<()> {
        for (path, extent) in lock(&self.extents).iter_mut() {
            let survived = extent.written.min(extent.synced + torn_tail);
            RealDisk.open(path)?.set_len(survived)?;
            *extent = Extent { written: survived, synced: survived };
        }
        Ok(())
    }

    /// How many bytes of a file are on stable storage; None for a file it does not know.
    pub fn synced(&self, path: &Path) -> Option<u64> {
        lock(&self.extents).get(path).map(|extent| extent.synced)
    }

    fn wrap(&self, path: &Path, file: Box<dyn SegmentFile>) -> io::Result<Box<dyn SegmentFile>> {
        let len = file.size()?;
        let extent = Extent { written: len, synced: len };
        // A reader opens a file that is being written: what is known of it stands.
        lock(&self.extents).entry(path.into()).or_insert(extent);
        Ok(Box::new(FaultyFile {
            file,
            path: path.into(),
            faults: self.faults.clone(),
            extents: Arc::clone(&self.extents),
        }))
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        self.faults.on_reopen()?;
        let file = RealDisk.create(path)?;
        self.wrap(path, file)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let file = RealDisk.open(path)?;
        self.wrap(path, file)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.faults.on_remove()?;
        lock(&self.extents).remove(path);
        RealDisk.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)?;
        let mut extents = lock(&self.extents);
        if let Some(extent) = extents.remove(from) {
            extents.insert(to.into(), extent);
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        RealDisk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.on_sync_dir()?;
        RealDisk.sync_dir(dir)
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        let real = RealDisk.available(dir)?;
        Ok(self.faults.space().map_or(real, |space| space.min(real)))
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn SegmentFile>,
    path: PathBuf,
    faults: Faults,
    extents: Extents,
}

impl FaultyFile {
    fn update(&self, change: impl FnOnce(&mut Extent)) {
        if let Some(extent) = lock(&self.extents).get_mut(&self.path) {
            change(extent);
        }
    }
}

impl SegmentFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let (written, result) = self.faults.on_write(bytes.len());
        self.file.write_at(bytes.get(..written).unwrap_or(bytes), at)?;
        self.update(|extent| extent.written = extent.written.max(at + written as u64));
        result
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(into, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.on_sync()?;
        self.file.sync_data()?;
        self.update(|extent| extent.synced = extent.written);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.update(|extent| {
            extent.written = extent.written.min(len);
            extent.synced = extent.synced.min(len);
        });
        Ok(())
    }

    fn allocate(&self, from: u64, len: u64) -> io::Result<()> {
        self.file.allocate(from, len)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}

fn lock(extents: &Extents) -> MutexGuard<'_, HashMap<PathBuf, Extent>> {
    extents.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The seam between what is stored and the file system, so that tests can put a failing disk under real files.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// A file system, as far as log and checkpoints need one.
pub trait Disk: Debug + Send + Sync {
    /// Creates an empty file, which must not exist.
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, in place of whatever has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// The names in a directory, which is created when it does not exist.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// Makes creations, removals and renamings in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// The bytes that may still be written to the file system of an existing directory.
    fn available(&self, dir: &Path) -> io::Result<u64>;
}

/// One file. Reading and writing at the same time is fine; nobody moves a common position.
pub trait SegmentFile: Debug + Send + Sync {
    /// Writes all of `bytes` at this position.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Reads up to `into.len()` bytes; 0 at the end of the file.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// Makes contents and length durable: `fdatasync`.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file off, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Extends the file to `len` and reserves the space from `from` on, which reads as zeros.
    fn allocate(&self, from: u64, len: u64) -> io::Result<()>;
    /// The length of the file in bytes.
    fn size(&self) -> io::Result<u64>;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::create_dir_all(dir)?;
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        let stat = statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl SegmentFile for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn allocate(&self, from: u64, len: u64) -> io::Result<()> {
        Ok(fallocate(self, FallocateFlags::empty(), from, len.saturating_sub(from))?)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Reads until `into` is full or the file ends, and says how much it got.
pub(crate) fn read_full(file: &dyn SegmentFile, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

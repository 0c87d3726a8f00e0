//! Space set aside for the day the disk is full.
//!
//! **Promises.** While the reserve is whole, [`Reserve::release`] makes that many bytes available at once, so that the
//! view can be saved, a checkpoint written and the log trimmed although the disk is full. [`Reserve::restore`] takes the
//! space back only when as much again is left for those who write: whoever gives the reserve up is not robbed of it by
//! whoever would like to have it back.
//!
//! It does not know what the space is used for; the view's thread gives it up, whoever opens the log again asks for it
//! to be whole first.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::log::segments::disk::{Disk, RealDisk, SegmentFile};

/// Zeros are written in pieces of this size where space cannot be reserved otherwise.
const ZEROS: usize = 64 << 10;

/// A file that holds space and nothing else. See the module documentation.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
    disk: Arc<dyn Disk>,
    whole: Mutex<bool>,
}

impl Reserve {
    /// The reserve of `bytes` bytes in the file `path`; 0 bytes are no reserve, and remove the file. If it cannot be made
    /// now, it is not whole, and [`Reserve::restore`] may make it later.
    pub fn open(path: impl Into<PathBuf>, bytes: u64, disk: Arc<dyn Disk>) -> Self {
        let reserve = Self { path: path.into(), bytes, disk, whole: Mutex::new(false) };
        let path = reserve.path.display();
        if bytes == 0 {
            if let Err(error) = reserve.remove() {
                tracing::warn!(%error, %path, "a reserve that is not wanted any more could not be removed");
            }
            *reserve.lock() = true;
        } else if let Err(error) = reserve.make_or_keep() {
            tracing::warn!(%error, bytes, %path, "the disk has no room for the reserve; it is made when there is room");
        }
        reserve
    }

    /// No reserve.
    pub fn none() -> Arc<Self> {
        let disk = Arc::new(RealDisk);
        Arc::new(Self { path: PathBuf::new(), bytes: 0, disk, whole: Mutex::new(true) })
    }

    /// Gives the space up and says how many bytes that made available: none if it was not whole.
    pub fn release(&self) -> u64 {
        let mut whole = self.lock();
        if self.bytes == 0 || !*whole {
            return 0;
        }
        match self.remove() {
            Ok(()) => {
                *whole = false;
                tracing::warn!(bytes = self.bytes, path = %self.path.display(), "the disk is full: the reserve is given up");
                self.bytes
            }
            Err(error) => {
                tracing::error!(%error, path = %self.path.display(), "the reserve could not be given up");
                0
            }
        }
    }

    /// Takes the space again; does nothing while the reserve is whole.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::StorageFull`] while less than twice the reserve is available, and what the system says.
    pub fn restore(&self) -> io::Result<()> {
        let mut whole = self.lock();
        if *whole {
            return Ok(());
        }
        self.make()?;
        *whole = true;
        tracing::info!(bytes = self.bytes, path = %self.path.display(), "the reserve is whole again");
        Ok(())
    }

    /// Whether the space is there to be given up; without a reserve, always.
    pub fn is_whole(&self) -> bool {
        *self.lock()
    }

    /// The bytes that [`Reserve::release`] would make available.
    pub fn held(&self) -> u64 {
        if self.is_whole() { self.bytes } else { 0 }
    }

    fn make_or_keep(&self) -> io::Result<()> {
        match self.disk.open(&self.path) {
            Ok(file) if file.size()? == self.bytes => allocate(file.as_ref(), self.bytes)?,
            Ok(_) => self.make()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make()?,
            Err(error) => return Err(error),
        }
        *self.lock() = true;
        Ok(())
    }

    /// Makes the file anew, or leaves none.
    fn make(&self) -> io::Result<()> {
        self.remove()?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        // Where this cannot be asked, allocating says whether there is room.
        if self.disk.available(dir).is_ok_and(|available| available / 2 < self.bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let made = self.disk.create(&self.path).and_then(|file| {
            allocate(file.as_ref(), self.bytes)?;
            file.sync_data()
        });
        if made.is_err() {
            // A part of it would only be in the way of those who need the space.
            let _ = self.remove();
        }
        made
    }

    fn remove(&self) -> io::Result<()> {
        match self.disk.remove(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a file `bytes` bytes of space. What has its space already is left alone.
fn allocate(file: &dyn SegmentFile, bytes: u64) -> io::Result<()> {
    match file.allocate(0, bytes) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => write_zeros(file, bytes),
        allocated => allocated,
    }
}

fn write_zeros(file: &dyn SegmentFile, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    let mut at = 0;
    while at < bytes {
        let piece = usize::try_from(bytes - at).map_or(ZEROS, |left| left.min(ZEROS));
        file.write_at(zeros.get(..piece).unwrap_or(&zeros), at)?;
        at += piece as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::log::faulty_disk::FaultyDisk;

    const BYTES: u64 = 300_000;

    #[test]
    fn a_reserve_holds_space_until_it_is_given_up_and_takes_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let held = || fs::metadata(&path).map_or(0, |file| file.blocks() * 512);
        let reserve = Reserve::open(&path, BYTES, Arc::new(RealDisk));
        assert!(reserve.is_whole() && held() >= BYTES && reserve.held() == BYTES);
        assert_eq!((reserve.release(), reserve.release()), (BYTES, 0));
        assert!(!reserve.is_whole() && !path.exists() && reserve.held() == 0);
        reserve.restore().unwrap();
        reserve.restore().unwrap();
        assert!(reserve.is_whole() && held() >= BYTES);
        drop(reserve);
        assert!(Reserve::open(&path, BYTES, Arc::new(RealDisk)).is_whole());
        assert!(Reserve::open(&path, 2 * BYTES, Arc::new(RealDisk)).is_whole());
        assert!(held() >= 2 * BYTES, "another size is made anew");
        let none = Reserve::open(&path, 0, Arc::new(RealDisk));
        assert!(none.is_whole() && !path.exists() && none.release() == 0);
        none.restore().unwrap();
    }

    #[test]
    fn a_reserve_is_made_only_when_as_much_again_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let disk = FaultyDisk::new();
        disk.faults().limit_space(Some(2 * BYTES - 2));
        let reserve = Reserve::open(&path, BYTES, Arc::new(disk.clone()));
        assert!(!reserve.is_whole() && !path.exists());
        assert_eq!(reserve.restore().unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.faults().limit_space(Some(2 * BYTES));
        reserve.restore().unwrap();
        assert!(reserve.is_whole());
    }

    #[test]
    fn a_reserve_that_cannot_be_made_durable_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let disk = FaultyDisk::new();
        disk.faults().fail_sync(1);
        let reserve = Reserve::open(&path, BYTES, Arc::new(disk));
        assert!(!reserve.is_whole() && !path.exists());
    }

    #[test]
    fn zeros_reserve_space_where_nothing_else_does() {
        let file = tempfile::tempfile().unwrap();
        write_zeros(&file, BYTES).unwrap();
        let found = file.metadata().unwrap();
        assert!(found.len() == BYTES && found.blocks() * 512 >= BYTES);
    }
}

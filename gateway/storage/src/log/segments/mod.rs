//! The log as append-only files, one CRC32C per group: the default.
//!
//! **Constraints.** A group is one contiguous write and, with the default durability, one `fdatasync`. A damaged group
//! costs that group alone. A directory of 10 GiB opens in the time it takes to read its last file. What a reader may
//! look at never includes what is not durable.
//!
//! **Format.** `<dir>/<first offset, 20 digits>.log`, each at most `segment_bytes` long unless a single group is longer:
//! a header (`header`) and groups (`frame`), and in the file being written, zeros that reserve space.
//! `<dir>/LOCK` is locked for as long as the log is open and names its holder.
//!
//! **Operation.** `recover` opens a directory and cuts off a torn tail, this module appends, `reader` reads pages.
//! After a failure nothing is written until [`Log::reopen`] has cut the file off behind the last synced group and
//! begun a new one. `trim` removes files from the front, on whatever thread. Reserving 4 MiB ahead makes the sync of a small group a third cheaper (211 to 141 µs for 300 bytes
//! on ext4), because most of them then change no file size and no allocation; filling with zeros ahead is faster still,
//! but every byte is written twice.

pub mod disk;
mod extent;
mod header;
mod inspect;
mod reader;
mod recover;
mod table;
#[cfg(test)]
mod tests;
mod trim;
mod walk;

use std::collections::hash_map::RandomState;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use self::disk::{Disk, RealDisk, SegmentFile};
pub(crate) use self::extent::written;
use self::header::{FILE_HEADER_LEN, FILE_VERSION, FileHeader};
pub(crate) use self::inspect::{inspect, rewrite_header};
use self::reader::SegmentsReader;
pub use self::recover::{OpenError, RecoveryReport};
use self::recover::{Recovered, file_name, io_error, recover};
use self::table::{Segment, Table};
use self::trim::SegmentsTrimmer;
use super::{GroupInfo, Log, LogError, LogReader, LogTrimmer};
use crate::offset::Offset;

/// Options of [`SegmentsLog::open`].
#[derive(Clone, Copy, Debug)]
pub struct SegmentsOptions {
    /// A new file is begun when a group would make the file longer than this.
    pub segment_bytes: u64,
    /// Space reserved ahead of what is written, in bytes; 0 reserves none.
    pub reserve_bytes: u64,
}

impl Default for SegmentsOptions {
    fn default() -> Self {
        Self { segment_bytes: 128 << 20, reserve_bytes: 4 << 20 }
    }
}

/// The log as append-only files. See the module documentation.
#[derive(Debug)]
pub struct SegmentsLog {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    options: SegmentsOptions,
    table: Arc<Table>,
    reader: Arc<SegmentsReader>,
    trimmer: Arc<SegmentsTrimmer>,
    active: Active,
    /// The offset after what is appended, released or not.
    next: Offset,
    last_time_ms: u64,
    failed: bool,
    /// A sync of the active file failed, so what it holds beyond the last good one cannot be trusted.
    sync_failed: bool,
    /// Held for as long as the log is open.
    _lock: File,
}

/// The file being written.
#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    file: Box<dyn SegmentFile>,
    written: u64,
    /// How far readers may look, and how far the file is on stable storage.
    released: u64,
    synced: u64,
    reserved: u64,
}

impl Active {
    /// A file of `written` bytes, all of them durable.
    fn new(segment: Arc<Segment>, file: Box<dyn SegmentFile>, written: u64) -> Self {
        Self { segment, file, written, released: written, synced: written, reserved: written }
    }
}

impl SegmentsLog {
    /// Opens the log in `dir`, which is created if it does not exist, and recovers it.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. Damage is not an error unless nothing can be read because of it.
    pub fn open(
        dir: impl AsRef<Path>,
        options: SegmentsOptions,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        Self::open_on(Arc::new(RealDisk), dir, options)
    }

    /// As [`SegmentsLog::open`], on a file system of the caller's.
    ///
    /// # Errors
    ///
    /// As [`SegmentsLog::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: impl AsRef<Path>,
        options: SegmentsOptions,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let dir = dir.as_ref();
        std::fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let lock = lock(dir)?;
        let Recovered { salt, mut segments, active, last_time_ms, mut report } = recover(dir, disk.as_ref())?;
        let salt = salt.unwrap_or_else(random_salt);
        let next = report.next_offset;
        let active = match (active, segments.last()) {
            (Some((file, written)), Some(segment)) => Active::new(Arc::clone(segment), file, written),
            _ => {
                let active = begin(disk.as_ref(), dir, next, last_time_ms, salt)
                    .map_err(|(path, source)| OpenError::Io { doing: "create", path, source })?;
                segments.push(Arc::clone(&active.segment));
                report.segments = 1;
                report.bytes = active.written;
                active
            }
        };
        let table = Arc::new(Table::new(salt, segments, next, report.bytes));
        let reader = Arc::new(SegmentsReader::new(Arc::clone(&table), Arc::clone(&disk)));
        let trimmer = SegmentsTrimmer::new(dir, Arc::clone(&table), Arc::clone(&disk), Arc::clone(&reader));
        let log = Self {
            dir: dir.into(),
            reader,
            trimmer: Arc::new(trimmer),
            disk,
            options,
            table,
            active,
            next,
            last_time_ms,
            failed: false,
            sync_failed: false,
            _lock: lock,
        };
        Ok((log, report))
    }

    /// Writes a group into the active file, or into a new one if that is full.
    fn write(&mut self, frame: &[u8], info: GroupInfo) -> Result<(), LogError> {
        let holds_groups = self.active.written > FILE_HEADER_LEN as u64;
        if holds_groups && self.active.written + frame.len() as u64 > self.options.segment_bytes {
            self.roll(info.first)?;
        }
        let active = &mut self.active;
        let end = active.written + frame.len() as u64;
        if end > active.reserved && self.options.reserve_bytes > 0 {
            let ahead = end + self.options.reserve_bytes;
            let ahead = ahead.min(self.options.segment_bytes).max(end);
            // Only a hint: a full disk shows in the write, and not every file system can.
            if active.file.allocate(active.written, ahead).is_ok() {
                active.reserved = ahead;
            }
        }
        let path = &active.segment.path;
        active
            .file
            .write_at(frame, active.written)
            .map_err(|source| LogError::from_io("write to", path, source))?;
        self.table.resized(active.written, end);
        active.written = end;
        Ok(())
    }

    /// Seals the active file and begins the next one at `first`.
    fn roll(&mut self, first: Offset) -> Result<(), LogError> {
        self.seal(self.active.written)?;
        if self.active.released < self.active.written {
            // Groups that share their sync with the ones in the next file: they have had it now.
            self.release();
        }
        let active = self.begin(first)?;
        self.table.resized(0, active.written);
        self.table.push(Arc::clone(&active.segment));
        self.active = active;
        Ok(())
    }

    fn begin(&self, first: Offset) -> Result<Active, LogError> {
        begin(self.disk.as_ref(), &self.dir, first, self.last_time_ms, self.table.salt)
            .map_err(|(path, source)| LogError::from_io("create", path, source))
    }

    /// Cuts the active file off at `len`, which drops reserved space, and makes it durable.
    fn seal(&mut self, len: u64) -> Result<(), LogError> {
        let Active { file, segment, .. } = &self.active;
        file.set_len(len).map_err(|source| LogError::from_io("cut off", &segment.path, source))?;
        if let Err(source) = file.sync_data() {
            self.sync_failed = true;
            return Err(LogError::from_io("sync", &segment.path, source));
        }
        let active = &mut self.active;
        self.table.resized(active.written, len);
        (active.written, active.synced, active.reserved) = (len, len, len);
        active.released = active.released.min(len);
        Ok(())
    }

    /// Goes on in a new file at `first`; an active file without groups is replaced.
    fn begin_at(&mut self, first: Offset) -> Result<(), LogError> {
        if self.active.written > FILE_HEADER_LEN as u64 {
            return self.roll(first);
        }
        if self.active.segment.first == first {
            // Cut off behind its header, which was durable before the file took a group: it is as good as a new one.
            return Ok(());
        }
        // In this order: of a trimmed log this may be the only file, and the only one that says where the log goes on.
        let active = self.begin(first)?;
        self.table.resized(self.active.written, active.written);
        self.table.replace_last(Arc::clone(&active.segment));
        let Active { segment, .. } = std::mem::replace(&mut self.active, active);
        self.reader.forget(&segment);
        if let Err(error) = self.disk.remove(&segment.path) {
            tracing::warn!(%error, path = %segment.path.display(), "a file of the log without entries stays behind");
        }
        Ok(())
    }
}

impl Log for SegmentsLog {
    fn append(&mut self, frame: &[u8], info: GroupInfo) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if info.first != self.next {
            return Err(LogError::OutOfOrder { given: info.first, expected: self.next });
        }
        let written = self.write(frame, info);
        self.failed = written.is_err();
        written?;
        self.next = info.end();
        self.last_time_ms = self.last_time_ms.max(info.time_ms);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if let Err(source) = self.active.file.sync_data() {
            self.failed = true;
            self.sync_failed = true;
            return Err(LogError::from_io("sync", &self.active.segment.path, source));
        }
        self.active.synced = self.active.written;
        self.release();
        Ok(())
    }

    fn release(&mut self) {
        // In this order: whoever sees the new end must find its bytes readable.
        self.active.released = self.active.written;
        self.active.segment.set_readable(self.active.released);
        self.table.set_end(self.next);
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        // When only a write failed, what was acknowledged without a sync is still there and is kept. The cut removes
        // every page a failed sync left in doubt, so syncing what remains is not a second try.
        let kept = if self.sync_failed { self.active.synced } else { self.active.released };
        self.active.segment.set_readable(kept);
        self.seal(kept)?;
        let next = self.table.end();
        self.begin_at(next)?;
        self.next = next;
        self.failed = false;
        self.sync_failed = false;
        Ok(())
    }

    fn advance_to(&mut self, offset: Offset) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if offset <= self.next {
            return Ok(());
        }
        let begun = self.begin_at(offset);
        self.failed = begun.is_err();
        begun?;
        self.next = offset;
        self.release();
        Ok(())
    }

    fn next_offset(&self) -> Offset {
        self.next
    }

    fn last_time_ms(&self) -> u64 {
        self.last_time_ms
    }

    fn salt(&self) -> u64 {
        self.table.salt
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.reader) as Arc<dyn LogReader>
    }

    fn trimmer(&self) -> Arc<dyn LogTrimmer> {
        Arc::clone(&self.trimmer) as Arc<dyn LogTrimmer>
    }

    fn size_bytes(&self) -> u64 {
        self.table.bytes()
    }
}

/// Creates the segment that begins at `first`, durable before it takes a group. A file of that name left behind by an
/// attempt that failed half-way holds no group and is replaced.
fn begin(
    disk: &dyn Disk,
    dir: &Path,
    first: Offset,
    base_time_ms: u64,
    salt: u64,
) -> Result<Active, (PathBuf, io::Error)> {
    let path = dir.join(file_name(first));
    let header = FileHeader { version: FILE_VERSION, first, base_time_ms, salt };
    let written = FILE_HEADER_LEN as u64;
    let create = || {
        let file = match disk.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(&path)?;
                disk.create(&path)?
            }
            created => created?,
        };
        file.write_at(&header.encode(), 0)?;
        file.sync_data()?;
        disk.sync_dir(dir)?;
        Ok(file)
    };
    match create() {
        Ok(file) => {
            let segment = Arc::new(Segment::new(path, first, base_time_ms, written));
            Ok(Active::new(segment, file, written))
        }
        Err(error) => Err((path, error)),
    }
}

/// Locks the directory for this process. The lock goes with the process, however it ends.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("LOCK");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let read = Read::by_ref(&mut file).take(32).read_to_string(&mut holder);
            let known = read.is_ok() && !holder.trim().is_empty();
            let holder = if known { holder.trim().to_owned() } else { "not recorded".to_owned() };
            return Err(OpenError::Locked { dir: dir.into(), holder });
        }
        Err(error) => return Err(OpenError::Io { doing: "lock", path, source: error.into() }),
    }
    // For people who look for the holder; that it cannot be written changes nothing about the lock.
    let noted =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = noted {
        tracing::warn!(%error, path = %path.display(), "the lock file does not name its holder");
    }
    Ok(file)
}

/// A number nobody outside can guess: the keys of the standard library's hasher come from the system's entropy.
pub(crate) fn random_salt() -> u64 {
    RandomState::new().build_hasher().finish()
}

//! The log as values in sled, for those who want one engine.
//!
//! **Constraints.** What is acknowledged is on stable storage: sled's `flush` ends in `sync_file_range`, so an
//! `fdatasync` of its file follows. Values of more than a few pages' worth go to files sled never syncs, so a group is
//! cut into pieces of at most 128 KiB, with segments of 16 MiB. sled panics on a damaged file; such a panic is an error
//! here, and the log does not open. Damage that sled does not see costs the group it is in. Scans are short, for sled
//! keeps alive what an iterator has seen.
//!
//! **Format.** See `keys`. `<dir>/LOCK` is locked for as long as the log is open and names its holder; everything else in
//! `<dir>` is sled's.
//!
//! **Operation.** [`Log::append`] writes a group into sled and has sled write its buffers to the file, so a killed process
//! loses nothing; [`Log::sync`] makes it durable. After a failure nothing is written until [`Log::reopen`] has closed
//! sled and opened it again, removed what no reader could see, and noted where the log goes on. Trimming removes whole
//! groups; sled uses their space again, and does not shrink its file.
//!
//! On a full disk sled can neither trim nor be reopened until space is freed.

mod cursor;
mod engine;
mod keys;
mod reader;
mod recover;
#[cfg(test)]
mod tests;
mod trim;

use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use self::engine::{Engine, EngineError};
use self::keys::{PieceKey, group_batches};
use self::reader::Shared;
use self::recover::{recover, remove, set_next, tail};
use self::trim::SledTrimmer;
use super::segments::lock;
use super::{GroupInfo, Log, LogError, LogReader, LogTrimmer, OpenError, RecoveryReport};
use crate::offset::Offset;

/// Options of [`SledLog::open`].
#[derive(Clone, Copy, Debug)]
pub struct SledLogOptions {
    /// Memory sled may use for its cache, in bytes.
    pub cache_bytes: u64,
}

impl Default for SledLogOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20 }
    }
}

/// The log as values in sled. See the module documentation.
#[derive(Debug)]
pub struct SledLog {
    shared: Arc<Shared>,
    trimmer: Arc<SledTrimmer>,
    /// The offset after what is appended, released or not.
    next: Offset,
    last_time_ms: u64,
    failed: bool,
    /// A sync failed, so what was written since the last good one cannot be trusted.
    sync_failed: bool,
    /// Held for as long as the log is open.
    _lock: File,
}

/// What tests put between the log and sled.
trait Interference: Debug + Send + Sync {
    /// Before a group of so many bytes is written.
    fn before_write(&self, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    /// Before flush and `fdatasync`.
    fn before_sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// The store in this directory is on stable storage as it is now.
    fn after_sync(&self, _dir: &Path) {}

    /// Before the first piece of an old group is removed.
    fn before_remove(&self) -> io::Result<()> {
        Ok(())
    }

    /// Before the store is closed and opened again.
    fn before_reopen(&self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct NoInterference;

impl Interference for NoInterference {}

impl SledLog {
    /// Opens the log in `dir`, which is created if it does not exist, and recovers it.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. Damage is not an error unless nothing can be read because of it; that includes every damage
    /// that sled itself notices.
    pub fn open(dir: impl AsRef<Path>, options: SledLogOptions) -> Result<(Self, RecoveryReport), OpenError> {
        Self::open_with(Box::new(NoInterference), dir.as_ref(), options)
    }

    fn open_with(
        interference: Box<dyn Interference>,
        dir: &Path,
        options: SledLogOptions,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let io_error = |doing| move |source| OpenError::Io { doing, path: dir.into(), source };
        fs::create_dir_all(dir).map_err(io_error("create"))?;
        let lock = lock(dir)?;
        let engine = Engine::open(dir, options.cache_bytes, interference)
            .map_err(|error| io_error("open")(error.into()))?;
        let recovered = recover(&engine)?;
        let shared = Arc::new(Shared::new(engine, &recovered));
        let log = Self {
            trimmer: Arc::new(SledTrimmer::new(Arc::clone(&shared))),
            shared,
            next: recovered.tail.next,
            last_time_ms: recovered.tail.last_time_ms,
            failed: false,
            sync_failed: false,
            _lock: lock,
        };
        Ok((log, recovered.report))
    }

    fn write(&self, frame: &[u8], info: GroupInfo) -> Result<(), EngineError> {
        let Shared { engine, salt, .. } = self.shared.as_ref();
        engine.interference.before_write(frame.len())?;
        group_batches(frame, info.first, self.shared.place(), *salt)
            .into_iter()
            .try_for_each(|batch| engine.apply(batch))?;
        // Not left in sled's own buffers: what is acknowledged without a sync outlives the process.
        engine.flush()
    }

    /// Puts everything appended on stable storage, without letting readers see it.
    fn make_durable(&mut self) -> Result<(), LogError> {
        if let Err(error) = self.shared.engine.sync() {
            self.failed = true;
            self.sync_failed = true;
            return Err(self.error("sync", error));
        }
        self.shared.set_synced(self.next);
        Ok(())
    }

    fn error(&self, doing: &'static str, error: EngineError) -> LogError {
        LogError::from_io(doing, self.shared.engine.dir(), error.into())
    }

    /// Opens sled anew and removes every group that begins at `kept` or later.
    fn begin_anew(&mut self, kept: Offset) -> Result<(), EngineError> {
        let Shared { engine, .. } = self.shared.as_ref();
        engine.interference.before_reopen()?;
        engine.reopen()?;
        remove(engine, PieceKey::new(kept, 0), None)?;
        set_next(engine, self.shared.end())?;
        engine.sync()
    }
}

impl Log for SledLog {
    fn append(&mut self, frame: &[u8], info: GroupInfo) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if info.first != self.next {
            return Err(LogError::OutOfOrder { given: info.first, expected: self.next });
        }
        let written = self.write(frame, info);
        self.failed = written.is_err();
        written.map_err(|error| self.error("write to", error))?;
        self.next = info.end();
        self.last_time_ms = self.last_time_ms.max(info.time_ms);
        self.shared.set_place(self.shared.place() + frame.len() as u64);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        self.make_durable()?;
        self.release();
        Ok(())
    }

    fn release(&mut self) {
        self.shared.set_end(self.next);
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        // When only a write failed, what was acknowledged without a sync is kept, as far as sled still has it.
        let kept = if self.sync_failed { self.shared.synced() } else { self.shared.end() };
        self.begin_anew(kept).map_err(|error| self.error("reopen", error))?;
        let tail = tail(&self.shared.engine, self.shared.salt).map_err(|error| {
            LogError::from_io("reopen", self.shared.engine.dir(), io::Error::other(error))
        })?;
        self.next = self.shared.end();
        self.shared.set_place(tail.place.max(self.shared.trimmed_bytes()));
        self.shared.set_synced(self.next);
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
        if let Err(error) = set_next(&self.shared.engine, offset) {
            self.failed = true;
            return Err(self.error("write to", error));
        }
        let empty = self.size_bytes() == 0;
        self.make_durable()?;
        self.next = offset;
        if empty {
            self.shared.set_earliest(offset);
        }
        self.shared.set_synced(offset);
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
        self.shared.salt
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.shared) as Arc<dyn LogReader>
    }

    fn trimmer(&self) -> Arc<dyn LogTrimmer> {
        Arc::clone(&self.trimmer) as Arc<dyn LogTrimmer>
    }

    fn size_bytes(&self) -> u64 {
        self.shared.size_bytes()
    }
}

impl Drop for SledLog {
    fn drop(&mut self) {
        // Readers may live on: sled must be gone before the lock is.
        if let Err(error) = self.shared.engine.close() {
            tracing::warn!(%error, dir = %self.shared.engine.dir().display(), "the log did not close cleanly");
        }
    }
}

//! sled, opened and driven so that what it does ends in an answer.
//!
//! Every call is guarded: a panic of sled's becomes an error. What is written is on stable storage only after
//! [`Engine::sync`], which follows sled's own flush, that ends in `sync_file_range`, with an `fdatasync` of sled's file.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::thread;

use sled::{Batch, Config, Db, IVec};
use thiserror::Error;

use super::Interference;
use super::keys::{GROUPS_END, PieceKey};
use crate::offset::Offset;
use crate::view::lock;

/// A quarter of it, 4 MiB, is what one of sled's pages may have before it goes to a file that is never synced. A page
/// holds up to 17 values, so 128 KiB each are safe. Part of the format of a store: it cannot be changed later.
const SEGMENT_BYTES: usize = 16 << 20;

/// sled's one file, beside small ones.
const FILE: &str = "db";

/// A scan lets go of sled's pages after this many rows.
const SCAN_ROWS: usize = 256;

/// What sled answers when it does not do what it was asked for.
#[derive(Debug, Error)]
pub(super) enum EngineError {
    #[error("sled failed: {0}")]
    Failed(#[source] sled::Error),
    #[error("sled panicked: {message}")]
    Panicked { message: String },
    #[error("sled does not let go of its file")]
    Held,
    #[error("the log is closed")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<EngineError> for io::Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Io(error) | EngineError::Failed(sled::Error::Io(error)) => error,
            other => io::Error::other(other),
        }
    }
}

/// Keys and values of a scan.
pub(super) type Rows = Vec<(PieceKey, IVec)>;

/// One store of sled's that can be closed and opened again under its readers.
pub(super) struct Engine {
    dir: PathBuf,
    cache_bytes: u64,
    pub(super) interference: Box<dyn Interference>,
    open: RwLock<Option<Opened>>,
}

struct Opened {
    db: Db,
    /// sled's file, opened a second time: sled does not give its own away.
    file: File,
}

impl Engine {
    /// Opens the store in `dir`, which exists.
    pub(super) fn open(
        dir: &Path,
        cache_bytes: u64,
        interference: Box<dyn Interference>,
    ) -> Result<Self, EngineError> {
        let opened = Opened::open(dir, cache_bytes)?;
        Ok(Self { dir: dir.into(), cache_bytes, interference, open: RwLock::new(Some(opened)) })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs something of sled's.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Db) -> sled::Result<T>) -> Result<T, EngineError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let opened = open.as_ref().ok_or(EngineError::Closed)?;
        guarded(|| work(&opened.db))
    }

    pub(super) fn apply(&self, batch: Batch) -> Result<(), EngineError> {
        self.with(|db| db.apply_batch(batch))
    }

    /// Hands everything applied to the operating system.
    pub(super) fn flush(&self) -> Result<(), EngineError> {
        self.with(|db| db.flush()).map(drop)
    }

    /// Puts everything applied on stable storage.
    pub(super) fn sync(&self) -> Result<(), EngineError> {
        self.interference.before_sync()?;
        self.flush()?;
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().ok_or(EngineError::Closed)?.file.sync_data()?;
        self.interference.after_sync(&self.dir);
        Ok(())
    }

    /// The same for those beside the writer: through a file of their own, for an error of the disk is told once to each
    /// open file, and the writer must not miss it.
    pub(super) fn sync_beside(&self) -> Result<(), EngineError> {
        let file = File::open(self.dir.join(FILE))?;
        self.flush()?;
        file.sync_data()?;
        self.interference.after_sync(&self.dir);
        Ok(())
    }

    /// Closes the store, whatever state it is in, and opens it again. Readers get an error meanwhile, and for as long
    /// as it cannot be opened.
    pub(super) fn reopen(&self) -> Result<(), EngineError> {
        self.close()?;
        let opened = Opened::open(&self.dir, self.cache_bytes)?;
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        Ok(())
    }

    /// Closes the store and waits until sled is done with it.
    pub(super) fn close(&self) -> Result<(), EngineError> {
        let opened = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        guarded(|| {
            drop(opened);
            Ok(())
        })?;
        if lock::wait_until_free(&self.dir) { Ok(()) } else { Err(EngineError::Held) }
    }

    /// Rows of groups from `from` on and below `to`: as many as come to `bytes`, at least one, and a bounded number.
    pub(super) fn rows(
        &self,
        from: PieceKey,
        to: Option<PieceKey>,
        bytes: usize,
    ) -> Result<Rows, EngineError> {
        let from = from.encode();
        let to = to.map_or_else(|| GROUPS_END.to_vec(), |to| to.encode().to_vec());
        self.with(|db| {
            let (mut rows, mut taken) = (Rows::new(), 0);
            if from.as_slice() >= to.as_slice() {
                return Ok(rows);
            }
            for row in db.range(from.as_slice()..to.as_slice()) {
                let (key, value) = row?;
                taken += value.len();
                rows.extend(PieceKey::decode(&key).map(|key| (key, value)));
                if taken >= bytes || rows.len() >= SCAN_ROWS {
                    break;
                }
            }
            Ok(rows)
        })
    }

    /// The last piece of a group that begins at `offset` or before.
    pub(super) fn last_until(&self, offset: Offset) -> Result<Option<PieceKey>, EngineError> {
        let key = PieceKey::new(offset, u32::MAX).encode();
        let found = self.with(|db| db.get_lt(key))?;
        Ok(found.and_then(|(key, _)| PieceKey::decode(&key)))
    }

    /// The first piece of a group that begins behind `offset`.
    pub(super) fn first_behind(&self, offset: Offset) -> Result<Option<PieceKey>, EngineError> {
        let key = PieceKey::new(offset, u32::MAX).encode();
        let found = self.with(|db| db.get_gt(key))?;
        Ok(found.and_then(|(key, _)| PieceKey::decode(&key)))
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<IVec>, EngineError> {
        self.with(|db| db.get(key))
    }
}

impl Opened {
    fn open(dir: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        if !lock::wait_until_free(dir) {
            return Err(EngineError::Held);
        }
        // What a killed process wrote may be in memory only, and opening makes sled record durably how far it got.
        match File::open(dir.join(FILE)) {
            Ok(file) => file.sync_data()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let config = Config::new()
            .path(dir)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None);
        // A thread of its own, so that whatever a panic leaves behind in sled's thread locals goes with it.
        let opened = thread::Builder::new()
            .name("log-open".to_owned())
            .spawn(move || guarded(|| config.open()))?
            .join()
            .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))?;
        let file = File::open(dir.join(FILE))?;
        // The names of what sled creates in its directory, and that of the directory.
        File::open(dir)?.sync_all()?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { db: opened, file })
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Runs something of sled's and turns its panics into errors.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, EngineError> {
    // sled's state may be torn after a panic; what it then answers is an error or fails the checksum of a group.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(EngineError::Failed),
        Err(panic) => Err(panicked(panic.as_ref())),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> EngineError {
    let message = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned());
    EngineError::Panicked { message }
}

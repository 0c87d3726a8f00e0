//! The view: what follows from the entries, kept in sled so that a start does not replay the whole log.
//!
//! **Constraints.** The log is the truth, the view may be lost at any time and is rebuilt from it. sled 0.34.7 panics
//! on damaged files, keeps pages alive for as long as an iterator lives, and puts pages larger than a quarter of its
//! segment size into files it never syncs. Hence: opened and driven behind a caught panic, scanned in bounded steps,
//! 16 MiB segments, values of at most [`VALUE_BYTES_MAX`], and a checksum of our own in every value.
//!
//! **Format**, version 1. One tree. A key is one byte for the table and the caller's key; table 0 is the view's own and
//! holds the format version and the applied offset. A value is a version byte, the CRC32C of key and value
//! (little-endian), and the caller's bytes.
//!
//! **Operation.** [`View::open`] sets aside what cannot be opened as `view.broken-<n>` and opens a fresh one, applied
//! up to offset 0. [`View::save`] writes changes and the offset they reach to in one atomic batch; [`ViewWriter`] does
//! that on a thread of its own. What is read back wrong is an error that says so; the caller then replaces the view
//! ([`View::replace_broken`]) and replays the log ([`crate::recovery`]).
//!
//! This module is the only one that names sled. It does not know what the tables hold.

mod changes;
pub(crate) mod lock;
mod set_aside;
#[cfg(test)]
mod tests;
mod value;
mod writer;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sled::{Config, Db, IVec};
use thiserror::Error;

pub use self::changes::{ChangeError, Changes, KEY_BYTES_MAX, Table, VALUE_BYTES_MAX};
pub use self::set_aside::SET_ASIDE_KEPT;
use self::value::{APPLIED_KEY, FORMAT_KEY, VIEW_FORMAT};
pub use self::writer::ViewWriter;
use crate::offset::Offset;

/// sled's segment size: a quarter of it, 4 MiB, is what one page may have before it goes to a file that is never
/// synced. Part of the format of a store: it cannot be changed later.
const SEGMENT_BYTES: usize = 16 << 20;

/// A scan lets go of sled's pages after this many rows or bytes.
const SCAN_ROWS: usize = 1024;
const SCAN_BYTES: usize = 1 << 20;

/// Options of [`View::open`].
#[derive(Clone, Copy, Debug)]
pub struct ViewOptions {
    /// Memory sled may use for its cache, in bytes.
    pub cache_bytes: u64,
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20 }
    }
}

/// What opening the view found.
#[derive(Debug)]
pub struct ViewOpenReport {
    /// Up to which offset the view is applied.
    pub applied: Offset,
    /// A view that could not be used: where it was set aside to, and why.
    pub set_aside: Option<SetAside>,
}

/// A view that was moved out of the way.
#[derive(Debug)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// Why it could not be used.
    pub reason: ViewError,
}

/// Why the view could not be opened, read or written.
#[derive(Debug, Error)]
pub enum ViewError {
    /// A value is not what was saved. The view is to be replaced and rebuilt.
    #[error("a value in table {table:?} of the view is damaged")]
    Corrupt {
        /// The table, or None for the view's own.
        table: Option<Table>,
        /// The key, without the table.
        key: Box<[u8]>,
    },
    /// The view has another format. It is to be replaced and rebuilt.
    #[error("the view has format {found}, this version writes and reads {known}")]
    Format {
        /// The format found; 0 if none was recorded.
        found: u64,
        /// The only one known.
        known: u64,
    },
    /// Somebody else has the view open.
    #[error("the view in {} is in use", dir.display())]
    InUse {
        /// Which directory.
        dir: PathBuf,
    },
    /// sled reported an error.
    #[error("the view's store failed: {0}")]
    Engine(#[source] Box<sled::Error>),
    /// sled panicked, which it does on damaged files.
    #[error("the view's store panicked: {message}")]
    EnginePanicked {
        /// What it said.
        message: String,
    },
    /// A broken view could not be set aside, or a thread not be started.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The view's store. See the module documentation.
pub struct View {
    db: Db,
    dir: PathBuf,
    options: ViewOptions,
    applied: AtomicU64,
}

impl View {
    /// Opens the view in `dir`, which need not exist. One that cannot be opened, or has another format, is set aside
    /// and a fresh one is opened in its place; the report says so, and the whole log is to be replayed.
    ///
    /// # Errors
    ///
    /// When the view itself is not to blame: somebody else has it open, there is no space, no permission, no file
    /// descriptor. And when a broken view cannot be set aside, or not even a fresh one can be opened.
    pub fn open(dir: impl AsRef<Path>, options: ViewOptions) -> Result<(Self, ViewOpenReport), ViewError> {
        let dir = dir.as_ref();
        if !lock::wait_until_free(dir) {
            return Err(ViewError::InUse { dir: dir.into() });
        }
        match Self::try_open(dir, options) {
            Ok(view) => {
                let applied = view.applied();
                Ok((view, ViewOpenReport { applied, set_aside: None }))
            }
            Err(reason) if reason.is_the_views_fault(dir) => Self::open_fresh(dir, options, reason),
            Err(reason) => Err(reason),
        }
    }

    /// Gives this view up as broken: sets it aside and opens a fresh one in its place.
    ///
    /// # Errors
    ///
    /// As [`View::open`].
    pub fn replace_broken(self, reason: ViewError) -> Result<(Self, ViewOpenReport), ViewError> {
        let Self { db, dir, options, .. } = self;
        // sled writes to its directory by name when it is closed, so that must be over before the name is given away.
        guarded(|| {
            drop(db);
            Ok(())
        })?;
        if !lock::wait_until_free(&dir) {
            tracing::warn!(dir = %dir.display(), "the broken view is still held; it is set aside nevertheless");
        }
        Self::open_fresh(&dir, options, reason)
    }

    /// Up to which offset, exclusively, the log is applied to what is saved.
    pub fn applied(&self) -> Offset {
        Offset::new(self.applied.load(Ordering::Acquire))
    }

    /// Calls `row` with every key and value of a table, in the order of the keys, and returns how many there were.
    /// Takes a bounded amount of memory however large the table is; rows saved meanwhile may or may not be seen.
    ///
    /// # Errors
    ///
    /// [`ViewError::Corrupt`] at the first damaged value, after the rows before it, and sled's own errors.
    pub fn scan(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<u64, ViewError> {
        let mut rows = 0;
        let mut from = IVec::from(&[table.prefix()]);
        loop {
            let (chunk, complete) = guarded(|| self.scan_step(table, &from))?;
            for (key, value) in &chunk {
                let (_, name) = key.split_first().unwrap_or((&0, &[]));
                let value = value::open(key, value)
                    .ok_or_else(|| ViewError::Corrupt { table: Some(table), key: name.into() })?;
                row(name, value);
                rows += 1;
            }
            match chunk.last() {
                // The next key in the order of bytes is this one with a zero behind it.
                Some((last, _)) if !complete => from = [last, [0].as_slice()].concat().into(),
                _ => return Ok(rows),
            }
        }
    }

    /// The value of one key, if there is one.
    ///
    /// # Errors
    ///
    /// [`ViewError::Corrupt`] and sled's own.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.get_checked(Some(table), &table.key(key))
    }

    /// Writes the changes and the offset they reach to, all or nothing, and hands them to the operating system.
    ///
    /// # Errors
    ///
    /// sled's own. The view then holds either all of the changes or none.
    pub fn save(&self, changes: &Changes, applied: Offset) -> Result<(), ViewError> {
        let batch = changes.to_batch(applied);
        guarded(|| {
            self.db.apply_batch(batch)?;
            self.db.flush()?;
            Ok(())
        })?;
        self.applied.store(applied.get(), Ordering::Release);
        Ok(())
    }

    fn try_open(dir: &Path, options: ViewOptions) -> Result<Self, ViewError> {
        let config = Config::new()
            .path(dir)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(None);
        // A thread of its own, so that whatever a panic leaves behind in sled's thread locals goes with it.
        let opened = thread::Builder::new()
            .name("view-open".to_owned())
            .spawn(move || guarded(|| config.open()))
            .map_err(|source| ViewError::Io { doing: "start a thread for", path: dir.into(), source })?
            .join();
        let db = opened.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))?;
        let mut view = Self { db, dir: dir.into(), options, applied: AtomicU64::new(0) };
        view.check_format()?;
        view.applied = AtomicU64::new(view.get_number(&APPLIED_KEY)?.unwrap_or(0));
        Ok(view)
    }

    fn open_fresh(
        dir: &Path,
        options: ViewOptions,
        reason: ViewError,
    ) -> Result<(Self, ViewOpenReport), ViewError> {
        let path = set_aside::set_aside(dir)?;
        tracing::error!(%reason, path = %path.display(), "the view is broken; it is set aside and rebuilt");
        let view = Self::try_open(dir, options)?;
        let set_aside = Some(SetAside { path, reason });
        Ok((view, ViewOpenReport { applied: Offset::ZERO, set_aside }))
    }

    /// Records the format in an empty store and refuses another one.
    fn check_format(&self) -> Result<(), ViewError> {
        if guarded(|| self.db.iter().next().transpose())?.is_none() {
            let sealed = value::seal(&FORMAT_KEY, &VIEW_FORMAT.to_le_bytes());
            guarded(|| self.db.insert(FORMAT_KEY, sealed))?;
            return Ok(());
        }
        let found = self.get_number(&FORMAT_KEY)?.unwrap_or(0);
        if found == VIEW_FORMAT { Ok(()) } else { Err(ViewError::Format { found, known: VIEW_FORMAT }) }
    }

    fn get_number(&self, key: &[u8]) -> Result<Option<u64>, ViewError> {
        let Some(value) = self.get_checked(None, key)? else { return Ok(None) };
        let bytes = value.try_into().map_err(|_| ViewError::Corrupt { table: None, key: key.into() })?;
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    fn get_checked(&self, table: Option<Table>, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        let Some(sealed) = guarded(|| self.db.get(key))? else { return Ok(None) };
        match value::open(key, &sealed) {
            Some(value) => Ok(Some(value.to_vec())),
            None => {
                let name = key.split_first().map_or(key, |(_, name)| name);
                Err(ViewError::Corrupt { table, key: name.into() })
            }
        }
    }

    /// A bounded stretch of rows from `from` on, and whether it reaches the end of the table.
    fn scan_step(&self, table: Table, from: &[u8]) -> sled::Result<(Vec<(IVec, IVec)>, bool)> {
        let mut chunk = Vec::new();
        let mut bytes = 0;
        for row in self.db.range(from..&[table.prefix() + 1]) {
            let (key, value) = row?;
            bytes += key.len() + value.len();
            chunk.push((key, value));
            if chunk.len() >= SCAN_ROWS || bytes >= SCAN_BYTES {
                return Ok((chunk, false));
            }
        }
        Ok((chunk, true))
    }
}

impl ViewError {
    /// Whether setting the view aside would help. A rebuild needs space, permissions and file descriptors, too.
    fn is_the_views_fault(&self, dir: &Path) -> bool {
        let Self::Engine(error) = self else {
            return matches!(self, Self::Corrupt { .. } | Self::Format { .. } | Self::EnginePanicked { .. });
        };
        let sled::Error::Io(error) = error.as_ref() else { return true };
        match error.kind() {
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::OutOfMemory => false,
            // What sled says, in words only, when it cannot lock its file.
            io::ErrorKind::Other => !lock::is_held(dir),
            _ => !matches!(
                error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
                Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
            ),
        }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("dir", &self.dir).field("options", &self.options).finish_non_exhaustive()
    }
}

/// Runs something of sled's and turns its panics into errors.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, ViewError> {
    // sled's state may be torn after a panic; every caller then gives the view up.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| ViewError::Engine(Box::new(error))),
        Err(panic) => Err(panicked(panic.as_ref())),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> ViewError {
    let message = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned());
    ViewError::EnginePanicked { message }
}

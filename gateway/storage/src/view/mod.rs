//! The view: what follows from the entries, kept in sled so that a start does not replay the whole log.
//!
//! **Constraints.** The log is the truth, the view may be lost at any time and is rebuilt from it. sled 0.34.7 panics
//! on damaged files, keeps pages alive for as long as an iterator lives, and puts pages larger than a quarter of its
//! segment size into files it never syncs. Hence: opened and driven behind a caught panic, scanned in bounded steps,
//! 16 MiB segments, values of at most [`VALUE_BYTES_MAX`], and a checksum of our own in every value. Once a write of
//! sled's has failed, every later one does: only opening it again helps, and that needs space of its own.
//!
//! **Format**, version 1. One tree. A key is one byte for the table and the caller's key; table 0 is the view's own and
//! holds the format version, the applied offset, and a mark while rows are being filled in from a checkpoint. A value is a version byte, the CRC32C of key and value
//! (little-endian), and the caller's bytes.
//!
//! **Operation.** [`View::save`] writes changes and the offset they reach to in one atomic batch; [`ViewWriter`] does
//! that on a thread of its own, and outlives a full disk. What cannot be opened is set aside as `view.broken-<n>`, what
//! is read back wrong is an error that says so; [`crate::recovery`] makes another view from a checkpoint or the log.
//!
//! This module is the only one that names sled. It does not know what the tables hold.

mod changes;
mod error;
mod fill;
pub(crate) mod lock;
mod open;
mod saver;
pub(crate) mod set_aside;
#[cfg(test)]
mod tests;
mod value;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use sled::{Db, IVec};

use self::changes::OWN_TABLE;
pub use self::changes::{ChangeError, Changes, KEY_BYTES_MAX, Table, VALUE_BYTES_MAX};
pub use self::error::ViewError;
use self::error::guarded;
pub use self::open::{SetAside, ViewOpenReport};
pub use self::set_aside::SET_ASIDE_KEPT;
pub use self::writer::{CheckpointState, SpaceState, ViewWriter};
use crate::offset::Offset;

/// A scan lets go of sled's pages after this many rows or bytes.
const SCAN_ROWS: usize = 1024;
const SCAN_BYTES: usize = 1 << 20;

/// Takes rows one after the other: keys, with the byte of their table in front, and values.
pub(crate) type RowSink<'a, E> = dyn FnMut(&[u8], &[u8]) -> Result<(), E> + 'a;

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

/// The view's store. See the module documentation.
pub struct View {
    /// None between giving a failed store up and having it open again.
    db: RwLock<Option<Db>>,
    dir: PathBuf,
    options: ViewOptions,
    applied: AtomicU64,
    /// Whether nothing had ever been saved when it was opened.
    fresh: bool,
}

impl View {
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
        self.scan_range(&[table.prefix()], Some(&[table.prefix() + 1]), &mut |key, value| {
            row(key.get(1..).unwrap_or_default(), value);
            Ok(())
        })
    }

    /// As [`View::scan`], through all tables but the view's own; keys have the byte of their table in front.
    pub(crate) fn scan_all<E: From<ViewError>>(&self, row: &mut RowSink<'_, E>) -> Result<u64, E> {
        self.scan_range(&[OWN_TABLE + 1], None, row)
    }

    fn scan_range<E: From<ViewError>>(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        row: &mut RowSink<'_, E>,
    ) -> Result<u64, E> {
        let mut rows = 0;
        let mut from = IVec::from(from);
        loop {
            let (chunk, complete) = self.with(|db| scan_step(db, &from, to))?;
            for (key, value) in &chunk {
                let value = value::open(key, value).ok_or_else(|| ViewError::corrupt(key))?;
                row(key, value)?;
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
        self.get_checked(&table.key(key))
    }

    /// Writes the changes and the offset they reach to, all or nothing, and hands them to the operating system.
    ///
    /// # Errors
    ///
    /// sled's own. The view then holds either all of the changes or none.
    pub fn save(&self, changes: &Changes, applied: Offset) -> Result<(), ViewError> {
        let batch = changes.to_batch(applied);
        self.with(|db| {
            db.apply_batch(batch)?;
            db.flush()?;
            Ok(())
        })?;
        self.applied.store(applied.get(), Ordering::Release);
        Ok(())
    }

    fn get_number(&self, key: &[u8]) -> Result<Option<u64>, ViewError> {
        let Some(value) = self.get_checked(key)? else { return Ok(None) };
        let bytes = value.try_into().map_err(|_| ViewError::corrupt(key))?;
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    fn get_checked(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        let Some(sealed) = self.with(|db| db.get(key))? else { return Ok(None) };
        match value::open(key, &sealed) {
            Some(value) => Ok(Some(value.to_vec())),
            None => Err(ViewError::corrupt(key)),
        }
    }

    /// Does something with the store, which is not given up meanwhile.
    fn with<T>(&self, work: impl FnOnce(&Db) -> sled::Result<T>) -> Result<T, ViewError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or_else(|| ViewError::Closed { dir: self.dir.clone() })?;
        guarded(|| work(db))
    }
}

/// A bounded stretch of rows from `from` on, and whether nothing follows it.
fn scan_step(db: &Db, from: &[u8], to: Option<&[u8]>) -> sled::Result<(Vec<(IVec, IVec)>, bool)> {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    let rows = match to {
        Some(to) => db.range(from..to),
        None => db.range(from..),
    };
    for row in rows {
        let (key, value) = row?;
        bytes += key.len() + value.len();
        chunk.push((key, value));
        if chunk.len() >= SCAN_ROWS || bytes >= SCAN_BYTES {
            return Ok((chunk, false));
        }
    }
    Ok((chunk, true))
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("dir", &self.dir).field("options", &self.options).finish_non_exhaustive()
    }
}

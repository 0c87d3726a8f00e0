//! The index to and from the rows of the saved view: the number of a chunk (u64 BE) to its records, of 24 bytes each: identity, and when it
//! was received (u64 LE, milliseconds since the Unix epoch).
//!
//! A save writes the chunks that were added to since the last one, and removes those that were let go of.

use super::identity::Identity;
use super::index::{CHUNK, Index, Record};
use crate::engine::snapshot::IllegibleRow;
use gateway_storage::{ChangeError, Changes, Table};

const RECORD_BYTES: usize = 24;

/// How much of an index the view has.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// Chunks of which there are rows: from the first to before the second.
    rows: (u64, u64),
    /// Records below are in those rows, or were let go of.
    next: u64,
}

impl Saved {
    /// Whether the view differs from `index`.
    pub(super) fn is_behind(&self, index: &Index) -> bool {
        self.next < index.next() || self.gone(index) > self.rows.0
    }

    /// Adds the rows that bring the view up to `index`.
    pub(super) fn save(&mut self, index: &Index, changes: &mut Changes) -> Result<(), ChangeError> {
        for chunk in self.rows.0..self.gone(index) {
            changes.delete(Table::Identities, &chunk.to_be_bytes())?;
        }
        if self.next < index.next() {
            for (chunk, records) in index.chunks_from(self.next) {
                let mut value = Vec::with_capacity(records.len() * RECORD_BYTES);
                for record in records {
                    value.extend_from_slice(&record.identity.to_bytes());
                    value.extend_from_slice(&record.received_ms.to_le_bytes());
                }
                changes.put(Table::Identities, &chunk.to_be_bytes(), &value)?;
            }
        }
        self.next = index.next();
        self.rows = (index.first_chunk(), self.next.div_ceil(CHUNK).max(index.first_chunk()));
        Ok(())
    }

    /// Rows below this one are of no use any more.
    fn gone(&self, index: &Index) -> u64 {
        index.first_chunk().min(self.rows.1)
    }
}

/// What a saved view had.
#[derive(Debug)]
pub(in crate::engine) struct Loaded {
    pub(super) index: Index,
    pub(super) saved: Saved,
}

/// Collects the rows of a saved view, in the order of their keys.
#[derive(Debug)]
pub(in crate::engine) struct Loader {
    index: Index,
    first: Option<u64>,
    illegible: Option<IllegibleRow>,
}

impl Loader {
    pub(super) fn new(index: Index) -> Self {
        Self { index, first: None, illegible: None }
    }

    /// One row.
    pub(in crate::engine) fn add(&mut self, key: &[u8], value: &[u8]) {
        if self.try_add(key, value).is_none() {
            self.illegible.get_or_insert_with(|| IllegibleRow { table: Table::Identities, key: key.into() });
        }
    }

    fn try_add(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let chunk = u64::from_be_bytes(key.try_into().ok()?);
        let (records, []) = value.as_chunks::<RECORD_BYTES>() else { return None };
        let records = records.iter().filter_map(|record| {
            let (identity, received_ms) = record.split_first_chunk::<16>()?;
            let received_ms = u64::from_le_bytes(received_ms.try_into().ok()?);
            Some(Record { identity: Identity::from_bytes(identity)?, received_ms })
        });
        self.first.get_or_insert(chunk);
        self.index.restore(chunk, records).then_some(())
    }

    /// What the rows say.
    pub(in crate::engine) fn finish(self) -> Result<Loaded, IllegibleRow> {
        if let Some(row) = self.illegible {
            return Err(row);
        }
        let mut index = self.index;
        let next = index.next();
        let saved = Saved { rows: (self.first.unwrap_or(0), next.div_ceil(CHUNK)), next };
        index.keep_within_limit();
        Ok(Loaded { index, saved })
    }
}

//! Records of any size, by name, as rows of the view: cut where they are larger than a row may be.
//!
//! The key is the name, a zero byte and the number of the chunk (u32 BE); the value is the number of chunks (u32 LE) and the piece.

use super::{IllegibleRow, pack};
use gateway_storage::{ChangeError, Changes, Table};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of a record in one row.
const PIECE: usize = 120 * 1024;

/// Adds the rows of `record`; answers how many they are.
pub(in crate::engine) fn put(
    changes: &mut Changes,
    table: Table,
    name: &str,
    record: &impl Serialize,
) -> Result<u32, ChangeError> {
    let bytes = pack(record);
    let chunks = u32::try_from(bytes.len().div_ceil(PIECE)).unwrap_or(u32::MAX);
    for (number, piece) in (0u32..).zip(bytes.chunks(PIECE)) {
        let mut value = Vec::with_capacity(4 + piece.len());
        value.extend_from_slice(&chunks.to_le_bytes());
        value.extend_from_slice(piece);
        changes.put(table, &key(name, number), &value)?;
    }
    Ok(chunks)
}

/// Adds the removal of rows.
pub(in crate::engine) fn delete(
    changes: &mut Changes,
    table: Table,
    name: &str,
    chunks: Range<u32>,
) -> Result<(), ChangeError> {
    for number in chunks {
        changes.delete(table, &key(name, number))?;
    }
    Ok(())
}

fn key(name: &str, number: u32) -> Vec<u8> {
    super::key(name, &number.to_be_bytes())
}

/// Collects rows in the order of their keys.
#[derive(Debug, Default)]
pub(in crate::engine) struct Loader {
    records: BTreeMap<Box<[u8]>, Vec<u8>>,
    chunks: BTreeMap<Box<[u8]>, (u32, u32)>,
}

impl Loader {
    /// One row.
    pub(in crate::engine) fn add(&mut self, key: &[u8], value: &[u8]) {
        let name = key.iter().position(|&byte| byte == 0).and_then(|zero| key.get(..zero)).unwrap_or(key);
        if let Some((count, piece)) = value.split_first_chunk::<4>() {
            self.records.entry(name.into()).or_default().extend_from_slice(piece);
            let seen = self.chunks.entry(name.into()).or_default();
            *seen = (seen.0 + 1, u32::from_le_bytes(*count));
        }
    }

    /// The records with their names and the number of their rows.
    pub(in crate::engine) fn finish<R: DeserializeOwned>(
        self,
        table: Table,
    ) -> Result<Vec<(Box<str>, u32, R)>, IllegibleRow> {
        let mut records = Vec::with_capacity(self.records.len());
        for (name, bytes) in self.records {
            let illegible = || IllegibleRow { table, key: name.clone() };
            let (seen, expected) = self.chunks.get(&name).copied().unwrap_or_default();
            let text = std::str::from_utf8(&name).map_err(|_| illegible())?;
            let record = rmp_serde::from_slice(&bytes).map_err(|_| illegible())?;
            if seen != expected {
                return Err(illegible());
            }
            records.push((text.into(), seen, record));
        }
        Ok(records)
    }
}

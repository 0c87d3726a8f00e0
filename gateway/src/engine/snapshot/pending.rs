//! Backlogs to and from rows of the table Pending.
//!
//! Behind the Client Identifier and a zero byte:
//!
//! | rest of the key                                | value (MessagePack)                                          |
//! |------------------------------------------------|--------------------------------------------------------------|
//! | `a` and the number of a block of 2,048 sequences, u64 BE | [`RangesRow`]: what is acknowledged or received in it, out of order |
//! | `c` and a chunk's first sequence, u64 BE       | [`ChunkRow`]: its runs and their profiles                    |
//!
//! A chunk's row has a few kilobytes. [`Chunks`] is how one is read back while the gateway runs.

use super::{key, pack};
use crate::engine::backlog::{Backlog, Chunk, LoadedChunk, Parts, Profile, RANGES_BLOCK, Runs};
use gateway_protocol::QoS;
use gateway_storage::{ChangeError, Changes, Table, View, ViewError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The first byte of every row here.
const ROW_VERSION: u8 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct ChunkRow {
    len: u32,
    bytes: u64,
    profiles: Vec<ProfileRow>,
    #[serde(with = "serde_bytes")]
    runs: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProfileRow {
    qos: u8,
    retain_as_published: bool,
    is_retained: bool,
    subscription_ids: Vec<u32>,
    group: Option<String>,
}

/// Ranges as start and length, counted from the block's first sequence.
#[derive(Debug, Serialize, Deserialize)]
struct RangesRow {
    acknowledged: Vec<(u16, u16)>,
    received: Vec<(u16, u16)>,
}

/// Reads chunks of backlogs back that are not in memory. Blocks on the disk.
pub trait Chunks: Send + Sync {
    /// The runs of the chunk of this client's backlog that begins with sequence `first`.
    ///
    /// # Errors
    ///
    /// [`ChunkError`]: nothing is to be delivered, acknowledged or dropped because of it.
    fn load(&self, client_id: &str, first: u64) -> Result<LoadedChunk, ChunkError>;
}

/// A part of a backlog cannot be read back. A restart finds that, too, and rebuilds the view.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// The saved view gives an error.
    #[error("the saved view cannot be read: {0}")]
    View(#[from] ViewError),
    /// It has no such row.
    #[error("the saved view has no row for the messages from number {first} on")]
    Missing {
        /// The first sequence of the chunk.
        first: u64,
    },
    /// It has a row that is none of this kind.
    #[error("the row of the saved view for the messages from number {first} on is not legible")]
    Illegible {
        /// The first sequence of the chunk.
        first: u64,
    },
}

impl Chunks for View {
    fn load(&self, client_id: &str, first: u64) -> Result<LoadedChunk, ChunkError> {
        let row =
            self.get(Table::Pending, &chunk_key(client_id, first))?.ok_or(ChunkError::Missing { first })?;
        let (row, runs) = decode(&row).ok_or(ChunkError::Illegible { first })?;
        Ok(LoadedChunk { first, len: row.len, runs: Arc::new(runs) })
    }
}

/// Adds the removal of every row that the backlog may have.
pub(super) fn forget(client_id: &str, backlog: &Backlog, changes: &mut Changes) -> Result<(), ChangeError> {
    let (chunks, blocks) = backlog.rows();
    for first in chunks {
        changes.delete(Table::Pending, &chunk_key(client_id, first))?;
    }
    for block in blocks {
        changes.delete(Table::Pending, &block_key(client_id, block))?;
    }
    Ok(())
}

/// Adds the rows that differ from the saved view.
pub(in crate::engine) fn save(
    client_id: &str,
    backlog: &mut Backlog,
    changes: &mut Changes,
) -> Result<(), ChangeError> {
    for first in backlog.take_gone() {
        changes.delete(Table::Pending, &chunk_key(client_id, first))?;
    }
    for chunk in backlog.unsaved_chunks() {
        if let Some(row) = encode(chunk) {
            changes.put(Table::Pending, &chunk_key(client_id, chunk.first()), &row)?;
            chunk.set_saved();
        }
    }
    let (gone, changed) = backlog.take_changed_blocks();
    for block in gone {
        changes.delete(Table::Pending, &block_key(client_id, block))?;
    }
    for block in changed {
        let (acknowledged, received) = backlog.ranges_in(block);
        let row =
            RangesRow { acknowledged: relative(block, &acknowledged), received: relative(block, &received) };
        changes.put(Table::Pending, &block_key(client_id, block), &versioned(&row))?;
    }
    Ok(())
}

/// Adds a row to the parts of a backlog; `None` where it is not legible.
pub(in crate::engine) fn restore(rest: &[u8], value: &[u8], parts: &mut Parts) -> Option<()> {
    let (kind, number) = rest.split_first()?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    match kind {
        b'c' => {
            let (row, runs) = decode(value)?;
            parts.chunk(number, row.len, row.bytes, runs);
        }
        b'a' => {
            let row: RangesRow = rmp_serde::from_slice(value.strip_prefix(&[ROW_VERSION])?).ok()?;
            parts.ranges(number, absolute(number, &row.acknowledged)?, absolute(number, &row.received)?);
        }
        _ => return None,
    }
    Some(())
}

fn encode(chunk: &Chunk) -> Option<Vec<u8>> {
    let runs = chunk.runs()?;
    Some(versioned(&ChunkRow {
        len: chunk.len(),
        bytes: chunk.bytes(),
        profiles: runs.profiles().iter().map(|profile| ProfileRow::of(profile)).collect(),
        runs: runs.encoded(),
    }))
}

fn decode(value: &[u8]) -> Option<(ChunkRow, Runs)> {
    let row: ChunkRow = rmp_serde::from_slice(value.strip_prefix(&[ROW_VERSION])?).ok()?;
    let profiles: Vec<Arc<Profile>> =
        row.profiles.iter().map(|row| row.profile().map(Arc::new)).collect::<Option<_>>()?;
    let runs = Runs::decode(&row.runs, profiles, row.len)?;
    Some((row, runs))
}

fn versioned(row: &impl Serialize) -> Vec<u8> {
    let mut bytes = pack(row);
    bytes.insert(0, ROW_VERSION);
    bytes
}

fn relative(block: u64, ranges: &[(u64, u64)]) -> Vec<(u16, u16)> {
    let first = block * RANGES_BLOCK;
    // They lie in the block, which is shorter than a u16 can say.
    let short = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    ranges.iter().map(|(start, end)| (short(start - first), short(end - start))).collect()
}

fn absolute(block: u64, ranges: &[(u16, u16)]) -> Option<Vec<(u64, u64)>> {
    let first = block.checked_mul(RANGES_BLOCK)?;
    let range = |&(start, len): &(u16, u16)| {
        let start = first.checked_add(u64::from(start))?;
        Some((start, start.checked_add(u64::from(len))?))
    };
    ranges.iter().map(range).collect()
}

impl ProfileRow {
    fn of(profile: &Profile) -> Self {
        Self {
            qos: profile.qos as u8,
            retain_as_published: profile.retain_as_published,
            is_retained: profile.is_retained,
            subscription_ids: profile.subscription_ids.as_deref().unwrap_or_default().to_vec(),
            group: profile.group.as_deref().map(str::to_owned),
        }
    }

    fn profile(&self) -> Option<Profile> {
        Some(Profile {
            qos: QoS::try_from(self.qos).ok()?,
            retain_as_published: self.retain_as_published,
            is_retained: self.is_retained,
            subscription_ids: (!self.subscription_ids.is_empty())
                .then(|| self.subscription_ids.as_slice().into()),
            group: self.group.as_deref().map(Into::into),
        })
    }
}

fn chunk_key(client_id: &str, first: u64) -> Vec<u8> {
    numbered(client_id, b'c', first)
}

fn block_key(client_id: &str, block: u64) -> Vec<u8> {
    numbered(client_id, b'a', block)
}

fn numbered(client_id: &str, kind: u8, number: u64) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    key(client_id, &[kind, a, b, c, d, e, f, g, h])
}

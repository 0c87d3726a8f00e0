//! Consumers to and from rows of the table Consumers.
//!
//! Behind the consumer's name and a zero byte, which no name contains:
//!
//! | rest of the key                                  | value                                                             |
//! |--------------------------------------------------|-------------------------------------------------------------------|
//! | `m`                                              | [`ConsumerRow`], MessagePack: the spec, where it reads, its sums |
//! | `o` and the number of a block of 512 offsets, u64 BE | what is open in it, coded as in the log (`item`)                  |
//!
//! A save writes the blocks in which something has changed. With the longest names of workers one has less than 100 KiB.

use super::item;
use super::spec::ConsumerSpec;
use super::state::{ConsumerEntry, ConsumerState, ROW_OFFSETS};
use super::wire::Reader;
use crate::engine::snapshot::{self, IllegibleRow};
use gateway_storage::{ChangeError, Changes, Table};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The first byte of every row of open items.
const ROW_VERSION: u8 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct ConsumerRow {
    spec: ConsumerSpec,
    created_ms: u64,
    read_to: u64,
    handed_out: u64,
    redelivered: u64,
    acked: u64,
    dead_lettered: u64,
    expired: u64,
    lost: u64,
    missed: u64,
    discarded: u64,
    seen: u64,
}

/// Adds the removal of a consumer's rows.
pub(super) fn forget(entry: &ConsumerEntry, changes: &mut Changes) -> Result<(), ChangeError> {
    let state = entry.state();
    changes.delete(Table::Consumers, &snapshot::key(&entry.name, b"m"))?;
    let open = state.open.keys().map(|offset| offset / ROW_OFFSETS);
    for block in open.chain(state.unsaved.rows.iter().copied()).collect::<BTreeSet<_>>() {
        changes.delete(Table::Consumers, &block_key(&entry.name, block))?;
    }
    Ok(())
}

/// Adds the rows of what has changed of a consumer.
pub(super) fn save(entry: &ConsumerEntry, changes: &mut Changes) -> Result<(), ChangeError> {
    let mut state = entry.state();
    state.unsaved.listed = false;
    if entry.is_removed() {
        return Ok(()); // Its rows are gone, or those of another one of the same name.
    }
    for block in std::mem::take(&mut state.unsaved.rows) {
        let first = block.saturating_mul(ROW_OFFSETS);
        let mut open = state.open.range(first..=first.saturating_add(ROW_OFFSETS - 1)).peekable();
        let key = block_key(&entry.name, block);
        if open.peek().is_none() {
            changes.delete(Table::Consumers, &key)?;
        } else {
            let mut value = vec![ROW_VERSION];
            item::encode(&mut open.map(|(offset, item)| (*offset, item)), &mut value);
            changes.put(Table::Consumers, &key, &value)?;
        }
    }
    let row = ConsumerRow {
        spec: state.spec.clone(),
        created_ms: state.created_ms,
        read_to: state.read_to,
        handed_out: state.handed_out,
        redelivered: state.redelivered,
        acked: state.acked,
        dead_lettered: state.dead_lettered,
        expired: state.expired,
        lost: state.lost,
        missed: state.missed,
        discarded: state.discarded,
        seen: state.seen,
    };
    changes.put(Table::Consumers, &snapshot::key(&entry.name, b"m"), &snapshot::pack(&row))
}

/// Collects rows of a saved view, in any order, and makes consumers of them.
#[derive(Debug, Default)]
pub(in crate::engine) struct Loader {
    loading: BTreeMap<Box<str>, Loading>,
    illegible: Option<IllegibleRow>,
}

#[derive(Debug, Default)]
struct Loading {
    row: Option<ConsumerRow>,
    open: Vec<(u64, item::OpenItem)>,
}

impl Loader {
    /// One row.
    pub(in crate::engine) fn add(&mut self, key: &[u8], value: &[u8]) {
        if self.try_add(key, value).is_none() {
            self.illegible.get_or_insert_with(|| IllegibleRow { table: Table::Consumers, key: key.into() });
        }
    }

    fn try_add(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let zero = key.iter().position(|&byte| byte == 0)?;
        let (name, rest) = key.split_at_checked(zero)?;
        let loading = self.loading.entry(std::str::from_utf8(name).ok()?.into()).or_default();
        match rest.get(1..)? {
            b"m" => loading.row = Some(rmp_serde::from_slice(value).ok()?),
            [b'o', ..] => {
                let mut reader = Reader(value.strip_prefix(&[ROW_VERSION])?);
                loading.open.extend(item::decode(&mut reader)?);
                reader.is_empty().then_some(())?;
            }
            _ => return None,
        }
        Some(())
    }

    /// The consumers, by name.
    pub(super) fn finish(self) -> Result<Vec<(Box<str>, ConsumerState)>, IllegibleRow> {
        if let Some(row) = self.illegible {
            return Err(row);
        }
        let state = |(name, loading): (Box<str>, Loading)| match loading.row {
            Some(row) => Ok((name, row.state(loading.open))),
            None => Err(IllegibleRow { table: Table::Consumers, key: name.as_bytes().into() }),
        };
        self.loading.into_iter().map(state).collect()
    }
}

impl ConsumerRow {
    fn state(self, open: Vec<(u64, item::OpenItem)>) -> ConsumerState {
        let mut state = ConsumerState::new(self.spec, self.created_ms);
        state.read_to = self.read_to;
        state.open = open.into_iter().collect();
        state.handed_out = self.handed_out;
        state.redelivered = self.redelivered;
        state.acked = self.acked;
        state.dead_lettered = self.dead_lettered;
        state.expired = self.expired;
        state.lost = self.lost;
        state.missed = self.missed;
        state.discarded = self.discarded;
        state.seen = self.seen;
        state
    }
}

fn block_key(name: &str, block: u64) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h] = block.to_be_bytes();
    snapshot::key(name, &[b'o', a, b, c, d, e, f, g, h])
}

//! Restoring the view at start: what was saved, and over it the tail of the log.

use super::apply::Applier;
use super::consumers::{self, SavedConsumers};
use super::dedup;
use super::retained::RetainedTable;
use super::rules::Rules;
use super::session::SessionState;
use super::snapshot::{IllegibleRow, Loader, chunked};
use super::streams::{self, USAGE_PREFIX, Usage};
use super::will::WillTable;
use super::{EngineError, PAGE_BYTES};
use gateway_storage::{Checkpoints, LogReader, Offset, SkippedGroup, Table, View, ViewError};
use std::collections::HashMap;
use std::sync::Arc;

/// The key of the rules in the table Meta.
pub(super) const RULES_KEY: &[u8] = b"rules";

/// What keys of the table Meta begin with that hold whose turn it is in a group.
pub(super) const TURN_PREFIX: &[u8] = b"turn/";

/// Damaged parts of the log that a replay names one by one.
const LOSSES_SAID: u64 = 16;

/// Loads `view` into `applier`'s table and applies every later entry of the log.
///
/// A view that cannot be read is set aside and made anew, from the newest checkpoint that can be read, or else from the log's
/// beginning: slow, but nothing is lost.
pub(super) fn restore(
    applier: &mut Applier,
    mut view: View,
    checkpoints: &mut Checkpoints,
    log: &dyn LogReader,
) -> Result<Arc<View>, EngineError> {
    let earliest = log.bounds().0;
    let saved = loop {
        let reason = match load(&view, applier.identities()) {
            Ok(saved) => break saved,
            Err(Unusable::Unreadable(reason)) => reason,
            Err(Unusable::Illegible(IllegibleRow { table, key })) => {
                ViewError::Corrupt { table: Some(table), key }
            }
        };
        (view, _) = checkpoints.rebuild(view, reason, earliest)?;
    };
    applier.restore_all(saved);
    let view = Arc::new(view);
    applier.read_chunks_from(view.clone());
    replay(applier, view.applied().max(earliest), log)?;
    Ok(view)
}

/// What a view had saved.
pub(super) struct Saved {
    pub(super) sessions: Vec<(Box<str>, SessionState)>,
    pub(super) retained: RetainedTable,
    pub(super) wills: WillTable,
    pub(super) rules: Option<Rules>,
    pub(super) turns: HashMap<Arc<str>, u64>,
    pub(super) identities: dedup::Loaded,
    /// By its key in the table Meta.
    pub(super) usage: Vec<(Box<str>, Usage)>,
    pub(super) made_streams: streams::Made,
    pub(super) consumers: SavedConsumers,
}

enum Unusable {
    Unreadable(ViewError),
    Illegible(IllegibleRow),
}

impl From<ViewError> for Unusable {
    fn from(error: ViewError) -> Self {
        Self::Unreadable(error)
    }
}

impl From<IllegibleRow> for Unusable {
    fn from(row: IllegibleRow) -> Self {
        Self::Illegible(row)
    }
}

/// Everything is read before anything is restored: half a view is none.
fn load(view: &View, mut identities: dedup::Loader) -> Result<Saved, Unusable> {
    let mut sessions = Loader::default();
    for table in [Table::Sessions, Table::Pending] {
        view.scan(table, &mut |key, value| sessions.add(table, key, value))?;
    }
    let mut retained = chunked::Loader::default();
    view.scan(Table::Retained, &mut |key, value| retained.add(key, value))?;
    let mut wills = chunked::Loader::default();
    view.scan(Table::Wills, &mut |key, value| wills.add(key, value))?;
    view.scan(Table::Identities, &mut |key, value| identities.add(key, value))?;
    let (mut consumers, mut letters) = (consumers::Loader::default(), chunked::Loader::default());
    view.scan(Table::Consumers, &mut |key, value| consumers.add(key, value))?;
    view.scan(Table::DeadLetters, &mut |key, value| letters.add(key, value))?;
    let mut turns = HashMap::new();
    let (mut usage, mut made) = (chunked::Loader::default(), chunked::Loader::default());
    view.scan(Table::Meta, &mut |key, value| {
        if key.starts_with(USAGE_PREFIX.as_bytes()) {
            usage.add(key, value);
        } else if key.starts_with(streams::SPEC_PREFIX.as_bytes()) {
            made.add(key, value);
        } else if let (Some(group), Some(turn)) = (key.strip_prefix(TURN_PREFIX), value.first_chunk())
            && let Ok(group) = std::str::from_utf8(group)
        {
            turns.insert(group.into(), u64::from_le_bytes(*turn));
        }
    })?;
    Ok(Saved {
        turns,
        usage: usage.finish(Table::Meta)?.into_iter().map(|(key, _, usage)| (key, usage)).collect(),
        sessions: sessions.finish()?,
        identities: identities.finish()?,
        retained: RetainedTable::restore(retained)?,
        wills: WillTable::restore(wills)?,
        made_streams: streams::Made::restore(made)?,
        consumers: SavedConsumers::finish(consumers, letters)?,
        rules: view.get(Table::Meta, RULES_KEY)?.and_then(|bytes| Rules::decode(&bytes)),
    })
}

fn replay(applier: &mut Applier, from: Offset, log: &dyn LogReader) -> Result<(), EngineError> {
    let mut at = from;
    let mut losses = LossLog::default();
    while let Some(page) = log.read_page(at, PAGE_BYTES)? {
        losses.note(&page.skipped);
        applier.apply_page(&page, at);
        applier.take_at_limit().for_each(drop); // It was said when it happened.
        if let Some(error) = applier.take_failure() {
            return Err(error.into());
        }
        at = page.next;
    }
    losses.sum_up();
    applier.announce();
    applier.begin_report();
    Ok(())
}

/// Says which parts of the log a replay passes over: the first ones, and of the others how many.
#[derive(Debug, Default)]
struct LossLog {
    /// How many there were.
    parts: u64,
    /// The offsets and the bytes of those that were not said one by one.
    offsets_not_said: u64,
    bytes_not_said: u64,
}

impl LossLog {
    fn note(&mut self, skipped: &[SkippedGroup]) {
        for skipped in skipped {
            self.parts += 1;
            if self.parts <= LOSSES_SAID {
                tracing::error!(
                    first = %skipped.first, end = %skipped.end, bytes = skipped.bytes, at_byte = skipped.at_byte,
                    file = %skipped.file.display(),
                    "entries are lost: a damaged part of the log is passed over"
                );
            } else {
                self.offsets_not_said += skipped.end.get().saturating_sub(skipped.first.get());
                self.bytes_not_said += skipped.bytes;
            }
        }
    }

    fn sum_up(&self) {
        let more = self.parts.saturating_sub(LOSSES_SAID);
        if more > 0 {
            tracing::error!(
                more,
                offsets = self.offsets_not_said,
                bytes = self.bytes_not_said,
                "entries are lost: more damaged parts of the log are passed over; `gateway storage verify` lists them"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::captured;

    /// The lines about so many damaged parts of 3 offsets and 100 bytes each, in pages of five.
    fn said_of(parts: u64) -> Vec<String> {
        let skipped = |n: u64| SkippedGroup {
            first: Offset::new(10 * n),
            end: Offset::new(10 * n + 3),
            bytes: 100,
            file: "0.log".into(),
            at_byte: 1000 * n,
        };
        let all: Vec<_> = (0..parts).map(skipped).collect();
        let said = captured(|| {
            let mut losses = LossLog::default();
            all.chunks(5).for_each(|page| losses.note(page));
            losses.sum_up();
        });
        said.lines().map(str::to_owned).collect()
    }

    #[test]
    fn many_losses_are_said_in_a_few_lines_that_add_up() {
        assert_eq!(said_of(0), [""; 0]);
        assert_eq!(said_of(LOSSES_SAID).len(), LOSSES_SAID as usize);
        let said = said_of(1000);
        assert_eq!(said.len(), LOSSES_SAID as usize + 1);
        assert!(said[0].contains("first=0 end=3 bytes=100 at_byte=0 file=0.log"), "{}", said[0]);
        let last = said.last().unwrap();
        assert!(last.contains("more=984 offsets=2952 bytes=98400"), "{last}");
    }
}

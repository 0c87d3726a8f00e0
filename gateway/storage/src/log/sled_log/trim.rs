//! Removing old groups beside the writer and the readers.

use std::sync::{Arc, Mutex, PoisonError};

use super::cursor::Head;
use super::engine::EngineError;
use super::keys::PieceKey;
use super::reader::Shared;
use super::recover::remove;
use crate::log::{LogError, LogTrimmer, Trimmed};
use crate::offset::Offset;

/// Trims by groups.
#[derive(Debug)]
pub(super) struct SledTrimmer {
    shared: Arc<Shared>,
    one_at_a_time: Mutex<()>,
}

impl SledTrimmer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, one_at_a_time: Mutex::new(()) }
    }

    fn remove_before(&self, before: Offset) -> Result<Trimmed, EngineError> {
        let Shared { engine, salt, .. } = self.shared.as_ref();
        let earliest = self.shared.earliest();
        let nothing = Trimmed { segments: 0, bytes: 0, earliest };
        // The last group on stable storage stays: it says where the log goes on.
        let Some(last) = self.shared.synced().get().checked_sub(1) else { return Ok(nothing) };
        let Some(keep) = engine.last_until(before.min(Offset::new(last)))? else { return Ok(nothing) };
        // Not less than what an earlier trim began with and may not have finished.
        let keep = keep.first.max(earliest);
        let place = Head::load(engine, *salt, keep)?.place;
        // Before the first group goes, so that readers know why it is not whole any more.
        self.shared.set_earliest(keep);
        let beginning = PieceKey::new(Offset::ZERO, 0);
        let segments = remove(engine, beginning, Some(PieceKey::new(keep, 0)))?;
        if segments == 0 {
            return Ok(nothing);
        }
        engine.sync_beside()?;
        let gone = self.shared.trimmed_bytes();
        let place = place.unwrap_or(gone);
        self.shared.set_trimmed_bytes(place);
        Ok(Trimmed { segments, bytes: place.saturating_sub(gone), earliest: keep })
    }
}

impl LogTrimmer for SledTrimmer {
    fn trim(&self, before: Offset) -> Result<Trimmed, LogError> {
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_before(before)
            .map_err(|error| LogError::from_io("trim", self.shared.engine.dir(), error.into()))
    }

    fn size_bytes(&self) -> u64 {
        self.shared.size_bytes()
    }
}

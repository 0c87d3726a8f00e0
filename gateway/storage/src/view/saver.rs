//! What the view's thread does: saves that outlive a full disk, and checkpoints.
//!
//! sled 0.34.7 answers a full disk with an error of that kind, and every later write with the same error, whether or not
//! there is space again; opening it again helps, and takes up to a segment of space. So a save waits while less than
//! that is free, and after one has failed nevertheless, the reserve is given up, the view opened again, and the same
//! changes saved once more: they are absolute, so that saving them twice does no harm.

use std::sync::Arc;

use super::open::SEGMENT_BYTES;
use super::writer::{Shared, Woken};
use super::{Changes, View, ViewError};
use crate::checkpoint::{CheckpointError, Checkpoints};
use crate::offset::Offset;
use crate::reserve::Reserve;

/// What must be free, besides twice the changes, for a save to be tried: sled extends its file by a segment at a time,
/// and opening it may begin another one.
const SAVE_ROOM: u64 = 2 * SEGMENT_BYTES as u64;
/// What must be free, besides the size of the last one and a quarter, for a checkpoint to be tried.
const CHECKPOINT_ROOM: u64 = 1 << 20;

/// The thread's own state.
#[derive(Debug)]
pub(super) struct Saver {
    view: Arc<View>,
    checkpoints: Checkpoints,
    reserve: Arc<Reserve>,
    shared: Arc<Shared>,
    /// A write of the store has failed: it is to be opened again first.
    store_failed: bool,
}

/// Why an attempt to save came to nothing.
enum Failed {
    /// There is too little space to begin with.
    Short {
        available: u64,
        needed: u64,
    },
    /// The store ran out of space.
    NoSpace(ViewError),
    Final(ViewError),
}

impl Saver {
    pub(super) fn new(
        view: Arc<View>,
        checkpoints: Checkpoints,
        reserve: Arc<Reserve>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { view, checkpoints, reserve, shared, store_failed: false }
    }

    /// Saves the changes, however long the disk is full; returns without having saved them when the writer stops.
    pub(super) fn save(&mut self, changes: &Changes, applied: Offset) -> Result<(), ViewError> {
        // Said once, however often it is tried.
        let mut first = true;
        loop {
            let failed = match self.attempt(changes, applied) {
                Ok(()) => break,
                Err(Failed::Final(error)) => return Err(error),
                Err(failed) => failed,
            };
            self.shared.count_put_off();
            match failed {
                Failed::NoSpace(error) => {
                    if first {
                        tracing::warn!(%error, "the disk is full: the view is saved when there is room");
                    }
                    if self.reserve.release() > 0 {
                        first = false;
                        continue;
                    }
                }
                Failed::Short { available, needed } if first => {
                    tracing::warn!(
                        available,
                        needed,
                        "the disk is almost full: the view is saved when there is room"
                    );
                }
                _ => {}
            }
            first = false;
            loop {
                match self.shared.wait_for_space() {
                    Woken::Retry => break,
                    Woken::Checkpoint => self.checkpoint(),
                    Woken::Stop => {
                        tracing::warn!(
                            saved = %self.view.applied(), unsaved = %applied,
                            "the disk is full: the view stays as it was saved before, and the log after it is replayed"
                        );
                        return Ok(());
                    }
                }
            }
        }
        if !first {
            tracing::info!(%applied, "there is room again: the view is saved");
        }
        self.restore_reserve();
        Ok(())
    }

    /// Writes a checkpoint of what is saved.
    pub(super) fn checkpoint(&mut self) {
        let failed = self.try_checkpoint().err();
        self.shared.end_checkpoint(&self.checkpoints, failed);
    }

    /// On a full disk with the help of the reserve.
    fn try_checkpoint(&mut self) -> Result<(), CheckpointError> {
        let last = self.checkpoints.newest_bytes();
        let available = self.checkpoints.available().saturating_add(self.reserve.held());
        let needed = last + last / 4 + CHECKPOINT_ROOM;
        if available < needed {
            return Err(CheckpointError::TooLittleSpace { available, needed });
        }
        let shared = Arc::clone(&self.shared);
        let go_on = || !shared.is_stopping();
        match self.checkpoints.dump(&self.view, &go_on) {
            Err(CheckpointError::NoSpace { .. }) if self.reserve.release() > 0 => {
                self.checkpoints.dump(&self.view, &go_on)
            }
            Ok(()) => {
                self.restore_reserve();
                Ok(())
            }
            failed => failed,
        }
    }

    fn attempt(&mut self, changes: &Changes, applied: Offset) -> Result<(), Failed> {
        let needed = SAVE_ROOM + 2 * changes.byte_len() as u64;
        let available = self.checkpoints.available().saturating_add(self.reserve.held());
        if available < needed {
            return Err(Failed::Short { available, needed });
        }
        if self.store_failed {
            match self.view.reopen() {
                Ok(()) => {
                    self.store_failed = false;
                    self.shared.count_reopened();
                }
                Err(error @ ViewError::InUse { .. }) => return Err(Failed::NoSpace(error)),
                Err(error) => return Err(self.judge(error)),
            }
        }
        self.view.save(changes, applied).map_err(|error| {
            self.store_failed = true;
            self.judge(error)
        })
    }

    fn judge(&self, error: ViewError) -> Failed {
        // Some of sled's threads panic where others report.
        let panicked = matches!(error, ViewError::EnginePanicked { .. });
        if error.is_lack_of_space() || (panicked && self.checkpoints.available() < SEGMENT_BYTES as u64) {
            Failed::NoSpace(error)
        } else {
            Failed::Final(error)
        }
    }

    /// Takes the reserve's space again if there is plenty.
    fn restore_reserve(&self) {
        if !self.reserve.is_whole()
            && let Err(error) = self.reserve.restore()
        {
            tracing::debug!(%error, "there is no room for the reserve yet");
        }
    }
}

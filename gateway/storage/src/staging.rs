//! Where a connection collects the entries of one read, off every lock.
//!
//! Encoding happens here, on the connection's own time; [`crate::GroupCommit::submit`] then only copies. A staging
//! area belongs to one task and is used again for every read: submitting clears it and keeps its memory, up to a
//! bound. Read on in [`crate::Batch`] for what becomes of the entries.

use rmp::encode::ByteBuf;
use thiserror::Error;

use crate::batch::Batch;
use crate::entry::{ENTRY_BYTES_MAX, Entry, EntryKind, Event, encode_control, encode_event};
use crate::index::EntryIndex;

/// The most bytes one staging area takes: two of the largest entries.
pub const STAGING_BYTES_MAX: usize = 2 * ENTRY_BYTES_MAX;

/// Memory a cleared staging area may keep.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// Entries on their way into the log, encoded, with the places of their fields.
#[derive(Debug, Default)]
pub struct Staging {
    bytes: ByteBuf,
    index: Vec<EntryIndex>,
    events: usize,
}

/// Why an entry was not staged. The staging area is as before.
#[derive(Debug, Error)]
pub enum StageError {
    /// The entry, one of its strings, or the whole staging area would exceed its limit
    /// ([`ENTRY_BYTES_MAX`], [`crate::entry::STRING_BYTES_MAX`], [`STAGING_BYTES_MAX`]).
    #[error("the entry is too large for the log")]
    TooLarge,
    /// The Quality of Service is not 0, 1 or 2.
    #[error("an event cannot have quality of service {qos}")]
    BadQos {
        /// What was given.
        qos: u8,
    },
    /// The serde definition of the kind did not serialise.
    #[error("an entry of kind {kind:?} could not be encoded: {source}")]
    Encode {
        /// The kind of the entry.
        kind: EntryKind,
        /// What MessagePack said.
        source: Box<rmp_serde::encode::Error>,
    },
}

impl Staging {
    /// An empty staging area that owns no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes an event.
    ///
    /// # Errors
    ///
    /// [`StageError::TooLarge`] beyond a limit, [`StageError::BadQos`]; nothing is staged then.
    #[inline]
    pub fn push_event(&mut self, event: &Event<'_>) -> Result<(), StageError> {
        if event.qos > 2 {
            return Err(StageError::BadQos { qos: event.qos });
        }
        let entry = encode_event(event, &mut self.bytes)?;
        self.keep(entry)?;
        self.events += 1;
        Ok(())
    }

    /// Encodes an entry of any kind.
    ///
    /// # Errors
    ///
    /// As [`Staging::push_event`], and [`StageError::Encode`].
    pub fn push(&mut self, entry: &Entry<'_>) -> Result<(), StageError> {
        if let Entry::Event(event) = entry {
            return self.push_event(event);
        }
        let entry = encode_control(entry, &mut self.bytes)?;
        self.keep(entry)
    }

    /// Entries staged.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Events among them.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Encoded bytes staged.
    pub fn byte_len(&self) -> usize {
        self.bytes.as_vec().len()
    }

    /// Whether nothing is staged.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Forgets everything staged and keeps the memory, unless it has become unusually large.
    pub fn clear(&mut self) {
        self.bytes.as_mut_vec().clear();
        self.bytes.as_mut_vec().shrink_to(KEPT_BYTES_MAX);
        self.index.clear();
        self.index.shrink_to(KEPT_BYTES_MAX / size_of::<EntryIndex>());
        self.events = 0;
    }

    /// The staged entries as a batch that goes to live subscribers only: never logged, offsets from 0, times 0.
    pub fn into_batch(self) -> Batch {
        Batch::unlogged(self.bytes.into_vec(), self.index)
    }

    /// As [`Staging::into_batch`], and the staging area goes on with room for as much again: whoever stages batch after batch does not grow
    /// its buffers each time. A batch that would waste half of its memory is copied out.
    pub fn take_batch(&mut self) -> Batch {
        let (bytes, index) = (self.bytes.as_vec(), &self.index);
        if bytes.len() < bytes.capacity() / 2 || index.len() < index.capacity() / 2 {
            let batch = Batch::unlogged(bytes.as_slice().into(), index.as_slice().into());
            self.clear();
            return batch;
        }
        let next = Self {
            bytes: ByteBuf::with_capacity(bytes.len().min(KEPT_BYTES_MAX)),
            index: Vec::with_capacity(index.len().min(KEPT_BYTES_MAX / size_of::<EntryIndex>())),
            events: 0,
        };
        std::mem::replace(self, next).into_batch()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.as_vec()
    }

    pub(crate) fn index(&self) -> &[EntryIndex] {
        &self.index
    }

    fn keep(&mut self, entry: EntryIndex) -> Result<(), StageError> {
        if self.byte_len() > STAGING_BYTES_MAX {
            self.bytes.as_mut_vec().truncate(entry.start as usize);
            return Err(StageError::TooLarge);
        }
        self.index.push(entry);
        Ok(())
    }
}

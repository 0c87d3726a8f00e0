//! A set of changes that is saved as a whole.

use sled::Batch;
use thiserror::Error;

use super::value::{self, APPLIED_KEY, VALUE_HEADER_LEN};
use crate::offset::Offset;

/// The largest value in bytes: 128 KiB with what the view adds to it.
pub const VALUE_BYTES_MAX: usize = (128 << 10) - VALUE_HEADER_LEN;
/// The largest key in bytes: two MQTT strings and a little.
pub const KEY_BYTES_MAX: usize = 2 * 65_535 + 64;

/// The table of the view's own rows.
pub(super) const OWN_TABLE: u8 = 0;

/// A table of the view. One tree with a byte in front of each key, so that saving several tables is one atomic batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// The engine's own small records.
    Meta,
    /// Sessions and their subscriptions.
    Sessions,
    /// Who has what pending.
    Pending,
    /// Retained Messages.
    Retained,
    /// Will Messages.
    Wills,
    /// Which events were stored, by the names that their publishers gave them.
    Identities,
    /// Consumers of streams, and what each has open.
    Consumers,
    /// Dead letters.
    DeadLetters,
}

impl Table {
    /// The byte in front of the keys; part of the format.
    pub(super) const fn prefix(self) -> u8 {
        match self {
            Self::Meta => 1,
            Self::Sessions => 2,
            Self::Pending => 3,
            Self::Retained => 4,
            Self::Wills => 5,
            Self::Identities => 9,
            Self::Consumers => 6,
            Self::DeadLetters => 7,
        }
    }

    /// The table with this byte; None for the view's own, and for one this version does not know.
    pub(super) fn of(prefix: u8) -> Option<Self> {
        let all = [
            Self::Meta,
            Self::Sessions,
            Self::Pending,
            Self::Retained,
            Self::Wills,
            Self::Identities,
            Self::Consumers,
            Self::DeadLetters,
        ];
        all.into_iter().find(|table| table.prefix() == prefix)
    }

    pub(super) fn key(self, key: &[u8]) -> Vec<u8> {
        let mut prefixed = Vec::with_capacity(1 + key.len());
        prefixed.push(self.prefix());
        prefixed.extend_from_slice(key);
        prefixed
    }
}

/// Why a change was not taken. The changes are as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// The value is longer than [`VALUE_BYTES_MAX`].
    #[error("a value of {bytes} bytes is too large for the view, which takes {VALUE_BYTES_MAX}")]
    ValueTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The key is longer than [`KEY_BYTES_MAX`].
    #[error("a key of {bytes} bytes is too large for the view, which takes {KEY_BYTES_MAX}")]
    KeyTooLarge {
        /// Its length.
        bytes: usize,
    },
}

/// Changes to be saved together. A later change of a key wins over an earlier one.
#[derive(Debug, Default)]
pub struct Changes {
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    bytes: usize,
}

impl Changes {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    ///
    /// # Errors
    ///
    /// When key or value is too large.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), ChangeError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(ChangeError::ValueTooLarge { bytes: value.len() });
        }
        let key = checked_key(table, key)?;
        let sealed = value::seal(&key, value);
        self.bytes += key.len() + sealed.len();
        self.rows.push((key, Some(sealed)));
        Ok(())
    }

    /// Removes a key, whether or not it is there.
    ///
    /// # Errors
    ///
    /// When the key is too large.
    pub fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), ChangeError> {
        let key = checked_key(table, key)?;
        self.bytes += key.len();
        self.rows.push((key, None));
        Ok(())
    }

    /// Keys put and deleted.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is nothing to save.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of keys and values, for bounding what is saved at once.
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    pub(super) fn to_batch(&self, applied: Offset) -> Batch {
        let mut batch = Batch::default();
        for (key, value) in &self.rows {
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        batch.insert(&APPLIED_KEY, value::seal(&APPLIED_KEY, &applied.get().to_le_bytes()));
        batch
    }
}

fn checked_key(table: Table, key: &[u8]) -> Result<Vec<u8>, ChangeError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(ChangeError::KeyTooLarge { bytes: key.len() });
    }
    Ok(table.key(key))
}

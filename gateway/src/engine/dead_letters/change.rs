//! What becomes of dead letters: the content of [`gateway_storage::Entry::DeadLettersChanged`].

use crate::engine::consumers::OffsetRuns;
use crate::engine::consumers::wire::{Reader, put, put_step};

/// What becomes of some letters of one consumer, each named by the offset of its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LettersChange {
    /// They are handed to their consumer again, each not before its time in milliseconds since the Unix epoch: they are open items with no
    /// attempts and `is_letter`. A letter that is under way already is passed over.
    Redriven(Vec<(u64, u64)>),
    /// They are removed, as somebody asked for. What of them is under way in the consumer is not open any more.
    Purged(OffsetRuns),
    /// They are removed because of their age, but for those that are under way.
    Aged(OffsetRuns),
}

const REDRIVEN: u8 = 1;
const PURGED: u8 = 2;
const AGED: u8 = 3;

impl LettersChange {
    /// The form in the log: what it is, then offsets (and times) as numbers of variable length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Redriven(items) => {
                out.push(REDRIVEN);
                put(&mut out, items.len() as u64);
                let (mut offset, mut due_ms) = (0, 0);
                for (at, due) in items {
                    put_step(&mut out, offset, *at);
                    put_step(&mut out, due_ms, *due);
                    (offset, due_ms) = (*at, *due);
                }
            }
            Self::Purged(offsets) => {
                out.push(PURGED);
                offsets.encode(&mut out);
            }
            Self::Aged(offsets) => {
                out.push(AGED);
                offsets.encode(&mut out);
            }
        }
        out
    }

    /// What [`LettersChange::encode`] has written; `None` where it is not legible.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let change = match reader.byte()? {
            REDRIVEN => {
                let mut items = Vec::new();
                let (mut offset, mut due_ms) = (0, 0);
                for _ in 0..reader.count()? {
                    offset = reader.step(offset)?;
                    due_ms = reader.step(due_ms)?;
                    items.push((offset, due_ms));
                }
                Self::Redriven(items)
            }
            PURGED => Self::Purged(OffsetRuns::decode(&mut reader)?),
            AGED => Self::Aged(OffsetRuns::decode(&mut reader)?),
            _ => return None,
        };
        reader.is_empty().then_some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_change_reads_back_as_it_was(
            items in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..20),
            offsets in proptest::collection::vec(0u64..1000, 0..20),
        ) {
            let offsets: OffsetRuns = offsets.into_iter().collect();
            for change in
                [LettersChange::Redriven(items), LettersChange::Purged(offsets.clone()), LettersChange::Aged(offsets)]
            {
                let bytes = change.encode();
                prop_assert_eq!(LettersChange::decode(&bytes), Some(change));
                prop_assert!((0..bytes.len()).all(|len| LettersChange::decode(&bytes[..len]).is_none()));
            }
        }
    }
}

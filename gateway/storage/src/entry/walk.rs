//! Where an entry ends and where its fields lie, found by their markers alone.
//!
//! Entries follow one another in a group without a length in front: the markers say it already. Only the types that
//! entries consist of (unsigned integers, booleans, strings and bytes) are walked over.

use super::{EntryError, EntryKind};

/// The data of one field, without its marker, relative to the start of the entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u32,
    pub(super) len: u32,
}

#[derive(Debug)]
pub(super) struct Places {
    /// Bytes of the whole entry.
    pub(super) end: u32,
    /// As many as the kind has elements; the rest is unused.
    pub(super) fields: [Place; 9],
}

/// Walks over the entry of this kind at the front of `bytes`.
pub(super) fn walk(bytes: &[u8], kind: EntryKind) -> Result<Places, EntryError> {
    walk_fields(bytes, kind).ok_or(EntryError::Unwalkable { kind })
}

fn walk_fields(bytes: &[u8], kind: EntryKind) -> Option<Places> {
    let mut fields = [Place::default(); 9];
    let mut at: u32 = 1;
    for field in fields.iter_mut().take(usize::from(kind.elements())) {
        let (marker_len, len) = field_len(bytes.get(at as usize..)?)?;
        *field = Place { at: at.checked_add(marker_len)?, len };
        at = field.at.checked_add(len)?;
    }
    (at as usize <= bytes.len()).then_some(Places { end: at, fields })
}

/// Bytes of the marker (with the length that belongs to it) and bytes of the data after it.
fn field_len(bytes: &[u8]) -> Option<(u32, u32)> {
    let marker = *bytes.first()?;
    Some(match marker {
        // positive fixint, false, true: the marker is the value
        0x00..=0x7f | 0xc2 | 0xc3 => (1, 0),
        // fixstr
        0xa0..=0xbf => (1, u32::from(marker & 0x1f)),
        // bin 8, str 8
        0xc4 | 0xd9 => (2, u32::from(*bytes.get(1)?)),
        // bin 16, str 16
        0xc5 | 0xda => (3, u32::from(u16::from_be_bytes(*bytes.get(1..)?.first_chunk()?))),
        // bin 32, str 32
        0xc6 | 0xdb => (5, u32::from_be_bytes(*bytes.get(1..)?.first_chunk()?)),
        // uint 8, 16, 32, 64
        0xcc => (1, 1),
        0xcd => (1, 2),
        0xce => (1, 4),
        0xcf => (1, 8),
        _ => return None,
    })
}

//! How the log lies in sled: keys and values, format version 1.
//!
//! | key | value |
//! |---|---|
//! | `0 f` | format version, u16, and a checksum |
//! | `0 s` | salt of the log, u64, and a checksum |
//! | `0 n` | the offset the log continues at or behind, u64, and a checksum; missing until the log has a hole at its end |
//! | `1`, first offset (u64), piece (u32) | a piece of the group's frame |
//!
//! Keys are big-endian, so that their order is that of the log; values are little-endian. Piece 0 begins with the place
//! of the group (bytes of all groups ever appended before it, u64) and the CRC32C of salt, key and place (u32). That
//! makes the size of the log a subtraction, however much of it was trimmed. The pieces themselves need no checksum:
//! the frame they make up has two.

use crc32c::{crc32c, crc32c_append};
use sled::Batch;

use crate::frame::salted;
use crate::offset::Offset;

/// The version this code writes and the newest it reads.
pub(super) const FORMAT_VERSION: u16 = 1;

pub(super) const FORMAT_KEY: &[u8] = &[0, b'f'];
pub(super) const SALT_KEY: &[u8] = &[0, b's'];
pub(super) const NEXT_KEY: &[u8] = &[0, b'n'];

/// Above every group.
pub(super) const GROUPS_END: &[u8] = &[2];

const GROUP_TABLE: u8 = 1;
const PLACE_LEN: usize = 12;

/// Bytes of a frame in one piece; with the place in front, a value has at most 128 KiB.
pub(super) const PIECE_BYTES: usize = (128 << 10) - PLACE_LEN;

/// Bytes written in one atomic batch. A group of more takes several, its first piece in the last one: without that
/// piece it is no group.
const BATCH_BYTES: usize = 8 << 20;

/// The key of one piece of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PieceKey {
    pub(super) first: Offset,
    pub(super) piece: u32,
}

impl PieceKey {
    pub(super) const fn new(first: Offset, piece: u32) -> Self {
        Self { first, piece }
    }

    pub(super) fn encode(self) -> [u8; 13] {
        let mut key = [GROUP_TABLE; 13];
        let numbers = self.first.get().to_be_bytes().into_iter().chain(self.piece.to_be_bytes());
        key.iter_mut().skip(1).zip(numbers).for_each(|(to, from)| *to = from);
        key
    }

    /// None for what is no key of a group.
    pub(super) fn decode(key: &[u8]) -> Option<Self> {
        let (&table, rest) = key.split_first()?;
        let (first, rest) = rest.split_first_chunk()?;
        let piece = rest.try_into().ok()?;
        (table == GROUP_TABLE)
            .then(|| Self::new(Offset::new(u64::from_be_bytes(*first)), u32::from_be_bytes(piece)))
    }
}

/// Where a group lies among all bytes ever appended, and the beginning of its frame, out of its first piece.
pub(super) fn open_first_piece(first: Offset, value: &[u8], salt: u64) -> Option<(u64, &[u8])> {
    let (place, rest) = value.split_first_chunk()?;
    let (crc, frame) = rest.split_first_chunk()?;
    (u32::from_le_bytes(*crc) == place_crc(first, place, salt)).then(|| (u64::from_le_bytes(*place), frame))
}

/// The batches that write a group, in the order in which they are to be applied.
pub(super) fn group_batches(frame: &[u8], first: Offset, place: u64, salt: u64) -> Vec<Batch> {
    let mut batches = vec![Batch::default()];
    let mut bytes = 0;
    for (piece, part) in frame.chunks(PIECE_BYTES).enumerate().skip(1) {
        if bytes + part.len() > BATCH_BYTES {
            batches.push(Batch::default());
            bytes = 0;
        }
        bytes += part.len();
        if let Some(batch) = batches.last_mut() {
            batch.insert(&PieceKey::new(first, piece as u32).encode(), part);
        }
    }
    let part = frame.get(..PIECE_BYTES).unwrap_or(frame);
    let mut value = Vec::with_capacity(PLACE_LEN + part.len());
    value.extend_from_slice(&place.to_le_bytes());
    value.extend_from_slice(&place_crc(first, &place.to_le_bytes(), salt).to_le_bytes());
    value.extend_from_slice(part);
    if let Some(batch) = batches.last_mut() {
        batch.insert(&PieceKey::new(first, 0).encode(), value);
    }
    batches
}

/// Bytes of the frame in a value stored under `key`.
pub(super) fn frame_bytes(key: PieceKey, value: &[u8]) -> u64 {
    let place = if key.piece == 0 { PLACE_LEN } else { 0 };
    value.len().saturating_sub(place) as u64
}

/// A value of the log's own, with its checksum.
pub(super) fn seal(key: &[u8], number: &[u8]) -> Vec<u8> {
    let mut sealed = number.to_vec();
    sealed.extend_from_slice(&crc32c_append(crc32c(key), number).to_le_bytes());
    sealed
}

/// The number that was sealed, if it is undamaged.
pub(super) fn open<const N: usize>(key: &[u8], sealed: &[u8]) -> Option<[u8; N]> {
    let (number, crc) = sealed.split_first_chunk::<N>()?;
    let crc = crc.try_into().ok()?;
    (u32::from_le_bytes(crc) == crc32c_append(crc32c(key), number)).then_some(*number)
}

fn place_crc(first: Offset, place: &[u8], salt: u64) -> u32 {
    crc32c_append(salted(salt, &PieceKey::new(first, 0).encode()), place)
}

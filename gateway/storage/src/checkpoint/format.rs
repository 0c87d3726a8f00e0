//! How a checkpoint lies in its file: header, blocks, footer. Bytes only, no files.
//!
//! Little-endian. The first 32 bytes keep their places in every later version, so that a file of a newer version is
//! told apart from a damaged one.
//!
//! | header, 32 bytes | | block header, 16 bytes | | footer, 36 bytes | |
//! |---:|---|---:|---|---:|---|
//! | 0 | magic `GWCHECKP` | 0 | magic `GWCB` | 0 | magic `GWCF` |
//! | 8 | format version, 1 | 4 | bytes of the rows, `u32` | 4 | blocks, `u32` |
//! | 12 | flags, 0 | 8 | rows, `u32` | 8 | rows, `u64` |
//! | 16 | applied offset | 12 | CRC32C, see below | 16 | bytes of the file, `u64` |
//! | 24 | 0 | | | 24 | applied offset |
//! | 28 | CRC32C of bytes 0 to 27 | | | 32 | CRC32C of everything before it |
//!
//! A block's checksum covers the applied offset, the block's number (both `u64`), bytes 0 to 11 of its header, and its
//! rows: a block of another checkpoint, or out of its place, does not pass. A row is a MessagePack array of two binaries:
//! the key, which begins with the byte of its table, and the value.

use crc32c::{crc32c, crc32c_append};
use serde::{Deserialize, Serialize};

use crate::offset::Offset;

/// The version this code writes and the only one it reads.
pub(super) const CHECKPOINT_FORMAT: u32 = 1;
pub(super) const HEADER_LEN: usize = 32;
pub(super) const BLOCK_HEADER_LEN: usize = 16;
pub(super) const FOOTER_LEN: usize = 36;
/// A block is written when it has this many bytes of rows or more.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// A block longer than this was not written by this code: a full block and the largest row.
pub(super) const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + (512 << 10);

const MAGIC: [u8; 8] = *b"GWCHECKP";
const BLOCK_MAGIC: [u8; 4] = *b"GWCB";
const FOOTER_MAGIC: [u8; 4] = *b"GWCF";

/// A row of the view.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row<'a> {
    /// The table's byte and the caller's key.
    #[serde(with = "serde_bytes", borrow)]
    pub(super) key: &'a [u8],
    #[serde(with = "serde_bytes", borrow)]
    pub(super) value: &'a [u8],
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) applied: Offset,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &self.version.to_le_bytes());
        put(&mut bytes, 16, &self.applied.get().to_le_bytes());
        let crc = crc32c(bytes.get(..28).unwrap_or_default());
        put(&mut bytes, 28, &crc.to_le_bytes());
        bytes
    }

    /// None if it is cut short or damaged.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (checked, crc) = bytes.split_at_checked(28)?;
        let whole = checked.starts_with(&MAGIC) && number(crc, 0)? == crc32c(checked);
        whole.then_some(Self { version: number(checked, 8)?, applied: offset(checked, 16)? })
    }
}

/// The header of the block `number`, whose rows are these.
pub(super) fn block_header(
    applied: Offset,
    number: u64,
    rows: u32,
    payload: &[u8],
) -> [u8; BLOCK_HEADER_LEN] {
    let mut bytes = [0; BLOCK_HEADER_LEN];
    put(&mut bytes, 0, &BLOCK_MAGIC);
    // A block has at most `BLOCK_BYTES_MAX` bytes.
    put(&mut bytes, 4, &u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    put(&mut bytes, 8, &rows.to_le_bytes());
    let crc = block_crc(applied, number, bytes.get(..12).unwrap_or_default(), payload);
    put(&mut bytes, 12, &crc.to_le_bytes());
    bytes
}

/// A block header as it lies there; only [`BlockHeader::is_whole`] tells whether it is to be believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockHeader {
    head: [u8; 12],
    pub(super) payload_len: usize,
    pub(super) rows: u32,
    crc: u32,
}

impl BlockHeader {
    /// None if this is no block, or longer than one can be.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let head = *bytes.first_chunk()?;
        let payload_len = number(bytes, 4)? as usize;
        let plausible = bytes.starts_with(&BLOCK_MAGIC) && payload_len <= BLOCK_BYTES_MAX;
        plausible.then_some(Self { head, payload_len, rows: number(bytes, 8)?, crc: number(bytes, 12)? })
    }

    pub(super) fn is_whole(&self, applied: Offset, number: u64, payload: &[u8]) -> bool {
        self.crc == block_crc(applied, number, &self.head, payload)
    }
}

/// What a footer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) blocks: u32,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) applied: Offset,
}

impl Footer {
    /// The footer's bytes, given the checksum of everything before it.
    pub(super) fn encode(self, whole_crc: u32) -> [u8; FOOTER_LEN] {
        let mut bytes = [0; FOOTER_LEN];
        put(&mut bytes, 0, &FOOTER_MAGIC);
        put(&mut bytes, 4, &self.blocks.to_le_bytes());
        put(&mut bytes, 8, &self.rows.to_le_bytes());
        put(&mut bytes, 16, &self.bytes.to_le_bytes());
        put(&mut bytes, 24, &self.applied.get().to_le_bytes());
        let crc = crc32c_append(whole_crc, bytes.get(..32).unwrap_or_default());
        put(&mut bytes, 32, &crc.to_le_bytes());
        bytes
    }

    /// The footer as it lies there, without looking at its checksum. None if this is no footer.
    pub(super) fn parse_unchecked(bytes: &[u8]) -> Option<Self> {
        let footer = Self {
            blocks: number(bytes, 4)?,
            rows: long(bytes, 8)?,
            bytes: long(bytes, 16)?,
            applied: offset(bytes, 24)?,
        };
        bytes.starts_with(&FOOTER_MAGIC).then_some(footer)
    }

    /// None if this is no footer, or does not follow bytes of this checksum.
    pub(super) fn parse(bytes: &[u8], whole_crc: u32) -> Option<Self> {
        let (checked, crc) = bytes.split_at_checked(32)?;
        let whole = number(crc, 0)? == crc32c_append(whole_crc, checked);
        whole.then(|| Self::parse_unchecked(bytes)).flatten()
    }
}

fn block_crc(applied: Offset, number: u64, head: &[u8], payload: &[u8]) -> u32 {
    let place = crc32c_append(crc32c(&applied.get().to_le_bytes()), &number.to_le_bytes());
    crc32c_append(crc32c_append(place, head), payload)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn offset(bytes: &[u8], at: usize) -> Option<Offset> {
    long(bytes, at).map(Offset::new)
}

/// Copies `field` into a fixed header; every caller's place is a constant inside it.
fn put(header: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = header.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

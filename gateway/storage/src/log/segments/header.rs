//! The header of a segment file, format version 1.
//!
//! Little-endian, 40 bytes, and the same again: one damaged byte must not cost a segment its salt, without which none
//! of its groups can be told from noise.
//!
//! | at | bytes | what |
//! |---:|---:|---|
//! | 0 | 8 | magic `GWSEGMNT` |
//! | 8 | 2 | format version, 1 |
//! | 10 | 2 | flags, 0 |
//! | 12 | 8 | first offset, as in the file's name |
//! | 20 | 8 | commit time of the last group before this segment, milliseconds since the Unix epoch |
//! | 28 | 8 | salt of the log |
//! | 36 | 4 | CRC32C of bytes 0 to 35 |

use crc32c::crc32c;

use crate::frame::put;
use crate::offset::Offset;

const COPY_LEN: usize = 40;
/// Bytes in front of the first group.
pub(super) const FILE_HEADER_LEN: usize = 2 * COPY_LEN;
const MAGIC: [u8; 8] = *b"GWSEGMNT";
/// The version this code writes and the newest it reads.
pub(super) const FILE_VERSION: u16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) version: u16,
    pub(super) first: Offset,
    /// No group of this segment has an earlier commit time, no group before it a later one.
    pub(super) base_time_ms: u64,
    pub(super) salt: u64,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER_LEN] {
        let mut copy = [0; COPY_LEN];
        put(&mut copy, 0, &MAGIC);
        put(&mut copy, 8, &self.version.to_le_bytes());
        put(&mut copy, 12, &self.first.get().to_le_bytes());
        put(&mut copy, 20, &self.base_time_ms.to_le_bytes());
        put(&mut copy, 28, &self.salt.to_le_bytes());
        let crc = crc32c(copy.get(..36).unwrap_or_default());
        put(&mut copy, 36, &crc.to_le_bytes());
        let mut both = [0; FILE_HEADER_LEN];
        put(&mut both, 0, &copy);
        put(&mut both, COPY_LEN, &copy);
        both
    }

    /// The header at the front of a file, from whichever copy is undamaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Self::decode_copy(bytes).or_else(|| Self::decode_copy(bytes.get(COPY_LEN..)?))
    }

    /// How many of the two copies at the front of a file are undamaged.
    pub(super) fn whole_copies(bytes: &[u8]) -> usize {
        let copies = bytes.chunks_exact(COPY_LEN).take(2);
        copies.filter(|copy| Self::decode_copy(copy).is_some()).count()
    }

    fn decode_copy(bytes: &[u8]) -> Option<Self> {
        let copy: &[u8; COPY_LEN] = bytes.first_chunk()?;
        let (checked, crc) = copy.split_last_chunk()?;
        if !checked.starts_with(&MAGIC) || u32::from_le_bytes(*crc) != crc32c(checked) {
            return None;
        }
        Some(Self {
            version: u16::from_le_bytes(*copy.get(8..)?.first_chunk()?),
            first: Offset::new(u64::from_le_bytes(*copy.get(12..)?.first_chunk()?)),
            base_time_ms: u64::from_le_bytes(*copy.get(20..)?.first_chunk()?),
            salt: u64::from_le_bytes(*copy.get(28..)?.first_chunk()?),
        })
    }
}

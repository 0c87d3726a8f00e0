//! The frame of one commit group, format version 1.
//!
//! **Constraints.** A group is written with one contiguous write, so the header has room at the front of the open
//! group's buffer and is filled in when the group is committed. A damaged group must cost that group alone: the
//! header carries a checksum of its own, so that its length can be trusted when the body cannot. Payloads are
//! chosen by strangers: both checksums begin with the log's secret salt, so that no payload can pass for a group when a
//! reader searches for the next one behind a damaged header.
//!
//! **Format**, little-endian, 40 bytes, then the entries:
//!
//! | at | bytes | what |
//! |---:|---:|---|
//! | 0 | 4 | magic `GWGR` |
//! | 4 | 2 | format version, 1 |
//! | 6 | 2 | flags: bit 0, the body is compressed ([`crate::compression`]); the others 0 |
//! | 8 | 4 | length of the body in bytes |
//! | 12 | 4 | entries in the body |
//! | 16 | 8 | offset of the first entry |
//! | 24 | 8 | commit time, milliseconds since the Unix epoch |
//! | 32 | 4 | CRC32C of salt, bytes 0 to 31 and body |
//! | 36 | 4 | CRC32C of salt and bytes 0 to 35 |

use crc32c::{crc32c, crc32c_append};

use crate::compression;
use crate::log::GroupInfo;
use crate::offset::Offset;

/// Bytes of the header in front of the entries.
pub(crate) const FRAME_HEADER_LEN: usize = 40;
/// What a group begins with.
pub(crate) const FRAME_MAGIC: [u8; 4] = *b"GWGR";
/// The version this code writes and the newest it reads.
pub(crate) const FRAME_VERSION: u16 = 1;
/// The flag of a group whose body is a length and an LZ4 block.
pub(crate) const FLAG_LZ4: u16 = 1;

/// A header whose own checksum holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) version: u16,
    pub(crate) flags: u16,
    pub(crate) body_len: u32,
    pub(crate) entries: u32,
    pub(crate) first: Offset,
    pub(crate) time_ms: u64,
    crc: u32,
}

impl FrameHeader {
    /// Reads the header at the front of `bytes`. None if it is cut short or damaged.
    pub(crate) fn parse(bytes: &[u8], salt: u64) -> Option<Self> {
        let header: &[u8; FRAME_HEADER_LEN] = bytes.first_chunk()?;
        let (checked, crc) = header.split_last_chunk()?;
        if !checked.starts_with(&FRAME_MAGIC) || u32::from_le_bytes(*crc) != salted(salt, checked) {
            return None;
        }
        Some(Self {
            version: u16::from_le_bytes(*header.get(4..)?.first_chunk()?),
            flags: u16::from_le_bytes(*header.get(6..)?.first_chunk()?),
            body_len: u32::from_le_bytes(*header.get(8..)?.first_chunk()?),
            entries: u32::from_le_bytes(*header.get(12..)?.first_chunk()?),
            first: Offset::new(u64::from_le_bytes(*header.get(16..)?.first_chunk()?)),
            time_ms: u64::from_le_bytes(*header.get(24..)?.first_chunk()?),
            crc: u32::from_le_bytes(*header.get(32..)?.first_chunk()?),
        })
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_len(&self) -> usize {
        FRAME_HEADER_LEN + self.body_len as usize
    }

    /// The offset right after the group's last entry.
    pub(crate) fn end(&self) -> Offset {
        self.first.plus(u64::from(self.entries))
    }

    /// Whether the body is compressed.
    pub(crate) fn is_packed(&self) -> bool {
        self.flags & FLAG_LZ4 != 0
    }

    /// Whether this version can read the body, if it is undamaged.
    pub(crate) fn is_known(&self) -> bool {
        self.version == FRAME_VERSION && self.flags & !FLAG_LZ4 == 0
    }

    /// The bytes of the entries once they are unpacked; None if the body is cut short or says what cannot be.
    pub(crate) fn unpacked_len(&self, frame: &[u8]) -> Option<usize> {
        let body = frame.get(FRAME_HEADER_LEN..self.frame_len())?;
        if self.is_packed() && self.is_known() { compression::unpacked_len(body) } else { Some(body.len()) }
    }

    /// Whether `frame`, which begins with this header, holds the whole group undamaged.
    pub(crate) fn is_whole(&self, frame: &[u8], salt: u64) -> bool {
        let (Some(head), Some(body)) = (frame.get(..32), frame.get(FRAME_HEADER_LEN..self.frame_len()))
        else {
            return false;
        };
        crc32c_append(salted(salt, head), body) == self.crc && self.unpacked_len(frame).is_some()
    }
}

/// Fills in the header at the front of `frame`, whose remaining bytes are the entries.
///
/// Returns false, and leaves the frame alone, if it has no room for a header or is longer than a group may be.
pub(crate) fn seal(frame: &mut [u8], info: &GroupInfo, salt: u64) -> bool {
    seal_as(frame, info, salt, 0)
}

/// As [`seal`], for a body that is what `flags` say.
pub(crate) fn seal_as(frame: &mut [u8], info: &GroupInfo, salt: u64, flags: u16) -> bool {
    let Some((header, body)) = frame.split_first_chunk_mut::<FRAME_HEADER_LEN>() else { return false };
    let Ok(body_len) = u32::try_from(body.len()) else { return false };
    let mut head = [0; FRAME_HEADER_LEN];
    put(&mut head, 0, &FRAME_MAGIC);
    put(&mut head, 4, &FRAME_VERSION.to_le_bytes());
    put(&mut head, 6, &flags.to_le_bytes());
    put(&mut head, 8, &body_len.to_le_bytes());
    put(&mut head, 12, &info.entries.to_le_bytes());
    put(&mut head, 16, &info.first.get().to_le_bytes());
    put(&mut head, 24, &info.time_ms.to_le_bytes());
    let crc = crc32c_append(salted(salt, head.get(..32).unwrap_or_default()), body);
    put(&mut head, 32, &crc.to_le_bytes());
    let header_crc = salted(salt, head.get(..36).unwrap_or_default());
    put(&mut head, 36, &header_crc.to_le_bytes());
    *header = head;
    true
}

/// CRC32C of the salt followed by `bytes`.
pub(crate) fn salted(salt: u64, bytes: &[u8]) -> u32 {
    crc32c_append(crc32c(&salt.to_le_bytes()), bytes)
}

/// Copies `field` into a fixed header; every caller's place is a constant inside it.
pub(crate) fn put(header: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = header.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

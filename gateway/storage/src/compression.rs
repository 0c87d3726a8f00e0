//! Groups made smaller on their way into the log.
//!
//! **Promises.** A group is compressed as a whole, after everything that can wait for it has been put into it and outside
//! of every lock; one that does not get smaller is written as it is. Memory for unpacking is bounded by what the
//! checksummed group says, and that by what LZ4 can do at all. Nothing in a file makes this panic.
//!
//! The header of the group says by a flag that the body is compressed ([`crate::frame`]). The body is then the length of
//! the entries in bytes (32 bits, little-endian) and one LZ4 block.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use crate::frame::{self, FLAG_LZ4, FRAME_HEADER_LEN};
use crate::log::GroupInfo;

/// Bytes of the length in front of an LZ4 block.
const LEN_BYTES: usize = size_of::<u32>();

/// No group has more bytes of entries: places in it fit 31 bits, see [`crate::group_commit::GROUP_BYTES_LIMIT`].
const UNPACKED_BYTES_MAX: u32 = i32::MAX as u32;

/// One byte of an LZ4 block stands for at most this many; a few more at its end.
const LZ4_RATIO_MAX: usize = 256;

/// What becomes of a group before it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// It is written as it is.
    #[default]
    None,
    /// Its entries are compressed with LZ4, if that makes them smaller. Costs processor time on the committer thread and
    /// whenever the group is read back; readers of recent groups in memory do not pay.
    Lz4,
}

/// Compresses groups, with memory of its own that is used again.
pub(crate) struct Packer {
    table: CompressTable,
    frame: Vec<u8>,
    /// Memory is not kept beyond this.
    kept_bytes_max: usize,
}

impl Packer {
    /// A packer for groups of commonly up to `group_bytes_max`; a larger one costs an allocation.
    pub(crate) fn new(group_bytes_max: usize) -> Self {
        let kept_bytes_max = FRAME_HEADER_LEN + LEN_BYTES + get_maximum_output_size(group_bytes_max);
        Self { table: CompressTable::large(), frame: Vec::new(), kept_bytes_max }
    }

    /// The sealed frame of a group whose entries follow the room for the header in `bytes`. None if it would not be
    /// smaller than without compression.
    pub(crate) fn pack(&mut self, bytes: &[u8], info: &GroupInfo, salt: u64) -> Option<&[u8]> {
        let entries = bytes.get(FRAME_HEADER_LEN..)?;
        let len = u32::try_from(entries.len()).ok().filter(|len| *len <= UNPACKED_BYTES_MAX)?;
        let block_at = FRAME_HEADER_LEN + LEN_BYTES;
        let room = block_at + get_maximum_output_size(entries.len());
        if room <= self.kept_bytes_max {
            self.frame.truncate(self.kept_bytes_max);
            self.frame.shrink_to(self.kept_bytes_max);
        }
        if self.frame.len() < room {
            self.frame.resize(room, 0);
        }
        let block = self.frame.get_mut(block_at..)?;
        let block_len = compress_into_with_table(entries, block, &mut self.table).ok()?;
        if LEN_BYTES + block_len >= entries.len() {
            return None;
        }
        let frame = self.frame.get_mut(..block_at + block_len)?;
        frame::put(frame, FRAME_HEADER_LEN, &len.to_le_bytes());
        frame::seal_as(frame, info, salt, FLAG_LZ4).then_some(frame)
    }
}

/// The bytes of entries that this compressed body says it holds; None if no such body can hold them.
pub(crate) fn unpacked_len(body: &[u8]) -> Option<usize> {
    let (len, block) = body.split_first_chunk()?;
    let len = u32::from_le_bytes(*len);
    let possible = block.len().saturating_mul(LZ4_RATIO_MAX);
    (len <= UNPACKED_BYTES_MAX && len as usize <= possible).then_some(len as usize)
}

/// Appends the entries of a compressed body to `into`. False, and nothing is appended, if it holds anything else than it
/// says.
pub(crate) fn unpack(body: &[u8], into: &mut Vec<u8>) -> bool {
    let (Some(len), Some(block)) = (unpacked_len(body), body.get(LEN_BYTES..)) else { return false };
    let start = into.len();
    into.resize(start + len, 0);
    let place = into.get_mut(start..).unwrap_or_default();
    let whole = decompress_into(block, place).is_ok_and(|written| written == len);
    if !whole {
        into.truncate(start);
    }
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::FrameHeader;
    use crate::offset::Offset;

    const SALT: u64 = 77;

    fn info() -> GroupInfo {
        GroupInfo { first: Offset::new(5), entries: 3, time_ms: 9 }
    }

    fn with_room(entries: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; FRAME_HEADER_LEN];
        bytes.extend_from_slice(entries);
        bytes
    }

    proptest! {
        /// Whatever was packed before with the same memory, a group comes back as it was or is not packed.
        #[test]
        fn a_packed_group_unpacks_to_what_it_was(
            groups in proptest::collection::vec(
                (proptest::collection::vec(0_u8..3, 0..3000), proptest::collection::vec(any::<u8>(), 0..300)),
                1..5,
            ),
        ) {
            let mut packer = Packer::new(1000);
            for (alike, random) in groups {
                let entries = [random, alike].concat();
                let Some(frame) = packer.pack(&with_room(&entries), &info(), SALT) else { continue };
                prop_assert!(frame.len() < FRAME_HEADER_LEN + entries.len());
                let header = FrameHeader::parse(frame, SALT).unwrap();
                prop_assert!(header.is_whole(frame, SALT) && header.flags == FLAG_LZ4);
                prop_assert_eq!((header.first, header.entries, header.time_ms), (Offset::new(5), 3, 9));
                prop_assert_eq!(header.unpacked_len(frame), Some(entries.len()));
                let mut unpacked = vec![1, 2, 3];
                prop_assert!(unpack(&frame[FRAME_HEADER_LEN..], &mut unpacked));
                prop_assert_eq!(unpacked, [vec![1, 2, 3], entries].concat());
            }
        }

        /// Any bytes at all end in an answer, and never in more memory than the bytes could stand for.
        #[test]
        fn rubbish_is_refused(body in proptest::collection::vec(any::<u8>(), 0..200), len in 0_u32..5000) {
            for mut body in [body.clone(), [&len.to_le_bytes(), body.as_slice()].concat()] {
                let mut unpacked = vec![7];
                let done = unpack(&body, &mut unpacked);
                prop_assert!(unpacked.len() <= 1 + body.len() * LZ4_RATIO_MAX);
                prop_assert!(done || unpacked == [7]);
                body.truncate(3);
                prop_assert!(!unpack(&body, &mut unpacked));
            }
        }
    }

    #[test]
    fn what_does_not_get_smaller_is_not_packed() {
        let mut packer = Packer::new(1000);
        let mut random = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 56) as u8
        })
        .take(5000)
        .collect();
        for entries in [&noise[..], b"", b"x", b"abcdefgh"] {
            assert!(packer.pack(&with_room(entries), &info(), SALT).is_none());
        }
        assert!(packer.pack(&[0; 3], &info(), SALT).is_none(), "no room for a header");
        assert!(packer.pack(&with_room(&[b'x'; 50]), &info(), SALT).is_some());
    }

    #[test]
    fn memory_for_an_unusually_large_group_is_not_kept() {
        let mut packer = Packer::new(1000);
        assert!(packer.pack(&with_room(&[b'x'; 100_000]), &info(), SALT).is_some());
        assert!(packer.frame.capacity() > 100_000);
        assert!(packer.pack(&with_room(&[b'x'; 100]), &info(), SALT).is_some());
        assert!(packer.frame.capacity() < 2000);
    }

    #[test]
    fn a_claim_beyond_what_the_bytes_can_stand_for_is_damage() {
        let mut packer = Packer::new(1000);
        let mut frame = packer.pack(&with_room(&[b'x'; 500]), &info(), SALT).unwrap().to_vec();
        for claimed in [u32::MAX, UNPACKED_BYTES_MAX + 1, 100_000] {
            frame::put(&mut frame, FRAME_HEADER_LEN, &claimed.to_le_bytes());
            assert!(frame::seal_as(&mut frame, &info(), SALT, FLAG_LZ4));
            let header = FrameHeader::parse(&frame, SALT).unwrap();
            assert!(!header.is_whole(&frame, SALT), "{claimed}");
        }
    }

    fn golden(hex: &str) -> Vec<u8> {
        let digits: String = hex.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    /// A group written once and readable for good. What LZ4 makes of the same entries may change, what it means may not.
    #[test]
    fn the_golden_compressed_group_holds_the_entries_of_the_golden_group() {
        let salt = 0x0123_4567_89ab_cdef;
        let plain = golden(include_str!("../golden/group-v1.hex"));
        let packed = golden(include_str!("../golden/group-v1-lz4.hex"));
        let header = FrameHeader::parse(&packed, salt).unwrap();
        assert!(header.is_whole(&packed, salt) && header.is_packed() && header.is_known());
        assert_eq!((header.first, header.entries), (Offset::new(1_000_000), 16));
        let mut entries = Vec::new();
        assert!(unpack(&packed[FRAME_HEADER_LEN..], &mut entries));
        assert_eq!(entries, plain[FRAME_HEADER_LEN..]);
        let info = GroupInfo { first: header.first, entries: 16, time_ms: header.time_ms };
        let again = Packer::new(1000).pack(&plain, &info, salt).unwrap().to_vec();
        assert_eq!(again[..8], packed[..8], "magic, version and flags");
    }
}

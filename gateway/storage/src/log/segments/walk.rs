//! From group header to group header through a segment file, past damage.

use std::io;

use super::disk::{SegmentFile, read_full};
use crate::frame::{FRAME_HEADER_LEN, FRAME_MAGIC, FrameHeader};
use crate::offset::Offset;

/// What is read at once. Small groups then share a read, and large ones cost one each.
const WINDOW_BYTES: usize = 64 << 10;

/// What a disk writes as a whole: a write that was interrupted leaves at least so much of its space as it was.
const UNWRITTEN_BYTES: u64 = 512;

/// One step of a walk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A group whose header is undamaged; its body may not be.
    Group { at: u64, header: FrameHeader },
    /// Bytes that are no group, from `at` to the next group or the end. `end` is the offset of that next group.
    Damaged { at: u64, bytes: u64, first: Offset, end: Option<Offset> },
}

/// Walks over the groups between two places of a file.
pub(super) struct Walk<'a> {
    file: &'a dyn SegmentFile,
    salt: u64,
    /// Where the next group begins.
    pub(super) at: u64,
    /// Nothing is read beyond it.
    end: u64,
    /// The offset the next group begins with, or a later one.
    pub(super) expected: Offset,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(file: &'a dyn SegmentFile, salt: u64, at: u64, end: u64, expected: Offset) -> Self {
        Self { file, salt, at, end, expected, window: Vec::new(), window_at: 0 }
    }

    /// The next group or damage; None at the end, and where nothing but zeros follows: space that was reserved and
    /// never used.
    pub(super) fn step(&mut self) -> io::Result<Option<Step>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let at = self.at;
        if let Some(header) = self.header_at(at)? {
            let frame_end = at + header.frame_len() as u64;
            if header.first >= self.expected && frame_end <= self.end {
                self.at = frame_end;
                self.expected = header.end();
                return Ok(Some(Step::Group { at, header }));
            }
        } else if self.is_zero_from(at)? {
            self.at = self.end;
            return Ok(None);
        }
        let first = self.expected;
        let next = self.find_group(at + 1)?;
        self.at = next.map_or(self.end, |(at, _)| at);
        let end = next.map(|(_, header)| header.first);
        Ok(Some(Step::Damaged { at, bytes: self.at - at, first, end }))
    }

    /// Whether the group is whole, body included.
    pub(super) fn is_whole(&mut self, at: u64, header: &FrameHeader) -> io::Result<bool> {
        let salt = self.salt;
        if header.frame_len() <= WINDOW_BYTES {
            let frame = self.window_from(at, header.frame_len())?;
            return Ok(header.is_whole(frame, salt));
        }
        let mut frame = vec![0; header.frame_len()];
        let read = read_full(self.file, &mut frame, at)?;
        Ok(read == frame.len() && header.is_whole(&frame, salt))
    }

    /// Whether a whole header is at `at` and the end comes before the end of its group.
    pub(super) fn is_cut_short(&mut self, at: u64) -> io::Result<bool> {
        let header = self.header_at(at)?;
        Ok(header.is_some_and(|header| at + header.frame_len() as u64 > self.end))
    }

    /// Whether the group's last bytes are zeros, so many that what was to be there was most likely never written.
    pub(super) fn ends_in_zeros(&mut self, at: u64, header: &FrameHeader) -> io::Result<bool> {
        let len = u64::from(header.body_len).min(UNWRITTEN_BYTES);
        let mut tail = [0xff; UNWRITTEN_BYTES as usize];
        let Some(tail) = tail.get_mut(..len as usize) else { return Ok(false) };
        let read = read_full(self.file, tail, at + header.frame_len() as u64 - len)?;
        Ok(read == tail.len() && len > 0 && tail.iter().all(|byte| *byte == 0))
    }

    /// The next place, from `at` on, where a whole group begins. Both checksums must hold: this is a search through
    /// bytes that strangers chose.
    fn find_group(&mut self, mut at: u64) -> io::Result<Option<(u64, FrameHeader)>> {
        while at + FRAME_HEADER_LEN as u64 <= self.end {
            let window = self.window_from(at, FRAME_HEADER_LEN)?;
            let magic = window.windows(FRAME_MAGIC.len()).position(|bytes| bytes == FRAME_MAGIC);
            let Some(found) = magic else {
                // The magic may lie across the end of the window.
                at += (window.len().saturating_sub(FRAME_MAGIC.len() - 1)).max(1) as u64;
                continue;
            };
            at += found as u64;
            if let Some(header) = self.header_at(at)?
                && header.first >= self.expected
                && at + header.frame_len() as u64 <= self.end
                && self.is_whole(at, &header)?
            {
                return Ok(Some((at, header)));
            }
            at += 1;
        }
        Ok(None)
    }

    fn header_at(&mut self, at: u64) -> io::Result<Option<FrameHeader>> {
        let salt = self.salt;
        Ok(FrameHeader::parse(self.window_from(at, FRAME_HEADER_LEN)?, salt))
    }

    fn is_zero_from(&mut self, mut at: u64) -> io::Result<bool> {
        while at < self.end {
            let window = self.window_from(at, 1)?;
            if window.is_empty() || window.iter().any(|byte| *byte != 0) {
                return Ok(window.is_empty());
            }
            at += window.len() as u64;
        }
        Ok(true)
    }

    /// The bytes from `at` on, at least `needed` of them unless the end is nearer.
    fn window_from(&mut self, at: u64, needed: usize) -> io::Result<&[u8]> {
        let within = at.checked_sub(self.window_at).map_or(usize::MAX, |within| within as usize);
        let enough = self.window.len().checked_sub(within).is_some_and(|have| have >= needed);
        if enough {
            return Ok(self.window.get(within..).unwrap_or_default());
        }
        let len = self.end.saturating_sub(at).min(WINDOW_BYTES as u64) as usize;
        self.window.resize(len, 0);
        let read = read_full(self.file, &mut self.window, at)?;
        self.window.truncate(read);
        self.window_at = at;
        Ok(&self.window)
    }
}

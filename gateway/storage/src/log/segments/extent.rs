//! How much of a segment file that may be written to at this moment is groups.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use super::disk::{SegmentFile, read_full};
use super::header::{FILE_HEADER_LEN, FileHeader};
use super::walk::{Step, Walk};
use crate::frame::FrameHeader;
use crate::offset::Offset;

/// How long the write of one group may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Where the groups of `file` end, and with which offset: everything that was appended when this was called is in front of it, and
/// nothing there is still being written. Groups are appended one after the other, so only the last one found can be unfinished; it is waited
/// for, and left out if it stays so. None where the header of the file tells nothing.
pub(crate) fn written(file: &File) -> io::Result<Option<(u64, Offset)>> {
    let mut head = [0; FILE_HEADER_LEN];
    read_full(file, &mut head, 0)?;
    let Some(header) = FileHeader::decode(&head) else { return Ok(None) };
    let size = SegmentFile::size(file)?;
    let begin = FILE_HEADER_LEN as u64;
    let mut walk = Walk::new(file, header.salt, begin, size, header.first);
    let mut before = (begin, header.first);
    let mut last: Option<(u64, FrameHeader)> = None;
    while let Some(step) = walk.step()? {
        if let Step::Group { at, header } = step {
            if let Some((at, header)) = last {
                before = (at + header.frame_len() as u64, header.end());
            }
            last = Some((at, header));
        }
    }
    let Some((at, group)) = last else { return Ok(Some(before)) };
    let end = at + group.frame_len() as u64;
    let deadline = Instant::now() + WRITE_TIMEOUT;
    loop {
        // A walk keeps what it has read: a new one looks again.
        if Walk::new(file, header.salt, at, end, group.first).is_whole(at, &group)? {
            return Ok(Some((end, group.end())));
        }
        if Instant::now() >= deadline {
            return Ok(Some(before));
        }
        // Another process writes it: nothing tells when it has.
        std::thread::park_timeout(LOOK_EVERY);
    }
}

//! What is found when a directory of segments is opened.
//!
//! Only the last segment is read through: everything before it was whole when the next one was begun. Damage within
//! the last one is left where it is and passed over by readers; what follows the last whole group is cut off.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::disk::{Disk, SegmentFile, read_full};
use super::header::{FILE_HEADER_LEN, FILE_VERSION, FileHeader};
use super::table::Segment;
use super::walk::{Step, Walk};
use crate::frame::{FRAME_VERSION, FrameHeader};
use crate::log::{SkippedGroup, TailShows, TornTail};
use crate::offset::Offset;

/// What opening the log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Files of the log.
    pub segments: usize,
    /// Bytes of groups and headers.
    pub bytes: u64,
    /// The earliest offset.
    pub earliest: Offset,
    /// The offset the log continues at.
    pub next_offset: Offset,
    /// What was cut off behind the last whole group: a write that a crash interrupted, and then none of it was acknowledged
    /// after a sync. Damage in the last groups may look the same; [`TailShows`] says what is known.
    pub torn_tail: Option<TornTail>,
    /// Damaged groups in the last segment. Those in earlier ones are found when they are read.
    pub skipped: Vec<SkippedGroup>,
    /// Files whose headers are damaged and were put together from their names and their neighbours.
    pub damaged_headers: Vec<PathBuf>,
    /// A last file that a crash left without a header, and that was removed.
    pub unfinished: Option<PathBuf>,
}

/// Why the log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process, or another log in this one, has the directory open.
    #[error("{} is in use by another process (process id {holder})", dir.display())]
    Locked {
        /// Which directory.
        dir: PathBuf,
        /// What the lock file says about the holder.
        holder: String,
    },
    /// The system refused or failed.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file was written by a newer version of this software.
    #[error(
        "{} has format version {found}, and this version reads up to {known}: it was written by a newer gateway",
        file.display()
    )]
    NewerFormat {
        /// Which file.
        file: PathBuf,
        /// The version found.
        found: u16,
        /// The newest version this software reads.
        known: u16,
    },
    /// A group has flags that only a newer version of this software gives a meaning.
    #[error(
        "{} holds a group with flags {flags:#06x}, which this version does not know: it was written by a newer gateway",
        file.display()
    )]
    UnknownFlags {
        /// Which file.
        file: PathBuf,
        /// The flags found.
        flags: u16,
    },
    /// The directory has a log of another kind than the one asked for.
    #[error(
        "{} holds a log of the kind \"{found}\", and storage.log asks for \"{configured}\": a log stays what it was made as",
        dir.display()
    )]
    OtherKind {
        /// Which directory.
        dir: PathBuf,
        /// What it holds.
        found: &'static str,
        /// What was asked for.
        configured: &'static str,
    },
    /// Both copies of a header are damaged and no other file can stand in.
    #[error("the header of {} is damaged, and no other segment is left to tell how to read it", file.display())]
    DamagedHeader {
        /// Which file.
        file: PathBuf,
    },
    /// A file's name and its header name different offsets.
    #[error("{} begins at offset {found} according to its header: it was renamed", file.display())]
    Misnamed {
        /// Which file.
        file: PathBuf,
        /// The offset in the header.
        found: Offset,
    },
}

/// A directory after recovery: everything the log needs to go on.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) salt: Option<u64>,
    pub(super) segments: Vec<Arc<Segment>>,
    /// The file to go on writing, and its length; None in an empty directory.
    pub(super) active: Option<(Box<dyn SegmentFile>, u64)>,
    pub(super) last_time_ms: u64,
    pub(super) report: RecoveryReport,
}

/// The name of the segment that begins at `first`.
pub(super) fn file_name(first: Offset) -> String {
    format!("{:020}.log", first.get())
}

/// Opens every segment's header and recovers the last one.
pub(super) fn recover(dir: &Path, disk: &dyn Disk) -> Result<Recovered, OpenError> {
    let mut report = RecoveryReport::default();
    let names = disk.list(dir).map_err(io_error("list", dir))?;
    let mut firsts: Vec<Offset> = names.iter().filter_map(first_of).collect();
    firsts.sort_unstable();
    let mut files = Vec::new();
    for first in firsts {
        files.push(Found::open(dir.join(file_name(first)), first, disk)?);
    }
    if let Some(last) = files.pop_if(|last| last.unfinished) {
        disk.remove(&last.path).map_err(io_error("remove", &last.path))?;
        disk.sync_dir(dir).map_err(io_error("sync", dir))?;
        report.unfinished = Some(last.path);
    }
    let salt = files.iter().find_map(|file| file.header).map(|header| header.salt);
    let mut segments = Vec::new();
    let mut base_time_ms = 0;
    for file in &files {
        match file.header {
            Some(header) => base_time_ms = header.base_time_ms,
            None if salt.is_none() => return Err(OpenError::DamagedHeader { file: file.path.clone() }),
            None => report.damaged_headers.push(file.path.clone()),
        }
        report.bytes += file.len;
        segments.push(Arc::new(Segment::new(file.path.clone(), file.first, base_time_ms, file.len)));
    }
    report.segments = segments.len();
    report.earliest = files.first().map_or(Offset::ZERO, |file| file.first);
    let mut recovered = Recovered { salt, segments, active: None, last_time_ms: base_time_ms, report };
    if let (Some(last), Some(salt)) = (files.pop(), salt) {
        recovered.read_last(last, salt)?;
    }
    Ok(recovered)
}

struct Found {
    path: PathBuf,
    first: Offset,
    file: Box<dyn SegmentFile>,
    len: u64,
    header: Option<FileHeader>,
    /// A crash came between the creation of the file and the sync of its header: it never took a group.
    unfinished: bool,
}

impl Found {
    fn open(path: PathBuf, first: Offset, disk: &dyn Disk) -> Result<Self, OpenError> {
        let file = disk.open(&path).map_err(io_error("open", &path))?;
        let len = file.size().map_err(io_error("inspect", &path))?;
        let mut head = [0; FILE_HEADER_LEN];
        let read = read_full(file.as_ref(), &mut head, 0).map_err(io_error("read", &path))?;
        let header = FileHeader::decode(&head);
        if let Some(header) = header {
            if header.version > FILE_VERSION {
                return Err(OpenError::NewerFormat {
                    file: path,
                    found: header.version,
                    known: FILE_VERSION,
                });
            }
            if header.first != first {
                return Err(OpenError::Misnamed { file: path, found: header.first });
            }
        }
        let unfinished = header.is_none() && (read < FILE_HEADER_LEN || len == FILE_HEADER_LEN as u64);
        Ok(Self { path, first, file, len, header, unfinished })
    }
}

impl Recovered {
    /// Reads the last segment through and cuts off what is no whole group at its end.
    fn read_last(&mut self, last: Found, salt: u64) -> Result<(), OpenError> {
        let read_error = |source| OpenError::Io { doing: "read", path: last.path.clone(), source };
        let header_len = FILE_HEADER_LEN as u64;
        let mut walk = Walk::new(last.file.as_ref(), salt, header_len, last.len, last.first);
        // Damage is only known to lie within the segment once a whole group follows it.
        let mut pending: Vec<SkippedGroup> = Vec::new();
        let mut shows = TailShows::NoHeader;
        let (mut end, mut next_offset) = (header_len, last.first);
        while let Some(step) = walk.step().map_err(read_error)? {
            match step {
                Step::Group { at, header } if walk.is_whole(at, &header).map_err(read_error)? => {
                    check_known(&header, &last.path)?;
                    self.report.skipped.append(&mut pending);
                    end = walk.at;
                    next_offset = header.end();
                    self.last_time_ms = self.last_time_ms.max(header.time_ms);
                }
                Step::Group { at, header } => {
                    let (first, end) = (header.first, header.end());
                    shows = match walk.ends_in_zeros(at, &header).map_err(read_error)? {
                        true => TailShows::EndsInZeros,
                        false => TailShows::WrongChecksum,
                    };
                    let bytes = header.frame_len() as u64;
                    pending.push(SkippedGroup { first, end, bytes, file: last.path.clone(), at_byte: at });
                }
                Step::Damaged { at, bytes, first, end } => {
                    let end = end.unwrap_or(first);
                    shows = match walk.is_cut_short(at).map_err(read_error)? {
                        true => TailShows::CutShort,
                        false => TailShows::NoHeader,
                    };
                    pending.push(SkippedGroup { first, end, bytes, file: last.path.clone(), at_byte: at });
                }
            }
        }
        if let (Some(first), Some(last_damage)) = (pending.first(), pending.last()) {
            let bytes = last_damage.at_byte + last_damage.bytes - first.at_byte;
            if pending.len() > 1 {
                shows = TailShows::Several;
            }
            self.report.torn_tail = Some(TornTail { file: last.path.clone(), at_byte: end, bytes, shows });
        }
        if end < last.len {
            last.file.set_len(end).map_err(io_error("cut off", &last.path))?;
            last.file.sync_data().map_err(io_error("sync", &last.path))?;
        }
        if let Some(segment) = self.segments.last() {
            segment.set_readable(end);
        }
        self.report.bytes = self.report.bytes - last.len + end;
        self.report.next_offset = next_offset;
        self.active = Some((last.file, end));
        Ok(())
    }
}

/// Refuses a group this version cannot read.
fn check_known(header: &FrameHeader, file: &Path) -> Result<(), OpenError> {
    let (file, found, known) = (file.to_path_buf(), header.version, FRAME_VERSION);
    match header.is_known() {
        true => Ok(()),
        false if found == known => Err(OpenError::UnknownFlags { file, flags: header.flags }),
        false => Err(OpenError::NewerFormat { file, found, known }),
    }
}

fn first_of(name: &OsString) -> Option<Offset> {
    let number = name.to_str()?.strip_suffix(".log")?;
    let digits = number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| number.parse().ok().map(Offset::new))?
}

pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_path_buf();
    move |source| OpenError::Io { doing, path, source }
}

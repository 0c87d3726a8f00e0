//! Looking at a log that must stay as it is.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, SegmentFile, read_full};
use super::header::{FILE_HEADER_LEN, FILE_VERSION, FileHeader};
use super::reader::SegmentsReader;
use super::recover::{OpenError, Recovered, RecoveryReport, io_error, recover};
use super::table::Table;
use crate::log::LogReader;
use crate::offset::Offset;

/// A log as [`super::SegmentsLog::open`] would find it, and its reading end. Nothing is written.
pub(crate) struct Inspection {
    pub(crate) report: RecoveryReport,
    /// None in a directory without files.
    pub(crate) reader: Option<Arc<dyn LogReader>>,
    /// Files that have one whole copy of their header left.
    pub(crate) half_headers: Vec<PathBuf>,
}

/// Looks at the log in `dir`, which exists. Locking it is the caller's business.
pub(crate) fn inspect(dir: &Path) -> Result<Inspection, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(ReadOnly);
    let Recovered { salt, segments, report, .. } = recover(dir, disk.as_ref())?;
    let mut half_headers = Vec::new();
    for segment in &segments {
        let file = File::open(&segment.path).map_err(io_error("open", &segment.path))?;
        let mut head = [0; FILE_HEADER_LEN];
        read_full(&file, &mut head, 0).map_err(io_error("read", &segment.path))?;
        if FileHeader::whole_copies(&head) == 1 {
            half_headers.push(segment.path.clone());
        }
    }
    let reader = match (salt, segments.is_empty()) {
        (Some(salt), false) => {
            let table = Table::new(salt, segments, report.next_offset, report.bytes);
            Some(Arc::new(SegmentsReader::new(Arc::new(table), disk)) as Arc<dyn LogReader>)
        }
        _ => None,
    };
    Ok(Inspection { report, reader, half_headers })
}

/// Writes both copies of the header of `file`, a segment in `dir`, as they were: from the copy that is left, or from the
/// file's name and the groups around it. False if nothing tells what they were.
pub(crate) fn rewrite_header(dir: &Path, file: &Path) -> Result<bool, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(ReadOnly);
    let Recovered { salt: Some(salt), segments, report, .. } = recover(dir, disk.as_ref())? else {
        return Ok(false);
    };
    let Some(segment) = segments.iter().find(|segment| segment.path == file).cloned() else {
        return Ok(false);
    };
    let target = OpenOptions::new().read(true).write(true).open(file).map_err(io_error("open", file))?;
    let mut head = [0; FILE_HEADER_LEN];
    read_full(&target, &mut head, 0).map_err(io_error("read", file))?;
    let header = FileHeader::decode(&head).unwrap_or_else(|| {
        let first = segment.first;
        let table = Table::new(salt, segments, report.next_offset, report.bytes);
        let reader = SegmentsReader::new(Arc::new(table), disk);
        // The commit time of the last group before this file, or of the first one in it: either keeps times in order.
        let before = first.get().checked_sub(1).and_then(|last| reader.read_page(Offset::new(last), 1).ok());
        let base_time_ms = before.flatten().map_or(segment.base_time_ms, |page| page.batch.time_ms(0));
        FileHeader { version: FILE_VERSION, first, base_time_ms, salt }
    });
    target.write_all_at(&header.encode(), 0).map_err(io_error("write to", file))?;
    target.sync_data().map_err(io_error("sync", file))?;
    Ok(true)
}

/// The file system of this machine, of which nothing is changed: what would cut a file off or remove it does nothing,
/// what would write fails.
#[derive(Debug)]
struct ReadOnly;

#[derive(Debug)]
struct ReadOnlyFile(File);

impl Disk for ReadOnly {
    fn create(&self, _path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(ReadOnlyFile(File::open(path)?)))
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn available(&self, _dir: &Path) -> io::Result<u64> {
        Ok(0)
    }
}

impl SegmentFile for ReadOnlyFile {
    fn write_at(&self, _bytes: &[u8], _at: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        SegmentFile::read_at(&self.0, into, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _from: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}

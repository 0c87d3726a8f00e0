//! The data directory of a gateway that does not run, held so that none starts meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::copy::TemporaryCopy;
use super::{LogFormat, OfflineError};
use crate::log::segments::inspect;
use crate::log::{Log, LogReader, OpenError, RecoveryReport, SledLog, SledLogOptions};
use crate::view::lock::is_held;

/// A data directory, locked.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) data_dir: PathBuf,
    pub(super) format: Option<LogFormat>,
    locks: Vec<File>,
}

/// The log of a [`Place`], opened for reading only.
pub(super) struct OpenedLog {
    pub(super) report: RecoveryReport,
    pub(super) reader: Option<Arc<dyn LogReader>>,
    pub(super) half_headers: Vec<PathBuf>,
    /// What is read from, if that is a copy: in this order, for the log closes before its files go.
    _held: Option<SledLog>,
    copy: Option<TemporaryCopy>,
}

impl Place {
    /// Locks what is in `data_dir` for as long as the place is held.
    pub(super) fn hold(data_dir: &Path) -> Result<Self, OfflineError> {
        let metadata = std::fs::metadata(data_dir).map_err(OfflineError::io("open", data_dir))?;
        if !metadata.is_dir() {
            let source = io::ErrorKind::NotADirectory.into();
            return Err(OfflineError::io("open", data_dir)(source));
        }
        let mut place = Self { data_dir: data_dir.into(), format: None, locks: Vec::new() };
        for dir in [place.segments(), place.sled()] {
            place.locks.extend(lock(&dir, data_dir)?);
        }
        if is_held(&place.view()) {
            return Err(OfflineError::InUse { data_dir: data_dir.into(), holder: None });
        }
        place.format = match (has_segments(&place.segments())?, place.sled().join("db").exists()) {
            (true, true) => return Err(OfflineError::TwoLogs { data_dir: data_dir.into() }),
            (true, false) => Some(LogFormat::Segments),
            (false, true) => Some(LogFormat::Sled),
            (false, false) => None,
        };
        Ok(place)
    }

    /// Where the log lies when it is made of segments.
    pub(super) fn segments(&self) -> PathBuf {
        self.data_dir.join("log")
    }

    /// Where the log lies when it is in sled.
    pub(super) fn sled(&self) -> PathBuf {
        self.data_dir.join("log").join("sled")
    }

    pub(super) fn view(&self) -> PathBuf {
        self.data_dir.join("view")
    }

    pub(super) fn checkpoints(&self) -> PathBuf {
        self.data_dir.join("checkpoint")
    }

    /// The log without any change to it.
    pub(super) fn open_log(&self) -> Result<Result<OpenedLog, OpenError>, OfflineError> {
        Ok(match self.format {
            None => Ok(OpenedLog {
                report: RecoveryReport::default(),
                reader: None,
                half_headers: Vec::new(),
                _held: None,
                copy: None,
            }),
            Some(LogFormat::Segments) => inspect(&self.segments()).map(|inspection| OpenedLog {
                report: inspection.report,
                reader: inspection.reader,
                half_headers: inspection.half_headers,
                _held: None,
                copy: None,
            }),
            Some(LogFormat::Sled) => {
                let copy = TemporaryCopy::of(&self.sled())?;
                let opened = SledLog::open(copy.path(), SledLogOptions::default());
                opened.map_err(|error| self.renamed(error)).map(|(log, report)| OpenedLog {
                    report,
                    reader: Some(log.reader()),
                    half_headers: Vec::new(),
                    _held: Some(log),
                    copy: Some(copy),
                })
            }
        })
    }

    /// Names what lies in the copy of a log by where it lies in the store.
    pub(super) fn relocate(&self, path: &mut PathBuf, log: &OpenedLog) {
        if let Some(copy) = &log.copy
            && path.starts_with(copy.path())
        {
            *path = self.sled();
        }
    }

    /// The same for an error.
    fn renamed(&self, mut error: OpenError) -> OpenError {
        match &mut error {
            OpenError::Io { path, .. }
            | OpenError::NewerFormat { file: path, .. }
            | OpenError::UnknownFlags { file: path, .. }
            | OpenError::DamagedHeader { file: path } => *path = self.sled(),
            _ => {}
        }
        error
    }

    /// Lets go, so that somebody else can open what is here.
    pub(super) fn release(&mut self) {
        self.locks.clear();
    }
}

/// Locks a log's directory without leaving a trace; None if it was never opened.
fn lock(dir: &Path, data_dir: &Path) -> Result<Option<File>, OfflineError> {
    let path = dir.join("LOCK");
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(OfflineError::io("open", &path))?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let read = Read::by_ref(&mut file).take(32).read_to_string(&mut holder);
            let holder = read.ok().and_then(|_| holder.trim().parse().ok());
            Err(OfflineError::InUse { data_dir: data_dir.into(), holder })
        }
        Err(error) => Err(OfflineError::io("lock", &path)(error.into())),
    }
}

fn has_segments(dir: &Path) -> Result<bool, OfflineError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(OfflineError::io("list", dir))?,
    };
    for entry in entries {
        let name = entry.map_err(OfflineError::io("list", dir))?.file_name();
        if name.to_str().is_some_and(|name| name.ends_with(".log")) {
            return Ok(true);
        }
    }
    Ok(false)
}

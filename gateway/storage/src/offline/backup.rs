//! A copy of a store, also of one that a gateway is writing to: checkpoints, and the log from what the newest of them covers.
//!
//! The view is not copied: a start makes it anew from the newest checkpoint and the log after it, as it would after a crash. Files are
//! opened before anything is copied, checkpoints first, so what the gateway trims meanwhile is still read; and of the file that is being
//! written only what was complete when it was looked at. So everything that was acknowledged before the backup began is in it, and nothing
//! of it is half there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{OfflineError, VerifyReport, verify};
use crate::checkpoint;
use crate::log::segments::written;
use crate::offset::Offset;

/// Times that the files are opened anew because the gateway has trimmed its log meanwhile.
const TRIES: usize = 10;
const COPY_BYTES: usize = 1 << 20;
const PARTIAL_SUFFIX: &str = "partial";

/// What [`backup`] has made.
#[derive(Debug)]
pub struct BackupReport {
    /// Where it is.
    pub to: PathBuf,
    /// Bytes copied.
    pub bytes: u64,
    /// The offset after the last entry that is in it.
    pub end: Offset,
    /// The copy, read as a whole.
    pub verified: VerifyReport,
}

struct Source {
    name: String,
    file: File,
    /// How much of it is copied.
    bytes: u64,
}

/// What a backup is made of, opened.
struct Sources {
    checkpoints: Vec<Source>,
    segments: Vec<Source>,
    end: Offset,
}

/// Copies the store in `data_dir` to `to`, which must not exist, and reads the copy as a whole. Whether a gateway runs on the store makes no
/// difference. `progress` is told the bytes copied so far, and how many there are.
///
/// # Errors
///
/// When the system refuses or fails, when the log is in sled (which cannot be copied while it is written to), and when `to` exists. Nothing
/// of the copy is left then.
pub fn backup(
    data_dir: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<BackupReport, OfflineError> {
    if to.symlink_metadata().is_ok() {
        return Err(OfflineError::io("create", to)(io::ErrorKind::AlreadyExists.into()));
    }
    if data_dir.join("log").join("sled").join("db").exists() {
        return Err(OfflineError::InSled { data_dir: data_dir.to_owned() });
    }
    let sources = sources(data_dir)?;
    let mut name = to.as_os_str().to_owned();
    name.push(".");
    name.push(PARTIAL_SUFFIX);
    let partial = Partial::create(PathBuf::from(name))?;
    let bytes = copy(&sources, &partial.0, progress)?;
    let verified = verify(&partial.0)?;
    partial.finish(to)?;
    let verified = VerifyReport { data_dir: to.to_owned(), ..verified };
    Ok(BackupReport { to: to.to_owned(), bytes, end: sources.end, verified })
}

/// Opens everything, again if the gateway has trimmed its log behind a checkpoint that was not seen.
fn sources(data_dir: &Path) -> Result<Sources, OfflineError> {
    for _ in 1..TRIES {
        if let Some(sources) = try_sources(data_dir)? {
            return Ok(sources);
        }
    }
    // The last word is that of the verification: a log that begins behind its checkpoints is damage by now.
    try_sources(data_dir)?.ok_or_else(|| OfflineError::Moving { data_dir: data_dir.to_owned() })
}

fn try_sources(data_dir: &Path) -> Result<Option<Sources>, OfflineError> {
    let dir = data_dir.join("checkpoint");
    let mut checkpoints = Vec::new();
    let mut covered = Offset::ZERO;
    if dir.is_dir() {
        for found in checkpoint::list(&dir)? {
            let Some(file) = open(&found.path)? else { return Ok(None) };
            let bytes = file.metadata().map_err(OfflineError::io("look at", &found.path))?.len();
            covered = covered.max(found.applied);
            checkpoints.push(Source { name: name_of(&found.path), file, bytes });
        }
    }
    let dir = data_dir.join("log");
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&dir).map_err(OfflineError::io("list", &dir))? {
        let path = entry.map_err(OfflineError::io("list", &dir))?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            paths.push(path);
        }
    }
    // Named by their first offset, in as many digits as the largest one has.
    paths.sort();
    let first: Option<u64> = paths.first().and_then(|path| path.file_stem()?.to_str()?.parse().ok());
    let mut segments = Vec::new();
    for path in &paths {
        let Some(file) = open(path)? else { return Ok(None) };
        let bytes = file.metadata().map_err(OfflineError::io("look at", path))?.len();
        segments.push(Source { name: name_of(path), file, bytes });
    }
    if first.is_some_and(|first| first > covered.get()) {
        return Ok(None);
    }
    let mut end = covered;
    if let (Some(last), Some(path)) = (segments.last_mut(), paths.last())
        && let Some((bytes, after)) = written(&last.file).map_err(OfflineError::io("read", path))?
    {
        (last.bytes, end) = (bytes, after);
    }
    Ok(Some(Sources { checkpoints, segments, end }))
}

/// None: it is gone meanwhile.
fn open(path: &Path) -> Result<Option<File>, OfflineError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(OfflineError::io("open", path)),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn copy(sources: &Sources, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<u64, OfflineError> {
    let all = [("checkpoint", &sources.checkpoints), ("log", &sources.segments)];
    let total = all.iter().flat_map(|(_, sources)| *sources).map(|source| source.bytes).sum();
    let (mut done, mut buffer) = (0, vec![0; COPY_BYTES]);
    for (dir, sources) in all {
        let dir = to.join(dir);
        fs::create_dir(&dir).map_err(OfflineError::io("create", &dir))?;
        for source in sources {
            let target = dir.join(&source.name);
            let mut out = File::create_new(&target).map_err(OfflineError::io("create", &target))?;
            let mut from = (&source.file).take(source.bytes);
            loop {
                let read = from.read(&mut buffer).map_err(OfflineError::io("read", &target))?;
                let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
                out.write_all(bytes).map_err(OfflineError::io("write to", &target))?;
                done += read as u64;
                progress(done, total);
            }
            out.sync_all().map_err(OfflineError::io("sync", &target))?;
        }
        sync(&dir)?;
    }
    sync(to)?;
    Ok(done)
}

fn sync(dir: &Path) -> Result<(), OfflineError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(OfflineError::io("sync", dir))
}

/// A copy that is not whole yet; removed when dropped.
struct Partial(PathBuf);

impl Partial {
    fn create(path: PathBuf) -> Result<Self, OfflineError> {
        fs::create_dir(&path).map_err(OfflineError::io("create", &path))?;
        Ok(Self(path))
    }

    fn finish(self, to: &Path) -> Result<(), OfflineError> {
        fs::rename(&self.0, to).map_err(OfflineError::io("rename", &self.0))?;
        match to.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => sync(parent),
            None => sync(Path::new(".")),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Renamed by then, if it is whole.
        let _ = fs::remove_dir_all(&self.0);
    }
}

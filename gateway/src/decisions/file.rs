//! Decisions as lines of JSON in a file that is bounded: when it is full it becomes `.1`, what was `.1` becomes `.2`, and the last is given up.
//!
//! A thread of its own follows the log, so nobody who decides waits for a disk. What could not be written, and what the ring gave up before
//! it was, is counted, and said in the gateway's log once a minute at most.

use super::follow::Follower;
use super::log::DecisionLog;
use super::metrics;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often the thread looks whether there is something new.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Entries written at once.
const TOGETHER: usize = 1_024;
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Where decisions are written, and how much of them is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionFileOptions {
    /// The file.
    pub path: PathBuf,
    /// Bytes of one file.
    pub bytes_max: u64,
    /// How many files there are, the one being written included; at least 1.
    pub files: u32,
}

/// The thread that writes; ends, with all that is there written, when this is dropped.
#[derive(Debug)]
pub struct DecisionFile {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DecisionFile {
    /// Writes what is decided from now on. The file is appended to if it is there.
    ///
    /// # Errors
    /// When the file cannot be opened, or no thread started.
    pub fn start(log: &DecisionLog, options: DecisionFileOptions) -> io::Result<Self> {
        let writer = Writer::open(options)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let follower = log.follow(None);
        let thread = thread::Builder::new().name("decisions".to_owned()).spawn({
            let is_over = is_over.clone();
            move || run(follower, writer, &is_over)
        })?;
        Ok(Self { is_over, thread: Some(thread) })
    }
}

impl Drop for DecisionFile {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It ends in a panic only where this crate has a fault, which has been said then.
            let _ = thread.join();
        }
    }
}

fn run(mut follower: Follower, mut writer: Writer, is_over: &AtomicBool) {
    let mut lines = Vec::new();
    let mut said_at: Option<Instant> = None;
    loop {
        let ends = is_over.load(Ordering::Acquire);
        loop {
            let news = follower.take(TOGETHER);
            let count = news.decisions.len() as u64;
            lines.clear();
            for decision in &news.decisions {
                // A value of this crate, with string keys, into memory: nothing can go wrong.
                let _ = serde_json::to_writer(&mut lines, decision);
                lines.push(b'\n');
            }
            let written = writer.write(&lines);
            let missed = news.missed + if written.is_err() { count } else { 0 };
            if missed > 0 {
                metrics::file_missed(missed);
                if said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                    let error = written.err().map(|error| error.to_string());
                    tracing::warn!(missed, error, path = %writer.options.path.display(), "decisions are not in their file");
                    said_at = Some(Instant::now());
                }
            }
            if count == 0 {
                break;
            }
        }
        if ends {
            return;
        }
        thread::park_timeout(LOOK_EVERY);
    }
}

#[derive(Debug)]
struct Writer {
    options: DecisionFileOptions,
    file: Option<File>,
    bytes: u64,
}

impl Writer {
    fn open(options: DecisionFileOptions) -> io::Result<Self> {
        let file = append_to(&options.path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { options, file: Some(file), bytes })
    }

    /// Writes whole lines. After an error the file is opened anew the next time.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let written = self.try_write(lines);
        if written.is_err() {
            self.file = None;
        }
        written
    }

    fn try_write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + lines.len() as u64 > self.options.bytes_max {
            self.file = None;
            self.rotate()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = append_to(&self.options.path)?;
                self.bytes = file.metadata()?.len();
                none.insert(file)
            }
        };
        file.write_all(lines)?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// The newest becomes `.1` and so on; the oldest is overwritten.
    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.options.path;
        if self.options.files <= 1 {
            File::create(path)?;
        } else {
            for number in (1..self.options.files - 1).rev() {
                match std::fs::rename(numbered(path, number), numbered(path, number + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            std::fs::rename(path, numbered(path, 1))?;
        }
        self.bytes = 0;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

//! What the gateways of this process say, line by line.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tracing_subscriber::EnvFilter;

/// The last lines that are kept.
const LINES_MAX: usize = 20_000;
/// Lines shown when a test fails.
const SHOWN: usize = 60;

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    forgotten: usize,
}

static LINES: Mutex<Lines> = Mutex::new(Lines { kept: VecDeque::new(), forgotten: 0 });

/// Begins to listen, once for the process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = EnvFilter::new("warn,gateway=info,gateway_storage=info,sled=off");
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(|| Writer(Vec::new()))
            .init();
    });
}

/// A place in the lines, for [`since`].
pub(crate) fn mark() -> usize {
    let lines = lock();
    lines.forgotten + lines.kept.len()
}

/// The lines from `mark` on that are `wanted`.
pub(crate) fn since(mark: usize, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = lock();
    let skipped = mark.saturating_sub(lines.forgotten);
    lines.kept.iter().skip(skipped).filter(|line| wanted(line)).cloned().collect()
}

/// Shows the last lines if the test fails while this is there.
pub(crate) struct ShownOnFailure;

impl Drop for ShownOnFailure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = lock();
            eprintln!("--- the last the gateways said");
            for line in lines.kept.iter().skip(lines.kept.len().saturating_sub(SHOWN)) {
                eprintln!("{line}");
            }
        }
    }
}

/// One event of the log, which is written in pieces and ends with the writer.
struct Writer(Vec<u8>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut lines = lock();
        for line in String::from_utf8_lossy(&self.0).lines() {
            lines.kept.push_back(line.to_owned());
        }
        while lines.kept.len() > LINES_MAX {
            lines.kept.pop_front();
            lines.forgotten += 1;
        }
    }
}

fn lock() -> MutexGuard<'static, Lines> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

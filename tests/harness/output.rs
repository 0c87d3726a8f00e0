//! The lines that a program prints, kept within bounds.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The last lines that are kept.
const LINES_MAX: usize = 100_000;

/// Lines of one pipe, read by a thread of their own so that the program never waits for its reader.
#[derive(Clone)]
pub struct Output {
    shared: Arc<Shared>,
}

struct Shared {
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Default)]
struct Lines {
    kept: VecDeque<String>,
    /// How many came before those that are kept.
    forgotten: usize,
    ended: bool,
}

impl Output {
    /// Reads `pipe` to its end.
    pub fn of(pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared { lines: Mutex::default(), more: Condvar::new() });
        let output = Self { shared };
        let reader = output.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let mut lines = reader.lock();
                lines.kept.push_back(String::from_utf8_lossy(&line).into_owned());
                if lines.kept.len() > LINES_MAX {
                    lines.kept.pop_front();
                    lines.forgotten += 1;
                }
                reader.shared.more.notify_all();
            }
            reader.lock().ended = true;
            reader.shared.more.notify_all();
        });
        output
    }

    /// The first line, from line number `from` on, that is `wanted`, and its number. `None` when the pipe ended or
    /// `limit` passed without one.
    pub fn wait_for(
        &self,
        from: usize,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<(usize, String)> {
        let end = Instant::now() + limit;
        let mut lines = self.lock();
        let mut at = from;
        loop {
            while let Some(line) = at.checked_sub(lines.forgotten).and_then(|index| lines.kept.get(index)) {
                if wanted(line) {
                    return Some((at, line.clone()));
                }
                at += 1;
            }
            at = at.max(lines.forgotten);
            let left = end.saturating_duration_since(Instant::now());
            if lines.ended || left.is_zero() {
                return None;
            }
            lines = self.shared.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the program has closed the pipe.
    pub fn wait_for_end(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut lines = self.lock();
        while !lines.ended {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the program's output does not end");
            lines = self.shared.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lock().kept.iter().cloned().collect()
    }

    /// The lines so far that are `wanted`.
    pub fn lines_with(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        self.lock().kept.iter().filter(|line| wanted(line)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

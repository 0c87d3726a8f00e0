//! What the gateway has to say while the view is on the screen: the last warnings, kept and printed afterwards.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::filter::LevelFilter;

/// The most lines that are kept; older ones are counted.
const LINES_MAX: usize = 50;

/// A line that comes in pieces is put together up to here.
const LINE_BYTES_MAX: usize = 4_096;

/// The kept lines.
#[derive(Clone, Default)]
pub(super) struct Notices(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    lines: VecDeque<String>,
    dropped: u64,
}

impl Notices {
    /// Takes warnings and worse; keeps them if the view is `live`, or else passes them to standard error at once.
    pub(super) fn install(live: bool) -> Self {
        let notices = Notices::default();
        let format =
            tracing_subscriber::fmt().with_max_level(LevelFilter::WARN).with_ansi(false).with_target(false);
        // Fails only if the process already has a subscriber, and then that one takes them.
        if live {
            let kept = notices.clone();
            let _ = format.with_writer(move || kept.clone()).try_init();
        } else {
            let _ = format.with_writer(io::stderr).try_init();
        }
        notices
    }

    /// Prints what was kept to standard error.
    pub(super) fn print(&self) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = io::stderr().lock();
        if kept.dropped > 0 {
            let _ = writeln!(out, "({} earlier notices are not shown)", kept.dropped);
        }
        for line in &kept.lines {
            let _ = write!(out, "{line}");
        }
    }
}

impl Write for Notices {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(bytes);
        match kept.lines.back_mut().filter(|line| !line.ends_with('\n') && line.len() < LINE_BYTES_MAX) {
            Some(line) => line.push_str(&text),
            None => kept.lines.push_back(text.into_owned()),
        }
        if kept.lines.len() > LINES_MAX {
            kept.lines.pop_front();
            kept.dropped += 1;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_the_rest_counted() {
        let mut notices = Notices::default();
        for line in 0..LINES_MAX + 7 {
            writeln!(notices, "{line}").unwrap();
        }
        let kept = notices.0.lock().unwrap();
        assert_eq!((kept.lines.len(), kept.dropped), (LINES_MAX, 7));
        assert_eq!(kept.lines.back().map(String::as_str), Some("56\n"));
    }
}

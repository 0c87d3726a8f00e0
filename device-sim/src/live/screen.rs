//! Draws the view: in place on a terminal, without clearing it, so that nothing flickers and the last state stays in the
//! scroll-back; otherwise one line per second, and every ten seconds once it has gone on for a while.

use std::io::{self, Write};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveToColumn, MoveUp, Show};
use crossterm::queue;
use crossterm::terminal::{self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use tokio::sync::oneshot;
use tokio::time::{Instant, interval_at};

use super::view::View;

const SECOND: Duration = Duration::from_secs(1);

/// So many lines come every second, those after them every tenth.
const LINES_AT_ONCE: u32 = 30;
const LATER_EVERY: u32 = 10;

/// What is written to.
pub(crate) type Out = Box<dyn Write + Send>;

/// Shows the view until `end` says so or is dropped: in place if `out` is a terminal (`live`), line by line otherwise.
pub(crate) async fn show(mut view: View, out: Out, live: bool, mut end: oneshot::Receiver<()>) {
    let mut drawing = match live {
        true => Drawing::InPlace(Screen::new(out)),
        false => Drawing::LineByLine(Lines { out, seconds: 0 }),
    };
    if let Drawing::LineByLine(lines) = &mut drawing {
        let _ = writeln!(lines.out, "{}", view.heading());
    }
    // A live view is there at once; lines begin after the first second.
    let mut seconds = interval_at(if live { Instant::now() } else { Instant::now() + SECOND }, SECOND);
    loop {
        let ended = tokio::select! {
            _ = seconds.tick() => false,
            _ = &mut end => true,
        };
        view.look();
        let drawn = match &mut drawing {
            Drawing::InPlace(screen) => screen.draw(&view),
            Drawing::LineByLine(_) if ended => Ok(()),
            Drawing::LineByLine(lines) => lines.draw(&view),
        };
        // A terminal that cannot be written to takes the view with it, not the run.
        if ended || drawn.is_err() {
            return;
        }
    }
}

enum Drawing {
    InPlace(Screen),
    LineByLine(Lines),
}

/// One line below the other.
struct Lines {
    out: Out,
    seconds: u32,
}

impl Lines {
    fn draw(&mut self, view: &View) -> io::Result<()> {
        self.seconds += 1;
        if self.seconds > LINES_AT_ONCE && !self.seconds.is_multiple_of(LATER_EVERY) {
            return Ok(());
        }
        writeln!(self.out, "{}", view.line())
    }
}

/// The lines on a terminal.
struct Screen {
    out: Out,
    /// How many lines are drawn above the cursor.
    drawn: u16,
}

impl Screen {
    fn new(mut out: Out) -> Self {
        let _ = queue!(out, Hide);
        Screen { out, drawn: 0 }
    }

    fn draw(&mut self, view: &View) -> io::Result<()> {
        let out = &mut self.out;
        let (columns, rows) = terminal::size()?;
        let mut lines = view.lines();
        // More lines than rows would scroll, and the way back up would be lost.
        lines.truncate(usize::from(rows.saturating_sub(1)));
        queue!(out, BeginSynchronizedUpdate)?;
        if self.drawn > 0 {
            queue!(out, MoveUp(self.drawn), MoveToColumn(0))?;
        }
        for line in &lines {
            let visible: String = line.chars().take(usize::from(columns.saturating_sub(1))).collect();
            write!(out, "{visible}")?;
            queue!(out, Clear(ClearType::UntilNewLine))?;
            writeln!(out)?;
        }
        queue!(out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        self.drawn = lines.len() as u16;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = queue!(self.out, Show);
        let _ = self.out.flush();
    }
}

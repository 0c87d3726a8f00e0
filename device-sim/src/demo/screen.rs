//! Draws the view: in place on a terminal, without clearing it, so that nothing flickers and the last state stays in the
//! scroll-back; otherwise one line per second.

use std::io::{self, Write};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveToColumn, MoveUp, Show};
use crossterm::queue;
use crossterm::terminal::{self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use tokio::sync::oneshot;
use tokio::time::{Instant, interval_at};

use super::view::View;

const SECOND: Duration = Duration::from_secs(1);

/// Shows the view until `end` says so or is dropped.
pub(super) async fn show(mut view: View, live: bool, mut end: oneshot::Receiver<()>) {
    let mut out = io::stdout();
    let mut screen = live.then(Screen::new);
    if screen.is_none() {
        let _ = writeln!(out, "{}", view.heading());
    }
    // A live view is there at once; lines begin after the first second.
    let mut seconds = interval_at(if live { Instant::now() } else { Instant::now() + SECOND }, SECOND);
    loop {
        let ended = tokio::select! {
            _ = seconds.tick() => false,
            _ = &mut end => true,
        };
        view.sample();
        // A terminal that cannot be written to takes the view with it, not the run.
        let drawn = match &mut screen {
            Some(screen) => screen.draw(&mut out, &view),
            None if ended => Ok(()),
            None => writeln!(out, "{}", view.line()),
        };
        if ended || drawn.is_err() {
            return;
        }
    }
}

/// The lines on a terminal.
struct Screen {
    /// How many lines are drawn above the cursor.
    drawn: u16,
}

impl Screen {
    fn new() -> Self {
        let _ = queue!(io::stdout(), Hide);
        Screen { drawn: 0 }
    }

    fn draw(&mut self, out: &mut impl Write, view: &View) -> io::Result<()> {
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
        let mut out = io::stdout();
        let _ = queue!(out, Show);
        let _ = out.flush();
    }
}

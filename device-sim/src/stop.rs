//! How the outside ends a run: gently, then at once.

use crate::command::CommandError;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What the outside wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Go on.
    No,
    /// Publish no more, drain and report.
    Gently,
    /// Report at once.
    Now,
}

/// SIGINT and SIGTERM: the first stops gently, the second at once.
pub(crate) fn listen_for_signals() -> Result<watch::Receiver<Stop>, CommandError> {
    let cannot = |error: io::Error| CommandError::CouldNotRun(format!("cannot listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let (sender, receiver) = watch::channel(Stop::No);
    tokio::spawn(async move {
        for stop in [Stop::Gently, Stop::Now] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            let _ = sender.send(stop);
        }
    });
    Ok(receiver)
}

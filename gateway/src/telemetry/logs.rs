//! Log lines, to standard error: standard output belongs to the one line that says the gateway is ready.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// For people; in colour on a terminal.
    Human,
    /// One JSON object for each line.
    Json,
}

/// Why there are no log lines.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The directives are not understood.
    #[error("log directives are not understood: {0}")]
    Directives(#[from] ParseError),
    /// This process already logs in another way.
    #[error("log lines cannot be set up: {0}")]
    Taken(#[from] TryInitError),
    /// Nothing is logged any more.
    #[error("the log level cannot be changed: {0}")]
    Gone(#[source] reload::Error),
}

/// Changes what is logged while it runs.
pub struct LogLevel(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl LogLevel {
    /// Logs by these directives from here on.
    ///
    /// # Errors
    ///
    /// When they are not understood; then nothing changes.
    pub fn set(&self, directives: &str) -> Result<(), LogsError> {
        let filter = EnvFilter::try_new(directives)?;
        (self.0)(filter).map_err(LogsError::Gone)
    }
}

/// Sends log lines to standard error from here on. `directives` is a level or `level,module=level,...`.
///
/// # Errors
///
/// When the directives are not understood, or this process has already set up its log lines.
pub fn logs_to_stderr(directives: &str, format: LineFormat) -> Result<LogLevel, LogsError> {
    let filter = EnvFilter::try_new(directives)?;
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    Ok(match format {
        LineFormat::Human => {
            let lines = lines.with_filter_reloading();
            let handle = lines.reload_handle();
            lines.finish().try_init()?;
            LogLevel(Box::new(move |filter| handle.reload(filter)))
        }
        LineFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.finish().try_init()?;
            LogLevel(Box::new(move |filter| handle.reload(filter)))
        }
    })
}

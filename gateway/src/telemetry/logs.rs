//! Log lines, to standard error: standard output belongs to the one line that says the gateway is ready.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

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

/// What lines about one client, asked for one by one, are logged under.
pub const CLIENT_TARGET: &str = "gateway::client";

type Apply = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Changes what is logged while it runs. Cheap to clone.
#[derive(Clone)]
pub struct LogLevel(Arc<Shared>);

struct Shared {
    apply: Apply,
    directives: Mutex<Directives>,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// As the configuration has it.
    pub configured: String,
    /// What holds instead, until the configuration changes or the process ends.
    pub instead: Option<String>,
    /// Some clients are logged one by one.
    with_clients: bool,
}

impl Directives {
    /// What holds.
    #[must_use]
    pub fn in_force(&self) -> &str {
        self.instead.as_deref().unwrap_or(&self.configured)
    }

    fn filter(&self) -> Result<EnvFilter, ParseError> {
        match self.with_clients {
            // Who asks for a client wants its lines, whatever the level of the others.
            true => EnvFilter::try_new(format!("{},{CLIENT_TARGET}=trace", self.in_force())),
            false => EnvFilter::try_new(self.in_force()),
        }
    }
}

impl LogLevel {
    fn new(configured: &str, apply: Apply) -> Self {
        let directives = Directives { configured: configured.to_owned(), instead: None, with_clients: false };
        Self(Arc::new(Shared { apply, directives: Mutex::new(directives) }))
    }

    /// Logs by these directives from here on: the configuration has changed, and holds again.
    ///
    /// # Errors
    ///
    /// When they are not understood; then nothing changes.
    pub fn set(&self, directives: &str) -> Result<(), LogsError> {
        self.change(|known| {
            (known.configured, known.instead) = (directives.to_owned(), None);
        })
    }

    /// Logs by these directives instead of the configured ones, or by those again.
    ///
    /// # Errors
    ///
    /// When they are not understood; then nothing changes.
    pub fn set_instead(&self, directives: Option<&str>) -> Result<(), LogsError> {
        self.change(|known| known.instead = directives.map(str::to_owned))
    }

    /// Whether lines under [`CLIENT_TARGET`] are logged whatever the directives say.
    ///
    /// # Errors
    ///
    /// When nothing is logged any more.
    pub fn with_clients(&self, with_clients: bool) -> Result<(), LogsError> {
        self.change(|known| known.with_clients = with_clients)
    }

    /// What is logged.
    #[must_use]
    pub fn directives(&self) -> Directives {
        self.0.directives.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Directives)) -> Result<(), LogsError> {
        let mut directives = self.0.directives.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = directives.clone();
        change(&mut changed);
        (self.0.apply)(changed.filter()?).map_err(LogsError::Gone)?;
        *directives = changed;
        Ok(())
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
            LogLevel::new(directives, Box::new(move |filter| handle.reload(filter)))
        }
        LineFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.finish().try_init()?;
            LogLevel::new(directives, Box::new(move |filter| handle.reload(filter)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_in_between_holds_until_the_configuration_changes() {
        let applied = Arc::new(Mutex::new(Vec::new()));
        let sink = applied.clone();
        let level = LogLevel::new(
            "info",
            Box::new(move |filter| {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(filter.to_string());
                Ok(())
            }),
        );
        level.set_instead(Some("warn")).unwrap();
        level.with_clients(true).unwrap();
        assert!(level.set_instead(Some("gateway=loud")).is_err(), "and nothing changes");
        assert_eq!(level.directives().in_force(), "warn");
        level.set("debug").unwrap();
        assert_eq!(
            (level.directives().in_force(), level.directives().configured.as_str()),
            ("debug", "debug")
        );
        level.set_instead(Some("error")).unwrap();
        level.set_instead(None).unwrap();
        level.with_clients(false).unwrap();
        let applied = applied.lock().unwrap().clone();
        let with = |level: &str| format!("{CLIENT_TARGET}=trace,{level}");
        assert_eq!(
            applied,
            [
                "warn".to_owned(),
                with("warn"),
                with("debug"),
                with("error"),
                with("debug"),
                "debug".to_owned()
            ]
        );
    }
}

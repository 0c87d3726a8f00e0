//! The configuration is read again, at SIGHUP or when `gateway reload` asks, and what can change while the gateway runs does.
//!
//! That is `log.level`. Everything else belongs to what was built at the start: what has changed of it is named, and takes a
//! restart. A configuration with a fault changes nothing.

use gateway::admin::{ConfigFault, Reloaded};
use gateway::config::{Config, LoadOptions, Settings};
use gateway::telemetry::LogLevel;
use tracing::{error, info, warn};

/// The one key that can change.
const LOG_LEVEL: &str = "log.level";

/// What is in force, and where it was read from.
pub(crate) struct Reload {
    options: LoadOptions,
    settings: Settings,
    level: LogLevel,
}

impl Reload {
    /// What was loaded at the start.
    pub(crate) const fn new(options: LoadOptions, settings: Settings, level: LogLevel) -> Self {
        Self { options, settings, level }
    }

    /// By which what is logged can be changed in between.
    pub(crate) fn log_level(&self) -> LogLevel {
        self.level.clone()
    }

    /// Reads the configuration again. Answers what was applied and what was not, or what is wrong with it.
    pub(crate) fn reload(&mut self) -> Result<Reloaded, Vec<ConfigFault>> {
        let (config, settings) = match Config::load_with_settings(self.options.clone()) {
            Ok(loaded) => loaded,
            Err(errors) => {
                error!(%errors, "the configuration has faults: nothing is changed");
                let told = |fault: &gateway::config::Fault| ConfigFault {
                    key: fault.key.clone(),
                    detail: match fault.accepted.as_str() {
                        "" => format!("{} (from {})", fault.problem, fault.source),
                        accepted => {
                            format!("{} (from {}); accepted: {accepted}", fault.problem, fault.source)
                        }
                    },
                };
                return Err(errors.faults().iter().map(told).collect());
            }
        };
        let changed = changed(&self.settings, &settings);
        let (applied, needs_restart): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| key == LOG_LEVEL);
        if !needs_restart.is_empty() {
            warn!(
                keys = needs_restart.join(", "),
                "changed in the configuration, and in force after a restart"
            );
        }
        if !applied.is_empty()
            && let Err(error) = self.level.set(&config.log.level)
        {
            error!(%error, "the log level stays as it is");
            return Err(vec![ConfigFault { key: LOG_LEVEL.to_owned(), detail: error.to_string() }]);
        }
        let level = config.log.level;
        info!(level, changed = !applied.is_empty(), "the configuration was read again");
        // What takes a restart is told of each time: it is still not in force.
        self.settings.take_from(&settings, "log", "level");
        Ok(Reloaded { applied, needs_restart, log_level: level })
    }
}

/// The keys whose values differ, or that only one of them has.
fn changed(old: &Settings, new: &Settings) -> Vec<String> {
    let name = |section: &str, element: Option<usize>, key: &str| match element {
        Some(element) => format!("{section}.{element}.{key}"),
        None => format!("{section}.{key}"),
    };
    let values = |settings: &Settings| -> Vec<(String, toml::Value)> {
        settings.iter().map(|it| (name(it.section, it.element, it.key), it.value.clone())).collect()
    };
    let (old, new) = (values(old), values(new));
    let mut changed: Vec<String> =
        new.iter().filter(|pair| !old.contains(pair)).map(|pair| pair.0.clone()).collect();
    changed.extend(
        old.iter().filter(|(key, _)| new.iter().all(|(other, _)| other != key)).map(|pair| pair.0.clone()),
    );
    changed
}

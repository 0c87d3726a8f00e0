//! SIGHUP: the configuration is read again, and what can change while the gateway runs does.
//!
//! That is `log.level`. Everything else belongs to what was built at the start: what has changed of it is named, and takes a
//! restart. A configuration with a fault changes nothing.

use gateway::config::{Config, LoadOptions, Settings};
use gateway::telemetry::LogLevel;
use tracing::{error, info, warn};

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

    /// Reads the configuration again.
    pub(crate) fn reload(&mut self) {
        let (config, settings) = match Config::load_with_settings(self.options.clone()) {
            Ok(loaded) => loaded,
            Err(errors) => {
                error!(%errors, "the configuration has faults: nothing is changed");
                return;
            }
        };
        let changed = changed(&self.settings, &settings);
        let (now, later): (Vec<_>, Vec<_>) = changed.into_iter().partition(|key| key == "log.level");
        if !later.is_empty() {
            warn!(keys = later.join(", "), "changed in the configuration, and in force after a restart");
        }
        if !now.is_empty()
            && let Err(error) = self.level.set(&config.log.level)
        {
            error!(%error, "the log level stays as it is");
            return;
        }
        let level = config.log.level;
        info!(level, changed = !now.is_empty(), "the configuration was read again");
        // What takes a restart is told of each time: it is still not in force.
        self.settings.take_from(&settings, "log", "level");
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

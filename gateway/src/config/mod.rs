//! Configuration: four layers of keys in, one checked [`Config`] out.
//!
//! The first stage is raw (`raw`): the built-in default file, the operator's TOML file, the environment
//! (`GATEWAY_SECTION__KEY`) and `--set section.key=value` are laid over one another, key by key, each value
//! remembering where it came from. The second stage resolves (`resolve`): every key is asked for once, by name, type
//! and range; a key that nobody asked for is unknown. All faults are collected and reported together, and nothing starts
//! while there is one. Last come the relations between limits, which no single key can break alone.
//!
//! `config/gateway.toml` is at once the documentation, the lowest layer and the only place where a default is written
//! down: a key missing there is a fault of this program, found by its tests.
//!
//! Nothing here opens sockets or directories, knows a runtime, or changes after the start.
//! Read next: [`Config`] for the result, `resolve` for what each key accepts.

mod admission;
mod consumers;
mod decisions;
mod fault;
mod pace;
mod postgres;
mod raw;
mod reader;
mod resolve;
mod settings;
mod sinks;
mod telemetry;
mod types;
mod units;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use admission::{AdmissionConfig, ClassRule, EventClass, OverRate};
pub use consumers::{ConsumerConfig, ConsumerOrder, ConsumerStart, ConsumersConfig, DeadLettersConfig};
pub use decisions::DecisionsConfig;
pub use fault::{ConfigErrors, Fault, FaultKind, Source};
pub use pace::Pace;
pub use postgres::PostgresTls;
pub use resolve::check_log_level;
pub use settings::{Setting, Settings};
pub use sinks::{PostgresConfig, SinkConfig, SinkTarget, WebhookConfig};
pub use telemetry::TelemetryConfig;
pub use types::{
    AdminConfig, AuthConfig, Compression, Config, DeliveryConfig, Durability, ListenerConfig, ListenerKind,
    LogConfig, LogFormat, LogKind, MqttConfig, ShareStrategy, SlowSubscriber, StorageConfig, StreamConfig,
    WhenQueueFull,
};
pub use units::{format_duration, format_size, parse_duration, parse_size};

/// The documented default configuration, as `gateway config default` prints it.
pub const DEFAULT_TOML: &str = include_str!("../../../config/gateway.toml");

/// Where the configuration is read from. `LoadOptions::default()` is the built-in default alone.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The operator's TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables. Those named `GATEWAY_SECTION__KEY`, or `GATEWAY_` and the name of a list, count; all others
    /// are passed over.
    pub environment: Vec<(String, String)>,
    /// `section.key=value` each, in order; the value is TOML, or a string without its quotes.
    pub sets: Vec<String>,
}

impl Config {
    /// Reads all layers and checks every key and every relation between keys.
    ///
    /// # Errors
    ///
    /// Every fault found, not just the first.
    pub fn load(options: LoadOptions) -> Result<Self, ConfigErrors> {
        Self::load_with_settings(options).map(|(config, _)| config)
    }

    /// As [`Config::load`], and each key's value with the layer it came from, for `gateway config show`.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn load_with_settings(options: LoadOptions) -> Result<(Self, Settings), ConfigErrors> {
        let (root, faults) = raw::layers(&options);
        resolve::resolve(root, faults).map_err(|faults| ConfigErrors::new(options.file, faults))
    }
}

impl Default for Config {
    /// The built-in default, `config/gateway.toml`.
    #[expect(clippy::expect_used, reason = "the file is part of the binary; a test loads it")]
    fn default() -> Self {
        Self::load(LoadOptions::default()).expect("the built-in configuration is valid")
    }
}

//! The resolved configuration: typed, in range, in agreement with itself. `config/gateway.toml` says what each key means.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gateway_protocol::QoS;

use super::admission::AdmissionConfig;
use super::consumers::{ConsumerConfig, ConsumersConfig, DeadLettersConfig};
use super::decisions::DecisionsConfig;
use super::pace::Pace;
use super::sinks::SinkConfig;
use super::telemetry::TelemetryConfig;

/// Everything the gateway is told before it starts. `Config::default()` is the built-in default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[storage]`
    pub storage: StorageConfig,
    /// `[[listener]]`, 1 to 16.
    pub listeners: Vec<ListenerConfig>,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[mqtt]`
    pub mqtt: MqttConfig,
    /// `[dedup]`
    pub dedup: DedupConfig,
    /// `[auth]`
    pub auth: AuthConfig,
    /// `[admission]`
    pub admission: AdmissionConfig,
    /// `[decisions]`
    pub decisions: DecisionsConfig,
    /// `[delivery]`
    pub delivery: DeliveryConfig,
    /// `[[stream]]`, 0 to 64, names unique.
    pub streams: Vec<StreamConfig>,
    /// `[[consumer]]`, names unique.
    pub consumers: Vec<ConsumerConfig>,
    /// `[consumers]`
    pub consumer_limits: ConsumersConfig,
    /// `[dead_letters]`
    pub dead_letters: DeadLettersConfig,
    /// `[[sink]]`, 0 to 64, names unique.
    pub sinks: Vec<SinkConfig>,
    /// `[telemetry]`
    pub telemetry: TelemetryConfig,
    /// `[log]`
    pub log: LogConfig,
}

impl Config {
    /// Whether clients without credentials may connect through `listener`: because it says so itself, or because it is
    /// on loopback and `auth.allow_anonymous` is set.
    #[must_use]
    pub fn admits_anonymous(&self, listener: &ListenerConfig) -> bool {
        listener.allow_anonymous || (self.auth.allow_anonymous && listener.address.ip().is_loopback())
    }
}

/// `[storage]`: the log, its commits, and the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The log's kind.
    pub log: LogKind,
    /// What an acknowledgement stands on; `storage.interval_ms` is inside.
    pub durability: Durability,
    /// Bytes of the whole log on disk.
    pub max_bytes: u64,
    /// Bytes at which a segment is closed.
    pub segment_bytes: u64,
    /// What groups are compressed with.
    pub compression: Compression,
    /// Bytes set aside on the disk for when it is full; 0: none.
    pub reserve_bytes: u64,
    /// Bytes of one commit group.
    pub group_bytes_max: usize,
    /// `storage.view_save_interval_ms`: the time between saves of the view.
    pub view_save_interval: Duration,
}

/// The implementation behind the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// Append-only segment files.
    Segments,
    /// Groups as values in sled.
    Sled,
}

/// What commit groups are compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    None,
    /// LZ4, group by group.
    Lz4,
}

/// When an event counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After an `fdatasync` that covers it. Nothing acknowledged is lost.
    Fsync,
    /// After it was written; synced every so often, which is also the loss window at power loss.
    Interval(Duration),
    /// After it was written; the kernel decides when it reaches the disk.
    Memory,
}

/// One `[[listener]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// How MQTT travels on it.
    pub kind: ListenerKind,
    /// Where it listens; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Clients without credentials are admitted whatever the address; see [`Config::admits_anonymous`].
    pub allow_anonymous: bool,
    /// Connections at one time on it.
    pub max_connections: usize,
    /// Events a second that its clients may publish together; 0: no limit.
    pub publish_rate: u64,
    /// And bytes a second; 0: no limit.
    pub publish_bytes_rate: u64,
    /// What happens to its clients that read too slowly; `None`: as `[delivery]` says.
    pub slow_subscriber: Option<SlowSubscriber>,
}

/// How MQTT travels on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// Plain TCP.
    Tcp,
}

/// `[admin]`: the HTTP listener for metrics and health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// Where it listens; port 0 lets the kernel choose.
    pub address: SocketAddr,
}

/// `[mqtt]`: the limits of the protocol, as announced in CONNACK and held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttConfig {
    /// Maximum QoS.
    pub max_qos: QoS,
    /// Retain Available.
    pub retain_available: bool,
    /// Topics that may have a Retained Message.
    pub retained_max_messages: u64,
    /// Bytes that Retained Messages may cost.
    pub retained_max_bytes: u64,
    /// Wildcard Subscription Available.
    pub wildcard_subscription_available: bool,
    /// Shared Subscription Available.
    pub shared_subscription_available: bool,
    /// How a group chooses the member for a message.
    pub shared_subscription_strategy: ShareStrategy,
    /// Subscription Identifiers Available.
    pub subscription_identifiers_available: bool,
    /// Receive Maximum towards the gateway, at least 1.
    pub receive_maximum: u16,
    /// Deliveries unacknowledged towards one client, 1 to 16383.
    pub max_inflight: u16,
    /// Maximum Packet Size towards the gateway, header included.
    pub max_packet_bytes: usize,
    /// Topic Alias Maximum towards the gateway.
    pub topic_alias_maximum: u16,
    /// Server Keep Alive in seconds; 0 leaves clients their own.
    pub server_keep_alive_secs: u16,
    /// The greatest Session Expiry Interval granted, in seconds; `u32::MAX` is never.
    pub session_expiry_max_secs: u32,
    /// Messages that may wait for one session.
    pub max_queued_messages: u64,
    /// Bytes that may wait for one session.
    pub max_queued_bytes: u64,
    /// What gives way when a session has that much waiting.
    pub when_queue_full: WhenQueueFull,
    /// Whether a client without a Client Identifier is given one.
    pub allow_empty_client_id: bool,
    /// Seconds between two publications of `$SYS/...`; 0: never.
    pub sys_interval_secs: u16,
    /// `mqtt.connect_timeout_ms`: the time from accept to a complete CONNECT.
    pub connect_timeout: Duration,
}

/// How a group of a Shared Subscription chooses the member for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareStrategy {
    /// In turn.
    RoundRobin,
    /// By who published it.
    Publisher,
}

/// What gives way when a session has as much waiting for it as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenQueueFull {
    /// The new message.
    DropNewest,
    /// The oldest messages.
    DropOldest,
    /// The session itself, with all that waits for it.
    EndSession,
}

/// `[dedup]`: events that their publishers name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupConfig {
    /// How long a name is remembered; zero: names mean nothing.
    pub window: Duration,
    /// How many are.
    pub max_entries: u32,
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// Clients without credentials are admitted on loopback listeners.
    pub allow_anonymous: bool,
}

/// `[delivery]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// Bytes that may wait in memory for one connection.
    pub outbox_bytes_max: usize,
    /// What happens when they do.
    pub slow_subscriber: SlowSubscriber,
    /// Bytes gathered for one write.
    pub write_buffer_bytes: usize,
}

/// What happens to a delivery that finds its outbox full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowSubscriber {
    /// The delivery is dropped and counted.
    Drop,
    /// The subscriber is disconnected.
    Disconnect,
}

/// One `[[stream]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// 1 to 64 of `a-z 0-9 - _`.
    pub name: String,
    /// Valid Topic Filters, none beginning with `$`, no two alike.
    pub topics: Vec<String>,
    /// How long events are kept.
    pub max_age: Duration,
    /// How many bytes are kept.
    pub max_bytes: u64,
    /// How fast who reads it over MQTT is given it, unless the reader says otherwise.
    pub replay_rate: Pace,
}

/// `[log]`: the gateway's own log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A level, or directives by module.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object for each line.
    Json,
}

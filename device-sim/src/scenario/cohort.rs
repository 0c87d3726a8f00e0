//! Cohorts: the parts of a fleet that are alike, such as the devices with one firmware.

use std::sync::Arc;

use super::topic::TopicTemplate;
pub use crate::class::Class;
use crate::model::ModelSpec;
use crate::payload::Encoder;
use crate::scenario::rhythm::Rhythm;

/// Devices that measure, encode and behave alike. Their numbers follow each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Cohort {
    /// Its name, as in topics and reports.
    pub name: String,
    /// The number of its first device.
    pub first: u32,
    /// How many devices, how often they speak, with which QoS, and how their uplink delays them.
    pub rhythm: Rhythm,
    /// The share of devices that speak MQTT 5, 0 to 1.
    pub v5_share: f64,
    /// Whether their sessions outlive a connection, so that unacknowledged events are retransmitted.
    pub durable: bool,
    /// Whether its clients have a worker process to themselves, see [`super::LeanClients`].
    pub own_worker: bool,
    /// Client Identifiers are this and the device's number.
    pub client_id_prefix: String,
    /// Where they publish.
    pub topic: TopicTemplate,
    /// How much their events matter.
    pub class: Class,
    /// What they measure.
    pub model: Arc<ModelSpec>,
    /// How that becomes bytes.
    pub payload: Arc<Encoder>,
    /// Which readings are worth an event.
    pub report: ReportSpec,
    /// How far their clocks are off.
    pub clock: ClockSpec,
    /// Where each says that it is there; its Will Message says that it is gone. Both are Retained Messages.
    pub status: Option<TopicTemplate>,
    /// The retained copy of the newest reading.
    pub state: Option<StateTopic>,
    /// Where commands come in.
    pub commands: Option<CommandTopics>,
}

/// Which readings are worth an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReportSpec {
    /// What it takes, and what is said then.
    pub mode: ReportMode,
    /// After so long without an event one is sent all the same, with every field; simulated seconds.
    pub heartbeat_s: f64,
}

/// What it takes to report, and what is said then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportMode {
    /// Every reading, with every field.
    Always,
    /// Readings with a change, with every field.
    OnChange,
    /// Readings with a change, with the changed fields alone.
    Changes,
}

/// How far clocks are off, from device to device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClockSpec {
    /// The standard deviation of what they are ahead or behind by, simulated seconds.
    pub skew_s: f64,
    /// The standard deviation of what they gain or lose per second.
    pub drift: f64,
}

/// The retained copy of a device's newest reading.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTopic {
    /// Where.
    pub topic: TopicTemplate,
    /// At least so long lies between two copies, microseconds of the run.
    pub every_us: u64,
}

/// Where commands come in and replies go.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandTopics {
    /// Commands: this topic, for MQTT 5; and one level below it, the request's name, for MQTT 3.1.1.
    pub commands: TopicTemplate,
    /// Replies to commands without a Response Topic: this topic and the request's name.
    pub replies: TopicTemplate,
}

impl Cohort {
    /// The number after that of its last device.
    pub fn end(&self) -> u32 {
        self.first.saturating_add(self.rhythm.devices)
    }
}

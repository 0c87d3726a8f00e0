//! Scenarios: what a run is made of, read from TOML and checked as a whole before anything starts.
//!
//! Promise: a [`Scenario`] can be run; every fault of a file is reported at once and in sentences, unknown keys with the
//! nearest known one. This module knows no clock and no socket. The commented first form is `scenarios/first.toml`;
//! `section` is the generic reader, `read` the keys, `fleet` and `behaviour` those of the devices, [`cohort`] what these come to,
//! [`topic`] the topic template.

mod behaviour;
pub mod cohort;
pub mod duration;
mod fleet;
mod layers;
mod model;
mod read;
mod section;
pub mod topic;

use std::fmt;
use std::time::Duration;

use crate::qos::QoS;
pub use cohort::Cohort;

/// The most devices of one fleet: what one process can hold connections for.
pub const DEVICES_MAX: u32 = 50_000;

/// The most subscribers of one scenario.
pub const SUBSCRIBERS_MAX: usize = 16;

/// A run, complete and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The devices.
    pub fleet: Fleet,
    /// The backend services; at least one.
    pub subscribers: Vec<SubscriberSpec>,
    /// How long, and how it ends.
    pub run: RunSpec,
}

/// The devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// How many, 1 to [`DEVICES_MAX`].
    pub devices: u32,
    /// How many sites they are spread over.
    pub sites: u32,
    /// Events per second of the whole fleet.
    pub rate: f64,
    /// What the Client Identifiers of backend services begin with, and those of devices unless their cohort has its own.
    pub client_id_prefix: String,
    /// Simulated seconds per second.
    pub time_scale: f64,
    /// When the simulated world begins, milliseconds since 1970.
    pub start_unix_ms: i64,
    /// QoS 1 events a device keeps unacknowledged.
    pub inflight_max: u16,
    /// Due events a device keeps unsent; more are counted as not sent.
    pub queue_max: usize,
    /// Connections opened per second at the start.
    pub connect_rate: f64,
    /// What the devices are; at least one, in the order of device numbers, each with at least one device.
    pub cohorts: Vec<Cohort>,
}

/// One backend service.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriberSpec {
    /// Its name in the report, and the end of its Client Identifier.
    pub name: String,
    /// Its Topic Filter.
    pub filter: String,
    /// The QoS it asks for.
    pub qos: QoS,
    /// Whether its session outlives its connections.
    pub durable: bool,
    /// What it speaks.
    pub protocol: Protocol,
}

/// An MQTT protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V3_1_1,
    /// MQTT 5.
    V5,
}

/// How long a run lasts and how it ends.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSpec {
    /// How long events are due; none: until interrupted.
    pub duration: Option<Duration>,
    /// The first part of it, whose latencies are not recorded. Its events count in the ledger like all others.
    pub warm_up: Duration,
    /// How long the end waits without any progress.
    pub drain_timeout: Duration,
    /// How long the start waits for everyone to be connected.
    pub connect_timeout: Duration,
    /// QoS 1 deliveries of the last while before a subscriber's connection broke may come again.
    pub redelivery_window: Duration,
    /// The seed, if the scenario fixes it.
    pub seed: Option<u64>,
}

/// Everything that is wrong with a scenario, one sentence each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ScenarioFaults(pub Vec<String>);

impl fmt::Display for ScenarioFaults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            write!(out, "{fault}")?;
        }
        Ok(())
    }
}

impl Scenario {
    /// Reads a scenario.
    pub fn parse(text: &str) -> Result<Self, ScenarioFaults> {
        read::scenario(text)
    }
}

impl Fleet {
    /// Which cohort a device belongs to: its place in the list; none for a device that the fleet does not have.
    pub fn cohort_of(&self, device: u32) -> Option<(usize, &Cohort)> {
        let place = self.cohorts.partition_point(|cohort| cohort.end() <= device);
        self.cohorts.get(place).map(|cohort| (place, cohort))
    }
}

impl Protocol {
    /// As scenarios and reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::V3_1_1 => "3.1.1",
            Protocol::V5 => "5",
        }
    }
}

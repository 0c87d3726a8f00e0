//! Scenarios: what a run is made of, read from TOML and checked as a whole before anything starts.
//!
//! Promise: a [`Scenario`] can be run; every fault of a file is reported at once and in sentences, unknown keys with the
//! nearest known one, at their line and column. This module knows no clock and no socket. The commented first form is
//! `scenarios/first.toml`; `source` knows where keys stand, `section` is the generic reader, `read` the keys, [`phase`],
//! [`subscriber`], [`expect`], [`phase_gate`], [`broker`] and [`rated`] those of their tables, `fleet` and `behaviour` those of the devices, [`cohort`] what these come to, [`topic`] the topic template, [`builtin`] the scenarios
//! that come with the program.

mod behaviour;
pub mod broker;
pub mod builtin;
mod clients;
pub mod cohort;
pub mod duration;
pub mod edge;
pub mod expect;
pub mod fault;
mod fleet;
mod layers;
mod model;
pub mod phase;
pub mod phase_gate;
pub mod rated;
mod read;
pub mod rhythm;
mod section;
mod source;
pub mod subscriber;
pub mod topic;

use std::sync::Arc;
use std::time::Duration;

use crate::class::Classes;
pub use broker::BrokerSpec;
pub use edge::EdgeSpec;
pub use expect::Expect;
pub use fault::{Fault, ScenarioFaults};
use phase::Disturbance;
pub use phase::PhaseSpec;
pub use rated::{RatedSpec, Variant};
pub use subscriber::{Protocol, SUBSCRIBERS_MAX, SubscriberSpec};

pub use clients::{Clients, LeanClients, Pace, SourceRange, source_of};
pub use cohort::Cohort;

/// The most devices of one fleet of honest clients: what one process can hold connections for.
pub const DEVICES_MAX: u32 = 50_000;

/// The most devices of one fleet of lean clients.
pub const LEAN_DEVICES_MAX: u32 = 1_000_000;

/// Keep Alive, seconds, where the scenario says nothing. Long enough for pings not to matter, short enough to notice a dead peer within a
/// test.
pub(crate) const KEEP_ALIVE_S: u16 = 30;

/// The same of lean clients: pings cost little, and a peer that is gone is noticed within half of it more.
pub(crate) const LEAN_KEEP_ALIVE_S: u16 = 60;

/// A run, complete and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// What it shows, in a sentence.
    pub about: String,
    /// The devices.
    pub fleet: Fleet,
    /// Sites with a broker of their own, if there are any.
    pub edge: Option<EdgeSpec>,
    /// The backend services; at least one.
    pub subscribers: Vec<SubscriberSpec>,
    /// What happens when, in the order of the file; none: events at the fleet's rate.
    pub phases: Vec<PhaseSpec>,
    /// The broker, if the scenario starts one.
    pub broker: Option<BrokerSpec>,
    /// How long, and how it ends.
    pub run: RunSpec,
    /// What it must come to.
    pub expect: Expect,
    /// How it is found out what a rate of 1 is, if rates are no events per second.
    pub rated: Option<RatedSpec>,
    /// What was changed of it since it was read.
    pub variant: Variant,
    /// What it was read from, for worker processes to read it again.
    pub text: ScenarioText,
}

/// The text of a scenario. It says nothing that the scenario does not, so all are equal.
#[derive(Clone, Debug, Default)]
pub struct ScenarioText(pub Arc<str>);

impl PartialEq for ScenarioText {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// How many, 1 to [`DEVICES_MAX`], or [`LEAN_DEVICES_MAX`] of lean clients.
    pub devices: u32,
    /// Who speaks MQTT for them.
    pub clients: Clients,
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
    /// Keep Alive of the devices, seconds.
    pub keep_alive_s: u16,
    /// Connections opened per second at the start.
    pub connect_rate: f64,
    /// What the devices are; at least one, in the order of device numbers, each with at least one device.
    pub cohorts: Vec<Arc<Cohort>>,
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

impl Scenario {
    /// Whether a subscriber is a lean one, in a worker: one client that only receives, and that no phase concerns. All others are
    /// honest clients, whatever the devices are.
    pub fn is_in_worker(&self, subscriber: usize) -> bool {
        let Some(spec) = self.subscribers.get(subscriber) else { return false };
        let is_plain = spec.source == subscriber::Source::Plain && spec.members == 1 && spec.delay.is_zero();
        let concerns = |phase: &PhaseSpec| match phase.disturbance {
            Some(
                Disturbance::SlowConsumer { subscriber: concerned, .. }
                | Disturbance::Outage { subscriber: concerned },
            ) => concerned == subscriber,
            _ => false,
        };
        self.fleet.clients != Clients::Honest && is_plain && !self.phases.iter().any(concerns)
    }

    /// Reads a scenario.
    pub fn parse(text: &str) -> Result<Self, ScenarioFaults> {
        read::scenario(text)
    }
}

impl Fleet {
    /// Which devices are of which class.
    pub fn classes(&self) -> Classes {
        Classes::new(self.cohorts.iter().map(|cohort| (cohort.end(), cohort.class)))
    }

    /// Which cohort a device belongs to: its place in the list; none for a device that the fleet does not have.
    pub fn cohort_of(&self, device: u32) -> Option<(usize, &Arc<Cohort>)> {
        let place = self.cohorts.partition_point(|cohort| cohort.end() <= device);
        self.cohorts.get(place).map(|cohort| (place, cohort))
    }
}

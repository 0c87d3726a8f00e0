//! What the tasks of a run share: the clock, the ledger, counters and latencies.
//!
//! Promise: whoever holds a [`Shared`] may read all of it at any time, and sees sums that only grow. It does nothing by itself: the
//! fleet, the subscribers and worker processes write, reports and views read, and a run moves the phase.

mod clock;
mod edge;
mod late;
mod latency;
pub mod series;
mod stats;
mod usage;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

pub use clock::RunClock;
pub(crate) use edge::EdgeStats;
pub(crate) use late::LateDeliveries;
pub(crate) use latency::histogram;
pub use latency::{Latencies, LatencySummary, QuantilePoint};
pub use stats::{Count, Stats, SubscriberState};
pub use usage::WorkerUsage;

use self::series::Series;
use crate::class::{Class, Classes};
use crate::ledger::{DeviceLedger, Expectation, SharedLedger};
use crate::mqtt::Broker;
use crate::plan::Plan;
use crate::qos::QoS;
use crate::roster;
use crate::scenario::phase_gate::Watched;
use crate::scenario::{Clients, SubscriberSpec, topic};
use crate::timeline::Timeline;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Subscribers, then devices, are being connected.
    Connecting = 0,
    /// Events are due.
    Publishing = 1,
    /// No more events; acknowledgements and deliveries are awaited.
    Draining = 2,
    /// The report is made.
    Done = 3,
}

impl Phase {
    /// As reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Connecting => "connecting",
            Phase::Publishing => "publishing",
            Phase::Draining => "draining",
            Phase::Done => "done",
        }
    }
}

/// Everything the tasks of one run share.
#[derive(Debug)]
pub struct Shared {
    /// Microseconds since publishing began.
    pub clock: RunClock,
    /// What happens when.
    pub timeline: Timeline,
    /// Who published and received what.
    pub ledger: SharedLedger,
    /// The fleet's counters.
    pub stats: Stats,
    /// The subscribers' counters, in the scenario's order.
    pub subscribers: Vec<SubscriberState>,
    /// From due to handed over, as far as the simulator itself is to blame.
    pub lag: Latencies,
    /// From due to PUBACK.
    pub due_to_puback: Latencies,
    /// The same of what gates ask for on its own.
    pub watched: Vec<(Watched, Latencies)>,
    /// From the (first) writing to PUBACK.
    pub sent_to_puback: Latencies,
    /// What happened second by second.
    pub series: Series,
    /// What sites with a broker of their own count, if there are any.
    pub(crate) edge: Option<EdgeStats>,
    /// Which devices are of which class.
    pub classes: Classes,
    /// The topics of this fleet and the class of what comes on them: what arrives on one of them must be an event of ours.
    pub(crate) topics: HashMap<String, Class>,
    /// Events due before this, microseconds, are the warm-up.
    pub(crate) warm_up_us: u64,
    phase: AtomicU8,
    last_error: Mutex<Option<String>>,
    workers: Mutex<Vec<WorkerUsage>>,
    admin: Mutex<Option<Broker>>,
    /// Fewer than devices where devices share them.
    connections_max: u32,
    /// A recovery is not believed sooner.
    pub(crate) settle_us: u64,
}

/// Clients need that long to notice that anything happened.
const SETTLE_US: u64 = 100_000;
/// The same where workers have to tell of it, four times a second.
const TOLD_SETTLE_US: u64 = 600_000;

impl Shared {
    /// Of a run that has not begun.
    pub fn of(plan: &Plan) -> Arc<Self> {
        let scenario = &plan.scenario;
        let subscribers = &scenario.subscribers;
        // Worker processes keep the ledger of lean clients, and know the topics.
        let is_here = scenario.fleet.clients == Clients::Honest;
        let here: Vec<bool> = (0..subscribers.len()).map(|place| !scenario.is_in_worker(place)).collect();
        let at_site = |site| scenario.edge.is_some_and(|edge| edge.has(site));
        let identities: Vec<(String, Class, bool)> = roster::identities(plan)
            .take_while(|_| here.contains(&true))
            .map(|identity| (identity.topic, identity.cohort.class, at_site(identity.site)))
            .collect();
        let classes = scenario.fleet.classes();
        Arc::new(Shared {
            clock: RunClock::default(),
            ledger: match is_here {
                true => SharedLedger::new(
                    subscribers.len(),
                    classes.clone(),
                    identities.iter().map(|(name, _, at_site)| match at_site {
                        true => DeviceLedger::at_site(expectations(plan, name)),
                        false => DeviceLedger::new(expectations(plan, name)),
                    }),
                ),
                false => SharedLedger::elsewhere(scenario.fleet.devices, &classes, &here),
            },
            timeline: Timeline::of(scenario),
            stats: Stats::default(),
            subscribers: subscribers.iter().cloned().map(SubscriberState::new).collect(),
            lag: Latencies::new(),
            due_to_puback: Latencies::new(),
            watched: scenario.watched().into_iter().map(|one| (one, Latencies::new())).collect(),
            sent_to_puback: Latencies::new(),
            series: Series::new(),
            settle_us: if is_here { SETTLE_US } else { TOLD_SETTLE_US },
            edge: scenario.edge.map(EdgeStats::new),
            classes,
            topics: identities.into_iter().map(|(topic, class, _)| (topic, class)).collect(),
            warm_up_us: scenario.run.warm_up.as_micros() as u64,
            phase: AtomicU8::new(Phase::Connecting as u8),
            last_error: Mutex::new(None),
            workers: Mutex::default(),
            admin: Mutex::default(),
            connections_max: match &scenario.fleet.clients {
                Clients::Honest => scenario.fleet.devices,
                Clients::Lean(lean) => lean.connections,
            },
        })
    }

    /// Where the gateway's admin listener is, if anybody is to be asked.
    pub(crate) fn admin(&self) -> Option<Broker> {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn admin_is_at(&self, admin: Broker) {
        *self.admin.lock().unwrap_or_else(PoisonError::into_inner) = Some(admin);
    }

    /// An event of a device was acknowledged: times it if a gate asks for that.
    pub(crate) fn watch(&self, device: u32, due_us: u64, latency_us: u64) {
        for (_, latencies) in self.watched.iter().filter(|(one, _)| one.is_of(device, due_us)) {
            latencies.record(latency_us, true);
        }
    }

    /// How many connections of devices there are to be at a moment of the run.
    pub fn connections_at(&self, now_us: u64) -> u64 {
        self.timeline.devices_at(now_us).min(self.connections_max).into()
    }

    /// What worker processes cost, by their numbers; empty without any.
    pub fn workers(&self) -> Vec<WorkerUsage> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_worker(&self, number: usize, usage: WorkerUsage) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if workers.len() <= number {
            workers.resize_with(number + 1, WorkerUsage::default);
        }
        if let Some(worker) = workers.get_mut(number) {
            *worker = usage;
        }
    }

    /// Where the run stands.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Connecting,
            1 => Phase::Publishing,
            2 => Phase::Draining,
            _ => Phase::Done,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// What the last failed connection said.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_error(&self, error: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(crate) fn refused_subscription(&self) -> Option<(String, String)> {
        self.subscribers
            .iter()
            .find_map(|subscriber| subscriber.refusal().map(|reason| (subscriber.spec.name.clone(), reason)))
    }
}

/// What each subscriber is to get of what is published on a topic.
pub(crate) fn expectations(plan: &Plan, name: &str) -> Box<[Expectation]> {
    plan.scenario.subscribers.iter().map(|subscriber| expectation(subscriber, name)).collect()
}

fn expectation(subscriber: &SubscriberSpec, name: &str) -> Expectation {
    match (topic::matches(subscriber.matching(), name), subscriber.qos) {
        (false, _) => Expectation::Nothing,
        (true, QoS::AtMostOnce) => Expectation::BestEffort,
        (true, QoS::AtLeastOnce) => Expectation::Assured,
    }
}

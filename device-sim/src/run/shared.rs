//! What the tasks of a run share: the clock, the ledger, counters and latencies.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::Plan;
use super::clock::RunClock;
use super::latency::Latencies;
use crate::admin::Desk;
use crate::class::{ByClass, Class, Classes};
use crate::edge::EdgeStats;
use crate::fleet;
use crate::ledger::{DeviceLedger, Expectation, SharedLedger};
use crate::qos::{ByQoS, QoS};
use crate::report::series::Series;
use crate::scenario::phase_gate::Watched;
use crate::scenario::{Clients, SubscriberSpec, topic};
use crate::timeline::Timeline;
use crate::workers::WorkerUsage;

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

/// A counter or gauge that many tasks move.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(crate) fn subtract(&self, less: u64) {
        self.0.fetch_sub(less, Relaxed);
    }
}

/// The fleet's counters. Sums of events live in the ledger; these are for watching, and for what it does not keep.
#[derive(Debug, Default)]
pub struct Stats {
    /// Events that have become due.
    pub due: ByQoS<Count>,
    /// Of these: dropped because the device's queue of unsent events was full.
    pub overflowed: Count,
    /// Written to a connection, first time.
    pub sent: ByQoS<Count>,
    /// PUBACKs with success.
    pub acknowledged: Count,
    /// PUBACKs with a Reason Code of 0x80 or more.
    pub rejected: Count,
    /// Written to a connection again.
    pub retransmitted: Count,
    /// Devices connected now.
    pub connected: Count,
    /// Connections of devices that broke.
    pub disconnects: Count,
    /// Events that were in flight when a connection broke.
    pub in_flight_at_disconnect: Count,
    /// Of these: given up because the broker had no session any more. Sparkplug: and what was never sent, since the next
    /// connection numbers its messages anew.
    pub given_up: Count,
    /// Commands that devices received.
    pub commands: Count,
    /// Of these: replied to.
    pub replies: Count,
}

/// One subscriber's counters.
#[derive(Debug)]
pub struct SubscriberState {
    /// Its part of the scenario.
    pub spec: SubscriberSpec,
    /// First deliveries.
    pub delivered: ByQoS<Count>,
    /// Deliveries beyond the first.
    pub duplicated: Count,
    /// Damaged, moved to another topic, or never published.
    pub corrupt: Count,
    /// Of these: of a device that is known by its number or its topic, by class.
    pub corrupt_of: ByClass<Count>,
    /// Not of this run.
    pub foreign: Count,
    /// Members connected now.
    pub connected: Count,
    /// Connections that broke.
    pub disconnects: Count,
    /// Deliveries that its workers refused or never answered: as many come again.
    pub handed_back: Count,
    /// Times the broker had forgotten the session that it should have kept.
    pub sessions_lost: Count,
    /// QoS 1 deliveries shortly before a connection broke: as many may come again.
    pub may_come_again: Count,
    /// From due to delivered.
    pub latencies: Latencies,
    /// When the newest event that was delivered had been due.
    newest_due_us: AtomicU64,
    /// Members whose first subscription has been granted.
    granted: AtomicU32,
    refusal: Mutex<Option<String>>,
}

impl SubscriberState {
    fn new(spec: SubscriberSpec) -> Self {
        SubscriberState {
            spec,
            delivered: ByQoS::default(),
            duplicated: Count::default(),
            corrupt: Count::default(),
            corrupt_of: ByClass::default(),
            foreign: Count::default(),
            connected: Count::default(),
            disconnects: Count::default(),
            handed_back: Count::default(),
            sessions_lost: Count::default(),
            may_come_again: Count::default(),
            latencies: Latencies::new(),
            newest_due_us: AtomicU64::new(0),
            granted: AtomicU32::new(0),
            refusal: Mutex::new(None),
        }
    }

    /// Whether the first subscription of every member has been granted.
    pub fn is_ready(&self) -> bool {
        self.granted.load(Relaxed) >= self.spec.members
    }

    /// One more member's first subscription has been granted.
    pub(crate) fn granted(&self) {
        self.granted.fetch_add(1, Relaxed);
    }

    pub(crate) fn newest_due_us(&self) -> u64 {
        self.newest_due_us.load(Relaxed)
    }

    pub(crate) fn delivered_due(&self, due_us: u64) {
        self.newest_due_us.fetch_max(due_us, Relaxed);
    }

    /// Something came that should not be; of a device of this class, if one is known.
    pub(crate) fn corrupt(&self, class: Option<Class>) {
        self.corrupt.add(1);
        class.into_iter().for_each(|class| self.corrupt_of[class].add(1));
    }

    pub(crate) fn refused(&self, reason: String) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// Whether acknowledged QoS 1 events must reach it: a QoS 1 subscription whose session was never interrupted or
    /// outlives interruptions.
    pub fn is_assured(&self) -> bool {
        self.spec.qos == QoS::AtLeastOnce && (self.spec.is_kept() || self.disconnects.get() == 0)
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
    /// Whom to ask about the gateway.
    pub(crate) gateway: Desk,
    /// Which devices are of which class.
    pub classes: Classes,
    /// The topics of this fleet and the class of what comes on them: what arrives on one of them must be an event of ours.
    pub(crate) topics: HashMap<String, Class>,
    /// Events due before this, microseconds, are the warm-up.
    pub(crate) warm_up_us: u64,
    phase: AtomicU8,
    last_error: Mutex<Option<String>>,
    workers: Mutex<Vec<WorkerUsage>>,
    /// Fewer than devices where devices share them.
    connections_max: u32,
    /// A recovery is not believed sooner.
    pub(super) settle_us: u64,
}

/// Clients need that long to notice that anything happened.
const SETTLE_US: u64 = 100_000;
/// The same where workers have to tell of it, four times a second.
const TOLD_SETTLE_US: u64 = 600_000;

impl Shared {
    pub(super) fn new(plan: &Plan) -> Self {
        let scenario = &plan.scenario;
        let subscribers = &scenario.subscribers;
        // Worker processes keep the ledger of lean clients, and know the topics.
        let is_here = scenario.fleet.clients == Clients::Honest;
        let here: Vec<bool> = (0..subscribers.len()).map(|place| !scenario.is_in_worker(place)).collect();
        let at_site = |site| scenario.edge.is_some_and(|edge| edge.has(site));
        let identities: Vec<(String, Class, bool)> = fleet::identities(plan)
            .take_while(|_| here.contains(&true))
            .map(|identity| (identity.topic, identity.cohort.class, at_site(identity.site)))
            .collect();
        let classes = scenario.fleet.classes();
        Shared {
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
            edge: scenario.edge.map(EdgeStats::new),
            gateway: Desk::default(),
            settle_us: if is_here { SETTLE_US } else { TOLD_SETTLE_US },
            classes,
            topics: identities.into_iter().map(|(topic, class, _)| (topic, class)).collect(),
            warm_up_us: scenario.run.warm_up.as_micros() as u64,
            phase: AtomicU8::new(Phase::Connecting as u8),
            last_error: Mutex::new(None),
            workers: Mutex::default(),
            connections_max: match &scenario.fleet.clients {
                Clients::Honest => scenario.fleet.devices,
                Clients::Lean(lean) => lean.connections,
            },
        }
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
        self.subscribers.iter().find_map(|subscriber| {
            let refusal = subscriber.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
            refusal.map(|reason| (subscriber.spec.name.clone(), reason))
        })
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

/// How many QoS 1 deliveries came lately, in steps of a tenth of the window.
pub(crate) struct LateDeliveries {
    steps: VecDeque<(u64, u64)>,
    step_us: u64,
}

impl LateDeliveries {
    /// Over a window of microseconds.
    pub(crate) fn new(window_us: u64) -> Self {
        LateDeliveries { steps: VecDeque::new(), step_us: (window_us / 10).max(1) }
    }

    pub(crate) fn note(&mut self, now_us: u64) {
        let step = now_us / self.step_us;
        match self.steps.back_mut() {
            Some((last, count)) if *last == step => *count += 1,
            _ => self.steps.push_back((step, 1)),
        }
        while self.steps.front().is_some_and(|(first, _)| first + 10 < step) {
            self.steps.pop_front();
        }
    }

    /// The connection broke: how many there were since `now_us` less the window; forgets them.
    pub(crate) fn take(&mut self, now_us: u64) -> u64 {
        let now = now_us / self.step_us;
        self.steps.drain(..).filter(|(step, _)| step + 10 >= now).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_deliveries_are_those_within_the_window() {
        let mut late = LateDeliveries::new(1_000_000);
        for now_us in (0..5_000_000).step_by(50_000) {
            late.note(now_us);
        }
        let count = late.take(5_000_000);
        assert!((20..=22).contains(&count), "{count}");
        assert_eq!(late.take(5_000_000), 0);
    }
}

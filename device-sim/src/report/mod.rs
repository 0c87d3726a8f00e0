//! What a run came to: one document for people ([`text`], [`html`]) and machines (JSON, [`junit`]), with the verdict on
//! every promise ([`verdict`]), what happened second by second ([`crate::shared::series`]), and what the gateway's own counters say to it
//! ([`gateway`]).
//!
//! The JSON form is stable: fields are added, never renamed or given another meaning, as long as `schema` is 1. Times
//! are microseconds where the name ends in `_us`, seconds where it ends in `_s`.

mod classes;
mod edge;
pub mod gateway;
pub mod html;
pub mod junit;
mod markup;
pub mod text;
pub mod verdict;
mod workers;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

pub use classes::{ClassQosReport, ClassReport};
pub use edge::EdgeReport;
pub use workers::WorkerReport;

use crate::ledger::{Received, Totals};
use crate::plan::Plan;
use crate::qos::{ByQoS, QoS};
use crate::shared::series::SeriesReport;
use crate::shared::{LatencySummary, QuantilePoint, Shared, SubscriberState};
use gateway::CounterComparison;
use verdict::Promise;

/// The version of the JSON form.
const SCHEMA: u32 = 1;

/// The simulator calls itself the bottleneck when one event in a hundred was handed over this late by its own doing.
pub const LAG_P99_MAX_US: u64 = 25_000;

/// The whole document.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of this form.
    pub schema: u32,
    /// Whether all promises were kept.
    pub verdict: Verdict,
    /// The promises and gates that did not hold, one sentence each.
    pub broken: Vec<String>,
    /// What was run, if it has a name.
    pub scenario: Option<String>,
    /// About when publishing began, seconds since the Unix epoch.
    pub began_unix_s: u64,
    /// The seed of everything random.
    pub seed: u64,
    /// This run's number in its events.
    pub epoch: u32,
    /// Where the broker was.
    pub broker: String,
    /// What the broker can take, events per second, if the scenario's rates were multiples of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rated_per_s: Option<f64>,
    /// For how long events were due.
    pub published_for_s: f64,
    /// The fleet as a whole.
    pub fleet: FleetReport,
    /// Per QoS of publication.
    pub qos: ByQoS<QosReport>,
    /// The same per class, of those that have devices; the one that matters most first.
    pub classes: Vec<ClassReport>,
    /// Sites with a broker of their own, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeReport>,
    /// Deliveries that were damaged, on a wrong topic, or of events never published; all subscribers.
    pub corrupt: u64,
    /// Per subscriber.
    pub subscribers: Vec<SubscriberReport>,
    /// From due to PUBACK.
    pub due_to_puback_us: LatencySummary,
    /// From first writing to PUBACK.
    pub sent_to_puback_us: LatencySummary,
    /// How the simulator itself did.
    pub simulator: SimulatorReport,
    /// All promises, kept and broken.
    pub promises: Vec<Promise>,
    /// What the scenario expected besides.
    pub gates: Vec<GateResult>,
    /// The gateway's own counters beside the ledger, if they were read.
    pub gateway: Option<CounterComparison>,
    /// Why they were not, if they were to be.
    pub gateway_unread: Option<String>,
    /// What happened second by second.
    pub series: SeriesReport,
    /// Latencies as distributions.
    pub distributions: Vec<Distribution>,
}

/// One thing the scenario expected, in words and numbers with their units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GateResult {
    /// What was looked at.
    pub name: String,
    /// What it should have been.
    pub wanted: String,
    /// What it was.
    pub got: String,
    /// Whether that is good enough.
    pub held: bool,
}

/// One latency as a distribution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distribution {
    /// From what to what.
    pub name: String,
    /// Rising; empty if nothing was measured.
    pub points: Vec<QuantilePoint>,
}

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All promises were kept.
    Kept,
    /// At least one was broken.
    Broken,
}

/// The fleet as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct FleetReport {
    /// How many devices.
    pub devices: u32,
    /// Of these, connected at the end of the drain.
    pub connected_at_end: u64,
    /// Connections that broke.
    pub disconnects: u64,
    /// Events in flight when a connection broke.
    pub in_flight_at_disconnect: u64,
    /// Of these: given up because the broker had forgotten the session.
    pub given_up: u64,
    /// Events written again.
    pub retransmitted: u64,
    /// What the last connection that failed or broke said.
    pub last_error: Option<String>,
    /// Events due per second.
    pub due_per_s: f64,
    /// Events written per second of publishing.
    pub sent_per_s: f64,
    /// PUBACKs per second of publishing.
    pub acknowledged_per_s: f64,
    /// First deliveries to all subscribers per second of publishing.
    pub delivered_per_s: f64,
}

/// Events published with one QoS.
#[derive(Clone, Debug, Default, Serialize)]
pub struct QosReport {
    /// Due by the schedule.
    pub due: u64,
    /// Of these: never written to a connection (queue overflow, or no connection by the end).
    pub not_sent: u64,
    /// Written to a connection.
    pub sent: u64,
    /// Acknowledged with success.
    pub acknowledged: u64,
    /// Refused with a Reason Code.
    pub rejected: u64,
    /// QoS 1: sent, and neither.
    pub unacknowledged: u64,
    /// First deliveries, by subscriber.
    pub delivered: BTreeMap<String, u64>,
    /// QoS 1: acknowledged and never delivered, over the subscribers to which that was promised.
    /// QoS 0: sent and never delivered, over all subscribers.
    pub lost: u64,
    /// Deliveries beyond the first, all subscribers.
    pub duplicated: u64,
    /// First deliveries after a later event's, all subscribers.
    pub out_of_order: u64,
}

/// One subscriber.
#[derive(Clone, Debug, Serialize)]
pub struct SubscriberReport {
    /// Its name.
    pub name: String,
    /// Its Topic Filter.
    pub filter: String,
    /// The QoS of its subscription.
    pub subscription_qos: u8,
    /// What it speaks.
    pub protocol: &'static str,
    /// Whether its session outlives its connections.
    pub durable: bool,
    /// Whether acknowledged QoS 1 events were promised to it.
    pub assured: bool,
    /// Whether a device's events were to come in order.
    pub ordered: bool,
    /// Per QoS of publication.
    pub qos: ByQoS<ReceivedReport>,
    /// QoS 1 duplicates that its and the devices' broken connections explain.
    pub duplicates_allowed: u64,
    /// Damaged, on a wrong topic, or never published.
    pub corrupt: u64,
    /// Not of this run.
    pub foreign: u64,
    /// Connections that broke.
    pub disconnects: u64,
    /// Times the broker had forgotten its durable session.
    pub sessions_lost: u64,
    /// From due to delivered.
    pub due_to_delivered_us: LatencySummary,
}

/// What a subscriber saw of one QoS.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ReceivedReport {
    /// Events that arrived.
    pub delivered: u64,
    /// QoS 1: acknowledged and never delivered. QoS 0: sent and never delivered.
    pub lost: u64,
    /// Deliveries beyond the first.
    pub duplicated: u64,
    /// First deliveries after a later event's.
    pub out_of_order: u64,
    /// Deliveries after the event was given up.
    pub late: u64,
}

/// How the simulator itself did.
#[derive(Clone, Debug, Serialize)]
pub struct SimulatorReport {
    /// From due to handed over, less what the broker was waited for.
    pub lag_us: LatencySummary,
    /// Whether that was so much that the run says more about the simulator than about the broker.
    pub bottleneck: bool,
    /// Events dropped because a device's queue was full.
    pub overflowed: u64,
    /// CPU time of the process from the first event to the end of the drain.
    pub cpu_s: f64,
    /// The same per event sent; includes the broker if it runs in this process.
    pub cpu_us_per_event: f64,
    /// Its worker processes; empty without any.
    pub workers: Vec<WorkerReport>,
    /// Which version of it that was.
    pub version: &'static str,
}

impl Report {
    /// Sums up a run.
    pub fn new(plan: &Plan, shared: &Shared, published_for: Duration, cpu: Duration) -> Self {
        let by_class = shared.ledger.totals();
        let totals = by_class.sum();
        let subscribers: Vec<SubscriberReport> = shared
            .subscribers
            .iter()
            .zip(&totals.received)
            .map(|(state, sums)| subscriber(shared, state, sums))
            .collect();
        let seconds = published_for.as_secs_f64().max(1e-9);
        let per_second = |count: u64| count as f64 / seconds;
        let sent = totals.published.qos0.sent + totals.published.qos1.sent;
        let stats = &shared.stats;
        let delivered: u64 =
            subscribers.iter().map(|one| one.qos.qos0.delivered + one.qos.qos1.delivered).sum();
        let lag_us = shared.lag.total();
        shared.series.close(shared);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut report = Report {
            schema: SCHEMA,
            verdict: Verdict::Kept,
            broken: Vec::new(),
            scenario: None,
            began_unix_s: now.as_secs().saturating_sub(shared.clock.now_us() / 1_000_000),
            seed: plan.seed,
            epoch: plan.epoch,
            broker: format!("{}:{}", plan.host, plan.port),
            rated_per_s: None,
            published_for_s: published_for.as_secs_f64(),
            fleet: FleetReport {
                devices: plan.scenario.fleet.devices,
                connected_at_end: stats.connected.get(),
                disconnects: stats.disconnects.get(),
                in_flight_at_disconnect: stats.in_flight_at_disconnect.get(),
                given_up: stats.given_up.get(),
                retransmitted: stats.retransmitted.get(),
                last_error: shared.last_error(),
                due_per_s: per_second(stats.due.qos0.get() + stats.due.qos1.get()),
                sent_per_s: per_second(sent),
                acknowledged_per_s: per_second(totals.published.qos1.acknowledged),
                delivered_per_s: per_second(delivered),
            },
            qos: ByQoS {
                qos0: qos(shared, &totals, &subscribers, QoS::AtMostOnce),
                qos1: qos(shared, &totals, &subscribers, QoS::AtLeastOnce),
            },
            edge: EdgeReport::new(shared, totals.at_sites),
            classes: classes::classes(shared, &by_class, &subscribers),
            corrupt: subscribers.iter().map(|one| one.corrupt).sum(),
            subscribers,
            due_to_puback_us: shared.due_to_puback.total(),
            sent_to_puback_us: shared.sent_to_puback.total(),
            simulator: SimulatorReport {
                lag_us,
                bottleneck: lag_us.p99 > LAG_P99_MAX_US,
                overflowed: stats.overflowed.get(),
                cpu_s: cpu.as_secs_f64(),
                cpu_us_per_event: if sent == 0 { 0.0 } else { cpu.as_secs_f64() * 1e6 / sent as f64 },
                workers: shared.workers().iter().map(WorkerReport::of).collect(),
                version: env!("CARGO_PKG_VERSION"),
            },
            promises: Vec::new(),
            gates: Vec::new(),
            gateway: None,
            gateway_unread: None,
            series: shared.series.report(),
            distributions: distributions(shared),
        };
        report.judge();
        report
    }

    /// Comes to the verdict again, after gates or the gateway's counters were added.
    pub fn judge(&mut self) {
        self.promises = verdict::promises(self);
        self.broken = verdict::broken(self);
        self.verdict = if self.broken.is_empty() { Verdict::Kept } else { Verdict::Broken };
    }
}

fn distributions(shared: &Shared) -> Vec<Distribution> {
    let to_subscribers = shared
        .subscribers
        .iter()
        .map(|one| Distribution { name: format!("due to {}", one.spec.name), points: one.latencies.curve() });
    [("sent to PUBACK", &shared.sent_to_puback), ("due to PUBACK", &shared.due_to_puback)]
        .map(|(name, latencies)| Distribution { name: name.to_owned(), points: latencies.curve() })
        .into_iter()
        .chain(to_subscribers)
        .collect()
}

fn subscriber(shared: &Shared, state: &SubscriberState, sums: &ByQoS<Received>) -> SubscriberReport {
    let spec = &state.spec;
    SubscriberReport {
        name: spec.name.clone(),
        filter: spec.filter.clone(),
        subscription_qos: spec.qos as u8,
        protocol: spec.protocol.as_str(),
        durable: spec.durable,
        assured: state.is_assured(),
        qos: ByQoS { qos0: received(&sums.qos0), qos1: received(&sums.qos1) },
        ordered: spec.is_ordered(),
        duplicates_allowed: shared.stats.in_flight_at_disconnect.get()
            + state.may_come_again.get()
            + state.handed_back.get(),
        corrupt: state.corrupt.get(),
        foreign: state.foreign.get(),
        disconnects: state.disconnects.get(),
        sessions_lost: state.sessions_lost.get(),
        due_to_delivered_us: state.latencies.total(),
    }
}

fn received(sums: &Received) -> ReceivedReport {
    let Received { delivered, lost, duplicated, out_of_order, late, unknown: _ } = *sums;
    ReceivedReport { delivered, lost, duplicated, out_of_order, late }
}

fn qos(shared: &Shared, totals: &Totals, subscribers: &[SubscriberReport], qos: QoS) -> QosReport {
    let published = totals.published[qos];
    let due = shared.stats.due[qos].get();
    let sum = |of: fn(&ReceivedReport) -> u64| subscribers.iter().map(|one| of(&one.qos[qos])).sum();
    let promised = |one: &&SubscriberReport| qos == QoS::AtMostOnce || one.assured;
    QosReport {
        due,
        not_sent: due.saturating_sub(published.sent),
        sent: published.sent,
        acknowledged: published.acknowledged,
        rejected: published.rejected,
        unacknowledged: published.unacknowledged,
        delivered: subscribers.iter().map(|one| (one.name.clone(), one.qos[qos].delivered)).collect(),
        lost: subscribers.iter().filter(promised).map(|one| one.qos[qos].lost).sum(),
        duplicated: sum(|received| received.duplicated),
        out_of_order: sum(|received| received.out_of_order),
    }
}

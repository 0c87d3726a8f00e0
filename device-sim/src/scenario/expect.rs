//! `[expect]`: what a run must come to. The keys; [`crate::gates`] judges them.
//!
//! Gates add to what every run promises ([`crate::report::verdict`]) and never take away from it.

use std::sync::Arc;
use std::time::Duration;

use super::phase::{Disturbance, PhaseSpec};
use super::phase_gate::{self, PhaseGate};
use super::section::Section;
use super::{Cohort, SubscriberSpec};
use crate::class::{ByClass, Class};

/// What a run must come to; what is not written is not asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expect {
    /// QoS 1 events acknowledged and never delivered where that was promised, at most.
    pub loss: Option<u64>,
    /// The share of QoS 0 events that some subscriber missed, at most.
    pub qos0_loss: Option<f64>,
    /// Deliveries beyond the first, all subscribers together, at most.
    pub duplicates: Option<u64>,
    /// First deliveries after a later event's, at most; of subscribers whose order is promised.
    pub out_of_order: Option<u64>,
    /// Deliveries that were damaged, on a wrong topic or never published, at most.
    pub corrupt: Option<u64>,
    /// Events refused with a Reason Code, at most.
    pub rejected: Option<u64>,
    /// QoS 1 events that nobody answered for, at most.
    pub unacknowledged: Option<u64>,
    /// Events that were due and never written to a connection, at most.
    pub not_sent: Option<u64>,
    /// Times a durable session was gone, at most.
    pub sessions_lost: Option<u64>,
    /// PUBACKs per second of publishing, at least.
    pub acknowledged_per_s: Option<f64>,
    /// From due to PUBACK.
    pub puback: LatencyBounds,
    /// From due to delivered, at every subscriber that no phase slows down or takes away.
    pub delivery: LatencyBounds,
    /// After each disturbance: until everything is connected and worked off again, at most.
    pub recovery: Option<Duration>,
    /// Topic Filters of what may be shed: QoS 0 events on other topics all arrive.
    pub shed_only: Option<Vec<String>>,
    /// Events that the gateway counts as rejected or shed, and deliveries that it counts as dropped or expired, at most.
    pub given_up: Option<u64>,
    /// Whether the gateway's own books balance to the last event.
    pub books: bool,
    /// The gateway's resident memory, as a part of what it allows itself, at most.
    pub memory: Option<f64>,
    /// The gateway's level, at most.
    pub level: Option<u64>,
    /// What single phases must come to.
    pub phases: Vec<PhaseGate>,
    /// Classes that may be shed: QoS 0 events of other classes all arrive.
    pub shed_only_class: Option<Vec<Class>>,
    /// Events that sites with a broker of their own had and never passed on, of both QoS, at most.
    pub edge_loss: Option<u64>,
    /// What each class must come to.
    pub class: ByClass<ClassExpect>,
}

/// What the events of one class must come to, all subscribers together; what is not written is not asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassExpect {
    /// QoS 1 events acknowledged and never delivered where that was promised, at most.
    pub loss: Option<u64>,
    /// The share of QoS 0 events that some subscriber missed, at most.
    pub qos0_loss: Option<f64>,
    /// Deliveries beyond the first, at most.
    pub duplicates: Option<u64>,
    /// First deliveries after a later event's, at most.
    pub out_of_order: Option<u64>,
    /// Deliveries that were damaged or never published, at most.
    pub corrupt: Option<u64>,
    /// Events refused with a Reason Code, at most.
    pub rejected: Option<u64>,
    /// QoS 1 events that nobody answered for, at most.
    pub unacknowledged: Option<u64>,
}

/// Upper bounds of a latency's percentiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyBounds {
    /// Of half of them.
    pub p50: Option<Duration>,
    /// Of 90 %.
    pub p90: Option<Duration>,
    /// Of 99 %.
    pub p99: Option<Duration>,
    /// Of 99.9 %.
    pub p999: Option<Duration>,
    /// Of all.
    pub max: Option<Duration>,
}

/// Reads `[expect]`; `there` are the classes that the fleet has.
pub(super) fn expect(
    section: &Section<'_>,
    subscribers: &[SubscriberSpec],
    phases: &[PhaseSpec],
    there: &ByClass<u32>,
    cohorts: &[Arc<Cohort>],
    has_edge: bool,
) -> Expect {
    let optional = |key, least, most| section.has(key).then(|| section.number(key, least, least, most));
    let expect = Expect {
        loss: section.optional("loss"),
        qos0_loss: optional("qos0_loss", 0.0, 1.0),
        duplicates: section.optional("duplicates"),
        out_of_order: section.optional("out_of_order"),
        corrupt: section.optional("corrupt"),
        rejected: section.optional("rejected"),
        unacknowledged: section.optional("unacknowledged"),
        not_sent: section.optional("not_sent"),
        sessions_lost: section.optional("sessions_lost"),
        acknowledged_per_s: optional("acknowledged_per_s", 0.0, 1e9),
        puback: bounds(section.section("puback")),
        delivery: bounds(section.section("delivery")),
        recovery: section.optional("recovery"),
        shed_only: section.optional("shed_only"),
        shed_only_class: class_names(section),
        edge_loss: section.optional("edge_loss"),
        class: classes(section.section("class"), there),
        given_up: section.optional("given_up"),
        books: section.or("books", false),
        memory: optional("memory", 0.0, 1.0),
        level: section.optional("level"),
        phases: phase_gate::phase_gates(section, phases, cohorts),
    };
    if expect.edge_loss.is_some() && !has_edge {
        section.fault("edge_loss", "there are no sites with a broker of their own without [edge]");
    }
    // A gate that nothing could ever meet, or miss, is a mistake.
    if expect.delivery != LatencyBounds::default() && !undisturbed(subscribers, phases).any(|calm| calm) {
        section.fault("delivery", "every subscriber is slowed down or taken away, by itself or by a phase");
    }
    if expect.recovery.is_some() && !phases.iter().any(PhaseSpec::is_recovered_from) {
        section.fault("recovery", "no phase disturbs anything");
    }
    for filter in expect.shed_only.iter().flatten() {
        if !rumqttc::valid_filter(filter) {
            section.fault("shed_only", &format!("`{filter}` is not a Topic Filter"));
        }
    }
    expect
}

/// For each subscriber, whether its latencies are the broker's doing alone.
pub(crate) fn undisturbed(
    subscribers: &[SubscriberSpec],
    phases: &[PhaseSpec],
) -> impl Iterator<Item = bool> {
    let disturbed = |place: usize| {
        phases.iter().any(|phase| match phase.disturbance {
            Some(Disturbance::SlowConsumer { subscriber, .. } | Disturbance::Outage { subscriber }) => {
                subscriber == place
            }
            _ => false,
        })
    };
    subscribers.iter().enumerate().map(move |(place, one)| one.delay.is_zero() && !disturbed(place))
}

/// `shed_only_class = ["bulk"]`
fn class_names(section: &Section<'_>) -> Option<Vec<Class>> {
    let names: Vec<String> = section.optional("shed_only_class")?;
    let known = |name: &String| {
        let class = Class::from_name(name);
        if class.is_none() {
            let names = Class::ALL.map(Class::as_str).join(", ");
            section.fault("shed_only_class", &format!("`{name}` is not one of {names}"));
        }
        class
    };
    Some(names.iter().filter_map(known).collect())
}

/// `[expect.class.critical]` and so on.
fn classes(section: Section<'_>, there: &ByClass<u32>) -> ByClass<ClassExpect> {
    let mut expected = ByClass::default();
    for class in Class::ALL {
        let keys = section.section(class.as_str());
        if section.has(class.as_str()) && there[class] == 0 {
            section.fault(class.as_str(), "no cohort is of this class");
        }
        let share = keys.has("qos0_loss").then(|| keys.number("qos0_loss", 0.0, 0.0, 1.0));
        expected[class] = ClassExpect {
            loss: keys.optional("loss"),
            qos0_loss: share,
            duplicates: keys.optional("duplicates"),
            out_of_order: keys.optional("out_of_order"),
            corrupt: keys.optional("corrupt"),
            rejected: keys.optional("rejected"),
            unacknowledged: keys.optional("unacknowledged"),
        };
        keys.finish();
    }
    section.finish();
    expected
}

fn bounds(section: Section<'_>) -> LatencyBounds {
    let bounds = LatencyBounds {
        p50: section.optional("p50"),
        p90: section.optional("p90"),
        p99: section.optional("p99"),
        p999: section.optional("p999"),
        max: section.optional("max"),
    };
    section.finish();
    bounds
}

//! The verdict: which promises were kept. Pure; everything it judges stands in the report.
//!
//! Broken by: a QoS 1 event acknowledged and never delivered to a subscriber it was promised to; anything corrupt; a
//! first delivery out of order; more QoS 1 duplicates than broken connections explain; a QoS 0 duplicate; a durable
//! session forgotten; by a run in which nothing arrived, since it proves nothing; by counters of the gateway that nothing
//! explains, if they were read; and by a gate of the scenario that did not hold.
//! Not broken by: QoS 0 loss, unacknowledged or openly rejected events, events the simulator could not send, and what the broker of
//! an edge site acknowledged and never passed on: that one is not under test.

use serde::Serialize;

use super::{Report, SubscriberReport};

/// One promise, and whether it was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Promise {
    /// What is promised, in a few words that do not change from run to run.
    pub name: &'static str,
    /// To which subscriber; none if to all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<String>,
    /// Whether it was kept.
    pub held: bool,
    /// If not: what happened instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_by: Option<String>,
}

/// All promises, kept and broken.
pub fn promises(report: &Report) -> Vec<Promise> {
    let mut promises: Vec<Promise> = report.subscribers.iter().flat_map(to_subscriber).collect();
    let nothing = report.subscribers.iter().all(|one| one.qos.qos0.delivered + one.qos.qos1.delivered == 0);
    let sentence = "nothing was delivered to anyone, so nothing was proved".to_owned();
    promises.push(promise("something is delivered", None, nothing.then_some(sentence)));
    if let Some(gateway) = &report.gateway {
        let sentence = gateway.unexplained().next().map(|first| format!("the gateway's counters: {first}"));
        promises.push(promise("the gateway counts what the ledger counts", None, sentence));
    }
    promises
}

/// One sentence per broken promise and gate; none if all held.
pub fn broken(report: &Report) -> Vec<String> {
    let promises = report.promises.iter().filter_map(|promise| promise.broken_by.clone());
    let gates = report.gates.iter().filter(|gate| !gate.held);
    promises
        .chain(gates.map(|gate| format!("{}: wanted {}, got {}", gate.name, gate.wanted, gate.got)))
        .collect()
}

fn promise(name: &'static str, subscriber: Option<String>, broken_by: Option<String>) -> Promise {
    Promise { name, subscriber, held: broken_by.is_none(), broken_by }
}

fn to_subscriber(one: &SubscriberReport) -> Vec<Promise> {
    let lost = if one.assured { one.qos.qos1.lost } else { 0 };
    let out_of_order = if one.ordered { one.qos.qos0.out_of_order + one.qos.qos1.out_of_order } else { 0 };
    // A QoS 1 event reaches a QoS 0 subscription at most once [MQTT-4.3.1-1]; but the broker cannot know a publisher's
    // retransmission from a new event, so those are allowed to it as well.
    let unexplained = one.qos.qos1.duplicated.saturating_sub(one.duplicates_allowed);
    let faults = [
        ("what is acknowledged is delivered", lost, "acknowledged QoS 1 events were never delivered"),
        (
            "what is delivered is intact",
            one.corrupt,
            "deliveries were corrupt, on a wrong topic, or of events never published",
        ),
        ("events come in order", out_of_order, "events were delivered out of order"),
        (
            "only broken connections bring duplicates",
            unexplained,
            "more QoS 1 duplicates came than broken connections explain",
        ),
        ("QoS 0 comes once", one.qos.qos0.duplicated, "QoS 0 events were delivered more than once"),
        (
            "durable sessions are kept",
            one.sessions_lost,
            "times its durable session was gone when it came back",
        ),
    ];
    let judged = |(name, count, what): (&'static str, u64, &str)| {
        let broken_by = (count > 0).then(|| format!("{}: {count} {what}", one.name));
        promise(name, Some(one.name.clone()), broken_by)
    };
    faults.into_iter().map(judged).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::Plan;
    use crate::qos::QoS;
    use crate::report::{GateResult, Verdict};
    use crate::scenario::Scenario;
    use crate::shared::Shared;

    const ARCHIVE: usize = 1;

    fn plan() -> Plan {
        let scenario = Scenario::parse(include_str!("../../scenarios/first.toml")).unwrap();
        Plan { scenario, host: "broker".to_owned(), port: 1_883, seed: 1, epoch: 2 }
    }

    /// Ten good QoS 1 events of device 0, and then what the test adds.
    fn report(spoil: impl Fn(&Shared)) -> Report {
        let plan = plan();
        let shared = Shared::of(&plan);
        {
            let mut device = shared.ledger.device(0).unwrap();
            for sequence in 0..10 {
                device.issue(sequence, QoS::AtLeastOnce);
                device.acknowledged(sequence);
                device.delivered(0, sequence, QoS::AtLeastOnce);
                device.delivered(ARCHIVE, sequence, QoS::AtLeastOnce);
            }
        }
        spoil(&shared);
        Report::new(&plan, &shared, Duration::from_secs(1), Duration::ZERO)
    }

    fn broken(spoil: impl Fn(&Shared)) -> Vec<String> {
        let report = report(spoil);
        assert_eq!(report.verdict == Verdict::Broken, !report.broken.is_empty());
        report.broken
    }

    #[test]
    fn a_good_run_keeps_all_promises() {
        assert_eq!(broken(|_| {}), [""; 0]);
    }

    #[test]
    fn a_lost_acknowledged_event_breaks_a_promise_to_the_durable_subscriber_alone() {
        let lose = |shared: &Shared| {
            let mut device = shared.ledger.device(1).unwrap();
            device.issue(0, QoS::AtLeastOnce);
            device.acknowledged(0);
        };
        assert_eq!(broken(lose), ["archive: 1 acknowledged QoS 1 events were never delivered"]);
        let report = report(lose);
        assert_eq!(report.qos.qos1.lost, 1, "what was promised");
        assert_eq!(
            report.subscribers.first().map(|dashboard| dashboard.qos.qos1.lost),
            Some(1),
            "what was missed"
        );
    }

    #[test]
    fn what_was_not_acknowledged_or_had_qos_0_may_be_lost() {
        let lose = |shared: &Shared| {
            let mut device = shared.ledger.device(1).unwrap();
            device.issue(0, QoS::AtLeastOnce);
            device.sent(0);
            device.issue(1, QoS::AtMostOnce);
            device.sent(1);
        };
        assert_eq!(broken(lose), [""; 0]);
        assert_eq!(report(lose).qos.qos0.lost, 2, "at both subscribers");
    }

    #[test]
    fn duplicates_are_allowed_as_far_as_broken_connections_explain_them() {
        let repeat = |shared: &Shared, in_flight| {
            let mut device = shared.ledger.device(0).unwrap();
            device.delivered(ARCHIVE, 8, QoS::AtLeastOnce);
            device.delivered(ARCHIVE, 9, QoS::AtLeastOnce);
            shared.stats.in_flight_at_disconnect.add(in_flight);
        };
        assert_eq!(broken(|shared| repeat(shared, 2)), [""; 0]);
        let sentence = "archive: 1 more QoS 1 duplicates came than broken connections explain";
        assert_eq!(broken(|shared| repeat(shared, 1)), [sentence]);
    }

    #[test]
    fn reordering_corruption_and_forgotten_sessions_break_promises() {
        let out_of_order = |shared: &Shared| {
            let mut device = shared.ledger.device(1).unwrap();
            for sequence in [0, 1] {
                device.issue(sequence, QoS::AtMostOnce);
            }
            for subscriber in [0, ARCHIVE] {
                device.delivered(subscriber, 1, QoS::AtMostOnce);
                device.delivered(subscriber, 0, QoS::AtMostOnce);
            }
        };
        let sentence = |who| format!("{who}: 1 events were delivered out of order");
        assert_eq!(broken(out_of_order), [sentence("dashboard"), sentence("archive")]);
        let corrupt = |shared: &Shared| shared.subscribers[0].corrupt.add(3);
        assert_eq!(
            broken(corrupt),
            ["dashboard: 3 deliveries were corrupt, on a wrong topic, or of events never published"]
        );
        let forgotten = |shared: &Shared| shared.subscribers[ARCHIVE].sessions_lost.add(1);
        assert_eq!(broken(forgotten), ["archive: 1 times its durable session was gone when it came back"]);
    }

    #[test]
    fn a_gate_that_does_not_hold_breaks_the_verdict_and_names_both_numbers() {
        let gate = |held| GateResult {
            name: "delivery p99".to_owned(),
            wanted: "under 50 ms".to_owned(),
            got: "61.0 ms".to_owned(),
            held,
        };
        let mut judged = report(|_| {});
        judged.gates = vec![gate(true)];
        judged.judge();
        assert_eq!((judged.verdict, judged.broken.len()), (Verdict::Kept, 0));
        judged.gates.push(gate(false));
        judged.judge();
        assert_eq!(judged.verdict, Verdict::Broken);
        assert_eq!(judged.broken, ["delivery p99: wanted under 50 ms, got 61.0 ms"]);
    }

    #[test]
    fn a_run_without_deliveries_proves_nothing() {
        let plan = plan();
        let report = Report::new(&plan, &Shared::of(&plan), Duration::from_secs(1), Duration::ZERO);
        assert_eq!(report.broken, ["nothing was delivered to anyone, so nothing was proved"]);
    }

    /// The JSON form is promised: a name that disappears from here is a break for whoever reads it.
    #[test]
    fn the_json_form_has_the_promised_names() {
        let json = serde_json::to_value(report(|_| {})).unwrap();
        let names = |value: &serde_json::Value| {
            value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names(&json),
            "began_unix_s broken broker classes corrupt distributions due_to_puback_us epoch fleet gates gateway gateway_unread promises \
             published_for_s qos scenario schema seed sent_to_puback_us series simulator subscribers verdict"
        );
        assert_eq!(json["verdict"], "kept");
        assert_eq!(json["schema"], 1);
        assert_eq!(
            names(&json["fleet"]),
            "acknowledged_per_s connected_at_end delivered_per_s devices disconnects due_per_s given_up \
             in_flight_at_disconnect last_error retransmitted sent_per_s"
        );
        assert_eq!(names(&json["qos"]), "0 1");
        assert_eq!(
            names(&json["qos"]["1"]),
            "acknowledged delivered due duplicated lost not_sent out_of_order rejected sent unacknowledged"
        );
        assert_eq!(json["qos"]["1"]["delivered"]["archive"], 10);
        assert_eq!(
            names(&json["subscribers"][0]),
            "assured corrupt disconnects due_to_delivered_us duplicates_allowed durable filter foreign name ordered \
             protocol qos sessions_lost subscription_qos"
        );
        assert_eq!(names(&json["subscribers"][0]["qos"]["0"]), "delivered duplicated late lost out_of_order");
        assert_eq!(names(&json["due_to_puback_us"]), "count max mean p50 p90 p99 p999");
        assert_eq!(
            names(&json["simulator"]),
            "bottleneck cpu_s cpu_us_per_event lag_us overflowed version workers"
        );
        assert_eq!(names(&json["promises"][0]), "held name subscriber");
        assert_eq!(names(&json["series"]), "samples step_s");
        assert_eq!(
            names(&json["series"]["samples"][0]),
            "acknowledged_per_s connected delivered_per_s disconnects due_per_s due_to_delivered_us due_to_puback_us \
             lag_us phase sent_per_s span_s t_s"
        );
        assert_eq!(names(&json["series"]["samples"][0]["lag_us"]), "count max p50 p99");
        assert_eq!(names(&json["distributions"][0]), "name points");
    }
}

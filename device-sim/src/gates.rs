//! Gates: what `[expect]` asks of a run, judged. Pure; everything is in the report and in [`Facts`].
//!
//! Promise: each gate that the scenario writes comes out as one [`GateResult`] with what was wanted and what was found,
//! whether it held or not; a gate on something that was never measured does not hold. `overload` has those on a gateway that has too
//! much to do.

mod overload;

mod classes;

use std::time::Duration;

pub use overload::{HogFact, WatchedLatency};

use crate::report::gateway::Tally;
use crate::report::text::{grouped, micros};
use crate::report::{GateResult, Report};
use crate::scenario::Scenario;
use crate::scenario::expect::{LatencyBounds, undisturbed};
use crate::shared::LatencySummary;

/// What the report does not hold.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// One for each disturbance that one recovers from.
    pub recoveries: Vec<Recovery>,
    /// QoS 0 events that are missing on topics that nothing may be shed of.
    pub shed_elsewhere: u64,
    /// Acknowledgements that are timed on their own.
    pub watched: Vec<WatchedLatency>,
    /// How soon hogs were on record, where a gate asks.
    pub hogs: Vec<HogFact>,
    /// What the gateway counted, if it was asked.
    pub tally: Option<Tally>,
}

/// How a run came back from a disturbance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The disturbance's phase.
    pub phase: String,
    /// From its end until everybody was connected and nothing waited for more than a second; none: not by the end of the
    /// run.
    pub took: Option<Duration>,
}

/// Judges a run.
pub fn judge(scenario: &Scenario, report: &Report, facts: &Facts) -> Vec<GateResult> {
    let expect = &scenario.expect;
    let (qos0, qos1) = (&report.qos.qos0, &report.qos.qos1);
    let subscribers = &report.subscribers;
    let out_of_order = subscribers
        .iter()
        .filter(|one| one.ordered)
        .map(|one| one.qos.qos0.out_of_order + one.qos.qos1.out_of_order);
    let counts = [
        ("loss", expect.loss, qos1.lost),
        ("duplicates", expect.duplicates, qos0.duplicated + qos1.duplicated),
        ("out of order", expect.out_of_order, out_of_order.sum()),
        ("corrupt", expect.corrupt, report.corrupt),
        ("rejected", expect.rejected, qos0.rejected + qos1.rejected),
        ("unacknowledged", expect.unacknowledged, qos1.unacknowledged),
        ("not sent", expect.not_sent, qos0.not_sent + qos1.not_sent),
        ("sessions lost", expect.sessions_lost, subscribers.iter().map(|one| one.sessions_lost).sum()),
    ];
    let mut gates: Vec<GateResult> =
        counts.into_iter().filter_map(|(name, most, got)| Some(at_most(name, most?, got))).collect();
    if let Some(share) = expect.qos0_loss {
        let expected: u64 = subscribers.iter().map(|one| one.qos.qos0.delivered + one.qos.qos0.lost).sum();
        let got = if expected == 0 { 0.0 } else { qos0.lost as f64 / expected as f64 };
        gates.push(gate("QoS 0 loss", format!("at most {}", percent(share)), percent(got), got <= share));
    }
    if let Some(filters) = &expect.shed_only {
        let got = match facts.shed_elsewhere {
            0 => "nothing elsewhere".to_owned(),
            events => format!("{} events missing elsewhere", grouped(events)),
        };
        let wanted = format!("only what matches {}", filters.join(", "));
        gates.push(gate("shed", wanted, got, facts.shed_elsewhere == 0));
    }
    if let (Some(most), Some(edge)) = (expect.edge_loss, &report.edge) {
        gates.push(at_most("lost at edge sites", most, edge.lost()));
    }
    gates.extend(classes::judge(expect, report));
    if let Some(least) = expect.acknowledged_per_s {
        let got = report.fleet.acknowledged_per_s;
        gates.push(gate("acknowledged", format!("at least {least}/s"), format!("{got:.0}/s"), got >= least));
    }
    gates.extend(latencies("due to PUBACK", &expect.puback, &[&report.due_to_puback_us]));
    let undisturbed = undisturbed(&scenario.subscribers, &scenario.phases);
    let delivered: Vec<&LatencySummary> = subscribers
        .iter()
        .zip(undisturbed)
        .filter_map(|(one, undisturbed)| undisturbed.then_some(&one.due_to_delivered_us))
        .collect();
    gates.extend(latencies("due to delivered", &expect.delivery, &delivered));
    if let Some(most) = expect.recovery {
        gates.extend(facts.recoveries.iter().map(|recovery| {
            let got =
                recovery.took.map_or("not by the end".to_owned(), |took| micros(took.as_micros() as u64));
            let held = recovery.took.is_some_and(|took| took <= most);
            let wanted = format!("within {}", micros(most.as_micros() as u64));
            gate(&format!("recovery after {}", recovery.phase), wanted, got, held)
        }));
    }
    gates.extend(overload::judge(scenario, report, facts));
    gates
}

/// One gate per bound; the worst of several is what counts.
fn latencies(what: &str, bounds: &LatencyBounds, found: &[&LatencySummary]) -> Vec<GateResult> {
    let judged = [
        ("p50", bounds.p50, Percentile::P50),
        ("p90", bounds.p90, Percentile::P90),
        ("p99", bounds.p99, Percentile::P99),
        ("p99.9", bounds.p999, Percentile::P999),
        ("max", bounds.max, Percentile::Max),
    ]
    .into_iter()
    .filter_map(|(name, bound, percentile)| {
        let bound_us = bound?.as_micros() as u64;
        let worst = found.iter().filter(|sums| sums.count > 0).map(|sums| percentile.of(sums)).max();
        let got = worst.map_or("nothing was measured".to_owned(), micros);
        let held = worst.is_some_and(|worst| worst < bound_us);
        Some(gate(&format!("{what} {name}"), format!("under {}", micros(bound_us)), got, held))
    });
    judged.collect()
}

#[derive(Clone, Copy)]
enum Percentile {
    P50,
    P90,
    P99,
    P999,
    Max,
}

impl Percentile {
    fn of(self, sums: &LatencySummary) -> u64 {
        match self {
            Percentile::P50 => sums.p50,
            Percentile::P90 => sums.p90,
            Percentile::P99 => sums.p99,
            Percentile::P999 => sums.p999,
            Percentile::Max => sums.max,
        }
    }
}

fn at_most(name: &str, most: u64, got: u64) -> GateResult {
    gate(name, format!("at most {}", grouped(most)), grouped(got), got <= most)
}

fn gate(name: &str, wanted: String, got: String, held: bool) -> GateResult {
    GateResult { name: name.to_owned(), wanted, got, held }
}

fn percent(share: f64) -> String {
    format!("{:.3} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::qos::QoS;
    use crate::report::Verdict;
    use crate::shared::Shared;

    const ARCHIVE: usize = 1;

    const SCENARIO: &str = r#"
        [fleet]
        devices = 2
        rate = 10
        [[subscriber]]
        name = "dashboard"
        filter = "devices/#"
        qos = 0
        [[subscriber]]
        name = "archive"
        filter = "devices/#"
        durable = true
        [run]
        duration = "10s"
        [expect]
    "#;

    /// Ten good QoS 1 events of device 0, and then what the test adds.
    fn report(expect: &str, facts: &Facts, spoil: impl Fn(&Shared)) -> Report {
        let text = format!("{SCENARIO}{expect}");
        let scenario = Scenario::parse(&text).unwrap_or_else(|faults| panic!("{faults}"));
        let plan = Plan { scenario, host: "broker".to_owned(), port: 1_883, seed: 1, epoch: 2 };
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
        let mut report = Report::new(&plan, &shared, Duration::from_secs(1), Duration::ZERO);
        report.gates = judge(&plan.scenario, &report, facts);
        report.judge();
        report
    }

    fn lines(report: &Report) -> Vec<String> {
        let line = |gate: &GateResult| {
            format!(
                "{} {}: wanted {}, got {}",
                if gate.held { "+" } else { "-" },
                gate.name,
                gate.wanted,
                gate.got
            )
        };
        report.gates.iter().map(line).collect()
    }

    #[test]
    fn every_gate_says_what_it_wanted_and_what_it_got() {
        let expect = r#"
            loss = 0
            qos0_loss = 0.01
            duplicates = 1
            out_of_order = 0
            corrupt = 0
            rejected = 0
            unacknowledged = 0
            not_sent = 0
            sessions_lost = 0
            acknowledged_per_s = 5
            puback = { p50 = "1s", p99 = "50ms" }
            delivery = { max = "2s" }
        "#;
        let good = report(expect, &Facts::default(), |shared| {
            shared.due_to_puback.record(20_000, true);
            shared.subscribers[0].latencies.record(100_000, true);
            shared.subscribers[ARCHIVE].latencies.record(300_000, true);
        });
        assert_eq!(
            lines(&good),
            [
                "+ loss: wanted at most 0, got 0",
                "+ duplicates: wanted at most 1, got 0",
                "+ out of order: wanted at most 0, got 0",
                "+ corrupt: wanted at most 0, got 0",
                "+ rejected: wanted at most 0, got 0",
                "+ unacknowledged: wanted at most 0, got 0",
                "+ not sent: wanted at most 0, got 0",
                "+ sessions lost: wanted at most 0, got 0",
                "+ QoS 0 loss: wanted at most 1.000 %, got 0.000 %",
                "+ acknowledged: wanted at least 5/s, got 10/s",
                "+ due to PUBACK p50: wanted under 1.00 s, got 20.0 ms",
                "+ due to PUBACK p99: wanted under 50.0 ms, got 20.0 ms",
                "+ due to delivered max: wanted under 2.00 s, got 300 ms",
            ]
        );
        assert_eq!(good.verdict, Verdict::Kept);
        let bad = report(expect, &Facts::default(), |shared| {
            let mut device = shared.ledger.device(1).unwrap();
            device.issue(0, QoS::AtMostOnce);
            device.sent(0);
            device.issue(1, QoS::AtLeastOnce);
            device.rejected(1);
            device.issue(2, QoS::AtLeastOnce);
            device.sent(2);
            shared.due_to_puback.record(90_000, true);
        });
        let failed: Vec<String> = lines(&bad).into_iter().filter(|line| line.starts_with('-')).collect();
        assert_eq!(
            failed,
            [
                "- rejected: wanted at most 0, got 1",
                "- unacknowledged: wanted at most 0, got 1",
                "- QoS 0 loss: wanted at most 1.000 %, got 100.000 %",
                "- due to PUBACK p99: wanted under 50.0 ms, got 90.0 ms",
                "- due to delivered max: wanted under 2.00 s, got nothing was measured",
            ]
        );
        assert_eq!(bad.verdict, Verdict::Broken, "every promise was kept, and not every gate held");
        assert!(bad.broken.contains(&"rejected: wanted at most 0, got 1".to_owned()), "{:?}", bad.broken);
    }

    #[test]
    fn recoveries_and_shedding_are_judged_by_the_facts() {
        let expect = r#"
            recovery = "5s"
            shed_only = ["devices/+/+/bulk"]

            [[phase]]
            kind = "reconnect-storm"
            duration = "10s"
        "#;
        let recovery = |phase: &str, took_ms: Option<u64>| Recovery {
            phase: phase.to_owned(),
            took: took_ms.map(Duration::from_millis),
        };
        let recoveries =
            vec![recovery("cut", Some(4_900)), recovery("kill", Some(5_100)), recovery("storm", None)];
        let facts = Facts { recoveries, shed_elsewhere: 1_200, ..Facts::default() };
        assert_eq!(
            lines(&report(expect, &facts, |_| {})),
            [
                "- shed: wanted only what matches devices/+/+/bulk, got 1,200 events missing elsewhere",
                "+ recovery after cut: wanted within 5.00 s, got 4.90 s",
                "- recovery after kill: wanted within 5.00 s, got 5.10 s",
                "- recovery after storm: wanted within 5.00 s, got not by the end",
            ]
        );
    }
}

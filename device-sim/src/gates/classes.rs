//! Gates on single classes of events: `[expect.class.critical]` and the like, and `shed_only_class`.

use super::{at_most, gate, percent};
use crate::class::Class;
use crate::report::text::grouped;
use crate::report::{ClassReport, GateResult, Report};
use crate::scenario::Expect;
use crate::scenario::expect::ClassExpect;

/// Every gate on a class that the scenario writes. A class without devices has none.
pub(super) fn judge(expect: &Expect, report: &Report) -> Vec<GateResult> {
    let mut gates = Vec::new();
    if let Some(shed) = &expect.shed_only_class {
        gates.push(shed_only(shed, report));
    }
    for one in &report.classes {
        if let Some(class) = Class::from_name(one.class) {
            gates.extend(of_class(&expect.class[class], one));
        }
    }
    gates
}

/// QoS 0 events of every other class all arrive.
fn shed_only(shed: &[Class], report: &Report) -> GateResult {
    let may = |one: &&ClassReport| Class::from_name(one.class).is_some_and(|class| shed.contains(&class));
    let missing = report.classes.iter().filter(|one| !may(one) && one.qos.qos0.lost > 0);
    let missing: Vec<String> =
        missing.map(|one| format!("{} of {}", grouped(one.qos.qos0.lost), one.class)).collect();
    let got = match missing.as_slice() {
        [] => "nothing of others".to_owned(),
        _ => format!("{} missing, too", missing.join(", ")),
    };
    let names: Vec<&str> = shed.iter().map(|class| class.as_str()).collect();
    gate("shed", format!("only of class {}", names.join(", ")), got, missing.is_empty())
}

fn of_class(expect: &ClassExpect, one: &ClassReport) -> Vec<GateResult> {
    let (qos0, qos1) = (&one.qos.qos0, &one.qos.qos1);
    let counts = [
        ("loss", expect.loss, qos1.lost),
        ("duplicates", expect.duplicates, qos0.duplicated + qos1.duplicated),
        ("out of order", expect.out_of_order, qos0.out_of_order + qos1.out_of_order),
        ("corrupt", expect.corrupt, one.corrupt),
        ("rejected", expect.rejected, qos0.rejected + qos1.rejected),
        ("unacknowledged", expect.unacknowledged, qos1.unacknowledged),
    ];
    let named = |name: &str| format!("{} {name}", one.class);
    let mut gates: Vec<GateResult> =
        counts.into_iter().filter_map(|(name, most, got)| Some(at_most(&named(name), most?, got))).collect();
    if let Some(share) = expect.qos0_loss {
        let expected = qos0.delivered() + qos0.lost;
        let got = if expected == 0 { 0.0 } else { qos0.lost as f64 / expected as f64 };
        let wanted = format!("at most {}", percent(share));
        gates.push(gate(&named("QoS 0 loss"), wanted, percent(got), got <= share));
    }
    gates
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::Plan;
    use crate::qos::QoS;
    use crate::report::Verdict;
    use crate::scenario::Scenario;
    use crate::shared::Shared;

    const SCENARIO: &str = r#"
        [fleet]
        rate = 10
        [[cohort]]
        name = "alarms"
        class = "critical"
        devices = 1
        [[cohort]]
        name = "meters"
        class = "bulk"
        devices = 1
        [[subscriber]]
        name = "archive"
        filter = "devices/#"
        durable = true
        [run]
        duration = "10s"
        [expect]
        shed_only_class = ["bulk"]
        [expect.class.critical]
        loss = 0
        qos0_loss = 0.0
        rejected = 0
        unacknowledged = 0
        [expect.class.bulk]
        qos0_loss = 0.9
    "#;

    /// Ten QoS 0 and ten QoS 1 events of each device; the QoS 0 ones of `missing` never arrive.
    fn report(missing: &[u32]) -> Report {
        let scenario = Scenario::parse(SCENARIO).unwrap_or_else(|faults| panic!("{faults}"));
        let plan = Plan { scenario, host: "broker".to_owned(), port: 1_883, seed: 1, epoch: 2 };
        let shared = Shared::of(&plan);
        for number in 0..2 {
            let mut device = shared.ledger.device(number).unwrap();
            for sequence in 0..20 {
                let qos = if sequence % 2 == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
                device.issue(sequence, qos);
                device.sent(sequence);
                match qos {
                    QoS::AtMostOnce if missing.contains(&number) => continue,
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => device.acknowledged(sequence),
                }
                device.delivered(0, sequence, qos);
            }
        }
        let mut report = Report::new(&plan, &shared, Duration::from_secs(1), Duration::ZERO);
        report.gates = super::super::judge(&plan.scenario, &report, &super::super::Facts::default());
        report.judge();
        report
    }

    fn missed(report: &Report) -> Vec<String> {
        let missed = report.gates.iter().filter(|gate| !gate.held);
        missed.map(|gate| format!("{}: wanted {}, got {}", gate.name, gate.wanted, gate.got)).collect()
    }

    #[test]
    fn what_bulk_may_miss_critical_may_not() {
        let nothing = report(&[]);
        assert_eq!(nothing.gates.len(), 1 + 4 + 1);
        assert_eq!(missed(&nothing), [""; 0]);
        assert_eq!(
            missed(&report(&[1])),
            ["bulk QoS 0 loss: wanted at most 90.000 %, got 100.000 %"],
            "bulk may be shed, and not all of it"
        );
        let critical = report(&[0]);
        assert_eq!(
            missed(&critical),
            [
                "shed: wanted only of class bulk, got 10 of critical missing, too",
                "critical QoS 0 loss: wanted at most 0.000 %, got 100.000 %"
            ]
        );
        assert_eq!(critical.verdict, Verdict::Broken);
    }

    #[test]
    fn the_classes_come_to_the_sums_of_the_fleet() {
        let report = report(&[1]);
        let classes: Vec<&str> = report.classes.iter().map(|one| one.class).collect();
        assert_eq!(classes, ["critical", "bulk"], "in this order, and only those that have devices");
        for qos in QoS::ALL {
            let sums = &report.qos[qos];
            let of = |count: fn(&crate::report::ClassQosReport) -> u64| {
                report.classes.iter().map(|one| count(&one.qos[qos])).sum::<u64>()
            };
            assert_eq!(of(|one| one.sent), sums.sent);
            assert_eq!(of(|one| one.acknowledged), sums.acknowledged);
            assert_eq!(of(|one| one.delivered()), sums.delivered.values().sum::<u64>());
            assert_eq!(of(|one| one.lost), sums.lost);
        }
        let text = crate::report::text::render(&report);
        let line = text.lines().find(|line| line.starts_with("  bulk QoS 0")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().skip(3).collect();
        assert_eq!(cells, ["10", "0", "0", "0", "0", "10", "0", "0", "0"], "{text}");
        assert!(crate::report::html::render(&report).contains("critical QoS 1"));
    }

    #[test]
    fn a_class_that_the_fleet_lacks_or_nobody_knows_is_a_fault_with_its_place() {
        let text = SCENARIO.replace("[expect.class.bulk]", "[expect.class.normal]");
        let faults = Scenario::parse(&text).unwrap_err().to_string();
        assert!(faults.contains("no cohort is of this class"), "{faults}");
        let text = SCENARIO.replace("shed_only_class = [\"bulk\"]", "shed_only_class = [\"bulky\"]");
        let faults = Scenario::parse(&text).unwrap_err().to_string();
        assert!(faults.contains("`bulky` is not one of bulk, normal, critical"), "{faults}");
        let text = SCENARIO.replace("[expect.class.critical]", "[expect.class.citrical]");
        let faults = Scenario::parse(&text).unwrap_err().to_string();
        assert!(faults.contains("did you mean `critical`"), "{faults}");
    }
}

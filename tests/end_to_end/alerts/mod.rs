//! Every alert of `dashboards/alerts.yml` fires, for a running gateway, on the fault that it is for, and not before.
//!
//! Each fault has a gateway of its own; one Prometheus looks at all of them, and at one more that nothing happens to. The faults
//! are real ones: a full file system, system calls that fail or are slow (`strace -e inject`), a directory that is gone, a limit of the
//! process, clients that do what they must not. [`FAULTS`] says which; [`fleet`], [`disk`] and [`load`] make them.

mod disk;
mod fleet;
mod load;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Gateway, GatewayOptions, ProtocolVersion, SmallDisk, where_mounting_is_allowed};

use crate::QOS1;
use crate::prometheus::{Prometheus, Watch, dashboards};

const NAME: &str = "alerts::every_alert_fires_for_its_fault_and_for_nothing_else";

/// A fault, and what it wakes somebody with.
struct Fault {
    alerts: &'static [&'static str],
    /// A gateway that is all right.
    start: fn() -> Rig,
    /// Breaks it, waits for the alerts and, where the gateway mends itself, for their end.
    strike: fn(&mut Rig, &Watch<'_>),
}

const FAULTS: [Fault; 13] = [
    Fault {
        alerts: &["GatewayDeadLetters", "GatewayConsumerStalled"],
        start: fleet::with_consumers,
        strike: fleet::no_worker_can_use_it,
    },
    Fault {
        alerts: &["GatewayConsumerMissed"],
        start: fleet::with_consumers,
        strike: fleet::nobody_worked_in_time,
    },
    Fault { alerts: &["GatewaySinkDown"], start: fleet::with_sink, strike: fleet::the_target_is_gone },
    Fault {
        alerts: &["GatewayConnectsRefused", "GatewayEventsRejected", "GatewayFleetGone", "GatewayDown"],
        start: fleet::for_twelve,
        strike: fleet::one_too_many_then_few_then_none,
    },
    Fault { alerts: &["GatewayFileDescriptors"], start: fleet::plain, strike: fleet::more_than_may_be_open },
    Fault { alerts: &["GatewayLogFailed"], start: fleet::plain, strike: disk::syncs_fail },
    Fault { alerts: &["GatewaySlowSync"], start: fleet::plain, strike: disk::syncs_are_slow },
    Fault {
        alerts: &["GatewayViewFailed"],
        start: disk::saving_often,
        strike: disk::the_view_cannot_be_written,
    },
    Fault {
        alerts: &["GatewayCheckpointsFail"],
        start: disk::saving_often,
        strike: disk::no_place_for_checkpoints,
    },
    Fault { alerts: &["GatewayDiskFull"], start: disk::on_a_small_disk, strike: disk::the_disk_fills_up },
    Fault {
        alerts: &["GatewayDecisionsNotInTheirFile"],
        start: disk::with_decisions_on_a_full_disk,
        strike: disk::something_is_decided,
    },
    Fault {
        alerts: &["GatewayUnderPressure", "GatewaySheds"],
        start: load::with_a_small_log,
        strike: load::to_l3,
    },
    Fault {
        alerts: &["GatewayProtectsItself", "GatewayDisconnectsOffenders"],
        start: load::with_a_small_log,
        strike: load::to_l4,
    },
];

/// A gateway, and the disk that it stands on if that is one of its own.
struct Rig {
    gateway: Gateway,
    disk: Option<SmallDisk>,
}

impl Rig {
    fn with(sets: &[&str]) -> Self {
        Self { gateway: Gateway::start_set(sets), disk: None }
    }

    fn on(disk: SmallDisk, sets: &[&str]) -> Self {
        let gateway = Gateway::start_with(GatewayOptions {
            sets: sets.iter().map(|&set| set.to_owned()).collect(),
            data_dir: Some(disk.path().join("data")),
            ..GatewayOptions::default()
        });
        Self { gateway, disk: Some(disk) }
    }
}

/// The alerts that there are.
fn alerts() -> BTreeSet<String> {
    let text = fs::read_to_string(dashboards().join("alerts.yml")).unwrap();
    text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

#[test]
fn every_alert_has_a_fault_that_it_is_for() {
    let with_fault: Vec<_> =
        FAULTS.iter().flat_map(|fault| fault.alerts).map(|&name| name.to_owned()).collect();
    let once: BTreeSet<_> = with_fault.iter().cloned().collect();
    assert_eq!(with_fault.len(), once.len(), "one fault each: {with_fault:?}");
    assert_eq!(alerts(), once, "in alerts.yml, and with a fault");
}

#[test]
fn every_alert_leads_to_its_entry_in_the_runbook() {
    let rules = fs::read_to_string(dashboards().join("alerts.yml")).unwrap();
    let runbook = fs::read_to_string(dashboards().join("README.md")).unwrap();
    let entries: BTreeSet<_> =
        runbook.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect();
    assert_eq!(alerts(), entries, "in alerts.yml, and in the runbook");
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        let link = format!("runbook: \"dashboards/README.md#{}\"", name.to_lowercase());
        assert!(rule.contains(&link), "{name}: {link}");
    }
    // Whatever leads somewhere else in the runbook gets there.
    for link in runbook.split("](#").skip(1) {
        let anchor = link.split(')').next().unwrap();
        assert!(entries.iter().any(|entry| entry.to_lowercase() == anchor), "#{anchor}");
    }
}

#[test]
fn every_reason_that_an_alert_may_give_is_in_the_runbook() {
    let runbook = fs::read_to_string(dashboards().join("README.md")).unwrap();
    let gateway = Gateway::start();
    gateway.connect(ProtocolVersion::V5, "oven").publish("devices/oven", "much", QOS1);
    let metrics = gateway.metrics();
    for (entry, family, label, unalarming) in [
        ("GatewayConnectsRefused", "gateway_connects_total{", "outcome", &["accepted", "gone"][..]),
        ("GatewayEventsRejected", "gateway_events_rejected_total{", "reason", &[]),
        ("GatewaySheds", "gateway_decisions_total{action=\"shed\"", "reason", &[]),
        ("GatewayDisconnectsOffenders", "gateway_decisions_total{action=\"disconnected\"", "reason", &[]),
    ] {
        let text = runbook.split("\n### ").find(|text| text.starts_with(entry)).unwrap();
        let found = metrics.with_prefix(family);
        assert!(!found.is_empty(), "{family} is there before anything has happened");
        for sample in found.keys() {
            let value = sample.split(&format!("{label}=\"")).nth(1).unwrap().split('"').next().unwrap();
            let is_there = unalarming.contains(&value) || text.contains(&format!("`{value}`"));
            assert!(is_there, "{entry}: `{value}`");
        }
    }
}

#[test]
fn every_alert_fires_for_its_fault_and_for_nothing_else() {
    where_mounting_is_allowed(NAME, || {
        let begun = Instant::now();
        let calm = Gateway::start();
        let mut rigs: Vec<Rig> = thread::scope(|scope| {
            let starts: Vec<_> = FAULTS.iter().map(|fault| scope.spawn(fault.start)).collect();
            starts.into_iter().map(|start| start.join().expect("it starts")).collect()
        });
        let dir = tempfile::tempdir().unwrap();
        let gateways: Vec<_> = rigs.iter().map(|rig| &rig.gateway).chain([&calm]).collect();
        let prometheus = Prometheus::start(dir.path(), &gateways);
        let started = begun.elapsed();
        let took: BTreeMap<&str, Duration> = thread::scope(|scope| {
            let struck: Vec<_> = FAULTS
                .iter()
                .zip(&mut rigs)
                .map(|(fault, rig)| {
                    let watch = Watch::on(&prometheus, &rig.gateway);
                    scope.spawn(move || {
                        watch.await_value("up", 1.0);
                        let before = watch.firing();
                        assert!(before.is_empty(), "before anything has happened: {before:?}");
                        let begun = Instant::now();
                        (fault.strike)(rig, &watch);
                        let missing: Vec<_> =
                            fault.alerts.iter().filter(|alert| !watch.has_fired(alert)).collect();
                        assert!(missing.is_empty(), "not waited for: {missing:?}");
                        (fault.alerts[0], begun.elapsed())
                    })
                })
                .collect();
            struck.into_iter().map(|struck| struck.join().expect("its alerts fire")).collect()
        });
        let watch = Watch::on(&prometheus, &calm);
        watch.await_value("instance:gateway_events_received:rate1m", 0.0);
        let calm = watch.firing();
        assert!(calm.is_empty(), "where nothing happened: {calm:?}");
        eprintln!("started in {started:.1?}, all in {:.1?}: {took:.1?}", begun.elapsed());
        prometheus.stop();
    });
}

//! Scenario files: the documented one is valid, and what is wrong is said, all of it, in sentences.
#![expect(clippy::unwrap_used, reason = "a test helper; a missing error fails the test")]

use std::time::Duration;

use device_sim::qos::QoS;
use device_sim::scenario::{Protocol, Scenario};

const FIRST: &str = include_str!("../scenarios/first.toml");

fn faults(text: &str) -> Vec<String> {
    Scenario::parse(text).unwrap_err().0
}

#[test]
fn the_documented_scenario_is_valid_and_means_what_it_says() {
    let scenario = Scenario::parse(FIRST).unwrap();
    assert_eq!(scenario.fleet.devices, 200);
    let [cohort] = scenario.fleet.cohorts.as_slice() else { panic!("a fleet without cohorts is one") };
    assert_eq!(cohort.rhythm.qos1_share, 0.8);
    assert_eq!(cohort.v5_share, 0.5);
    assert_eq!(cohort.model.fields.len(), 7);
    assert_eq!(scenario.run.duration, Some(Duration::from_secs(10)));
    assert_eq!(scenario.run.seed, Some(42));
    let [dashboard, archive] = scenario.subscribers.as_slice() else { panic!("two subscribers") };
    assert_eq!(
        (dashboard.qos, dashboard.durable, dashboard.protocol),
        (QoS::AtMostOnce, false, Protocol::V3_1_1)
    );
    assert_eq!((archive.qos, archive.durable, archive.protocol), (QoS::AtLeastOnce, true, Protocol::V5));
}

/// The keys that are commented out in the documented scenario show their defaults: uncommenting them changes nothing.
#[test]
fn the_documented_defaults_are_the_defaults() {
    let uncommented: String = FIRST
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(uncommented.contains("\nqueue_max = 128"), "nothing was uncommented");
    assert_eq!(Scenario::parse(&uncommented), Scenario::parse(FIRST));
}

#[test]
fn all_faults_are_reported_at_once() {
    let faults = faults(
        r#"
        sed = 1
        [fleet]
        devices = 0
        rat = 100
        protocol = "4"
        topic = "devices/{room}"
        [[subscriber]]
        name = "a"
        filter = "devices/#/x"
        durabel = true
        [[subscriber]]
        name = "a"
        filter = "$share/g/devices/#"
        qos = 2
        [run]
        duration = "10"
        "#,
    );
    for expected in [
        "sed: there is no such key",
        "fleet.devices: 0 is not between 1 and 50000",
        "fleet.rat: there is no such key; did you mean `rate`?",
        "fleet.rate: is missing",
        "fleet.protocol: must be `3.1.1`, `5`, or a table with a weight for each",
        "fleet.topic: unknown placeholder at `{room}`; there are {site} {device} {cohort} {model} {class}",
        "subscriber[1].filter: `devices/#/x` is not a Topic Filter",
        "subscriber[1].durabel: there is no such key; did you mean `durable`?",
        "subscriber[2].name: there is already a subscriber `a`",
        "subscriber[2].filter: must not start with $: the ledger expects every matching event at every subscriber",
        "subscriber[2].qos: 2 is not between 0 and 1",
        "run.duration: `10` is not a duration: write a number and ms, s, m or h, such as 500ms or 30s",
    ] {
        assert!(faults.iter().any(|fault| fault == expected), "missing: {expected}\nfound: {faults:#?}");
    }
    assert_eq!(faults.len(), 12, "{faults:#?}");
}

#[test]
fn faults_inside_models_name_their_place() {
    let model = r#"
        [[model]]
        name = "m"
        [[model.field]]
        name = "t"
        signal = { kind = "sum", of = [{ kind = "wlk" }, { kind = "uniform", min = 2.0, max = 1.0, spread_by = 3.0 }] }
        [[model.field]]
        name = "door"
        states = [{ word = "open", dwell = "0s", to = { shut = 1.0 } }]
    "#;
    let faults = faults(&format!("{FIRST}\n{model}"));
    assert_eq!(
        faults,
        [
            "model[2].field[1].signal.of[1].kind: `wlk` is not one of constant, uniform, gaussian, walk, diurnal, \
             sine, battery, fault, counter, per-device, weather, route, field, total, stuck, sum, clamp; did you mean `walk`?",
            "model[2].field[1].signal.of[2].min: must not be above `max`",
            "model[2].field[1].signal.of[2].spread_by: there is no such key",
            "model[2].field[2].states[1].dwell: must be above zero",
            "model[2].field[2].states[1].to: there is no state `shut`",
        ]
    );
}

#[test]
fn what_is_not_toml_is_refused_in_one_sentence() {
    let faults = faults("[fleet");
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("this is not TOML: "), "{faults:?}");
}

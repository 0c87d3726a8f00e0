//! The built-in fleets: what they say, byte for byte, and that it can be read.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of this file is a test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use device_sim::envelope::{Opened, open};
use device_sim::fleets;
use device_sim::scenario::Scenario;

const REGENERATE: &str = "DEVICE_SIM_GOLDEN";

/// Events of which the golden file has the checksum, and those it shows.
const EVENTS: usize = 3_000;
const SHOWN: usize = 10;

fn sample(fleet: &str, seed: u64) -> Vec<String> {
    let (count, seed) = (EVENTS.to_string(), seed.to_string());
    let output = Command::new(env!("CARGO_BIN_EXE_device-sim"))
        .args(["fleets", "sample", fleet, "--count", &count, "--seed", &seed, "--devices", "60"])
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn scenario(fleet: &str, more: &str) -> Scenario {
    let text = format!(
        "[fleet]\nuse = \"{fleet}\"\n{more}\n[[subscriber]]\nname = \"s\"\nfilter = \"#\"\n[run]\nduration = \"1s\""
    );
    Scenario::parse(&text).unwrap()
}

/// A fleet's sample against its golden file: the same seed gives the same fleet, bytes and schedule, today and tomorrow.
fn golden(fleet: &str) {
    let lines = sample(fleet, 7);
    assert_eq!(lines.len(), EVENTS);
    assert_eq!(lines, sample(fleet, 7));
    assert_ne!(lines, sample(fleet, 8));
    let checksum = lines.iter().fold(0, |sum, line| crc32c::crc32c_append(sum, line.as_bytes()));
    let mut text = lines.iter().take(SHOWN).fold(String::new(), |text, line| text + line + "\n");
    text += &format!("{EVENTS} events, CRC32C {checksum:08x}\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{fleet}.txt"));
    if std::env::var_os(REGENERATE).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "{fleet} is not what it was; if that is meant, run with {REGENERATE}=1");

    for line in &lines {
        let [_, _, _, _, _, _, topic, payload] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let bytes = if payload.starts_with('{') { payload.as_bytes().to_vec() } else { unhex(payload) };
        assert!(matches!(open(&bytes, topic.as_bytes()), Opened::Event(_)), "{line}");
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).expect("a digit")).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect()
}

#[test]
fn smart_meters_are_what_they_were() {
    golden("smart-meters");
}

#[test]
fn vehicles_are_what_they_were() {
    golden("vehicles");
}

#[test]
fn the_factory_is_what_it_was() {
    golden("factory");
}

#[test]
fn the_cold_chain_is_what_it_was() {
    golden("cold-chain");
}

#[test]
fn the_home_is_what_it_was() {
    golden("home");
}

#[test]
fn every_fleet_can_be_used_and_resized() {
    for name in fleets::names() {
        let own = scenario(name, "");
        assert!(own.fleet.devices >= 100 && own.fleet.cohorts.len() > 1, "{name}");
        assert!(fleets::description(fleets::by_name(name).unwrap()).is_some(), "{name}");
        let large = scenario(name, "devices = 20000");
        assert_eq!(large.fleet.devices, 20_000);
        let per_device = |scenario: &Scenario| scenario.fleet.rate / f64::from(scenario.fleet.devices);
        assert!(
            (per_device(&large) / per_device(&own) - 1.0).abs() < 0.05,
            "{name}: the rate grows with the fleet"
        );
        let fast = scenario(name, "devices = 100\nrate = 5000");
        assert!((fast.fleet.rate - 5_000.0).abs() < 1e-6, "{name}: {}", fast.fleet.rate);
    }
}

#[test]
fn the_fleets_together_show_every_encoding_and_class() {
    let mut seen = BTreeSet::new();
    for name in fleets::names() {
        for cohort in scenario(name, "").fleet.cohorts {
            seen.insert(cohort.payload.name());
            seen.insert(cohort.class.as_str());
        }
    }
    let all = ["json", "messagepack", "cbor", "protobuf", "sparkplug", "raw", "bulk", "normal", "critical"];
    assert_eq!(seen, all.into());
}

#[test]
fn cohorts_follow_each_other_and_the_scenario_overrides_them() {
    let fleet = scenario("vehicles", "devices = 131\nqos = 1").fleet;
    let mut next = 0;
    for cohort in &fleet.cohorts {
        assert_eq!(cohort.first, next);
        next = cohort.end();
        assert_eq!(cohort.rhythm.qos1_share, 1.0, "the scenario's own key goes first");
    }
    assert_eq!(next, 131);
    assert_eq!(fleet.cohort_of(0).map(|(place, _)| place), Some(0));
    assert_eq!(fleet.cohort_of(130).map(|(place, _)| place), Some(2));
    assert!(fleet.cohort_of(131).is_none());

    let own = scenario(
        "home",
        "devices = 30\n[[cohort]]\nname = \"mine\"\ndevices = 10\nmodel = \"plug\"\nrate = 1\n[[cohort]]\nname = \"rest\"\nmodel = \"door\"\ninterval = \"1s\"",
    );
    let names: Vec<(&str, u32, f64)> = own
        .fleet
        .cohorts
        .iter()
        .map(|cohort| (cohort.name.as_str(), cohort.rhythm.devices, cohort.rhythm.rate))
        .collect();
    assert_eq!(names, [("mine", 10, 1.0), ("rest", 20, 20.0)], "own cohorts, with the models of the fleet");
}

#[test]
fn faults_of_cohorts_and_of_what_is_used_are_all_reported() {
    let text = r#"
        [fleet]
        use = "smart-metres"
        devices = 5
        rate = 1
        [[cohort]]
        name = "a/b"
        payload = "xml"
        duty = { awake = "2s", every = "1s" }
        late = { share = 2.0 }
        [[cohort]]
        name = "b"
        devices = 9
        payload = { kind = "raw", bytes = 3, sise = 4 }
        report = "sometimes"
        state = { every = "1s" }
        [[cohort]]
        name = "c"
        payload = "sparkplug"
        topic = "devices/{device}"
        [[cohort]]
        name = "d"
        payload = { kind = "protobuf", descriptor = "/nonexistent.pb", message = "m" }
        [[subscriber]]
        name = "s"
        filter = "x"
        [run]
        duration = "1s"
    "#;
    let faults = Scenario::parse(text).unwrap_err().0;
    for expected in [
        "fleet.use: there is no fleet `smart-metres`; there are smart-meters, vehicles, factory, cold-chain, home, or the path of a .toml file",
        "fleet.devices: the cohorts alone have 9",
        "cohort[1].name: must be 1 to 64 bytes without / + or #, since it may become part of topics",
        "cohort[1].payload: `xml` is not one of json, messagepack, cbor, protobuf, sparkplug, raw",
        "cohort[1].duty.awake: must be above zero and shorter than `every`",
        "cohort[1].late.share: 2 is not between 0 and 1",
        "cohort[2].payload.bytes: 3 is not between 24 and 262144",
        "cohort[2].payload.sise: there is no such key",
        "cohort[2].report: `sometimes` is not one of always, on-change, changes",
        "cohort[2].state.topic: is missing",
        "cohort[3].topic: `devices/{device}` is not spBv1.0/<group>/DDATA/<node>/<device>",
    ] {
        assert!(
            faults.iter().any(|fault| fault.text.starts_with(expected)),
            "missing: {expected}\nfound: {faults:#?}"
        );
    }
    assert!(
        faults.iter().any(|fault| fault.text.starts_with("cohort[4].payload.descriptor: cannot read")),
        "{faults:#?}"
    );
    assert_eq!(faults.len(), 12, "{faults:#?}");
}

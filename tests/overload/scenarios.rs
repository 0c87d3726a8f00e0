//! The scenarios `overload-*` of device-sim, run by the real program against the real one.
//!
//! The short form takes seconds, on any machine and beside anything: what it holds the gateway to is what no machine excuses, that nothing that
//! counts is lost and that the books balance. How much gets done, how fast, and how soon it is over is for the long form.

use std::path::Path;
use std::process::{Command, Stdio};

use gateway_tests::binary;
use serde::Deserialize;

use crate::number;

/// What a machine is no excuse for.
const ALWAYS: [&str; 7] = ["loss", "unacknowledged", "rejected", "sessions lost", "shed", "books", "memory"];

/// A fleet with less on its way, a gateway with more of a processor, and less time to find out what that can take.
const SMALL: [(&str, &str); 4] = [
    ("for = \"10s\"", "for = \"2s\""),
    ("inflight_max = ", "inflight_max = 20 # "),
    ("queue_max = ", "queue_max = 5 # "),
    ("cpu = 0.05", "cpu = 0.3"),
];

#[derive(Deserialize)]
struct Report {
    gates: Vec<Gate>,
}

#[derive(Debug, Deserialize)]
struct Gate {
    name: String,
    wanted: String,
    got: String,
    held: bool,
}

/// Runs a scenario: as it is written, or with some of it changed and in a fraction of its time. The gates.
fn run(name: &str, changes: &[(&str, &str)], hasten: u32) -> Vec<Gate> {
    let is_long = number("GATEWAY_SCENARIOS", 0) > 0;
    let shown = Command::new(binary::device_sim()).args(["scenarios", "show", name]).output().unwrap();
    let mut text = String::from_utf8(shown.stdout).unwrap();
    for (from, to) in changes.iter().filter(|_| !is_long) {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |file: &str| directory.path().join(file);
    std::fs::write(path("scenario.toml"), text).unwrap();
    let mut command = Command::new(binary::device_sim());
    command.arg("run").arg(path("scenario.toml")).env("GATEWAY_BIN", binary::gateway());
    if !is_long && hasten > 1 {
        command.args(["--hasten", &hasten.to_string()]);
    }
    command.args(["--report", "json", "--out"]).arg(path("report.json"));
    let status = command.stdout(Stdio::null()).status().unwrap();
    let gates = gates(&path("report.json"));
    for Gate { name, wanted, got, held } in &gates {
        eprintln!("{} {name}: wanted {wanted}, got {got}", if *held { "held  " } else { "MISSED" });
    }
    assert!(!is_long || status.success(), "{status}");
    gates
}

fn gates(path: &Path) -> Vec<Gate> {
    let text = std::fs::read_to_string(path).expect("the run took place");
    serde_json::from_str::<Report>(&text).expect("a report").gates
}

/// Nothing that counts is lost, and the books balance.
fn assert_sound(gates: &[Gate]) {
    let missed: Vec<_> = gates.iter().filter(|gate| !gate.held && ALWAYS.contains(&&*gate.name)).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    assert!(gates.iter().any(|gate| gate.name == "books"));
}

#[test]
fn under_less_than_it_can_take_nothing_is_given_up() {
    let changes = [&SMALL[..1], &SMALL[3..], &[("rate = 0.8", "rate = 0.3")]].concat();
    let gates = run("overload-none", &changes, 200);
    assert_sound(&gates);
    for name in ["given up", "QoS 0 loss", "not sent"] {
        assert!(gates.iter().any(|gate| gate.name == name && gate.held), "{gates:#?}");
    }
}

#[test]
fn many_times_what_it_can_take_costs_nothing_that_counts() {
    let all: &[&str] = match number("GATEWAY_SCENARIOS", 0) {
        0 => &["overload-2x", "overload-10x"],
        _ => &["overload-2x", "overload-5x", "overload-10x"],
    };
    for name in all {
        eprintln!("{name}");
        // How soon it is calm again takes longer than a test may.
        let changes = [&SMALL[..], &[("duration = \"35s\"", "duration = \"1s\"")]].concat();
        assert_sound(&run(name, &changes, 40));
    }
}

#[test]
fn one_that_brings_more_than_there_is_room_for_costs_nobody_else_anything() {
    let changes =
        [&SMALL[..], &[("devices = 1000", "devices = 100"), ("devices = 999", "devices = 99")]].concat();
    assert_sound(&run("overload-hog", &changes, 30));
}

#[test]
fn a_crowd_that_connects_at_once_costs_nobody_anything() {
    let changes = [
        ("devices = 16000", "devices = 320"),
        ("devices = 15000", "devices = 300"),
        ("devices = 1000", "devices = 20"),
        ("rate = 3200", "rate = 320"),
        ("duration = \"20s\"", "duration = \"2s\""),
        ("duration = \"8s\"", "duration = \"2s\""),
        ("duration = \"15s\"", "duration = \"2s\""),
        ("warm_up = \"2s\"", "warm_up = \"0s\""),
    ];
    let gates = run("overload-storm", &changes, 1);
    assert_sound(&gates);
    assert!(gates.iter().any(|gate| gate.name == "recovery after storm" && gate.held), "{gates:#?}");
}

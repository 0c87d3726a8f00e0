//! One scenario of the fleet simulator, unchanged, against two brokers that it starts and kills itself: the gateway keeps
//! what it acknowledged, Mosquitto (as Debian installs it) does not, and the ledger says so.

use std::path::Path;
use std::process::{Command, Output};

use gateway_tests::binary;
use serde_json::Value;

/// A kill in the middle of the load, and again, this time with a durable subscriber away.
const SCENARIO: &str = r#"
    [fleet]
    devices = 40
    rate = 400
    qos = 1
    queue_max = 5000
    [[subscriber]]
    name = "archive"
    filter = "devices/#"
    durable = true
    [[subscriber]]
    name = "reports"
    filter = "devices/+/+/telemetry"
    durable = true
    protocol = "3.1.1"
    [[phase]]
    name = "kill"
    kind = "broker-kill"
    duration = "1500ms"
    down = "300ms"
    [[phase]]
    name = "kill with one away"
    kind = "broker-kill"
    duration = "2500ms"
    down = "300ms"
    [[phase]]
    name = "away"
    kind = "consumer-outage"
    at = "1s"
    duration = "2s"
    subscriber = "reports"
    [run]
    seed = 1
    drain_timeout = "2s"
    [expect]
    loss = 0
    sessions_lost = 0
    not_sent = 0
    recovery = "20s"
"#;

#[test]
fn what_was_acknowledged_survives_a_kill_of_the_gateway_and_is_missing_after_one_of_mosquitto() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("killed.toml");
    std::fs::write(&path, SCENARIO).expect("a scenario is written");

    let output = run(&path, "gateway");
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    let qos1 = &report["qos"]["1"];
    assert_eq!((&qos1["acknowledged"], &qos1["lost"]), (&qos1["due"], &0.into()), "{report:#}");
    assert_eq!(got(&report, "loss"), ("0", true));
    assert_eq!(got(&report, "sessions lost"), ("0", true));
    assert!(got(&report, "recovery after kill").1 && got(&report, "recovery after kill with one away").1);
    // Forty devices and two kills; one that was still backing off had nothing to lose at the second.
    assert!(report["fleet"]["disconnects"].as_u64() >= Some(60), "devices were cut off twice\n{report:#}");

    if !Path::new("/usr/sbin/mosquitto").is_file() {
        eprintln!(
            "SKIPPED the same against Mosquitto: there is no /usr/sbin/mosquitto (Debian's package `mosquitto`)"
        );
        return;
    }
    let output = run(&path, "mosquitto");
    let report = report_of_loss(&output);
    let (lost, held) = got(&report, "loss");
    let lost: u64 = lost.replace(',', "").parse().expect("a number of events");
    assert!(!held && lost > 100, "what it kept for the one that was away is gone\n{report:#}");
    assert_eq!(got(&report, "sessions lost"), ("4", false));
    let named = report["broken"].as_array().expect("a list of sentences");
    let sentence = format!("loss: wanted at most 0, got {}", got(&report, "loss").0);
    assert!(named.iter().any(|named| *named == sentence.as_str()), "{named:?}");
    eprintln!("Mosquitto lost {lost} acknowledged events in two kills; the gateway none");
}

fn run(scenario: &Path, broker: &str) -> Output {
    Command::new(binary::device_sim())
        .arg("run")
        .arg(scenario)
        .args(["--report", "json", "--start", broker])
        .env("GATEWAY_BIN", binary::gateway())
        .output()
        .expect("device-sim can be run")
}

fn report(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no report: {error}; {said}"))
}

fn report_of_loss(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    report(output)
}

/// What a gate got, and whether it held.
fn got<'a>(report: &'a Value, gate: &str) -> (&'a str, bool) {
    let gates = report["gates"].as_array().expect("a list of gates");
    let gate = gates.iter().find(|known| known["name"] == gate).unwrap_or_else(|| panic!("no gate {gate}"));
    (gate["got"].as_str().unwrap(), gate["held"].as_bool().unwrap())
}

//! `device-sim bench`, in its shortest form: every scenario runs, loses nothing and says what it measured.

use std::process::Command;

use serde_json::Value;

/// One scenario against the gateway, which the simulator starts; its figures.
fn bench(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(gateway_tests::binary::device_sim())
        .arg("bench")
        .args(arguments)
        .args(["--duration", "300ms", "--warm-up", "100ms", "--json"])
        .env("GATEWAY_BIN", gateway_tests::binary::gateway())
        .output()
        .expect("device-sim can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    let figures: Value = serde_json::from_slice(&output.stdout).expect("figures in JSON");
    figures.as_array().expect("a list of scenarios").clone()
}

#[test]
fn every_scenario_with_publishers_delivers_all_of_it() {
    for arguments in [
        &["fan-in", "--publishers", "10"][..],
        &["fan-out", "--subscribers", "20"],
        &["durable", "--publishers", "10"],
        &["fan-in", "--publishers", "10", "--rate", "2000", "--v3"],
    ] {
        for figures in bench(arguments) {
            assert!(figures["delivered_per_second"].as_f64().unwrap() > 100.0, "{figures}");
            assert!(figures["delivery"]["p50_us"].as_f64().unwrap() > 0.0, "{figures}");
            assert!(figures["resident_bytes"].as_u64().unwrap() > 1 << 20, "{figures}");
            assert_eq!(figures["undelivered"], 0, "{figures}");
        }
    }
}

#[test]
fn a_slow_subscriber_is_nobody_elses_loss() {
    let figures = bench(&["slow-subscriber", "--subscribers", "4"]);
    assert_eq!(figures[0]["undelivered"], 0, "{figures:?}");
}

#[test]
fn connections_are_counted_and_weighed() {
    let figures = bench(&["connect", "--connections", "500"]);
    assert!(figures[0]["connects_per_second"].as_f64().unwrap() > 100.0, "{figures:?}");
    assert!(figures[0]["bytes_per_connection"].as_f64().unwrap() > 0.0, "{figures:?}");
}

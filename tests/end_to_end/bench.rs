//! `device-sim bench`, in its shortest form: every scenario runs, loses nothing and says what it measured.

use std::process::Command;

use serde_json::Value;

/// One scenario against the gateway, which the simulator starts; its figures.
fn bench(arguments: &[&str]) -> Vec<Value> {
    json(&[arguments, &["--duration", "300ms"]].concat()).as_array().expect("a list of scenarios").clone()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_slice(&run(&[arguments, &["--json"]].concat())).expect("figures in JSON")
}

/// What `device-sim bench` says on standard output.
fn run(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(gateway_tests::binary::device_sim())
        .arg("bench")
        .args(arguments)
        .args(["--warm-up", "100ms"])
        .env("GATEWAY_BIN", gateway_tests::binary::gateway())
        .output()
        .expect("device-sim can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    output.stdout
}

#[test]
fn every_scenario_with_publishers_delivers_all_of_it() {
    for arguments in [
        &["fan-in", "--publishers", "10"][..],
        &["fan-out", "--subscribers", "20"],
        &["durable", "--publishers", "10"],
        &["fan-in", "--publishers", "10", "--rate", "2000", "--v3"],
        &["shared", "--publishers", "10"],
        &["consumer", "--publishers", "10"],
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
fn what_is_retained_reaches_everybody_who_comes() {
    let figures = bench(&["retained", "--subscribers", "3"]);
    assert!(figures[0]["delivered_per_second"].as_f64().unwrap() > 100.0, "{figures:?}");
    assert_eq!(figures[0]["undelivered"], 0, "{figures:?}");
}

#[test]
fn a_broker_that_runs_is_set_beside_the_gateway_with_its_process() {
    let other = gateway_tests::Gateway::start();
    let url = format!("mqtt://{}", other.mqtt());
    let compared = json(&[
        "fan-in",
        "--qos",
        "1",
        "--publishers",
        "10",
        "--compare",
        &url,
        "--rounds",
        "1",
        "--duration",
        "300ms",
    ]);
    assert_eq!(compared["brokers"][0][0], "gateway", "{compared}");
    assert_eq!(compared["brokers"][1][1], format!("(process {})", other.process_id()), "{compared}");
    for figures in compared["scenarios"][0][1].as_array().unwrap() {
        assert!(figures["cpu_us_per_delivery"].as_f64().is_some(), "{figures}");
        assert!(figures["resident_bytes"].as_u64().unwrap() > 1 << 20, "{figures}");
        assert_eq!(figures["undelivered"], 0, "{figures}");
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

#[test]
fn those_who_are_told_to_come_again_do() {
    let gateway = gateway_tests::Gateway::start_set(&["admission.connect_rate=200"]);
    let broker = gateway.mqtt().to_string();
    let figures = bench(&["connect", "--connections", "500", "--broker", &broker]);
    let rate = figures[0]["connects_per_second"].as_f64().unwrap();
    assert!((50.0..500.0).contains(&rate), "200 at once, then 200 a second: {figures:?}");
}

#[test]
fn curves_have_a_cost_at_every_point() {
    let curves = json(&["scaling", "--up-to", "1024", "--rounds", "1", "--duration", "600ms"]);
    for (curve, sizes) in [
        ("topics", &[100, 1000][..]),
        ("filters", &[1, 100, 1000]),
        ("connections", &[10, 100, 1000]),
        ("backlog", &[1024]),
        ("catching-up", &[]),
    ] {
        let found = curves.as_array().unwrap().iter().find(|found| found["curve"] == curve).unwrap();
        let points = found["points"].as_array().unwrap();
        let found_sizes: Vec<u64> = points.iter().map(|point| point["size"].as_u64().unwrap()).collect();
        assert_eq!(found_sizes, sizes, "{found}");
        for point in points {
            assert!(point["cpu_us"].as_f64().unwrap() > 0.0, "{point}");
            assert!(point["ratio"].as_f64().unwrap() > 0.0, "{point}");
            assert!(point["per_second"].as_f64().unwrap() > 100.0, "{point}");
        }
    }
}

#[test]
fn a_backlog_is_fetched_and_weighed() {
    let size = (32 << 20).to_string();
    let curves = json(&["scaling", "--curves", "catching-up", "--up-to", &size, "--duration", "600ms"]);
    let point = &curves[0]["points"][0];
    assert_eq!(point["size"], 32 << 20);
    assert!(point["cpu_us"].as_f64().unwrap() > 0.0, "{point}");
}

#[test]
fn idle_connections_are_on_a_line() {
    let growth = json(&["memory", "--up-to", "3000"]);
    assert_eq!(growth["points"].as_array().unwrap().len(), 2, "{growth}");
    assert!(growth["bytes_per_connection"].as_f64().unwrap() > 100.0, "{growth}");
}

#[test]
fn a_report_replaces_what_was_measured_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("REPORT.md");
    let report = || {
        let arguments = [
            "fan-in",
            "--qos",
            "1",
            "--compare",
            "--peers",
            "mosquitto",
            "--rounds",
            "1",
            "--duration",
            "300ms",
        ];
        run(&[&arguments[..], &["--write", file.to_str().unwrap()]].concat());
        std::fs::read_to_string(&file).unwrap()
    };
    let first = report();
    assert!(first.contains("fan-in, QoS 1") && first.contains("![cpu](cpu.svg)"), "{first}");
    assert!(std::fs::read_to_string(dir.path().join("cpu.svg")).unwrap().contains("gateway"));
    std::fs::write(
        &file,
        format!("# Ours\n\nbefore\n\n{}\nafter\n", first.strip_prefix("# Benchmarks\n\n").unwrap()),
    )
    .unwrap();
    let second = report();
    assert!(second.starts_with("# Ours\n\nbefore\n") && second.ends_with("\nafter\n"), "{second}");
    assert_eq!(second.matches("### Side by side").count(), 1, "{second}");
}

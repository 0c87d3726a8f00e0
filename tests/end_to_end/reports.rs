//! `device-sim run` beside the gateway: every form of the report at once, the gateway's own counters compared with the ledger, and
//! metrics while it runs.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use gateway_tests::{Gateway, get};
use serde_json::Value;

const SCENARIO: &str = r#"
    [fleet]
    devices = 20
    rate = 500
    [[subscriber]]
    name = "dashboard"
    filter = "devices/#"
    qos = 0
    [[subscriber]]
    name = "archive"
    filter = "devices/#"
    durable = true
    [run]
    duration = "3s"
"#;

#[test]
fn a_run_has_all_its_reports_and_the_gateway_counts_what_the_ledger_counts() {
    let gateway = Gateway::start();
    let path = |name: &str| gateway.scratch().join(name).to_str().unwrap().to_owned();
    let (scenario, html, json, junit) = (path("mixed.toml"), path("r.html"), path("r.json"), path("r.xml"));
    std::fs::write(&scenario, SCENARIO).unwrap();
    let (broker, admin) = (gateway.mqtt().to_string(), gateway.admin().to_string());
    let mut child = Command::new(gateway_tests::binary::device_sim())
        .args(["run", &scenario, "--broker", &broker, "--admin", &admin, "--metrics", "127.0.0.1:0"])
        .args(["--report", "html", "--out", &html, "--report", "json", "--out", &json])
        .args(["--report", "junit", "--out", &junit, "--report", "text"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("device-sim can be run");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let heading = lines.next().expect("a heading");
    let address = heading.split("http://").nth(1).and_then(|rest| rest.split('/').next());
    let address = address.and_then(|address| address.parse().ok()).expect("where the metrics are");
    let running = lines.next().expect("a line for each second");
    assert!(running.contains("devices | sent "), "{running}");
    let metrics = get(address, "/metrics");
    assert!(metrics.contains("device_sim_devices_connected 20\n"), "{metrics}");
    assert!(lines.count() >= 2);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("the gateway's own counters agree with the ledger in 7 numbers"), "{text}");

    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&report["verdict"], &report["scenario"]), (&Value::from("kept"), &Value::from("mixed")));
    let samples = report["series"]["samples"].as_array().unwrap();
    assert!((3..=6).contains(&samples.len()), "{}", samples.len());
    let sent: f64 = samples
        .iter()
        .map(|sample| sample["sent_per_s"].as_f64().unwrap() * sample["span_s"].as_f64().unwrap())
        .sum();
    let total = report["qos"]["0"]["sent"].as_u64().unwrap() + report["qos"]["1"]["sent"].as_u64().unwrap();
    assert!((sent - total as f64).abs() < 5.0, "the series adds up to the ledger: {sent} and {total}");
    assert!(samples.iter().any(|sample| sample["gateway"]["resident_bytes"].as_u64() > Some(1 << 20)));
    let received = &report["gateway"]["lines"][1];
    assert_eq!(
        (&received["ledger"], &received["gateway"]),
        (&report["qos"]["1"]["sent"], &report["qos"]["1"]["sent"])
    );
    assert!(report["distributions"][1]["points"].as_array().unwrap().len() > 5);

    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    assert!(
        !page.contains("<script") && !page.contains("http:") && !page.contains("https:"),
        "nothing from elsewhere"
    );
    assert!(page.matches("<svg").count() >= 6, "{}", page.matches("<svg").count());
    let cases = std::fs::read_to_string(&junit).unwrap();
    assert!(cases.contains("failures=\"0\"") && cases.matches("<testcase").count() == 2 * 6 + 2, "{cases}");
}

#[test]
fn an_admin_listener_that_is_not_there_and_a_file_that_cannot_be_written_are_told_at_once() {
    let gateway = Gateway::start();
    let scenario = gateway.scratch().join("mixed.toml").to_str().unwrap().to_owned();
    std::fs::write(&scenario, SCENARIO).unwrap();
    let broker = gateway.mqtt().to_string();
    let run = |arguments: &[&str]| {
        let given = ["run", scenario.as_str(), "--broker", &broker, "--quiet"];
        let output =
            Command::new(gateway_tests::binary::device_sim()).args(given).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&["--admin", &broker]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("cannot read the gateway's counters"), "{said}");
    let (code, said) = run(&["--report", "html", "--out", "/nonexistent/r.html"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("cannot write /nonexistent/r.html"), "{said}");
}

//! Sites with a broker of their own against the real gateway: uplinks are cut, and every event is accounted for.
#![cfg(all(feature = "demo", feature = "edge"))]
#![expect(clippy::expect_used, reason = "a test helper; a failure fails the test")]

mod started;

use std::process::Command;

use serde_json::Value;

use started::start_gateway;

/// The report of a run with these sites, whose uplinks are cut for two seconds, and what it exits with.
async fn run(edge: &str, expect: &str) -> (Value, Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let gateway = start_gateway(&directory).await;
    let scenario = format!(
        r#"
        [edge]
        sites = 2
        {edge}
        [fleet]
        devices = 20
        sites = 3
        rate = 400
        [[subscriber]]
        name = "archive"
        filter = "devices/#"
        durable = true
        [[phase]]
        name = "good"
        kind = "steady"
        duration = "1s"
        [[phase]]
        kind = "network-cut"
        duration = "2s"
        [[phase]]
        name = "good again"
        kind = "steady"
        duration = "2s"
        [run]
        drain_timeout = "2s"
        [expect]
        loss = 0
        out_of_order = 0
        corrupt = 0
        not_sent = 0
        {expect}
        "#
    );
    let path = directory.path().join("scenario.toml");
    std::fs::write(&path, scenario).expect("a scenario is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_device-sim"));
    let broker = gateway.mqtt_addr().to_string();
    command.arg("run").arg(path).args(["--broker", &broker, "--seed", "5", "--report", "json"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it does not panic");
    let output = output.expect("the binary runs");
    gateway.shutdown().await;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.stdout.is_empty(), "no report: {error}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report in JSON");
    let text = format!("{error}\n{report:#}");
    (report, output.status.code(), text)
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a count")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_at_sites_whose_uplinks_were_cut_arrives() {
    let expect = "unacknowledged = 0\nqos0_loss = 0.0\nedge_loss = 0\nrecovery = \"10s\"";
    let (report, code, text) = run("", expect).await;
    assert_eq!(code, Some(0), "{text}");
    let edge = &report["edge"];
    assert_eq!((&edge["sites"], &edge["dropped"]), (&2.into(), &0.into()), "{text}");
    assert_eq!(edge["disconnects"], 2, "{text}");
    // Two thirds of the devices are at sites with a broker; of each site some 130 events become due per second.
    assert!(number(&edge["waiting_max"]) >= 100, "{text}");
    for qos in ["0", "1"] {
        let sums = &report["qos"][qos];
        assert_eq!(sums["delivered"]["archive"], sums["due"], "{text}");
        let (forwarded, sent) = (number(&edge["qos"][qos]["forwarded"]), number(&sums["sent"]));
        assert!(forwarded * 2 > sent && forwarded < sent, "{text}");
    }
    assert_eq!(edge["qos"]["1"]["acknowledged"], edge["qos"]["1"]["forwarded"], "{text}");
    assert_eq!(report["qos"]["1"]["acknowledged"], report["qos"]["1"]["sent"], "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_site_drops_is_its_own_loss_and_not_the_brokers() {
    let (report, code, text) = run("buffer_events = 20", "").await;
    assert_eq!(code, Some(0), "a site is not under test\n{text}");
    let edge = &report["edge"];
    let lost = |qos: &str| number(&edge["qos"][qos]["lost"]);
    assert!(number(&edge["dropped"]) > 100, "{text}");
    assert_eq!(lost("0") + lost("1"), number(&edge["dropped"]), "the buffers and nobody else\n{text}");
    assert_eq!(number(&edge["waiting_max"]), 20, "{text}");
    let qos1 = &report["qos"]["1"];
    assert_eq!(qos1["lost"], 0, "the gateway never had them\n{text}");
    assert_eq!(number(&qos1["unacknowledged"]), lost("1"), "{text}");
    assert_eq!(number(&qos1["delivered"]["archive"]) + lost("1"), number(&qos1["sent"]), "{text}");
}

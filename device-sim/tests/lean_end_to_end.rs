//! Lean fleets against the real gateway: worker processes of the real program, cut connections, and a ledger that is balanced.
#![cfg(feature = "demo")]
#![expect(clippy::expect_used, reason = "a test helper; a failure fails the test")]

mod started;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use started::start_gateway;

/// The report of `device-sim run`, and whether it says that all promises were kept.
async fn run(directory: &Path, scenario: &str, broker: SocketAddr) -> (Value, String) {
    let path = directory.join("scenario.toml");
    std::fs::write(&path, scenario).expect("a scenario is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_device-sim"));
    command.arg("run").arg(path).args(["--broker", &broker.to_string(), "--report", "json"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it does not panic");
    let output = output.expect("the binary runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.stdout.is_empty(), "no report: {error}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report in JSON");
    let text = format!("{report:#}");
    assert_eq!(output.status.code(), Some(0), "{error}\n{text}");
    (report, text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lean_fleet_loses_nothing_and_the_ledger_is_balanced() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let gateway = start_gateway(&directory).await;
    let scenario = r#"
        [fleet]
        client = "lean"
        workers = 2
        devices = 400
        connections = 300
        rate = 2000
        [[cohort]]
        name = "meters"
        class = "bulk"
        share = 3
        [[cohort]]
        name = "alarms"
        class = "critical"
        [[subscriber]]
        name = "dashboard"
        filter = "devices/#"
        qos = 0
        protocol = "3.1.1"
        [[subscriber]]
        name = "archive"
        filter = "devices/+/+/telemetry"
        durable = true
        [[subscriber]]
        name = "one-site"
        filter = "devices/site-03/#"
        [run]
        duration = "2s"
        [expect]
        shed_only_class = ["bulk"]
        class.critical = { loss = 0, rejected = 0, unacknowledged = 0, duplicates = 0 }
        "#;
    let (report, text) = run(directory.path(), scenario, gateway.mqtt_addr()).await;
    gateway.shutdown().await;
    for qos in ["0", "1"] {
        let sums = &report["qos"][qos];
        assert_eq!(sums["sent"], sums["due"], "{text}");
        assert_eq!(sums["delivered"]["archive"], sums["sent"], "{text}");
        assert_eq!(sums["duplicated"], 0, "{text}");
        let of_classes = |key: &str| -> u64 {
            let classes = report["classes"].as_array().into_iter().flatten();
            classes.filter_map(|one| one["qos"][qos][key].as_u64()).sum()
        };
        assert_eq!(sums["sent"], of_classes("sent"), "{text}");
        assert_eq!(sums["acknowledged"], of_classes("acknowledged"), "{text}");
    }
    let critical = &report["classes"][0];
    assert_eq!((&critical["class"], &critical["devices"]), (&"critical".into(), &100.into()), "{text}");
    let sent = &critical["qos"]["1"]["sent"];
    assert!(sent.as_u64().is_some_and(|sent| (600..1_000).contains(&sent)), "a quarter of 80 %\n{text}");
    assert_eq!(critical["qos"]["1"]["delivered"]["archive"], *sent, "{text}");
    assert_eq!(report["gates"].as_array().map(Vec::len), Some(5), "{text}");
    assert_eq!(report["qos"]["1"]["acknowledged"], report["qos"]["1"]["sent"], "{text}");
    let one_site = report["qos"]["1"]["delivered"]["one-site"].as_u64().expect("a count");
    assert!((250..400).contains(&one_site), "a tenth of the sites\n{text}");
}

/// Between the fleet and the gateway: counts PUBACKs by the bytes that come back, and cuts every connection when it is told to.
struct CuttingProxy {
    address: SocketAddr,
    returned: Arc<AtomicU64>,
    cut: watch::Sender<u32>,
}

impl CuttingProxy {
    async fn start(gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let returned = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&returned);
        let (cut, mut cuts) = watch::channel(0);
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((client, _)) = listener.accept() => {
                        let counted = Arc::clone(&counted);
                        connections.spawn(async move {
                            let Ok(server) = TcpStream::connect(gateway).await else { return };
                            let (from_client, to_client) = client.into_split();
                            let (from_server, to_server) = server.into_split();
                            let none = Arc::default();
                            tokio::join!(
                                copy(from_client, to_server, &none),
                                copy(from_server, to_client, &counted)
                            );
                        });
                    }
                    Ok(()) = cuts.changed() => connections.abort_all(),
                }
            }
        });
        CuttingProxy { address, returned, cut }
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: &AtomicU64) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..length) else { return };
        if to.write_all(bytes).await.is_err() {
            return;
        }
        count.fetch_add(length as u64, Relaxed);
    }
    let _ = to.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let gateway = start_gateway(&directory).await;
    let proxy = CuttingProxy::start(gateway.mqtt_addr()).await;
    let scenario = r#"
        [fleet]
        client = "lean"
        workers = 2
        devices = 30
        rate = 1500
        qos = { "1" = 1, "2" = 1 }
        queue_max = 10000
        [[subscriber]]
        name = "archive"
        filter = "devices/#"
        durable = true
        [[subscriber]]
        name = "old-archive"
        filter = "devices/#"
        durable = true
        protocol = "3.1.1"
        [run]
        duration = "3s"
        "#;
    let (returned, cut) = (Arc::clone(&proxy.returned), proxy.cut);
    let cutting = tokio::spawn(async move {
        for (time, bytes) in [(1, 300_000), (2, 600_000)] {
            while returned.load(Relaxed) < bytes {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let _ = cut.send(time);
        }
    });
    let (report, text) = run(directory.path(), scenario, proxy.address).await;
    cutting.await.expect("both cuts were made");
    gateway.shutdown().await;
    let fleet = &report["fleet"];
    assert!(fleet["disconnects"].as_u64().is_some_and(|count| count >= 60), "{text}");
    assert_eq!(fleet["given_up"], 0, "the gateway keeps durable sessions\n{text}");
    assert!(fleet["retransmitted"].as_u64() <= fleet["in_flight_at_disconnect"].as_u64(), "{text}");
    let qos1 = &report["qos"]["1"];
    assert_eq!(qos1["due"], qos1["acknowledged"], "{text}");
    assert_eq!(qos1["delivered"]["old-archive"], qos1["due"], "{text}");
    assert_eq!(qos1["delivered"]["archive"], qos1["due"], "{text}");
}

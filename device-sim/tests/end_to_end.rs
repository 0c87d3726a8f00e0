//! Fleets against the real gateway: started as a library on ports of the kernel's choosing, its data in a temporary
//! directory, and judged by the ledger.
#![cfg(feature = "demo")]
#![expect(clippy::expect_used, reason = "a test helper; a failure fails the test")]

mod started;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use device_sim::plan::Plan;
use device_sim::report::{Report, Verdict, text};
use device_sim::run;
use device_sim::scenario::Scenario;
use device_sim::shared::Shared;
use device_sim::stop::Stop;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use started::start_gateway;

fn plan(scenario: &str, broker: SocketAddr) -> Plan {
    let scenario = Scenario::parse(scenario).expect("a valid scenario");
    Plan { scenario, host: broker.ip().to_string(), port: broker.port(), seed: 7, epoch: 1 }
}

async fn execute(plan: &Plan, shared: &Arc<Shared>) -> Report {
    let (_stop, stopped) = watch::channel(Stop::No);
    run::execute(plan, shared, stopped, 100).await.expect("the run takes place")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixed_fleet_loses_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let gateway = start_gateway(&directory).await;
    let plan = plan(
        r#"
        [fleet]
        devices = 40
        rate = 1000
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
        protocol = "3.1.1"
        [run]
        duration = "2s"
        "#,
        gateway.mqtt_addr(),
    );
    let report = execute(&plan, &Shared::of(&plan)).await;
    gateway.shutdown().await;
    let text = text::render(&report);
    assert_eq!(report.verdict, Verdict::Kept, "{text}");
    let (qos0, qos1) = (&report.qos.qos0, &report.qos.qos1);
    assert!((1_900..=2_100).contains(&(qos0.due + qos1.due)), "{text}");
    assert_eq!((qos0.not_sent, qos1.not_sent), (0, 0), "{text}");
    assert_eq!(qos1.acknowledged, qos1.sent, "{text}");
    assert_eq!(qos1.delivered.get("archive"), Some(&qos1.sent), "{text}");
    assert_eq!(qos1.duplicated + qos0.duplicated, 0, "{text}");
    assert!(report.published_for_s >= 2.0, "{text}");
}

/// Between the fleet and the gateway: cuts every connection when it is told to.
async fn cutting_proxy(gateway: SocketAddr, mut cuts: watch::Receiver<u32>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Ok((mut client, _)) = listener.accept() => {
                    connections.spawn(async move {
                        let Ok(mut server) = TcpStream::connect(gateway).await else { return };
                        // Ends with an error when either side does; there is nothing to do about it.
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    });
                }
                Ok(()) = cuts.changed() => connections.abort_all(),
            }
        }
    });
    address
}

/// Cuts when so many more events have been acknowledged, as often as `times` says.
async fn cut_every(acknowledged: u64, times: u32, shared: Arc<Shared>, cut: watch::Sender<u32>) {
    for time in 1..=times {
        while shared.stats.acknowledged.get() < acknowledged * u64::from(time) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let _ = cut.send(time);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_lose_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let gateway = start_gateway(&directory).await;
    let (cut, cuts) = watch::channel(0);
    let proxy = cutting_proxy(gateway.mqtt_addr(), cuts).await;
    let plan = plan(
        r#"
        [fleet]
        devices = 30
        rate = 1500
        qos = 1
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
        "#,
        proxy,
    );
    let shared = Shared::of(&plan);
    let cutting = tokio::spawn(cut_every(1_000, 2, Arc::clone(&shared), cut));
    let report = execute(&plan, &shared).await;
    cutting.await.expect("both cuts were made");
    gateway.shutdown().await;
    let text = text::render(&report);
    assert_eq!(report.verdict, Verdict::Kept, "{text}");
    assert!(
        report.fleet.disconnects >= 60 && report.subscribers.iter().all(|one| one.disconnects >= 2),
        "{text}"
    );
    assert_eq!(report.fleet.given_up, 0, "the gateway keeps durable sessions\n{text}");
    assert!(report.fleet.retransmitted <= report.fleet.in_flight_at_disconnect, "{text}");
    assert_eq!(report.qos.qos1.due, report.qos.qos1.acknowledged, "{text}");
    assert_eq!(report.qos.qos1.delivered.get("old-archive"), Some(&report.qos.qos1.due), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_2_among_others_comes_through_broken_connections() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let gateway = start_gateway(&directory).await;
    let (cut, cuts) = watch::channel(0);
    let proxy = cutting_proxy(gateway.mqtt_addr(), cuts).await;
    let plan = plan(
        r#"
        [fleet]
        devices = 20
        rate = 800
        qos = { "0" = 1, "1" = 2, "2" = 3 }
        queue_max = 10000
        [[subscriber]]
        name = "archive"
        filter = "devices/#"
        durable = true
        [run]
        duration = "3s"
        "#,
        proxy,
    );
    let shared = Shared::of(&plan);
    let cutting = tokio::spawn(cut_every(500, 2, Arc::clone(&shared), cut));
    let report = execute(&plan, &shared).await;
    cutting.await.expect("both cuts were made");
    gateway.shutdown().await;
    let text = text::render(&report);
    assert_eq!(report.verdict, Verdict::Kept, "{text}");
    assert!(report.fleet.disconnects >= 40, "{text}");
    assert_eq!(report.fleet.given_up, 0, "{text}");
    assert_eq!(report.qos.qos1.due, report.qos.qos1.acknowledged, "{text}");
}

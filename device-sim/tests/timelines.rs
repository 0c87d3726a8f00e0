//! Timelines against the real gateway, in this process: each disturbance happens, is survived, and is seen in the report.
#![cfg(feature = "demo")]
#![expect(clippy::expect_used, reason = "a test helper; a failure fails the test")]

use std::time::Duration;

use device_sim::plan::Plan;
use device_sim::report::{GateResult, Report, Verdict, text};
use device_sim::run;
use device_sim::scenario::Scenario;
use device_sim::shared::Shared;
use device_sim::stop::Stop;
use gateway::app::Gateway;
use gateway::config::{Config, ConsumerConfig, ConsumerOrder, ConsumerStart};
use tokio::sync::watch;

const FLEET: &str = r#"
    [fleet]
    devices = 40
    rate = 400
    qos = 1
    queue_max = 5000
"#;

const ARCHIVE: &str = r#"
    [[subscriber]]
    name = "archive"
    filter = "devices/#"
    durable = true
"#;

const EXPECT: &str = r#"
    [run]
    seed = 3
    [expect]
    loss = 0
    not_sent = 0
    sessions_lost = 0
    recovery = "15s"
"#;

/// Runs a fleet with these subscribers and phases; every promise is kept and every gate holds.
async fn kept(fleet: &str, rest: &str) -> Report {
    let scenario = Scenario::parse(&[fleet, ARCHIVE, rest, EXPECT].concat()).expect("a valid scenario");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::default();
    config.storage.data_dir = directory.path().to_owned();
    config.admin.address.set_port(0);
    config.listeners.iter_mut().for_each(|listener| listener.address.set_port(0));
    config.consumers.push(ConsumerConfig {
        name: "work".to_owned(),
        stream: "telemetry".to_owned(),
        filter: "#".to_owned(),
        from: ConsumerStart::Latest,
        ack_wait: Duration::from_secs(10),
        max_deliver: 3,
        backoff: Vec::new(),
        max_ack_pending: 1_000,
        order: ConsumerOrder::None,
    });
    let gateway = Gateway::start(config).await.expect("the gateway starts");
    let broker = gateway.mqtt_addr();
    let plan = Plan { scenario, host: broker.ip().to_string(), port: broker.port(), seed: 3, epoch: 1 };
    let (_stop, stopped) = watch::channel(Stop::No);
    let report = run::execute(&plan, &Shared::of(&plan), stopped, 200).await.expect("the run takes place");
    gateway.shutdown().await;
    assert_eq!(report.verdict, Verdict::Kept, "{}", text::render(&report));
    assert_eq!(report.qos.qos1.acknowledged, report.qos.qos1.due, "{}", text::render(&report));
    report
}

fn recovered(report: &Report, phase: &str) -> bool {
    let name = format!("recovery after {phase}");
    report.gates.iter().any(|gate: &GateResult| gate.name == name && gate.held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_and_a_cut_break_connections_and_nothing_else() {
    let report = kept(
        FLEET,
        r#"
        [[phase]]
        kind = "steady"
        duration = "500ms"
        [[phase]]
        name = "storm"
        kind = "reconnect-storm"
        duration = "1500ms"
        [[phase]]
        name = "cut"
        kind = "network-cut"
        duration = "500ms"
        side = "everyone"
        [[phase]]
        name = "calm"
        kind = "steady"
        duration = "1500ms"
        "#,
    )
    .await;
    assert!(recovered(&report, "storm") && recovered(&report, "cut"), "{:?}", report.gates);
    assert!(report.fleet.disconnects >= 80, "every device twice\n{}", text::render(&report));
    assert!(report.subscribers.iter().all(|one| one.disconnects >= 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_and_a_bad_line_make_latencies_and_nothing_else() {
    let report = kept(
        FLEET,
        r#"
        [[phase]]
        name = "far away"
        kind = "network-delay"
        duration = "1s"
        delay = "60ms"
        [[phase]]
        name = "bad line"
        kind = "network-loss"
        duration = "1s"
        share = 0.2
        stall = "100ms"
        [[phase]]
        name = "good"
        kind = "steady"
        duration = "1s"
        "#,
    )
    .await;
    assert_eq!(report.fleet.disconnects, 0, "{}", text::render(&report));
    let latency = &report.sent_to_puback_us;
    assert!(latency.p90 >= 100_000, "a third of them went there and back through the long line: {latency:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_and_a_hog_change_who_publishes_how_much() {
    let report = kept(
        FLEET,
        r#"
        [[phase]]
        kind = "steady"
        duration = "1s"
        [[phase]]
        name = "crowd"
        kind = "flash-crowd"
        duration = "1s"
        share = 0.5
        within = "200ms"
        [[phase]]
        name = "hog"
        kind = "hog"
        duration = "1s"
        devices = 1
        rate = 600
        "#,
    )
    .await;
    let due = report.qos.qos1.due;
    assert!(
        due.abs_diff(200 + 400 + 1_000) < 80,
        "half of them, all of them, all of them and the hog: {due}"
    );
    assert!(recovered(&report, "crowd") && recovered(&report, "hog"), "{:?}", report.gates);
    assert_eq!(report.fleet.connected_at_end, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_that_are_slow_or_away_get_everything_in_the_end() {
    let report = kept(
        FLEET,
        r#"
        [[subscriber]]
        name = "reports"
        filter = "devices/+/+/telemetry"
        durable = true
        protocol = "3.1.1"
        [[phase]]
        name = "slow"
        kind = "slow-consumer"
        duration = "1s"
        subscriber = "archive"
        delay = "10ms"
        [[phase]]
        name = "away"
        kind = "consumer-outage"
        duration = "1s"
        subscriber = "reports"
        [[phase]]
        name = "both here"
        kind = "steady"
        duration = "1s"
        "#,
    )
    .await;
    let [archive, reports] = report.subscribers.as_slice() else { panic!("two subscribers") };
    assert_eq!((archive.disconnects, reports.disconnects), (0, 1));
    assert!(archive.due_to_delivered_us.max > 500_000, "it fell behind: {:?}", archive.due_to_delivered_us);
    assert!(reports.due_to_delivered_us.max > 800_000, "it was away: {:?}", reports.due_to_delivered_us);
    assert_eq!(report.qos.qos1.delivered.get("reports"), Some(&report.qos.qos1.due));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_and_a_reader_of_the_log_are_complete_too() {
    let report = kept(
        FLEET,
        r#"
        [[subscriber]]
        name = "pool"
        filter = "$share/pool/devices/#"
        members = 3
        durable = true
        [[subscriber]]
        name = "reader"
        filter = "$stream/telemetry/latest/devices/#"
        [[phase]]
        kind = "steady"
        duration = "1s"
        [[phase]]
        name = "reader away"
        kind = "consumer-outage"
        duration = "1s"
        subscriber = "reader"
        [[phase]]
        name = "after"
        kind = "steady"
        duration = "500ms"
        "#,
    )
    .await;
    for name in ["archive", "pool", "reader"] {
        assert_eq!(
            report.qos.qos1.delivered.get(name),
            Some(&report.qos.qos1.due),
            "{}",
            text::render(&report)
        );
    }
    assert_eq!(report.qos.qos1.duplicated, 0, "the reader went on behind the last offset that it had seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_hand_back_hang_and_meet_poison_get_at_everything() {
    let report = kept(
        FLEET,
        r#"
        [[subscriber]]
        name = "workers"
        filter = "$consumer/work"
        matching = "devices/#"
        members = 3
        nak = 0.05
        hang = 0.01
        [[phase]]
        name = "poison"
        kind = "poison"
        duration = "1s"
        share = 0.05
        [[phase]]
        name = "outage"
        kind = "consumer-outage"
        duration = "500ms"
        subscriber = "archive"
        [[phase]]
        name = "after"
        kind = "steady"
        duration = "1s"
        "#,
    )
    .await;
    let workers = report.subscribers.last().expect("the workers");
    assert_eq!(workers.qos.qos1.delivered, report.qos.qos1.due, "{}", text::render(&report));
    let again = workers.qos.qos1.duplicated;
    assert!((20..=workers.duplicates_allowed).contains(&again), "{again} of {}", workers.duplicates_allowed);
}

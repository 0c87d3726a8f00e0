//! Planted faults: a broker that spoils one event in so many, each time in one way. The ledger catches every one of them,
//! counts it exactly and names it, and nothing else is named with it.
//!
//! `DEVICE_SIM_PLANTED=1000000` makes it one event in a million, by lean clients, which takes two minutes for each run;
//! `DEVICE_SIM_BIN` then names the program, best a release build, and `DEVICE_SIM_RATE` says how many events per second the
//! machine is worth, if not 20000. Best with `cargo nextest run --profile long`.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test helper; a failure fails the test"
)]

mod broker;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use broker::{Broker, Fault, Plant};
use device_sim::plan::Plan;
use device_sim::run;
use device_sim::scenario::Scenario;
use device_sim::shared::Shared;
use device_sim::stop::Stop;
use serde_json::Value;
use tokio::sync::watch;

/// Spoilt events of a run.
const TIMES: u64 = 2;

/// Which seeds: of the events, and of where among them the faults are.
const SEEDS: [u64; 3] = [1, 2, 3];

/// One event in so many is spoilt.
fn every() -> u64 {
    variable("DEVICE_SIM_PLANTED", 200)
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |set| set.parse().expect("a whole number"))
}

fn is_long() -> bool {
    every() >= 10_000
}

fn scenario(qos: u8, fault: Fault) -> String {
    let every = every();
    // As many as are spoilt, and one more time as many, so that each comes in the middle of others.
    let (rate, events, clients) = match is_long() {
        true => (variable("DEVICE_SIM_RATE", 20_000), every * TIMES + every / 5, "client = \"lean\""),
        false => (1_200, every * (TIMES + 1), ""),
    };
    let (drain, latency) = match fault {
        Fault::Stall => ("4s", "puback = { max = \"2s\" }"),
        _ if is_long() => ("5s", ""),
        _ => ("300ms", ""),
    };
    let seconds = events as f64 / rate as f64;
    format!(
        r#"
        [fleet]
        devices = 20
        rate = {rate}
        qos = {qos}
        protocol = "5"
        queue_max = 50000
        {clients}
        [[subscriber]]
        name = "archive"
        filter = "devices/#"
        durable = true
        [run]
        duration = "{seconds}s"
        drain_timeout = "{drain}"
        [expect]
        loss = 0
        qos0_loss = 0
        duplicates = 0
        out_of_order = 0
        corrupt = 0
        rejected = 0
        unacknowledged = 0
        not_sent = 0
        sessions_lost = 0
        {latency}
        "#
    )
}

/// The report of a run, as JSON has it.
fn run(qos: u8, fault: Fault, seed: u64) -> Value {
    let every = every();
    // A second one could come while the subscriber is still on its way back from the first.
    let times = if fault == Fault::Forget { 1 } else { TIMES };
    let broker = Broker::start(Plant { fault, first: 1 + seed * 7_919 % every, every, times });
    let scenario = scenario(qos, fault);
    let report = if is_long() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("scenario.toml");
        std::fs::write(&path, scenario).expect("a scenario is written");
        parse(&program(&path, broker.port(), seed))
    } else {
        let scenario = Scenario::parse(&scenario).expect("a valid scenario");
        let plan = Plan { scenario, host: "127.0.0.1".to_owned(), port: broker.port(), seed, epoch: 5 };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let report = runtime.expect("a runtime").block_on(async {
            let (_stop, stopped) = watch::channel(Stop::No);
            run::execute(&plan, &Shared::of(&plan), stopped, 200).await.expect("the run takes place")
        });
        serde_json::to_value(report).expect("a report in JSON")
    };
    let wanted = if fault == Fault::None { 0 } else { times };
    assert_eq!(broker.spoilt(), wanted, "the broker did what it was to do");
    report
}

/// The same by the program.
fn program(scenario: &Path, port: u16, seed: u64) -> Output {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_device-sim"));
    Command::new(std::env::var_os("DEVICE_SIM_BIN").filter(|_| is_long()).map_or(built, PathBuf::from))
        .arg("run")
        .arg(scenario)
        .args(["--report", "json", "--broker", &format!("127.0.0.1:{port}"), "--seed", &seed.to_string()])
        .output()
        .expect("the program runs")
}

fn parse(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no report: {error}; {said}"))
}

fn broken(report: &Value) -> Vec<String> {
    serde_json::from_value(report["broken"].clone()).expect("a list of sentences")
}

/// What was named, for every seed the same.
fn named(qos: u8, fault: Fault) -> Vec<String> {
    let mut reports = SEEDS.map(|seed| run(qos, fault, seed)).into_iter();
    let first = reports.next().expect("a run");
    for report in reports {
        assert_eq!(broken(&report), broken(&first), "{fault:?}: caught every time\n{report:#}");
    }
    assert_eq!(first["verdict"] == "kept", broken(&first).is_empty());
    broken(&first)
}

#[test]
fn without_a_fault_nothing_is_named() {
    for qos in [0, 1] {
        assert_eq!(named(qos, Fault::None), [""; 0]);
    }
}

#[test]
fn a_lost_event_is_a_loss() {
    assert_eq!(
        named(1, Fault::Lose),
        ["archive: 2 acknowledged QoS 1 events were never delivered", "loss: wanted at most 0, got 2"]
    );
}

#[test]
fn a_lost_event_without_a_promise_is_a_gate() {
    for seed in SEEDS {
        let report = run(0, Fault::Lose, seed);
        assert_eq!(report["qos"]["0"]["lost"], 2);
        let broken = broken(&report);
        let [named] = broken.as_slice() else { panic!("{broken:?}") };
        assert!(named.starts_with("QoS 0 loss: wanted at most 0.000 %, got 0."), "{named}");
    }
}

#[test]
fn a_repeated_event_is_a_duplicate() {
    assert_eq!(
        named(1, Fault::Repeat),
        [
            "archive: 2 more QoS 1 duplicates came than broken connections explain",
            "duplicates: wanted at most 0, got 2"
        ]
    );
    assert_eq!(
        named(0, Fault::Repeat),
        ["archive: 2 QoS 0 events were delivered more than once", "duplicates: wanted at most 0, got 2"]
    );
}

#[test]
fn an_overtaken_event_is_out_of_order() {
    for qos in [0, 1] {
        assert_eq!(
            named(qos, Fault::Reorder),
            ["archive: 2 events were delivered out of order", "out of order: wanted at most 0, got 2"]
        );
    }
}

#[test]
fn a_damaged_or_moved_event_is_corrupt_and_the_one_it_was_is_lost() {
    let both = [
        "archive: 2 acknowledged QoS 1 events were never delivered",
        "archive: 2 deliveries were corrupt, on a wrong topic, or of events never published",
        "loss: wanted at most 0, got 2",
        "corrupt: wanted at most 0, got 2",
    ];
    assert_eq!(named(1, Fault::Corrupt), both);
    for fault in [Fault::Cut, Fault::Move] {
        assert_eq!(broken(&run(1, fault, 4)), both, "{fault:?}");
    }
}

#[test]
fn an_event_without_an_answer_and_one_that_is_refused_are_gates() {
    assert_eq!(named(1, Fault::Refuse), ["rejected: wanted at most 0, got 2"]);
    for seed in SEEDS {
        // What is behind it in the client's window may be stuck there as well.
        let broken = broken(&run(1, Fault::Mute, seed));
        assert!(broken.contains(&"unacknowledged: wanted at most 0, got 2".to_owned()), "{broken:?}");
    }
}

#[test]
fn a_late_answer_is_a_latency() {
    let broken = broken(&run(1, Fault::Stall, 1));
    let [named] = broken.as_slice() else { panic!("{broken:?}") };
    assert!(named.starts_with("due to PUBACK max: wanted under 2.00 s, got 2."), "{named}");
}

#[test]
fn a_forgotten_session_is_named_beside_what_it_cost() {
    for seed in SEEDS {
        let broken = broken(&run(1, Fault::Forget, seed));
        assert!(
            broken.contains(&"archive: 1 times its durable session was gone when it came back".to_owned()),
            "{broken:?}"
        );
        assert!(broken.contains(&"sessions lost: wanted at most 0, got 1".to_owned()), "{broken:?}");
    }
}

/// The program says the same as the library: exit code 1, and each gate with what was wanted and what was got.
#[test]
fn the_exit_code_and_the_report_say_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("scenario.toml");
    std::fs::write(&path, scenario(1, Fault::None)).expect("a scenario is written");
    for (fault, code, held) in [(Fault::None, 0, true), (Fault::Lose, 1, false)] {
        let broker = Broker::start(Plant { fault, first: 100, every: every(), times: TIMES });
        let output = program(&path, broker.port(), 1);
        let report = parse(&output);
        assert_eq!(output.status.code(), Some(code), "{report:#}");
        let loss = &report["gates"][0];
        let got = if held { "0" } else { "2" };
        assert_eq!(
            (&loss["name"], &loss["wanted"], &loss["got"], &loss["held"]),
            (&"loss".into(), &"at most 0".into(), &got.into(), &held.into()),
            "{report:#}"
        );
    }
}

//! Lean clients as people and scripts see them: the program with its worker processes, against a broker that takes everything.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test helper; a failure fails the test")]

mod sink;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sink::Sink;

/// How long anything may take before it counts as a hang.
const PATIENCE: Duration = Duration::from_secs(20);

fn scenario(fleet: &str, duration: &str) -> String {
    format!(
        r#"
        [fleet]
        client = "lean"
        connect_rate = 10000
        {fleet}
        [[subscriber]]
        name = "archive"
        filter = "devices/#"
        [run]
        duration = "{duration}"
        drain_timeout = "100ms"
        "#
    )
}

fn start(directory: &Path, sink: &Sink, scenario: &str) -> Child {
    let path = directory.join("scenario.toml");
    fs::write(&path, scenario).expect("a scenario is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_device-sim"));
    command.arg("run").arg(path).args(["--broker", &sink.address().to_string(), "--report", "json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
}

/// The report of a run to its end. A sink delivers nothing, so the verdict is that nothing was proved.
fn report(directory: &Path, sink: &Sink, scenario: &str) -> Value {
    let output = start(directory, sink, scenario).wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", standard_error(&output));
    serde_json::from_slice(&output.stdout).expect("a report")
}

fn standard_error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// The processes whose parent is this one.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("a list of processes");
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        after.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()) == Some(parent)
    };
    processes.flatten().filter_map(number).filter(is_child).collect()
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status().expect("kill");
    assert!(status.success(), "kill {name} {pid}");
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, after)| !after.trim_start().starts_with('Z'))
}

#[test]
fn what_workers_count_adds_up_to_the_schedule() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = Sink::answering();
    let report = report(directory.path(), &sink, &scenario("devices = 300\nrate = 3000\nworkers = 3", "1s"));
    let (qos0, qos1) = (&report["qos"]["0"], &report["qos"]["1"]);
    assert_eq!(sink.connections(), 301, "every device and the subscriber");
    assert_eq!(Some(sink.published()), qos0["sent"].as_u64().zip(qos1["sent"].as_u64()).map(|(a, b)| a + b));
    assert_eq!(qos1["acknowledged"], qos1["sent"]);
    assert_eq!((&qos0["not_sent"], &qos1["not_sent"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(qos1["lost"], qos1["sent"], "the sink delivers nothing, and every event is missed");
    let due = qos0["due"].as_u64().zip(qos1["due"].as_u64()).map_or(0, |(a, b)| a + b);
    assert!((2_900..=3_100).contains(&due), "{due}");
    assert_eq!(report["due_to_puback_us"]["count"], qos1["sent"]);
    assert_eq!(report["simulator"]["workers"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_cohort_with_a_worker_of_its_own_takes_no_processor_from_the_others_and_each_says_its_own_lag() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = Sink::answering();
    let fleet = "devices = 120\nrate = 1200\n[[cohort]]\nname = \"there\"\ndevices = 20\n\
                 [[cohort]]\nname = \"elsewhere\"\ndevices = 100\nworker = \"own\"";
    let run = start(directory.path(), &sink, &scenario(fleet, "1s"));
    wait_until("nothing was published", || sink.published() > 0);
    // Of its thread that is nicest.
    let niceness = |pid: &u32| -> Option<i32> {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let of_one = |thread: fs::DirEntry| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            let (_, after) = stat.rsplit_once(')')?;
            after.split_whitespace().nth(16)?.parse().ok()
        };
        threads.filter_map(of_one).max()
    };
    let here = niceness(&std::process::id());
    let mut nice: Vec<_> = children(run.id()).iter().map(niceness).collect();
    nice.sort_unstable();
    assert_eq!(nice, [here, Some(19)]);
    let output = run.wait_with_output().expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let workers = report["simulator"]["workers"].as_array().expect("workers");
    let connections: Vec<_> = workers.iter().map(|worker| worker["connections"].as_u64()).collect();
    assert_eq!(connections, [Some(20), Some(100)]);
    for worker in workers {
        let (p99, max) = (worker["lag_p99_us"].as_u64(), worker["lag_max_us"].as_u64());
        assert!(max > Some(0) && p99 <= max, "{worker:#}");
    }
    assert_eq!(report["qos"]["1"]["acknowledged"], report["qos"]["1"]["due"]);
}

#[test]
fn lean_devices_say_that_they_are_there_and_gone_and_keep_a_retained_copy() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = Sink::answering();
    let fleet = "devices = 40\nrate = 400\nworkers = 2\nkeep_alive = 7\nstatus = \"s/{device}\"\n\
                 state = { topic = \"r/{device}\", every = \"1h\" }";
    let report = report(directory.path(), &sink, &scenario(fleet, "1s"));
    let sent = report["qos"]["0"]["sent"].as_u64().zip(report["qos"]["1"]["sent"].as_u64());
    let sent = sent.map_or(0, |(a, b)| a + b);
    wait_until("not everybody said goodbye", || sink.retained() >= 120);
    assert_eq!(sink.retained(), 120, "each: once online, once a state, once offline");
    assert_eq!(sink.published(), sent + 120, "and nothing of that is an event");
    assert_eq!((sink.wills(), sink.topics()), (40, 120));
    assert_eq!(report["qos"]["1"]["acknowledged"], report["qos"]["1"]["sent"]);
}

#[test]
fn devices_share_connections_and_come_from_several_addresses() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = Sink::answering();
    let fleet = "devices = 1000\nconnections = 30\nrate = 5000\nworkers = 2\nqos = 1\n\
                 source_addresses = [\"127.0.3.0/24\", \"127.0.0.1\"]";
    let report = report(directory.path(), &sink, &scenario(fleet, "1s"));
    assert_eq!(sink.connections(), 31);
    assert_eq!(sink.topics(), 1_000, "every device published");
    assert!(sink.sources() >= 15, "{} source addresses", sink.sources());
    assert_eq!(report["qos"]["1"]["acknowledged"], report["qos"]["1"]["due"]);
}

#[test]
fn a_worker_that_dies_ends_the_run_with_a_clear_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = Sink::answering();
    let run = start(directory.path(), &sink, &scenario("devices = 20\nrate = 100\nworkers = 2", "60s"));
    wait_until("nothing was published", || sink.published() > 0);
    let workers = children(run.id());
    assert_eq!(workers.len(), 2);
    signal("-KILL", workers[1]);
    let began = Instant::now();
    let output = run.wait_with_output().expect("it ends");
    assert!(began.elapsed() < PATIENCE, "it hung for {:?}", began.elapsed());
    assert_eq!(output.status.code(), Some(3));
    let error = standard_error(&output);
    assert!(error.contains("of 2 (process") && error.contains("died: signal: 9"), "{error}");
    wait_until("the other worker lives on", || !workers.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn workers_do_not_outlive_their_coordinator() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = Sink::answering();
    let mut run = start(directory.path(), &sink, &scenario("devices = 20\nrate = 100\nworkers = 2", "60s"));
    wait_until("nothing was published", || sink.published() > 0);
    let workers = children(run.id());
    assert_eq!(workers.len(), 2);
    signal("-KILL", run.id());
    run.wait().expect("it ends");
    wait_until("workers live on", || !workers.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn an_interrupt_is_answered_with_a_report() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = Sink::answering();
    let run = start(directory.path(), &sink, &scenario("devices = 20\nrate = 1000\nworkers = 2", "60s"));
    wait_until("nothing was published", || sink.published() > 100);
    signal("-INT", run.id());
    let output = run.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", standard_error(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(report["qos"]["1"]["acknowledged"], report["qos"]["1"]["due"]);
    assert!(report["published_for_s"].as_f64().is_some_and(|seconds| seconds < 60.0));
}

#[test]
fn an_event_at_qos_2_is_released_once_and_then_acknowledged() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = Sink::answering();
    let fleet =
        "devices = 20\nrate = 500\nqos = { \"1\" = 1, \"2\" = 1 }\nprotocol = { \"3.1.1\" = 1, \"5\" = 1 }";
    let report = report(directory.path(), &sink, &scenario(fleet, "1s"));
    assert_eq!(report["qos"]["1"]["acknowledged"], report["qos"]["1"]["due"], "{report:#}");
    let (published, released) = (sink.published(), sink.released());
    assert!((published / 4..published * 3 / 4).contains(&released), "{released} of {published}");
}

/// A worker that has no CPU for a while is late by its own doing, and says so. A broker that takes as long makes the same latencies, which are then
/// its own.
#[test]
fn a_starved_simulator_says_that_it_is_the_bottleneck_and_beside_a_slow_broker_it_does_not() {
    let pause = Duration::from_millis(400);
    let (starved, starved_latency) = lag_and_latency(|worker, _| {
        signal("-STOP", worker);
        stand_still(pause);
        signal("-CONT", worker);
    });
    let (fed, fed_latency) = lag_and_latency(|_, sink| {
        sink.hold(true);
        stand_still(pause);
        sink.hold(false);
    });
    // A fifth of the events became due meanwhile, the first of them 400 ms before it went on.
    assert!((300_000..3_000_000).contains(&starved), "{starved} µs");
    // Lag is of all events and latency of those that are acknowledged, so the two percentiles are not of the same ones.
    assert!(
        starved_latency >= starved / 10 * 9,
        "latency counts from the due time: {starved_latency}, lag {starved} µs"
    );
    assert!(fed_latency >= 300_000, "{fed_latency} µs");
    assert!(fed < starved / 2, "{fed} µs beside a slow broker, {starved} µs without a CPU");
}

/// The p99 of the simulator's own lag and of due to PUBACK, in microseconds, of two seconds in which `disturb` is done to the worker or the broker.
fn lag_and_latency(disturb: impl FnOnce(u32, &Sink)) -> (u64, u64) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = Sink::answering();
    let run = start(directory.path(), &sink, &scenario("devices = 20\nrate = 500", "2s"));
    wait_until("nothing was published", || sink.published() > 100);
    disturb(children(run.id())[0], &sink);
    let output = run.wait_with_output().expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let lag = report["simulator"]["lag_us"]["p99"].as_u64().expect("a lag");
    // One event in a hundred more than 25 ms late.
    assert_eq!(report["simulator"]["bottleneck"], lag > 25_000, "{lag} µs");
    (lag, report["due_to_puback_us"]["p99"].as_u64().expect("a latency"))
}

fn stand_still(time: Duration) {
    let began = Instant::now();
    wait_until("time stands still", || began.elapsed() > time);
}

/// Closed loop at QoS 0 on one core, into a sink that discards. `DEVICE_SIM_RATE=300000` demands that rate of it, which an
/// optimised build has.
#[test]
fn the_client_itself_is_fast() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = Sink::discarding();
    let fleet = "devices = 100\nrate = 1\nqos = 0\nloop = \"closed\"\nprotocol = \"5\"";
    let report = report(directory.path(), &sink, &scenario(fleet, "1s"));
    let rate = report["fleet"]["sent_per_s"].as_f64().expect("a rate");
    let wanted = std::env::var("DEVICE_SIM_RATE").ok().and_then(|rate| rate.parse().ok()).unwrap_or(1_000.0);
    assert!(rate >= wanted, "{rate} events/s, {wanted} wanted: {}", report["simulator"]);
}

//! The binary as people and scripts see it: exit codes, and sentences on standard error.
#![expect(clippy::expect_used, reason = "a test helper; a failure fails the test")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

const SCENARIO: &str = r#"
    [fleet]
    devices = 2
    rate = 10
    [[subscriber]]
    name = "archive"
    filter = "devices/#"
    [run]
    duration = "1s"
    connect_timeout = "300ms"
"#;

fn device_sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_device-sim")).args(arguments).output().expect("the binary runs")
}

fn written(directory: &Path, scenario: &str) -> String {
    let path = directory.join("scenario.toml");
    std::fs::write(&path, scenario).expect("a scenario is written");
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn standard_error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_usage_ends_with_2() {
    assert_eq!(device_sim(&["fly"]).status.code(), Some(2));
    assert_eq!(device_sim(&["run", "x.toml", "--broker", "nowhere"]).status.code(), Some(2));
    let output = device_sim(&["run", "/nonexistent/scenario.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(standard_error(&output).contains("cannot read /nonexistent/scenario.toml"), "{output:?}");
    assert_eq!(device_sim(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_faulty_scenario_ends_with_2_and_names_every_fault() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path =
        written(directory.path(), &SCENARIO.replace("devices = 2", "device = 2").replace("1s", "1 day"));
    let broker = TcpListener::bind("127.0.0.1:0").expect("a free port");
    broker.set_nonblocking(true).expect("a socket");
    let address = broker.local_addr().expect("an address").to_string();
    let output = device_sim(&["run", &path, "--broker", &address]);
    let said = standard_error(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(broker.accept().is_err(), "not even a connection was made");
    assert!(
        said.contains(&format!("{path}:3:5: fleet.device: there is no such key; did you mean `devices`?")),
        "{said}"
    );
    assert!(said.contains(&format!("{path}:9:5: run.duration: `1 day` is not a duration")), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn an_unreachable_broker_ends_with_3() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = written(directory.path(), SCENARIO);
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|closed| closed.local_addr()).expect("a free port").port();
    let output = device_sim(&["run", &path, "--broker", &format!("127.0.0.1:{port}"), "--report", "json"]);
    let said = standard_error(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains(&format!("0 of 3 clients were connected to 127.0.0.1:{port} after 300ms")),
        "{said}"
    );
    assert!(said.contains("refused"), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn scenarios_come_with_the_program() {
    let list = device_sim(&["scenarios", "list"]);
    let listed = String::from_utf8_lossy(&list.stdout).into_owned();
    assert_eq!(list.status.code(), Some(0));
    assert!(
        listed.lines().count() >= 12 && listed.contains("\nkill-9             kill -9 and restart"),
        "{listed}"
    );
    for line in listed.lines() {
        let name = line.split(' ').next().expect("a name");
        let shown = device_sim(&["scenarios", "show", name]);
        assert!(shown.stdout.starts_with(b"# ") || shown.stdout.starts_with(b"about = "), "{name}");
    }
    let output = device_sim(&["run", "kill9"]);
    assert_eq!(output.status.code(), Some(2));
    let said = standard_error(&output);
    assert!(said.contains("there is no file and no scenario `kill9`; did you mean `kill-9`?"), "{said}");
}

#[test]
fn what_the_command_line_cannot_do_to_a_scenario_is_said() {
    let output = device_sim(&["run", "kill-9", "--broker", "127.0.0.1:1883"]);
    let said = standard_error(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("`first kill` does something to the broker's process"), "{said}");
    let output = device_sim(&["run", "kill-9", "--duration", "1s"]);
    let said = standard_error(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--duration is for scenarios without phases"), "{said}");
    assert_eq!(device_sim(&["run", "first", "--start", "gateway", "--broker", "a:1"]).status.code(), Some(2));
}

#[cfg(not(feature = "edge"))]
#[test]
fn a_program_without_edge_sites_says_so_before_anything_starts() {
    let output = device_sim(&["run", "edge-sites"]);
    let error = standard_error(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("built without the cargo feature `edge`"), "{error}");
}

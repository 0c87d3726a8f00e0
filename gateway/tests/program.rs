//! The `gateway` program from outside: what it prints where, how it ends, and what signals do to it.
#![expect(clippy::unwrap_used, reason = "all of this file is a test")]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use gateway::config::DEFAULT_TOML;
use rustix::process::{Pid, Signal, kill_process};

fn gateway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = gateway(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Starts it on ports of the kernel's choice and waits for the ready line.
fn start(data_dir: &Path, more: &[&str]) -> (Child, String) {
    let data_dir = data_dir.to_str().unwrap();
    let mut arguments =
        vec!["run", "--data-dir", data_dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    arguments.extend(more);
    let mut child = gateway(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    // One byte at a time, so that whatever follows the line stays in the pipe.
    let mut stdout = BufReader::with_capacity(1, child.stdout.as_mut().unwrap());
    stdout.read_line(&mut ready).unwrap();
    (child, ready)
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Exit status, what was printed after the ready line, and the log.
fn end(mut child: Child) -> (Option<i32>, String, String) {
    let (mut rest, mut log) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    (child.wait().unwrap().code(), rest, log)
}

#[test]
fn config_default_prints_the_documented_file() {
    assert_eq!(output(&["config", "default"]), (Some(0), DEFAULT_TOML.to_owned(), String::new()));
}

#[test]
fn check_tells_all_faults_on_standard_error() {
    let (code, stdout, stderr) = output(&["check", "--set", "mqtt.max_qos=7", "--set", "storage.data_dri=x"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("gateway: the configuration has 2 faults\n"), "{stderr}");
    assert!(stderr.contains("storage.data_dri") && stderr.contains("accepted: storage.data_dir"), "{stderr}");

    let (code, stdout, stderr) = output(&["check"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("the configuration is valid\n"), "{stdout}");
}

#[test]
fn a_start_that_fails_says_why_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data_dir = directory.path().to_str().unwrap();
    let arguments = ["run", "--data-dir", data_dir, "--listen", &address, "--admin", "127.0.0.1:0"];
    let (code, stdout, stderr) = output(&[&arguments[..], &["--set", "log.level=error"]].concat());
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("gateway: cannot start: ") && stderr.contains(&address), "{stderr}");
    assert_eq!(stderr.matches("os error").count(), 1, "{stderr}");
}

#[test]
fn it_is_ready_when_it_says_so_and_drains_on_a_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().unwrap();
        let (child, ready) = start(directory.path(), &[]);
        let words: Vec<&str> = ready.trim_end().split(' ').collect();
        assert!(matches!(words[..], ["ready", _, _]), "{ready}");
        TcpStream::connect(words[1].strip_prefix("mqtt=").unwrap()).unwrap();
        TcpStream::connect(words[2].strip_prefix("admin=").unwrap()).unwrap();
        send(&child, signal);
        let (code, rest, log) = end(child);
        assert_eq!((code, rest.as_str()), (Some(0), ""), "{log}");
        assert!(log.contains("drained"), "{log}");
    }
}

/// The first lines of a start where 700 files may be open.
fn log_of_a_start_with_few_files(data_dir: &Path, more: &str) -> String {
    let script = format!("ulimit -n 700; exec \"$0\" run --data-dir \"$1\" --listen 127.0.0.1:0 {more}");
    let mut child = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_gateway")])
        .arg(data_dir)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::with_capacity(1, child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.starts_with("ready "), "{ready}");
    send(&child, Signal::TERM);
    let (code, _, log) = end(child);
    assert_eq!(code, Some(0), "{log}");
    log
}

#[test]
fn a_limit_of_open_files_lowers_the_default_of_connections_and_contradicts_a_wish() {
    let directory = tempfile::tempdir().unwrap();
    let off = "--set admin.enabled=false";
    let log = log_of_a_start_with_few_files(directory.path(), off);
    assert!(!log.contains(" WARN "), "{log}");
    let lowered = log.lines().find(|line| line.contains("admission.max_connections"));
    let lowered = lowered.unwrap_or_else(|| panic!("not a word of it: {log}"));
    assert!(lowered.contains(" INFO ") && lowered.contains("max_connections=350"), "{lowered}");

    let wished = format!("{off} --set admission.max_connections=100000");
    let log = log_of_a_start_with_few_files(directory.path(), &wished);
    let lacking = log.lines().find(|line| line.contains("admission.max_connections"));
    let lacking = lacking.unwrap_or_else(|| panic!("not a word of it: {log}"));
    assert!(lacking.contains(" WARN ") && lacking.contains("limit=700"), "{lacking}");
}

#[test]
fn hang_up_is_survived_and_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, ready) = start(directory.path(), &["--set", "admin.enabled=false"]);
    assert!(ready.ends_with(" admin=off\n"), "{ready}");
    send(&child, Signal::HUP);
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let told = log
        .by_ref()
        .lines()
        .map(Result::unwrap)
        .find(|line| line.contains("the configuration was read again"));
    assert!(told.is_some(), "the log ended without a word of it");
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

//! Why was this dropped? By the `gateway` program, followed live, and in a file.

use std::process::{Command, Output};

use gateway_protocol::ProtocolVersion;
use gateway_tests::{Gateway, Program, ReasonCode, binary};
use serde_json::Value;

use super::QOS1;

fn decisions(gateway: &Gateway, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::gateway());
    command.arg("decisions").args(arguments).args(["--admin", &gateway.admin().to_string()]);
    command
}

fn done(gateway: &Gateway, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = decisions(gateway, arguments).output().unwrap();
    let errors = String::from_utf8(stderr).unwrap();
    assert!(status.success() && errors.is_empty(), "{arguments:?}: {errors}");
    String::from_utf8(stdout).unwrap()
}

fn list(gateway: &Gateway, arguments: &[&str]) -> Vec<Value> {
    let text = done(gateway, &[arguments, &["--output", "json"]].concat());
    let Value::Object(mut answer) = serde_json::from_str(&text).expect(&text) else { panic!("{text}") };
    let Some(Value::Array(decisions)) = answer.remove("decisions") else { panic!("{text}") };
    decisions
}

/// A subscription that is too deep.
fn be_refused(gateway: &Gateway, client: &str) {
    let mut client = gateway.connect(ProtocolVersion::V5, client);
    assert_eq!(client.subscribe(&[("a/b/c/d", QOS1)]), [ReasonCode::TopicFilterInvalid]);
}

#[test]
fn what_was_refused_is_listed_filtered_followed_and_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("decisions.ndjson");
    let set = format!("decisions.file={}", file.display());
    let mut gateway = Gateway::start_set(&["admission.max_filter_levels=3", &set]);
    assert_eq!(list(&gateway, &["--action", "refused"]), [Value::Null; 0]);

    be_refused(&gateway, "first");
    be_refused(&gateway, "second");
    let all = list(&gateway, &["--reason", "filter_too_deep", "--since", "-15m"]);
    let clients: Vec<_> = all.iter().map(|decision| decision["client"].as_str().unwrap()).collect();
    assert_eq!(clients, ["first", "second"], "oldest first");
    assert_eq!((&all[0]["action"], &all[0]["topic"]), (&"refused".into(), &"a/b/c/d".into()));
    assert_eq!(list(&gateway, &["--client", "second"]).len(), 1);
    assert_eq!(list(&gateway, &["--action", "refused", "--limit", "1"])[0]["client"], "second");
    let table = done(&gateway, &[]);
    assert!(table.starts_with("TIME ") && table.contains("filter_too_deep"), "{table}");

    let wrong = decisions(&gateway, &["--reason", "because"]).output().unwrap();
    let errors = String::from_utf8(wrong.stderr).unwrap();
    assert!(wrong.status.code() == Some(1) && errors.contains("filter_too_deep"), "{errors}");

    let admin = gateway.admin().to_string();
    let program = binary::gateway();
    let arguments = ["decisions", "--follow", "--since", "-15m", "--client", "third", "--admin", &admin];
    let mut following = Program::start(program.to_str().unwrap(), &arguments);
    be_refused(&gateway, "third");
    following.await_line(0, "the third", |line| line.contains("refused filter_too_deep x1  L"));
    following.stop();

    gateway.terminate();
    let text = std::fs::read_to_string(&file).unwrap();
    let written: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let clients: Vec<_> = written.iter().filter_map(|decision| decision["client"].as_str()).collect();
    for client in ["first", "second", "third"] {
        assert!(clients.contains(&client), "{text}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_said_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("missing").join("decisions.ndjson");
    let output = Command::new(binary::gateway())
        .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"])
        .arg(directory.path().join("data"))
        .args(["--set", &format!("decisions.file={}", file.display())])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && errors.contains("decisions cannot be written to"), "{errors}");
}

//! `device-sim record` and `replay` against the gateway: what was published, recorded and published again is the same.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use gateway_tests::{Client, Gateway, Message, ProtocolVersion};
use serde_json::Value;

use crate::{QOS0, QOS1};

const V5: ProtocolVersion = ProtocolVersion::V5;

fn device_sim(arguments: &[&str]) -> Command {
    let mut command = Command::new(gateway_tests::binary::device_sim());
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts recording and returns once the gateway has its subscription.
fn record(gateway: &Gateway, file: &Path, arguments: &[&str]) -> Child {
    let broker = gateway.mqtt().to_string();
    let given = ["record", file.to_str().unwrap(), "--broker", &broker, "--json", "--duration", "20s"];
    let child = device_sim(&[&given[..], arguments].concat()).spawn().expect("device-sim can be run");
    // A message that is delivered to nobody but the recorder says that it is there.
    let mut probe = gateway.connect(V5, "probe");
    let sent = || gateway.metrics().sum("gateway_deliveries_sent_total");
    let before = sent();
    let limit = std::time::Duration::from_secs(10);
    let mut look = || {
        probe.publish("probe/x", "", QOS0);
        probe.ping();
        sent()
    };
    gateway_tests::wait::until_it("the recorder subscribes", limit, &mut look, |now| *now > before);
    probe.leave();
    child
}

fn said(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn replay(gateway: &Gateway, file: &Path, arguments: &[&str]) -> Value {
    let broker = gateway.mqtt().to_string();
    let given = ["replay", file.to_str().unwrap(), "--broker", &broker, "--json"];
    said(&device_sim(&[&given[..], arguments].concat()).output().expect("device-sim can be run"))
}

fn published(gateway: &Gateway) {
    let mut device = gateway.connect(V5, "device");
    for number in 0..40 {
        let qos = if number % 2 == 0 { QOS0 } else { QOS1 };
        device.publish(
            &format!("plant/dev-{}/t", number % 4),
            &format!("{{\"of\":\"dev-{}\",\"n\":{number}}}", number % 4),
            qos,
        );
    }
    device.leave();
}

/// What came, as topics and payloads, in the order of each topic.
fn sorted(messages: Vec<Message>) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> =
        messages.into_iter().map(|message| (message.topic, message.payload)).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn listener(gateway: &Gateway) -> Client {
    let mut client = gateway.connect(V5, "listener");
    client.subscribe(&[("plant/#", QOS1)]);
    client
}

#[test]
fn what_was_recorded_is_replayed_message_for_message() {
    let gateway = Gateway::start();
    let file = gateway.scratch().join("capture");
    let recorder =
        record(&gateway, &file, &["--filter", "plant/#", "--filter", "probe/#", "--max-messages", "41"]);
    let mut listener = listener(&gateway);
    published(&gateway);
    let first = sorted(listener.messages(40));
    // The probes were recorded first; one of them is among the 41, or more of them are instead of the last messages.
    let recorded = said(&recorder.wait_with_output().expect("the recorder ends"));
    assert_eq!(recorded["messages"], 41, "{recorded}");
    assert_eq!(recorded["ended_by"], "its number of messages", "{recorded}");
    let replayed = replay(&gateway, &file, &["--speed", "max", "--connections", "3"]);
    assert_eq!(
        (&replayed["sent"], &replayed["unacknowledged"]),
        (&recorded["messages"], &Value::from(0)),
        "{replayed}"
    );
    assert_eq!(replayed["complete"], true);
    let again = sorted(listener.messages(41 - probes(&file)));
    assert!(!again.is_empty() && again.iter().all(|message| first.contains(message)), "{again:?}");
    for topic in 0..4 {
        let of = |all: &[(String, String)]| {
            let topic = format!("plant/dev-{topic}/t");
            all.iter()
                .filter(|(name, _)| *name == topic)
                .map(|(_, payload)| payload.clone())
                .collect::<Vec<_>>()
        };
        assert!(of(&first).starts_with(&of(&again)), "in order, and nothing in between left out");
    }
    let slow = replay(&gateway, &file, &["--speed", "1", "--shift", "300ms", "--qos", "0"]);
    assert!(slow["seconds"].as_f64().unwrap() >= 0.3, "{slow}");
    assert_eq!(slow["acknowledged"], 0, "{slow}");
}

/// How many probes are in a capture: their topic's first level stands there in plain text, and in the header's filter.
fn probes(file: &Path) -> usize {
    let bytes = std::fs::read(file).unwrap();
    bytes.windows(7).filter(|window| window.starts_with(b"probe/") && window[6] != b'#').count()
}

#[test]
fn names_are_hashed_with_a_key_and_a_damaged_file_is_refused() {
    let gateway = Gateway::start();
    let (file, key) = (gateway.scratch().join("capture"), gateway.scratch().join("key"));
    std::fs::write(&key, "0123456789abcdef").unwrap();
    let arguments = [
        "--filter",
        "plant/#",
        "--filter",
        "probe/#",
        "--anonymise",
        "2",
        "--key-file",
        key.to_str().unwrap(),
    ];
    let recorder = record(&gateway, &file, &arguments);
    published(&gateway);
    // Gently, as by Ctrl-C.
    let process = rustix::process::Pid::from_raw(i32::try_from(recorder.id()).unwrap()).unwrap();
    gateway_tests::wait::until_it(
        "all deliveries",
        std::time::Duration::from_secs(10),
        || gateway.metrics().sum("gateway_deliveries_acked_total"),
        |acked| *acked >= 40.0,
    );
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let recorded = said(&recorder.wait_with_output().expect("the recorder ends"));
    assert_eq!(recorded["ended_by"], "a signal", "{recorded}");
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(4).any(|window| window == b"dev-"), "no name is left");
    let mut listener = listener(&gateway);
    replay(&gateway, &file, &["--speed", "max"]);
    let found = sorted(listener.messages(recorded["messages"].as_u64().unwrap() as usize - probes(&file)));
    let topics: std::collections::BTreeSet<&String> = found.iter().map(|(topic, _)| topic).collect();
    assert_eq!(topics.len(), 4, "four names, four hashes: {topics:?}");
    assert!(
        found.iter().all(|(topic, payload)| payload.contains(topic.split('/').nth(1).unwrap())),
        "{found:?}"
    );
    let mut damaged = bytes;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let broker = gateway.mqtt().to_string();
    let output = device_sim(&["replay", file.to_str().unwrap(), "--broker", &broker, "--speed", "max"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the capture is damaged at byte"), "{output:?}");
}

//! Client libraries that devices and back ends really use, paho-mqtt and MQTT.js, each through the whole of what it
//! offers, in both versions of the protocol; and a request by `mosquitto_rr`.
//!
//! The checks are scripts in `clients/`. The libraries lie where `TEST_CLIENTS_DIR` says, or in `clients` of the
//! target directory; `tests/run` installs them there.

use std::path::{Path, PathBuf};

use gateway_protocol::packet::Packet;
use gateway_protocol::{PropertiesBuf, Property};
use gateway_tests::{Gateway, Program, ProtocolVersion, ReasonCode};

use crate::QOS1;

/// What a script says of each check that holds, in this order.
const CHECKS: [&str; 6] =
    ["connect", "every_qos", "retained", "wills", "shared_subscription", "durable_resume"];
/// And in version 5.
const CHECKS_V5: [&str; 3] = ["message_properties", "message_expiry", "request_response"];

#[test]
fn paho_in_3_1_1() {
    paho("3.1.1", &CHECKS);
}

#[test]
fn paho_in_5() {
    paho("5", &[&CHECKS[..], &CHECKS_V5].concat());
}

#[test]
fn mqttjs_in_3_1_1() {
    mqttjs("3.1.1", &CHECKS);
}

#[test]
fn mqttjs_in_5() {
    mqttjs("5", &[&CHECKS[..], &CHECKS_V5].concat());
}

fn paho(version: &str, checks: &[&str]) {
    let python = library("python/bin/python");
    run(&[&python, &script("paho_checks.py")], version, checks);
}

fn mqttjs(version: &str, checks: &[&str]) {
    let modules = format!("NODE_PATH={}", library("node/node_modules"));
    run(&["env", &modules, "node", &script("mqttjs_checks.js")], version, checks);
}

/// Runs a script against a gateway of its own.
fn run(command: &[&str], version: &str, checks: &[&str]) {
    let mut gateway = Gateway::start();
    let port = gateway.mqtt().port().to_string();
    let arguments = [&command[1..], &[&port, version]].concat();
    let mut program = Program::start(command[0], &arguments);
    let status = program.finish();
    assert!(status.success(), "{status}");
    let expected: Vec<_> = checks.iter().map(|check| format!("ok {check}")).collect();
    assert_eq!(program.output.lines(), expected);
    gateway.assert_alive();
}

pub(crate) fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("end_to_end/clients").join(name);
    path.to_str().expect("a path in UTF-8").to_owned()
}

pub(crate) fn library(path: &str) -> String {
    let clients = std::env::var_os("TEST_CLIENTS_DIR").map_or_else(default_dir, PathBuf::from);
    let found = clients.join(path);
    assert!(
        found.exists(),
        "{} is missing: `tests/end_to_end/clients/install {}`, or run the tests by tests/run, which does",
        found.display(),
        clients.display()
    );
    found.to_str().expect("a path in UTF-8").to_owned()
}

fn default_dir() -> PathBuf {
    // target/<profile>/deps/<test>
    let test = std::env::current_exe().expect("the running test has a path");
    test.ancestors().nth(3).expect("tests lie in <target>/<profile>/deps").join("clients")
}

#[test]
fn mosquitto_rr_gets_its_response() {
    let gateway = Gateway::start();
    let mut responder = gateway.connect(ProtocolVersion::V5, "responder");
    responder.subscribe(&[("requests/time", QOS1)]);
    let port = gateway.mqtt().port().to_string();
    let mut arguments = vec!["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-q", "1", "-W", "15"];
    arguments.extend(["-t", "requests/time", "-e", "replies/1", "-m", "now?"]);
    arguments.extend(["-D", "publish", "correlation-data", "id-7", "-F", "%t %D %p"]);
    let mut requester = Program::start("mosquitto_rr", &arguments);

    let frame = responder.await_frame("the request", |packet| matches!(packet, Packet::Publish(_)));
    let Packet::Publish(request) = frame.packet() else { panic!("{frame:?}") };
    assert_eq!((request.topic, request.payload), ("requests/time", &b"now?"[..]));
    let topic = request.properties.response_topic().expect("a Response Topic");
    let correlation = request.properties.correlation_data().expect("Correlation Data");
    assert_eq!((topic, correlation), ("replies/1", &b"id-7"[..]));
    let mut properties = PropertiesBuf::new();
    properties.push(Property::CorrelationData(correlation)).unwrap();
    let packet_id = responder.send_publish_with(topic, b"noon", QOS1, properties.as_properties());
    responder.acknowledge(&frame.message().expect("a PUBLISH"));
    assert_eq!(responder.await_puback(packet_id.expect("at QoS 1")), ReasonCode::Success);

    let status = requester.finish();
    assert!(status.success(), "mosquitto_rr: {status}");
    assert_eq!(requester.output.lines(), ["replies/1 id-7 noon"]);
}

//! The live page in a real browser, and the API's description by an independent validator: both against a gateway with something to show.
//!
//! Chromium, Node and Python have to be there, and what `clients/install` brings. `SCREENSHOTS=DIR` keeps pictures of the page.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Gateway, Program, ProtocolVersion, TIMEOUT, binary, wait};
use serde_json::{Value, json};

use crate::client_libraries::{library, script};
use crate::{QOS0, QOS1};

/// The JSON of the answer to one request that is done.
pub(crate) fn ask(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Value {
    let admin = gateway.admin();
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n");
    write!(stream, "{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 2"), "{path}: {answer}");
    serde_json::from_str(body).unwrap()
}

/// A gateway with a consumer `press` that has two dead letters, a client that was kicked, and a sink.
pub(crate) fn with_something_to_show() -> Gateway {
    let consumer = "consumer=[{name='press', stream='telemetry', from='earliest', filter='devices/press/#'}]";
    let sink = "sink=[{name='nowhere', type='webhook', stream='telemetry', url='http://127.0.0.1:9/'}]";
    let gateway = Gateway::start_set(&[consumer, sink]);
    let mut oven = gateway.connect(ProtocolVersion::V5, "oven-7");
    for payload in ["{\"force\": \"much\"}", "{\"force\": \"more\"}"] {
        oven.publish("devices/press/force", payload, QOS1);
    }
    let taken = ask(&gateway, "GET", "/v1/consumers/press/next?max=2&wait=5s", &Value::Null);
    let mut ids: Vec<Value> =
        taken["events"].as_array().unwrap().iter().map(|event| event["id"].clone()).collect();
    wait::until("two events", TIMEOUT, || {
        if ids.len() < 2 {
            let more = ask(&gateway, "GET", "/v1/consumers/press/next?max=2&wait=1s", &Value::Null);
            ids.extend(more["events"].as_array().unwrap().iter().map(|event| event["id"].clone()));
        }
        (ids.len() == 2).then_some(())
    });
    ask(&gateway, "POST", "/v1/consumers/press/reject", &json!({ "ids": ids, "note": "no number" }));
    ask(&gateway, "POST", "/v1/clients/oven-7/kick", &json!({}));
    oven.await_close(TIMEOUT);
    gateway
}

/// How long what a browser or a fleet does may take.
const LONG: Duration = Duration::from_secs(120);

fn finish(mut program: Program, checks: &[&str]) {
    for check in checks {
        // Each has its own time.
        let said = program.output.wait_for(0, LONG, |line| line == format!("ok {check}"));
        assert!(said.is_some(), "{check}: {:#?} {:#?}", program.output.lines(), program.errors.lines());
    }
    let status = program.finish();
    assert!(status.success(), "{status}");
    let expected: Vec<_> = checks.iter().map(|check| format!("ok {check}")).collect();
    assert_eq!(program.output.lines(), expected);
}

#[test]
fn the_live_page_shows_and_does_what_it_says_in_a_browser() {
    let mut gateway = with_something_to_show();
    let url = format!("http://{}", gateway.admin());
    let screenshots = std::env::var("SCREENSHOTS").unwrap_or_default();
    let modules = format!("NODE_PATH={}", library("node/node_modules"));
    let (done, is_done) = sync_channel::<()>(0);
    thread::scope(|scope| {
        let gateway = &gateway;
        scope.spawn(move || {
            let mut device = gateway.connect(ProtocolVersion::V3_1_1, "oven-8");
            while is_done.recv_timeout(Duration::from_millis(50)) == Err(RecvTimeoutError::Timeout) {
                device.publish("devices/oven-8/humidity", "{\"percent\": 41}", QOS0);
                device.publish("devices/oven-8/temperature", "{\"celsius\": 181.5}", QOS1);
            }
        });
        let browser =
            Program::start("env", &[&modules, "node", &script("page_checks.js"), &url, &screenshots]);
        let checks = [
            "policy",
            "live",
            "why_disconnected",
            "streams",
            "redrive",
            "purge",
            "messages",
            "topics",
            "fits",
            "keyboard",
            "quiet",
        ];
        let finished =
            thread::Builder::new().spawn_scoped(scope, move || finish(browser, &checks)).unwrap().join();
        drop(done);
        if let Err(panic) = finished {
            std::panic::resume_unwind(panic);
        }
    });
    gateway.assert_alive();
}

/// How many devices are connected; `GATEWAY_LIVE_CLIENTS=10000` is the long form, which needs as many open files and half of them again.
fn clients() -> usize {
    std::env::var("GATEWAY_LIVE_CLIENTS").map_or(600, |number| number.parse().expect("a number"))
}

#[test]
fn the_live_page_is_quick_with_a_fleet_that_is_listed_and_a_thousand_events_a_second() {
    // However slow the machine is, nothing is given up.
    let gateway = Gateway::start_set(&["admission.ladder=false"]);
    let clients = clients();
    let scenario = gateway.scratch().join("fleet.toml");
    let fleet = format!(
        "about = \"behind a page\"\n\
         [fleet]\nclient = \"lean\"\ndevices = {clients}\nrate = 1000\nconnect_rate = 2000\nqos = {{ \"0\" = 1, \"1\" = 1 }}\n\
         [[subscriber]]\nname = \"archive\"\nfilter = \"devices/#\"\n\
         [run]\nduration = \"10m\"\nconnect_timeout = \"60s\"\n"
    );
    std::fs::write(&scenario, fleet).unwrap();
    let (scenario, mqtt) = (scenario.to_str().unwrap(), gateway.mqtt().to_string());
    let simulator = binary::device_sim().to_str().unwrap();
    let _fleet = Program::start(simulator, &["run", scenario, "--broker", &mqtt, "--quiet"]);
    let received = || gateway.metrics().sum("gateway_events_received_total");
    wait::until("the fleet is there, and publishes", LONG, || {
        let all = gateway.metrics().find("gateway_connections")? >= clients as f64;
        (all && received() > 0.0).then_some(())
    });
    let (before, began) = (received(), Instant::now());

    let url = format!("http://{}", gateway.admin());
    let screenshots = std::env::var("SCREENSHOTS").unwrap_or_default();
    let modules = format!("NODE_PATH={}", library("node/node_modules"));
    let (script, listed) = (script("page_large_checks.js"), clients.to_string());
    let browser = Program::start("env", &[&modules, "node", &script, &url, &listed, &screenshots]);
    let errors = browser.errors.clone();
    finish(browser, &["live", "messages", "search", "fits", "all", "quiet"]);
    let rate = (received() - before) / began.elapsed().as_secs_f64();
    eprintln!("{clients} clients, {rate:.0} events/s; {}", errors.lines().join(" "));
    assert!(rate > 500.0, "{rate:.0} events/s");
}

#[test]
fn the_description_of_the_api_is_valid_and_answers_are_as_described() {
    let gateway = with_something_to_show();
    let _connected = gateway.connect(ProtocolVersion::V5, "oven-9");
    let url = format!("http://{}", gateway.admin());
    let program = Program::start(&library("python/bin/python"), &[&script("openapi_checks.py"), &url]);
    finish(program, &["valid", "answers", "strict"]);
}

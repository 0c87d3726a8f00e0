//! Boards and rules: what they name is there, Prometheus's own tools accept them, and a real Prometheus fires alerts for real faults.
//!
//! `prometheus` and `promtool` (Debian: prometheus) have to be there; `tests/run` sees to that.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use gateway_tests::{Client, Gateway, Hello, Program, ProtocolVersion, TIMEOUT, get, wait};
use serde_json::{Value, json};

use crate::QOS1;
use crate::live_page::{ask, with_something_to_show};

const BOARDS: [&str; 5] = ["overview", "delivery", "storage", "overload", "fleet"];
const RULES: [&str; 2] = ["rules.yml", "alerts.yml"];
/// Metrics that are counted for the first time when something happens that does not happen here.
const SELDOM: [&str; 6] = [
    "gateway_decisions_total",
    "gateway_decisions_file_missed_total",
    "gateway_consumer_missed_total",
    "gateway_consumer_redelivered_total",
    "gateway_sink_written_total",
    "gateway_sink_write_seconds_bucket",
];

fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

fn board(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(dashboards().join(format!("{name}.json"))).unwrap()).unwrap()
}

/// The metrics in an expression; what recording rules make is none.
fn metrics_in(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with("gateway_") || word.starts_with("process_"))
}

#[test]
fn every_panel_and_every_rule_names_metrics_that_there_are() {
    let gateway = with_something_to_show();
    let lag = r#"gateway_consumer_lag_events{consumer="press"}"#;
    wait::until_it("the lag shows", TIMEOUT, || gateway.metrics().find(lag), Option::is_some);
    let metrics = gateway.metrics();
    let mut named = BTreeSet::new();
    for name in BOARDS {
        let board = board(name);
        let panels = board["panels"].as_array().unwrap();
        assert!(panels.len() >= 9, "{name}");
        for panel in panels {
            assert!(panel["description"].as_str().is_some_and(|text| text.len() > 8), "{name}: {panel}");
            for target in panel["targets"].as_array().unwrap() {
                let found: Vec<_> = metrics_in(target["expr"].as_str().unwrap()).map(str::to_owned).collect();
                assert!(!found.is_empty(), "{name}: {target}");
                named.extend(found);
            }
        }
    }
    for file in RULES {
        let text = fs::read_to_string(dashboards().join(file)).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with(['#', 's']) && !line.contains("record:"));
        named.extend(lines.filter(|line| !line.contains("action:")).flat_map(metrics_in).map(str::to_owned));
    }
    assert!(named.len() > 40, "{named:?}");
    let absent: Vec<_> = named
        .iter()
        .filter(|metric| metrics.with_prefix(metric).is_empty() && !SELDOM.contains(&metric.as_str()))
        .collect();
    assert!(absent.is_empty(), "not among what /metrics says: {absent:?}");
}

#[test]
fn the_tools_of_prometheus_accept_rules_and_metrics() {
    let promtool = |arguments: &[&str]| {
        let output = Command::new("promtool").args(arguments).current_dir(dashboards()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    promtool(&["check", "rules", "rules.yml", "alerts.yml"]);
    promtool(&["test", "rules", "rules_test.yml"]);

    let gateway = Gateway::start();
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(get(gateway.admin(), "/metrics").as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A Prometheus that looks every second and fires at once.
struct Prometheus {
    program: Program,
    address: SocketAddr,
}

impl Prometheus {
    fn start(dir: &Path, gateway: &Gateway) -> Self {
        for file in RULES {
            let text = fs::read_to_string(dashboards().join(file)).unwrap();
            let hasty: String = text
                .lines()
                .map(|line| {
                    if line.trim_start().starts_with("for: ") {
                        "        for: 1s\n".to_owned()
                    } else {
                        format!("{line}\n")
                    }
                })
                .collect();
            fs::write(dir.join(file), hasty).unwrap();
        }
        let target = gateway.admin();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml, alerts.yml]\n\
             scrape_configs:\n  - job_name: gateway\n    static_configs: [{{targets: ['{target}']}}]\n"
        );
        fs::write(dir.join("prometheus.yml"), config).unwrap();
        let (config, data) = (dir.join("prometheus.yml"), dir.join("data"));
        let program = Program::start(
            "prometheus",
            &[
                "--web.listen-address=127.0.0.1:0",
                &format!("--config.file={}", config.display()),
                &format!("--storage.tsdb.path={}", data.display()),
            ],
        );
        let (_, line) = program
            .errors
            .wait_for(0, TIMEOUT, |line| line.contains("\"Listening on\""))
            .expect("it listens");
        let address = line.split("address=").nth(1).unwrap().trim().parse().unwrap();
        Self { program, address }
    }

    /// The body of an answer; by HTTP/1.0, which knows no chunks.
    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in time");
        answer.split_once("\r\n\r\n").expect("an HTTP answer").1.to_owned()
    }

    /// The names of the alerts that fire.
    fn firing(&self) -> BTreeSet<String> {
        // Before it is ready it says so in words.
        let answer: Value = serde_json::from_str(&self.get("/api/v1/alerts")).unwrap_or_default();
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    fn await_firing(&self, wanted: &[&str]) {
        let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        wait::until_it(
            "alerts fire",
            Duration::from_secs(40),
            || self.firing(),
            |firing| firing.is_superset(&wanted),
        );
    }

    fn value(&self, expression: &str) -> Option<f64> {
        // Before it is ready it says so in words.
        let answer: Value =
            serde_json::from_str(&self.get(&format!("/api/v1/query?query={expression}"))).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

#[test]
fn a_prometheus_scrapes_the_gateway_and_its_alerts_fire_for_their_faults() {
    let sink = "sink=[{name='nowhere', type='webhook', stream='telemetry', url='http://127.0.0.1:9/'}]";
    let consumer = "consumer=[{name='press', stream='telemetry', from='earliest', filter='devices/press/#'}]";
    let sets = [consumer, sink, "admission.max_connections=12"];
    let mut gateway = Gateway::start_set(&sets);
    let dir = tempfile::tempdir().unwrap();
    let mut prometheus = Prometheus::start(dir.path(), &gateway);
    let mut fleet: Vec<_> =
        (0..12).map(|number| gateway.connect(ProtocolVersion::V5, &format!("oven-{number}"))).collect();
    let device = &mut fleet[0];
    // Waits, since nobody works: two events, of which one is rejected before Prometheus looks and one after.
    device.publish("devices/press/force", "much", QOS1);
    device.publish("devices/press/force", "more", QOS1);
    device.publish("devices/press/force", "most", QOS1);
    let reject = |_: u32| {
        let events = ask(&gateway, "GET", "/v1/consumers/press/next?max=1&wait=5s", &Value::Null);
        let id = &events["events"][0]["id"];
        ask(&gateway, "POST", "/v1/consumers/press/reject", &json!({ "ids": [id] }));
    };
    reject(1);
    wait::until("a scrape saw the fleet", TIMEOUT, || {
        let dead = prometheus.value("gateway_dead_letters_total")? >= 1.0;
        (dead && prometheus.value("gateway_connections")? >= 12.0).then_some(())
    });
    reject(2);
    // Refused: reserved for the gateway's own topics, and one client too many.
    device.publish("$SYS/mine", "x", QOS1);
    let mut one_too_many = Client::open(gateway.mqtt(), ProtocolVersion::V5);
    one_too_many.send_bytes(&Hello::new(ProtocolVersion::V5, "oven-12").bytes());
    one_too_many.await_close(TIMEOUT);
    prometheus.await_firing(&[
        "GatewayDeadLetters",
        "GatewaySinkDown",
        "GatewayConsumerStalled",
        "GatewayEventsRejected",
        "GatewayConnectsRefused",
    ]);
    assert!(prometheus.value("instance:gateway_events_received:rate1m").is_some_and(|rate| rate > 0.0));
    let calm = prometheus.firing();
    assert!(!calm.contains("GatewayDown") && !calm.contains("GatewayFleetGone"), "{calm:?}");
    // Three quarters of the fleet are cut off; then the gateway is.
    fleet.truncate(3);
    prometheus.await_firing(&["GatewayFleetGone"]);
    gateway.kill();
    prometheus.await_firing(&["GatewayDown"]);
    prometheus.program.stop();
}

//! A real Prometheus with the rules of `dashboards/`, which looks every second and lets nothing wait.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_tests::{Gateway, Program, TIMEOUT, wait};
use serde_json::Value;

/// The files with rules.
pub(crate) const RULES: [&str; 2] = ["rules.yml", "alerts.yml"];
/// From a fault to its alert: some scrapes, and faults that take their time.
const FIRES: Duration = Duration::from_secs(60);

/// Where boards and rules are.
pub(crate) fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

/// The program, on a directory of the test's own.
pub(crate) struct Prometheus {
    program: Program,
    address: SocketAddr,
}

impl Prometheus {
    /// Scrapes `gateways`. Its rules are those of `dashboards/`, with every `for` of a second.
    pub(crate) fn start(dir: &Path, gateways: &[&Gateway]) -> Self {
        for file in RULES {
            let text = fs::read_to_string(dashboards().join(file)).unwrap();
            let hasty = text.lines().map(|line| match line.trim_start().starts_with("for: ") {
                true => "        for: 1s\n".to_owned(),
                false => format!("{line}\n"),
            });
            fs::write(dir.join(file), hasty.collect::<String>()).unwrap();
        }
        let targets: Vec<_> = gateways.iter().map(|gateway| format!("'{}'", gateway.admin())).collect();
        let targets = targets.join(", ");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml, alerts.yml]\n\
             scrape_configs:\n  - job_name: gateway\n    static_configs: [{{targets: [{targets}]}}]\n"
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

    pub(crate) fn stop(mut self) {
        self.program.stop();
    }

    /// The body of an answer, as JSON; before it is ready it says so in words, which is null. By HTTP/1.0, which knows no chunks.
    fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in time");
        let body = answer.split_once("\r\n\r\n").expect("an HTTP answer").1;
        serde_json::from_str(body).unwrap_or_default()
    }

    fn query(&self, expression: &str) -> Option<f64> {
        let mut encoded = String::new();
        for byte in expression.bytes() {
            match byte.is_ascii_alphanumeric() {
                true => encoded.push(char::from(byte)),
                false => encoded.push_str(&format!("%{byte:02X}")),
            }
        }
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

/// What Prometheus knows of one gateway.
pub(crate) struct Watch<'a> {
    prometheus: &'a Prometheus,
    instance: String,
    /// The alerts that were waited for, and came.
    fired: RefCell<BTreeSet<String>>,
}

impl<'a> Watch<'a> {
    pub(crate) fn on(prometheus: &'a Prometheus, gateway: &Gateway) -> Self {
        Self { prometheus, instance: gateway.admin().to_string(), fired: RefCell::default() }
    }

    /// The names of the alerts that fire for this gateway.
    pub(crate) fn firing(&self) -> BTreeSet<String> {
        let answer = self.prometheus.get("/api/v1/alerts");
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let of_it = alerts
            .iter()
            .filter(|alert| alert["state"] == "firing" && alert["labels"]["instance"] == *self.instance);
        of_it.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until all of them fire.
    pub(crate) fn await_firing(&self, wanted: &[&str]) {
        let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let what = format!("{wanted:?} fire");
        wait::until_it(&what, FIRES, || self.firing(), |firing| firing.is_superset(&wanted));
        self.fired.borrow_mut().extend(wanted);
    }

    /// Whether the alert was waited for, and came.
    pub(crate) fn has_fired(&self, alert: &str) -> bool {
        self.fired.borrow().contains(alert)
    }

    /// Waits until it fires no more.
    pub(crate) fn await_end(&self, alert: &str) {
        wait::until_it(&format!("{alert} ends"), FIRES, || self.firing(), |firing| !firing.contains(alert));
    }

    /// The value of a metric of this gateway at the last scrape; of one, if there are several. `selector`: `name`, or
    /// `name{label="value"}`.
    pub(crate) fn value(&self, selector: &str) -> Option<f64> {
        let (name, labels) = selector.split_once('{').unwrap_or((selector, "}"));
        self.prometheus.query(&format!("{name}{{instance=\"{}\",{labels}", self.instance))
    }

    /// Waits until a scrape has seen the metric at `least` or more.
    pub(crate) fn await_value(&self, selector: &str, least: f64) {
        wait::until_it(selector, FIRES, || self.value(selector), |value| value.is_some_and(|is| is >= least));
    }
}

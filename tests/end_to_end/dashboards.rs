//! Boards and rules: what they name is there, and Prometheus's own tools accept them. That alerts fire is in [`crate::alerts`].
//!
//! `prometheus` and `promtool` (Debian: prometheus) have to be there; `tests/run` sees to that.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use gateway_tests::{Gateway, TIMEOUT, get, wait};
use serde_json::Value;

use crate::live_page::with_something_to_show;
use crate::prometheus::{RULES, dashboards};

const BOARDS: [&str; 5] = ["overview", "delivery", "storage", "overload", "fleet"];
/// Metrics that are counted for the first time when something happens that does not happen here.
const SELDOM: [&str; 2] = ["gateway_sink_written_total", "gateway_sink_write_seconds_bucket"];

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

    // What README.md says to write into prometheus.yml.
    let readme = fs::read_to_string(dashboards().join("../README.md")).unwrap();
    let block = readme.split_once("prometheus.yml <<'YAML'\n").unwrap().1.split_once("    YAML\n").unwrap().0;
    let dir = tempfile::tempdir().unwrap();
    let config: String =
        block.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap())).collect();
    fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    symlink(dashboards(), dir.path().join("dashboards")).unwrap();
    promtool(&["check", "config", dir.path().join("prometheus.yml").to_str().unwrap()]);

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

//! The alert rules name metrics that there are.

use std::time::Duration;

use gateway_protocol::{ProtocolVersion, QoS};
use gateway_tests::{Gateway, wait};

const RULES: &str = include_str!("../../dashboards/alerts.yml");

/// Metrics that are counted for the first time when something goes wrong, which nothing does here.
const AFTER_A_FAULT: [&str; 4] = [
    "gateway_dead_letters_total",
    "gateway_consumer_missed_total",
    "gateway_decisions_total",
    "gateway_decisions_file_missed_total",
];

#[test]
fn every_metric_of_an_alert_is_one_that_the_gateway_has() {
    let nowhere = "sink=[{name='nowhere', type='webhook', stream='telemetry', url='http://127.0.0.1:9/'}]";
    let consumer = "consumer=[{name='billing', stream='telemetry', from='earliest'}]";
    let gateway = Gateway::start_set(&[nowhere, consumer]);
    let mut device = gateway.connect(ProtocolVersion::V5, "meter");
    device.publish("devices/meter", "1", QoS::AtLeastOnce);
    let lag = r#"gateway_consumer_lag_events{consumer="billing"}"#;
    wait::until_it(
        "the lag shows",
        Duration::from_secs(10),
        || gateway.metrics().find(lag),
        |lag| *lag == Some(1.0),
    );
    let metrics = gateway.metrics();
    let mut named = 0;
    for expression in RULES.lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for metric in words.filter(|word| word.starts_with("gateway_")) {
            named += 1;
            let is_there = !metrics.with_prefix(metric).is_empty() || AFTER_A_FAULT.contains(&metric);
            assert!(is_there, "{metric} is not among what /metrics says");
        }
    }
    assert!(named >= 5);
}

//! What the simulator says of itself, in the text form of Prometheus.
//!
//! Labels come from the scenario (names of subscribers, at most [`crate::scenario::SUBSCRIBERS_MAX`]) and from closed sets; no
//! device has any.

use std::fmt::{Display, Write};

use crate::qos::QoS;
use crate::shared::{Count, LatencySummary, Shared, SubscriberState};

/// One quantile of a summary.
type Quantile = fn(&LatencySummary) -> u64;

/// The quantiles of summaries.
const QUANTILES: [(&str, Quantile); 4] = [
    ("0.5", |sums| sums.p50),
    ("0.9", |sums| sums.p90),
    ("0.99", |sums| sums.p99),
    ("0.999", |sums| sums.p999),
];

/// Everything.
pub(super) fn render(shared: &Shared) -> String {
    let mut page = Page { out: String::with_capacity(8_192) };
    fleet(&mut page, shared);
    received(&mut page, shared);
    latencies(&mut page, shared);
    page.out
}

struct Page {
    out: String,
}

impl Page {
    // Writing to a String cannot fail.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.out, "# HELP device_sim_{name} {help}\n# TYPE device_sim_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.out, "device_sim_{name}");
        for (place, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.out, "{}{label}=\"{value}\"", if place == 0 { "{" } else { "," });
        }
        let _ = writeln!(self.out, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn summary(&mut self, name: &str, labels: &[(&str, &str)], sums: &LatencySummary) {
        for (quantile, of) in QUANTILES {
            let labels = [labels, &[("quantile", quantile)]].concat();
            self.sample(name, &labels, of(sums) as f64 / 1e6);
        }
        self.sample(&format!("{name}_sum"), labels, sums.mean * sums.count as f64 / 1e6);
        self.sample(&format!("{name}_count"), labels, sums.count);
    }
}

fn fleet(page: &mut Page, shared: &Shared) {
    let stats = &shared.stats;
    page.one(
        "devices",
        "gauge",
        "Devices that are to be connected",
        shared.timeline.devices_at(shared.clock.now_us()),
    );
    page.one("devices_connected", "gauge", "Devices connected now", stats.connected.get());
    page.family("phase", "gauge", "1 for the phase the run is in");
    page.sample("phase", &[("phase", shared.phase().name())], 1);
    page.family("events_due_total", "counter", "Events that have become due");
    for qos in QoS::ALL {
        page.sample("events_due_total", &[("qos", qos_label(qos))], stats.due[qos].get());
    }
    page.family("events_sent_total", "counter", "Events written to a connection for the first time");
    for qos in QoS::ALL {
        page.sample("events_sent_total", &[("qos", qos_label(qos))], stats.sent[qos].get());
    }
    for (name, help, value) in [
        ("events_acknowledged_total", "PUBACKs with success", &stats.acknowledged),
        ("events_rejected_total", "PUBACKs with a Reason Code of 0x80 or more", &stats.rejected),
        ("events_retransmitted_total", "Events written to a connection again", &stats.retransmitted),
        ("events_overflowed_total", "Events dropped because a device's queue was full", &stats.overflowed),
        ("disconnects_total", "Connections of devices that broke", &stats.disconnects),
    ] {
        page.one(name, "counter", help, value.get());
    }
}

/// What arrived. Counters rather than the ledger's sums: a scrape costs nothing, however large the fleet.
fn received(page: &mut Page, shared: &Shared) {
    page.family("delivered_total", "counter", "Events that arrived");
    for one in &shared.subscribers {
        for qos in QoS::ALL {
            let labels = [("subscriber", one.spec.name.as_str()), ("qos", qos_label(qos))];
            page.sample("delivered_total", &labels, one.delivered[qos].get());
        }
    }
    for (name, help, of) in FAMILIES {
        page.family(name, "counter", help);
        for one in &shared.subscribers {
            page.sample(name, &[("subscriber", &one.spec.name)], of(one).get());
        }
    }
}

/// A family of subscribers: its name and meaning, and which counter it is.
type Family = (&'static str, &'static str, fn(&SubscriberState) -> &Count);

const FAMILIES: [Family; 5] = [
    ("duplicated_total", "Deliveries beyond an event's first", |one| &one.duplicated),
    ("corrupt_total", "Deliveries that were damaged, on a wrong topic, or never published", |one| {
        &one.corrupt
    }),
    ("foreign_total", "Deliveries that are not of this run", |one| &one.foreign),
    ("subscriber_disconnects_total", "Connections of subscribers that broke", |one| &one.disconnects),
    ("sessions_lost_total", "Times a durable session was gone", |one| &one.sessions_lost),
];

fn latencies(page: &mut Page, shared: &Shared) {
    for (name, help, sums) in [
        ("sent_to_puback_seconds", "From first writing to PUBACK", shared.sent_to_puback.total()),
        ("due_to_puback_seconds", "From due to PUBACK", shared.due_to_puback.total()),
        ("lag_seconds", "From due to handed over, by the simulator's own doing", shared.lag.total()),
    ] {
        page.family(name, "summary", help);
        page.summary(name, &[], &sums);
    }
    page.family("due_to_delivered_seconds", "summary", "From due to delivered");
    for one in &shared.subscribers {
        let labels = [("subscriber", one.spec.name.as_str())];
        page.summary("due_to_delivered_seconds", &labels, &one.latencies.total());
    }
}

fn qos_label(qos: QoS) -> &'static str {
    match qos {
        QoS::AtMostOnce => "0",
        QoS::AtLeastOnce => "1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::scenario::Scenario;

    #[test]
    fn every_sample_has_a_family_with_a_type_and_reads_back() {
        let scenario = Scenario::parse(include_str!("../../scenarios/first.toml")).unwrap();
        let plan = Plan { scenario, host: "broker".to_owned(), port: 1_883, seed: 1, epoch: 2 };
        let shared = Shared::of(&plan);
        shared.stats.sent.qos1.add(7);
        shared.due_to_puback.record(2_000_000, true);
        shared.subscribers[1].delivered.qos1.add(1);
        let text = render(&shared);
        for line in [
            "device_sim_events_sent_total{qos=\"1\"} 7",
            "device_sim_phase{phase=\"connecting\"} 1",
            "device_sim_delivered_total{subscriber=\"archive\",qos=\"1\"} 1",
            "device_sim_due_to_puback_seconds_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let mut families: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                families.push(rest.split(' ').next().unwrap());
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let name = name.split('{').next().unwrap();
                let family = name.trim_end_matches("_sum").trim_end_matches("_count");
                assert!(families.contains(&family), "{line}");
                value.parse::<f64>().unwrap();
            }
        }
        let unique: std::collections::BTreeSet<&&str> = families.iter().collect();
        assert_eq!(unique.len(), families.len(), "a family begins once");
    }
}

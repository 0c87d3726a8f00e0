//! The keys of a scenario file.

use std::collections::HashSet;
use std::time::Duration;

use toml::Table;

use super::section::{Faults, Section};
use super::{Protocol, RunSpec, SUBSCRIBERS_MAX, Scenario, ScenarioFaults, SubscriberSpec, fleet};
use crate::qos::QoS;

const PROTOCOLS: [(&str, Protocol); 2] = [("3.1.1", Protocol::V3_1_1), ("5", Protocol::V5)];

pub(super) fn scenario(text: &str) -> Result<Scenario, ScenarioFaults> {
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return Err(ScenarioFaults(vec![format!("this is not TOML: {error}")])),
    };
    let faults = Faults::default();
    let top = Section::new(String::new(), Some(&table), &faults);
    let fleet = fleet::read(&top, &faults);
    let subscribers = subscribers(&top);
    let run_section = top.section("run");
    let run = run(&run_section);
    run_section.finish();
    top.finish();
    match (faults.into_vec(), fleet) {
        (faults, Some(fleet)) if faults.is_empty() => Ok(Scenario { fleet, subscribers, run }),
        (faults, _) => Err(ScenarioFaults(faults)),
    }
}

fn subscribers(top: &Section<'_>) -> Vec<SubscriberSpec> {
    let sections = top.sections("subscriber");
    if sections.is_empty() {
        top.fault("subscriber", "at least one [[subscriber]] is needed, or nothing could be checked");
    }
    if sections.len() > SUBSCRIBERS_MAX {
        top.fault("subscriber", &format!("at most {SUBSCRIBERS_MAX} are possible"));
    }
    let mut names = HashSet::new();
    let mut subscribers = Vec::with_capacity(sections.len());
    for section in sections {
        let subscriber = subscriber(&section);
        if !names.insert(subscriber.name.clone()) {
            section.fault("name", &format!("there is already a subscriber `{}`", subscriber.name));
        }
        section.finish();
        subscribers.push(subscriber);
    }
    subscribers
}

fn subscriber(section: &Section<'_>) -> SubscriberSpec {
    let name = section.required("name", String::new());
    if name.is_empty() || name.len() > 64 {
        section.fault("name", "must be 1 to 64 bytes");
    }
    let filter = section.required("filter", "#".to_owned());
    if filter.starts_with('$') {
        section.fault(
            "filter",
            "must not start with $: the ledger expects every matching event at every subscriber",
        );
    } else if !rumqttc::valid_filter(&filter) {
        section.fault("filter", &format!("`{filter}` is not a Topic Filter"));
    }
    let qos = match section.count("qos", 1, 0, 1) {
        0 => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    };
    SubscriberSpec {
        name,
        filter,
        qos,
        durable: section.or("durable", false),
        protocol: section.choice("protocol", &PROTOCOLS, Protocol::V5),
    }
}

fn run(section: &Section<'_>) -> RunSpec {
    let duration = section.required("duration", Duration::from_secs(1));
    let warm_up = section.or("warm_up", Duration::ZERO);
    if warm_up >= duration {
        section.fault("warm_up", "must be shorter than run.duration");
    }
    RunSpec {
        duration: Some(duration),
        warm_up,
        drain_timeout: section.or("drain_timeout", Duration::from_secs(10)),
        connect_timeout: section.or("connect_timeout", Duration::from_secs(10)),
        redelivery_window: section.or("redelivery_window", Duration::from_secs(1)),
        seed: section.optional("seed"),
    }
}

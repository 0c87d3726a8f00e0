//! The keys of a scenario file.

use std::time::Duration;

use super::fault::ScenarioFaults;
use super::phase::Around;
use super::section::{Faults, Section};
use super::source::Source;
use super::topic::TopicTemplate;
use super::{
    Clients, Fleet, RunSpec, Scenario, ScenarioText, broker, clients, expect, model, phase, subscriber,
};
use crate::model::{ModelSpec, builtin};
use crate::schedule::Arrivals;

pub(super) fn scenario(text: &str) -> Result<Scenario, ScenarioFaults> {
    let Source { table, places } = Source::parse(text).map_err(ScenarioFaults)?;
    let faults = Faults::new(places);
    let top = Section::new(String::new(), Some(&table), &faults);
    let models = model::models(&top);
    let fleet_section = top.section("fleet");
    let fleet = fleet(&fleet_section, &models);
    let subscribers = subscriber::subscribers(&top);
    let (devices, rate) = fleet.as_ref().map_or((1, 1.0), |fleet| (fleet.devices, fleet.rate));
    let (phases, phases_last) = phase::phases(&top, &Around { devices, rate, subscribers: &subscribers });
    let broker = broker::broker(&top, &phases);
    let run_section = top.section("run");
    let run = run(&run_section, (!phases.is_empty()).then_some(phases_last));
    run_section.finish();
    let expect_section = top.section("expect");
    let expect = expect::expect(&expect_section);
    expect_section.finish();
    if let Some(Fleet { clients: Clients::Lean(_), .. }) = &fleet {
        clients::lean_suffices(&fleet_section, &subscribers, &phases, &expect);
    }
    fleet_section.finish();
    let about = top.or("about", String::new());
    top.finish();
    match (faults.into_vec(), fleet) {
        (faults, Some(fleet)) if faults.is_empty() => {
            let text = ScenarioText(text.into());
            Ok(Scenario { about, fleet, subscribers, phases, broker, run, expect, text })
        }
        (faults, _) => Err(ScenarioFaults(faults)),
    }
}

fn fleet(section: &Section<'_>, models: &[ModelSpec]) -> Option<Fleet> {
    let arrivals = match section.choice("arrivals", &[("periodic", true), ("poisson", false)], true) {
        true => Arrivals::Periodic { jitter: section.number("jitter", 0.2, 0.0, 0.5) },
        false => Arrivals::Poisson,
    };
    section.required::<u64>("devices", 1);
    section.required::<f64>("rate", 1.0);
    let topic = section.or("topic", "devices/{site}/{device}/telemetry".to_owned());
    let topic = TopicTemplate::parse(&topic).map_err(|what| section.fault("topic", &what)).ok();
    let model = section.or("model", "cold-room".to_owned());
    let found = models.iter().find(|known| known.name == model).cloned().or_else(|| builtin::by_name(&model));
    if found.is_none() {
        let mut known: Vec<&str> = builtin::NAMES.to_vec();
        known.extend(models.iter().map(|model| model.name.as_str()));
        section.fault("model", &format!("there is no model `{model}`; there are {}", known.join(", ")));
    }
    let client_id_prefix = section.or("client_id_prefix", "dev-".to_owned());
    if client_id_prefix.is_empty()
        || client_id_prefix.len() > 64
        || client_id_prefix.contains(['/', '+', '#', '\0'])
    {
        section.fault(
            "client_id_prefix",
            "must be 1 to 64 bytes without / + or #, since it becomes part of topics",
        );
    }
    let (devices, clients) = clients::clients(section);
    Some(Fleet {
        devices,
        clients,
        sites: section.count("sites", 10, 1, 10_000) as u32,
        rate: section.number("rate", 1.0, 0.001, 10_000_000.0),
        arrivals,
        qos1_share: share(section, "qos", ["0", "1"], 0.8),
        v5_share: share(section, "protocol", ["3.1.1", "5"], 0.5),
        durable: section.choice("session", &[("durable", true), ("clean", false)], true),
        client_id_prefix,
        topic: topic?,
        model: found?,
        time_scale: section.number("time_scale", 1.0, 0.001, 100_000.0),
        inflight_max: section.count("inflight_max", 32, 1, 1_000) as u16,
        queue_max: section.count("queue_max", 128, 1, 100_000) as usize,
        connect_rate: section.number("connect_rate", 1_000.0, 1.0, 100_000.0),
    })
}

/// The second one's share of a mix: a table of weights such as `{ "0" = 1, "1" = 4 }`, or one of the two alone.
fn share(section: &Section<'_>, key: &'static str, names: [&'static str; 2], default: f64) -> f64 {
    let [first, second] = names;
    let Some(value) = section.raw(key) else { return default };
    if value.as_table().is_some() {
        let mix = section.section(key);
        let weights = [mix.number(first, 0.0, 0.0, 1e9), mix.number(second, 0.0, 0.0, 1e9)];
        mix.finish();
        let sum: f64 = weights.iter().sum();
        if sum > 0.0 {
            return weights.last().copied().unwrap_or(0.0) / sum;
        }
        section.fault(key, "at least one weight must be above 0");
        return default;
    }
    let word =
        value.as_str().map(str::to_owned).or_else(|| value.as_integer().map(|number| number.to_string()));
    match word.as_deref() {
        Some(word) if word == first => 0.0,
        Some(word) if word == second => 1.0,
        _ => {
            section.fault(key, &format!("must be `{first}`, `{second}`, or a table with a weight for each"));
            default
        }
    }
}

fn run(section: &Section<'_>, phases: Option<Duration>) -> RunSpec {
    let duration = match phases {
        None => section.required("duration", Duration::from_secs(1)),
        Some(phases) => {
            if section.optional::<Duration>("duration").is_some_and(|written| written != phases) {
                section.fault("duration", &format!("the phases last {phases:?} together; leave it out"));
            }
            phases
        }
    };
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

//! The keys of a scenario file.

use std::time::Duration;

use super::fault::ScenarioFaults;
use super::phase::Around;
use super::section::{Faults, Section};
use super::source::Source;
use super::{
    Clients, Fleet, RunSpec, Scenario, ScenarioText, Variant, broker, clients, edge, expect, fleet, phase,
    rated, subscriber,
};
use crate::class::ByClass;

pub(super) fn scenario(text: &str) -> Result<Scenario, ScenarioFaults> {
    let Source { table, places } = Source::parse(text).map_err(ScenarioFaults)?;
    let faults = Faults::new(places);
    let top = Section::new(String::new(), Some(&table), &faults);
    let fleet = fleet::read(&top, &faults);
    let edge = edge::edge(&top, fleet.as_ref());
    let subscribers = subscriber::subscribers(&top);
    let (devices, rate) = fleet.as_ref().map_or((1, 1.0), |fleet| (fleet.devices, fleet.rate));
    let (phases, phases_last) =
        phase::phases(&top, &Around { devices, rate, subscribers: &subscribers, has_edge: edge.is_some() });
    let broker = broker::broker(&top, &phases);
    let rated = rated::rated(&top);
    let run_section = top.section("run");
    let run = run(&run_section, (!phases.is_empty()).then_some(phases_last));
    run_section.finish();
    let expect_section = top.section("expect");
    // Where the fleet cannot be read, no class is known to be missing.
    let classes = fleet.as_ref().map_or(ByClass::each(|| 1), |fleet| fleet.classes().sizes());
    let cohorts = fleet.as_ref().map_or(&[][..], |fleet| &fleet.cohorts);
    let expect = expect::expect(&expect_section, &subscribers, &phases, &classes, cohorts, edge.is_some());
    expect_section.finish();
    if let Some(fleet @ Fleet { clients: Clients::Lean(_), .. }) = &fleet {
        clients::lean_suffices(&top.section("fleet"), fleet);
    }
    if rated.is_some() && fleet.as_ref().is_some_and(|fleet| fleet.clients == Clients::Honest) {
        top.section("fleet").fault("client", "must be \"lean\": [rated] asks the broker for all it can take");
    }
    let about = top.or("about", String::new());
    top.finish();
    match (faults.into_vec(), fleet) {
        (faults, Some(fleet)) if faults.is_empty() => {
            let text = ScenarioText(text.into());
            let variant = Variant::default();
            Ok(Scenario {
                about,
                fleet,
                edge,
                subscribers,
                phases,
                broker,
                run,
                expect,
                rated,
                variant,
                text,
            })
        }
        (faults, _) => Err(ScenarioFaults(faults)),
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

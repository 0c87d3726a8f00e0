//! `[[expect.phase]]`: what one phase must come to, measured by another one of the same run. The keys; [`crate::gates`] judges them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::phase::Disturbance;
use super::section::Section;
use super::{Cohort, PhaseSpec, Scenario};

/// The most of them.
pub const PHASE_GATES_MAX: usize = 16;

/// What one phase must come to.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseGate {
    /// Which one: its place among the phases.
    pub phase: usize,
    /// The one that it is measured by.
    pub of: usize,
    /// Of that one's first deliveries per second, at least.
    pub goodput: Option<f64>,
    /// How long acknowledgements may take.
    pub puback: Option<PubackGate>,
    /// The gateway is at L0 again so soon after the phase.
    pub calm_after: Option<Duration>,
    /// The hogs of the phase are on record for what they bring so soon after the gateway has begun to read everybody in turns (L1).
    pub hogs_named: Option<Duration>,
}

/// How long acknowledgements of a cohort may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PubackGate {
    /// Its place.
    pub cohort: usize,
    /// The p99 from due to PUBACK, at most so many times that of the other phase.
    pub times: f64,
    /// What is less than that is good enough in any case.
    pub floor: Duration,
}

/// Events whose acknowledgements are timed on their own: those of one cohort that are due in one phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The cohort's place.
    pub cohort: usize,
    /// The phase's.
    pub phase: usize,
    devices: Range<u32>,
    due_us: Range<u64>,
}

pub(super) fn phase_gates(
    expect: &Section<'_>,
    phases: &[PhaseSpec],
    cohorts: &[Arc<Cohort>],
) -> Vec<PhaseGate> {
    let sections = expect.sections("phase");
    if sections.len() > PHASE_GATES_MAX {
        expect.fault("phase", &format!("at most {PHASE_GATES_MAX} are possible"));
    }
    let gates = sections.iter().take(PHASE_GATES_MAX).map(|section| phase_gate(section, phases, cohorts));
    let gates = gates.collect();
    sections.into_iter().for_each(Section::finish);
    gates
}

fn phase_gate(section: &Section<'_>, phases: &[PhaseSpec], cohorts: &[Arc<Cohort>]) -> PhaseGate {
    let phase = place(section, "phase", phases.iter().map(|phase| phase.name.as_str()));
    let goodput = section.has("goodput").then(|| section.number("goodput", 0.0, 0.0, 1.0));
    let puback = section.has("puback_p99").then(|| PubackGate {
        times: section.number("puback_p99", 1.0, 0.1, 1_000.0),
        cohort: place(section, "cohort", cohorts.iter().map(|cohort| cohort.name.as_str())),
        floor: section.or("floor", Duration::ZERO),
    });
    let of = match goodput.is_some() || puback.is_some() {
        true => place(section, "of", phases.iter().map(|phase| phase.name.as_str())),
        false => phase,
    };
    let hogs_named: Option<Duration> = section.optional("hogs_named");
    let has_hogs =
        phases.get(phase).is_some_and(|phase| matches!(phase.disturbance, Some(Disturbance::Hog { .. })));
    if hogs_named.is_some() && !has_hogs {
        section.fault("hogs_named", "the phase has no hogs");
    }
    PhaseGate { phase, of, goodput, puback, calm_after: section.optional("calm_after"), hogs_named }
}

/// The place of what a key names.
fn place<'a>(section: &Section<'_>, key: &'static str, names: impl Iterator<Item = &'a str>) -> usize {
    let wanted = section.required(key, String::new());
    let names: Vec<&str> = names.collect();
    names.iter().position(|name| **name == *wanted).unwrap_or_else(|| {
        if !wanted.is_empty() {
            section.fault(key, &format!("there is no `{wanted}`; there are {}", names.join(", ")));
        }
        0
    })
}

impl Scenario {
    /// What is timed on its own because a gate asks for it.
    pub fn watched(&self) -> Vec<Watched> {
        let mut watched = Vec::new();
        for gate in &self.expect.phases {
            let Some(puback) = gate.puback else { continue };
            for phase in [gate.phase, gate.of] {
                let one = self.fleet.cohorts.get(puback.cohort).zip(self.phases.get(phase));
                let one = one.map(|(cohort, spec)| Watched {
                    cohort: puback.cohort,
                    phase,
                    devices: cohort.first..cohort.end(),
                    due_us: micros(spec.start)..micros(spec.end()),
                });
                watched.extend(one.filter(|one| !watched.contains(one)));
            }
        }
        watched
    }
}

impl Watched {
    /// Whether an event is one of them.
    pub fn is_of(&self, device: u32, due_us: u64) -> bool {
        self.due_us.contains(&due_us) && self.devices.contains(&device)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let faults = Scenario::parse(text).expect_err("it cannot be run");
        let mut texts: Vec<String> = faults.0.into_iter().map(|fault| fault.text).collect();
        texts.sort();
        texts
    }

    const SCENARIO: &str = r#"
        [fleet]
        client = "lean"
        devices = 10
        rate = 1
        [rated]
        [[subscriber]]
        name = "archive"
        filter = "devices/#"
        [[phase]]
        name = "calm"
        kind = "steady"
        duration = "10s"
        [[phase]]
        name = "storm"
        kind = "hog"
        duration = "20s"
        rate = 3
        [run]
        [[expect.phase]]
        phase = "storm"
        of = "calm"
        cohort = "fleet"
        puback_p99 = 2
    "#;

    #[test]
    fn both_phases_of_a_gate_are_watched_in_their_time_however_short_that_is_made() {
        let scenario = Scenario::parse(SCENARIO).unwrap_or_else(|faults| panic!("{faults}"));
        let variant = crate::scenario::Variant { rate: 100.0, hasten: 10.0, asks: false };
        let scenario = scenario.varied(variant);
        let [storm, calm] = &scenario.watched()[..] else { panic!("{:?}", scenario.watched()) };
        assert!(calm.is_of(9, 999_999) && !calm.is_of(9, 1_000_000) && !calm.is_of(10, 0));
        assert!(storm.is_of(0, 1_000_000) && storm.is_of(0, 2_999_999) && !storm.is_of(0, 3_000_000));
        assert_eq!((scenario.fleet.rate, scenario.run.duration), (100.0, Some(Duration::from_secs(3))));
        let hog = scenario.phases.last().and_then(|phase| phase.disturbance);
        assert_eq!(hog, Some(Disturbance::Hog { devices: 1, rate: 300.0 }));
    }

    #[test]
    fn what_is_to_be_calm_again_has_the_time_for_it_however_short_the_rest_is() {
        let calm = SCENARIO.replace("puback_p99 = 2", "puback_p99 = 2\ncalm_after = \"5s\"");
        let after =
            format!("{calm}\n[[phase]]\nname = \"after\"\nkind = \"steady\"\nduration = \"7s\"\nrate = 1\n");
        let scenario = Scenario::parse(&after).unwrap_or_else(|faults| panic!("{faults}"));
        let variant = crate::scenario::Variant { rate: 1.0, hasten: 10.0, asks: false };
        let lengths: Vec<_> = scenario.varied(variant).phases.iter().map(|phase| phase.duration).collect();
        let secs = [1, 2, 7].map(Duration::from_secs);
        assert_eq!(lengths, secs);
    }

    #[test]
    fn what_a_gate_names_is_there() {
        let wrong = SCENARIO
            .replace("of = \"calm\"", "of = \"quiet\"")
            .replace("cohort = \"fleet\"", "hogs_named = \"1s\"")
            .replace("kind = \"hog\"", "kind = \"steady\"")
            .replace("client = \"lean\"", "");
        assert_eq!(
            faults(&wrong),
            [
                "expect.phase[1].cohort: is missing",
                "expect.phase[1].hogs_named: the phase has no hogs",
                "expect.phase[1].of: there is no `quiet`; there are calm, storm",
                "fleet.client: must be \"lean\": [rated] asks the broker for all it can take",
            ]
        );
    }
}

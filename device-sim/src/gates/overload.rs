//! Gates on what a gateway does when there is too much: what it gives up, what it still gets done, how soon it is over.
//!
//! They compare phases of one run with each other, so that they hold or not on any machine. What the gateway was not asked, or did not
//! answer, does not hold.

use std::time::Duration;

use super::{Facts, at_most, gate};
use crate::report::text::{grouped, micros};
use crate::report::{GateResult, Report};
use crate::scenario::phase_gate::{PhaseGate, PubackGate, Watched};
use crate::scenario::{PhaseSpec, Scenario};
use crate::shared::LatencySummary;
use crate::shared::series::Sample;

/// Seconds at L0 after which it is calm again: a level falls more slowly than that where the pressure only seems to be gone.
const CALM_S: f64 = 5.0;

const UNASKED: &str = "the gateway was not asked";

/// What one cohort's acknowledgements took in one phase.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchedLatency {
    /// Whose, and when.
    pub of: Watched,
    /// From due to PUBACK.
    pub summary: LatencySummary,
}

/// One that brought far more than the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HogFact {
    /// Its phase's place.
    pub phase: usize,
    /// Its Client Identifier.
    pub client: String,
    /// From when the gateway began to read everybody in turns (L1), or the phase, until the hog was on record for what it brought; none: one of
    /// both never happened.
    pub named_after: Option<Duration>,
}

/// Judges what the gateway counted, and every phase that something is expected of.
pub(super) fn judge(scenario: &Scenario, report: &Report, facts: &Facts) -> Vec<GateResult> {
    let expect = &scenario.expect;
    let mut gates = Vec::new();
    if let Some(most) = expect.given_up {
        gates.push(match &facts.tally {
            Some(tally) => {
                let families = ["events_rejected", "events_shed", "deliveries_dropped", "deliveries_expired"];
                let count = families.map(|family| tally.growth(&format!("gateway_{family}_total")));
                at_most("given up", most, count.iter().sum())
            }
            None => gate("given up", format!("at most {}", grouped(most)), UNASKED.to_owned(), false),
        });
    }
    if expect.books {
        let off = facts.tally.as_ref().map(|tally| {
            let off = tally.books().map(|line| line.difference()).into_iter().filter(|off| *off != 0);
            off.map(|off| format!("{off:+}")).collect::<Vec<_>>().join(" and ")
        });
        let got = match &off {
            Some(off) if off.is_empty() => "they do".to_owned(),
            Some(off) => format!("off by {off}"),
            None => UNASKED.to_owned(),
        };
        gates.push(gate("books", "to balance".to_owned(), got, off.is_some_and(|off| off.is_empty())));
    }
    let samples = &report.series.samples;
    if let Some(part) = expect.memory {
        let limit = facts.tally.as_ref().and_then(|tally| tally.value("gateway_memory_limit_bytes"));
        let most = samples.iter().filter_map(|sample| sample.gateway.as_ref()?.resident_bytes).max();
        let found = most.zip(limit);
        let mib = |bytes: f64| grouped((bytes / f64::from(1 << 20)).round() as u64);
        let got = found.map(|(most, limit)| format!("{} MiB of {}", mib(most as f64), mib(limit)));
        let held = found.is_some_and(|(most, limit)| most as f64 <= part * limit);
        let wanted = format!("at most {:.0} % of its limit", part * 100.0);
        gates.push(gate("memory", wanted, got.unwrap_or_else(|| UNASKED.to_owned()), held));
    }
    if let Some(most) = expect.level {
        let highest = samples.iter().filter_map(|sample| sample.gateway.as_ref()?.level).max();
        let got = highest.map_or_else(|| UNASKED.to_owned(), |level| format!("L{level}"));
        let held = highest.is_some_and(|level| u64::from(level) <= most);
        gates.push(gate("level", format!("at most L{most}"), got, held));
    }
    for expected in &expect.phases {
        of_phase(scenario, expected, samples, facts, &mut gates);
    }
    gates
}

fn of_phase(
    scenario: &Scenario,
    expected: &PhaseGate,
    samples: &[Sample],
    facts: &Facts,
    gates: &mut Vec<GateResult>,
) {
    let Some((phase, of)) = scenario.phases.get(expected.phase).zip(scenario.phases.get(expected.of)) else {
        return;
    };
    if let Some(part) = expected.goodput {
        let (got, full) = (goodput(samples, phase), goodput(samples, of));
        let wanted = format!("at least {:.0} % of {}", part * 100.0, of.name);
        let share = got.zip(full.filter(|full| *full > 0.0)).map(|(got, full)| got / full);
        let words = got.zip(full).zip(share).map(|((got, full), share)| {
            format!("{:.1} %, {}/s of {}/s", share * 100.0, grouped(got as u64), grouped(full as u64))
        });
        let got = words.unwrap_or_else(|| "nothing was delivered".to_owned());
        gates.push(gate(&format!("goodput, {}", phase.name), wanted, got, share >= Some(part)));
    }
    if let Some(puback) = expected.puback {
        gates.push(acknowledgements(scenario, expected, puback, facts));
    }
    if let Some(most) = expected.calm_after {
        let (got, took) = calm(samples, phase);
        let wanted = format!("within {}", duration(most));
        gates.push(gate(
            &format!("back at L0 after {}", phase.name),
            wanted,
            got,
            took.is_some_and(|took| took <= most),
        ));
    }
    if let Some(most) = expected.hogs_named {
        let hogs: Vec<&HogFact> = facts.hogs.iter().filter(|hog| hog.phase == expected.phase).collect();
        let held =
            !hogs.is_empty() && hogs.iter().all(|hog| hog.named_after.is_some_and(|after| after <= most));
        let words = |hog: &&HogFact| match hog.named_after {
            Some(after) => format!("{} after {}", hog.client, duration(after)),
            None => format!("{} never", hog.client),
        };
        let got = match hogs.is_empty() {
            true => UNASKED.to_owned(),
            false => hogs.iter().map(words).collect::<Vec<_>>().join(", "),
        };
        let wanted = format!("each within {} of L1", duration(most));
        gates.push(gate(&format!("hogs named, {}", phase.name), wanted, got, held));
    }
}

fn acknowledgements(
    scenario: &Scenario,
    expected: &PhaseGate,
    puback: PubackGate,
    facts: &Facts,
) -> GateResult {
    let find = |phase: usize| {
        let mut watched = facts.watched.iter();
        let found = watched.find(|one| one.of.cohort == puback.cohort && one.of.phase == phase);
        found.map(|one| one.summary).filter(|summary| summary.count > 0)
    };
    let name = |place: usize| scenario.phases.get(place).map_or("", |phase| &phase.name);
    let cohort = scenario.fleet.cohorts.get(puback.cohort).map_or("", |cohort| &cohort.name);
    let (got, of) = (find(expected.phase), find(expected.of));
    let most = of.map(|of| ((of.p99 as f64 * puback.times) as u64).max(puback.floor.as_micros() as u64));
    let wanted = match most {
        Some(most) => format!("at most {}, {} times {}", micros(most), puback.times, name(expected.of)),
        None => format!("{} times {}", puback.times, name(expected.of)),
    };
    let words = got.map_or("nothing was acknowledged".to_owned(), |got| micros(got.p99));
    let held = got.zip(most).is_some_and(|(got, most)| got.p99 <= most);
    gate(&format!("{cohort}'s PUBACK p99, {}", name(expected.phase)), wanted, words, held)
}

/// First deliveries per second; the sample in which the phase begins is half the other's.
fn goodput(samples: &[Sample], phase: &PhaseSpec) -> Option<f64> {
    let own = samples.iter().filter(|sample| sample.phase == phase.name).skip(1);
    let (events, seconds) = own.fold((0.0, 0.0), |(events, seconds), sample| {
        (events + sample.delivered_per_s * sample.span_s, seconds + sample.span_s)
    });
    (seconds > 0.0).then(|| events / seconds)
}

/// How long after a phase the level was 0 and stayed so: in words, and as a number if it did.
fn calm(samples: &[Sample], phase: &PhaseSpec) -> (String, Option<Duration>) {
    let end_s = phase.end().as_secs_f64();
    let levels = samples.iter().filter_map(|sample| Some((sample.t_s, sample.gateway.as_ref()?.level?)));
    let after: Vec<(f64, u8)> = levels.filter(|(at_s, _)| *at_s >= end_s).collect();
    match (after.last(), calm_from(&after)) {
        (_, Some(at_s)) => {
            let took = Duration::from_secs_f64((at_s - end_s).max(0.0));
            (duration(took), Some(took))
        }
        (Some((_, level)), None) => (format!("L{level} at the end"), None),
        (None, None) => (UNASKED.to_owned(), None),
    }
}

/// The first moment from which on the level was 0 for [`CALM_S`], or until the end. One that comes later has causes of its own.
fn calm_from(levels: &[(f64, u8)]) -> Option<f64> {
    let is_calm = |place: usize, from_s: f64| {
        levels
            .iter()
            .skip(place)
            .take_while(|(at_s, _)| *at_s <= from_s + CALM_S)
            .all(|(_, level)| *level == 0)
    };
    (0..).zip(levels).find(|(place, (from_s, _))| is_calm(*place, *from_s)).map(|(_, (from_s, _))| *from_s)
}

fn duration(duration: Duration) -> String {
    micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "overload_tests.rs"]
mod tests;

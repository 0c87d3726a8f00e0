//! The gateway and its peers in turn, A B A B, and their medians side by side.
//!
//! Machines are shared and change within the hour, so a figure means something only beside another one of the same run: each round
//! measures every broker once, one after the other, and the report gives ratios.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use serde::Serialize;

use super::broker::{Kind, Peer};
use super::figures::{Figures, Percentiles, middle};
use super::scenario::{Scenario, Sizes};
use super::side::Side;
use super::table::{HEADINGS, aligned, line};
use crate::command::CommandError;

/// What a comparison brought.
#[derive(Serialize)]
pub(super) struct Comparison {
    /// The names of the gateway and the peers that are installed, with their versions.
    pub(super) brokers: Vec<(String, String)>,
    /// Peers that are not.
    pub(super) missing: Vec<Kind>,
    /// The medians of each broker, in their order; absent for what one could not do.
    pub(super) scenarios: Vec<(Scenario, Vec<Option<Figures>>)>,
}

/// The gateway and those of its peers that are installed; and which are not.
pub(super) fn peers(gateway: &Peer, wanted: &[Kind]) -> (Vec<Side>, Vec<Kind>) {
    let (mut sides, mut missing) = (vec![Side::Started(gateway.clone())], Vec::new());
    for kind in wanted {
        match Peer::find(*kind) {
            Some(peer) => sides.push(Side::Started(peer)),
            None => missing.push(*kind),
        }
    }
    (sides, missing)
}

/// Runs everything.
pub(super) fn run(
    (sides, missing): (Vec<Side>, Vec<Kind>),
    scenarios: &[Scenario],
    sizes: &Sizes,
    count: u32,
) -> Result<Comparison, CommandError> {
    let brokers = sides.iter().map(|side| (side.name().to_owned(), side.version())).collect();
    let mut found = Vec::new();
    for scenario in scenarios {
        let rounds = rounds(*scenario, &sides, sizes, count)?;
        let medians = (0..sides.len()).map(|number| rounds.get(&number).map(|all| median(all)));
        found.push((*scenario, medians.collect()));
    }
    Ok(Comparison { brokers, missing, scenarios: found })
}

impl Comparison {
    /// Names and versions.
    pub(super) fn versions(&self) -> String {
        let said: Vec<String> =
            self.brokers.iter().map(|(name, version)| format!("{name} {version}")).collect();
        said.join(", ")
    }

    /// For people at a terminal.
    pub(super) fn text(&self) -> String {
        let missing =
            self.missing.iter().map(|kind| format!("{} is not installed and is left out.\n\n", kind.name()));
        let tables = self.scenarios.iter().map(|(scenario, medians)| {
            format!("{}\n{}\n", scenario.name(), aligned(&self.side_by_side(medians)))
        });
        missing.chain([self.versions() + "\n\n"]).chain(tables).collect()
    }

    /// One scenario as a table, a line for each broker.
    pub(super) fn side_by_side(&self, medians: &[Option<Figures>]) -> Vec<Vec<String>> {
        let mut headings = HEADINGS.map(str::to_owned).to_vec();
        headings.push("CPU, times the first's".to_owned());
        let mut lines = vec![headings];
        let own = medians.first().and_then(Option::as_ref).and_then(cost);
        for ((broker, _), figures) in self.brokers.iter().zip(medians) {
            let Some(figures) = figures else {
                let mut cells = vec![String::new(); HEADINGS.len() + 1];
                if let Some([name, outcome]) = cells.get_mut(..2) {
                    (*name, *outcome) = (broker.clone(), "failed".to_owned());
                }
                lines.push(cells);
                continue;
            };
            let mut cells = line(broker, figures);
            cells.push(match (cost(figures), own) {
                (Some(cost), Some(own)) if own > 0.0 => format!("{:.1}", cost / own),
                _ => String::new(),
            });
            lines.push(cells);
        }
        lines
    }
}

/// The figures of each side, in the order of the rounds: A B A B.
fn rounds(
    scenario: Scenario,
    sides: &[Side],
    sizes: &Sizes,
    rounds: u32,
) -> Result<BTreeMap<usize, Vec<Figures>>, CommandError> {
    let mut all: BTreeMap<usize, Vec<Figures>> = BTreeMap::new();
    for round in 1..=rounds {
        for (number, side) in sides.iter().enumerate() {
            if number > 0 && scenario.is_of_the_gateway() {
                continue;
            }
            let mut sizes = *sizes;
            sizes.is_v3 |= !side.speaks_v5();
            let outcome = side.measure(scenario, &sizes);
            let name = side.name();
            // A person who waits wants to know what for.
            let _ = match &outcome {
                Ok(_) => writeln!(io::stderr(), "{} {round}/{rounds}: {name}", scenario.name()),
                Err(error) => writeln!(io::stderr(), "{} {round}/{rounds}: {name}: {error}", scenario.name()),
            };
            match outcome {
                Ok(figures) => all.entry(number).or_default().push(figures),
                // What a peer cannot do is part of the comparison; what the first cannot do ends it.
                Err(error) if number == 0 => return Err(error),
                Err(_) => {}
            }
        }
    }
    Ok(all)
}

/// What is compared: for each delivery if there are any, so that a broker that drops is not cheap.
pub(super) fn cost(figures: &Figures) -> Option<f64> {
    figures.cpu_us_per_delivery.or(figures.cpu_us_per_event).or(figures.cpu_us_per_connect)
}

/// Field by field, over the rounds.
fn median(all: &[Figures]) -> Figures {
    let of = |field: fn(&Figures) -> Option<f64>| middle(all.iter().filter_map(field).collect());
    let of_percentiles = |field: fn(&Figures) -> Option<Percentiles>| {
        let found: Vec<Percentiles> = all.iter().filter_map(field).collect();
        let of = |field: fn(&Percentiles) -> f64| middle(found.iter().map(field).collect());
        Some(Percentiles {
            p50_us: of(|all| all.p50_us)?,
            p99_us: of(|all| all.p99_us)?,
            p999_us: of(|all| all.p999_us)?,
            max_us: of(|all| all.max_us)?,
        })
    };
    Figures {
        sent_per_second: of(|all| all.sent_per_second),
        acknowledged_per_second: of(|all| all.acknowledged_per_second),
        delivered_per_second: of(|all| all.delivered_per_second),
        cpu_us_per_event: of(|all| all.cpu_us_per_event),
        cpu_us_per_delivery: of(|all| all.cpu_us_per_delivery),
        cores: of(|all| all.cores),
        resident_bytes: of(|all| all.resident_bytes.map(|bytes| bytes as f64)).map(|bytes| bytes as u64),
        acknowledgement: of_percentiles(|all| all.acknowledgement),
        delivery: of_percentiles(|all| all.delivery),
        lag_max_us: of(|all| Some(all.lag_max_us as f64)).unwrap_or_default() as u64,
        undelivered: all.iter().map(|one| one.undelivered).max().unwrap_or_default(),
        connects_per_second: of(|all| all.connects_per_second),
        bytes_per_connection: of(|all| all.bytes_per_connection),
        cpu_us_per_connect: of(|all| all.cpu_us_per_connect),
    }
}

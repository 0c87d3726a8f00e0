//! The gateway and its peers in turn, A B A B, and their medians side by side.
//!
//! Machines are shared and change within the hour, so a figure means something only beside another one of the same run: each round
//! measures every broker once, one after the other, and the report gives ratios.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use super::BenchArgs;
use super::broker::{Kind, Peer};
use super::figures::{Figures, Percentiles};
use super::load;
use super::scenario::{Scenario, Sizes};
use super::table::{HEADINGS, aligned, line, markdown};
use crate::cli::CommandError;

/// Runs everything and answers the report.
pub(super) fn run(
    gateway: &Peer,
    wanted: Vec<Kind>,
    scenarios: &[Scenario],
    sizes: &Sizes,
    args: &BenchArgs,
) -> Result<String, CommandError> {
    let mut peers = vec![gateway.clone()];
    let mut report = String::new();
    for kind in wanted {
        match Peer::find(kind) {
            Some(peer) => peers.push(peer),
            // Writing to a String cannot fail, here and below.
            None => drop(writeln!(report, "{} is not installed and is left out.\n", kind.name())),
        }
    }
    let versions: Vec<String> =
        peers.iter().map(|peer| format!("{} {}", peer.kind.name(), peer.version())).collect();
    let mut document = format!("{report}{}\n\n", versions.join(", "));
    let _ = writeln!(report, "{}\n", versions.join(", "));
    for scenario in scenarios {
        let rounds = rounds(*scenario, &peers, sizes, args.rounds)?;
        let table = side_by_side(&peers, &rounds);
        let _ = writeln!(report, "{}\n{}", scenario.name(), aligned(&table));
        let _ = writeln!(document, "## {}\n\n{}", scenario.name(), markdown(&table));
    }
    if let Some(file) = &args.write {
        std::fs::write(file, &document).map_err(|error| {
            CommandError::CouldNotRun(format!("cannot write {}: {error}", file.display()))
        })?;
    }
    Ok(report)
}

/// The figures of each peer, in the order of the rounds.
fn rounds(
    scenario: Scenario,
    peers: &[Peer],
    sizes: &Sizes,
    rounds: u32,
) -> Result<BTreeMap<usize, Vec<Figures>>, CommandError> {
    let mut all: BTreeMap<usize, Vec<Figures>> = BTreeMap::new();
    for round in 1..=rounds {
        for (number, peer) in peers.iter().enumerate() {
            let mut sizes = *sizes;
            sizes.is_v3 |= !peer.kind.speaks_v5();
            let running = peer.start(scenario)?;
            let outcome = load::run(&scenario.load(&sizes), running.address, Some(running.pid()));
            let name = peer.kind.name();
            // A person who waits wants to know what for.
            let _ = match &outcome {
                Ok(_) => writeln!(io::stderr(), "{} {round}/{rounds}: {name}", scenario.name()),
                Err(error) => writeln!(io::stderr(), "{} {round}/{rounds}: {name}: {error}", scenario.name()),
            };
            match outcome {
                Ok(figures) => all.entry(number).or_default().push(figures),
                // What a peer cannot do is part of the comparison; what the gateway cannot do ends it.
                Err(error) if peer.kind == Kind::Gateway => return Err(error),
                Err(_) => {}
            }
        }
    }
    Ok(all)
}

fn side_by_side(peers: &[Peer], rounds: &BTreeMap<usize, Vec<Figures>>) -> Vec<Vec<String>> {
    let mut headings = HEADINGS.map(str::to_owned).to_vec();
    headings.push("CPU, times the gateway's".to_owned());
    let mut lines = vec![headings];
    let own = rounds.get(&0).map(|all| median(all)).unwrap_or_default();
    for (number, peer) in peers.iter().enumerate() {
        let Some(figures) = rounds.get(&number).map(|all| median(all)) else {
            lines.push(vec![peer.kind.name().to_owned(), "failed".to_owned()]);
            continue;
        };
        let mut cells = line(peer.kind.name(), &figures);
        cells.push(match (cost(&figures), cost(&own)) {
            (Some(cost), Some(own)) if own > 0.0 => format!("{:.1}", cost / own),
            _ => String::new(),
        });
        lines.push(cells);
    }
    lines
}

/// What is compared: for each delivery if there are any, so that a broker that drops is not cheap.
fn cost(figures: &Figures) -> Option<f64> {
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

fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

//! What a message costs the gateway when there is more of everything: topics, filters, connections, backlog.
//!
//! A curve has points of growing size, each against a gateway of its own. Its points are measured in turn, round after round, and the
//! median of the rounds counts, for a machine is not the same from one minute to the next. What matters of a curve is the last column: how
//! many times the cost of the first point. [`curves`] says what is put on the gateway, [`backlog`] is the one that takes several steps.

mod backlog;
mod curves;

use std::io::{self, Write as _};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::broker::Peer;
use super::figures::{Figures, middle};
use crate::command::CommandError;
use crate::report::text::grouped;

/// One of the things there can be more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Curve {
    /// Topics published to in turn.
    Topics,
    /// Topic Filters with wildcards that other subscribers have.
    Filters,
    /// Connections that publish, at the same rate all together.
    Connections,
    /// Bytes that wait for a durable session, while more is published.
    Backlog,
    /// Bytes that waited for a durable session, while it fetches them.
    CatchingUp,
}

/// Backlogs from so many bytes on are filled once.
const ONCE_FROM: u64 = 1 << 30;

/// How the points of a curve are measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) rounds: u32,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    pub(super) payload_bytes: usize,
    /// No point larger than this.
    pub(super) size_max: u64,
    /// No more connections than this.
    pub(super) connections_max: u32,
}

/// A curve as it was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) curve: Curve,
    pub(super) points: Vec<Point>,
}

/// One point: the medians of its rounds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Point {
    pub(super) size: u64,
    /// CPU of the gateway in µs for each event, or for each delivery of a session that catches up.
    pub(super) cpu_us: f64,
    /// The least and the most of the rounds.
    pub(super) cpu_us_range: (f64, f64),
    /// `cpu_us` in proportion to that of the first point.
    pub(super) ratio: f64,
    /// Events, or deliveries, in a second.
    pub(super) per_second: f64,
    pub(super) resident_bytes: u64,
}

impl Curve {
    pub(super) const ALL: [Self; 5] =
        [Self::Topics, Self::Filters, Self::Connections, Self::Backlog, Self::CatchingUp];

    /// As it is called in reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Filters => "wildcard filters",
            Self::Connections => "connections",
            Self::Backlog => "backlog of an absent session, bytes",
            Self::CatchingUp => "backlog that is fetched, bytes",
        }
    }

    const fn sizes(self) -> &'static [u64] {
        match self {
            Self::Topics => &[100, 1_000, 10_000, 100_000],
            Self::Filters => &[1, 100, 1_000, 10_000],
            Self::Connections => &[10, 100, 1_000, 10_000, 18_000],
            Self::Backlog => &[1 << 10, 1 << 20, 32 << 20, 1 << 30, 10 << 30],
            // What is fetched in less than some hundredths of a second cannot be weighed.
            Self::CatchingUp => &[32 << 20, 128 << 20, 1 << 30, 10 << 30],
        }
    }

    /// A size with its unit.
    pub(super) fn size(self, size: u64) -> String {
        match self {
            Self::Backlog | Self::CatchingUp => match size {
                0..0x10_0000 => format!("{} KiB", size >> 10),
                0x10_0000..0x4000_0000 => format!("{} MiB", size >> 20),
                _ => format!("{} GiB", size >> 30),
            },
            _ => grouped(size),
        }
    }

    fn measure(self, gateway: &Peer, size: u64, effort: &Effort) -> Result<Figures, CommandError> {
        match self {
            Self::Backlog => backlog::publishing(gateway, size, effort),
            Self::CatchingUp => backlog::catching_up(gateway, size, effort),
            _ => curves::measure(self, gateway, size, effort),
        }
    }

    /// What takes minutes to be filled and emptied is not done again and again.
    const fn rounds(self, size: u64, effort: &Effort) -> u32 {
        match self {
            Self::Backlog | Self::CatchingUp if size >= ONCE_FROM => 1,
            _ => effort.rounds,
        }
    }
}

/// Measures these curves, one after the other.
pub(super) fn run(gateway: &Peer, curves: &[Curve], effort: &Effort) -> Result<Vec<Measured>, CommandError> {
    curves.iter().map(|curve| one(gateway, *curve, effort)).collect()
}

fn one(gateway: &Peer, curve: Curve, effort: &Effort) -> Result<Measured, CommandError> {
    let size_max = match curve {
        Curve::Connections => effort.size_max.min(effort.connections_max.into()),
        _ => effort.size_max,
    };
    let sizes: Vec<u64> = curve.sizes().iter().copied().filter(|size| *size <= size_max).collect();
    let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); sizes.len()];
    for round in 1..=effort.rounds {
        for (size, found) in sizes.iter().zip(&mut rounds) {
            let count = curve.rounds(*size, effort);
            if round > count {
                continue;
            }
            // A person who waits wants to know what for.
            let _ = writeln!(io::stderr(), "{} {round}/{count}: {}", curve.name(), curve.size(*size));
            found.push(curve.measure(gateway, *size, effort)?);
        }
    }
    let mut points: Vec<Point> = Vec::new();
    for (size, found) in sizes.into_iter().zip(&rounds) {
        let costs: Vec<f64> = found.iter().filter_map(|figures| cost(curve, figures)).collect();
        let Some(cpu_us) = middle(costs.clone()) else { continue };
        let per_second = found.iter().filter_map(|figures| match curve {
            Curve::CatchingUp => figures.delivered_per_second,
            _ => figures.sent_per_second,
        });
        points.push(Point {
            size,
            cpu_us,
            cpu_us_range: (least(&costs), most(&costs)),
            ratio: cpu_us / points.first().map_or(cpu_us, |first| first.cpu_us),
            per_second: middle(per_second.collect()).unwrap_or_default(),
            resident_bytes: found
                .iter()
                .filter_map(|figures| figures.resident_bytes)
                .max()
                .unwrap_or_default(),
        });
    }
    Ok(Measured { curve, points })
}

fn cost(curve: Curve, figures: &Figures) -> Option<f64> {
    match curve {
        Curve::CatchingUp => figures.cpu_us_per_delivery,
        _ => figures.cpu_us_per_event,
    }
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// The lines of a table.
pub(super) fn lines(measured: &Measured) -> Vec<Vec<String>> {
    let headings =
        [measured.curve.name(), "CPU µs/message", "least..most", "per second", "resident", "times the first"];
    let mut lines = vec![headings.map(str::to_owned).to_vec()];
    lines.extend(measured.points.iter().map(|point| {
        vec![
            measured.curve.size(point.size),
            format!("{:.2}", point.cpu_us),
            format!("{:.2}..{:.2}", point.cpu_us_range.0, point.cpu_us_range.1),
            grouped(point.per_second as u64),
            format!("{} MiB", point.resident_bytes >> 20),
            format!("{:.2}", point.ratio),
        ]
    }));
    lines
}

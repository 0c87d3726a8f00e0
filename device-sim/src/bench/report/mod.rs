//! A run as a document: tables and plots, between two marks in a file whose other words are people's.
//!
//! What was measured is replaced by the next run; what it means stands outside of the marks and is kept. [`curves`] have marks of their own,
//! [`svg`] draws, [`machine`] says where it was measured.

pub(super) mod curves;
mod machine;
mod svg;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use self::svg::{Bars, Lines};
use super::compare::{Comparison, cost};
use super::figures::{Figures, Percentiles};
use super::memory::Growth;
use super::scaling;
use super::scenario::Scenario;
use super::table::markdown;
use crate::command::CommandError;

const BEGIN: &str = "<!-- measured: written by `device-sim bench`, between here and the end mark -->\n";
const END: &str = "<!-- measured: end -->\n";

/// Where the document and its plots go.
pub(super) struct Places<'a> {
    pub(super) document: &'a Path,
    /// A directory; the document's own if there is none.
    pub(super) plots: Option<&'a Path>,
}

impl Places<'_> {
    /// Writes one plot; answers the line that shows it.
    fn plot(&self, name: &str, picture: &str) -> Result<String, CommandError> {
        let beside = self.document.parent().unwrap_or(Path::new(""));
        let dir = self.plots.unwrap_or(beside);
        if !dir.as_os_str().is_empty() {
            std::fs::create_dir_all(dir).map_err(|error| unwritable(dir, &error))?;
        }
        let file: PathBuf = dir.join(format!("{name}.svg"));
        write(&file, picture)?;
        let link = file.strip_prefix(beside).unwrap_or(&file);
        Ok(format!("\n![{name}]({})\n", link.display()))
    }
}

/// What was measured.
pub(super) struct Report {
    pub(super) comparison: Comparison,
    pub(super) curves: Vec<scaling::Measured>,
    pub(super) growth: Option<Growth>,
}

/// Which figure a plot shows.
type Field = fn(&Figures) -> Option<f64>;

impl Report {
    /// Writes the document and its plots.
    pub(super) fn write(&self, places: &Places<'_>) -> Result<(), CommandError> {
        let before = std::fs::read_to_string(places.document).unwrap_or_default();
        let measured = self.measured(places)?;
        let (head, tail) = match (before.split_once(BEGIN), before.split_once(END)) {
            (Some((head, _)), Some((_, tail))) => (head, tail),
            _ => ("# Benchmarks\n\n", ""),
        };
        write(places.document, &format!("{head}{BEGIN}\n{measured}{END}{tail}"))?;
        self.curves.iter().try_for_each(|curve| curves::write(places, curve))
    }

    // Writing to a String cannot fail.
    fn measured(&self, places: &Places<'_>) -> Result<String, CommandError> {
        let mut text = format!("{}\n{}.\n", machine::describe(), self.comparison.versions());
        for kind in &self.comparison.missing {
            let _ = writeln!(text, "{} was not installed and is left out.", kind.name());
        }
        let _ = write!(text, "\n### Side by side\n\n{}\n", self.summary());
        text.push_str(&places.plot("cpu", &self.cpu())?);
        if let Some(latency) = self.latency() {
            text.push_str(&places.plot("latency", &latency)?);
        }
        for (scenario, medians) in &self.comparison.scenarios {
            let table = markdown(&self.comparison.side_by_side(medians));
            let _ = write!(text, "\n#### {}\n\n{}\n\n{table}", scenario.name(), scenario.what());
        }
        if let Some(growth) = &self.growth {
            let _ = write!(
                text,
                "\n### Idle connections\n\n{}\n\n{}\n",
                growth.sentence(),
                markdown(&growth.lines())
            );
            text.push_str(&places.plot("memory", &memory(growth))?);
        }
        text.push('\n');
        Ok(text)
    }

    /// CPU in multiples of the gateway's, scenario by scenario.
    fn summary(&self) -> String {
        let mut headings = vec!["CPU µs/message".to_owned()];
        headings.extend(self.comparison.brokers.iter().map(|(name, _)| name.clone()));
        let mut lines = vec![headings];
        for (scenario, medians) in &self.comparison.scenarios {
            let own = medians.first().and_then(Option::as_ref).and_then(cost);
            let mut cells = vec![scenario.name().to_owned()];
            cells.extend(medians.iter().enumerate().map(|(at, figures)| {
                match (figures.as_ref().and_then(cost), own) {
                    (Some(cost), Some(own)) if at > 0 && own > 0.0 => {
                        format!("{cost:.2} ({:.1}×)", cost / own)
                    }
                    (Some(cost), _) => format!("{cost:.2}"),
                    (None, _) => "failed".to_owned(),
                }
            }));
            lines.push(cells);
        }
        markdown(&lines)
    }

    fn names(&self) -> Vec<String> {
        self.comparison.brokers.iter().map(|(name, _)| name.clone()).collect()
    }

    fn cpu(&self) -> String {
        let groups = self.comparison.scenarios.iter().map(|(scenario, medians)| {
            let costs = medians.iter().map(|figures| figures.as_ref().and_then(cost));
            (scenario.name().to_owned(), costs.collect())
        });
        let title = "CPU of the broker in µs for each delivery (connect: for each connection); logarithmic"
            .to_owned();
        Bars { title, series: self.names(), groups: groups.collect() }.svg()
    }

    /// At a rate that all of them can keep up with, or latency would say how long a queue is.
    fn latency(&self) -> Option<String> {
        const FIELDS: [(&str, Field); 6] = [
            ("PUBACK p50", |figures| of(figures.acknowledgement, |all| all.p50_us)),
            ("PUBACK p99", |figures| of(figures.acknowledgement, |all| all.p99_us)),
            ("PUBACK p99.9", |figures| of(figures.acknowledgement, |all| all.p999_us)),
            ("delivery p50", |figures| of(figures.delivery, |all| all.p50_us)),
            ("delivery p99", |figures| of(figures.delivery, |all| all.p99_us)),
            ("delivery p99.9", |figures| of(figures.delivery, |all| all.p999_us)),
        ];
        let (_, medians) =
            self.comparison.scenarios.iter().find(|(scenario, _)| *scenario == Scenario::Paced)?;
        let groups = FIELDS.map(|(name, field)| {
            let values = medians.iter().map(|figures| figures.as_ref().and_then(field).map(|us| us / 1e3));
            (name.to_owned(), values.collect())
        });
        let title =
            "Latency in ms at 10,000 events/s, QoS 1, from when an event was due; logarithmic".to_owned();
        Some(Bars { title, series: self.names(), groups: groups.to_vec() }.svg())
    }
}

fn of(percentiles: Option<Percentiles>, field: fn(&Percentiles) -> f64) -> Option<f64> {
    percentiles.as_ref().map(field)
}

fn memory(growth: &Growth) -> String {
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let measured =
        growth.points.iter().map(|point| (f64::from(point.connections), mib(point.resident_bytes as f64)));
    let line = growth.points.iter().map(|point| {
        let x = f64::from(point.connections);
        (x, mib(growth.own_bytes + growth.bytes_per_connection * x))
    });
    Lines {
        title: "Resident memory of the gateway in MiB".to_owned(),
        x_name: "idle connections".to_owned(),
        series: vec![
            ("measured".to_owned(), measured.collect()),
            ("line through it".to_owned(), line.collect()),
        ],
        is_x_logarithmic: false,
    }
    .svg()
}

impl Scenario {
    /// What happens in it, for readers of a report.
    const fn what(self) -> &'static str {
        match self {
            Self::FanInQos0 => {
                "100 publishers, one subscriber to all of their topics, as fast as deliveries come back."
            }
            Self::FanInQos1 => "The same at QoS 1, each publisher with a window of 20.",
            Self::FanOut => "5 publishers, 200 subscribers to the same topics.",
            Self::Durable => {
                "Fan-in at QoS 1 into a session that outlives its connection. The gateway also keeps a stream, and acknowledges after \
                 `fdatasync`; Mosquitto keeps it in memory; NATS writes files without syncing each message."
            }
            Self::Paced => {
                "100 publishers, 10,000 events/s in all at QoS 1: what it takes when nobody is in a hurry."
            }
            Self::Shared => {
                "100 publishers at QoS 1, a group of 4 subscribers that share all of their topics."
            }
            Self::Retained => {
                "20 subscribers come and are sent 10,000 Retained Messages each, at QoS 1. CPU is from their first connection on."
            }
            Self::Consumer => {
                "100 publishers at QoS 1 into a stream, 4 workers of one consumer that acknowledge what they are handed."
            }
            Self::SlowSubscriber => "2,000 events/s to 20 subscribers, one of which reads 64 KiB/s.",
            Self::Connect => {
                "Connections made as fast as they are taken, then left alone. CPU is for each connection."
            }
        }
    }
}

fn write(file: &Path, text: &str) -> Result<(), CommandError> {
    std::fs::write(file, text).map_err(|error| unwritable(file, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::CouldNotRun(format!("cannot write {}: {error}", path.display()))
}

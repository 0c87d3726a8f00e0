//! Figures as text: for people, for programs, for a document.

use std::fmt::Write as _;

use serde::Serialize;

use super::figures::{Figures, Percentiles};
use super::scenario::Scenario;

/// What one broker did in one scenario.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) scenario: Scenario,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

/// What one broker did, one line for each scenario.
pub(super) fn of_one(rows: &[Row]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| line(row.scenario.name(), &row.figures)));
    aligned(&lines)
}

/// What the columns are.
pub(super) const HEADINGS: [&str; 11] = [
    "",
    "events/s",
    "delivered/s",
    "µs/event",
    "µs/delivery",
    "cores",
    "resident",
    "PUBACK p50/p99 ms",
    "delivery p50/p99 ms",
    "connects/s",
    "lost",
];

/// One line of a table.
pub(super) fn line(name: &str, figures: &Figures) -> Vec<String> {
    let resident = match figures.bytes_per_connection {
        Some(bytes) => format!("{bytes:.0} B/connection"),
        None => figures.resident_bytes.map_or_else(String::new, |bytes| format!("{} MiB", bytes >> 20)),
    };
    vec![
        name.to_owned(),
        count(figures.sent_per_second),
        count(figures.delivered_per_second),
        cost(figures.cpu_us_per_event.or(figures.cpu_us_per_connect)),
        cost(figures.cpu_us_per_delivery),
        cost(figures.cores),
        resident,
        latency(figures.acknowledgement.as_ref()),
        latency(figures.delivery.as_ref()),
        count(figures.connects_per_second),
        match figures.undelivered {
            0 => String::new(),
            lost => lost.to_string(),
        },
    ]
}

fn count(rate: Option<f64>) -> String {
    rate.map_or_else(String::new, |rate| crate::report::text::grouped(rate as u64))
}

fn cost(us: Option<f64>) -> String {
    us.map_or_else(String::new, |us| format!("{us:.2}"))
}

fn latency(percentiles: Option<&Percentiles>) -> String {
    percentiles.map_or_else(String::new, |of| format!("{:.2} / {:.2}", of.p50_us / 1e3, of.p99_us / 1e3))
}

/// Columns as wide as their widest cell; the first flush left.
pub(super) fn aligned(lines: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        for (at, cell) in line.iter().enumerate() {
            match widths.get_mut(at) {
                Some(width) => *width = (*width).max(cell.chars().count()),
                None => widths.push(cell.chars().count()),
            }
        }
    }
    let mut text = String::new();
    for line in lines {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Writing to a String cannot fail.
            let _ = match at {
                0 => write!(text, "{cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// The same as Markdown.
pub(super) fn markdown(lines: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let _ = writeln!(text, "| {} |", line.join(" | "));
        if number == 0 {
            let _ = writeln!(text, "|---|{}", "---:|".repeat(line.len().saturating_sub(1)));
        }
    }
    text
}

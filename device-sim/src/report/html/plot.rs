//! Plots: lines and areas over a common axis, as SVG that stretches with the page.
//!
//! The picture alone is SVG, without any text in it: it is stretched to the width there is, and text would be stretched with
//! it. Labels stand around it in HTML, placed in percent, at the reader's size on any screen.

use std::fmt::Write;

use crate::report::markup::escaped;
use crate::report::text::{grouped, micros};

/// The picture's own units: wide and high.
const WIDE: f64 = 1_000.0;
const HIGH: f64 = 250.0;

/// The most points of one line; more are merged, the greatest counts.
const POINTS_MAX: usize = 1_000;

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Events or anything else, in a second or at a time.
    Count,
    /// Microseconds, on a logarithmic scale.
    Micros,
    /// A share; 1 is all of it.
    Share,
    /// A number with two decimals.
    Number,
    /// Mebibytes.
    Mebibytes,
    /// The gateway's levels, 0 to 5.
    Level,
}

/// One line.
pub(super) struct Line {
    /// What the legend calls it.
    pub(super) name: String,
    /// Which of the page's colours, 1 to 8.
    pub(super) colour: usize,
    /// Thinner, for what is beside the point.
    pub(super) is_faint: bool,
    /// Each value holds for the time since the one before it; filled.
    pub(super) is_step: bool,
    /// From left to right; nothing where nothing was measured.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// A stretch of the horizontal axis with a name.
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) name: String,
}

/// The horizontal axis: where it begins and ends, and what stands below it.
#[derive(Clone)]
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) ticks: Vec<(f64, String)>,
}

/// One plot.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) note: &'a str,
    pub(super) unit: Unit,
    pub(super) axis: &'a Axis,
    pub(super) bands: &'a [Band],
    pub(super) lines: Vec<Line>,
}

/// The vertical axis.
struct Scale {
    from: f64,
    to: f64,
    is_logarithmic: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// Time in seconds, with at most six ticks at round times.
    pub(super) fn of_time(from: f64, to: f64) -> Self {
        const STEPS: [f64; 16] = [
            1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0,
            21_600.0, 86_400.0,
        ];
        let to = to.max(from + 1.0);
        let step = STEPS.into_iter().find(|step| (to - from) / step <= 6.0).unwrap_or((to - from) / 6.0);
        let first = (from / step).ceil() as i64;
        let last = (to / step).floor() as i64;
        let tick = |at: i64| (at as f64 * step, duration(at as f64 * step));
        Axis { from, to, ticks: (first..=last).take(8).map(tick).collect() }
    }

    fn share(&self, x: f64) -> f64 {
        ((x - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

impl Scale {
    fn new(unit: Unit, lines: &[Line]) -> Self {
        let values = || lines.iter().flat_map(|line| line.points.iter().filter_map(|(_, y)| *y));
        let most = values().fold(0.0, f64::max);
        match unit {
            Unit::Micros => {
                let least = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
                let low = if least.is_finite() { least.log10().floor() } else { 2.0 };
                let high = most.max(1.0).log10().ceil().max(low + 1.0);
                let ticks = (low as i32..=high as i32).map(|power| 10_f64.powi(power)).collect();
                Scale { from: 10_f64.powf(low), to: 10_f64.powf(high), is_logarithmic: true, ticks }
            }
            Unit::Level => {
                Scale { from: 0.0, to: 5.0, is_logarithmic: false, ticks: (0..=5).map(f64::from).collect() }
            }
            Unit::Share => Self::linear(most.max(1.0)),
            _ => Self::linear(most),
        }
    }

    fn linear(most: f64) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let power = 10_f64.powf((most / 4.0).log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].into_iter().find(|by| most / (by * power) <= 5.0).unwrap_or(10.0) * power;
        let count = (most / step).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|tick| f64::from(tick) * step).collect();
        Scale { from: 0.0, to: count * step, is_logarithmic: false, ticks }
    }

    fn share(&self, y: f64) -> f64 {
        let part = match self.is_logarithmic {
            true => (y.max(self.from) / self.from).log10() / (self.to / self.from).log10(),
            false => (y - self.from) / (self.to - self.from),
        };
        part.clamp(0.0, 1.0)
    }
}

impl Plot<'_> {
    /// The figure; nothing if there is no line with a value in it.
    // Writing to a String cannot fail, here and below.
    pub(super) fn render(mut self) -> String {
        self.lines.retain(|line| line.points.iter().any(|(_, y)| y.is_some()));
        if self.lines.is_empty() {
            return String::new();
        }
        let scale = Scale::new(self.unit, &self.lines);
        let mut out = String::with_capacity(16_384);
        let _ = write!(out, "<figure class=\"plot{}\">\n<figcaption>", self.class());
        let _ = write!(out, "<h3>{}</h3><p>{}</p>", escaped(self.title), escaped(self.note));
        let _ = writeln!(out, "</figcaption>");
        self.legend(&mut out);
        let _ = writeln!(out, "<div class=\"frame\">\n<div class=\"ys\" aria-hidden=\"true\">");
        for tick in &scale.ticks {
            let (at, label) = (scale.share(*tick) * 100.0, self.unit.short(*tick));
            let _ = write!(out, "<span style=\"bottom:{at:.2}%\">{}</span>", escaped(&label));
        }
        let _ = writeln!(out, "\n</div>\n<div class=\"field\">");
        self.picture(&mut out, &scale);
        let _ = writeln!(out, "</div>\n<div class=\"xs\" aria-hidden=\"true\">");
        for (x, label) in &self.axis.ticks {
            let at = self.axis.share(*x) * 100.0;
            // Nothing may stand out of the page.
            let edge = match at {
                0.0..4.0 => " class=\"begin\"",
                96.0..=100.0 => " class=\"end\"",
                _ => "",
            };
            let _ = write!(out, "<span{edge} style=\"left:{at:.2}%\">{}</span>", escaped(label));
        }
        let _ = writeln!(out, "\n</div>\n</div>\n</figure>");
        out
    }

    fn class(&self) -> &'static str {
        if self.unit == Unit::Level { " low" } else { "" }
    }

    fn legend(&self, out: &mut String) {
        let _ = write!(out, "<ul class=\"legend\">");
        for line in &self.lines {
            let most = line.points.iter().filter_map(|(_, y)| *y).fold(0.0, f64::max);
            let faint = if line.is_faint { " faint" } else { "" };
            let _ = write!(
                out,
                "<li class=\"c{}{faint}\">{} <small>max {}</small></li>",
                line.colour,
                escaped(&line.name),
                escaped(&self.unit.long(most))
            );
        }
        let _ = writeln!(out, "</ul>");
    }

    fn picture(&self, out: &mut String, scale: &Scale) {
        let _ = writeln!(
            out,
            "<svg viewBox=\"0 0 {WIDE} {HIGH}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
            escaped(&format!("{}: {}", self.title, self.note))
        );
        for (number, band) in self.bands.iter().enumerate() {
            let (from, to) = (self.axis.share(band.from) * WIDE, self.axis.share(band.to) * WIDE);
            let _ = writeln!(
                out,
                "<rect class=\"band{}\" x=\"{from:.1}\" y=\"0\" width=\"{:.1}\" height=\"{HIGH}\"><title>{}</title></rect>",
                number % 2,
                (to - from).max(0.0),
                escaped(&band.name)
            );
        }
        let mut grid = String::new();
        for tick in &scale.ticks {
            let _ = write!(grid, "M0 {:.1}H{WIDE}", (1.0 - scale.share(*tick)) * HIGH);
        }
        for (x, _) in &self.axis.ticks {
            let _ = write!(grid, "M{:.1} 0V{HIGH}", self.axis.share(*x) * WIDE);
        }
        let _ = writeln!(out, "<path class=\"grid\" d=\"{grid}\"/>");
        for line in &self.lines {
            let pieces = self.pieces(line, scale);
            let path: String = pieces.iter().map(|piece| piece.path(line.is_step)).collect();
            let faint = if line.is_faint { " faint" } else { "" };
            if line.is_step {
                let area: String = pieces.iter().map(Piece::area).collect();
                let _ = writeln!(out, "<path class=\"area c{}\" d=\"{area}\"/>", line.colour);
            }
            let _ = writeln!(
                out,
                "<path class=\"line c{}{faint}\" d=\"{path}\"><title>{}</title></path>",
                line.colour,
                escaped(&line.name)
            );
        }
        let _ = writeln!(out, "</svg>");
    }

    /// The line in the picture's own units, cut where nothing was measured.
    fn pieces(&self, line: &Line, scale: &Scale) -> Vec<Piece> {
        let mut pieces = vec![Piece(Vec::new())];
        for (x, y) in thinned(&line.points) {
            match (y, pieces.last_mut()) {
                (Some(y), Some(piece)) => {
                    piece.0.push((self.axis.share(x) * WIDE, (1.0 - scale.share(y)) * HIGH));
                }
                (None, Some(Piece(points))) if points.is_empty() => {}
                _ => pieces.push(Piece(Vec::new())),
            }
        }
        pieces.retain(|Piece(points)| !points.is_empty());
        pieces
    }
}

/// A stretch of a line without a gap.
struct Piece(Vec<(f64, f64)>);

impl Piece {
    fn path(&self, is_step: bool) -> String {
        let mut path = String::new();
        for (number, (x, y)) in self.0.iter().enumerate() {
            let _ = match (number, is_step) {
                // A point alone is to be seen, too.
                (0, _) => write!(path, "M{x:.1} {y:.1}h0.1"),
                (_, true) => write!(path, "V{y:.1}H{x:.1}"),
                (_, false) => write!(path, "L{x:.1} {y:.1}"),
            };
        }
        path
    }

    /// What lies below it.
    fn area(&self) -> String {
        let first = self.0.first().map_or(0.0, |(x, _)| *x);
        let edge: String = self.0.iter().map(|(x, y)| format!("V{y:.1}H{x:.1}")).collect();
        format!("M{first:.1} {HIGH}{edge}V{HIGH}Z")
    }
}

impl Unit {
    /// On an axis.
    fn short(self, value: f64) -> String {
        match self {
            Unit::Micros => match value {
                value if value >= 1e6 => format!("{} s", trimmed(value / 1e6)),
                value if value >= 1e3 => format!("{} ms", trimmed(value / 1e3)),
                value => format!("{} µs", trimmed(value)),
            },
            Unit::Level => format!("L{value:.0}"),
            Unit::Share => format!("{:.0} %", value * 100.0),
            Unit::Mebibytes => format!("{} MiB", trimmed(value)),
            Unit::Count | Unit::Number => match value {
                value if value >= 1e6 => format!("{}M", trimmed(value / 1e6)),
                value if value >= 1e4 => format!("{}k", trimmed(value / 1e3)),
                value => trimmed(value),
            },
        }
    }

    /// In a legend.
    fn long(self, value: f64) -> String {
        match self {
            Unit::Micros => micros(value as u64),
            Unit::Level => format!("L{value:.0}"),
            Unit::Count => grouped(value.round() as u64),
            Unit::Share => format!("{:.0} %", value * 100.0),
            Unit::Number => format!("{value:.2}"),
            Unit::Mebibytes => format!("{value:.1} MiB"),
        }
    }
}

/// At most [`POINTS_MAX`] of them; of those that fall together the greatest stays.
fn thinned(points: &[(f64, Option<f64>)]) -> Vec<(f64, Option<f64>)> {
    let together = points.len().div_ceil(POINTS_MAX).max(1);
    let greatest = |some: &[(f64, Option<f64>)]| {
        some.iter()
            .copied()
            .reduce(|a, b| if b.1.unwrap_or(f64::MIN) > a.1.unwrap_or(f64::MIN) { b } else { a })
    };
    points.chunks(together).filter_map(greatest).collect()
}

/// Seconds as people write them on an axis.
fn duration(seconds: f64) -> String {
    let whole = seconds.abs().round() as u64;
    let sign = if seconds < 0.0 { "−" } else { "" };
    match whole {
        0..120 => format!("{sign}{whole} s"),
        120..7_200 => format!("{sign}{}:{:02}", whole / 60, whole % 60),
        _ => format!("{sign}{} h {:02}", whole / 3_600, whole % 3_600 / 60),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: Vec<(f64, Option<f64>)>) -> Line {
        Line { name: "a < b".to_owned(), colour: 1, is_faint: false, is_step: false, points }
    }

    #[test]
    fn axes_are_round_and_hold_everything() {
        let axis = Axis::of_time(-3.0, 61.0);
        let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["0 s", "20 s", "40 s", "60 s"]);
        let scale = Scale::linear(9_800.0);
        assert_eq!(scale.ticks, [0.0, 2_000.0, 4_000.0, 6_000.0, 8_000.0, 10_000.0]);
        let scale = Scale::new(Unit::Micros, &[line(vec![(0.0, Some(350.0)), (1.0, Some(12_000.0))])]);
        assert_eq!(scale.ticks, [100.0, 1e3, 1e4, 1e5]);
        assert!((scale.share(1e4) - 2.0 / 3.0).abs() < 1e-9 && scale.share(0.0) == 0.0);
    }

    #[test]
    fn a_plot_has_no_text_in_its_picture_and_no_number_that_is_none() {
        let axis = Axis::of_time(0.0, 10.0);
        let points = vec![(0.0, Some(1.0)), (2.0, None), (3.0, Some(0.0)), (10.0, Some(f64::from(u32::MAX)))];
        let plot = Plot {
            title: "Rates",
            note: "events/s",
            unit: Unit::Count,
            axis: &axis,
            bands: &[Band { from: 0.0, to: 5.0, name: "burst".to_owned() }],
            lines: vec![line(points), line(vec![(0.0, None)])],
        };
        let figure = plot.render();
        assert!(!figure.contains("NaN") && !figure.contains("inf") && !figure.contains("<text"), "{figure}");
        assert_eq!(
            figure.matches("class=\"line").count(),
            1,
            "a line without a value is not drawn\n{figure}"
        );
        assert_eq!(figure.matches("h0.1").count(), 2, "a gap makes two pieces\n{figure}");
        assert!(figure.contains("a &lt; b"), "{figure}");
    }

    #[test]
    fn thinning_keeps_the_spike() {
        let points: Vec<(f64, Option<f64>)> =
            (0..4_096).map(|at| (f64::from(at), Some(if at == 777 { 9.0 } else { 1.0 }))).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS_MAX && thin.iter().any(|(_, y)| *y == Some(9.0)), "{}", thin.len());
    }
}

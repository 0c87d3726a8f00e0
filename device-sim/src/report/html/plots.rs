//! Which plots a report has: what happened over time, all on one axis, and latencies as distributions.

use super::plot::{Axis, Band, Line, Plot, Unit};
use crate::report::Report;
use crate::report::markup::escaped;
use crate::shared::series::{GatewaySample, Sample, Spread};

/// How many colours the page has.
const COLOURS: usize = 8;

/// Everything over time, one plot below the other; a sentence if the run was too short for plots.
pub(super) fn over_time(report: &Report) -> String {
    let samples = &report.series.samples;
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return String::new() };
    if samples.len() < 2 {
        return "<p>The run was too short for plots.</p>\n".to_owned();
    }
    let axis = Axis::of_time(first.t_s - first.span_s, last.t_s);
    let bands = bands(samples);
    let plot =
        |title, note, unit, lines| Plot { title, note, unit, axis: &axis, bands: &bands, lines }.render();
    let phases: String = if bands.len() > 1 { phases(&axis, &bands) } else { String::new() };
    [
        phases,
        plot("Rates", "events per second", Unit::Count, rates(samples)),
        plot("Latency", "logarithmic; thin lines are medians", Unit::Micros, latencies(report)),
        plot("Gateway: pressure", "by resource; 100 % is all of it", Unit::Share, pressures(samples)),
        plot(
            "Gateway: level",
            "normal, conserve, throttle, shed, protect, read-only",
            Unit::Level,
            levels(samples),
        ),
        plot("Gateway: CPU", "cores", Unit::Number, of_gateway(samples, "cores", 4, |gateway| gateway.cores)),
        plot("Gateway: memory", "resident", Unit::Mebibytes, memory(samples)),
        plot(
            "Connected devices",
            "at a time",
            Unit::Count,
            vec![of(samples, "connected", 5, |sample| Some(sample.connected as f64))],
        ),
    ]
    .concat()
}

/// Latencies as curves of percentiles.
pub(super) fn distributions(report: &Report) -> String {
    // Each nine has as much room as the one before it.
    let place = |quantile: f64| -(1.0 - quantile).max(1e-5).log10();
    let ticks = [(0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.999_9, "99.99")];
    let furthest = report
        .distributions
        .iter()
        .flat_map(|one| one.points.iter().filter(|point| point.quantile < 1.0))
        .map(|point| place(point.quantile))
        .fold(1.0, f64::max);
    let ticks = ticks.into_iter().filter(|(quantile, _)| place(*quantile) <= furthest + 1e-9);
    let axis = Axis {
        from: 0.0,
        to: furthest + 0.3,
        ticks: ticks
            .map(|(quantile, label)| (place(quantile), format!("{label} %")))
            .chain([(furthest + 0.3, "max".to_owned())])
            .collect(),
    };
    let lines = report.distributions.iter().enumerate().map(|(number, one)| Line {
        name: one.name.clone(),
        colour: colour(number),
        is_faint: false,
        is_step: false,
        points: one
            .points
            .iter()
            // The quickest of all is far below everything else and would take half of the picture.
            .filter(|point| point.quantile > 0.0)
            .map(|point| {
                let x = if point.quantile < 1.0 { place(point.quantile) } else { axis.to };
                (x, Some(point.us.max(1) as f64))
            })
            .collect(),
    });
    let lines = lines.collect();
    let note = "this share of events took at most so long; logarithmic, the warm-up left out";
    Plot { title: "Percentiles", note, unit: Unit::Micros, axis: &axis, bands: &[], lines }.render()
}

/// Stretches of the same phase.
fn bands(samples: &[Sample]) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    for sample in samples {
        match bands.last_mut().filter(|band| band.name == sample.phase) {
            Some(band) => band.to = sample.t_s,
            None => {
                let from = bands.last().map_or(sample.t_s - sample.span_s, |band| band.to);
                bands.push(Band { from, to: sample.t_s, name: sample.phase.clone() });
            }
        }
    }
    bands
}

/// The names of phases, above everything, where there is room for them.
fn phases(axis: &Axis, bands: &[Band]) -> String {
    let whole = axis.to - axis.from;
    let name = |(number, band): (usize, &Band)| {
        let (left, width) = ((band.from - axis.from) / whole * 100.0, (band.to - band.from) / whole * 100.0);
        // Half a word says less than none; the whole one is in the title.
        let shown = if width < 6.0 { "" } else { band.name.as_str() };
        format!(
            "<li class=\"band{}\" style=\"left:{left:.2}%;width:{width:.2}%\" title=\"{name}\">{}</li>",
            number % 2,
            escaped(shown),
            name = escaped(&band.name)
        )
    };
    let names: String = bands.iter().enumerate().map(name).collect();
    format!("<ol class=\"phases\">{names}</ol>\n")
}

fn rates(samples: &[Sample]) -> Vec<Line> {
    vec![
        Line { is_faint: true, ..of(samples, "due", 3, |sample| Some(sample.due_per_s)) },
        of(samples, "sent", 1, |sample| Some(sample.sent_per_s)),
        of(samples, "acknowledged", 2, |sample| Some(sample.acknowledged_per_s)),
        of(samples, "delivered, all subscribers", 5, |sample| Some(sample.delivered_per_s)),
    ]
}

fn latencies(report: &Report) -> Vec<Line> {
    let samples = &report.series.samples;
    let both = |name: &str, colour: usize, spread: &dyn Fn(&Sample) -> Option<Spread>| {
        let measured = |sample: &Sample| spread(sample).filter(|spread| spread.count > 0);
        let value = |us: u64| us.max(1) as f64;
        [
            of(samples, &format!("{name} p99"), colour, |sample| Some(value(measured(sample)?.p99))),
            Line {
                is_faint: true,
                ..of(samples, &format!("{name} p50"), colour, |sample| Some(value(measured(sample)?.p50)))
            },
        ]
    };
    let mut lines = Vec::from(both("due to PUBACK", 2, &|sample| Some(sample.due_to_puback_us)));
    for (place, subscriber) in report.subscribers.iter().enumerate() {
        let spread = |sample: &Sample| sample.due_to_delivered_us.get(place).copied();
        lines.extend(both(&format!("due to {}", subscriber.name), colour(place + 4), &spread));
    }
    let lag = |sample: &Sample| (sample.lag_us.count > 0).then_some(sample.lag_us.p99.max(1) as f64);
    lines.push(Line { is_faint: true, ..of(samples, "the simulator's own lag p99", 3, lag) });
    lines
}

fn pressures(samples: &[Sample]) -> Vec<Line> {
    let mut resources: Vec<&String> = samples
        .iter()
        .filter_map(|sample| sample.gateway.as_ref())
        .flat_map(|gateway| gateway.pressure.keys())
        .collect();
    resources.sort();
    resources.dedup();
    let line = |(number, resource): (usize, &&String)| {
        let pressure = |gateway: &GatewaySample| gateway.pressure.get(*resource).copied();
        of(samples, resource, colour(number), |sample| pressure(sample.gateway.as_ref()?))
    };
    resources.iter().enumerate().map(line).collect()
}

fn levels(samples: &[Sample]) -> Vec<Line> {
    let level = |sample: &Sample| sample.gateway.as_ref()?.level.map(f64::from);
    vec![Line { is_step: true, ..of(samples, "level", 6, level) }]
}

fn memory(samples: &[Sample]) -> Vec<Line> {
    let mebibytes = |gateway: &GatewaySample| Some(gateway.resident_bytes? as f64 / f64::from(1 << 20));
    of_gateway(samples, "resident", 7, mebibytes)
}

fn of_gateway(
    samples: &[Sample],
    name: &str,
    colour: usize,
    value: impl Fn(&GatewaySample) -> Option<f64>,
) -> Vec<Line> {
    vec![of(samples, name, colour, |sample| value(sample.gateway.as_ref()?))]
}

fn of(samples: &[Sample], name: &str, colour: usize, value: impl Fn(&Sample) -> Option<f64>) -> Line {
    // A sample says what was in the time before it, so its point is in the middle of that.
    let point = |sample: &Sample| (sample.t_s - sample.span_s / 2.0, value(sample));
    Line {
        name: name.to_owned(),
        colour,
        is_faint: false,
        is_step: false,
        points: samples.iter().map(point).collect(),
    }
}

fn colour(number: usize) -> usize {
    number % COLOURS + 1
}

//! Signals as a scenario writes them: `{ kind = "walk", mean = 4.0, ... }`.

use std::time::Duration;

use super::PARTS_MAX;
use crate::model::FieldSpec;
use crate::model::route::RoutePart;
use crate::model::signal::{SignalSpec, WeatherPart};
use crate::scenario::section::Section;

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Clone, Copy)]
enum Kind {
    Constant,
    Uniform,
    Gaussian,
    Walk,
    Diurnal,
    Battery,
    Fault,
    Counter,
    PerDevice,
    Weather,
    Route,
    Field,
    Total,
    Stuck,
    Sum,
    Clamp,
}

const KINDS: [(&str, Kind); 17] = [
    ("constant", Kind::Constant),
    ("uniform", Kind::Uniform),
    ("gaussian", Kind::Gaussian),
    ("walk", Kind::Walk),
    ("diurnal", Kind::Diurnal),
    ("sine", Kind::Diurnal),
    ("battery", Kind::Battery),
    ("fault", Kind::Fault),
    ("counter", Kind::Counter),
    ("per-device", Kind::PerDevice),
    ("weather", Kind::Weather),
    ("route", Kind::Route),
    ("field", Kind::Field),
    ("total", Kind::Total),
    ("stuck", Kind::Stuck),
    ("sum", Kind::Sum),
    ("clamp", Kind::Clamp),
];

/// How deep sums and clamps may nest.
const DEPTH_MAX: usize = 4;

const WEATHER: [(&str, WeatherPart); 7] = [
    ("temperature", WeatherPart::Temperature),
    ("humidity", WeatherPart::Humidity),
    ("pressure", WeatherPart::Pressure),
    ("wind", WeatherPart::Wind),
    ("rain", WeatherPart::Rain),
    ("sun", WeatherPart::Sun),
    ("cloud", WeatherPart::Cloud),
];

const ROUTE: [(&str, RoutePart); 5] = [
    ("latitude", RoutePart::Latitude),
    ("longitude", RoutePart::Longitude),
    ("speed", RoutePart::Speed),
    ("heading", RoutePart::Heading),
    ("odometer", RoutePart::Odometer),
];

/// Reads a signal; it may refer to the fields `before` its own.
pub(super) fn signal(section: Section<'_>, before: &[FieldSpec], depth: usize) -> SignalSpec {
    if depth > DEPTH_MAX {
        section.fault("of", &format!("signals nest at most {DEPTH_MAX} deep"));
        return SignalSpec::Constant { value: 0.0 };
    }
    let number = |key, default| section.number(key, default, -1e12, 1e12);
    let spread = |key, default| section.number(key, default, 0.0, 1e12);
    section.required("kind", String::new());
    let signal = match section.choice("kind", &KINDS, Kind::Constant) {
        Kind::Constant => SignalSpec::Constant { value: number("value", 0.0) },
        Kind::Uniform => {
            let (min, max) = bounds(&section);
            SignalSpec::Uniform { min, max }
        }
        Kind::Gaussian => SignalSpec::Gaussian { mean: number("mean", 0.0), std_dev: spread("std_dev", 1.0) },
        Kind::Walk => SignalSpec::Walk {
            mean: number("mean", 0.0),
            std_dev: spread("std_dev", 1.0),
            relaxation_s: positive(&section, "relaxation", Duration::from_secs(600)).as_secs_f64(),
        },
        Kind::Diurnal => SignalSpec::Diurnal {
            mean: number("mean", 0.0),
            amplitude: number("amplitude", 1.0),
            period_s: positive(&section, "period", DAY).as_secs_f64(),
            spread: section.number("spread", 0.1, 0.0, 1.0),
        },
        Kind::Battery => {
            let (full, empty) = (number("full", 100.0), number("empty", 5.0));
            if empty >= full {
                section.fault("empty", "must be below `full`");
            }
            SignalSpec::Battery { full, empty, per_hour: spread("per_hour", 0.1) }
        }
        Kind::Fault => SignalSpec::Fault {
            per_hour: section.number("per_hour", 0.1, 1e-6, 1e6),
            duration_s: positive(&section, "duration", Duration::from_secs(60)).as_secs_f64(),
            offset: number("offset", 1.0),
        },
        Kind::Counter => SignalSpec::Counter {
            start: number("start", 0.0),
            step_min: spread("step_min", 1.0),
            step_max: spread("step_max", 1.0),
        },
        Kind::PerDevice => {
            let (min, max) = bounds(&section);
            SignalSpec::PerDevice { min, max }
        }
        Kind::Weather => {
            section.required("of", String::new());
            SignalSpec::Weather {
                of: section.choice("of", &WEATHER, WeatherPart::Temperature),
                factor: number("factor", 1.0),
                offset: number("offset", 0.0),
            }
        }
        Kind::Route => {
            section.required("of", String::new());
            SignalSpec::Route { of: section.choice("of", &ROUTE, RoutePart::Latitude) }
        }
        Kind::Field => {
            let name = section.required("of", String::new());
            let place = before.iter().position(|field| field.name == name).unwrap_or_else(|| {
                section.fault("of", &format!("there is no field `{name}` before this one"));
                0
            });
            SignalSpec::Field { place, factor: number("factor", 1.0), offset: number("offset", 0.0) }
        }
        Kind::Total => SignalSpec::Total {
            start: number("start", 0.0),
            per_s: positive(&section, "per", Duration::from_secs(3_600)).as_secs_f64(),
            of: Box::new(signal(section.section("of"), before, depth + 1)),
        },
        Kind::Stuck => SignalSpec::Stuck {
            per_hour: section.number("per_hour", 0.1, 1e-6, 1e6),
            duration_s: positive(&section, "duration", Duration::from_secs(600)).as_secs_f64(),
            of: Box::new(signal(section.section("of"), before, depth + 1)),
        },
        Kind::Sum => {
            let parts = section.sections("of");
            if !(1..=PARTS_MAX).contains(&parts.len()) {
                section.fault("of", &format!("a sum has 1 to {PARTS_MAX} parts"));
            }
            SignalSpec::Sum(
                parts.into_iter().take(PARTS_MAX).map(|part| signal(part, before, depth + 1)).collect(),
            )
        }
        Kind::Clamp => {
            let (min, max) = bounds(&section);
            SignalSpec::Clamp { min, max, of: Box::new(signal(section.section("of"), before, depth + 1)) }
        }
    };
    section.finish();
    signal
}

fn bounds(section: &Section<'_>) -> (f64, f64) {
    let (min, max) = (section.number("min", 0.0, -1e12, 1e12), section.number("max", 1.0, -1e12, 1e12));
    if min > max {
        section.fault("min", "must not be above `max`");
    }
    (min, max)
}

pub(super) fn positive(section: &Section<'_>, key: &'static str, default: Duration) -> Duration {
    let value = section.or(key, default);
    if value.is_zero() {
        section.fault(key, "must be above zero");
    }
    value
}

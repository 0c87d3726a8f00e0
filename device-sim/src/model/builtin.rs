//! The devices that come with the simulator.

use super::signal::SignalSpec;
use super::states::{StateSpec, StatesSpec};
use super::{FieldSpec, ModelSpec, SourceSpec};

/// The names [`by_name`] knows.
pub const NAMES: [&str; 2] = ["cold-room", "weather-station"];

const DAY_S: f64 = 86_400.0;

/// A model that comes with the simulator.
pub fn by_name(name: &str) -> Option<ModelSpec> {
    let fields = match name {
        "cold-room" => cold_room(),
        "weather-station" => weather_station(),
        _ => return None,
    };
    Some(ModelSpec { name: name.to_owned(), fields, route: None })
}

/// A refrigerated room: held near 4 °C, now and then a defrosting compressor, a door that stands open for a minute.
fn cold_room() -> Vec<FieldSpec> {
    vec![
        number(
            "temperature_c",
            2,
            SignalSpec::Sum(vec![
                SignalSpec::Walk { mean: 4.0, std_dev: 0.6, relaxation_s: 1_200.0 },
                SignalSpec::Diurnal { mean: 0.0, amplitude: 0.4, period_s: DAY_S, spread: 0.1 },
                SignalSpec::Fault { per_hour: 0.1, duration_s: 900.0, offset: 5.0 },
                SignalSpec::Gaussian { mean: 0.0, std_dev: 0.05 },
            ]),
        ),
        number(
            "humidity_pct",
            1,
            bounded(0.0, 100.0, SignalSpec::Walk { mean: 82.0, std_dev: 4.0, relaxation_s: 3_600.0 }),
        ),
        number("battery_pct", 1, SignalSpec::Battery { full: 100.0, empty: 5.0, per_hour: 0.05 }),
        words("door", &[("closed", 1_800.0, 1), ("open", 60.0, 0)]),
        number("readings", 0, SignalSpec::Counter { start: 0.0, step_min: 1.0, step_max: 1.0 }),
    ]
}

/// A weather station on a roof.
fn weather_station() -> Vec<FieldSpec> {
    vec![
        number(
            "temperature_c",
            1,
            SignalSpec::Sum(vec![
                SignalSpec::Diurnal { mean: 14.0, amplitude: 6.0, period_s: DAY_S, spread: 0.05 },
                SignalSpec::Walk { mean: 0.0, std_dev: 2.0, relaxation_s: 4.0 * 3_600.0 },
            ]),
        ),
        number(
            "humidity_pct",
            0,
            bounded(0.0, 100.0, SignalSpec::Walk { mean: 65.0, std_dev: 12.0, relaxation_s: 7_200.0 }),
        ),
        number("pressure_hpa", 1, SignalSpec::Walk { mean: 1_013.0, std_dev: 8.0, relaxation_s: DAY_S }),
        number(
            "wind_ms",
            1,
            bounded(
                0.0,
                60.0,
                SignalSpec::Sum(vec![
                    SignalSpec::Walk { mean: 4.0, std_dev: 2.5, relaxation_s: 1_800.0 },
                    SignalSpec::Gaussian { mean: 0.0, std_dev: 0.8 },
                ]),
            ),
        ),
        words("rain", &[("none", 20_000.0, 1), ("light", 2_400.0, 2), ("heavy", 900.0, 0)]),
        number("battery_v", 2, SignalSpec::Battery { full: 4.2, empty: 3.3, per_hour: 0.002 }),
    ]
}

fn number(name: &str, decimals: u8, signal: SignalSpec) -> FieldSpec {
    FieldSpec { name: name.to_owned(), source: SourceSpec::Number { decimals, signal }, deadband: None }
}

fn words(name: &str, states: &[(&str, f64, usize)]) -> FieldSpec {
    let states = states
        .iter()
        .map(|(word, dwell_s, next)| StateSpec {
            word: (*word).to_owned(),
            dwell_s: *dwell_s,
            to: vec![(*next, 1.0)],
        })
        .collect();
    FieldSpec { name: name.to_owned(), source: SourceSpec::Words(StatesSpec { states }), deadband: None }
}

fn bounded(min: f64, max: f64, of: SignalSpec) -> SignalSpec {
    SignalSpec::Clamp { min, max, of: Box::new(of) }
}

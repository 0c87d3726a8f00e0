//! Signals: numbers that move through time as a sensor's do, composed out of a few kinds.

use std::f64::consts::TAU;

use rand_chacha::ChaCha8Rng;

use super::route::{Route, RoutePart};
use super::world::Weather;
use crate::random::{exponential, normal, unit};

const HOUR_S: f64 = 3_600.0;

/// A signal as a scenario describes it.
#[derive(Clone, Debug, PartialEq)]
pub enum SignalSpec {
    /// Always the same.
    Constant {
        /// The value.
        value: f64,
    },
    /// Evenly spread, each value on its own.
    Uniform {
        /// The least value.
        min: f64,
        /// The greatest value.
        max: f64,
    },
    /// Normally distributed, each value on its own.
    Gaussian {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        std_dev: f64,
    },
    /// A random walk that is drawn back to its mean (an Ornstein-Uhlenbeck process).
    Walk {
        /// Where it is drawn to, and starts.
        mean: f64,
        /// The standard deviation in the long run.
        std_dev: f64,
        /// The time in which a deviation falls to 37 %, seconds.
        relaxation_s: f64,
    },
    /// A sine over the day (or another period); each device has its own phase within `spread` periods.
    Diurnal {
        /// The middle.
        mean: f64,
        /// The height above the middle.
        amplitude: f64,
        /// The period, seconds.
        period_s: f64,
        /// How far the devices' phases lie apart, in periods (0 to 1).
        spread: f64,
    },
    /// A battery: from `full` down to `empty`, then exchanged for a full one. Starts anywhere in between.
    Battery {
        /// A new battery.
        full: f64,
        /// The level at which it is exchanged.
        empty: f64,
        /// Loss per hour; each device's own differs by up to a fifth.
        per_hour: f64,
    },
    /// Zero, and now and then, for a while, an offset.
    Fault {
        /// The mean number of faults per hour.
        per_hour: f64,
        /// How long one lasts, seconds.
        duration_s: f64,
        /// The value while it lasts.
        offset: f64,
    },
    /// Counts up with every event.
    Counter {
        /// The first value.
        start: f64,
        /// The least step.
        step_min: f64,
        /// The greatest step.
        step_max: f64,
    },
    /// The same for ever, and different for each device.
    PerDevice {
        /// The least value.
        min: f64,
        /// The greatest value.
        max: f64,
    },
    /// The weather of the device's site, times `factor`, plus `offset`.
    Weather {
        /// Which part of it.
        of: WeatherPart,
        /// What it is multiplied with.
        factor: f64,
        /// What is added.
        offset: f64,
    },
    /// Where the model's route has led.
    Route {
        /// Which part of it.
        of: RoutePart,
    },
    /// An earlier field of the same event, times `factor`, plus `offset`.
    Field {
        /// The field's place in the model.
        place: usize,
        /// What it is multiplied with.
        factor: f64,
        /// What is added.
        offset: f64,
    },
    /// What a signal adds up to over time: power to energy.
    Total {
        /// The first value.
        start: f64,
        /// Seconds in the unit of time: 3,600 for kilowatts to kilowatt hours.
        per_s: f64,
        /// The signal.
        of: Box<SignalSpec>,
    },
    /// A signal whose sensor now and then repeats its last value for a while.
    Stuck {
        /// The mean number of times per hour.
        per_hour: f64,
        /// How long one lasts, seconds.
        duration_s: f64,
        /// The signal.
        of: Box<SignalSpec>,
    },
    /// The sum of signals.
    Sum(
        /// What is added.
        Vec<SignalSpec>,
    ),
    /// A signal kept within bounds.
    Clamp {
        /// The lower bound.
        min: f64,
        /// The upper bound.
        max: f64,
        /// The signal.
        of: Box<SignalSpec>,
    },
}

impl SignalSpec {
    /// Whether it needs a route.
    pub fn follows_route(&self) -> bool {
        match self {
            SignalSpec::Route { .. } => true,
            SignalSpec::Total { of, .. } | SignalSpec::Stuck { of, .. } | SignalSpec::Clamp { of, .. } => {
                of.follows_route()
            }
            SignalSpec::Sum(parts) => parts.iter().any(SignalSpec::follows_route),
            _ => false,
        }
    }
}

/// What a signal may take from the weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeatherPart {
    /// Air temperature, °C.
    Temperature,
    /// Relative humidity, percent.
    Humidity,
    /// Air pressure, hPa.
    Pressure,
    /// Wind, m/s.
    Wind,
    /// Rain, mm/h.
    Rain,
    /// Sunlight, 0 to 1.
    Sun,
    /// Clouds, 0 to 1.
    Cloud,
}

/// The moment at which a signal is asked, and what can be seen from there.
pub(super) struct Now<'a> {
    /// Seconds from the start of the simulated world.
    pub s: f64,
    /// Seconds since the value before.
    pub elapsed_s: f64,
    pub weather: &'a Weather,
    pub route: Option<&'a Route>,
    /// The values of the fields so far.
    pub values: &'a [f64],
}

/// A signal of one device.
#[derive(Clone, Debug)]
pub(super) enum Signal {
    Constant { value: f64 },
    Uniform { min: f64, max: f64 },
    Gaussian { mean: f64, std_dev: f64 },
    Walk { mean: f64, std_dev: f64, relaxation_s: f64, deviation: f64 },
    Diurnal { mean: f64, amplitude: f64, period_s: f64, phase: f64 },
    Battery { full: f64, empty: f64, per_s: f64, level: f64 },
    Fault { mean_gap_s: f64, duration_s: f64, offset: f64, until_change_s: f64, faulty: bool },
    Counter { next: f64, step_min: f64, step_max: f64 },
    Weather { of: WeatherPart, factor: f64, offset: f64 },
    Route { of: RoutePart },
    Field { place: usize, factor: f64, offset: f64 },
    Total { sum: f64, per_s: f64, of: Box<Signal> },
    Stuck { mean_gap_s: f64, duration_s: f64, until_change_s: f64, held: Option<f64>, of: Box<Signal> },
    Sum(Box<[Signal]>),
    Clamp { min: f64, max: f64, of: Box<Signal> },
}

impl Signal {
    pub(super) fn new(spec: &SignalSpec, rng: &mut ChaCha8Rng) -> Self {
        match *spec {
            SignalSpec::Constant { value } => Signal::Constant { value },
            SignalSpec::Uniform { min, max } => Signal::Uniform { min, max },
            SignalSpec::Gaussian { mean, std_dev } => Signal::Gaussian { mean, std_dev },
            SignalSpec::Walk { mean, std_dev, relaxation_s } => {
                Signal::Walk { mean, std_dev, relaxation_s, deviation: std_dev * normal(rng) }
            }
            SignalSpec::Diurnal { mean, amplitude, period_s, spread } => {
                Signal::Diurnal { mean, amplitude, period_s, phase: spread * unit(rng) }
            }
            SignalSpec::Battery { full, empty, per_hour } => Signal::Battery {
                full,
                empty,
                per_s: per_hour / HOUR_S * (0.8 + 0.4 * unit(rng)),
                level: empty + (full - empty) * (1.0 - unit(rng)),
            },
            SignalSpec::Fault { per_hour, duration_s, offset } => {
                let mean_gap_s = HOUR_S / per_hour;
                let until_change_s = mean_gap_s * exponential(rng);
                Signal::Fault { mean_gap_s, duration_s, offset, until_change_s, faulty: false }
            }
            SignalSpec::Counter { start, step_min, step_max } => {
                Signal::Counter { next: start, step_min, step_max }
            }
            SignalSpec::PerDevice { min, max } => Signal::Constant { value: min + (max - min) * unit(rng) },
            SignalSpec::Weather { of, factor, offset } => Signal::Weather { of, factor, offset },
            SignalSpec::Route { of } => Signal::Route { of },
            SignalSpec::Field { place, factor, offset } => Signal::Field { place, factor, offset },
            SignalSpec::Total { start, per_s, ref of } => {
                Signal::Total { sum: start, per_s, of: Box::new(Signal::new(of, rng)) }
            }
            SignalSpec::Stuck { per_hour, duration_s, ref of } => {
                let mean_gap_s = HOUR_S / per_hour;
                let until_change_s = mean_gap_s * exponential(rng);
                let of = Box::new(Signal::new(of, rng));
                Signal::Stuck { mean_gap_s, duration_s, until_change_s, held: None, of }
            }
            SignalSpec::Sum(ref parts) => {
                Signal::Sum(parts.iter().map(|part| Signal::new(part, rng)).collect())
            }
            SignalSpec::Clamp { min, max, ref of } => {
                Signal::Clamp { min, max, of: Box::new(Signal::new(of, rng)) }
            }
        }
    }

    /// The value now.
    pub(super) fn step(&mut self, now: &Now<'_>, rng: &mut ChaCha8Rng) -> f64 {
        let (now_s, elapsed_s) = (now.s, now.elapsed_s);
        match self {
            Signal::Constant { value } => *value,
            Signal::Uniform { min, max } => *min + (*max - *min) * unit(rng),
            Signal::Gaussian { mean, std_dev } => *mean + *std_dev * normal(rng),
            Signal::Walk { mean, std_dev, relaxation_s, deviation } => {
                // The exact solution over any step, so that the event rate does not change the signal's character.
                let kept = (-elapsed_s / *relaxation_s).exp();
                *deviation = *deviation * kept + *std_dev * (1.0 - kept * kept).max(0.0).sqrt() * normal(rng);
                *mean + *deviation
            }
            Signal::Diurnal { mean, amplitude, period_s, phase } => {
                *mean + *amplitude * (TAU * (now_s / *period_s + *phase)).sin()
            }
            Signal::Battery { full, empty, per_s, level } => {
                *level -= *per_s * elapsed_s;
                if *level <= *empty {
                    *level = *full;
                }
                *level
            }
            Signal::Fault { mean_gap_s, duration_s, offset, until_change_s, faulty } => {
                *until_change_s -= elapsed_s;
                if *until_change_s <= 0.0 {
                    *faulty = !*faulty;
                    *until_change_s = if *faulty { *duration_s } else { *mean_gap_s * exponential(rng) };
                }
                if *faulty { *offset } else { 0.0 }
            }
            Signal::Counter { next, step_min, step_max } => {
                let value = *next;
                *next += (*step_min + (*step_max - *step_min) * unit(rng)).round();
                value
            }
            Signal::Weather { of, factor, offset } => of.read(now.weather) * *factor + *offset,
            Signal::Route { of } => now.route.map_or(0.0, |route| route.part(*of)),
            Signal::Field { place, factor, offset } => {
                now.values.get(*place).copied().unwrap_or(0.0) * *factor + *offset
            }
            Signal::Total { sum, per_s, of } => {
                *sum += of.step(now, rng) * elapsed_s / *per_s;
                *sum
            }
            Signal::Stuck { mean_gap_s, duration_s, until_change_s, held, of } => {
                // The world goes on while the sensor hangs.
                let value = of.step(now, rng);
                *until_change_s -= elapsed_s;
                if *until_change_s <= 0.0 {
                    (*held, *until_change_s) = match held {
                        Some(_) => (None, *mean_gap_s * exponential(rng)),
                        None => (Some(value), *duration_s),
                    };
                }
                held.unwrap_or(value)
            }
            Signal::Sum(parts) => parts.iter_mut().map(|part| part.step(now, rng)).sum(),
            Signal::Clamp { min, max, of } => of.step(now, rng).max(*min).min(*max),
        }
    }
}

impl Signal {
    /// Whether the weather matters to it.
    pub(super) fn sees_weather(&self) -> bool {
        match self {
            Signal::Weather { .. } => true,
            Signal::Total { of, .. } | Signal::Stuck { of, .. } | Signal::Clamp { of, .. } => {
                of.sees_weather()
            }
            Signal::Sum(parts) => parts.iter().any(Signal::sees_weather),
            _ => false,
        }
    }
}

impl WeatherPart {
    fn read(self, weather: &Weather) -> f64 {
        match self {
            WeatherPart::Temperature => weather.temperature_c,
            WeatherPart::Humidity => weather.humidity_pct,
            WeatherPart::Pressure => weather.pressure_hpa,
            WeatherPart::Wind => weather.wind_ms,
            WeatherPart::Rain => weather.rain_mm_h,
            WeatherPart::Sun => weather.sun,
            WeatherPart::Cloud => weather.cloud,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Seed};

    fn values(spec: &SignalSpec, step_s: f64, count: u32) -> Vec<f64> {
        let mut rng = Seed(1).stream(Purpose::Model, 0);
        let mut signal = Signal::new(spec, &mut rng);
        (0..count)
            .map(|event| {
                let weather = Weather { temperature_c: 10.0, ..Weather::default() };
                let now = Now {
                    s: f64::from(event) * step_s,
                    elapsed_s: if event == 0 { 0.0 } else { step_s },
                    weather: &weather,
                    route: None,
                    values: &[7.0],
                };
                signal.step(&now, &mut rng)
            })
            .collect()
    }

    fn deviation(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt())
    }

    #[test]
    fn a_walk_keeps_its_spread_at_any_step() {
        for step_s in [1.0, 60.0, 600.0] {
            let (mean, std_dev) = deviation(&values(
                &SignalSpec::Walk { mean: 4.0, std_dev: 0.5, relaxation_s: 60.0 },
                step_s,
                40_000,
            ));
            assert!((mean - 4.0).abs() < 0.1, "{step_s}: mean {mean}");
            assert!((std_dev - 0.5).abs() < 0.06, "{step_s}: deviation {std_dev}");
        }
    }

    #[test]
    fn a_walk_moves_in_small_steps() {
        let walk = values(&SignalSpec::Walk { mean: 0.0, std_dev: 1.0, relaxation_s: 1_000.0 }, 1.0, 10_000);
        assert!(walk.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 0.3));
    }

    #[test]
    fn a_diurnal_signal_swings_once_in_its_period() {
        let spec = SignalSpec::Diurnal { mean: 10.0, amplitude: 5.0, period_s: 100.0, spread: 0.0 };
        let sine = values(&spec, 25.0, 5);
        for (value, expected) in sine.iter().zip([10.0, 15.0, 10.0, 5.0, 10.0]) {
            assert!((value - expected).abs() < 1e-9, "{sine:?}");
        }
    }

    #[test]
    fn a_battery_only_falls_until_it_is_exchanged() {
        let levels = values(&SignalSpec::Battery { full: 100.0, empty: 5.0, per_hour: 10.0 }, 600.0, 1_000);
        let exchanges = levels.windows(2).filter(|pair| pair[1] > pair[0]).count();
        assert!((10..=25).contains(&exchanges), "{exchanges}");
        assert!(levels.iter().all(|level| (5.0..=100.0).contains(level)));
    }

    #[test]
    fn faults_come_and_go() {
        let spec = SignalSpec::Fault { per_hour: 1.0, duration_s: 600.0, offset: 40.0 };
        let values = values(&spec, 60.0, 60 * 200);
        let faulty = values.iter().filter(|value| **value == 40.0).count() as f64 / values.len() as f64;
        assert!(values.iter().all(|value| *value == 0.0 || *value == 40.0));
        assert!((0.09..0.21).contains(&faulty), "600 s in about every 4,200 s: {faulty}");
    }

    #[test]
    fn counters_sums_and_clamps_do_what_they_say() {
        let counter = SignalSpec::Counter { start: 5.0, step_min: 2.0, step_max: 2.0 };
        assert_eq!(values(&counter, 1.0, 3), [5.0, 7.0, 9.0]);
        let sum = SignalSpec::Sum(vec![counter, SignalSpec::Constant { value: 0.5 }]);
        assert_eq!(values(&sum, 1.0, 2), [5.5, 7.5]);
        let clamp = SignalSpec::Clamp { min: 6.0, max: 7.0, of: Box::new(sum) };
        assert_eq!(values(&clamp, 1.0, 3), [6.0, 7.0, 7.0]);
        let uniform = values(&SignalSpec::Uniform { min: -1.0, max: 1.0 }, 1.0, 1_000);
        assert!(uniform.iter().all(|value| (-1.0..1.0).contains(value)));
    }

    #[test]
    fn a_total_adds_up_what_it_is_of() {
        let power = SignalSpec::Field { place: 0, factor: 2.0, offset: 0.0 };
        let energy = SignalSpec::Total { start: 100.0, per_s: 3_600.0, of: Box::new(power) };
        assert_eq!(values(&energy, 1_800.0, 3), [100.0, 107.0, 114.0]);
        let outside = SignalSpec::Weather { of: WeatherPart::Temperature, factor: 0.5, offset: 1.0 };
        assert_eq!(values(&outside, 1.0, 1), [6.0]);
    }

    #[test]
    fn a_stuck_sensor_repeats_itself_and_recovers() {
        let counter = SignalSpec::Counter { start: 0.0, step_min: 1.0, step_max: 1.0 };
        let stuck = SignalSpec::Stuck { per_hour: 6.0, duration_s: 300.0, of: Box::new(counter) };
        let values = values(&stuck, 60.0, 2_000);
        let repeats = values.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!((300..1_000).contains(&repeats), "{repeats}");
        assert!(values.iter().enumerate().any(|(event, value)| event > 100 && *value == event as f64));
    }
}

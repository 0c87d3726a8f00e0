//! Device models: what a device measures, as a list of named fields that move through time.
//!
//! Promise: a device's n-th reading depends on the model, the device's random stream, its site and the times of its readings
//! alone. A model is a description ([`ModelSpec`]) and, per device, a state ([`DeviceModel`]); it knows neither MQTT nor
//! clocks nor encodings: time comes in as seconds of the simulated world, and values go out as [`Value`]s, which
//! [`crate::payload`] writes.
//!
//! Numbers come from composable [`signal`]s, words from [`states`], positions from a [`route`], the weather from the device's
//! site in its [`world`], ready-made devices from [`builtin`]; [`changes`] says what is worth reporting.

pub mod builtin;
pub mod changes;
pub mod route;
pub mod signal;
pub mod states;
pub mod world;

use std::sync::Arc;

use crate::random::{Bookmark, unit};
use route::{Route, RouteSpec};
use signal::{Now, Signal, SignalSpec};
use states::{States, StatesSpec};
use world::{DeviceClock, Site, Weather};

/// The most decimals a number may have.
pub const DECIMALS_MAX: u8 = 6;

/// The most fields of a model: one bit each in a set of fields.
pub const FIELDS_MAX: usize = 64;

/// What a kind of device measures.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The name scenarios use.
    pub name: String,
    /// The payload's members, in order; at most [`FIELDS_MAX`].
    pub fields: Vec<FieldSpec>,
    /// How the device moves about, if it does.
    pub route: Option<RouteSpec>,
}

/// One member of the payload.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldSpec {
    /// The member's name.
    pub name: String,
    /// Where its value comes from.
    pub source: SourceSpec,
    /// Numbers: by how much it must have changed to be worth reporting; none: visibly.
    pub deadband: Option<f64>,
}

/// Where a member's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceSpec {
    /// A number with so many decimals (at most [`DECIMALS_MAX`]).
    Number {
        /// Digits after the point.
        decimals: u8,
        /// The signal.
        signal: SignalSpec,
    },
    /// One of several words.
    Words(StatesSpec),
    /// True while a signal is above a bound.
    Flag {
        /// The signal.
        signal: SignalSpec,
        /// The bound.
        above: f64,
    },
    /// One text per device out of these, at least one; `{device}` and `{site}` are filled in.
    Text(Vec<String>),
    /// What the device's clock says.
    Clock(ClockForm),
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockForm {
    /// Milliseconds since 1970.
    UnixMs,
    /// Seconds since 1970.
    UnixS,
}

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number to be written with so many decimals; with none it is a whole number.
    Number {
        /// The number.
        value: f64,
        /// Digits after the point.
        decimals: u8,
    },
    /// A word or text.
    Text(&'a str),
    /// True or false.
    Flag(bool),
    /// A time, in the unit of its field.
    Time(i64),
}

/// What a device does not decide for itself.
pub struct Surroundings<'a> {
    /// Where it stands.
    pub site: Site,
    /// Its name.
    pub device: &'a str,
    /// Its idea of the time.
    pub clock: DeviceClock,
}

/// One device's measurements as they move through time. A clone is a snapshot that can be moved on by itself.
#[derive(Clone, Debug)]
pub struct DeviceModel {
    rng: Bookmark,
    sources: Box<[Source]>,
    /// Per field: the number, the place of the word among the states, or 1 for true.
    values: Box<[f64]>,
    route: Option<Box<Route>>,
    site: Arc<Site>,
    sees_weather: bool,
    clock: DeviceClock,
    last_s: Option<f64>,
}

#[derive(Clone, Debug)]
enum Source {
    Number { decimals: u8, signal: Signal },
    Words(States),
    Flag { signal: Signal, above: f64 },
    Text(Arc<str>),
    Clock(ClockForm),
}

impl DeviceModel {
    /// A device as it is when it is switched on.
    pub fn new(spec: &ModelSpec, mut rng: Bookmark, surroundings: Surroundings<'_>) -> Self {
        let Surroundings { site, device, clock } = surroundings;
        let here = (site.latitude, site.longitude);
        let (sources, route) = rng.draw(|rng| {
            let sources: Box<[Source]> = spec
                .fields
                .iter()
                .map(|field| match &field.source {
                    SourceSpec::Number { decimals, signal } => {
                        Source::Number { decimals: *decimals, signal: Signal::new(signal, rng) }
                    }
                    SourceSpec::Words(states) => Source::Words(States::new(states, rng)),
                    SourceSpec::Flag { signal, above } => {
                        Source::Flag { signal: Signal::new(signal, rng), above: *above }
                    }
                    SourceSpec::Text(texts) => {
                        let place = (unit(rng) * texts.len() as f64) as usize;
                        let text = texts.get(place).map_or("", String::as_str);
                        Source::Text(text.replace("{device}", device).replace("{site}", &site.name).into())
                    }
                    SourceSpec::Clock(form) => Source::Clock(*form),
                })
                .collect();
            let route = spec.route.as_ref().map(|route| Box::new(Route::new(route, here, rng)));
            (sources, route)
        });
        let values = vec![0.0; sources.len()].into();
        let sees_weather = sources.iter().any(Source::sees_weather);
        DeviceModel { rng, sources, values, route, site: Arc::new(site), sees_weather, clock, last_s: None }
    }

    /// Moves to a later moment, seconds from the start of the simulated world.
    pub fn advance(&mut self, now_s: f64) {
        let elapsed_s = self.last_s.map_or(0.0, |last_s| (now_s - last_s).max(0.0));
        self.last_s = Some(now_s);
        let DeviceModel { rng, sources, values, route, site, sees_weather, .. } = self;
        let weather = if *sees_weather { site.weather(now_s) } else { Weather::default() };
        rng.draw(|rng| {
            if let Some(route) = route {
                route.advance(elapsed_s, rng);
            }
            for (place, source) in sources.iter_mut().enumerate() {
                let now = Now { s: now_s, elapsed_s, weather: &weather, route: route.as_deref(), values };
                let value = match source {
                    Source::Number { signal, .. } => signal.step(&now, rng),
                    Source::Words(states) => {
                        states.step(elapsed_s, rng);
                        states.place() as f64
                    }
                    Source::Flag { signal, above } => f64::from(u8::from(signal.step(&now, rng) > *above)),
                    Source::Text(_) | Source::Clock(_) => 0.0,
                };
                if let Some(slot) = values.get_mut(place) {
                    *slot = value;
                }
            }
        });
    }

    /// The moment of the newest reading, seconds from the start of the simulated world.
    pub fn now_s(&self) -> f64 {
        self.last_s.unwrap_or(0.0)
    }

    /// What the device's clock says at its newest reading, milliseconds since 1970.
    pub fn unix_ms(&self) -> i64 {
        self.clock.unix_ms(self.now_s())
    }

    /// How many fields there are.
    pub fn fields(&self) -> usize {
        self.sources.len()
    }

    /// Per field its value as a number: see [`changes`].
    pub fn numbers(&self) -> &[f64] {
        &self.values
    }

    /// The value of a field.
    pub fn value(&self, place: usize) -> Option<Value<'_>> {
        let number = self.values.get(place).copied()?;
        Some(match self.sources.get(place)? {
            Source::Number { decimals, .. } => Value::Number { value: number, decimals: *decimals },
            Source::Words(states) => Value::Text(states.current()),
            Source::Flag { .. } => Value::Flag(number > 0.0),
            Source::Text(text) => Value::Text(text),
            Source::Clock(ClockForm::UnixMs) => Value::Time(self.unix_ms()),
            Source::Clock(ClockForm::UnixS) => Value::Time(self.unix_ms().div_euclid(1_000)),
        })
    }
}

impl Source {
    fn sees_weather(&self) -> bool {
        match self {
            Source::Number { signal, .. } | Source::Flag { signal, .. } => signal.sees_weather(),
            Source::Words(_) | Source::Text(_) | Source::Clock(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Seed};

    fn device(spec: &ModelSpec, seed: u64, number: u32) -> DeviceModel {
        let clock = DeviceClock { start_unix_ms: 0, ahead_s: 0.0, drift: 0.0 };
        let surroundings = Surroundings { site: Site::new(Seed(seed), 0), device: "dev", clock };
        DeviceModel::new(spec, Seed(seed).bookmark(Purpose::Model, number), surroundings)
    }

    fn readings(model: &mut DeviceModel, count: u32, step_s: f64) -> Vec<String> {
        let read = |event| {
            model.advance(f64::from(event) * step_s);
            let values: Vec<Value<'_>> = (0..model.fields()).filter_map(|place| model.value(place)).collect();
            format!("{values:?}")
        };
        (0..count).map(read).collect()
    }

    #[test]
    fn built_in_models_repeat_with_their_seed() {
        for name in builtin::NAMES {
            let spec = builtin::by_name(name).unwrap();
            let run = |seed, number| readings(&mut device(&spec, seed, number), 200, 30.0);
            assert_eq!(run(5, 1), run(5, 1), "{name}");
            assert_ne!(run(5, 1), run(6, 1), "{name}");
            assert_ne!(run(5, 1), run(5, 2), "{name}");
        }
    }

    #[test]
    fn a_snapshot_goes_its_own_way() {
        let spec = builtin::by_name("weather-station").unwrap();
        let mut model = device(&spec, 5, 1);
        readings(&mut model, 10, 30.0);
        let mut snapshot = model.clone();
        model.advance(1_000.0);
        snapshot.advance(1_000.0);
        assert_eq!(model.numbers(), snapshot.numbers(), "from the same state by the same way");
        snapshot.advance(2_000.0);
        assert_eq!(model.now_s(), 1_000.0);
    }

    #[test]
    fn a_cold_room_stays_believable_for_a_week() {
        let spec = builtin::by_name("cold-room").unwrap();
        let mut model = device(&spec, 11, 0);
        let mut temperatures = Vec::new();
        for minute in 0..7 * 24 * 60 {
            model.advance(f64::from(minute) * 60.0);
            let &[temperature, humidity, battery, ..] = model.numbers() else { panic!("five fields") };
            temperatures.push(temperature);
            assert!((0.0..=100.0).contains(&humidity), "{humidity}");
            assert!((0.0..=100.0).contains(&battery), "{battery}");
            assert!(matches!(model.value(3), Some(Value::Text("open" | "closed"))));
        }
        let mean = temperatures.iter().sum::<f64>() / temperatures.len() as f64;
        assert!((1.0..8.0).contains(&mean), "mean {mean}");
        assert!(temperatures.iter().all(|celsius| (-10.0..25.0).contains(celsius)));
    }
}

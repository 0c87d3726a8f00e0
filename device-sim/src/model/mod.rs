//! Device models: what a device measures, as a list of named fields, and how that becomes a payload.
//!
//! Promise: a device's n-th payload depends on the model, the device's random stream and the due times of its events
//! alone. A model is a description ([`ModelSpec`]) and, per device, a state ([`DeviceModel`]); it knows neither MQTT nor
//! clocks: time comes in as seconds of the simulated world.
//!
//! Numbers come from composable [`signal`]s, words from [`states`], ready-made devices from [`builtin`]; [`json`] writes them.

pub mod builtin;
pub mod json;
pub mod signal;
pub mod states;

use rand_chacha::ChaCha8Rng;

use signal::{Signal, SignalSpec};
use states::{States, StatesSpec};

/// What a kind of device measures.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The name scenarios use.
    pub name: String,
    /// The payload's members, in order.
    pub fields: Vec<FieldSpec>,
}

/// One member of the payload.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldSpec {
    /// The member's name.
    pub name: String,
    /// Where its value comes from.
    pub source: SourceSpec,
}

/// Where a member's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceSpec {
    /// A number with so many decimals (at most [`json::DECIMALS_MAX`]).
    Number {
        /// Digits after the point.
        decimals: u8,
        /// The signal.
        signal: SignalSpec,
    },
    /// One of several words.
    Words(StatesSpec),
}

/// One device's measurements as they move through time.
pub struct DeviceModel {
    rng: ChaCha8Rng,
    fields: Box<[Field]>,
    last_s: Option<f64>,
}

struct Field {
    /// `"name":`, ready to be copied.
    key: Box<[u8]>,
    source: Source,
}

enum Source {
    Number { decimals: u8, signal: Signal, value: f64 },
    Words(States),
}

impl DeviceModel {
    /// A device as it is when it is switched on.
    pub fn new(spec: &ModelSpec, mut rng: ChaCha8Rng) -> Self {
        let fields = spec
            .fields
            .iter()
            .map(|field| Field {
                key: json::member_key(&field.name),
                source: match &field.source {
                    SourceSpec::Number { decimals, signal } => Source::Number {
                        decimals: *decimals,
                        signal: Signal::new(signal, &mut rng),
                        value: 0.0,
                    },
                    SourceSpec::Words(states) => Source::Words(States::new(states, &mut rng)),
                },
            })
            .collect();
        DeviceModel { rng, fields, last_s: None }
    }

    /// Moves to a later moment, seconds from the start of the simulated world.
    pub fn advance(&mut self, now_s: f64) {
        let elapsed_s = self.last_s.map_or(0.0, |last_s| (now_s - last_s).max(0.0));
        self.last_s = Some(now_s);
        for field in &mut self.fields {
            match &mut field.source {
                Source::Number { signal, value, .. } => *value = signal.step(now_s, elapsed_s, &mut self.rng),
                Source::Words(states) => states.step(elapsed_s, &mut self.rng),
            }
        }
    }

    /// Appends the members, each with a comma before it.
    pub fn write_members(&self, out: &mut Vec<u8>) {
        for field in &self.fields {
            out.push(b',');
            out.extend_from_slice(&field.key);
            match &field.source {
                Source::Number { decimals, value, .. } => json::write_number(out, *value, *decimals),
                Source::Words(states) => out.extend_from_slice(states.current()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Seed};

    fn payload(model: &DeviceModel) -> String {
        let mut out = b"{\"_\":0".to_vec();
        model.write_members(&mut out);
        out.push(b'}');
        String::from_utf8(out).unwrap()
    }

    fn device(spec: &ModelSpec, seed: u64, number: u32) -> DeviceModel {
        DeviceModel::new(spec, Seed(seed).stream(Purpose::Model, number))
    }

    #[test]
    fn built_in_models_write_json_and_repeat_with_their_seed() {
        for name in builtin::NAMES {
            let spec = builtin::by_name(name).unwrap();
            let run = |seed, number| {
                let mut model = device(&spec, seed, number);
                let payloads: Vec<String> = (0..200)
                    .map(|event| {
                        model.advance(f64::from(event) * 30.0);
                        payload(&model)
                    })
                    .collect();
                payloads
            };
            let payloads = run(5, 1);
            assert_eq!(payloads, run(5, 1), "{name}");
            assert_ne!(payloads, run(6, 1), "{name}");
            assert_ne!(payloads, run(5, 2), "{name}");
            for payload in payloads {
                let parsed: serde_json::Value = serde_json::from_str(&payload).unwrap();
                assert_eq!(parsed.as_object().unwrap().len(), spec.fields.len() + 1, "{payload}");
            }
        }
    }

    #[test]
    fn a_cold_room_stays_believable_for_a_week() {
        let spec = builtin::by_name("cold-room").unwrap();
        let mut model = device(&spec, 11, 0);
        let mut temperatures = Vec::new();
        for minute in 0..7 * 24 * 60 {
            model.advance(f64::from(minute) * 60.0);
            let parsed: serde_json::Value = serde_json::from_str(&payload(&model)).unwrap();
            temperatures.push(parsed["temperature_c"].as_f64().unwrap());
            let humidity = parsed["humidity_pct"].as_f64().unwrap();
            assert!((0.0..=100.0).contains(&humidity), "{humidity}");
            assert!((0.0..=100.0).contains(&parsed["battery_pct"].as_f64().unwrap()));
            assert!(["open", "closed"].contains(&parsed["door"].as_str().unwrap()));
        }
        let mean = temperatures.iter().sum::<f64>() / temperatures.len() as f64;
        assert!((1.0..8.0).contains(&mean), "mean {mean}");
        assert!(temperatures.iter().all(|celsius| (-10.0..25.0).contains(celsius)));
    }
}

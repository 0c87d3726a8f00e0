//! Models written in a scenario: `[[model]]` with its fields, signals and states.

use std::time::Duration;

use super::section::{FromToml, Section};
use crate::model::json::DECIMALS_MAX;
use crate::model::signal::SignalSpec;
use crate::model::states::{StateSpec, StatesSpec};
use crate::model::{FieldSpec, ModelSpec, SourceSpec};

/// The most fields of a model, parts of a sum, and states.
const PARTS_MAX: usize = 64;

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn models(top: &Section<'_>) -> Vec<ModelSpec> {
    let mut models = Vec::new();
    for section in top.sections("model") {
        let name = section.required("name", String::new());
        let fields = section.sections("field");
        if !(1..=PARTS_MAX).contains(&fields.len()) {
            section.fault("field", &format!("a model has 1 to {PARTS_MAX} of [[model.field]]"));
        }
        models.push(ModelSpec { name, fields: fields.into_iter().map(field).collect() });
        section.finish();
    }
    models
}

fn field(section: Section<'_>) -> FieldSpec {
    let name: String = section.required("name", String::new());
    if name == "_" {
        section.fault("name", "`_` is the envelope's");
    }
    let states = section.sections("states");
    let source = if states.is_empty() {
        let decimals = section.count("decimals", 2, 0, u64::from(DECIMALS_MAX)) as u8;
        SourceSpec::Number { decimals, signal: signal(section.section("signal"), 0) }
    } else {
        SourceSpec::Words(words(&section, states))
    };
    section.finish();
    FieldSpec { name, source }
}

fn words(field: &Section<'_>, sections: Vec<Section<'_>>) -> StatesSpec {
    if sections.len() > PARTS_MAX {
        field.fault("states", &format!("at most {PARTS_MAX} are possible"));
    }
    let names: Vec<String> = sections.iter().map(|section| section.required("word", String::new())).collect();
    let states = sections.into_iter().zip(&names).map(|(section, word)| {
        let dwell_s = positive(&section, "dwell", Duration::from_secs(60)).as_secs_f64();
        let Targets(targets) = section.or("to", Targets(Vec::new()));
        let mut to = Vec::with_capacity(targets.len());
        for (target, weight) in targets {
            match names.iter().position(|name| *name == target) {
                Some(place) => to.push((place, weight)),
                None => section.fault("to", &format!("there is no state `{target}`")),
            }
        }
        section.finish();
        StateSpec { word: word.clone(), dwell_s, to }
    });
    StatesSpec { states: states.collect() }
}

/// `to = { open = 1.0, ajar = 0.5 }`: words and weights.
struct Targets(Vec<(String, f64)>);

impl FromToml for Targets {
    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        let table = value.as_table().ok_or("must be a table of states and weights")?;
        let weights = table.iter().map(|(word, weight)| {
            let weight = f64::from_toml(weight).ok().filter(|weight| *weight > 0.0);
            weight
                .map(|weight| (word.clone(), weight))
                .ok_or(format!("the weight of `{word}` must be above 0"))
        });
        Ok(Targets(weights.collect::<Result<_, _>>()?))
    }
}

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
    Sum,
    Clamp,
}

const KINDS: [(&str, Kind); 10] = [
    ("constant", Kind::Constant),
    ("uniform", Kind::Uniform),
    ("gaussian", Kind::Gaussian),
    ("walk", Kind::Walk),
    ("diurnal", Kind::Diurnal),
    ("battery", Kind::Battery),
    ("fault", Kind::Fault),
    ("counter", Kind::Counter),
    ("sum", Kind::Sum),
    ("clamp", Kind::Clamp),
];

/// How deep sums and clamps may nest.
const DEPTH_MAX: usize = 4;

fn signal(section: Section<'_>, depth: usize) -> SignalSpec {
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
        Kind::Sum => {
            let parts = section.sections("of");
            if !(1..=PARTS_MAX).contains(&parts.len()) {
                section.fault("of", &format!("a sum has 1 to {PARTS_MAX} parts"));
            }
            SignalSpec::Sum(parts.into_iter().take(PARTS_MAX).map(|part| signal(part, depth + 1)).collect())
        }
        Kind::Clamp => {
            let (min, max) = bounds(&section);
            SignalSpec::Clamp { min, max, of: Box::new(signal(section.section("of"), depth + 1)) }
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

fn positive(section: &Section<'_>, key: &'static str, default: Duration) -> Duration {
    let value = section.or(key, default);
    if value.is_zero() {
        section.fault(key, "must be above zero");
    }
    value
}

//! Models written in a scenario: `[[model]]` with its fields, signals and states.

use std::time::Duration;

use super::section::{FromToml, Section};
use crate::model::route::RouteSpec;
use crate::model::states::{StateSpec, StatesSpec};
use crate::model::{ClockForm, DECIMALS_MAX, FIELDS_MAX, FieldSpec, ModelSpec, SourceSpec};

mod signals;

use signals::{positive, signal};

/// The most parts of a sum, states, texts and stops.
const PARTS_MAX: usize = FIELDS_MAX;

pub(super) fn models(top: &Section<'_>) -> Vec<ModelSpec> {
    let mut models = Vec::new();
    for section in top.sections("model") {
        let name: String = section.required("name", String::new());
        if name.contains(['/', '+', '#', '\0']) {
            section.fault("name", "must be without / + or #, since it may become part of topics");
        }
        let sections = section.sections("field");
        if !(1..=FIELDS_MAX).contains(&sections.len()) {
            section.fault("field", &format!("a model has 1 to {FIELDS_MAX} of [[model.field]]"));
        }
        let mut fields: Vec<FieldSpec> = Vec::with_capacity(sections.len());
        for section in sections.into_iter().take(FIELDS_MAX) {
            let field = field(section, &fields);
            fields.push(field);
        }
        let drives = |field: &FieldSpec| match &field.source {
            SourceSpec::Number { signal, .. } | SourceSpec::Flag { signal, .. } => signal.follows_route(),
            _ => false,
        };
        let moves = section.raw("route").is_some() || fields.iter().any(drives);
        let route = moves.then(|| route(section.section("route")));
        models.push(ModelSpec { name, fields, route });
        section.finish();
    }
    models
}

/// Reads a field; it may refer to those `before` it.
fn field(section: Section<'_>, before: &[FieldSpec]) -> FieldSpec {
    let name: String = section.required("name", String::new());
    if name == "_" {
        section.fault("name", "`_` is the envelope's");
    } else if before.iter().any(|field| field.name == name) {
        section.fault("name", &format!("there is already a field `{name}`"));
    }
    let states = section.sections("states");
    let source = if !states.is_empty() {
        SourceSpec::Words(words(&section, states))
    } else if section.raw("text").is_some() {
        SourceSpec::Text(section.or("text", Texts(vec![String::new()])).0)
    } else if section.raw("clock").is_some() {
        let forms = [("unix_ms", ClockForm::UnixMs), ("unix_s", ClockForm::UnixS)];
        SourceSpec::Clock(section.choice("clock", &forms, ClockForm::UnixMs))
    } else if section.raw("above").is_some() {
        let above = section.number("above", 0.0, -1e12, 1e12);
        SourceSpec::Flag { signal: signal(section.section("signal"), before, 0), above }
    } else {
        let decimals = section.count("decimals", 2, 0, u64::from(DECIMALS_MAX)) as u8;
        SourceSpec::Number { decimals, signal: signal(section.section("signal"), before, 0) }
    };
    let deadband = section.raw("deadband").map(|_| section.number("deadband", 0.0, 0.0, 1e12));
    section.finish();
    FieldSpec { name, source, deadband }
}

/// `text = "2.1.0"`, or several of which each device has one.
struct Texts(Vec<String>);

impl FromToml for Texts {
    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        let several = value.as_array().map(|values| values.iter().map(String::from_toml).collect());
        let texts: Result<Vec<String>, String> =
            several.unwrap_or_else(|| String::from_toml(value).map(|text| vec![text]));
        let texts = texts.map_err(|_| "must be a string or a list of strings")?;
        if !(1..=PARTS_MAX).contains(&texts.len()) {
            return Err(format!("must have 1 to {PARTS_MAX} texts"));
        }
        Ok(Texts(texts))
    }
}

fn route(section: Section<'_>) -> RouteSpec {
    let Stops(stops) = section.or("stops", Stops(Vec::new()));
    let spec = RouteSpec {
        stops,
        radius_km: section.number("radius_km", 15.0, 0.001, 1_000.0),
        speed_kmh: section.number("speed_kmh", 40.0, 0.1, 1_200.0),
        stop_s: section.or("stop", Duration::from_secs(300)).as_secs_f64(),
    };
    section.finish();
    spec
}

/// `stops = [[48.14, 11.56], [48.37, 10.89]]`: degrees north and east.
struct Stops(Vec<(f64, f64)>);

impl FromToml for Stops {
    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        let wrong = "must be a list of at least two stops, each [degrees north, degrees east]";
        let stop = |value: &toml::Value| match value.as_array().map(Vec::as_slice) {
            Some([north, east]) => {
                let (north, east) = (f64::from_toml(north).ok()?, f64::from_toml(east).ok()?);
                ((-85.0..=85.0).contains(&north) && (-180.0..=180.0).contains(&east)).then_some((north, east))
            }
            _ => None,
        };
        let stops: Option<Vec<_>> = value.as_array().ok_or(wrong)?.iter().map(stop).collect();
        stops.filter(|stops| (2..=PARTS_MAX).contains(&stops.len())).map(Stops).ok_or(wrong.to_owned())
    }
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

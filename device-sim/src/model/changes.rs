//! Report by exception: which fields have changed enough since they were last reported.

use super::{DeviceModel, FIELDS_MAX, ModelSpec, SourceSpec};

/// A set of fields, by their places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(u64);

impl Fields {
    /// The first `count` fields; at most [`FIELDS_MAX`].
    pub fn first(count: usize) -> Self {
        match count {
            0..FIELDS_MAX => Fields((1 << count) - 1),
            _ => Fields(u64::MAX),
        }
    }

    /// Whether a field is in it.
    pub fn contains(self, place: usize) -> bool {
        place < FIELDS_MAX && self.0 >> place & 1 == 1
    }

    /// How many are in it.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in either.
    pub fn with(self, more: Fields) -> Fields {
        Fields(self.0 | more.0)
    }

    fn insert(&mut self, place: usize) {
        if place < FIELDS_MAX {
            self.0 |= 1 << place;
        }
    }
}

/// What one device last reported, and what it takes to be news.
#[derive(Debug)]
pub struct Changes {
    fields: Box<[Watched]>,
    /// Fields that go with every report and are never a reason for one: times and texts.
    always: Fields,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    last: f64,
    deadband: f64,
}

impl Changes {
    /// A device that has reported nothing.
    pub fn new(spec: &ModelSpec) -> Self {
        let mut always = Fields::default();
        let mut watch = |(place, field): (usize, &super::FieldSpec)| {
            let deadband = match &field.source {
                SourceSpec::Number { decimals, .. } => {
                    field.deadband.unwrap_or(0.5 / 10_f64.powi(i32::from(*decimals)))
                }
                SourceSpec::Words(_) | SourceSpec::Flag { .. } => 0.5,
                SourceSpec::Text(_) | SourceSpec::Clock(_) => {
                    always.insert(place);
                    f64::INFINITY
                }
            };
            Watched { last: f64::NAN, deadband }
        };
        let fields = spec.fields.iter().enumerate().map(&mut watch).collect();
        Changes { fields, always }
    }

    /// The fields that have changed since they were last reported, and those that go with every report if any has.
    pub fn since_last(&self, model: &DeviceModel) -> Fields {
        let mut changed = Fields::default();
        for (place, (watched, value)) in self.fields.iter().zip(model.numbers()).enumerate() {
            let first = watched.last.is_nan() && watched.deadband.is_finite();
            if first || (value - watched.last).abs() >= watched.deadband {
                changed.insert(place);
            }
        }
        if changed.is_empty() { changed } else { changed.with(self.always) }
    }

    /// These fields are reported as they are now.
    pub fn reported(&mut self, fields: Fields, model: &DeviceModel) {
        for (place, (watched, value)) in self.fields.iter_mut().zip(model.numbers()).enumerate() {
            if fields.contains(place) {
                watched.last = *value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signal::SignalSpec;
    use crate::model::world::{DeviceClock, Site};
    use crate::model::{ClockForm, FieldSpec, Surroundings};
    use crate::random::{Purpose, Seed};

    #[test]
    fn only_what_left_its_deadband_is_news() {
        let number = |name: &str, step: f64, deadband| FieldSpec {
            name: name.to_owned(),
            source: SourceSpec::Number {
                decimals: 0,
                signal: SignalSpec::Counter { start: 0.0, step_min: step, step_max: step },
            },
            deadband,
        };
        let clock =
            FieldSpec { name: "at".to_owned(), source: SourceSpec::Clock(ClockForm::UnixS), deadband: None };
        let fields = vec![clock, number("slow", 1.0, Some(3.0)), number("still", 0.0, None)];
        let spec = ModelSpec { name: "m".to_owned(), fields, route: None };
        let surroundings = Surroundings {
            site: Site::new(Seed(1), 0),
            device: "d",
            clock: DeviceClock { start_unix_ms: 0, ahead_s: 0.0, drift: 0.0 },
        };
        let mut model = DeviceModel::new(&spec, Seed(1).bookmark(Purpose::Model, 0), surroundings);
        let mut changes = Changes::new(&spec);
        let mut reports = Vec::new();
        for second in 0..8 {
            model.advance(f64::from(second));
            let news = changes.since_last(&model);
            changes.reported(news, &model);
            reports.push((0..3).map(|place| news.contains(place)).collect::<Vec<bool>>());
        }
        let (all, slow, none) = ([true, true, true], [true, true, false], [false, false, false]);
        assert_eq!(reports, [all, none, none, slow, none, none, slow, none]);
    }

    #[test]
    fn a_set_of_all_fields_has_them_all() {
        for count in [0, 1, 63, 64] {
            assert_eq!(Fields::first(count).len(), count);
        }
        assert!(
            !Fields::first(3).contains(3)
                && Fields::first(64).contains(63)
                && !Fields::first(64).contains(64)
        );
    }
}

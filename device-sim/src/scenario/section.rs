//! Reading TOML tables key by key: every fault is collected, none ends the reading.

use std::cell::RefCell;
use std::time::Duration;

use toml::{Table, Value};

use super::duration;
use super::fault::Fault;
use super::source::Places;

/// The faults found so far.
pub(super) struct Faults {
    places: Places,
    found: RefCell<Vec<Fault>>,
}

impl Faults {
    pub(super) fn new(places: Places) -> Self {
        Faults { places, found: RefCell::default() }
    }

    /// Adds a fault of a key by its full name.
    pub(super) fn add(&self, name: &str, what: &str) {
        self.found.borrow_mut().push(self.places.fault(name, what));
    }

    /// All of them, in the order of the file.
    pub(super) fn into_vec(self) -> Vec<Fault> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|fault| (fault.line, fault.column));
        found
    }
}

/// One table of the file, and which of its keys have been asked for.
pub(super) struct Section<'a> {
    path: String,
    table: Option<&'a Table>,
    asked: RefCell<Vec<&'static str>>,
    faults: &'a Faults,
}

impl<'a> Section<'a> {
    /// A section at a path such as `fleet`; an absent table is an empty one.
    pub(super) fn new(path: String, table: Option<&'a Table>, faults: &'a Faults) -> Self {
        Section { path, table, asked: RefCell::default(), faults }
    }

    /// The full name of a key, for sentences.
    pub(super) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Adds a fault of a key.
    pub(super) fn fault(&self, key: &str, what: &str) {
        self.faults.add(&self.name(key), what);
    }

    /// Whether the file has a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The raw value of a key.
    pub(super) fn raw(&self, key: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().push(key);
        self.table?.get(key)
    }

    /// A value, if it is there and well-formed.
    pub(super) fn optional<T: FromToml>(&self, key: &'static str) -> Option<T> {
        match T::from_toml(self.raw(key)?) {
            Ok(value) => Some(value),
            Err(what) => {
                self.fault(key, &what);
                None
            }
        }
    }

    /// A value or its default.
    pub(super) fn or<T: FromToml>(&self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// A value that must be there; `stand_in` lets the reading go on when it is not.
    pub(super) fn required<T: FromToml>(&self, key: &'static str, stand_in: T) -> T {
        if !self.has(key) {
            self.fault(key, "is missing");
        }
        self.or(key, stand_in)
    }

    /// A number within bounds, or its default.
    pub(super) fn number(&self, key: &'static str, default: f64, least: f64, most: f64) -> f64 {
        let value: f64 = self.or(key, default);
        if (least..=most).contains(&value) {
            return value;
        }
        self.fault(key, &format!("{value} is not between {least} and {most}"));
        default
    }

    /// A whole number within bounds, or its default.
    pub(super) fn count(&self, key: &'static str, default: u64, least: u64, most: u64) -> u64 {
        let value: u64 = self.or(key, default);
        if (least..=most).contains(&value) {
            return value;
        }
        self.fault(key, &format!("{value} is not between {least} and {most}"));
        default
    }

    /// One of several words, or the first of them.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)], default: T) -> T {
        let Some(word) = self.optional::<String>(key) else { return default };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word) {
            return *choice;
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.fault(
            key,
            &format!("`{word}` is not one of {}{}", names.join(", "), did_you_mean(&word, &names)),
        );
        default
    }

    /// All keys and values: of a table whose keys are anybody's choice.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.table.into_iter().flatten()
    }

    /// A table within this one.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        let table = self.raw(key).and_then(|value| {
            let table = value.as_table();
            if table.is_none() {
                self.fault(key, "must be a table");
            }
            table
        });
        Section::new(self.name(key), table, self.faults)
    }

    /// The tables of an array of tables within this one.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.raw(key) else { return Vec::new() };
        let Some(values) = value.as_array() else {
            self.fault(key, "must be a list of tables");
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(values.len());
        for (number, value) in values.iter().enumerate() {
            let path = format!("{}[{}]", self.name(key), number + 1);
            match value.as_table() {
                Some(table) => sections.push(Section::new(path, Some(table), self.faults)),
                None => self.faults.add(&path, "must be a table"),
            }
        }
        sections
    }

    /// Refuses the keys that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.take();
        for key in self.table.into_iter().flat_map(Table::keys) {
            if !asked.contains(&key.as_str()) {
                self.fault(key, &format!("there is no such key{}", did_you_mean(key, &asked)));
            }
        }
    }
}

/// What can be read from a TOML value.
pub(super) trait FromToml: Sized {
    /// Reads it, or says what it should have been.
    fn from_toml(value: &Value) -> Result<Self, String>;
}

impl FromToml for String {
    fn from_toml(value: &Value) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| "must be a string".to_owned())
    }
}

impl FromToml for bool {
    fn from_toml(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| "must be true or false".to_owned())
    }
}

impl FromToml for u64 {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| "must be a whole number, not negative".to_owned())
    }
}

impl FromToml for f64 {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let whole = value.as_integer().map(|number| number as f64);
        let number = value.as_float().filter(|number| number.is_finite()).or(whole);
        number.ok_or_else(|| "must be a number".to_owned())
    }
}

impl FromToml for Vec<String> {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let wrong = || "must be a list of strings".to_owned();
        let values = value.as_array().ok_or_else(wrong)?;
        values.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    }
}

impl FromToml for Duration {
    fn from_toml(value: &Value) -> Result<Self, String> {
        duration::parse(value.as_str().ok_or("must be a duration in quotes, such as \"30s\"")?)
    }
}

/// `, did you mean ...?` if one of the known words is close.
fn did_you_mean(word: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(word, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 1 + word.len() / 3 => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}

//! Reading typed values out of the merged tree: every key is asked for once, faults are collected, and what nobody asked
//! for is unknown.
//!
//! Getters return `None` after recording a fault, so that a section is read to its end before it is given up.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::fault::{Fault, FaultKind, Source};
use super::raw::{Body, Node, Table, nearest};
use super::settings::{Setting, Settings};
use super::units::{format_duration, format_size, parse_duration, parse_size};

/// Values that hold secrets, or may: they are not repeated in messages.
const HIDDEN: [(&str, &str); 3] = [("sink", "secret"), ("sink", "url"), ("telemetry", "traces_headers")];

/// The whole tree being read.
pub(super) struct Reader {
    root: Table,
    asked: Vec<&'static str>,
    pub(super) faults: Vec<Fault>,
    pub(super) settings: Settings,
}

/// One section, or one entry of a list.
pub(super) struct Section<'r> {
    reader: &'r mut Reader,
    name: &'static str,
    element: Option<usize>,
    source: Source,
    table: Table,
    asked: Vec<&'static str>,
    /// The section itself was wrong and has been reported; its keys are not missed one by one.
    given_up: bool,
}

/// Why a value is not accepted.
pub(super) struct Refusal {
    pub(super) kind: FaultKind,
    pub(super) problem: String,
}

impl Refusal {
    pub(super) fn new(kind: FaultKind, problem: impl Into<String>) -> Self {
        Self { kind, problem: problem.into() }
    }
}

/// What a key is given: the value, and its text if it came as text.
pub(super) struct Given {
    value: toml::Value,
    text: Option<String>,
}

impl Reader {
    pub(super) fn new(root: Table, faults: Vec<Fault>) -> Self {
        Self { root, asked: Vec::new(), faults, settings: Settings::default() }
    }

    pub(super) fn section(&mut self, name: &'static str) -> Section<'_> {
        self.asked.push(name);
        let (table, source, given_up) = match self.root.remove(name) {
            Some(Node { body: Body::Table(table), source }) => (table, source, false),
            other => {
                let source = other.map_or(Source::Default, |node| node.source);
                self.fault(
                    name,
                    source,
                    FaultKind::Invalid,
                    "is a section",
                    format!("[{name}] and its keys"),
                );
                (Table::new(), source, true)
            }
        };
        Section { reader: self, name, element: None, source, table, asked: Vec::new(), given_up }
    }

    /// Reads each entry of a list of tables with `read`; `None` if any is faulty or their number is out of `count`.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        count: RangeInclusive<usize>,
        read: impl FnMut(Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.asked.push(name);
        let node = match self.root.remove(name) {
            Some(Node { body: Body::Value { value: toml::Value::Array(items), .. }, source })
                if items.is_empty() =>
            {
                self.settings.empty_lists.push(name);
                Node { source, body: Body::Tables(Vec::new()) }
            }
            Some(node) => node,
            // Not a list, and said to be none below.
            None => Node { source: Source::Default, body: Body::Table(Table::new()) },
        };
        self.tables(name, node, count, read)
    }

    fn tables<T>(
        &mut self,
        name: &'static str,
        node: Node,
        count: RangeInclusive<usize>,
        mut read: impl FnMut(Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let accepted = format!("{} to {} tables, [[{name}]]", count.start(), count.end());
        let source = node.source;
        let Body::Tables(nodes) = node.body else {
            self.fault(name, source, FaultKind::Invalid, "is a list of tables", accepted);
            return None;
        };
        if !count.contains(&nodes.len()) {
            self.fault(
                name,
                source,
                FaultKind::OutOfRange,
                &format!("has {} entries", nodes.len()),
                accepted,
            );
            return None;
        }
        let mut all = Some(Vec::with_capacity(nodes.len()));
        for (index, node) in nodes.into_iter().enumerate() {
            let (table, given_up) = match node.body {
                Body::Table(table) => (table, false),
                _ => (Table::new(), true),
            };
            let section = Section {
                reader: self,
                name,
                element: Some(index),
                source: node.source,
                table,
                asked: Vec::new(),
                given_up,
            };
            match (read(section), &mut all) {
                (Some(entry), Some(all)) => all.push(entry),
                _ => all = None,
            }
        }
        all
    }

    /// Records that a relation between resolved values does not hold.
    pub(super) fn relation(
        &mut self,
        kind: FaultKind,
        key: &str,
        holds: bool,
        problem: &str,
        accepted: String,
    ) {
        if !holds {
            let source = self.source_of(key);
            self.fault(key, source, kind, problem, accepted);
        }
    }

    /// Ends the reading: whatever sections were not asked for are unknown.
    pub(super) fn finish(mut self) -> (Settings, Vec<Fault>) {
        for (name, node) in std::mem::take(&mut self.root) {
            let meant = nearest(&name, self.asked.iter().copied());
            let accepted = meant.map_or_else(|| self.asked.join(", "), str::to_owned);
            self.fault(&name, node.source, FaultKind::UnknownKey, "there is no such section", accepted);
        }
        (self.settings, self.faults)
    }

    fn source_of(&self, key: &str) -> Source {
        let setting = self.settings.settings.iter().find(|setting| match setting.element {
            Some(element) => key == format!("{}.{element}.{}", setting.section, setting.key),
            None => key == format!("{}.{}", setting.section, setting.key),
        });
        setting.map_or(Source::Default, |setting| setting.source)
    }

    fn fault(&mut self, key: &str, source: Source, kind: FaultKind, problem: &str, accepted: String) {
        self.faults.push(Fault { kind, key: key.to_owned(), source, problem: problem.to_owned(), accepted });
    }
}

impl Section<'_> {
    /// Reads a key with a parser of its own. `show` gives the canonical value.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        accepted: &str,
        parse: impl FnOnce(&Given) -> Result<T, Refusal>,
        show: impl FnOnce(&T) -> toml::Value,
    ) -> Option<T> {
        self.asked.push(key);
        let path = self.path(key);
        let Some(node) = self.table.remove(key) else {
            if !self.given_up {
                let source = self.source;
                self.reader.fault(&path, source, FaultKind::Missing, "is missing", accepted.to_owned());
            }
            return None;
        };
        let parsed = match node.body {
            Body::Value { value, text } => {
                let given = Given { value, text };
                let shown = |refusal| match HIDDEN.contains(&(self.name, key)) {
                    true => (refusal, String::new()),
                    false => (refusal, format!("{} ", given.value)),
                };
                parse(&given).map_err(shown)
            }
            _ => Err((Refusal::new(FaultKind::Invalid, "is not a table"), String::new())),
        };
        match parsed {
            Ok(parsed) => {
                let (section, element, value) = (self.name, self.element, show(&parsed));
                self.reader.settings.settings.push(Setting {
                    section,
                    element,
                    key,
                    value,
                    source: node.source,
                });
                Some(parsed)
            }
            Err((Refusal { kind, problem }, shown)) => {
                let problem = format!("{shown}{problem}");
                self.reader.fault(&path, node.source, kind, &problem, accepted.to_owned());
                None
            }
        }
    }

    /// Reads each entry of a list of tables within this section, `[[section.key]]`, with `read`; without it there are none. `name` is both
    /// names, joined by a full stop.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        name: &'static str,
        count_max: usize,
        read: impl FnMut(Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.asked.push(key);
        match self.table.remove(key) {
            None => Some(Vec::new()),
            Some(Node { body: Body::Value { value: toml::Value::Array(items), .. }, .. })
                if items.is_empty() =>
            {
                Some(Vec::new())
            }
            Some(node) => self.reader.tables(name, node, 0..=count_max, read),
        }
    }

    /// Gives a key of a list's entry the value it has when left out.
    pub(super) fn default(&mut self, key: &'static str, value: impl Into<toml::Value>) {
        let body = Body::Value { value: value.into(), text: None };
        self.table.entry(key.to_owned()).or_insert(Node { source: Source::Default, body });
    }

    pub(super) fn bool(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", Given::bool, |value| (*value).into())
    }

    /// An integer within `range`.
    pub(super) fn integer<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + Into<u64> + PartialOrd + Copy + Display,
    {
        let accepted = format!("an integer from {} to {}", range.start(), range.end());
        let parse = |given: &Given| {
            let number = T::try_from(given.integer()?).ok().filter(|number| range.contains(number));
            number.ok_or_else(out_of_range)
        };
        self.read(key, &accepted, parse, |value| i64::try_from((*value).into()).unwrap_or(i64::MAX).into())
    }

    /// A size in bytes: an integer, or a string with a unit.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let (low, high) = (format_size(*range.start()), format_size(*range.end()));
        let accepted = format!("a size from {low} to {high}, as bytes or with a unit (KiB, MiB, GiB)");
        let parse = |given: &Given| {
            let size = match &given.value {
                toml::Value::Integer(bytes) => u64::try_from(*bytes).ok(),
                toml::Value::String(text) => parse_size(text),
                _ => None,
            };
            let size = size.ok_or_else(|| Refusal::new(FaultKind::Invalid, "is not a size"))?;
            if range.contains(&size) { Ok(size) } else { Err(out_of_range()) }
        };
        self.read(key, &accepted, parse, |size| format_size(*size).into())
    }

    /// As `size`, for what is held in memory.
    pub(super) fn size_in_memory(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<usize> {
        self.size(key, range).and_then(|size| usize::try_from(size).ok())
    }

    /// A duration: a string with a unit, or an integer when the key's name ends in one.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let from_integer: Option<fn(u64) -> Duration> = match key {
            key if key.ends_with("_ms") => Some(Duration::from_millis),
            key if key.ends_with("_secs") => Some(Duration::from_secs),
            _ => None,
        };
        let (low, high) = (format_duration(*range.start()), format_duration(*range.end()));
        let form = if from_integer.is_some() { "as an integer or with a unit" } else { "with a unit" };
        let accepted = format!("a duration from {low} to {high}, {form} (ms, s, m, h, d)");
        let parse = |given: &Given| {
            let duration = match &given.value {
                toml::Value::Integer(number) => {
                    from_integer.and_then(|from| u64::try_from(*number).ok().map(from))
                }
                toml::Value::String(text) => parse_duration(text),
                _ => None,
            };
            let duration = duration.ok_or_else(|| Refusal::new(FaultKind::Invalid, "is not a duration"))?;
            if range.contains(&duration) { Ok(duration) } else { Err(out_of_range()) }
        };
        let show = |duration: &Duration| match key {
            key if key.ends_with("_ms") => i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).into(),
            key if key.ends_with("_secs") => i64::try_from(duration.as_secs()).unwrap_or(i64::MAX).into(),
            _ => format_duration(*duration).into(),
        };
        self.read(key, &accepted, parse, show)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let parse = |given: &Given| {
            let word = given.string()?;
            let choice = choices.iter().find(|(name, _)| *name == word).map(|(_, choice)| *choice);
            choice.ok_or_else(|| Refusal::new(FaultKind::Invalid, "is not one of the choices"))
        };
        let show = |value: &T| {
            choices.iter().find(|(_, choice)| choice == value).map_or("", |(word, _)| *word).into()
        };
        self.read(key, &words.join(" or "), parse, show)
    }

    /// A string that `parse` accepts.
    pub(super) fn string<T>(
        &mut self,
        key: &'static str,
        accepted: &str,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
        show: impl FnOnce(&T) -> toml::Value,
    ) -> Option<T> {
        self.read(key, accepted, |given| parse(given.string()?), show)
    }

    /// Keys that cannot be judged now.
    pub(super) fn skip(&mut self, keys: &[&str]) {
        self.table.retain(|key, _| !keys.contains(&key.as_str()));
    }

    /// Ends the section: whatever was not asked for is unknown.
    pub(super) fn finish(mut self) {
        for (key, node) in std::mem::take(&mut self.table) {
            let path = self.path(&key);
            let accepted = match nearest(&key, self.asked.iter().copied()) {
                Some(meant) => self.path(meant),
                None => self.asked.join(", "),
            };
            self.reader.fault(&path, node.source, FaultKind::UnknownKey, "there is no such key", accepted);
        }
    }

    fn path(&self, key: &str) -> String {
        match self.element {
            Some(element) => format!("{}.{element}.{key}", self.name),
            None => format!("{}.{key}", self.name),
        }
    }
}

impl Given {
    pub(super) fn bool(&self) -> Result<bool, Refusal> {
        self.value.as_bool().ok_or_else(|| Refusal::new(FaultKind::Invalid, "is not a boolean"))
    }

    pub(super) fn number(&self) -> Result<f64, Refusal> {
        let number = self.value.as_float().or_else(|| self.value.as_integer().map(|integer| integer as f64));
        number.ok_or_else(|| Refusal::new(FaultKind::Invalid, "is not a number"))
    }

    pub(super) fn integer(&self) -> Result<i64, Refusal> {
        self.value.as_integer().ok_or_else(|| Refusal::new(FaultKind::Invalid, "is not an integer"))
    }

    /// The value as a string; text that happened to read as another type is still the text that was written.
    pub(super) fn string(&self) -> Result<&str, Refusal> {
        let string = self.value.as_str().or(self.text.as_deref());
        string.ok_or_else(|| Refusal::new(FaultKind::Invalid, "is not a string"))
    }

    pub(super) fn strings(&self) -> Result<Vec<String>, Refusal> {
        let strings = self.value.as_array().and_then(|items| {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        });
        strings.ok_or_else(|| Refusal::new(FaultKind::Invalid, "is not a list of strings"))
    }
}

fn out_of_range() -> Refusal {
    Refusal::new(FaultKind::OutOfRange, "is out of range")
}

//! The text of a scenario: its tables, and where in it each key stands.

use std::collections::HashMap;
use std::ops::Range;

use toml::Table;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;

/// A file that is TOML.
pub(super) struct Source {
    pub(super) table: Table,
    pub(super) places: Places,
}

/// Where keys stand, by their full names as faults write them: `subscriber[2].filter`.
pub(super) struct Places {
    text: String,
    keys: HashMap<String, Range<usize>>,
}

impl Source {
    /// Reads a text, or says everything that keeps it from being TOML.
    pub(super) fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let (spanned, errors) = DeTable::parse_recoverable(text);
        let mut places = Places { text: text.to_owned(), keys: HashMap::new() };
        if !errors.is_empty() {
            let fault = |error: &toml::de::Error| {
                let at = error.span().map_or(0, |span| span.start);
                places.fault_at(at, format!("this is not TOML: {}", error.message()))
            };
            let mut faults: Vec<Fault> = errors.iter().map(fault).collect();
            faults.sort_unstable();
            return Err(faults);
        }
        let table = text.parse().map_err(|error: toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start);
            vec![places.fault_at(at, format!("this is not TOML: {}", error.message()))]
        })?;
        places.enter_table("", spanned.get_ref());
        Ok(Source { table, places })
    }
}

impl Places {
    /// A fault of a key, at the key; where the file does not have it, at the nearest table around it.
    pub(super) fn fault(&self, name: &str, what: &str) -> Fault {
        let mut around = name;
        let at = loop {
            if let Some(span) = self.keys.get(around) {
                break span.start;
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = around.get(..end).unwrap_or_default(),
                None => break 0,
            }
        };
        self.fault_at(at, format!("{name}: {what}"))
    }

    fn fault_at(&self, at: usize, text: String) -> Fault {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Fault { line, column, text }
    }

    fn enter_table(&mut self, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name =
                if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
            self.keys.insert(name.clone(), key.span());
            self.enter_value(&name, value.get_ref());
        }
    }

    fn enter_value(&mut self, name: &str, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.enter_table(name, table),
            DeValue::Array(array) => {
                for (number, element) in array.iter().enumerate() {
                    let name = format!("{name}[{}]", number + 1);
                    self.keys.insert(name.clone(), element.span());
                    self.enter_value(&name, element.get_ref());
                }
            }
            _ => {}
        }
    }
}

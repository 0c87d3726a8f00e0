//! Tables over tables: a cohort's keys over its fleet's, over those of the fleet it is made from.

use super::section::{FromToml, Section};

/// Sections of which the first that has a key decides.
#[derive(Clone)]
pub(super) struct Layers<'a, 'b> {
    top: &'b Section<'a>,
    below: Vec<&'b Section<'a>>,
}

impl<'a, 'b> Layers<'a, 'b> {
    pub(super) fn new(top: &'b Section<'a>, below: impl IntoIterator<Item = &'b Section<'a>>) -> Self {
        Layers { top, below: below.into_iter().collect() }
    }

    /// The section that decides about a key: where to read it, and where its faults are. The topmost if none has it.
    pub(super) fn at(&self, key: &'static str) -> &'b Section<'a> {
        let mut found = self.top.raw(key).map(|_| self.top);
        for section in &self.below {
            // Every layer is asked, so that no key counts as unknown because another one hides it.
            if section.raw(key).is_some() {
                found = found.or(Some(*section));
            }
        }
        found.unwrap_or(self.top)
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        self.at(key).raw(key).is_some()
    }

    pub(super) fn or<T: FromToml>(&self, key: &'static str, default: T) -> T {
        self.at(key).or(key, default)
    }

    pub(super) fn number(&self, key: &'static str, default: f64, least: f64, most: f64) -> f64 {
        self.at(key).number(key, default, least, most)
    }

    pub(super) fn count(&self, key: &'static str, default: u64, least: u64, most: u64) -> u64 {
        self.at(key).count(key, default, least, most)
    }

    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)], default: T) -> T {
        self.at(key).choice(key, choices, default)
    }

    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        self.at(key).section(key)
    }

    pub(super) fn fault(&self, key: &'static str, what: &str) {
        self.at(key).fault(key, what);
    }
}

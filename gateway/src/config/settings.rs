//! What is in force and why: each key with its value and its layer, printed as a file that could be loaded again.

use std::fmt;

use super::fault::Source;

/// One key in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The section, or the name of the list.
    pub section: &'static str,
    /// The place in the list, for keys of `[[listener]]` and `[[stream]]`.
    pub element: Option<usize>,
    /// The key within its section.
    pub key: &'static str,
    /// Its value.
    pub value: toml::Value,
    /// The layer that decided it.
    pub source: Source,
}

/// Every key in force, in the order of the documented file. Displays as TOML.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub(super) settings: Vec<Setting>,
    pub(super) empty_lists: Vec<&'static str>,
}

impl Settings {
    /// The keys, section by section.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter()
    }

    /// Takes over one key from other settings.
    pub fn take_from(&mut self, other: &Self, section: &str, key: &str) {
        let is_meant = |setting: &&Setting| setting.section == section && setting.key == key;
        if let Some(new) = other.iter().find(is_meant)
            && let Some(old) = self.settings.iter_mut().find(|setting| is_meant(&&**setting))
        {
            *old = new.clone();
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for list in &self.empty_lists {
            writeln!(f, "{list} = []")?;
        }
        let mut table = None;
        for setting in &self.settings {
            if table != Some((setting.section, setting.element)) {
                let gap = if table.is_none() && self.empty_lists.is_empty() { "" } else { "\n" };
                match setting.element {
                    Some(_) => writeln!(f, "{gap}[[{}]]", setting.section)?,
                    None => writeln!(f, "{gap}[{}]", setting.section)?,
                }
                table = Some((setting.section, setting.element));
            }
            write!(f, "{} = {}", setting.key, setting.value)?;
            match setting.source {
                Source::Default => writeln!(f)?,
                source => writeln!(f, "  # from {source}")?,
            }
        }
        Ok(())
    }
}

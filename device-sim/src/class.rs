//! Classes: how much events matter when not all can be served, which devices are of which, and one value for each.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How much events matter when not all can be served, in the gateway's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// First to be shed.
    Bulk,
    /// The usual.
    Normal,
    /// Never to be shed.
    Critical,
}

impl Class {
    /// All, the first to be shed first.
    pub const ALL: [Class; 3] = [Class::Bulk, Class::Normal, Class::Critical];

    /// As scenarios, topics and reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Bulk => "bulk",
            Class::Normal => "normal",
            Class::Critical => "critical",
        }
    }

    /// The class with this name.
    pub fn from_name(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.as_str() == name)
    }
}

/// One value per class; serialised as an object with their names as keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByClass<T> {
    /// For `bulk`.
    pub bulk: T,
    /// For `normal`.
    pub normal: T,
    /// For `critical`.
    pub critical: T,
}

impl<T> ByClass<T> {
    /// The same for each.
    pub fn each(of: impl Fn() -> T) -> Self {
        ByClass { bulk: of(), normal: of(), critical: of() }
    }
}

impl<T> Index<Class> for ByClass<T> {
    type Output = T;

    fn index(&self, class: Class) -> &T {
        match class {
            Class::Bulk => &self.bulk,
            Class::Normal => &self.normal,
            Class::Critical => &self.critical,
        }
    }
}

impl<T> IndexMut<Class> for ByClass<T> {
    fn index_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::Bulk => &mut self.bulk,
            Class::Normal => &mut self.normal,
            Class::Critical => &mut self.critical,
        }
    }
}

/// Which device is of which class: runs of device numbers, since devices of a cohort follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes(Arc<[(u32, Class)]>);

impl Classes {
    /// By runs that follow each other: the number after that of the last device, and the class.
    pub fn new(runs: impl IntoIterator<Item = (u32, Class)>) -> Self {
        Classes(runs.into_iter().collect())
    }

    /// A device's class. One that no run has is of the usual.
    pub fn of(&self, device: u32) -> Class {
        let place = self.0.partition_point(|(end, _)| *end <= device);
        self.0.get(place).map_or(Class::Normal, |(_, class)| *class)
    }

    /// How many devices each has.
    pub fn sizes(&self) -> ByClass<u32> {
        let mut sizes = ByClass::default();
        let mut first = 0;
        for (end, class) in self.0.iter() {
            sizes[*class] += end.saturating_sub(first);
            first = *end;
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_of_the_class_of_their_run() {
        let classes = Classes::new([(2, Class::Critical), (5, Class::Bulk), (6, Class::Critical)]);
        let found: Vec<&str> = (0..7).map(|device| classes.of(device).as_str()).collect();
        assert_eq!(found, ["critical", "critical", "bulk", "bulk", "bulk", "critical", "normal"]);
        assert_eq!(classes.sizes(), ByClass { bulk: 3, normal: 0, critical: 3 });
        assert_eq!(Classes::default().of(0), Class::Normal);
        assert!(Class::ALL.into_iter().all(|class| Class::from_name(class.as_str()) == Some(class)));
    }
}

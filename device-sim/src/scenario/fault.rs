//! What is wrong with a scenario file, and where.

use std::fmt;

/// One fault: a place in the file and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The full name of the key and what is wrong with it.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.line, self.column, self.text)
    }
}

/// Everything that is wrong with a scenario, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ScenarioFaults(pub Vec<Fault>);

impl ScenarioFaults {
    /// One line per fault, each with the file's name before its place, as compilers write it.
    pub fn of_file(&self, name: &str) -> String {
        self.0.iter().map(|fault| format!("{name}:{fault}")).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for ScenarioFaults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            write!(out, "{fault}")?;
        }
        Ok(())
    }
}

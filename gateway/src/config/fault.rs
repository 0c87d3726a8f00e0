//! What is wrong with a configuration, in words an operator can act on.

use std::fmt;
use std::path::PathBuf;

/// The layer a value came from, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The built-in `config/gateway.toml`.
    Default,
    /// The operator's file.
    File,
    /// The environment.
    Environment,
    /// `--set`, or an option that stands for it.
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "the default",
            Self::File => "the file",
            Self::Environment => "the environment",
            Self::CommandLine => "the command line",
        })
    }
}

/// What kind of mistake a [`Fault`] is, for programs; people read its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The file could not be read.
    Unreadable,
    /// The file, or one `--set`, is not what its syntax demands.
    Syntax,
    /// There is no such key.
    UnknownKey,
    /// A key without a default was not given.
    Missing,
    /// A value of the wrong type or form.
    Invalid,
    /// A value of the right type, outside its bounds.
    OutOfRange,
    /// Two values that contradict each other.
    Relation,
    /// A value that would open the gateway to strangers without saying so.
    Unsafe,
}

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of mistake.
    pub kind: FaultKind,
    /// The key, `section.key` or `listener.0.key`; the text of the whole `--set` when it has no key.
    pub key: String,
    /// The layer the value came from.
    pub source: Source,
    /// What is wrong.
    pub problem: String,
    /// What would be accepted; empty when the problem says it all.
    pub accepted: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (from {}): {}", self.key, self.source, self.problem)?;
        if self.accepted.is_empty() { Ok(()) } else { write!(f, "; accepted: {}", self.accepted) }
    }
}

/// All faults of a configuration; never empty. Its display is a list for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    file: Option<PathBuf>,
    faults: Vec<Fault>,
}

impl ConfigErrors {
    pub(super) fn new(file: Option<PathBuf>, faults: Vec<Fault>) -> Self {
        Self { file, faults }
    }

    /// The faults, by layer of discovery: syntax first, then keys in the order of the documented file, then relations.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        write!(f, "the configuration has {count} {}", if count == 1 { "fault" } else { "faults" })?;
        if let Some(file) = &self.file {
            write!(f, " (file: {})", file.display())?;
        }
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

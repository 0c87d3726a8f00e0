//! What a sink writes to, as its runner sees it.

use gateway_storage::{Event, Offset};
use std::future::Future;
use std::time::Duration;

/// One event on its way out, borrowed from the batch it was read in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// Where it lies in the log.
    pub(super) offset: Offset,
    /// When it was stored; of a dead letter, when it was received.
    pub(super) time_ms: u64,
    /// The event itself.
    pub(super) event: Event<'a>,
}

/// A target that cannot take anything now. Nothing was written, or nobody knows whether it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outage {
    /// Of what kind, as a label of a metric.
    pub(super) kind: OutageKind,
    /// What the target or the network said.
    pub(super) message: String,
    /// The target asked to be left alone for that long.
    pub(super) retry_after: Option<Duration>,
}

/// Why a target takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum OutageKind {
    /// It cannot be reached, or the connection broke.
    Connection,
    /// It did not answer in time.
    Timeout,
    /// It says that it is too busy.
    Busy,
    /// It answered with an error of its own.
    Server,
    /// It does not take us as we are configured: an address, a credential, a table that is not as it must be.
    Configuration,
}

impl OutageKind {
    /// The label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Server => "server",
            Self::Configuration => "configuration",
        }
    }
}

impl Outage {
    pub(super) fn new(kind: OutageKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

/// What became of a batch that was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It will be tried again.
    Outage(Outage),
    /// The target refuses something in it for good, and says why. Nothing of it was written.
    Refused(String),
}

impl From<Outage> for Failure {
    fn from(outage: Outage) -> Self {
        Self::Outage(outage)
    }
}

/// Somewhere events are written to. Driven by one task, one call at a time; a call that is dropped half way counts as an
/// [`Outage`].
pub(super) trait Target: Send {
    /// Gets ready to write what consumer `generation` reads: offsets of another one are of another making. Answers from which offset
    /// on to write, if the target itself knows.
    fn open(&mut self, generation: u64) -> impl Future<Output = Result<Option<Offset>, Outage>> + Send;

    /// Writes all of `rows` or nothing, in their order. `next` is where the batch after them begins.
    fn write(&mut self, rows: &[Row<'_>], next: Offset) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Writes one event whose turn in the order was long ago, unless the target has it.
    fn write_late(&mut self, row: &Row<'_>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Waits until the target is known to be gone.
    fn lost(&mut self) -> impl Future<Output = Outage> + Send;
}

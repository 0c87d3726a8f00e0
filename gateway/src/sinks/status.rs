//! How a sink is doing, for people, and its metrics.

use super::target::Outage;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Whether a sink writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkState {
    /// It has not reached its target yet.
    Starting,
    /// It writes, or has nothing to write.
    Up,
    /// The target takes nothing.
    Down {
        /// Since when, in milliseconds since the Unix epoch.
        since_ms: u64,
        /// What the target or the network said last.
        error: String,
    },
    /// Its consumer is paused.
    Paused,
    /// It has ended: its consumer was removed, or its stream is gone.
    Ended {
        /// Why.
        error: String,
    },
}

impl SinkState {
    /// The word for it, out of a closed set.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Down { .. } => "down",
            Self::Paused => "paused",
            Self::Ended { .. } => "ended",
        }
    }
}

/// A sink as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStatus {
    /// Its name.
    pub name: Box<str>,
    /// `webhook` or `postgres`.
    pub kind: &'static str,
    /// The consumer that holds its place: `sink/<name>`.
    pub consumer: Box<str>,
    /// Whether it writes.
    pub state: SinkState,
    /// Events written since the gateway started.
    pub written: u64,
    /// Events refused by the target, which became dead letters, since the gateway started.
    pub rejected: u64,
    /// Failed attempts since the gateway started.
    pub failures: u64,
    /// The next log offset to be written.
    pub next_offset: u64,
}

/// The status of one sink, written by its task.
#[derive(Debug)]
pub(super) struct Board {
    status: Mutex<SinkStatus>,
}

impl Board {
    pub(super) fn new(name: &str, kind: &'static str, consumer: &str) -> Self {
        metrics::gauge!("gateway_sink_up", "sink" => name.to_owned()).set(0.0);
        let status = SinkStatus {
            name: name.into(),
            kind,
            consumer: consumer.into(),
            state: SinkState::Starting,
            written: 0,
            rejected: 0,
            failures: 0,
            next_offset: 0,
        };
        Self { status: Mutex::new(status) }
    }

    pub(super) fn read(&self) -> SinkStatus {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, SinkStatus> {
        // Every change is complete before it can panic.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, state: SinkState) {
        let mut status = self.lock();
        if status.state.as_str() == state.as_str() {
            if let (SinkState::Down { error, .. }, SinkState::Down { error: new, .. }) =
                (&mut status.state, state)
            {
                *error = new;
            }
            return;
        }
        let (sink, now, before) = (&*status.name, state.as_str(), status.state.as_str());
        match &state {
            SinkState::Down { error, .. } | SinkState::Ended { error } => {
                tracing::warn!(sink, %error, "the sink is {now}");
            }
            _ => tracing::info!(sink, before, "the sink is {now}"),
        }
        let up = f64::from(u8::from(state == SinkState::Up));
        metrics::gauge!("gateway_sink_up", "sink" => sink.to_owned()).set(up);
        status.state = state;
    }

    pub(super) fn failed(&self, outage: &Outage, now_ms: u64) {
        let sink = {
            let mut status = self.lock();
            status.failures += 1;
            String::from(&*status.name)
        };
        metrics::counter!("gateway_sink_failures_total", "sink" => sink, "reason" => outage.kind.as_str())
            .increment(1);
        self.set(SinkState::Down { since_ms: now_ms, error: outage.message.clone() });
    }

    pub(super) fn wrote(&self, events: u64, begun: Instant) {
        let mut status = self.lock();
        status.written += events;
        let sink = String::from(&*status.name);
        drop(status);
        metrics::counter!("gateway_sink_written_total", "sink" => sink.clone()).increment(events);
        metrics::histogram!("gateway_sink_write_seconds", "sink" => sink)
            .record(begun.elapsed().as_secs_f64());
    }

    pub(super) fn rejected(&self) {
        let mut status = self.lock();
        status.rejected += 1;
        let sink = String::from(&*status.name);
        drop(status);
        metrics::counter!("gateway_sink_rejected_total", "sink" => sink).increment(1);
    }

    pub(super) fn at(&self, next_offset: u64) {
        self.lock().next_offset = next_offset;
    }
}

/// What the metrics of sinks mean.
pub(super) fn describe() {
    metrics::describe_gauge!("gateway_sink_up", "1 while a sink writes, or has nothing to write.");
    metrics::describe_counter!("gateway_sink_written_total", "Events that a sink has written.");
    metrics::describe_counter!(
        "gateway_sink_rejected_total",
        "Events that the target of a sink has refused for good; they are dead letters."
    );
    metrics::describe_counter!("gateway_sink_failures_total", "Attempts of a sink that failed, by reason.");
    metrics::describe_histogram!(
        "gateway_sink_write_seconds",
        metrics::Unit::Seconds,
        "How long a sink took to write one batch."
    );
}

//! What a consumer says of itself.

use super::handle::Consumer;
use super::manage::{Consumers, is_of_a_sink};
use super::worker::WorkerKind;
use crate::clock;
use crate::engine::{ConsumerEntry, ConsumerSpec, Engine};
use gateway_storage::Offset;

/// A consumer at one moment.
#[derive(Clone, Debug)]
pub struct ConsumerStatus {
    /// Its name.
    pub name: Box<str>,
    /// What it reads, and how.
    pub spec: ConsumerSpec,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Every event below this offset was looked at.
    pub read_to: u64,
    /// About how many events of the stream it has not handed out, those that its filter does not want included.
    pub lag_events: u64,
    /// About how many bytes of the stream they take.
    pub lag_bytes: u64,
    /// How long ago the oldest event that is not settled was first handed out, in milliseconds; 0: there is none.
    pub oldest_age_ms: u64,
    /// Events handed out, or failed, and not settled.
    pub open: u64,
    /// Events read ahead.
    pub ready: u64,
    /// Who takes part.
    pub workers: Vec<WorkerStatus>,
    /// Hand-outs.
    pub handed_out: u64,
    /// Of these, of events that were handed out before.
    pub redeliveries: u64,
    /// Events acknowledged.
    pub acked: u64,
    /// Of these since the start, after their lease was over.
    pub acked_late: u64,
    /// Events that became dead letters.
    pub dead_lettered: u64,
    /// Events that have expired.
    pub expired: u64,
    /// Events that the log could not read back.
    pub lost: u64,
    /// Events that the stream's retention took away before they were settled, as far as it can be told.
    pub missed: u64,
    /// Dead letters that it has now.
    pub dead_letters: u64,
    /// Bytes that they take.
    pub dead_letter_bytes: u64,
    /// Nothing is handed out, as somebody asked for.
    pub paused: bool,
    /// How it is.
    pub state: ConsumerCondition,
}

/// A worker at one moment.
#[derive(Clone, Debug)]
pub struct WorkerStatus {
    /// Its name: a Client Identifier, or what the request or the sink said.
    pub name: Box<str>,
    /// By which way it takes part.
    pub kind: WorkerKind,
    /// Events that it has and that are not settled.
    pub leased: u32,
    /// Events that it has acknowledged in time.
    pub acked: u64,
    /// Events that it failed at.
    pub failed: u64,
}

/// How a consumer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerCondition {
    /// It has workers, or nothing to do.
    Running,
    /// There is something to do and nobody takes part.
    Idle,
    /// Nothing is handed out, as somebody asked for.
    Paused,
    /// There is no such stream any more.
    StreamMissing,
    /// Hand-outs are not durable: the log takes nothing.
    Unclaimed,
    /// The log does not give what is due.
    Unreadable,
}

impl ConsumerCondition {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Idle => "idle",
            Self::Paused => "paused",
            Self::StreamMissing => "stream_missing",
            Self::Unclaimed => "unclaimed",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Consumers {
    /// All consumers, those of sinks included, by name.
    #[must_use]
    pub fn list(&self) -> Vec<ConsumerStatus> {
        self.engine().consumers().iter().filter_map(|entry| self.status(&entry.name)).collect()
    }

    /// One consumer.
    #[must_use]
    pub fn status(&self, name: &str) -> Option<ConsumerStatus> {
        if is_of_a_sink(name) {
            return self.engine().consumer(name).map(|entry| status_of_a_sink(self.engine(), &entry));
        }
        status(self.engine(), &self.get(name)?)
    }
}

/// A consumer that a sink reads for: all there is to say of it stands in the view.
fn status_of_a_sink(engine: &Engine, entry: &ConsumerEntry) -> ConsumerStatus {
    let letters = engine.dead_letter_usage(&entry.name);
    let durable = entry.state();
    let spec = durable.spec.clone();
    let stream = engine.stream_id(&spec.stream);
    let (lag_bytes, lag_events) = stream.map_or((0, 0), |stream| lag(engine, stream, durable.read_to));
    let state = match () {
        () if stream.is_none() => ConsumerCondition::StreamMissing,
        () if spec.paused => ConsumerCondition::Paused,
        // A sink that stands in the configuration no more.
        () if !spec.configured => ConsumerCondition::Idle,
        () => ConsumerCondition::Running,
    };
    ConsumerStatus {
        name: entry.name.clone(),
        paused: spec.paused,
        spec,
        created_ms: durable.created_ms,
        read_to: durable.read_to,
        lag_events,
        lag_bytes,
        oldest_age_ms: 0, // What it writes is not handed out.
        open: durable.open.len() as u64,
        ready: 0,
        workers: Vec::new(),
        handed_out: durable.handed_out,
        redeliveries: durable.redelivered,
        acked: durable.acked,
        acked_late: 0,
        dead_lettered: durable.dead_lettered,
        expired: durable.expired,
        lost: durable.lost,
        missed: durable.missed,
        dead_letters: letters.count,
        dead_letter_bytes: letters.bytes,
        state,
    }
}

fn status(engine: &Engine, consumer: &Consumer) -> Option<ConsumerStatus> {
    let entry = engine.consumer(consumer.name())?;
    let letters = engine.dead_letter_usage(consumer.name());
    let stream = engine.stream_id(&entry.state().spec.stream);
    let inner = consumer.shared.lock();
    let (open, ready, first_ms) = inner.core.counts();
    let (lag_bytes, behind) = stream.map_or((0, 0), |stream| lag(engine, stream, inner.core.scanned()));
    let workers: Vec<WorkerStatus> = inner
        .core
        .worker_figures()
        .filter_map(|(id, name, leased, acked, failed)| {
            let kind = inner.seats.get(&id)?.kind;
            Some(WorkerStatus { name: name.into(), kind, leased, acked, failed })
        })
        .collect();
    let has_work = behind > 0 || ready > 0 || open > 0;
    let state = match () {
        () if stream.is_none() => ConsumerCondition::StreamMissing,
        () if inner.unreadable => ConsumerCondition::Unreadable,
        () if inner.core.is_unclaimed() => ConsumerCondition::Unclaimed,
        () if inner.spec.paused => ConsumerCondition::Paused,
        () if has_work && workers.is_empty() => ConsumerCondition::Idle,
        () => ConsumerCondition::Running,
    };
    let acked_late = inner.core.totals().acked_late;
    let spec = inner.spec.clone();
    let read_to = inner.core.read_to();
    drop(inner);
    let durable = entry.state();
    Some(ConsumerStatus {
        name: entry.name.clone(),
        paused: spec.paused,
        spec,
        created_ms: durable.created_ms,
        read_to,
        lag_events: behind + ready as u64,
        lag_bytes,
        oldest_age_ms: first_ms.map_or(0, |first_ms| clock::unix_ms().saturating_sub(first_ms)),
        open: open as u64,
        ready: ready as u64,
        workers,
        handed_out: durable.handed_out,
        redeliveries: durable.redelivered,
        acked: durable.acked,
        acked_late,
        dead_lettered: durable.dead_lettered,
        expired: durable.expired,
        lost: durable.lost,
        missed: durable.missed,
        dead_letters: letters.count,
        dead_letter_bytes: letters.bytes,
        state,
    })
}

/// About how many bytes and events of a stream lie at or behind an offset.
fn lag(engine: &Engine, stream: u64, from: u64) -> (u64, u64) {
    let end = engine.end();
    let (bytes, events) = engine.stream_before(stream, end);
    let (bytes_before, events_before) = engine.stream_before(stream, Offset::new(from));
    let entries = end.get().saturating_sub(from);
    (bytes.saturating_sub(bytes_before), events.saturating_sub(events_before).min(entries))
}

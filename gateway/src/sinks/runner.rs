//! The task of one sink: it reads its stream in order, writes batch after batch, and moves its consumer's place in the log.
//!
//! Events stay in the log until they are written; memory holds one batch. The place that counts is the target's own, where it keeps one
//! (that is what makes PostgreSQL exact), otherwise the consumer's, which follows each batch as an entry of the log: a batch that
//! was written just before the gateway died is written again then.
//!
//! What the target refuses for good is found by halving the batch, and becomes a dead letter of the consumer before the sink goes on.

use super::batch::{BatchLimits, Gathered};
use super::breaker::Breaker;
use super::status::{Board, SinkState};
use super::target::{Failure, Outage, OutageKind, Row, Target};
use super::traced::Traced;
use crate::clock;
use crate::engine::{
    Cause, ConsumerEntry, ConsumerSpec, DeadLetter, Engine, LetterFacts, OffsetRuns, Progress, Unavailable,
};
use crate::spans::Spans;
use crate::stream::{From, StreamAddress, StreamCursor};
use gateway_protocol::{QoS, TopicFilter};
use gateway_storage::{Entry, Offset, Staging, Urgency};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often a sink that has nothing to write looks for dead letters to write again, and whether it is paused.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Runs of offsets that may wait for the log to take entries again.
const RUNS_MAX: usize = 4096;
/// How long to wait when the log takes no entries.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// One sink.
pub(super) struct Runner<T> {
    engine: Engine,
    consumer: Arc<ConsumerEntry>,
    target: T,
    limits: BatchLimits,
    board: Arc<Board>,
    stop: watch::Receiver<bool>,
    spans: Spans,
    /// What is done and was not taken by the log yet. `read_to` is how far this task has come, whatever the log knows of it.
    done: Progress,
    /// Redriven letters that are written, until the view knows.
    late: BTreeSet<u64>,
}

/// Why a turn ended.
enum Stop {
    /// The target has to be opened anew.
    Outage(Outage),
    /// The log takes nothing, or cannot be read.
    Log(String),
    /// The consumer begins elsewhere, or reads something else.
    Changed,
    /// The sink is no more.
    Ended(String),
}

impl std::convert::From<Outage> for Stop {
    fn from(outage: Outage) -> Self {
        Self::Outage(outage)
    }
}

impl std::convert::From<Unavailable> for Stop {
    fn from(error: Unavailable) -> Self {
        Self::Log(error.to_string())
    }
}

impl<T: Target> Runner<T> {
    /// For `target`, from where `consumer` stands; `stop` ends it.
    pub(super) fn new(
        engine: Engine,
        consumer: Arc<ConsumerEntry>,
        target: T,
        limits: BatchLimits,
        board: Arc<Board>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let (done, late) = (Progress::default(), BTreeSet::new());
        Self { engine, consumer, target, limits, board, stop, spans: Spans::default(), done, late }
    }

    /// What is traced of it has `spans`.
    pub(super) fn traced(self, spans: Spans) -> Self {
        Self { spans, ..self }
    }

    /// Until the gateway stops, or the sink's consumer is removed.
    pub(super) async fn run(mut self) {
        let mut stop = self.stop.clone();
        let mut breaker = Breaker::default();
        loop {
            let turn = tokio::select! {
                _ = stop.wait_for(|stopped| *stopped) => return,
                turn = self.turn(&mut breaker) => turn,
            };
            let pause = match turn {
                Stop::Outage(outage) => {
                    self.board.failed(&outage, clock::unix_ms());
                    breaker.failed(&outage, jitter())
                }
                Stop::Log(reason) => {
                    let sink = &*self.consumer.name;
                    tracing::warn!(sink, %reason, "a sink cannot go on for now");
                    self.board.set(SinkState::Down { since_ms: clock::unix_ms(), error: reason.clone() });
                    LOG_PAUSE
                }
                Stop::Changed => continue,
                Stop::Ended(error) => return self.board.set(SinkState::Ended { error }),
            };
            tokio::select! {
                _ = stop.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// From opening the target until something breaks.
    async fn turn(&mut self, breaker: &mut Breaker) -> Stop {
        match self.write_on(breaker).await {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    async fn write_on(&mut self, breaker: &mut Breaker) -> Result<std::convert::Infallible, Stop> {
        let spec = self.consumer.state().spec.clone();
        self.wait_while_paused().await?;
        let kept = self.target.open(spec.generation).await?;
        let own = self.reached();
        // A target that knows nothing yet begins where the consumer does.
        let start = kept.map_or(own, |kept| kept.max(Offset::new(spec.start)));
        let mut cursor = self.cursor(&spec, start)?;
        let mut gathered = Gathered::new(start);
        self.board.at(start.get());
        loop {
            self.late(breaker).await?;
            let limits = match breaker.is_open() {
                // Whether it takes anything at all is asked with as little as possible.
                true => BatchLimits { events: 1, ..self.limits },
                false => self.limits,
            };
            let now_ms = clock::unix_ms();
            let (engine, target) = (&self.engine, &mut self.target);
            let filled = tokio::select! {
                biased;
                filled = poll_fn(|cx| gathered.poll_fill(engine, &mut cursor, limits, now_ms, cx)) => Some(filled),
                outage = target.lost() => return Err(outage.into()),
                () = tokio::time::sleep(LOOK_EVERY) => None,
            };
            match filled {
                Some(Ok(())) => {
                    self.write(&gathered, breaker).await?;
                    gathered.clear();
                }
                Some(Err(_)) => return Err(Stop::Log("the log cannot be read".into())),
                // What it looked at and did not want is behind it as well.
                None => {
                    self.board.set(SinkState::Up);
                    if let Some(at) = cursor.position().filter(|at| *at > gathered.next) {
                        gathered.next = at;
                        self.advance(at, &OffsetRuns::default(), 0).await?;
                    }
                }
            }
            self.look_at_spec(&spec).await?;
        }
    }

    fn cursor(&self, spec: &ConsumerSpec, start: Offset) -> Result<StreamCursor, Stop> {
        let Ok(filter) = TopicFilter::parse(&spec.filter) else {
            return Err(Stop::Ended("its filter is not a Topic Filter".into()));
        };
        let address = StreamAddress { name: &spec.stream, from: From::Offset(start), filter };
        StreamCursor::open(
            &self.engine,
            &self.consumer.name,
            &self.consumer.name,
            &address,
            QoS::AtLeastOnce,
            0,
        )
        .ok_or_else(|| Stop::Ended(format!("there is no stream {}", spec.stream)))
    }

    async fn look_at_spec(&mut self, known: &ConsumerSpec) -> Result<(), Stop> {
        self.wait_while_paused().await?;
        let state = self.consumer.state();
        let is_same = state.spec.generation == known.generation
            && state.spec.filter == known.filter
            && state.spec.stream == known.stream;
        if is_same { Ok(()) } else { Err(Stop::Changed) }
    }

    async fn wait_while_paused(&self) -> Result<(), Stop> {
        loop {
            if self.consumer.is_removed() {
                return Err(Stop::Ended("its consumer was removed".into()));
            }
            if !self.consumer.state().spec.paused {
                return Ok(());
            }
            self.board.set(SinkState::Paused);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Writes a batch, in as many parts as it takes to find what is refused, and says in the log how far the consumer is.
    async fn write(&mut self, gathered: &Gathered, breaker: &mut Breaker) -> Result<(), Stop> {
        let rows = gathered.rows();
        let mut traced = Traced::begin(&self.spans, &self.consumer.name, &rows);
        let mut written = OffsetRuns::default();
        let whole = 0..rows.len();
        // The part to be tried next is the last one.
        let mut parts: Vec<Range<usize>> = vec![whole];
        while let Some(part) = parts.pop() {
            let next = rows.get(part.end).map_or(gathered.next, |row| row.offset);
            let Some(batch) = rows.get(part.clone()) else { continue };
            let begun = Instant::now();
            match self.target.write(batch, next).await {
                Ok(()) => {
                    breaker.succeeded();
                    self.board.set(SinkState::Up);
                    self.board.wrote(batch.len() as u64, begun);
                    traced.written(batch);
                    for row in batch {
                        written.insert(row.offset.get());
                    }
                }
                Err(Failure::Outage(outage)) => {
                    traced.failed(outage.kind.as_str());
                    // What was written of it stays written.
                    self.advance(batch.first().map_or(next, |row| row.offset), &written, 0).await?;
                    return Err(outage.into());
                }
                Err(Failure::Refused(reason)) => match batch {
                    [] => return Err(Outage::new(OutageKind::Server, reason).into()),
                    [row] => {
                        self.bury(row, &reason).await?;
                        traced.refused(row);
                        // A target that keeps its place has to pass over it.
                        parts.push(part.end..part.end);
                    }
                    _ => {
                        let middle = part.start + part.len() / 2;
                        parts.push(middle..part.end);
                        parts.push(part.start..middle);
                    }
                },
            }
        }
        self.board.at(gathered.next.get());
        self.advance(gathered.next, &written, gathered.expired).await
    }

    /// Where it goes on: what the log knows, or what this task knows better.
    fn reached(&self) -> Offset {
        let state = self.consumer.state();
        let own = if self.done.generation == state.spec.generation { self.done.read_to } else { 0 };
        Offset::new(state.read_to.max(own))
    }

    /// Says in the log how far the consumer is. Not waited for: what is lost of it with the process is written again, or known by the target.
    /// While the log takes nothing the sink goes on, as long as what is to be said stays small.
    async fn advance(&mut self, next: Offset, acked: &OffsetRuns, expired: u64) -> Result<(), Stop> {
        let generation = self.consumer.state().spec.generation;
        if self.done.generation != generation {
            self.done = Progress { generation, ..Progress::default() };
        }
        self.done.read_to = self.done.read_to.max(next.get());
        self.done.expired += expired;
        for (first, len) in acked.runs() {
            (first..first.saturating_add(len)).for_each(|offset| self.done.acked.insert(offset));
        }
        match self.say().await {
            Err(_) if self.done.acked.runs().count() < RUNS_MAX => Ok(()),
            said => said,
        }
    }

    async fn say(&mut self) -> Result<(), Stop> {
        if self.engine.is_poisoned() {
            return Err(Unavailable.into());
        }
        let mut staging = Staging::new();
        let (name, at_ms) = (&*self.consumer.name, clock::unix_ms());
        let progress = self.done.encode();
        let entry = Entry::ConsumerProgress { name, at_ms, progress: &progress };
        staging.push(&entry).map_err(|error| Stop::Log(error.to_string()))?;
        self.engine.submit_soon(&mut staging, Urgency::Lazy).await?;
        self.done.acked.clear();
        self.done.expired = 0;
        Ok(())
    }

    /// Makes a dead letter of an event that the target refuses.
    async fn bury(&self, row: &Row<'_>, reason: &str) -> Result<(), Stop> {
        let facts = LetterFacts {
            cause: Cause::Rejected(0),
            failure: None,
            attempts: 1,
            first_ms: clock::unix_ms(),
            worker: &self.consumer.name,
            note: reason,
        };
        let letter = DeadLetter::new(row.offset.get(), &facts, &row.event).encode();
        let mut staging = Staging::new();
        let (name, at_ms) = (&*self.consumer.name, clock::unix_ms());
        let entry = Entry::DeadLettered { name, at_ms, letter: &letter };
        staging.push(&entry).map_err(|error| Stop::Log(error.to_string()))?;
        self.engine.store(&mut staging).await?;
        self.engine.record_dead_letter(name, row.offset.get());
        self.board.rejected();
        tracing::warn!(sink = name, offset = %row.offset, reason, "the target refuses an event; it is a dead letter");
        Ok(())
    }

    /// Writes dead letters that are to be tried again and whose time has come.
    async fn late(&mut self, breaker: &mut Breaker) -> Result<(), Stop> {
        let due: Vec<u64> = {
            let (state, now_ms) = (self.consumer.state(), clock::unix_ms());
            self.late.retain(|offset| state.open.contains_key(offset));
            let is_due =
                |(_, item): &(&u64, &crate::engine::OpenItem)| item.is_letter && item.due_ms <= now_ms;
            let due = state.open.iter().filter(is_due).map(|(offset, _)| *offset);
            due.filter(|offset| !self.late.contains(offset)).take(self.limits.events).collect()
        };
        for offset in due {
            let letter = self.engine.dead_letter(&self.consumer.name, offset);
            if let Some(letter) = letter {
                let event = letter.event();
                let row = Row { offset: Offset::new(offset), time_ms: event.received_ms, event };
                let mut traced = Traced::begin(&self.spans, &self.consumer.name, std::slice::from_ref(&row));
                let begun = Instant::now();
                match self.target.write_late(&row).await {
                    Ok(()) => {
                        breaker.succeeded();
                        self.board.wrote(1, begun);
                        traced.written(std::slice::from_ref(&row));
                    }
                    Err(Failure::Outage(outage)) => {
                        traced.failed(outage.kind.as_str());
                        return Err(outage.into());
                    }
                    Err(Failure::Refused(reason)) => {
                        traced.refused(&row);
                        self.bury(&row, &reason).await?;
                        continue;
                    }
                }
            }
            self.late.insert(offset);
            self.advance(self.reached(), &std::iter::once(offset).collect(), 0).await?;
        }
        Ok(())
    }
}

/// From 0 to 1; chance of the poorer kind is enough.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(clock::unix_ms());
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

//! Sinks: streams written to other systems, each by one task that is a durable consumer of its stream.
//!
//! What a sink promises is what a consumer promises: what was acknowledged to a publisher reaches the target, in the order of the log,
//! however often gateway, target and network fail in between; at least once, and exactly once where the target keeps the place
//! (PostgreSQL). A target that takes nothing costs disk, never memory: the events stay in the log, as long as their stream keeps them. What
//! a target refuses for good becomes a dead letter of the sink's consumer, which is named `sink/<name>`.
//!
//! `target` is the seam, `webhook` and `postgres` are behind it; `runner` is the task; `batch` is what it has read. It refuses to know
//! MQTT connections and the other workers of consumers.

mod batch;
mod breaker;
mod postgres;
mod runner;
mod status;
mod target;
#[cfg(test)]
mod tests;
mod traced;
mod webhook;

pub use status::{SinkState, SinkStatus};

use crate::clock;
use crate::config::{ConsumerStart, SinkConfig, SinkTarget};
use crate::consumer::SINK_PREFIX;
use crate::engine::{ConsumerEntry, ConsumerSpec, Engine, Order};
use crate::spans::Spans;
use batch::BatchLimits;
use gateway_storage::{Entry, Staging};
use postgres::Postgres;
use runner::Runner;
use status::Board;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use webhook::Webhook;

/// All sinks of the gateway.
#[derive(Clone)]
pub struct Sinks {
    boards: Arc<[Arc<Board>]>,
}

/// A sink cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SinkStartError {
    /// Its consumer cannot be made.
    #[error("the sink {name} has no consumer: {reason}")]
    Consumer {
        /// The sink.
        name: Box<str>,
        /// Why not.
        reason: String,
    },
    /// The certificates of those that it trusts cannot be read.
    #[error("the sink {name} cannot read the certificates of those that it trusts: {source}")]
    Certificates {
        /// The sink.
        name: Box<str>,
        /// Why not.
        source: std::io::Error,
    },
}

impl Sinks {
    /// Makes or alters their consumers and starts a task for each, into `tasks`; they end when `stop` says so. What is traced of what they write has
    /// `spans`.
    ///
    /// # Errors
    /// [`SinkStartError`]; what was started goes on until `tasks` is dropped.
    pub async fn start(
        engine: &Engine,
        configs: &[SinkConfig],
        spans: &Spans,
        stop: &watch::Receiver<bool>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, SinkStartError> {
        status::describe();
        for consumer in engine.consumers() {
            let sink = consumer.name.strip_prefix(SINK_PREFIX);
            if sink.is_some_and(|sink| !configs.iter().any(|config| config.name == sink)) {
                let spec = consumer.state().spec.clone();
                let noted = match spec.configured {
                    true => set(engine, &consumer.name, &ConsumerSpec { configured: false, ..spec }).await,
                    false => Ok(()),
                };
                tracing::warn!(
                    consumer = %consumer.name, error = noted.err().map(tracing::field::display),
                    "a sink stands in the configuration no more; its consumer stays until it is deleted"
                );
            }
        }
        let mut boards = Vec::new();
        for config in configs {
            let consumer = consumer(engine, config).await?;
            let board = Arc::new(Board::new(&config.name, config.target.kind(), &consumer.name));
            boards.push(board.clone());
            let limits = BatchLimits { events: config.batch_events, bytes: config.batch_bytes };
            let (engine, stop) = (engine.clone(), stop.clone());
            match &config.target {
                SinkTarget::Webhook(options) => {
                    let target = Webhook::new(&config.name, options.clone()).map_err(|source| {
                        SinkStartError::Certificates { name: config.name.as_str().into(), source }
                    })?;
                    tasks.spawn(
                        Runner::new(engine, consumer, target, limits, board, stop)
                            .traced(spans.clone())
                            .run(),
                    );
                }
                SinkTarget::Postgres(options) => {
                    let target = Postgres::new(&config.name, (**options).clone()).map_err(|source| {
                        SinkStartError::Certificates { name: config.name.as_str().into(), source }
                    })?;
                    tasks.spawn(
                        Runner::new(engine, consumer, target, limits, board, stop)
                            .traced(spans.clone())
                            .run(),
                    );
                }
            }
        }
        Ok(Self { boards: boards.into() })
    }

    /// How each of them is doing, in the order of the configuration.
    #[must_use]
    pub fn list(&self) -> Vec<SinkStatus> {
        self.boards.iter().map(|board| board.read()).collect()
    }
}

/// The consumer of a sink, made where there is none, altered where the configuration says something else.
async fn consumer(engine: &Engine, config: &SinkConfig) -> Result<Arc<ConsumerEntry>, SinkStartError> {
    let name = [SINK_PREFIX, &config.name].concat();
    let failed = |reason: String| SinkStartError::Consumer { name: config.name.as_str().into(), reason };
    let known = engine.consumer(&name).map(|consumer| consumer.state().spec.clone());
    let is_same = known.as_ref().is_some_and(|known| {
        known.configured && *known.stream == *config.stream && *known.filter == *config.filter
    });
    if !is_same {
        // Another filter on the same stream goes on from where it is; another stream begins anew.
        let paused = known.as_ref().is_some_and(|known| known.paused);
        let goes_on = known.filter(|known| *known.stream == *config.stream);
        let (start, generation) = match goes_on {
            Some(known) => (known.start, known.generation),
            None => (start(engine, config).await.map_err(failed)?, clock::unix_ms()),
        };
        let spec = ConsumerSpec {
            stream: config.stream.as_str().into(),
            filter: config.filter.as_str().into(),
            start,
            ack_wait_ms: 0,
            max_deliver: 1,
            backoff_ms: Vec::new(),
            max_ack_pending: u32::try_from(config.batch_events).unwrap_or(u32::MAX),
            order: Order::Key,
            paused,
            configured: true,
            generation,
        };
        set(engine, &name, &spec).await.map_err(failed)?;
    }
    engine.consumer(&name).ok_or_else(|| failed("there are as many consumers as there may be".into()))
}

async fn set(engine: &Engine, name: &str, spec: &ConsumerSpec) -> Result<(), String> {
    let mut staging = Staging::new();
    let entry = Entry::ConsumerSet { name, at_ms: clock::unix_ms(), spec: &spec.encode() };
    staging.push(&entry).map_err(|error| error.to_string())?;
    engine.store(&mut staging).await.map_err(|error| error.to_string())
}

async fn start(engine: &Engine, config: &SinkConfig) -> Result<u64, String> {
    let time_ms = match config.from {
        ConsumerStart::Latest => return Ok(engine.end().get()),
        ConsumerStart::Earliest => return Ok(engine.log().bounds().0.get()),
        ConsumerStart::Offset(offset) => return Ok(offset),
        ConsumerStart::Time(time_ms) => time_ms,
        ConsumerStart::Ago(span) => {
            clock::unix_ms().saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
        }
    };
    let log = engine.log().clone();
    let found = tokio::task::spawn_blocking(move || log.offset_at(time_ms)).await;
    Ok(found.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?.get())
}

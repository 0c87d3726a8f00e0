//! All consumers of this gateway: making, altering and removing them. What returns `Ok` is durable.

use super::core::Core;
use super::driver::Driver;
use super::handle::Consumer;
use super::shared::{Inner, Shared};
use super::worker::Ended;
use crate::admission::Pressure;
use crate::clock;
use crate::engine::{ConsumerEntry, ConsumerSpec, Engine, Order, is_consumer_name};
use crate::stream::From;
use gateway_protocol::TopicFilter;
use gateway_storage::{Entry, Staging};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Bounds of consumers.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerLimits {
    /// Workers of one consumer.
    pub workers_max: usize,
    /// A worker that lets a lease run out and is not heard of for so many times `ack_wait` is ended; 0: never.
    pub hang_limit: u32,
    /// Bytes of events that each consumer reads ahead.
    pub read_ahead_bytes: usize,
}

impl Default for ConsumerLimits {
    fn default() -> Self {
        Self { workers_max: 1000, hang_limit: 3, read_ahead_bytes: 1 << 20 }
    }
}

/// A consumer as somebody asks for it.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// The name of its stream.
    pub stream: Box<str>,
    /// Topic Filter: which of the stream's events it wants.
    pub filter: Box<str>,
    /// Where it begins.
    pub from: From,
    /// How long a worker may have an event without a word, in milliseconds; not 0.
    pub ack_wait_ms: u64,
    /// Attempts before an event becomes a dead letter; 0: it never does.
    pub max_deliver: u32,
    /// The wait after the nth failure in milliseconds; the last one repeats. Empty: at once.
    pub backoff_ms: Vec<u64>,
    /// Events that may be open at one time; not 0.
    pub max_ack_pending: u32,
    /// Which may be under way at the same time.
    pub order: Order,
    /// It stands in the configuration.
    pub configured: bool,
}

/// What is to be different; `None`: nothing of that.
#[derive(Clone, Debug, Default)]
pub struct ConsumerChanges {
    /// Which of the stream's events it wants, from where it has read to.
    pub filter: Option<Box<str>>,
    /// See [`ConsumerOptions`].
    pub ack_wait_ms: Option<u64>,
    /// See [`ConsumerOptions`].
    pub max_deliver: Option<u32>,
    /// See [`ConsumerOptions`].
    pub backoff_ms: Option<Vec<u64>>,
    /// See [`ConsumerOptions`].
    pub max_ack_pending: Option<u32>,
    /// See [`ConsumerOptions`].
    pub order: Option<Order>,
    /// Whether it stands in the configuration.
    pub configured: Option<bool>,
    /// Whether nothing is handed out.
    pub paused: Option<bool>,
}

/// What was asked for is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    /// There is no such consumer.
    #[error("there is no such consumer")]
    NotFound,
    /// There is one of that name.
    #[error("there is a consumer of that name")]
    Exists,
    /// There is no such stream.
    #[error("there is no such stream")]
    NoStream,
    /// The name, the filter or a number is not one that may be.
    #[error("{0}")]
    Invalid(&'static str),
    /// There are as many consumers as there may be.
    #[error("there are as many consumers as there may be")]
    TooMany,
    /// The log takes nothing, or cannot be read, at the moment.
    #[error("the log is not available at the moment")]
    Unavailable,
}

impl std::convert::From<crate::engine::Unavailable> for ConsumerError {
    fn from(_: crate::engine::Unavailable) -> Self {
        Self::Unavailable
    }
}

struct Running {
    consumer: Consumer,
    task: JoinHandle<()>,
}

struct All {
    engine: Engine,
    limits: ConsumerLimits,
    runtime: Handle,
    running: RwLock<HashMap<Box<str>, Running>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    is_over: AtomicBool,
    /// How pressed the gateway is, once that is known.
    pressure: OnceLock<Arc<Pressure>>,
}

/// What the names of sinks' consumers begin with.
pub const SINK_PREFIX: &str = "sink/";

/// Whether a sink reads for it, so that nobody else may.
pub(super) fn is_of_a_sink(name: &str) -> bool {
    name.starts_with(SINK_PREFIX)
}

/// All consumers of this gateway; cheap to clone.
#[derive(Clone)]
pub struct Consumers(Arc<All>);

/// How often it is looked whether what waits for less pressure may go on.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl Consumers {
    /// From now on what can wait waits while `pressure` is high; the first one counts.
    pub fn heed(&self, pressure: Arc<Pressure>) {
        let _ = self.0.pressure.set(pressure);
    }

    /// Waits until the pressure is low enough for what can wait.
    pub(super) async fn relieved(&self) {
        while self.0.pressure.get().is_some_and(|pressure| pressure.pauses_replay()) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Goes on with the consumers that the view has. To be called inside a tokio runtime.
    #[must_use]
    pub fn start(engine: Engine, limits: ConsumerLimits) -> Self {
        let consumers = Self(Arc::new(All {
            limits,
            runtime: Handle::current(),
            running: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            tasks: Mutex::default(),
            is_over: AtomicBool::new(false),
            pressure: OnceLock::new(),
            engine,
        }));
        for entry in consumers.0.engine.consumers() {
            if !is_of_a_sink(&entry.name) {
                consumers.run(&entry);
            }
        }
        consumers
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Makes or alters what stands in the configuration, and notes what stands there no more.
    pub async fn configure(&self, configured: Vec<(Box<str>, ConsumerOptions)>) {
        for entry in self.0.engine.consumers() {
            let is_gone = !configured.iter().any(|(name, _)| *name == entry.name);
            if is_gone && entry.state().spec.configured && !is_of_a_sink(&entry.name) {
                let changes = ConsumerChanges { configured: Some(false), ..ConsumerChanges::default() };
                let altered = self.alter(&entry.name, changes).await;
                tracing::warn!(
                    consumer = %entry.name, error = altered.err().map(tracing::field::display),
                    "a consumer stands in the configuration no more; it stays until it is deleted"
                );
            }
        }
        for (name, options) in configured {
            let done = match self.0.engine.consumer(&name).map(|entry| entry.state().spec.stream.clone()) {
                None => self.create(&name, options).await,
                Some(stream) if stream != options.stream => {
                    Err(ConsumerError::Invalid("it reads another stream: delete it first"))
                }
                Some(_) => self.alter(&name, ConsumerChanges::all_of(options)).await,
            };
            if let Err(error) = done {
                tracing::error!(consumer = %name, %error, "a configured consumer is not as it should be");
            }
        }
    }

    /// The consumer of this name, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Consumer> {
        let running = self.0.running.read().unwrap_or_else(PoisonError::into_inner);
        running.get(name).map(|running| running.consumer.clone())
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<Consumer> {
        let running = self.0.running.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Consumer> = running.values().map(|running| running.consumer.clone()).collect();
        all.sort_by(|one, other| one.name().cmp(other.name()));
        all
    }

    /// Makes a consumer.
    ///
    /// # Errors
    /// [`ConsumerError`].
    pub async fn create(&self, name: &str, options: ConsumerOptions) -> Result<(), ConsumerError> {
        let _changing = self.0.changing.lock().await;
        if !is_consumer_name(name) {
            return Err(ConsumerError::Invalid("a consumer's name is 1 to 128 of a-z, 0-9, -, _ and /"));
        }
        if is_of_a_sink(name) {
            return Err(ConsumerError::Invalid("names that begin with sink/ are those of sinks"));
        }
        if self.0.engine.consumer(name).is_some() {
            return Err(ConsumerError::Exists);
        }
        if self.0.engine.stream_id(&options.stream).is_none() {
            return Err(ConsumerError::NoStream);
        }
        let start = self.resolve(&options.stream, options.from).await?;
        let spec = ConsumerSpec {
            stream: options.stream,
            filter: options.filter,
            start,
            ack_wait_ms: options.ack_wait_ms,
            max_deliver: options.max_deliver,
            backoff_ms: options.backoff_ms,
            max_ack_pending: options.max_ack_pending,
            order: options.order,
            paused: false,
            configured: options.configured,
            generation: 0,
        };
        self.set(name, spec).await?;
        let entry = self.0.engine.consumer(name).ok_or(ConsumerError::TooMany)?;
        self.run(&entry);
        Ok(())
    }

    /// Alters a consumer. What is open stays open.
    ///
    /// # Errors
    /// [`ConsumerError`].
    pub async fn alter(&self, name: &str, changes: ConsumerChanges) -> Result<(), ConsumerError> {
        let _changing = self.0.changing.lock().await;
        let entry = self.0.engine.consumer(name).ok_or(ConsumerError::NotFound)?;
        if is_of_a_sink(name) && changes.are_more_than_a_pause() {
            return Err(ConsumerError::Invalid(
                "what the consumer of a sink reads is said where the sink is",
            ));
        }
        let before = entry.state().spec.clone();
        let spec = changes.of(before.clone());
        if spec == before {
            return Ok(());
        }
        self.set(name, spec.clone()).await?;
        if let Some(consumer) = self.get(name) {
            let shared = &consumer.shared;
            shared.change(|inner| {
                if spec.filter != before.filter {
                    inner.core.forget_fresh(); // It is read again by the new one.
                }
                inner.core.set_rules(Shared::rules(&spec, &shared.limits), clock::unix_ms());
                inner.spec = spec;
            });
        }
        Ok(())
    }

    /// Hands out nothing until [`Consumers::resume`]. Leases run on.
    ///
    /// # Errors
    /// [`ConsumerError`].
    pub async fn pause(&self, name: &str) -> Result<(), ConsumerError> {
        self.alter(name, ConsumerChanges { paused: Some(true), ..ConsumerChanges::default() }).await
    }

    /// Hands out again.
    ///
    /// # Errors
    /// [`ConsumerError`].
    pub async fn resume(&self, name: &str) -> Result<(), ConsumerError> {
        self.alter(name, ConsumerChanges { paused: Some(false), ..ConsumerChanges::default() }).await
    }

    /// Begins anew at `from`; what is open is given up. Dead letters stay.
    ///
    /// # Errors
    /// [`ConsumerError`].
    pub async fn reset(&self, name: &str, from: From) -> Result<(), ConsumerError> {
        let _changing = self.0.changing.lock().await;
        let entry = self.0.engine.consumer(name).ok_or(ConsumerError::NotFound)?;
        let mut spec = entry.state().spec.clone();
        spec.start = self.resolve(&spec.stream, from).await?;
        spec.generation += 1;
        self.set(name, spec.clone()).await?;
        if let Some(consumer) = self.get(name) {
            consumer.shared.change(|inner| {
                inner.notes.clear();
                for seat in inner.seats.values_mut() {
                    seat.queue.clear();
                }
                inner.core.begin_anew(spec.start);
                inner.spec = spec;
            });
        }
        Ok(())
    }

    /// Removes a consumer, and its dead letters.
    ///
    /// # Errors
    /// [`ConsumerError`].
    pub async fn delete(&self, name: &str) -> Result<(), ConsumerError> {
        let _changing = self.0.changing.lock().await;
        if self.0.engine.consumer(name).is_none() {
            return Err(ConsumerError::NotFound);
        }
        let mut staging = Staging::new();
        stage(&mut staging, &Entry::ConsumerRemoved { name, at_ms: clock::unix_ms() })?;
        self.0.engine.store(&mut staging).await?;
        let running = self.0.running.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(running) = running {
            running.consumer.shared.end(Ended::Deleted);
        }
        Ok(())
    }

    /// Ends all of them; workers are told. What was said is on its way to the log.
    pub async fn shutdown(&self) {
        self.0.is_over.store(true, Ordering::Release);
        for consumer in self.all() {
            consumer.shared.end(Ended::ShutDown);
        }
        let running = std::mem::take(&mut *self.0.running.write().unwrap_or_else(PoisonError::into_inner));
        let mut tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.extend(running.into_values().map(|running| running.task));
        for task in tasks {
            // A panic was reported where it happened.
            let _ = task.await;
        }
    }

    async fn set(&self, name: &str, spec: ConsumerSpec) -> Result<(), ConsumerError> {
        if TopicFilter::parse(&spec.filter).is_err() {
            return Err(ConsumerError::Invalid("the filter is not a legal Topic Filter"));
        }
        // A sink has no leases.
        if !is_of_a_sink(name) && (spec.ack_wait_ms == 0 || spec.max_ack_pending == 0) {
            return Err(ConsumerError::Invalid("ack_wait and max_ack_pending are more than 0"));
        }
        let mut staging = Staging::new();
        let spec = spec.encode();
        stage(&mut staging, &Entry::ConsumerSet { name, at_ms: clock::unix_ms(), spec: &spec })?;
        Ok(self.0.engine.store(&mut staging).await?)
    }

    /// The offset that `from` means in a stream.
    async fn resolve(&self, stream: &str, from: From) -> Result<u64, ConsumerError> {
        let engine = &self.0.engine;
        let stream = engine.stream_id(stream).ok_or(ConsumerError::NoStream)?;
        let first = engine.stream_floor(stream).max(engine.log().bounds().0);
        let offset = match from {
            From::Earliest => first,
            From::Latest => engine.end(),
            From::Offset(offset) => offset,
            From::Time(time_ms) => {
                let log = engine.log().clone();
                let found = tokio::task::spawn_blocking(move || log.offset_at(time_ms)).await;
                found.ok().and_then(Result::ok).ok_or(ConsumerError::Unavailable)?
            }
        };
        Ok(offset.clamp(first, engine.end().max(first)).get())
    }

    fn run(&self, entry: &ConsumerEntry) {
        let limits = self.0.limits;
        let (spec, read_to, open) = {
            let state = entry.state();
            (state.spec.clone(), state.read_to, state.open.clone())
        };
        let rules = Shared::rules(&spec, &limits);
        let core = Core::restore(rules, read_to, open, clock::unix_ms());
        let shared = Arc::new(Shared::new(&entry.name, limits, Inner::new(core, spec)));
        let task = self.0.runtime.spawn(Driver::new(self.0.engine.clone(), shared.clone()).run());
        let running = Running { consumer: Consumer { shared }, task };
        let mut all = self.0.running.write().unwrap_or_else(PoisonError::into_inner);
        if self.0.is_over.load(Ordering::Acquire) {
            running.consumer.shared.end(Ended::ShutDown);
        }
        if let Some(before) = all.insert(entry.name.clone(), running) {
            before.consumer.shared.end(Ended::Deleted);
            let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.retain(|task| !task.is_finished());
            tasks.push(before.task);
        }
    }
}

/// Entries of this kind are small; one that is not is refused.
pub(super) fn stage(staging: &mut Staging, entry: &Entry<'_>) -> Result<(), ConsumerError> {
    staging.push(entry).map_err(|_| ConsumerError::Invalid("it is too large"))
}

impl ConsumerChanges {
    fn all_of(options: ConsumerOptions) -> Self {
        Self {
            filter: Some(options.filter),
            ack_wait_ms: Some(options.ack_wait_ms),
            max_deliver: Some(options.max_deliver),
            backoff_ms: Some(options.backoff_ms),
            max_ack_pending: Some(options.max_ack_pending),
            order: Some(options.order),
            configured: Some(options.configured),
            paused: None,
        }
    }

    /// Whether anything but whether it is paused is to be different.
    #[must_use]
    pub fn are_more_than_a_pause(&self) -> bool {
        self.filter.is_some()
            || self.ack_wait_ms.is_some()
            || self.max_deliver.is_some()
            || self.backoff_ms.is_some()
            || self.max_ack_pending.is_some()
            || self.order.is_some()
            || self.configured.is_some()
    }

    fn of(self, spec: ConsumerSpec) -> ConsumerSpec {
        ConsumerSpec {
            filter: self.filter.unwrap_or(spec.filter),
            ack_wait_ms: self.ack_wait_ms.unwrap_or(spec.ack_wait_ms),
            max_deliver: self.max_deliver.unwrap_or(spec.max_deliver),
            backoff_ms: self.backoff_ms.unwrap_or(spec.backoff_ms),
            max_ack_pending: self.max_ack_pending.unwrap_or(spec.max_ack_pending),
            order: self.order.unwrap_or(spec.order),
            configured: self.configured.unwrap_or(spec.configured),
            paused: self.paused.unwrap_or(spec.paused),
            ..spec
        }
    }
}

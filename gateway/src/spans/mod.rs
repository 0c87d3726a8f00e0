//! Traces: some publishes, each with what becomes of it, as spans of OpenTelemetry.
//!
//! A traced publish has a span *publish*, from the moment it was read to its acknowledgement, and one *deliver* under it for each time it is
//! sent to a subscriber, from when it was routed until the subscriber is done with it. What ties them together travels with the event,
//! in its User Property `traceparent` ([`context`]): so it holds across connections, restarts and days in the log, and nothing
//! is kept for it in memory.
//!
//! Promises: while tracing is off it costs one branch; a span is never waited for; what there is no room for is dropped and counted.
//! Refuses to know: sockets of clients, sessions, where a message goes. Read next: [`context`] for who is traced, `export` for where
//! spans go.

pub mod context;
mod export;
pub mod metrics;
mod otlp;
mod queue;
mod random;
mod span;

pub use context::without_own;
pub use export::{Exporter, ExporterError};
pub use span::{Delivered, OpenSpan};

use crate::clock;
use crate::config::TelemetryConfig;
use context::{SpanId, TraceContext};
use gateway_protocol::PropertiesBuf;
use gateway_protocol::property::user_property_in;
use gateway_storage::{Event, StageError, Staging};
use queue::Queue;
use span::{Kind, Span};
use std::sync::Arc;

/// The bits of a trace's identifier that sampling by ratio goes by.
const RANDOM_BITS: u64 = (1 << 56) - 1;
/// The longest `tracestate` that is handed on: what the recommendation wants to be kept, at least.
const TRACE_STATE_BYTES_MAX: usize = 512;

/// Decides what is traced, and takes spans. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    on: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    sampling: Sampling,
}

/// Who is traced.
#[derive(Clone, Copy, Debug)]
struct Sampling {
    parent_based: bool,
    /// Of the random bits, those below it are not sampled.
    from: u64,
}

impl Sampling {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part, 0 to 1, of what has 56 bits"
    )]
    fn new(ratio: f64, parent_based: bool) -> Self {
        let sampled = (ratio * (RANDOM_BITS + 1) as f64) as u64;
        Self { parent_based, from: (RANDOM_BITS + 1).saturating_sub(sampled) }
    }

    /// Whether a new trace with these random bits is sampled.
    #[inline]
    const fn takes(self, random: u64) -> bool {
        random & RANDOM_BITS >= self.from
    }

    const fn follows(self, context: &TraceContext) -> bool {
        if self.parent_based { context.is_sampled() } else { self.takes(context.random_bits()) }
    }
}

impl Spans {
    /// What `config` says, and what sends spans to where they belong; neither, without an endpoint.
    ///
    /// # Errors
    /// [`ExporterError`].
    pub fn start(config: &TelemetryConfig) -> Result<(Self, Option<Exporter>), ExporterError> {
        let Some(endpoint) = &config.traces_endpoint else { return Ok((Self::default(), None)) };
        let queue = Arc::new(Queue::new(config.traces_queue));
        let exporter = Exporter::new(endpoint, config, queue.clone())?;
        let sampling = Sampling::new(config.traces_sample_ratio, config.traces_parent_based);
        Ok((Self { on: Some(Arc::new(Inner { queue, sampling })) }, Some(exporter)))
    }

    /// Whether anything is traced at all.
    #[inline]
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// The span of a publish that was just received, if it is to be traced. `event` is what becomes of it: what its span is called
    /// follows from that.
    #[inline]
    #[must_use]
    pub fn publish(&self, event: &Event<'_>) -> Option<OpenSpan> {
        let inner = self.on.as_deref()?;
        match find(event.properties) {
            Some(value) => inner.publish_within(value, event),
            None => {
                let random = random::next();
                inner.sampling.takes(random).then(|| inner.publish_anew(random, event)).flatten()
            }
        }
    }

    /// Stages an event whose publisher waits for nothing, which a Will Message is. If it is to be traced it has a span that ends with
    /// this.
    ///
    /// # Errors
    /// It cannot be staged.
    pub fn stage_will(&self, event: &Event<'_>, staging: &mut Staging) -> Result<(), StageError> {
        let Some(span) = self.publish(event) else { return staging.push_event(event) };
        let mut own = PropertiesBuf::new();
        if let Some(context) = span.context_to_add() {
            // Alone there it has room.
            let _ = context.append(&mut own);
        }
        let properties = [event.properties, own.as_properties().raw()].concat();
        staging.push_event(&Event { properties: &properties, ..*event }).map(|()| span.end("submitted"))
    }

    /// The context of an event, if it is traced.
    #[inline]
    #[must_use]
    pub fn context_in(&self, properties: &[u8]) -> Option<TraceContext> {
        let inner = self.on.as_deref()?;
        let context = TraceContext::parse(find(properties)?)?;
        inner.sampling.follows(&context).then_some(context)
    }

    /// The span of a delivery of `event` that was just sent, if the event is traced.
    #[must_use]
    pub fn deliver(&self, event: &Event<'_>, delivered: &Delivered<'_>) -> Option<OpenSpan> {
        let context = self.context_in(event.properties)?;
        let inner = self.on.as_deref()?;
        let now_ns = clock::unix_ns();
        let routed_ns = delivered.routed_ms.map_or(now_ns, |ms| ms.saturating_mul(1_000_000));
        let span = Span {
            trace_state: trace_state(event.properties),
            // Clocks of milliseconds and of nanoseconds: what was routed just now was not routed later than now.
            start_ns: routed_ns.min(now_ns),
            sent_ns: Some(now_ns),
            dup: delivered.dup,
            offset: delivered.offset,
            consumer: delivered.consumer.map(span::short),
            attempt: delivered.attempt,
            ..Span::new(
                Kind::Deliver,
                context.trace_id,
                SpanId::new(random::next()),
                Some(context.publish_span(event)),
                event,
            )
        };
        let span = Span { client_id: span::short(delivered.client_id), qos: delivered.qos, ..span };
        inner.queue.open(span)
    }
}

impl Inner {
    /// On its publisher's trace. What is no context is no business of ours: it is handed on as it is, and a second one beside it would make
    /// both useless.
    #[cold]
    fn publish_within(&self, value: &[u8], event: &Event<'_>) -> Option<OpenSpan> {
        let context = TraceContext::parse(value).filter(|context| self.sampling.follows(context))?;
        let id = context.publish_span(event);
        let span = Span::new(Kind::Publish, context.trace_id, id, Some(context.parent), event);
        self.queue.open(Span { trace_state: trace_state(event.properties), ..span })
    }

    /// On a trace of its own.
    #[cold]
    fn publish_anew(&self, random: u64, event: &Event<'_>) -> Option<OpenSpan> {
        let context = TraceContext::begin(random::next(), random, event);
        self.queue.open(Span::new(Kind::Publish, context.trace_id, context.parent, None, event))
    }
}

#[inline]
fn find(properties: &[u8]) -> Option<&[u8]> {
    if properties.is_empty() { None } else { user_property_in(properties, context::TRACEPARENT) }
}

fn trace_state(properties: &[u8]) -> Option<Box<str>> {
    let value = user_property_in(properties, context::TRACESTATE)?;
    let value = std::str::from_utf8(value).ok()?;
    (value.len() <= TRACE_STATE_BYTES_MAX).then(|| value.into())
}

#[cfg(test)]
mod tests;

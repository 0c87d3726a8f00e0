//! One span, open and ended.

use super::context::{SpanId, TraceContext};
use super::queue::Queue;
use crate::clock;
use gateway_storage::Event;
use std::sync::Arc;

/// Bytes of a name that are kept in a span.
const NAME_BYTES_MAX: usize = 256;

/// What a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// From received to acknowledged.
    Publish,
    /// From routed to done with.
    Deliver,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Deliver => "deliver",
        }
    }
}

/// How a message is delivered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivered<'a> {
    /// Who gets it.
    pub client_id: &'a str,
    /// At which QoS.
    pub qos: u8,
    /// It may have come before.
    pub dup: bool,
    /// When it was put in front of the subscriber, in milliseconds since the Unix epoch; `None`: just now.
    pub routed_ms: Option<u64>,
    /// Where it is in the log.
    pub offset: Option<u64>,
    /// The consumer for which the client works.
    pub consumer: Option<&'a str>,
    /// For that consumer: which attempt it is.
    pub attempt: Option<u32>,
}

/// What is known of a span. Times are nanoseconds since the Unix epoch.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) kind: Kind,
    pub(super) trace_id: [u8; 16],
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) trace_state: Option<Box<str>>,
    pub(super) start_ns: u64,
    pub(super) sent_ns: Option<u64>,
    pub(super) end_ns: u64,
    pub(super) topic: Box<str>,
    pub(super) client_id: Box<str>,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) dup: bool,
    pub(super) payload_bytes: usize,
    pub(super) offset: Option<u64>,
    pub(super) consumer: Option<Box<str>>,
    pub(super) attempt: Option<u32>,
    /// In one word.
    pub(super) outcome: &'static str,
    /// It is not what was asked for.
    pub(super) has_failed: bool,
}

impl Span {
    /// Begins now.
    pub(super) fn new(
        kind: Kind,
        trace_id: [u8; 16],
        id: SpanId,
        parent: Option<SpanId>,
        event: &Event<'_>,
    ) -> Self {
        Self {
            kind,
            trace_id,
            id,
            parent,
            trace_state: None,
            start_ns: clock::unix_ns(),
            sent_ns: None,
            end_ns: 0,
            topic: short(event.topic),
            client_id: short(event.client_id),
            qos: event.qos,
            retain: event.retain,
            dup: false,
            payload_bytes: event.payload.len(),
            offset: None,
            consumer: None,
            attempt: None,
            outcome: "",
            has_failed: false,
        }
    }
}

/// As much of a name as a span keeps.
pub(super) fn short(name: &str) -> Box<str> {
    name.get(..name.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or(name).into()
}

/// A span that has begun. One that is dropped ends as `interrupted`, which is a failure: what it waited for did not come.
#[derive(Debug)]
pub struct OpenSpan {
    /// There until it has ended.
    span: Option<Box<Span>>,
    queue: Arc<Queue>,
}

impl OpenSpan {
    pub(super) fn new(span: Span, queue: Arc<Queue>) -> Self {
        Self { span: Some(Box::new(span)), queue }
    }

    /// What has to be added to the event, so that its deliveries and its subscribers know of this span: nothing where the publisher has
    /// said it all.
    #[must_use]
    pub fn context_to_add(&self) -> Option<TraceContext> {
        let span = self.span.as_deref().filter(|span| span.parent.is_none())?;
        Some(TraceContext::of_span(span.trace_id, span.id))
    }

    /// It ends now, as it should.
    pub fn end(mut self, outcome: &'static str) {
        self.close(outcome, false);
    }

    /// It ends now, as it should not.
    pub fn fail(mut self, outcome: &'static str) {
        self.close(outcome, true);
    }

    /// How a span that ends later will end, if it ends well.
    #[must_use]
    pub fn expecting(mut self, outcome: &'static str) -> Self {
        if let Some(span) = &mut self.span {
            span.outcome = outcome;
        }
        self
    }

    /// It ends now, as was [expected](Self::expecting).
    pub fn end_as_expected(mut self) {
        let outcome = self.span.as_ref().map_or("", |span| span.outcome);
        self.close(outcome, false);
    }

    fn close(&mut self, outcome: &'static str, has_failed: bool) {
        if let Some(mut span) = self.span.take() {
            span.end_ns = clock::unix_ns().max(span.start_ns);
            (span.outcome, span.has_failed) = (outcome, has_failed);
            self.queue.close(span);
        }
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        self.close("interrupted", true);
    }
}

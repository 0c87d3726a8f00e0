//! `/v1/streams/{name}/watch`: a sample of a stream's events as they come, for people.
//!
//! No more than so many in a second are shown. What comes beyond that is passed over, without being read, and the reader is told: somebody
//! who looks on costs a busy gateway no more than a quiet one.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use gateway_protocol::{QoS, TopicFilter};
use serde_json::json;

use super::Operations;
use crate::admin::problem::{Kind, Problem};
use crate::admin::v1::channel::{Feed, channel};
use crate::admin::v1::fields::InQuery;
use crate::admin::v1::paths::{Named, no_such_stream};
use crate::engine::Engine;
use crate::event_view::{EventView, Payload};
use crate::stream::{From, Next, StreamAddress, StreamCursor};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
/// Events shown in a second.
const RATE_MAX: u64 = 1000;
const RATE_DEFAULT: u64 = 50;
/// Characters of a payload that are shown.
const PAYLOAD_SHOWN: usize = 4096;

pub(super) async fn watch(
    State(operations): State<Operations>,
    Named(stream): Named,
    InQuery(mut fields): InQuery,
) -> Result<Response, Problem> {
    let filter = fields.text("filter", 1..=65_535).unwrap_or_else(|| "#".to_owned());
    if let Err(error) = TopicFilter::parse(&filter) {
        fields.fault("filter", error.to_string());
    }
    let rate = fields.integer("rate", 1..=RATE_MAX).unwrap_or(RATE_DEFAULT);
    fields.finish()?;
    let engine = operations.context.engine.clone();
    let source = Source { stream, filter };
    let cursor = source.open(&engine)?;
    let (feed, body) = channel(&operations.gates)?;
    tokio::spawn(run(engine, source, cursor, rate, feed));
    Ok(([(header::CONTENT_TYPE, EVENT_STREAM)], body).into_response())
}

struct Source {
    stream: String,
    filter: String,
}

impl Source {
    fn open(&self, engine: &Engine) -> Result<StreamCursor, Problem> {
        let filter = TopicFilter::parse(&self.filter)
            .map_err(|error| Problem::new(Kind::Internal, format!("the filter: {error}")))?;
        let address = StreamAddress { name: &self.stream, from: From::Latest, filter };
        StreamCursor::open(engine, &self.stream, &self.stream, &address, QoS::AtMostOnce, 0)
            .ok_or_else(|| no_such_stream(&self.stream))
    }
}

async fn run(engine: Engine, source: Source, mut cursor: StreamCursor, rate: u64, mut feed: Feed) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut left = rate;
    loop {
        let event = tokio::select! {
            () = feed.closed() => return,
            _ = seconds.tick() => {
                if left == 0 {
                    // It is not read up to here: what comes now is of more interest.
                    let Ok(anew) = source.open(&engine) else { return };
                    cursor = anew;
                }
                feed.event("second", None, &json!({ "is_sample": left == 0 }));
                left = rate;
                None
            }
            event = poll_fn(|cx| poll_event(&engine, &mut cursor, cx)), if left > 0 => match event {
                Some(event) => Some(event),
                None => {
                    feed.event("end", None, &json!({ "detail": "the log cannot be read" }));
                    let _ = feed.send().await;
                    return;
                }
            },
        };
        if let Some(event) = event {
            left -= 1;
            let offset = event.offset;
            feed.event("event", Some(offset), &clipped(event));
        }
        if feed.send().await.is_err() {
            return;
        }
    }
}

/// A view with no more of its payload than a person looks at.
fn clipped(mut event: EventView) -> EventView {
    let (Payload::Text(text) | Payload::Base64(text)) = &mut event.payload;
    if let Some((at, _)) = text.char_indices().nth(PAYLOAD_SHOWN) {
        text.truncate(at);
        text.push('…');
    }
    event
}

/// The next event. `None`: there will be none any more.
fn poll_event(engine: &Engine, cursor: &mut StreamCursor, cx: &mut Context<'_>) -> Poll<Option<EventView>> {
    loop {
        match cursor.poll_next(engine, cx) {
            Next::Event(batch, index) => {
                let offset = batch.offset_of(index).map(|offset| offset.get());
                let view = offset
                    .zip(batch.event(index))
                    .map(|(offset, event)| EventView::shown(offset, batch.time_ms(index), &event));
                cursor.advance();
                if let Some(view) = view {
                    return Poll::Ready(Some(view));
                }
            }
            Next::Wait => return Poll::Pending,
            Next::Yield => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Next::Failed => return Poll::Ready(None),
        }
    }
}

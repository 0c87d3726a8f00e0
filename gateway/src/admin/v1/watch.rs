//! A look at the events of a consumer's stream as they come: it reads beside the consumer and takes nothing from it.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use gateway_protocol::{QoS, TopicFilter};
use gateway_storage::Offset;
use serde_json::json;

use super::backend::ConsumerView;
use super::channel::Feed;
use super::paths::{no_such_consumer, no_such_stream};
use crate::admin::problem::{Kind, Problem};
use crate::config::Pace;
use crate::consumer::Consumers;
use crate::engine::Engine;
use crate::event_view::EventView;
use crate::stream::{From, Next, StreamAddress, StreamCursor};

/// Between two looks at the consumer itself.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Events read before they are sent.
const EVENTS_TOGETHER: usize = 64;

/// Opens the stream of a consumer, from `from` or from now on, and feeds what comes at this pace until the reader or the consumer has gone.
pub(super) fn start(
    engine: &Engine,
    consumers: &Consumers,
    name: String,
    (from, pace): (Option<u64>, Pace),
    feed: Feed,
) -> Result<(), Problem> {
    let status = consumers.status(&name).ok_or_else(|| no_such_consumer(&name))?;
    let filter = TopicFilter::parse(&status.spec.filter)
        .map_err(|error| Problem::new(Kind::Internal, format!("the consumer's filter: {error}")))?;
    let from = from.map_or(From::Latest, |offset| From::Offset(Offset::new(offset)));
    let address = StreamAddress { name: &status.spec.stream, from, filter };
    let cursor = StreamCursor::open(engine, &name, &name, &address, QoS::AtMostOnce, 0)
        .ok_or_else(|| no_such_stream(&status.spec.stream))?
        .paced(pace);
    tokio::spawn(run(engine.clone(), consumers.clone(), name, cursor, feed));
    Ok(())
}

async fn run(engine: Engine, consumers: Consumers, name: String, mut cursor: StreamCursor, mut feed: Feed) {
    let mut status = tokio::time::interval(STATUS_EVERY);
    let mut events = Vec::new();
    loop {
        let goes_on = tokio::select! {
            () = feed.closed() => return,
            _ = status.tick() => None,
            goes_on = poll_fn(|cx| poll_events(&engine, &mut cursor, &mut events, cx)) => Some(goes_on),
        };
        for event in events.drain(..) {
            feed.event("event", Some(event.offset), &event);
        }
        match goes_on {
            Some(true) => {}
            Some(false) => {
                feed.event("end", None, &json!({ "detail": "the log cannot be read" }));
                let _ = feed.send().await;
                return;
            }
            None => match consumers.status(&name) {
                Some(status) => feed.event("status", None, &ConsumerView::of(status)),
                None => {
                    feed.event("end", None, &json!({ "detail": "the consumer, or the gateway, is no more" }));
                    let _ = feed.send().await;
                    return;
                }
            },
        }
        if feed.send().await.is_err() {
            return;
        }
    }
}

/// Reads what there is, some at a time. False when there will be nothing any more.
fn poll_events(
    engine: &Engine,
    cursor: &mut StreamCursor,
    events: &mut Vec<EventView>,
    cx: &mut Context<'_>,
) -> Poll<bool> {
    while events.len() < EVENTS_TOGETHER {
        match cursor.poll_next(engine, cx) {
            Next::Event(batch, index) => {
                if let (Some(offset), Some(event)) = (batch.offset_of(index), batch.event(index)) {
                    events.push(EventView::shown(offset.get(), batch.time_ms(index), &event));
                }
                cursor.advance();
            }
            Next::Wait if events.is_empty() => return Poll::Pending,
            Next::Yield if events.is_empty() => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Next::Wait | Next::Yield => break,
            Next::Failed => return Poll::Ready(false),
        }
    }
    Poll::Ready(true)
}

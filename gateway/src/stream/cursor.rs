//! A reader of a stream: where it stands, and what of the log it wants.

use super::address::{From, StreamAddress};
use super::pager::{Located, Pager};
use crate::engine::Engine;
use crate::router::RouteCache;
use gateway_protocol::{QoS, TopicFilter, TopicName};
use gateway_storage::{Batch, Offset, ReadError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

/// Topics for which a cursor remembers whether it wants them.
const TOPICS_CACHED: usize = 1024;
/// Entries looked at before others get a turn.
const STEPS: usize = 4096;

/// A position in a stream that moves with what the client takes.
pub struct StreamCursor {
    /// The whole Topic Filter that was subscribed to.
    pub subscription: Box<str>,
    /// Granted QoS.
    pub qos: QoS,
    /// The Subscription Identifier; 0: none.
    pub subscription_id: u32,
    stream: u64,
    filter: Box<str>,
    at: Position,
    pager: Pager,
    wanted: RouteCache<bool>,
}

enum Position {
    Offset(Offset),
    Finding(JoinHandle<Result<Offset, ReadError>>),
}

/// What a cursor has for the client.
pub enum Next {
    /// An event: position `index` of the batch. Call [`StreamCursor::advance`] once it is sent.
    Event(Arc<Batch>, usize),
    /// Nothing for now; the task is woken when that changes.
    Wait,
    /// Enough for one turn: ask again soon.
    Yield,
    /// The log can not be read.
    Failed,
}

impl StreamCursor {
    /// A cursor at the beginning that `address` names; `None` when there is no such stream.
    #[must_use]
    pub fn open(
        engine: &Engine,
        subscription: &str,
        address: &StreamAddress<'_>,
        qos: QoS,
        subscription_id: u32,
    ) -> Option<Self> {
        let stream = engine.stream_id(address.name)?;
        // Where it begins later than that, `poll_next` goes there.
        let at = match address.from {
            From::Earliest => Position::Offset(engine.log().bounds().0),
            From::Latest => Position::Offset(engine.end()),
            From::Offset(offset) => Position::Offset(offset.max(engine.log().bounds().0)),
            From::Time(time_ms) => {
                let log = engine.log().clone();
                Position::Finding(tokio::task::spawn_blocking(move || log.offset_at(time_ms)))
            }
        };
        Some(Self {
            subscription: subscription.into(),
            qos,
            subscription_id,
            stream,
            filter: address.filter.as_str().into(),
            at,
            pager: Pager::default(),
            wanted: RouteCache::new(TOPICS_CACHED),
        })
    }

    /// The next event that the client wants.
    pub fn poll_next(&mut self, engine: &Engine, cx: &mut Context<'_>) -> Next {
        let mut at = match &mut self.at {
            Position::Offset(offset) => *offset,
            Position::Finding(finding) => match Pin::new(finding).poll(cx) {
                Poll::Pending => return Next::Wait,
                Poll::Ready(Ok(Ok(offset))) => offset,
                Poll::Ready(_) => return Next::Failed,
            },
        };
        // What the stream does not keep any more is not read, although it may still be in the log.
        at = at.max(engine.stream_floor(self.stream));
        for _ in 0..STEPS {
            self.at = Position::Offset(at);
            match self.pager.locate(engine, at, cx) {
                Poll::Pending | Poll::Ready(Located::End) => return Next::Wait,
                Poll::Ready(Located::Failed) => return Next::Failed,
                Poll::Ready(Located::Gone(next)) => at = next,
                Poll::Ready(Located::At(batch, index)) => {
                    if batch.event(index).is_some_and(|event| self.wants(engine, event.topic)) {
                        return Next::Event(batch, index);
                    }
                    at = at.next();
                }
            }
        }
        self.at = Position::Offset(at);
        Next::Yield
    }

    /// The event of the last [`Next::Event`] is dealt with.
    pub fn advance(&mut self) {
        if let Position::Offset(offset) = &mut self.at {
            *offset = offset.next();
        }
    }

    fn wants(&mut self, engine: &Engine, topic: &str) -> bool {
        let filter = &self.filter;
        let stream = self.stream;
        // Streams are fixed while the gateway runs, so the answers have one epoch.
        self.wanted.get_or_find(0, topic, || {
            let matches = match (TopicFilter::parse(filter), TopicName::parse(topic)) {
                (Ok(filter), Ok(name)) => filter.matches(name),
                _ => false,
            };
            matches && engine.stream_keeps(stream, topic)
        })
    }
}

//! A reader of a stream: where it stands, and what of the log it wants.

use super::address::{From, StreamAddress};
use super::metrics::{self, Skipped};
use super::pacer::Pacer;
use super::pager::{Located, Pager};
use crate::config::Pace;
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
/// A reader that waits longer than this for an event keeps no page in memory meanwhile.
const RELEASE_MS: u64 = 1000;
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
    reader: Box<str>,
    stream: u64,
    filter: Box<str>,
    at: Position,
    /// What it passes over has been said.
    has_said: bool,
    pager: Pager,
    pacer: Option<Pacer>,
    wanted: RouteCache<bool>,
}

enum Position {
    /// Where it stands.
    Offset(Offset),
    /// Where the client wants it to begin.
    Named(Offset),
    /// It begins with what is kept.
    Earliest,
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
    /// The log cannot be read.
    Failed,
}

impl StreamCursor {
    /// A cursor of the client `reader`, at the beginning that `address` names; `None` when there is no such stream.
    #[must_use]
    pub fn open(
        engine: &Engine,
        reader: &str,
        subscription: &str,
        address: &StreamAddress<'_>,
        qos: QoS,
        subscription_id: u32,
    ) -> Option<Self> {
        let stream = engine.stream_id(address.name)?;
        // Where it begins later than that, `poll_next` goes there.
        let at = match address.from {
            From::Earliest => Position::Earliest,
            From::Latest => Position::Offset(engine.end()),
            From::Offset(offset) => Position::Named(offset),
            From::Time(time_ms) => {
                let log = engine.log().clone();
                Position::Finding(tokio::task::spawn_blocking(move || log.offset_at(time_ms)))
            }
        };
        Some(Self {
            subscription: subscription.into(),
            qos,
            subscription_id,
            reader: reader.into(),
            stream,
            filter: address.filter.as_str().into(),
            at,
            has_said: false,
            pager: Pager::default(),
            pacer: None,
            wanted: RouteCache::new(TOPICS_CACHED),
        })
    }

    /// Gives the events at this pace from now on.
    #[must_use]
    pub fn paced(mut self, pace: Pace) -> Self {
        self.pacer = Pacer::new(pace);
        self
    }

    /// Whether it reads what is not in memory any more, rather than what has just come.
    #[must_use]
    pub fn is_replaying(&self, engine: &Engine) -> bool {
        match &self.at {
            Position::Offset(offset) => engine.is_on_disk(*offset),
            Position::Named(_) | Position::Earliest | Position::Finding(_) => true,
        }
    }

    /// The next event that the client wants.
    pub fn poll_next(&mut self, engine: &Engine, cx: &mut Context<'_>) -> Next {
        if !engine.has_stream(self.stream) {
            return Next::Wait; // A stream that is no more has nothing more.
        }
        // What the stream does not keep any more is not read, although it may still be in the log.
        let floor = engine.stream_floor(self.stream);
        let (wanted, reason) = match &mut self.at {
            Position::Offset(offset) => (*offset, Some(Skipped::Overtaken)),
            Position::Named(offset) => (*offset, Some(Skipped::NotKept)),
            Position::Earliest => (floor, None),
            Position::Finding(finding) => match Pin::new(finding).poll(cx) {
                Poll::Pending => return Next::Wait,
                Poll::Ready(Ok(Ok(offset))) => (offset, None),
                Poll::Ready(_) => return Next::Failed,
            },
        };
        let mut at = wanted.max(floor);
        if !matches!(self.at, Position::Offset(_)) {
            at = at.max(engine.log().bounds().0);
        }
        if let Some(reason) = reason {
            self.skip(reason, wanted, at);
        }
        for _ in 0..STEPS {
            self.at = Position::Offset(at);
            match self.pager.locate(engine, at, cx) {
                Poll::Pending | Poll::Ready(Located::End) => return Next::Wait,
                Poll::Ready(Located::Failed) => return Next::Failed,
                Poll::Ready(Located::Gone(next)) => {
                    let trimmed = engine.log().bounds().0.min(next).max(at);
                    self.skip(Skipped::Overtaken, at, trimmed);
                    self.skip(Skipped::Damaged, trimmed, next);
                    at = next;
                }
                Poll::Ready(Located::At(batch, index)) => {
                    if batch.raw_event(index).is_some_and(|event| self.wants(engine, event.topic)) {
                        if let Some(pacer) = &mut self.pacer
                            && let Err(wait_ms) = pacer.poll_due(batch.time_ms(index), cx)
                        {
                            if wait_ms > RELEASE_MS {
                                self.pager.release();
                            }
                            return Next::Wait;
                        }
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
        if let Some(pacer) = &mut self.pacer {
            pacer.taken();
        }
    }

    /// Counts what is passed over, and says it the first time: a reader that is too slow once is so again and again.
    fn skip(&mut self, reason: Skipped, from: Offset, to: Offset) {
        let offsets = to.get().saturating_sub(from.get());
        if offsets == 0 {
            return;
        }
        metrics::skipped(reason, offsets);
        let (client_id, subscription) = (&self.reader, &self.subscription);
        match reason {
            // Who found the damage has said so.
            Skipped::Damaged => {}
            _ if self.has_said => {}
            Skipped::Overtaken => tracing::warn!(
                client_id, subscription, %from, %to, offsets,
                "a reader of a stream is too slow: trimming has overtaken it, and it goes on where the stream begins"
            ),
            Skipped::NotKept => tracing::info!(
                client_id, subscription, %from, %to, offsets,
                "a reader of a stream asks for what is not kept any more: it begins where the stream begins"
            ),
        }
        self.has_said |= reason != Skipped::Damaged;
    }

    /// The offset it looks at next; `None` while that is being found.
    #[must_use]
    pub fn position(&self) -> Option<Offset> {
        match &self.at {
            Position::Offset(offset) => Some(*offset),
            Position::Finding(_) | Position::Named(_) | Position::Earliest => None,
        }
    }

    fn wants(&mut self, engine: &Engine, topic: &[u8]) -> bool {
        let filter = &self.filter;
        let stream = self.stream;
        self.wanted.get_or_find(engine.stream_epoch(), topic, || {
            let Ok(topic) = str::from_utf8(topic) else { return false };
            let matches = match (TopicFilter::parse(filter), TopicName::parse(topic)) {
                (Ok(filter), Ok(name)) => filter.matches(name),
                _ => false,
            };
            matches && engine.stream_keeps(stream, topic)
        })
    }
}

#[cfg(test)]
mod tests;

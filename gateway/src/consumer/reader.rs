//! What a consumer reads of the log: forward what its filter wants, and again what is to be handed out again.

use super::content::Content;
use super::core::{Core, Gone};
use crate::clock;
use crate::engine::{ConsumerSpec, Engine};
use crate::router::RouteCache;
use crate::stream::{Located, Pager};
use gateway_protocol::{TopicFilter, TopicName};
use gateway_storage::{Event, Offset};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Topics for which it is remembered whether they are wanted.
const TOPICS_CACHED: usize = 1024;
/// Entries looked at in one turn.
const STEPS: usize = 1024;

/// How far reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progressed {
    /// Something was read; there may be more.
    Some,
    /// Nothing for now; the task is woken when that changes.
    Waits,
    /// Nothing is wanted.
    Done,
    /// The log cannot be read.
    Failed,
}

/// The reading side of one consumer.
pub(super) struct Reader {
    forward: Pager,
    again: Pager,
    wanted: RouteCache<bool>,
    /// What `wanted` was found for.
    filter: Box<str>,
    /// About how many events the stream has had before where this stands.
    seen: u64,
    hasher: foldhash::fast::RandomState,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            forward: Pager::default(),
            again: Pager::default(),
            wanted: RouteCache::new(TOPICS_CACHED),
            filter: Box::default(),
            seen: 0,
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    /// Lets go of what it holds in memory.
    pub(super) fn rest(&mut self) {
        self.forward.release();
        self.again.release();
    }

    /// Reads on, as far as the consumer wants more.
    pub(super) fn read(
        &mut self,
        engine: &Engine,
        spec: &ConsumerSpec,
        core: &mut Core<Arc<Content>>,
        cx: &mut Context<'_>,
    ) -> Progressed {
        if !core.wants_more() {
            return Progressed::Done;
        }
        // A consumer whose stream is gone has nothing to read until there is one of that name again.
        let Some(stream) = engine.stream_id(&spec.stream) else { return Progressed::Done };
        let floor = engine.stream_floor(stream).max(engine.log().bounds().0).get();
        if core.scanned() < floor {
            let seen = self.seen.max(engine.stream_before(stream, Offset::new(core.scanned())).1);
            let missed = engine.stream_before(stream, Offset::new(floor)).1.saturating_sub(seen);
            let from = core.scanned();
            tracing::warn!(stream = %spec.stream, from, floor, missed, "a consumer was behind what its stream keeps");
            core.count_gone(Gone::Missed, missed);
            core.skip_to(floor);
        }
        if *self.filter != *spec.filter {
            self.filter.clone_from(&spec.filter);
            self.wanted = RouteCache::new(TOPICS_CACHED);
        }
        let at = core.scanned();
        self.seen = engine.stream_before(stream, Offset::new(at)).1;
        match self.forward.locate(engine, Offset::new(at), cx) {
            Poll::Pending | Poll::Ready(Located::End) => Progressed::Waits,
            Poll::Ready(Located::Failed) => Progressed::Failed,
            Poll::Ready(Located::Gone(next)) => {
                core.count_gone(Gone::Lost, next.get().saturating_sub(at));
                core.skip_to(next.get().max(at + 1));
                Progressed::Some
            }
            Poll::Ready(Located::At(batch, index)) => {
                let now = clock::unix_ms();
                for index in index..batch.len().min(index + STEPS) {
                    let Some(offset) = batch.offset_of(index).filter(|_| core.wants_more()) else { break };
                    if offset.get() > core.scanned() {
                        break; // A hole, which is looked at by the next turn.
                    }
                    match batch.event(index).filter(|event| self.wants(engine, stream, event.topic)) {
                        Some(event) if is_expired(&event, now) => {
                            core.count_gone(Gone::Expired, 1);
                            core.skip_to(offset.get() + 1);
                        }
                        Some(event) => {
                            let content = Content::of(&event, batch.time_ms(index));
                            core.offer(offset.get(), self.key(&event), content.cost(), content);
                        }
                        None => core.skip_to(offset.get() + 1),
                    }
                }
                Progressed::Some
            }
        }
    }

    /// Reads again what is to be handed out again, or to become a dead letter.
    pub(super) fn read_again(
        &mut self,
        engine: &Engine,
        name: &str,
        spec: &ConsumerSpec,
        core: &mut Core<Arc<Content>>,
        cx: &mut Context<'_>,
    ) -> Progressed {
        let floor = engine.stream_id(&spec.stream).map_or(0, |stream| engine.stream_floor(stream).get());
        let mut from = 0;
        for _ in 0..STEPS {
            let Some((offset, is_letter)) = core.wanted(from) else { return Progressed::Done };
            from = offset + 1;
            let now = clock::unix_ms();
            if is_letter {
                match engine.dead_letter(name, offset) {
                    Some(letter) => {
                        let event = letter.event();
                        let content = Content::of(&event, event.received_ms);
                        core.give(offset, self.key(&event), content.cost(), content);
                    }
                    None => core.gone(offset, Gone::Purged),
                }
                continue;
            }
            if offset < floor && !core.is_dead(offset) {
                core.gone(offset, Gone::Missed);
                continue;
            }
            match self.again.locate(engine, Offset::new(offset), cx) {
                Poll::Pending => return Progressed::Waits,
                Poll::Ready(Located::Failed) => return Progressed::Failed,
                Poll::Ready(Located::End | Located::Gone(_)) => {
                    let is_trimmed = offset < engine.log().bounds().0.get();
                    core.gone(offset, if is_trimmed { Gone::Missed } else { Gone::Lost });
                }
                Poll::Ready(Located::At(batch, index)) => match batch.event(index) {
                    Some(event) if is_expired(&event, now) && !core.is_dead(offset) => {
                        core.gone(offset, Gone::Expired);
                    }
                    Some(event) => {
                        let content = Content::of(&event, batch.time_ms(index));
                        core.give(offset, self.key(&event), content.cost(), content);
                    }
                    None => core.gone(offset, Gone::Lost),
                },
            }
        }
        Progressed::Some
    }

    fn wants(&mut self, engine: &Engine, stream: u64, topic: &str) -> bool {
        let filter = &self.filter;
        self.wanted.get_or_find(engine.stream_epoch(), topic.as_bytes(), || {
            let matches = match (TopicFilter::parse(filter), TopicName::parse(topic)) {
                (Ok(filter), Ok(name)) => filter.matches(name),
                _ => false,
            };
            matches && engine.stream_keeps(stream, topic)
        })
    }

    /// Events of one publisher and topic are in order: they have one key.
    fn key(&self, event: &Event<'_>) -> u64 {
        self.hasher.hash_one((event.client_id, event.topic))
    }
}

const fn is_expired(event: &Event<'_>, now_ms: u64) -> bool {
    event.expires_at_ms != 0 && event.expires_at_ms <= now_ms
}

//! The view in memory: durable sessions, what they subscribed to, and which topics a stream keeps.
//!
//! Everybody may read it; only the apply step changes it.

use super::consumers::ConsumerTable;
use super::dedup::{Dedup, DedupOptions};
use super::retained::RetainedTable;
use super::session::DurableSession;
use super::streams::{StreamOptions, Streams};
use super::will::WillTable;
use crate::router::SharedRouter;
use gateway_protocol::QoS;
use gateway_storage::Offset;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Whether an event has to be stored before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// A stream keeps the topic, at any QoS.
    stream: bool,
    /// A durable Session subscribes to it above QoS 0.
    session: bool,
}

impl Interest {
    /// Whether something durable wants an event that was published at `qos`.
    #[must_use]
    pub fn is_durable(self, qos: QoS) -> bool {
        self.stream || (self.session && qos != QoS::AtMostOnce)
    }
}

/// The tables.
#[derive(Debug)]
pub(super) struct Table {
    sessions: RwLock<HashMap<Box<str>, Arc<DurableSession>>>,
    pub(super) router: SharedRouter<Arc<DurableSession>>,
    retained: RwLock<RetainedTable>,
    wills: RwLock<WillTable>,
    pub(super) streams: Streams,
    pub(super) dedup: Arc<Dedup>,
    pub(super) consumers: ConsumerTable,
    /// Odd while messages go from one backlog to another: whoever looks at several backlogs then may miss one.
    moves: AtomicU64,
}

impl Table {
    /// A view in which names mean nothing.
    #[cfg(test)]
    pub(super) fn new(streams: &[StreamOptions]) -> Self {
        Self::with_names(streams, DedupOptions::default())
    }

    /// A view in which named events are known for as long as `dedup` says.
    pub(super) fn with_names(streams: &[StreamOptions], dedup: DedupOptions) -> Self {
        Self {
            sessions: RwLock::default(),
            router: SharedRouter::default(),
            retained: RwLock::default(),
            wills: RwLock::default(),
            streams: Streams::new(streams),
            dedup: Arc::new(Dedup::new(dedup)),
            consumers: ConsumerTable::default(),
            moves: AtomicU64::new(0),
        }
    }

    pub(super) fn session(&self, client_id: &str) -> Option<Arc<DurableSession>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(client_id).cloned()
    }

    pub(super) fn sessions(&self) -> Vec<Arc<DurableSession>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn session_count(&self) -> usize {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn insert(&self, session: &Arc<DurableSession>) {
        self.sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(session.client_id.clone(), session.clone());
    }

    pub(super) fn remove(&self, client_id: &str) -> Option<Arc<DurableSession>> {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner).remove(client_id)
    }

    pub(super) fn read_retained(&self) -> RwLockReadGuard<'_, RetainedTable> {
        self.retained.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_retained(&self) -> RwLockWriteGuard<'_, RetainedTable> {
        self.retained.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read_wills(&self) -> RwLockReadGuard<'_, WillTable> {
        self.wills.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_wills(&self) -> RwLockWriteGuard<'_, WillTable> {
        self.wills.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn interest(&self, topic: &str) -> Interest {
        Interest {
            stream: self.streams.keeps_any(topic),
            session: self.router.read(|router| router.wants(topic)),
        }
    }

    /// Runs `work`, which takes messages from one backlog to another.
    pub(super) fn moving<R>(&self, work: impl FnOnce() -> R) -> R {
        self.moves.fetch_add(1, Ordering::AcqRel);
        let done = work();
        self.moves.fetch_add(1, Ordering::AcqRel);
        done
    }

    /// The durable session whose backlog reaches back farthest, and how far; `None` in place of the answer when messages were moved
    /// between backlogs meanwhile.
    pub(super) fn oldest_pending(&self) -> Option<Option<(Arc<DurableSession>, Offset)>> {
        let before = self.moves.load(Ordering::Acquire);
        let mut oldest: Option<(Arc<DurableSession>, Offset)> = None;
        for session in self.sessions() {
            let Some(offset) = session.state().backlog.oldest_offset() else { continue };
            if oldest.as_ref().is_none_or(|(_, least)| offset < *least) {
                oldest = Some((session, offset));
            }
        }
        (before.is_multiple_of(2) && self.moves.load(Ordering::Acquire) == before).then_some(oldest)
    }
}

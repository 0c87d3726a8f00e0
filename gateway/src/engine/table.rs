//! The view in memory: durable sessions, what they subscribed to, and which topics a stream keeps.
//!
//! Everybody may read it; only the apply step changes it.

use super::retained::RetainedTable;
use super::session::DurableSession;
use super::will::WillTable;
use crate::router::{Router, SharedRouter};
use gateway_protocol::{QoS, TopicFilter};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A stream by name and the Topic Filters of what it keeps.
#[derive(Clone, Debug)]
pub struct StreamTopics {
    /// Its name.
    pub name: String,
    /// Legal Topic Filters.
    pub topics: Vec<String>,
}

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
    streams: Router<()>,
    names: HashMap<String, u64>,
}

impl Table {
    pub(super) fn new(streams: &[StreamTopics]) -> Self {
        let mut router = Router::default();
        let mut names = HashMap::new();
        for (id, stream) in (0u64..).zip(streams) {
            names.insert(stream.name.clone(), id);
            for filter in stream.topics.iter().filter_map(|text| TopicFilter::parse(text).ok()) {
                let grant = crate::router::Grant {
                    qos: QoS::ExactlyOnce,
                    no_local: false,
                    retain_as_published: false,
                    subscription_id: 0,
                };
                // Configured filters were checked against the same bound when the configuration was read.
                let _ = router.subscribe(id, (), filter, grant);
            }
        }
        Self {
            sessions: RwLock::default(),
            router: SharedRouter::default(),
            retained: RwLock::default(),
            wills: RwLock::default(),
            streams: router,
            names,
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
            stream: !self.streams.matches(topic).is_empty(),
            session: self.router.read(|router| router.wants(topic)),
        }
    }

    pub(super) fn stream_id(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    pub(super) fn stream_keeps(&self, stream: u64, topic: &str) -> bool {
        self.streams.matches(topic).iter().any(|found| found.id == stream)
    }
}

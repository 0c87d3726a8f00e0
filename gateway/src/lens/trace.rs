//! One trace: what is wanted, and a bounded queue to whoever wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gateway_protocol::{TopicFilter, TopicName};
use metrics::counter;
use tokio::sync::mpsc;

use super::{Lens, Line};

/// Lines that wait for whoever follows.
const LINES_MAX: usize = 1024;

/// What is to be followed. With neither it is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// This client.
    pub client: Option<Box<str>>,
    /// Messages of these topics: a valid Topic Filter.
    pub filter: Option<Box<str>>,
}

/// What is wanted and where it goes.
#[derive(Debug)]
pub(super) struct Trace {
    wanted: Wanted,
    lines: mpsc::Sender<Line>,
    missed: AtomicU64,
}

impl Trace {
    pub(super) fn new(wanted: Wanted) -> (Arc<Self>, mpsc::Receiver<Line>) {
        let (lines, receiver) = mpsc::channel(LINES_MAX);
        (Arc::new(Self { wanted, lines, missed: AtomicU64::new(0) }), receiver)
    }

    pub(super) fn wants_client(&self, client: &str) -> bool {
        self.wanted.client.as_deref().is_none_or(|wanted| wanted == client)
    }

    /// Tells a line about `topic`, if it is wanted. Never waits.
    pub(super) fn tell(&self, line: impl FnOnce() -> Line, topic: Option<&str>) {
        if !self.wanted.wants_topic(topic) {
            return;
        }
        match self.lines.try_reserve() {
            Ok(place) => place.send(line()),
            Err(_) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                counter!("gateway_trace_missed_total").increment(1);
            }
        }
    }
}

impl Wanted {
    /// Whether something about this topic, or about none, is wanted.
    #[must_use]
    pub fn wants_topic(&self, topic: Option<&str>) -> bool {
        let Some(filter) = &self.filter else { return true };
        let (Ok(filter), Some(Ok(topic))) = (TopicFilter::parse(filter), topic.map(TopicName::parse)) else {
            return false;
        };
        filter.matches(topic)
    }
}

/// Some lines, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Lines left out since the last time, because there was no room for them.
    pub missed: u64,
    /// The others.
    pub lines: Vec<Line>,
}

/// A trace that is open; it ends when this is dropped.
#[derive(Debug)]
pub struct Following {
    lens: Arc<Lens>,
    trace: Arc<Trace>,
    lines: mpsc::Receiver<Line>,
}

impl Following {
    pub(super) const fn new(lens: Arc<Lens>, trace: Arc<Trace>, lines: mpsc::Receiver<Line>) -> Self {
        Self { lens, trace, lines }
    }

    /// What is followed.
    #[must_use]
    pub fn wanted(&self) -> &Wanted {
        &self.trace.wanted
    }

    /// What there is, at most `max` lines, as soon as there is something. Nothing is lost if it is given up while it waits.
    pub async fn next(&mut self, max: usize) -> Seen {
        let mut lines = Vec::new();
        // The sender is as old as this is.
        self.lines.recv_many(&mut lines, max).await;
        Seen { missed: self.trace.missed.swap(0, Ordering::Relaxed), lines }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.lens.forget(&self.trace);
    }
}

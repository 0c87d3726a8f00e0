//! What somebody looks at while it happens: the packets of one client, line by line, and the topics with their rates.
//!
//! Promises: while nobody looks, one relaxed load for each turn of a connection and one branch for each packet; while somebody does, a
//! bounded queue for each trace, which says how many lines it missed, and a bounded table of topics, which counts the rest as one.
//!
//! Refuses to know: connections, sessions, who asked, and what becomes of what is seen. A connection that is looked at has a [`Tap`];
//! whoever looks has a [`Following`] or asks [`Topics`].
//!
//! Read next: [`Line`] for what there is to see, `tap` for how it is gathered.

mod line;
mod tap;
mod topics;
mod trace;

pub use line::{Direction, Importance, Line};
pub use tap::Tap;
pub use topics::{Level, Rates, Topics};
pub use trace::{Following, Seen, Wanted};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway_storage::Batch;
use metrics::{Unit, describe_counter, describe_gauge, gauge};

use trace::Trace;

/// Traces at one time; each costs every connection that it is about.
pub const TRACES_MAX: usize = 32;

/// Names the families for `/metrics`.
pub fn describe() {
    describe_gauge!("gateway_traces", Unit::Count, "Clients and topics that are being traced");
    describe_counter!(
        "gateway_trace_missed_total",
        Unit::Count,
        "Lines of traces that nobody took in time, and that were left out"
    );
    describe_gauge!(
        "gateway_topics_counted",
        Unit::Count,
        "Topics that are counted one by one, while somebody looks"
    );
    describe_counter!(
        "gateway_topics_other_total",
        Unit::Count,
        "Events that were counted under no topic of their own, since the table of topics was full"
    );
}

/// What is looked at.
#[derive(Debug, Default)]
pub struct Lens {
    /// 0: nothing. Else another number whenever what is looked at changes.
    word: AtomicU64,
    looked_at: Mutex<LookedAt>,
    topics: Arc<Topics>,
}

#[derive(Debug, Default)]
struct LookedAt {
    changes: u64,
    traces: Vec<Arc<Trace>>,
    topics: bool,
}

/// As much is traced as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{TRACES_MAX} traces are open already")]
pub struct TooMany;

impl Lens {
    /// 0 while nobody looks at anything; changes whenever what is looked at does.
    #[inline]
    #[must_use]
    pub fn word(&self) -> u64 {
        self.word.load(Ordering::Relaxed)
    }

    /// Follows what is wanted, from now on until the answer is dropped.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn follow(self: &Arc<Self>, wanted: Wanted) -> Result<Following, TooMany> {
        let mut looked_at = self.lock();
        if looked_at.traces.len() >= TRACES_MAX {
            return Err(TooMany);
        }
        let (trace, lines) = Trace::new(wanted);
        looked_at.traces.push(trace.clone());
        self.publish(looked_at);
        Ok(Following::new(self.clone(), trace, lines))
    }

    /// What there is to tell of a client from now on.
    #[must_use]
    pub fn tap(&self, client: &str) -> Tap {
        let looked_at = self.lock();
        let traces = looked_at.traces.iter().filter(|trace| trace.wants_client(client)).cloned().collect();
        Tap::new(looked_at.changes, client, traces, looked_at.topics.then(|| self.topics.clone()))
    }

    /// Tells of the events of a batch that are stored now.
    pub fn stored(&self, batch: &Batch) {
        let traces = self.lock().traces.clone();
        if traces.is_empty() {
            return;
        }
        for at in 0..batch.len() {
            let (Some(event), Some(offset)) = (batch.raw_event(at), batch.offset_of(at)) else { continue };
            for trace in &traces {
                // They were text when they were staged.
                let Ok(client) = std::str::from_utf8(event.client_id) else { continue };
                if !trace.wants_client(client) {
                    continue;
                }
                let topic = std::str::from_utf8(event.topic).unwrap_or_default();
                trace.tell(
                    || Line::stored(client, topic, event.qos, event.payload.len(), offset.get()),
                    Some(topic),
                );
            }
        }
    }

    /// The topics, counted from now on. True if nobody looked at them before.
    pub fn look_at_topics(&self, now_ms: u64) -> (Arc<Topics>, bool) {
        let mut looked_at = self.lock();
        let is_first = !looked_at.topics;
        if is_first {
            self.topics.begin(now_ms);
            looked_at.topics = true;
            self.publish(looked_at);
        }
        self.topics.looked(now_ms);
        (self.topics.clone(), is_first)
    }

    /// Ends the counting of topics if nobody has looked at them for a while; whether it has ended.
    pub fn end_topics(&self, now_ms: u64) -> bool {
        let mut looked_at = self.lock();
        if !self.topics.is_over(now_ms) {
            return false;
        }
        looked_at.topics = false;
        self.publish(looked_at);
        self.topics.clear();
        true
    }

    fn forget(&self, trace: &Arc<Trace>) {
        let mut looked_at = self.lock();
        looked_at.traces.retain(|known| !Arc::ptr_eq(known, trace));
        self.publish(looked_at);
    }

    /// Connections see that something has changed when they have something to do.
    fn publish(&self, mut looked_at: MutexGuard<'_, LookedAt>) {
        looked_at.changes += 1;
        let is_looked_at = looked_at.topics || !looked_at.traces.is_empty();
        self.word.store(if is_looked_at { looked_at.changes } else { 0 }, Ordering::Relaxed);
        gauge!("gateway_traces").set(looked_at.traces.len() as f64);
    }

    fn lock(&self) -> MutexGuard<'_, LookedAt> {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

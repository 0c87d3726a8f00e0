//! One connection: a socket, the codec, a [`Session`](gateway_protocol::session::Session), and what the gateway wants of it.
//!
//! [`serve`] takes a fresh stream through its life: handshake, the loop in `task`, and the leave-taking. Everything per connection
//! happens in its one task; others reach it only through values it polls: its outbox, its durable session's backlog, receipts, and
//! its seat in the registry. An idle connection owns no buffer: bytes are read into a buffer of the thread and written from one.
//!
//! ```text
//!  read --> codec --> Session --> ingest --> ticket ---> receipt --> PUBACK --+
//!                        |                                                   +--> write
//!                  SUBSCRIBE ...      outbox, backlog, cursors, work --> PUBLISH
//! ```

mod ahead;
mod backlog;
mod brake;
mod consumer;
mod endings;
mod exactly_once;
mod feed;
#[cfg(test)]
mod footprint;
mod gate;
mod gather;
mod handshake;
mod io;
mod leave;
pub mod metrics;
mod publish;
mod receive;
mod seldom;
mod spans;
mod subscribe;
mod tap;
mod task;
mod toll;
mod turn;
mod turnstile;
mod words;

pub use endings::{Endings, settle};
pub use handshake::serve;
pub use toll::ListenerRates;
pub use turnstile::{Readable, Turnstile};

use crate::admission::{Classes, Limits, Pressure, Storm};
use crate::clock;
use crate::config::Pace;
use crate::consumer::Consumers;
use crate::decisions::{Action, Decision, DecisionLog, Reason};
use crate::delivery::{Dispatcher, LiveRouter, Outboxes, Routes, WhenFull};
use crate::engine::Engine;
use crate::ingest::{self, LiveInterest};
use crate::lens::Lens;
use crate::pool::Pool;
use crate::presence::Presence;
use crate::registry::Registry;
use crate::spans::Spans;
use crate::sys_topics::SysTopics;
use gateway_protocol::session::ServerLimits;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// Staging of publishes for this kind of live subscribers.
pub type Ingest = ingest::Ingest<Arc<Routes>>;

/// What all connections share.
pub struct Context {
    /// The seam to what is durable.
    pub engine: Engine,
    /// Subscriptions of connections.
    pub live: Arc<LiveRouter>,
    /// Consumers of streams.
    pub consumers: Consumers,
    /// What the gateway says of itself.
    pub sys_topics: SysTopics,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// Who is there, and how others went.
    pub presence: Presence,
    /// Ends of connections that the log may not have.
    pub endings: Endings,
    /// Staging of publishes, by thread.
    pub ingest: Pool<Ingest>,
    /// Hand-out to live subscribers, by thread.
    pub dispatchers: Pool<Dispatcher>,
    /// What is announced to clients.
    pub limits: Arc<ServerLimits>,
    /// Bounds of one connection.
    pub settings: Settings,
    /// Where live messages wait.
    pub outboxes: Outboxes,
    /// How pressed the gateway is.
    pub pressure: Arc<Pressure>,
    /// Who reads next under pressure.
    pub turnstile: Arc<Turnstile>,
    /// Which events matter more.
    pub classes: Classes,
    /// What holds whatever the load is.
    pub admission: Limits,
    /// The pace of connects.
    pub storm: Mutex<Storm>,
    /// What is said of each listener, by its number.
    pub listeners: Box<[ListenerTerms]>,
    /// Where it is told what did not go through, and why.
    pub decisions: DecisionLog,
    /// Replays that wait.
    pub replays: Replays,
    /// What somebody looks at.
    pub lens: Arc<Lens>,
    /// What is traced.
    pub spans: Spans,
}

/// Connections that replay a stream and wait for the pressure to be less, or for their turn: one write each.
#[derive(Debug, Default)]
pub struct Replays {
    waiting: Mutex<Vec<Waker>>,
    turn: AtomicU64,
}

impl Replays {
    const WAITING_MAX: usize = 65_536;

    /// Wakes all of them, and gives each a turn.
    pub fn resume(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for waker in waiting {
            waker.wake();
        }
    }

    /// The number of the turn, from one.
    fn turn(&self) -> Option<NonZeroU64> {
        NonZeroU64::MIN.checked_add(self.turn.load(Ordering::Relaxed))
    }

    fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(waker.clone());
        if waiting.len() >= Self::WAITING_MAX {
            drop(waiting);
            self.resume(); // Those who must wait come again.
        }
    }
}

/// What is said of one listener.
#[derive(Debug)]
pub struct ListenerTerms {
    /// Clients without credentials are admitted.
    pub anonymous: bool,
    /// What its clients may publish together.
    pub rates: Option<ListenerRates>,
    /// What happens to a message for which there is no room.
    pub when_full: WhenFull,
}

/// Bounds of one connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of the largest CONNECT packet; all that a connection may cost before it.
    pub connect_bytes_max: usize,
    /// Time from accept to a complete CONNECT.
    pub connect_timeout: Duration,
    /// Bytes that may wait for a live subscriber.
    pub outbox_bytes_max: usize,
    /// Bytes gathered for one write.
    pub write_bytes: usize,
    /// The pace at which streams are given to readers that ask for none, by name; the others at full speed.
    pub replay: HashMap<String, Pace>,
    /// Publishes for which the log has no room wait until it has, rather than end their connection.
    pub holds_when_full: bool,
}

impl Context {
    /// Puts on record what did not go through.
    fn decide(&self, client: &str, topic: &str, action: Action, reason: Reason, count: u32) {
        self.decisions.record(clock::unix_ms(), Decision { client, topic, action, reason, count });
    }

    /// The rates that a listener's clients share, if there are any.
    fn rates_of(&self, listener: u16) -> Option<&ListenerRates> {
        self.listeners.get(usize::from(listener))?.rates.as_ref()
    }

    /// What happens to a message for which there is no room: as the client's rule says, or its listener.
    fn when_full(&self, listener: u16, client_id: &str) -> WhenFull {
        let by_rule = || self.classes.slow_subscriber(self.classes.membership(client_id)).map(WhenFull::from);
        let terms = self.listeners.get(usize::from(listener));
        (!self.classes.is_empty())
            .then(by_rule)
            .flatten()
            .or_else(|| terms.map(|terms| terms.when_full))
            .unwrap_or(WhenFull::Drop)
    }
}

impl LiveInterest for LiveRouter {
    type Way = Arc<Routes>;

    fn epoch(&self) -> u64 {
        Self::epoch(self)
    }

    fn way(&self, topic: &str) -> Option<Arc<Routes>> {
        let routes = Routes::of(self, topic);
        (!routes.is_empty()).then(|| Arc::new(routes))
    }

    fn is_same(one: &Arc<Routes>, other: &Arc<Routes>) -> bool {
        Arc::ptr_eq(one, other)
    }
}

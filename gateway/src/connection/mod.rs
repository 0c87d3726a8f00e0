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
mod feed;
#[cfg(test)]
mod footprint;
mod handshake;
mod io;
mod leave;
pub mod metrics;
mod receive;
mod subscribe;
mod task;

pub use endings::{Endings, settle};
pub use handshake::serve;

use crate::consumer::Consumers;
use crate::delivery::{Dispatcher, LiveRouter, WhenFull};
use crate::engine::Engine;
use crate::ingest::{Ingest, LiveInterest};
use crate::pool::Pool;
use crate::presence::Presence;
use crate::registry::Registry;
use crate::sys_topics::SysTopics;
use gateway_protocol::session::ServerLimits;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
    /// The next outbox's name.
    pub next_outbox: AtomicU64,
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
    /// What happens to a message for which there is no room.
    pub when_full: WhenFull,
    /// Bytes gathered for one write.
    pub write_bytes: usize,
    /// Subscriptions one client may have.
    pub subscriptions_max: usize,
}

impl Context {
    fn new_outbox_id(&self) -> u64 {
        self.next_outbox.fetch_add(1, Ordering::Relaxed)
    }
}

impl LiveInterest for LiveRouter {
    fn epoch(&self) -> u64 {
        Self::epoch(self)
    }

    fn wants(&self, topic: &str) -> bool {
        self.read(|router| router.wants(topic))
    }
}

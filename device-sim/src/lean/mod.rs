//! The lean client: very many connections on one thread, on the gateway's own codec, nothing between it and the socket.
//!
//! **Why.** An honest client (`mqtt`) costs a task, a channel and a timer per connection, some 30 KiB of memory and more CPU per event
//! than the fastest brokers. Here a thread waits for all its sockets at once; a connection costs some hundred bytes beside what
//! its device remembers; counters are told by the quarter of a second.
//!
//! **Promise.** What the honest client promises the ledger, this one does: every event is written in the order of being due and
//! counted once; what is unacknowledged goes again, with DUP and in order, when a connection with a durable session comes back;
//! connections come back after a pause that grows and differs between clients. A broker can end connections, never the worker.
//!
//! **What it refuses to know.** Other processes ([`crate::workers`]), terminals, reports. The network is behind [`transport`].
//!
//! Start reading at [`engine`] (the loop), then [`fleet`] (devices and their connections), [`publisher`] and [`checker`] (the two
//! kinds of clients), [`link`] (one connection's bytes).

mod checker;
mod common;
mod engine;
mod fleet;
pub(crate) mod link;
pub(crate) mod poller;
mod publisher;
mod tally;
pub(crate) mod transport;

pub(crate) use common::{Dialers, monotonic_us};
pub(crate) use engine::{Engine, LeanError};
pub(crate) use tally::{Tally, Times, Timing};
pub(crate) use transport::TcpDialer;

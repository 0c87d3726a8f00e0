//! What a connection costs that does nothing, in bytes of memory.
//!
//! Besides what is bounded here it owns its Client Identifier, once, a place in the registry's table, and what the runtime keeps for its
//! socket. The whole is measured by `device-sim bench connect`.

use super::Context;
use super::handshake::serve;
use super::task::Connection;
use crate::delivery::Outbox;
use crate::registry::{Place, Seat};
use std::sync::Arc;
use tokio::net::TcpStream;

/// The size of what `task` returns.
fn size_of_task<T>(_: impl Fn(Arc<Context>, TcpStream, Place) -> T) -> usize {
    size_of::<T>()
}

#[test]
fn an_idle_connection_is_small() {
    let sizes = [
        // Together with the 120 bytes that the runtime puts beside it, it takes two cache lines of 128.
        ("task", size_of_task(serve::<TcpStream>), 128),
        ("connection", size_of::<Connection>(), 456),
        // From its first subscription on.
        ("outbox", size_of::<Outbox>(), 160),
        ("seat", size_of::<Seat>(), 56),
    ];
    for (what, bytes, most) in sizes {
        assert!(bytes <= most, "{what}: {bytes} bytes");
    }
}

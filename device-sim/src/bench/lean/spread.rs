//! Where the connections of a benchmark come from.
//!
//! The kernel looks for a port of its own for each connection, among 28,000 by default, and half of those first. Many thousand connections from
//! one address to one broker cost more time in that search than in everything else together. So to a broker on this machine they come from
//! several of its loopback addresses in turn, as devices come from addresses of their own; to any other broker they come from wherever
//! the system chooses.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::lean::transport::{Dial, TcpDialer, Transport};
use crate::scenario::SourceRange;

/// Addresses that take turns, from 127.0.0.1 on.
const ADDRESSES: u32 = 16;

/// A dialer that takes the addresses in turn.
pub(super) struct Spread {
    dialer: TcpDialer,
    next: Cell<u32>,
}

impl Spread {
    pub(super) fn new(broker: SocketAddr) -> Self {
        let is_here = matches!(broker.ip(), IpAddr::V4(address) if address.is_loopback());
        let sources =
            is_here.then(|| SourceRange::starting_at(Ipv4Addr::LOCALHOST, ADDRESSES)).into_iter().collect();
        Self { dialer: TcpDialer { broker, sources }, next: Cell::new(0) }
    }
}

impl Dial for Spread {
    fn dial(&self, _: u32) -> io::Result<Box<dyn Transport>> {
        self.dialer.dial(self.next.replace(self.next.get().wrapping_add(1)))
    }
}

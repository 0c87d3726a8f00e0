//! Who is here, and how those who are not any more went: what an operator asks about a client.
//!
//! [`Presence`] knows every connection that was accepted and stands, in the order of Client Identifiers, and for each client how its last
//! connections ended and why ([`History`]). Connections say so when they begin and when they end, nothing in between costs anything.
//! It is kept in memory, in so many bytes at most: a restart forgets it, and those that ended longest ago are forgotten first.
//!
//! Refuses to know: what a session keeps (the engine), and how a connection is closed (its [`Seat`]). Read next: `cause` for the reasons.

mod cause;
mod history;

pub use cause::Cause;
pub use history::{History, Past};

use crate::registry::Seat;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes for how connections ended.
const ENDED_BYTES: usize = 24 << 20;
/// Bytes for connections that were refused: who is refused cannot push out what is known of others.
const REFUSED_BYTES: usize = 4 << 20;

/// A transport that knows where its peer is.
pub trait PeerAddress {
    /// The peer's address, while there is a peer.
    fn peer_address(&self) -> Option<SocketAddr>;
}

impl PeerAddress for tokio::net::TcpStream {
    fn peer_address(&self) -> Option<SocketAddr> {
        self.peer_addr().ok()
    }
}

/// An address in 18 bytes; one of version 4 as version 6 maps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    ip: [u8; 16],
    port: u16,
}

impl Address {
    /// The address, if it is known.
    #[must_use]
    pub fn get(self) -> Option<SocketAddr> {
        let ip = IpAddr::V6(Ipv6Addr::from(self.ip)).to_canonical();
        (self.port != 0).then_some(SocketAddr::new(ip, self.port))
    }
}

impl From<Option<SocketAddr>> for Address {
    fn from(address: Option<SocketAddr>) -> Self {
        let Some(address) = address else { return Self { ip: [0; 16], port: 0 } };
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { ip: ip.octets(), port: address.port() }
    }
}

/// A connection that was accepted and stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Where its client is.
    pub address: Address,
    /// Keep Alive in force, in seconds; 0: none.
    pub keep_alive_secs: u16,
    /// The protocol version, as CONNECT has it: 4 or 5.
    pub version: u8,
}

/// A seat that is found by its Client Identifier, which stands in the table only once.
#[derive(Debug)]
struct ByClientId(Arc<Seat>);

impl Borrow<str> for ByClientId {
    fn borrow(&self) -> &str {
        &self.0.client_id
    }
}

impl PartialEq for ByClientId {
    fn eq(&self, other: &Self) -> bool {
        self.0.client_id == other.0.client_id
    }
}

impl Eq for ByClientId {}

impl PartialOrd for ByClientId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByClientId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.client_id.cmp(&other.0.client_id)
    }
}

#[derive(Debug)]
struct Tables {
    present: BTreeMap<ByClientId, Present>,
    ended: History,
    refused: History,
}

/// Who is connected and how others went.
#[derive(Debug)]
pub struct Presence(Mutex<Tables>);

impl Default for Presence {
    fn default() -> Self {
        Self(Mutex::new(Tables {
            present: BTreeMap::new(),
            ended: History::new(ENDED_BYTES),
            refused: History::new(REFUSED_BYTES),
        }))
    }
}

impl Presence {
    /// A connection was accepted. Its seat is the only one with its Client Identifier.
    pub fn arrived(&self, seat: Arc<Seat>, present: Present) {
        self.lock().present.insert(ByClientId(seat), present);
    }

    /// An accepted connection ended at `now_ms`. To be called before its Client Identifier is free again.
    pub fn departed(&self, client_id: &str, cause: Cause, now_ms: u64) {
        let mut tables = self.lock();
        let present = tables.present.remove(client_id);
        let past = Past {
            since_ms: present.map_or(0, |present| present.since_ms),
            first_ms: now_ms,
            ended_ms: now_ms,
            count: 1,
            address: present.map_or_else(|| None.into(), |present| present.address),
            cause,
        };
        tables.ended.record(client_id, past);
    }

    /// A client that had said who it is was not accepted.
    pub fn refused(&self, client_id: &str, cause: Cause, address: Option<SocketAddr>, now_ms: u64) {
        let past = Past {
            since_ms: 0,
            first_ms: now_ms,
            ended_ms: now_ms,
            count: 1,
            address: address.into(),
            cause,
        };
        self.lock().refused.record(client_id, past);
    }

    /// The connection of a client, if it has one.
    #[must_use]
    pub fn get(&self, client_id: &str) -> Option<Present> {
        self.lock().present.get(client_id).copied()
    }

    /// The seat of a client's connection, by which it is asked to close.
    #[must_use]
    pub fn seat(&self, client_id: &str) -> Option<Arc<Seat>> {
        self.lock().present.get_key_value(client_id).map(|(key, _)| key.0.clone())
    }

    /// How the last connections of a client ended, and attempts of it that were refused; the newest first.
    #[must_use]
    pub fn history(&self, client_id: &str) -> Vec<Past> {
        let tables = self.lock();
        let mut all: Vec<Past> =
            tables.ended.of(client_id).chain(tables.refused.of(client_id)).copied().collect();
        // Of two ends within a millisecond the one that was told of last comes first.
        all.reverse();
        all.sort_by_key(|past| std::cmp::Reverse(past.ended_ms));
        all
    }

    /// How the last connection of a client ended.
    #[must_use]
    pub fn last_end(&self, client_id: &str) -> Option<Past> {
        self.lock().ended.of(client_id).last().copied()
    }

    /// Connected clients after `after` that `wanted` says yes to, in the order of their identifiers, so many at most.
    #[must_use]
    pub fn page(
        &self,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Vec<(Arc<str>, Present)> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.lock();
        tables
            .present
            .range::<str, _>((begin, Bound::Unbounded))
            .filter(|(key, _)| wanted(&key.0.client_id))
            .take(limit)
            .map(|(key, present)| (key.0.client_id.clone(), *present))
            .collect()
    }

    /// Clients that are known by how their connections ended alone, after `after`, in no order.
    #[must_use]
    pub fn known(&self, after: Option<&str>, wanted: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        let tables = self.lock();
        let known = tables.ended.clients().chain(tables.refused.clients());
        let is_meant =
            |client_id: &&Arc<str>| after.is_none_or(|after| &***client_id > after) && wanted(client_id);
        known.filter(is_meant).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

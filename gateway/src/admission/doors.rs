//! Who is inside: connections by address and by listener, and those that are still in their handshake.
//!
//! One lock for each connection that comes or goes, and none besides. How many there are in all is the registry's to count.

use super::level::Level;
use super::limits::Limits;
use super::storm::{Later, Storm, site};
use crate::decisions::Reason;
use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// When those are told to come again for whom there is no room: nobody knows when there will be.
const RETRY_MS: u64 = 10_000;

/// Counts of the connections there are, and the pace of those that come.
#[derive(Debug)]
pub struct Doors {
    state: Mutex<State>,
    handshakes: AtomicUsize,
    handshakes_max: usize,
    per_address_max: usize,
}

#[derive(Debug)]
struct State {
    storm: Storm,
    addresses: HashMap<u128, usize>,
    listeners: Vec<Listener>,
}

#[derive(Clone, Copy, Debug)]
struct Listener {
    connections: usize,
    max: usize,
}

/// One connection that is counted; uncounted when dropped.
#[derive(Debug)]
pub struct Pass {
    doors: Arc<Doors>,
    site: u128,
    listener: usize,
    is_greeting: bool,
}

impl Doors {
    /// Nobody is inside. `listeners`: how many connections each may have, in the order of the configuration.
    #[must_use]
    pub fn new(limits: &Limits, listeners: &[usize], now_ms: u64) -> Arc<Self> {
        let listeners = listeners.iter().map(|max| Listener { connections: 0, max: *max }).collect();
        let storm = Storm::new(limits.storm, now_ms);
        Arc::new(Self {
            state: Mutex::new(State { storm, addresses: HashMap::new(), listeners }),
            handshakes: AtomicUsize::new(0),
            handshakes_max: limits.handshakes,
            per_address_max: limits.connections_per_address,
        })
    }

    /// Whether one more may begin its handshake. While not, nobody is accepted: those who come wait in the kernel's queue.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.handshakes.load(Ordering::Relaxed) < self.handshakes_max
    }

    /// Connections in their handshake.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// Somebody was accepted on a listener, counted from 0.
    ///
    /// # Errors
    /// Why it may not stay, and when to come again.
    pub fn offer(
        self: &Arc<Self>,
        now_ms: u64,
        address: IpAddr,
        listener: usize,
        level: Level,
    ) -> Result<Pass, Later> {
        let refuse = |reason| Err(Later { reason, retry_after_ms: RETRY_MS });
        if !self.has_room() {
            return refuse(Reason::Handshakes);
        }
        let mut state = self.lock();
        let site = site(address);
        if state.listeners.get(listener).is_some_and(|listener| listener.connections >= listener.max) {
            return refuse(Reason::ListenerConnections);
        }
        if state.addresses.get(&site).is_some_and(|connections| *connections >= self.per_address_max) {
            return refuse(Reason::AddressConnections);
        }
        state.storm.offer(now_ms, address, level)?;
        *state.addresses.entry(site).or_insert(0) += 1;
        if let Some(listener) = state.listeners.get_mut(listener) {
            listener.connections += 1;
        }
        drop(state);
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        Ok(Pass { doors: self.clone(), site, listener, is_greeting: true })
    }

    /// Who was let in says who it is, and has a session here or not.
    ///
    /// # Errors
    /// As [`Storm::greet`].
    pub fn greet(&self, now_ms: u64, client_id: &str, has_session: bool, level: Level) -> Result<(), Later> {
        self.lock().storm.greet(now_ms, client_id, has_session, level)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// The handshake is over.
    pub fn greeted(&mut self) {
        if std::mem::take(&mut self.is_greeting) {
            self.doors.handshakes.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.greeted();
        let mut state = self.doors.lock();
        if let Some(listener) = state.listeners.get_mut(self.listener) {
            listener.connections = listener.connections.saturating_sub(1);
        }
        if let Some(connections) = state.addresses.get_mut(&self.site) {
            *connections = connections.saturating_sub(1);
            if *connections == 0 {
                state.addresses.remove(&self.site);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn doors(per_address: usize, handshakes: usize, listeners: &[usize]) -> Arc<Doors> {
        let limits = Limits {
            connections_per_address: per_address,
            handshakes,
            ..Limits::new(&Config::default().admission)
        };
        Doors::new(&limits, listeners, 0)
    }

    fn enter(doors: &Arc<Doors>, last: u8, listener: usize) -> Result<Pass, Reason> {
        doors.offer(0, [10, 0, 0, last].into(), listener, Level::Normal).map_err(|later| later.reason)
    }

    #[test]
    fn an_address_has_so_many_and_gets_a_place_back() {
        let doors = doors(3, 100, &[100]);
        let mut inside: Vec<_> = (0..3).map(|_| enter(&doors, 1, 0).unwrap()).collect();
        assert_eq!(enter(&doors, 1, 0).unwrap_err(), Reason::AddressConnections);
        assert!(enter(&doors, 2, 0).is_ok());
        inside.pop();
        assert!(enter(&doors, 1, 0).is_ok());
        drop(inside);
        assert!(doors.lock().addresses.is_empty(), "who is gone is forgotten");
    }

    #[test]
    fn a_listener_has_so_many() {
        let doors = doors(100, 100, &[2, 100]);
        let inside: Vec<_> = (0..2).map(|last| enter(&doors, last, 0).unwrap()).collect();
        assert_eq!(enter(&doors, 9, 0).unwrap_err(), Reason::ListenerConnections);
        assert!(enter(&doors, 9, 1).is_ok());
        drop(inside);
        assert!(enter(&doors, 9, 0).is_ok());
    }

    #[test]
    fn so_many_are_in_their_handshake() {
        let doors = doors(100, 2, &[100]);
        let mut first = enter(&doors, 1, 0).unwrap();
        let second = enter(&doors, 2, 0).unwrap();
        assert!(!doors.has_room());
        assert_eq!(enter(&doors, 3, 0).unwrap_err(), Reason::Handshakes);
        first.greeted();
        first.greeted();
        assert_eq!(doors.handshakes(), 1);
        let third = enter(&doors, 3, 0).unwrap();
        drop((second, third));
        assert_eq!(doors.handshakes(), 0);
        drop(first);
        assert_eq!(doors.handshakes(), 0, "it was counted out once");
    }

    #[test]
    fn who_is_refused_is_not_counted() {
        let limits = Limits {
            storm: super::super::storm::StormOptions {
                connects: super::super::bucket::Rate::per_second(1),
                address_connects: None,
                flap_connects: 0,
                flap_hold_off_ms: 0,
            },
            ..Limits::new(&Config::default().admission)
        };
        let doors = Doors::new(&limits, &[100], 0);
        let inside = enter(&doors, 1, 0).unwrap();
        assert_eq!(enter(&doors, 1, 0).unwrap_err(), Reason::ConnectRate);
        assert_eq!((doors.handshakes(), doors.lock().addresses.values().sum::<usize>()), (1, 1));
        drop(inside);
    }
}

//! How many connections there are: in all, through each listener, from each address, and in their handshakes.
//!
//! Whoever accepts a socket asks its [`Door`] to let it in. A limit that is reached is an answer ([`Full`]), not a wait: the client is
//! told, and may go elsewhere. Handshakes are another matter: they end by themselves, and soon, so whoever accepts waits for one to end
//! ([`Door::room`]) and leaves what comes meanwhile with the kernel.

use super::desk::Desk;
use crate::admission::site;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Limits over all doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time.
    pub connections: usize,
    /// Those of them that come from one address.
    pub per_address: usize,
    /// Those of them that have not been answered yet.
    pub handshakes: usize,
    /// Threads that work on them.
    pub threads: usize,
}

impl Limits {
    /// So many connections, from wherever, for one thread.
    #[must_use]
    pub const fn total(connections: usize) -> Self {
        Self { connections, per_address: usize::MAX, handshakes: usize::MAX, threads: 1 }
    }
}

/// Which limit a connection would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// That of all connections.
    Total,
    /// That of the listener.
    Listener,
    /// That of the address it comes from.
    Address,
}

/// What all doors share.
#[derive(Debug)]
pub(super) struct Floor {
    limits: Limits,
    connections: AtomicUsize,
    handshakes: AtomicUsize,
    /// Only while there is a limit for them.
    addresses: Mutex<HashMap<u128, usize>>,
    last_left: Notify,
    answered: Notify,
    desk: Desk,
}

/// One listener's way in.
#[derive(Debug)]
pub struct Door {
    /// The listener's number.
    number: u16,
    floor: Arc<Floor>,
    connections: AtomicUsize,
    connections_max: usize,
}

/// A connection counted against the limits; uncounted when dropped. One for which there is no room counts as a handshake alone: that long
/// it is there, to be told.
#[derive(Debug)]
pub struct Place {
    door: Arc<Door>,
    /// Until it is answered, and after that only where it counts against the limit for its address.
    guest: Option<Box<Guest>>,
}

#[derive(Debug)]
struct Guest {
    address: IpAddr,
    counts_address: bool,
    is_greeting: bool,
    full: Option<Full>,
}

impl Floor {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            connections: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            addresses: Mutex::default(),
            last_left: Notify::new(),
            answered: Notify::new(),
            desk: Desk::new(limits.threads),
        })
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }

    pub(super) async fn idle(&self) {
        wait_until(&self.last_left, || self.connections() == 0).await;
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<u128, usize>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one from `address`; false where there are as many as may be.
    fn count(&self, address: IpAddr) -> bool {
        let mut addresses = self.addresses();
        let count = addresses.entry(site(address)).or_default();
        let has_room = *count < self.limits.per_address;
        *count += usize::from(has_room);
        has_room
    }

    fn uncount(&self, address: IpAddr) {
        let mut addresses = self.addresses();
        if let Some(count) = addresses.get_mut(&site(address)) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&site(address));
            }
        }
    }
}

impl Door {
    pub(super) fn new(floor: Arc<Floor>, number: u16, connections_max: usize) -> Arc<Self> {
        Arc::new(Self { number, floor, connections: AtomicUsize::new(0), connections_max })
    }

    /// Waits until one more handshake may begin, and somebody has time for it.
    pub async fn room(&self) {
        let floor = &*self.floor;
        wait_until(&floor.answered, || floor.handshakes() < floor.limits.handshakes).await;
        floor.desk.room().await;
    }

    /// Lets in a connection from `address`, or notes which limit it would exceed: see [`Place::full`].
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Place {
        let floor = &self.floor;
        floor.handshakes.fetch_add(1, Ordering::Relaxed);
        let before = floor.connections.fetch_add(1, Ordering::Relaxed);
        let through_here = self.connections.fetch_add(1, Ordering::Relaxed);
        let counts_address = floor.limits.per_address < floor.limits.connections;
        let full = match () {
            () if before >= floor.limits.connections => Some(Full::Total),
            () if through_here >= self.connections_max => Some(Full::Listener),
            () if counts_address && !floor.count(address) => Some(Full::Address),
            () => None,
        };
        if full.is_some() {
            self.uncount();
        }
        let counts_address = counts_address && full.is_none();
        let guest = Guest { address, counts_address, is_greeting: true, full };
        Place { door: self.clone(), guest: Some(Box::new(guest)) }
    }

    fn uncount(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if self.floor.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.floor.last_left.notify_waiters();
        }
    }
}

impl Place {
    /// Which limit the connection would exceed; it is to be told, and to go.
    #[must_use]
    pub fn full(&self) -> Option<Full> {
        self.guest.as_ref()?.full
    }

    /// The number of the listener.
    #[must_use]
    pub fn listener(&self) -> u16 {
        self.door.number
    }

    /// Where it comes from, until it is answered.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        Some(self.guest.as_ref()?.address)
    }

    /// Does `work` that belongs to its coming or going when it is its turn, a step at a time: a few connections are worked on at one time.
    pub async fn work<W: Future>(&self, work: W) -> W::Output {
        self.door.floor.desk.work(work).await
    }

    /// The client has its answer.
    pub fn answered(&mut self) {
        let Some(guest) = &mut self.guest else { return };
        if std::mem::take(&mut guest.is_greeting) {
            self.door.floor.handshakes.fetch_sub(1, Ordering::Relaxed);
            self.door.floor.answered.notify_waiters();
        }
        if !guest.counts_address && guest.full.is_none() {
            self.guest = None;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.answered();
        if let Some(guest) = &self.guest {
            if guest.full.is_some() {
                return;
            }
            self.door.floor.uncount(guest.address);
        }
        self.door.uncount();
    }
}

/// Waits until `holds`, which is looked at again at each notification.
async fn wait_until(notify: &Notify, holds: impl Fn() -> bool) {
    loop {
        let notified = notify.notified();
        tokio::pin!(notified);
        // Registered before it is looked, so that what happens in between is not missed.
        notified.as_mut().enable();
        if holds() {
            return;
        }
        notified.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn no_more_connections_enter_than_each_limit_allows() {
        let floor = Floor::new(Limits { per_address: 2, ..Limits::total(4) });
        let (front, back) = (Door::new(floor.clone(), 0, 3), Door::new(floor.clone(), 1, usize::MAX));
        let mut places: Vec<_> = (0..2).map(|_| front.enter(A)).collect();
        assert!(places.iter().all(|place| place.full().is_none()));
        assert_eq!(front.enter(A).full(), Some(Full::Address));
        assert_eq!(back.enter(A).full(), Some(Full::Address), "whichever door");
        places.push(front.enter(B));
        let refused = front.enter(B);
        assert_eq!(refused.full(), Some(Full::Listener));
        places.push(back.enter(B));
        assert_eq!(back.enter(B).full(), Some(Full::Total));
        assert_eq!(
            (floor.connections(), floor.handshakes()),
            (4, 5),
            "who is not let in is there to be told"
        );
        drop(refused);
        places.clear();
        assert_eq!((floor.connections(), floor.handshakes()), (0, 0));
        assert!(floor.addresses().is_empty(), "nobody is remembered who is not there");
        assert_eq!(front.enter(A).full(), None);
    }

    #[tokio::test]
    async fn whoever_accepts_waits_for_a_handshake_to_end() {
        let floor = Floor::new(Limits { handshakes: 2, ..Limits::total(10) });
        let door = Door::new(floor.clone(), 0, usize::MAX);
        let mut first = door.enter(A);
        door.room().await;
        let _second = door.enter(A);
        let waiting = tokio::spawn({
            let door = door.clone();
            async move { door.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        first.answered();
        waiting.await.expect("no panic");
        first.answered();
        assert_eq!(floor.handshakes(), 1, "an answer is given once");
    }
}

//! Who is connected: one connection for each Client Identifier; how many there are, is [`doors`]'s.
//!
//! A connection that wants a Client Identifier which another one has asks that one to go (0x8E) and waits until it has gone
//! [MQTT-3.1.4-3]. Nothing here knows sessions or sockets.

mod desk;
mod doors;
mod timers;

pub use desk::behind_all_ready;
pub use doors::{Door, Full, Limits, Place};
pub use timers::TICK_MS;

use doors::Floor;
use timers::Timers;

use gateway_protocol::ReasonCode;
use gateway_protocol::session::Millis;
use std::borrow::Borrow;
use std::collections::HashSet;
use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a connection that was asked to go may take. Past it the newcomer is refused: the old one is stuck in a write.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// All connections.
#[derive(Debug)]
pub struct Registry {
    clients: Mutex<HashSet<ByClientId>>,
    floor: Arc<Floor>,
    timers: Timers,
    closing: Notify,
    is_closing: AtomicBool,
    server_reference: OnceLock<Box<str>>,
}

/// One connection's place, by which others can ask it to go.
#[derive(Debug)]
pub struct Seat {
    /// Its Client Identifier; the one copy of it that a connection costs.
    pub client_id: Arc<str>,
    /// The Reason Code it was asked to close with; 0: it was not.
    close: AtomicU8,
    /// Its place in the wheel of timers; 0: it has none.
    timer: AtomicU32,
    /// Of the connection's task.
    waker: Waker,
    /// For those that wait until it has gone.
    left: OnceLock<Box<Notify>>,
}

/// A seat that is found by its Client Identifier, which stands in the table only once.
#[derive(Debug)]
struct ByClientId(Arc<Seat>);

impl Borrow<str> for ByClientId {
    fn borrow(&self) -> &str {
        &self.0.client_id
    }
}

impl Hash for ByClientId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.client_id.hash(state);
    }
}

impl PartialEq for ByClientId {
    fn eq(&self, other: &Self) -> bool {
        self.0.client_id == other.0.client_id
    }
}

impl Eq for ByClientId {}

impl Seat {
    fn of(client_id: &str, waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            client_id: client_id.into(),
            close: AtomicU8::new(0),
            timer: AtomicU32::new(0),
            waker,
            left: OnceLock::new(),
        })
    }

    /// Asks the connection to close and tell its client why. The first reason stands.
    pub fn ask_to_close(&self, reason: ReasonCode) {
        let _ = self.close.compare_exchange(0, reason.as_u8(), Ordering::AcqRel, Ordering::Acquire);
        self.waker.wake_by_ref();
    }

    /// Why the connection is to close, if it is. Its task is woken when that changes.
    pub fn close_asked(&self) -> Option<ReasonCode> {
        match self.close.load(Ordering::Acquire) {
            0 => None,
            code => ReasonCode::from_u8(code),
        }
    }

    /// Whether its task will be woken because of the time.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.timer.load(Ordering::Acquire) != 0
    }

    /// Who is woken when the connection is asked to close: its task, the one that claimed the seat.
    #[must_use]
    pub const fn waker(&self) -> &Waker {
        &self.waker
    }
}

/// A Client Identifier held by one connection; given back when dropped.
#[derive(Debug)]
pub struct Claim {
    registry: Arc<Registry>,
    /// By which the connection is asked to go.
    pub seat: Arc<Seat>,
}

impl Claim {
    /// Has the connection's task, which is the one that calls, woken at `at`, or up to [`TICK_MS`] later, or in between to ask again: once,
    /// so not if it [is timed](Seat::is_timed) already.
    pub fn wake_at(&self, at: Millis) {
        if !self.seat.is_timed() {
            self.registry.timers.set(&self.seat, at);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.registry.timers.cancel(&self.seat);
        let mut clients = self.registry.clients();
        let client_id = &*self.seat.client_id;
        if clients.get(client_id).is_some_and(|holder| Arc::ptr_eq(&holder.0, &self.seat)) {
            clients.remove(client_id);
        }
        drop(clients);
        // Whoever made it saw the seat in the table after that, so it is seen here.
        if let Some(left) = self.seat.left.get() {
            left.notify_waiters();
        }
    }
}

/// The connection that has the Client Identifier did not go in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection that has the Client Identifier does not close")]
pub struct TakeoverTimedOut;

impl Registry {
    /// An empty registry, with the limits for connections over all doors.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            clients: Mutex::default(),
            floor: Floor::new(limits),
            timers: Timers::new(),
            closing: Notify::new(),
            is_closing: AtomicBool::new(false),
            server_reference: OnceLock::new(),
        })
    }

    /// A door for the listener with this number, through which at most `connections_max` connections are open at one time.
    #[must_use]
    pub fn door(&self, listener: u16, connections_max: usize) -> Arc<Door> {
        Door::new(self.floor.clone(), listener, connections_max)
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.floor.connections()
    }

    /// How many of them have not been answered yet.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.floor.handshakes()
    }

    /// Waits until there are no connections.
    pub async fn idle(&self) {
        self.floor.idle().await;
    }

    /// Takes a Client Identifier for the task that asks, after whoever has it now has left.
    ///
    /// # Errors
    /// [`TakeoverTimedOut`].
    pub async fn claim(self: &Arc<Self>, client_id: &str) -> Result<Claim, TakeoverTimedOut> {
        let claim = async {
            let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
            loop {
                let holder = {
                    let clients = self.clients();
                    match clients.get(client_id) {
                        Some(holder) => holder.0.clone(),
                        None => return self.seat(clients, client_id, waker),
                    }
                };
                let left = holder.left.get_or_init(Box::default).notified();
                tokio::pin!(left);
                // Registered before the map is looked at again, so that a holder leaving in between is not missed.
                left.as_mut().enable();
                let still_there =
                    self.clients().get(client_id).is_some_and(|now| Arc::ptr_eq(&now.0, &holder));
                if still_there {
                    holder.ask_to_close(ReasonCode::SessionTakenOver);
                    left.await;
                }
            }
        };
        tokio::time::timeout(TAKEOVER_TIMEOUT, claim).await.map_err(|_| TakeoverTimedOut)
    }

    /// Takes a Client Identifier that nobody has now. Whoever wants it then waits for the claim to be given back.
    pub fn try_claim(self: &Arc<Self>, client_id: &str) -> Option<Claim> {
        let clients = self.clients();
        (!clients.contains(client_id)).then(|| self.seat(clients, client_id, Waker::noop().clone()))
    }

    fn seat(
        self: &Arc<Self>,
        mut clients: MutexGuard<'_, HashSet<ByClientId>>,
        client_id: &str,
        waker: Waker,
    ) -> Claim {
        let seat = Seat::of(client_id, waker);
        clients.insert(ByClientId(seat.clone()));
        Claim { registry: self.clone(), seat }
    }

    /// Wakes the connections whose time has come. To be called every [`TICK_MS`].
    pub fn ring(&self, now: Millis) {
        self.timers.ring(now);
    }

    /// Waits until every connection was asked to close. For those that have no seat yet.
    pub async fn closing(&self) {
        let closing = self.closing.notified();
        tokio::pin!(closing);
        closing.as_mut().enable();
        if !self.is_closing.load(Ordering::Acquire) {
            closing.await;
        }
    }

    /// Where clients go that are told to use another server. What was said first stands.
    pub fn redirect_to(&self, server_reference: Box<str>) {
        let _ = self.server_reference.set(server_reference);
    }

    /// Where clients are told to go, if anywhere.
    pub fn server_reference(&self) -> Option<&str> {
        self.server_reference.get().map(|reference| &**reference)
    }

    /// Asks every connection to close.
    pub fn close_all(&self, reason: ReasonCode) {
        self.is_closing.store(true, Ordering::Release);
        self.closing.notify_waiters();
        let seats: Vec<_> = self.clients().iter().map(|holder| holder.0.clone()).collect();
        for seat in seats {
            seat.ask_to_close(reason);
        }
    }

    fn clients(&self) -> MutexGuard<'_, HashSet<ByClientId>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn mqtt_3_1_4_3_a_second_connection_waits_until_the_first_has_left() {
        let registry = Registry::new(Limits::total(10));
        let first = registry.claim("a").await.expect("free");
        let second = tokio::spawn({
            let registry = registry.clone();
            async move { registry.claim("a").await.is_ok() }
        });
        while first.seat.close_asked().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(first.seat.close_asked(), Some(ReasonCode::SessionTakenOver));
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.expect("no panic"));
    }

    #[tokio::test]
    async fn a_claim_that_does_not_wait_is_had_only_while_nobody_has_the_identifier() {
        let registry = Registry::new(Limits::total(10));
        let first = registry.claim("a").await.expect("free");
        assert!(registry.try_claim("a").is_none());
        assert_eq!(first.seat.close_asked(), None, "nobody was asked to go");
        drop(first);
        let claim = registry.try_claim("a").expect("free");
        let second = tokio::spawn({
            let registry = registry.clone();
            async move { registry.claim("a").await.is_ok() }
        });
        while claim.seat.close_asked().is_none() {
            tokio::task::yield_now().await;
        }
        drop(claim);
        assert!(second.await.expect("no panic"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_does_not_leave_costs_the_newcomer_its_claim() {
        let registry = Registry::new(Limits::total(10));
        let _first = registry.claim("a").await.expect("free");
        assert_eq!(registry.claim("a").await.err(), Some(TakeoverTimedOut));
    }
}

//! A durable Session as the engine holds it: its subscriptions, its backlog, and whom to wake when the backlog grows.
//!
//! Written by the apply step alone, but for what belongs to the connection that has the Session at the moment (its waker, and up
//! to where messages were sent).

use super::backlog::{Backlog, DueBatch, DueReader, Fetch};
use crate::router::Grant;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// A Session that outlives its connection.
#[derive(Debug)]
pub struct DurableSession {
    /// Its Client Identifier.
    pub client_id: Box<str>,
    /// Its key in the routing table; never used twice in one run of the gateway.
    pub id: u64,
    /// The end of the backlog, readable without the lock.
    end: AtomicU64,
    removed: AtomicBool,
    /// Its client had nothing left to do while more was there for it, since that was asked last.
    starved: AtomicBool,
    /// Messages given up for it in this run of the gateway, because there was no room.
    given_up: AtomicU64,
    state: Mutex<SessionState>,
}

/// What is behind the lock.
#[derive(Debug, Default)]
pub struct SessionState {
    /// Seconds it outlives its connection.
    pub expiry_secs: u32,
    /// A connection has it, as far as the log knows.
    pub connected: bool,
    /// When its last connection ended, in milliseconds since the Unix epoch.
    pub closed_at_ms: u64,
    /// Its subscriptions by Topic Filter.
    pub subscriptions: BTreeMap<Box<str>, Grant>,
    /// What it has not acknowledged.
    pub backlog: Backlog,
    /// Packet Identifiers of QoS 2 publishes that are ours but not released.
    pub received: BTreeSet<u16>,
    /// Messages below were sent on some connection: sent again, they carry DUP.
    pub sent_end: u64,
    /// The last time it was opened there was state to go on with: Session Present.
    pub resumed: bool,
    /// Which opening it was, of all in this run of the gateway; 0: it was not opened in this run. Not part of the saved view.
    pub opening: u64,
    /// Removed from the table; a connection that still holds it gets nothing more.
    pub removed: bool,
    /// A replay has passed over a part of the log: acknowledgements of these numbers and later ones meant other messages.
    pub(super) doubtful_from: Option<u64>,
    pub(super) waker: Option<Waker>,
    pub(super) unsaved: Unsaved,
}

/// What of a Session has changed since the view was last saved.
#[derive(Debug, Default, Clone)]
pub(super) struct Unsaved {
    /// It stands in the list of sessions to be saved.
    pub(super) listed: bool,
    /// Filters added or replaced (true) or removed (false).
    pub(super) filters: BTreeMap<Box<str>, bool>,
}

impl SessionState {
    /// Below it messages may have been sent, as far as the log knows. It knows how far a connection has come when that has ended.
    pub(super) fn possibly_sent(&self) -> u64 {
        if self.connected { u64::MAX } else { self.sent_end }
    }

    /// How many of `len` numbers from `sequence` on mean what they say.
    pub(super) fn undoubted(&self, sequence: u64, len: u64) -> u64 {
        self.doubtful_from.map_or(len, |from| len.min(from.saturating_sub(sequence)))
    }
}

impl DurableSession {
    pub(super) fn new(client_id: &str, id: u64, state: SessionState) -> Self {
        Self {
            client_id: client_id.into(),
            id,
            end: AtomicU64::new(state.backlog.end()),
            removed: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            given_up: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    /// Looks at or changes the state.
    pub fn state(&self) -> MutexGuard<'_, SessionState> {
        // Every change is complete before it can panic; a poisoned lock says nothing about the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of the backlog. When it is past what was sent there is something to send.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Whether it is gone from the table, so that a connection that still holds it has to close. Readable without the lock.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// A connection takes the Session: it is woken from now on. Returns the sequence to start from: the oldest that is not acknowledged, or
    /// not released.
    pub fn attach(&self, waker: &Waker) -> u64 {
        let mut state = self.state();
        state.waker = Some(waker.clone());
        state.backlog.identifiers_from()
    }

    /// The connection is gone.
    pub fn detach(&self) {
        self.state().waker = None;
    }

    /// Puts the first unacknowledged messages at or after `sequence` into `batch`, once everything is passed that was given up.
    #[must_use]
    pub fn fetch(&self, sequence: u64, reader: &mut DueReader, batch: &mut DueBatch) -> Fetch {
        let state = self.state();
        if state.removed {
            return Fetch::Nothing;
        }
        if let Some(given_up) = state.backlog.given_up(sequence, state.sent_end) {
            return Fetch::GivenUp(given_up);
        }
        batch.sent_end = state.sent_end;
        state.backlog.fetch(sequence, reader, batch)
    }

    /// Everything below `end` was sent.
    pub fn sent(&self, end: u64) {
        let mut state = self.state();
        state.sent_end = state.sent_end.max(end);
    }

    /// Its client has acknowledged most of what it may have at one time, and there is more for it: it waits for the gateway.
    pub fn note_starved(&self) {
        if !self.starved.load(Ordering::Relaxed) {
            self.starved.store(true, Ordering::Relaxed);
        }
    }

    /// Whether that was so since this was last asked.
    #[must_use]
    pub fn take_starved(&self) -> bool {
        self.starved.swap(false, Ordering::Relaxed)
    }

    /// How many messages have come for it and how many of them it is done with, both counted from some number on that a restart may change. What there
    /// was no room for has come, too. `None` while no connection has it.
    #[must_use]
    pub fn came_and_done(&self) -> Option<(u64, u64)> {
        let state = self.state();
        let end = state.backlog.end();
        let done = end.saturating_sub(state.backlog.pending());
        state.connected.then_some((end.saturating_add(self.given_up.load(Ordering::Relaxed)), done))
    }

    pub(super) fn note_given_up(&self, count: u64) {
        self.given_up.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn note_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    /// Lets go of what the saved view has, but for what a connection is about to deliver.
    pub(super) fn page_out(&self) {
        let mut state = self.state();
        let next = state.waker.is_some().then_some(state.sent_end.max(state.backlog.low()));
        state.backlog.page_out(next);
    }

    pub(super) fn publish_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }
}

//! Events that their publishers have named (User Property `event-id`): which of them are stored, and which are on their way to the log.
//!
//! ```text
//!  PUBLISH --judge--> New ---staged, submitted---> on its way ---applied---> stored ---window over---> forgotten
//!                      |                               |                       |
//!                      +--- refused: as if it had      +--- the log fails:     +--- Duplicate: acknowledged, not stored again
//!                           never been                      never was
//! ```
//!
//! What it promises: of the events that a client gives one name within the window, one is stored; a duplicate is acknowledged only when
//! that one is stored. What is stored follows from the entries alone (events carry their names) and is part of the saved view, so neither a
//! restart nor trimming forgets any; what is on its way lives in memory. Memory is bounded by `entries_max` and by what the open commit
//! groups hold; past `entries_max` the oldest are forgotten early, which is counted.
//!
//! Only what goes into the log is remembered: what nobody durable wants is not stored, so it cannot be stored twice. A Will Message is
//! published whatever its name.
//!
//! Read next: `index` (what is stored), `claims` (what a connection holds), `saved` (rows of the view).

mod claims;
mod identity;
mod index;
mod saved;
#[cfg(test)]
mod tests;

pub use claims::NamedEvents;
pub use identity::Identity;
pub(super) use saved::{Loaded, Loader};

use super::{Engine, Fate};
use foldhash::fast::RandomState;
use gateway_storage::{ChangeError, Changes, Durable, Ticket};
use index::Index;
use saved::Saved;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DedupOptions {
    /// How long a name is remembered, in milliseconds; 0: names mean nothing.
    pub window_ms: u64,
    /// How many are.
    pub entries_max: u32,
}

/// What is known of a named event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// Nothing: it is to be stored.
    New,
    /// It is stored.
    Stored,
    /// It is on its way to the log, and may get lost there.
    OnItsWay {
        /// When it was received, in milliseconds since the Unix epoch.
        received_ms: u64,
    },
}

/// Figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DedupStats {
    /// Names remembered.
    pub entries: u64,
    /// Names forgotten before their time since the start, because there were more than `entries_max`.
    pub forgotten_early: u64,
}

/// Shared by connections, which judge and claim, and the apply step, which alone makes an event stored.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    options: DedupOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stored: Index,
    saved: Saved,
    /// No more than the open commit groups and what waits for room in one hold.
    on_their_way: HashMap<Identity, OnItsWay, RandomState>,
    /// A submission not later than any of those on their way.
    oldest: Option<Ticket>,
    /// What had been forgotten early when the replay was over; it was counted when it happened.
    forgotten_before: u64,
}

/// An event that was staged, and its ticket once it is submitted.
#[derive(Clone, Copy, Debug)]
struct OnItsWay {
    received_ms: u64,
    ticket: Option<Ticket>,
}

impl Dedup {
    pub(super) fn new(options: DedupOptions) -> Self {
        let state = State { stored: Self::index(options), ..State::default() };
        Self { options, state: Mutex::new(state) }
    }

    /// Of an event; none if it has no name, or names mean nothing.
    #[inline]
    pub(super) fn identity(&self, client_id: &str, properties: &[u8]) -> Option<Identity> {
        if properties.is_empty() || self.options.window_ms == 0 {
            return None;
        }
        Identity::of(client_id, properties)
    }

    /// The apply step: the event is stored, and whoever asks from now on is told so.
    pub(super) fn store(&self, identity: Identity, received_ms: u64) {
        let mut state = self.lock();
        state.on_their_way.remove(&identity);
        state.stored.add(identity, received_ms);
    }

    /// A group was applied. What the log has lost by failing is on its way no longer: with the first receipt of its next life everything that
    /// was durable in the one before is applied, and so is here as stored.
    pub(super) fn applied(&self, durable: Durable) {
        let mut state = self.lock();
        if state.oldest.is_some_and(|oldest| durable.outlives(oldest)) {
            state
                .on_their_way
                .retain(|_, event| !event.ticket.is_some_and(|ticket| durable.outlives(ticket)));
            state.oldest = state.on_their_way.values().filter_map(|event| event.ticket).min();
        }
    }

    /// Collects what a saved view has.
    pub(super) fn loader(&self) -> Loader {
        Loader::new(Self::index(self.options))
    }

    /// Takes over what was saved.
    pub(super) fn restore(&self, loaded: Loaded) {
        let mut state = self.lock();
        (state.stored, state.saved) = (loaded.index, loaded.saved);
    }

    /// The replay is over.
    pub(super) fn restored(&self) {
        let mut state = self.lock();
        state.forgotten_before = state.stored.forgotten_early();
    }

    pub(super) fn has_unsaved(&self) -> bool {
        let state = self.lock();
        state.saved.is_behind(&state.stored)
    }

    /// Adds the rows of what has changed since this was last called.
    pub(super) fn save(&self, changes: &mut Changes) -> Result<(), ChangeError> {
        let mut state = self.lock();
        let State { stored, saved, .. } = &mut *state;
        saved.save(stored, changes)
    }

    fn stats(&self) -> DedupStats {
        let state = self.lock();
        let forgotten_early = state.stored.forgotten_early() - state.forgotten_before;
        DedupStats { entries: state.stored.len(), forgotten_early }
    }

    fn index(options: DedupOptions) -> Index {
        // Where names mean nothing, what the view has of them goes.
        let entries_max = if options.window_ms == 0 { 0 } else { options.entries_max };
        Index::new(options.window_ms, entries_max)
    }

    fn is_stored(&self, identity: Identity, now_ms: u64) -> bool {
        self.lock().stored.is_known(identity, now_ms)
    }

    fn begin(&self, identity: Identity, received_ms: u64) {
        self.lock().on_their_way.insert(identity, OnItsWay { received_ms, ticket: None });
    }

    fn submitted(&self, identities: &[Identity], ticket: Ticket) {
        let mut state = self.lock();
        for identity in identities {
            // The group may be applied already; then they are here no more.
            if let Some(event) = state.on_their_way.get_mut(identity) {
                event.ticket = Some(ticket);
                state.oldest.get_or_insert(ticket);
            }
        }
        if state.on_their_way.is_empty() {
            state.oldest = None;
        }
    }

    fn give_up(&self, identities: &[Identity]) {
        let mut state = self.lock();
        for identity in identities {
            state.on_their_way.remove(identity);
        }
    }

    /// Whether all of them are stored; not an older one of the same name, whose time was over when this one came.
    fn are_stored(&self, events: &[(Identity, u64)]) -> bool {
        let state = self.lock();
        let mut events = events.iter();
        events.all(|(identity, received_ms)| state.stored.received_ms(*identity) >= Some(*received_ms))
    }

    #[cfg(test)]
    pub(super) fn on_their_way(&self) -> usize {
        self.lock().on_their_way.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs between two steps that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// The identity of an event that its publisher has named. `properties` are in wire form and validated.
    #[inline]
    #[must_use]
    pub fn identity(&self, client_id: &str, properties: &[u8]) -> Option<Identity> {
        self.shared.table.dedup.identity(client_id, properties)
    }

    /// What is known at `now_ms` of a named event. At any time one connection at most asks for the events of one client.
    #[must_use]
    pub fn novelty(&self, identity: Identity, now_ms: u64) -> Novelty {
        let dedup = &self.shared.table.dedup;
        let OnItsWay { received_ms, ticket } = {
            let state = dedup.lock();
            match state.on_their_way.get(&identity) {
                Some(event) => *event,
                None if state.stored.is_known(identity, now_ms) => return Novelty::Stored,
                None => return Novelty::New,
            }
        };
        match ticket.map(|ticket| self.fate(ticket)) {
            None | Some(Fate::Open) => return Novelty::OnItsWay { received_ms },
            // What was lost with the log is given up, unless it was applied just now.
            Some(Fate::Over | Fate::Stored) => dedup.give_up(&[identity]),
        }
        if dedup.is_stored(identity, now_ms) { Novelty::Stored } else { Novelty::New }
    }

    /// For the named events of a read.
    #[must_use]
    pub fn named_events(&self) -> NamedEvents {
        NamedEvents::new(self.shared.table.dedup.clone())
    }

    /// Figures of named events.
    #[must_use]
    pub fn dedup_stats(&self) -> DedupStats {
        self.shared.table.dedup.stats()
    }
}

//! Where topics are likely to be that will be asked for next.
//!
//! Where many topics come in turn, what is known of each lies in memory that the processor has to wait for. Asked for one by one they are
//! waited for one by one; looked for together, with nothing in one look that depends on another, they are waited for together. A guess
//! decides nothing: whoever uses it compares the topic in full.

use super::{RouteCache, WAYS, neighbour, set_of, tag};
use std::hash::BuildHasher as _;
use std::hint::black_box;

/// Topics looked for together. More lines of memory than the processor fetches at one time are of no use.
pub(super) const TOGETHER: usize = 32;

/// From so many sets on it pays: fewer are in the processor's caches by themselves.
const SETS_MIN: usize = 256;

/// Guesses for the topics to come, in their order.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// Places among the topics.
    places: Vec<usize>,
    next: usize,
}

impl Guesses {
    /// The guess for the topic at hand.
    #[inline]
    pub(super) fn take(&mut self) -> Option<usize> {
        let place = self.places.get(self.next).copied();
        self.next += 1;
        place
    }

    /// They were not for what is asked for.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.next = 0;
    }

    const fn is_empty(&self) -> bool {
        self.next >= self.places.len()
    }
}

impl<R: Clone + PartialEq> RouteCache<R> {
    /// Whether it is time to say which topics come next ([`RouteCache::look_ahead`]).
    #[inline]
    #[must_use]
    pub fn wants_to_look_ahead(&self) -> bool {
        self.sets.len() >= SETS_MIN && self.guesses.is_empty()
    }

    /// These topics will be asked for next, in this order; how many of them are considered. That they are not asked for after all
    /// costs time and nothing else.
    pub fn look_ahead<'t>(&mut self, topics: impl Iterator<Item = &'t [u8]>) {
        self.guesses.clear();
        let mut hashes = [0; TOGETHER];
        let mut count = 0;
        for (hash, topic) in hashes.iter_mut().zip(topics) {
            *hash = self.hasher.hash_one(topic);
            count += 1;
        }
        let hashes = hashes.get(..count).unwrap_or_default();
        if count < 2 {
            return;
        }
        let sets = hashes.iter().map(|hash| {
            let set = self.sets.get(set_of(*hash, self.sets.len()));
            set.map_or(0, |set| set.generation)
        });
        black_box(sets.fold(0, u64::wrapping_add));
        let Self { sets, generation, guesses, .. } = self;
        guesses.places.extend(hashes.iter().map(|hash| {
            let (at, tag) = (set_of(*hash, sets.len()), tag(*hash));
            let in_set = |at: usize| {
                let set = sets.get(at).filter(|set| set.generation == *generation)?;
                Some(at * WAYS + set.tags.iter().position(|known| *known == tag)?)
            };
            in_set(at).or_else(|| in_set(neighbour(at))).unwrap_or(usize::MAX)
        }));
        let topics =
            guesses.places.iter().map(|place| self.topics.get(*place).map_or(0, |topic| topic.bytes().len()));
        black_box(topics.fold(0, usize::wrapping_add));
    }
}

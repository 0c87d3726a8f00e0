//! Answers of a router, kept while they are true.
//!
//! What a topic costs must not depend on how many there are. So a lookup touches two or three lines of memory, those of a set of eight places,
//! of its neighbour if it is full, and of a topic; a miss allocates nothing; topics with the same answer share it; and topics that come in turn, more of them
//! than there is room for, do not drive each other out: a full cache takes one in [`ADMITTED`] of what it does not know,
//! and goes on answering for what it has.

mod ahead;
mod answers;

use ahead::Guesses;
use answers::Answers;
use foldhash::fast::RandomState;
use std::hash::BuildHasher as _;

/// Places of a set. A topic has its place in one set, or in that one's neighbour once it is full.
const WAYS: usize = 8;

/// Of so many topics that find their set full, one takes the place of another.
const ADMITTED: u32 = 8;

/// Longest topic that needs no memory of its own.
const SHORT: usize = 62;

/// Bytes that longer topics may take, for each place.
const LONG_BYTES_EACH: usize = 64;

/// Answers by topic, all of one epoch, for about `capacity` topics; memory grows with need up to 72 bytes a topic, and as much again for topics
/// above 62 bytes.
///
/// When the epoch has changed, everything is dropped: a cache that is wrong once is worse than one that is refilled. A publisher's
/// next topic is mostly its last one, so that one is compared before anything is hashed. The hash has a random key, and topics are
/// compared in full: they are chosen by strangers.
#[derive(Debug)]
pub struct RouteCache<R> {
    epoch: u64,
    /// Counts epochs: what a set of an earlier generation has is void.
    generation: u64,
    /// A power of two of them, or none.
    sets: Vec<Set>,
    sets_max: usize,
    /// The topics of the sets' places.
    topics: Vec<Topic>,
    taken: usize,
    long_bytes: usize,
    /// The generation in which long topics of earlier ones were let go of.
    swept: u64,
    answers: Answers<R>,
    /// Where the last answer was found.
    last: Option<Found>,
    guesses: Guesses,
    refused: u32,
    hasher: RandomState,
}

/// Eight places. One line of memory.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
struct Set {
    generation: u64,
    /// Part of the topic's hash; 0: free.
    tags: [u16; WAYS],
    /// Numbers of the answers.
    answers: [u32; WAYS],
}

/// A topic in one line of memory, if it is not a long one.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
enum Topic {
    #[default]
    None,
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

#[derive(Clone, Copy, Debug)]
struct Found {
    /// Among [`RouteCache::topics`].
    place: usize,
    answer: u32,
}

impl Topic {
    fn new(topic: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..topic.len()), u8::try_from(topic.len())) {
            (Some(start), Ok(len)) => {
                start.copy_from_slice(topic);
                Self::Short(len, bytes)
            }
            _ => Self::Long(topic.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(topic) => topic,
        }
    }

    fn long_bytes(&self) -> usize {
        match self {
            Self::Long(topic) => topic.len(),
            Self::None | Self::Short(..) => 0,
        }
    }
}

impl<R: Clone + PartialEq> RouteCache<R> {
    /// An empty cache for about `capacity` topics, rounded up to a power of two. Two answers that are equal are taken for one another.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            epoch: 0,
            generation: 1,
            sets: Vec::new(),
            sets_max: capacity.div_ceil(WAYS).next_power_of_two(),
            topics: Vec::new(),
            taken: 0,
            long_bytes: 0,
            swept: 0,
            answers: Answers::new(),
            last: None,
            guesses: Guesses::default(),
            refused: 0,
            hasher: RandomState::default(),
        }
    }

    /// The answer for `topic` under `epoch`, found by `find` if it is not there. Topics are bytes here: to compare them nobody needs to know
    /// that they are text.
    pub fn get_or_find(&mut self, epoch: u64, topic: &[u8], find: impl FnOnce() -> R) -> R {
        self.with(epoch, topic, find, R::clone)
    }

    /// The same for those who need but a look at the answer.
    #[inline]
    pub fn with<T>(
        &mut self,
        epoch: u64,
        topic: &[u8],
        find: impl FnOnce() -> R,
        look: impl FnOnce(&R) -> T,
    ) -> T {
        if self.epoch != epoch {
            self.clear();
            self.epoch = epoch;
        }
        let guess = self.guesses.take();
        if let Some(last) = self.last
            && self.topics.get(last.place).is_some_and(|known| known.bytes() == topic)
            && let Some(answer) = self.answers.get(last.answer)
        {
            return look(answer);
        }
        if let Some(place) = guess {
            self.last = self.at(place, topic);
            if let Some(answer) = self.last.and_then(|found| self.answers.get(found.answer)) {
                return look(answer);
            }
            // Another topic has come than was looked for, or one that is not known: so it may be with the next.
            self.guesses.clear();
        }
        let hash = self.hasher.hash_one(topic);
        self.last = self.find(hash, topic);
        if let Some(answer) = self.last.and_then(|found| self.answers.get(found.answer)) {
            return look(answer);
        }
        let answer = find();
        self.last = self.keep(hash, topic, &answer);
        look(&answer)
    }

    fn clear(&mut self) {
        self.generation += 1;
        self.taken = 0;
        self.answers.clear();
        self.last = None;
    }

    /// What is known of `topic`, if it has this place.
    fn at(&self, place: usize, topic: &[u8]) -> Option<Found> {
        let set = self.sets.get(place / WAYS).filter(|set| set.generation == self.generation)?;
        let way = place % WAYS;
        let is_it = set.tags.get(way) != Some(&0) && self.topics.get(place)?.bytes() == topic;
        is_it.then_some(Found { place, answer: *set.answers.get(way)? })
    }

    fn find(&self, hash: u64, topic: &[u8]) -> Option<Found> {
        let at = set_of(hash, self.sets.len());
        self.find_in(at, hash, topic).or_else(|| {
            let is_full = self.sets.get(at).is_some_and(|set| set.is_full(self.generation));
            is_full.then(|| self.find_in(neighbour(at), hash, topic)).flatten()
        })
    }

    fn find_in(&self, at: usize, hash: u64, topic: &[u8]) -> Option<Found> {
        let set = self.sets.get(at).filter(|set| set.generation == self.generation)?;
        let tag = tag(hash);
        set.tags.iter().zip(set.answers).enumerate().filter(|(_, (known, _))| **known == tag).find_map(
            |(way, (_, answer))| {
                let place = at * WAYS + way;
                let is_it = self.topics.get(place)?.bytes() == topic;
                is_it.then_some(Found { place, answer })
            },
        )
    }

    fn keep(&mut self, hash: u64, topic: &[u8], answer: &R) -> Option<Found> {
        let long = if topic.len() > SHORT { topic.len() } else { 0 };
        if long > 0 && !self.has_room_for(long) {
            return None;
        }
        if self.taken * 8 >= self.topics.len() * 5 && self.sets.len() < self.sets_max {
            self.grow();
        }
        let (at, way) = match self.free_place(hash) {
            Some(free) => {
                self.taken += 1;
                free
            }
            None => {
                self.refused = self.refused.wrapping_add(1);
                if !self.refused.is_multiple_of(ADMITTED) {
                    return None;
                }
                let (at, way) = (set_of(hash, self.sets.len()), (self.refused / ADMITTED) as usize % WAYS);
                self.answers.release(*self.sets.get(at)?.answers.get(way)?);
                (at, way)
            }
        };
        let set = self.sets.get_mut(at)?;
        let answer = self.answers.hold(answer.clone());
        *set.tags.get_mut(way)? = tag(hash);
        *set.answers.get_mut(way)? = answer;
        let place = at * WAYS + way;
        let known = self.topics.get_mut(place)?;
        self.long_bytes = self.long_bytes + long - known.long_bytes();
        *known = Topic::new(topic);
        Some(Found { place, answer })
    }

    /// A set and a way in it that nothing of this generation has.
    fn free_place(&mut self, hash: u64) -> Option<(usize, usize)> {
        let at = set_of(hash, self.sets.len());
        for at in [at, neighbour(at)] {
            // Where there is but one set, it has no neighbour.
            let set = self.sets.get_mut(at)?;
            if set.generation != self.generation {
                *set = Set { generation: self.generation, ..Set::default() };
            }
            if let Some(way) = set.tags.iter().position(|tag| *tag == 0) {
                return Some((at, way));
            }
        }
        None
    }

    /// Whether so many more bytes may be held for long topics. Those of earlier epochs are let go of for them, once an epoch.
    fn has_room_for(&mut self, long: usize) -> bool {
        let most = self.sets_max * WAYS * LONG_BYTES_EACH;
        if self.long_bytes + long > most && self.swept != self.generation {
            self.swept = self.generation;
            self.sweep();
        }
        self.long_bytes + long <= most
    }

    fn sweep(&mut self) {
        for (set, topics) in self.sets.iter().zip(self.topics.chunks_mut(WAYS)) {
            if set.generation != self.generation {
                for topic in topics {
                    self.long_bytes -= topic.long_bytes();
                    *topic = Topic::None;
                }
            }
        }
    }

    /// Twice as many sets, with what is known in them.
    fn grow(&mut self) {
        let count = (self.sets.len() * 2).clamp(1, self.sets_max);
        let sets = std::mem::replace(&mut self.sets, vec![Set::default(); count]);
        let mut topics = std::mem::replace(&mut self.topics, vec![Topic::None; count * WAYS]);
        self.taken = 0;
        self.long_bytes = 0;
        for (set, topics) in sets.iter().zip(topics.chunks_mut(WAYS)) {
            if set.generation != self.generation {
                continue;
            }
            for ((tag, answer), topic) in set.tags.iter().zip(set.answers).zip(topics) {
                if *tag != 0 {
                    self.move_in(*tag, answer, std::mem::take(topic));
                }
            }
        }
    }

    /// There is a place: the topics of a set and its neighbour are divided among two such pairs.
    fn move_in(&mut self, tag: u16, answer: u32, topic: Topic) {
        let Some((at, way)) = self.free_place(self.hasher.hash_one(topic.bytes())) else { return };
        let Some(set) = self.sets.get_mut(at) else { return };
        if let (Some(known), Some(held), Some(place)) =
            (set.tags.get_mut(way), set.answers.get_mut(way), self.topics.get_mut(at * WAYS + way))
        {
            (*known, *held) = (tag, answer);
            self.taken += 1;
            self.long_bytes += topic.long_bytes();
            *place = topic;
        }
    }
}

impl Set {
    fn is_full(&self, generation: u64) -> bool {
        self.generation == generation && self.tags.iter().all(|tag| *tag != 0)
    }
}

/// The set that takes what another one has no room for.
const fn neighbour(at: usize) -> usize {
    at ^ 1
}

/// Low bits of the hash; the tag has others.
fn set_of(hash: u64, sets: usize) -> usize {
    (hash as usize) & sets.saturating_sub(1)
}

fn tag(hash: u64) -> u16 {
    ((hash >> 48) as u16).max(1)
}

#[cfg(test)]
mod tests;

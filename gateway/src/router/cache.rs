//! Answers of a router, kept while they are true.

use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Answers by topic, at most `capacity` of them, all of one epoch.
///
/// When the epoch has changed, or there is no room for another, everything is dropped: a cache that is wrong once is worse than
/// one that is refilled, and a fleet's topics come round again within seconds. A publisher's next topic is mostly its last one, so
/// that one is compared before anything is hashed. The hash has a random key: topics are chosen by strangers.
#[derive(Debug)]
pub struct RouteCache<R> {
    epoch: u64,
    places: HashMap<Box<str>, usize, RandomState>,
    answers: Vec<R>,
    last: (String, usize),
    capacity: usize,
}

impl<R> RouteCache<R> {
    /// An empty cache for at most `capacity` topics.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            epoch: 0,
            places: HashMap::default(),
            answers: Vec::new(),
            last: (String::new(), usize::MAX),
            capacity: capacity.max(1),
        }
    }

    /// The answer for `topic` under `epoch`, found by `find` if it is not there.
    pub fn get_or_find(&mut self, epoch: u64, topic: &str, find: impl FnOnce() -> R) -> R
    where
        R: Clone,
    {
        let at = self.place(epoch, topic);
        match at.and_then(|at| self.answers.get(at)) {
            Some(answer) => answer.clone(),
            None => {
                let answer = find();
                self.keep(topic, answer.clone());
                answer
            }
        }
    }

    /// Where the answer is, if it is there.
    fn place(&mut self, epoch: u64, topic: &str) -> Option<usize> {
        if self.epoch != epoch {
            self.clear();
            self.epoch = epoch;
        }
        if self.last.1 != usize::MAX && self.last.0 == topic {
            return Some(self.last.1);
        }
        let at = *self.places.get(topic)?;
        self.remember(topic, at);
        Some(at)
    }

    fn keep(&mut self, topic: &str, answer: R) {
        if self.answers.len() >= self.capacity {
            self.clear();
        }
        let at = self.answers.len();
        self.answers.push(answer);
        self.places.insert(topic.into(), at);
        self.remember(topic, at);
    }

    fn remember(&mut self, topic: &str, at: usize) {
        self.last.0.clear();
        self.last.0.push_str(topic);
        self.last.1 = at;
    }

    fn clear(&mut self) {
        self.places.clear();
        self.answers.clear();
        self.last.1 = usize::MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_lives_as_long_as_its_epoch() {
        let mut cache = RouteCache::new(8);
        assert_eq!(cache.get_or_find(1, "a", || 1), 1);
        assert_eq!(cache.get_or_find(1, "a", || 2), 1);
        assert_eq!(cache.get_or_find(2, "a", || 3), 3);
    }

    #[test]
    fn no_more_answers_are_kept_than_the_limit() {
        let mut cache = RouteCache::new(2);
        for topic in ["a", "b", "c", "d", "e"] {
            cache.get_or_find(0, topic, || ());
            assert!(cache.answers.len() <= 2);
        }
    }
}

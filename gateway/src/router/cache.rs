//! Answers of a router, kept while they are true.

use std::collections::HashMap;

/// Answers by topic, at most `capacity` of them, all of one epoch.
///
/// When the epoch has changed, or there is no room for another, everything is dropped: a cache that is wrong once is worse than
/// one that is refilled, and a fleet's topics come round again within seconds.
#[derive(Debug)]
pub struct RouteCache<R> {
    epoch: u64,
    answers: HashMap<Box<str>, R>,
    capacity: usize,
}

impl<R: Clone> RouteCache<R> {
    /// An empty cache for at most `capacity` topics.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { epoch: 0, answers: HashMap::new(), capacity }
    }

    /// The answer for `topic` under `epoch`, found by `find` if it is not there.
    pub fn get_or_find(&mut self, epoch: u64, topic: &str, find: impl FnOnce() -> R) -> R {
        if self.epoch != epoch {
            self.answers.clear();
            self.epoch = epoch;
        }
        if let Some(answer) = self.answers.get(topic) {
            return answer.clone();
        }
        let answer = find();
        if self.answers.len() >= self.capacity {
            self.answers.clear();
        }
        self.answers.insert(topic.into(), answer.clone());
        answer
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

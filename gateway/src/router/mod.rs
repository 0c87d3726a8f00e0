//! Who wants a topic: Topic Filters in, matching subscriptions out.
//!
//! Filters without wildcards live in a hash map, filters with them in a trie over topic levels. Both answer the same question,
//! and an answer is worth caching: [`SharedRouter::epoch`] changes with every change of the table, so a cache holds an answer
//! for as long as the epoch it was made under stands ([`RouteCache`]).
//!
//! Pure: nothing here knows a session, a socket, a clock or a disk. What a subscriber *is* stays with the caller (`S`).

mod cache;
mod groups;
mod trie;
mod ways;

pub use cache::RouteCache;
pub use groups::GroupMatch;
pub use ways::Ways;

use foldhash::fast::RandomState;
use gateway_protocol::{QoS, TopicFilter};
use groups::Groups;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use trie::Node;

/// Deepest filter with wildcards that is taken, in levels: matching recurses by level, and no fleet names things this deep.
pub const FILTER_LEVELS_MAX: usize = 128;

/// What one subscription asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The granted QoS.
    pub qos: QoS,
    /// Messages of the subscriber's own are not wanted [MQTT-3.8.3-3].
    pub no_local: bool,
    /// RETAIN is forwarded as it was published [MQTT-3.3.1-13].
    pub retain_as_published: bool,
    /// The Subscription Identifier; 0: none.
    pub subscription_id: u32,
}

/// One subscriber that wants a topic, whatever number of its subscriptions match.
#[derive(Clone, Debug)]
pub struct Match<S> {
    /// The subscriber's key in the table.
    pub id: u64,
    /// The subscriber.
    pub subscriber: S,
    /// Highest QoS among its matching subscriptions [MQTT-3.3.4-2].
    pub qos: QoS,
    /// Every matching subscription excludes the subscriber's own messages.
    pub no_local: bool,
    /// One of the matching subscriptions wants RETAIN as it was published.
    pub retain_as_published: bool,
    /// Identifiers of all matching subscriptions that have one, ascending [MQTT-3.3.4-4]; shared, since most have none.
    pub subscription_ids: Option<Arc<[u32]>>,
}

/// Of one table and epoch: there a key names one subscriber.
impl<S> PartialEq for Match<S> {
    fn eq(&self, other: &Self) -> bool {
        let facts = |found: &Self| (found.id, found.qos, found.no_local, found.retain_as_published);
        facts(self) == facts(other) && self.subscription_ids == other.subscription_ids
    }
}

#[derive(Clone, Debug)]
struct Subscription<S> {
    id: u64,
    subscriber: S,
    grant: Grant,
}

/// The filter was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// A filter with wildcards and more than [`FILTER_LEVELS_MAX`] levels.
    #[error("the Topic Filter has more than {FILTER_LEVELS_MAX} levels")]
    TooDeep,
}

/// The table. A subscriber has at most one subscription for each filter.
#[derive(Debug)]
pub struct Router<S> {
    exact: HashMap<Box<str>, Vec<Subscription<S>>, RandomState>,
    wildcards: Node<S>,
    groups: Groups<S>,
    subscriptions: usize,
}

impl<S> Default for Router<S> {
    fn default() -> Self {
        Self {
            exact: HashMap::default(),
            wildcards: Node::default(),
            groups: Groups::default(),
            subscriptions: 0,
        }
    }
}

impl<S: Clone> Router<S> {
    /// Adds a subscription, or replaces the one that `id` has for the same filter [MQTT-3.8.4-3]. True if it is new.
    ///
    /// # Errors
    /// [`SubscribeError::TooDeep`].
    pub fn subscribe(
        &mut self,
        id: u64,
        subscriber: S,
        filter: TopicFilter<'_>,
        grant: Grant,
    ) -> Result<bool, SubscribeError> {
        let subscriptions = if filter.has_wildcards() {
            if filter.levels().count() > FILTER_LEVELS_MAX {
                return Err(SubscribeError::TooDeep);
            }
            self.wildcards.subscriptions_at(filter)
        } else {
            self.exact.entry(filter.as_str().into()).or_default()
        };
        let subscription = Subscription { id, subscriber, grant };
        let is_new = match subscriptions.iter_mut().find(|other| other.id == id) {
            Some(other) => {
                *other = subscription;
                false
            }
            None => {
                subscriptions.push(subscription);
                true
            }
        };
        self.subscriptions += usize::from(is_new);
        Ok(is_new)
    }

    /// Removes a subscription [MQTT-3.10.4-1]; false if there was none.
    pub fn unsubscribe(&mut self, id: u64, filter: TopicFilter<'_>) -> bool {
        let removed = if filter.has_wildcards() {
            self.wildcards.remove(filter, id)
        } else {
            let Some(subscriptions) = self.exact.get_mut(filter.as_str()) else { return false };
            let before = subscriptions.len();
            subscriptions.retain(|other| other.id != id);
            let removed = subscriptions.len() < before;
            if subscriptions.is_empty() {
                self.exact.remove(filter.as_str());
            }
            removed
        };
        self.subscriptions -= usize::from(removed);
        removed
    }

    /// The subscribers of `topic`, each once, in ascending order of their keys.
    #[must_use]
    pub fn matches(&self, topic: &str) -> Vec<Match<S>> {
        let mut found: Vec<&Subscription<S>> = Vec::new();
        if let Some(subscriptions) = self.exact.get(topic) {
            found.extend(subscriptions);
        }
        self.wildcards.collect(topic, &mut found);
        found.sort_by_key(|subscription| subscription.id);
        found.chunk_by(|a, b| a.id == b.id).filter_map(merge).collect()
    }

    /// Adds a member to the group of a Shared Subscription, named by its whole filter `name`, or replaces the member's grant. True if it is
    /// new in the group.
    ///
    /// # Errors
    /// [`SubscribeError::TooDeep`].
    pub fn join(
        &mut self,
        name: &str,
        filter: TopicFilter<'_>,
        member: &str,
        subscriber: S,
        grant: Grant,
    ) -> Result<bool, SubscribeError> {
        self.groups.join(name, filter, member, subscriber, grant)
    }

    /// Removes a member from a group; false if it was not in it.
    pub fn leave(&mut self, name: &str, filter: TopicFilter<'_>, member: &str) -> bool {
        self.groups.leave(name, filter, member)
    }

    /// The groups that want `topic`, in the order of their names.
    #[must_use]
    pub fn group_matches(&self, topic: &str) -> Vec<GroupMatch<S>> {
        self.groups.matches(topic)
    }

    /// The members of the group named `name`.
    #[must_use]
    pub fn group_members(&self, name: &str) -> Vec<(S, Grant)> {
        self.groups.members(name)
    }

    /// Whether anybody wants `topic`, alone or in a group.
    #[must_use]
    pub fn wants(&self, topic: &str) -> bool {
        // A filter without subscriptions is not in the table.
        self.exact.contains_key(topic) || self.wildcards.wants(topic) || self.groups.wants(topic)
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscriptions
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscriptions == 0
    }
}

fn merge<S: Clone>(of_one_subscriber: &[&Subscription<S>]) -> Option<Match<S>> {
    let first = of_one_subscriber.first()?;
    let grants = || of_one_subscriber.iter().map(|subscription| subscription.grant);
    let mut ids: Vec<u32> = grants().map(|grant| grant.subscription_id).filter(|&id| id != 0).collect();
    ids.sort_unstable();
    Some(Match {
        id: first.id,
        subscriber: first.subscriber.clone(),
        qos: grants().map(|grant| grant.qos).max()?,
        no_local: grants().all(|grant| grant.no_local),
        retain_as_published: grants().any(|grant| grant.retain_as_published),
        subscription_ids: (!ids.is_empty()).then(|| ids.into()),
    })
}

/// A table that many threads read and few change, with the epoch that its caches go by.
#[derive(Debug)]
pub struct SharedRouter<S> {
    router: RwLock<Router<S>>,
    epoch: AtomicU64,
}

impl<S> Default for SharedRouter<S> {
    fn default() -> Self {
        Self { router: RwLock::default(), epoch: AtomicU64::new(0) }
    }
}

impl<S: Clone> SharedRouter<S> {
    /// The current epoch. An answer found under it is good until it changes.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Changes the table; afterwards the epoch is a new one.
    pub fn change<R>(&self, change: impl FnOnce(&mut Router<S>) -> R) -> R {
        // A table left by a panicking thread is still a table: every change to it is complete or absent.
        let mut router = self.router.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut router);
        self.epoch.fetch_add(1, Ordering::Release);
        result
    }

    /// Reads the table.
    pub fn read<R>(&self, read: impl FnOnce(&Router<S>) -> R) -> R {
        read(&self.router.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grant(qos: QoS, subscription_id: u32) -> Grant {
        Grant { qos, no_local: false, retain_as_published: false, subscription_id }
    }

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).expect("a legal filter")
    }

    fn ids<S: Clone>(router: &Router<S>, topic: &str) -> Vec<u64> {
        router.matches(topic).iter().map(|found| found.id).collect()
    }

    #[test]
    fn mqtt_3_3_4_2_overlapping_subscriptions_give_one_match_with_the_highest_qos_and_all_identifiers() {
        let mut router = Router::default();
        router.subscribe(7, (), filter("a/+"), grant(QoS::AtMostOnce, 9)).expect("taken");
        router.subscribe(7, (), filter("a/b"), grant(QoS::AtLeastOnce, 3)).expect("taken");
        router.subscribe(7, (), filter("#"), grant(QoS::AtMostOnce, 0)).expect("taken");
        let found = router.matches("a/b");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].qos, QoS::AtLeastOnce);
        assert_eq!(found[0].subscription_ids.as_deref(), Some(&[3, 9][..]));
    }

    #[test]
    fn mqtt_3_8_4_3_the_same_filter_again_replaces_the_subscription() {
        let mut router = Router::default();
        assert_eq!(router.subscribe(1, (), filter("a/#"), grant(QoS::AtMostOnce, 0)), Ok(true));
        assert_eq!(router.subscribe(1, (), filter("a/#"), grant(QoS::AtLeastOnce, 0)), Ok(false));
        assert_eq!(router.len(), 1);
        assert_eq!(router.matches("a")[0].qos, QoS::AtLeastOnce);
    }

    #[test]
    fn mqtt_4_7_2_1_a_leading_wildcard_does_not_match_a_dollar_topic() {
        let mut router = Router::default();
        for (id, text) in ["#", "+/x", "$SYS/#", "$SYS/+"].iter().enumerate() {
            router.subscribe(id as u64, (), filter(text), grant(QoS::AtMostOnce, 0)).expect("taken");
        }
        assert_eq!(ids(&router, "$SYS/x"), [2, 3]);
    }

    #[test]
    fn a_filter_deeper_than_the_limit_is_refused_and_one_at_the_limit_is_not() {
        let mut router = Router::default();
        let at_limit = format!("{}#", "/".repeat(FILTER_LEVELS_MAX - 1));
        assert!(router.subscribe(1, (), filter(&at_limit), grant(QoS::AtMostOnce, 0)).is_ok());
        let past = format!("/{at_limit}");
        assert_eq!(
            router.subscribe(1, (), filter(&past), grant(QoS::AtMostOnce, 0)),
            Err(SubscribeError::TooDeep)
        );
    }

    #[test]
    fn unsubscribing_everything_leaves_an_empty_table() {
        let mut router = Router::default();
        for text in ["a/b", "a/+", "a/#", "+/+/c", "#"] {
            router.subscribe(1, (), filter(text), grant(QoS::AtMostOnce, 0)).expect("taken");
        }
        for text in ["a/b", "a/+", "a/#", "+/+/c", "#"] {
            assert!(router.unsubscribe(1, filter(text)));
            assert!(!router.unsubscribe(1, filter(text)));
        }
        assert!(router.is_empty() && router.exact.is_empty() && router.wildcards.is_empty());
    }

    proptest! {
        /// The table finds exactly the filters that match when asked one by one.
        #[test]
        fn the_table_agrees_with_matching_one_by_one(
            filters in proptest::collection::vec("[ab+$]{0,2}(/[ab+]{0,1}){0,3}(/#)?", 1..24),
            removed in proptest::collection::vec(any::<bool>(), 24),
            topic in "[ab$]{0,2}(/[ab]{0,1}){0,4}",
        ) {
            let Ok(name) = gateway_protocol::TopicName::parse(&topic) else { return Ok(()) };
            let mut router = Router::default();
            let filters: Vec<_> = filters.iter().filter_map(|text| TopicFilter::parse(text).ok()).collect();
            for (id, filter) in filters.iter().enumerate() {
                router.subscribe(id as u64, (), *filter, grant(QoS::AtMostOnce, 0)).expect("taken");
            }
            let mut expected = Vec::new();
            for (id, filter) in filters.iter().enumerate() {
                if removed[id % removed.len()] {
                    prop_assert!(router.unsubscribe(id as u64, *filter));
                } else if filter.matches(name) {
                    expected.push(id as u64);
                }
            }
            prop_assert_eq!(router.wants(&topic), !expected.is_empty());
            prop_assert_eq!(ids(&router, &topic), expected);
        }
    }
}

//! Filters with wildcards, as a trie over topic levels.

use super::Subscription;
use foldhash::fast::RandomState;
use gateway_protocol::TopicFilter;
use std::collections::HashMap;

/// One level. Its depth is bounded by [`super::FILTER_LEVELS_MAX`], and with it every recursion here.
#[derive(Debug)]
pub(super) struct Node<S> {
    children: HashMap<Box<str>, Node<S>, RandomState>,
    /// The subtree below `+`.
    any: Option<Box<Node<S>>>,
    /// Filters that end in `#` at this level.
    rest: Vec<Subscription<S>>,
    /// Filters that end here.
    here: Vec<Subscription<S>>,
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self { children: HashMap::default(), any: None, rest: Vec::new(), here: Vec::new() }
    }
}

impl<S> Node<S> {
    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty() && self.any.is_none() && self.rest.is_empty() && self.here.is_empty()
    }

    /// The list of `filter`'s subscriptions, made if there is none yet.
    pub(super) fn subscriptions_at(&mut self, filter: TopicFilter<'_>) -> &mut Vec<Subscription<S>> {
        let mut node = self;
        for level in filter.levels() {
            match level {
                "#" => return &mut node.rest,
                "+" => node = node.any.get_or_insert_default(),
                name => node = node.children.entry(name.into()).or_default(),
            }
        }
        &mut node.here
    }

    /// Removes `id`'s subscription and every node that is empty then.
    pub(super) fn remove(&mut self, filter: TopicFilter<'_>, id: u64) -> bool {
        self.remove_below(&mut filter.levels(), id)
    }

    fn remove_below<'a>(&mut self, levels: &mut impl Iterator<Item = &'a str>, id: u64) -> bool {
        let list = match levels.next() {
            None => &mut self.here,
            Some("#") => &mut self.rest,
            Some("+") => {
                let Some(child) = &mut self.any else { return false };
                let removed = child.remove_below(levels, id);
                if child.is_empty() {
                    self.any = None;
                }
                return removed;
            }
            Some(name) => {
                let Some(child) = self.children.get_mut(name) else { return false };
                let removed = child.remove_below(levels, id);
                if child.is_empty() {
                    self.children.remove(name);
                }
                return removed;
            }
        };
        let before = list.len();
        list.retain(|subscription| subscription.id != id);
        list.len() < before
    }

    /// Adds every subscription whose filter matches `topic`.
    pub(super) fn collect<'s>(&'s self, topic: &str, found: &mut Vec<&'s Subscription<S>>) {
        let (first, rest) = split(topic);
        if topic.starts_with('$') {
            // [MQTT-4.7.2-1]: a filter that begins with a wildcard does not see these topics.
            if let Some(child) = self.children.get(first) {
                child.collect_below(rest, found);
            }
        } else {
            self.collect_below(Some(topic), found);
        }
    }

    /// Whether any subscription's filter matches `topic`.
    pub(super) fn wants(&self, topic: &str) -> bool {
        let (first, rest) = split(topic);
        if topic.starts_with('$') {
            return self.children.get(first).is_some_and(|child| child.wants_below(rest));
        }
        self.wants_below(Some(topic))
    }

    fn wants_below(&self, remaining: Option<&str>) -> bool {
        if !self.rest.is_empty() {
            return true;
        }
        let Some(remaining) = remaining else { return !self.here.is_empty() };
        let (level, rest) = split(remaining);
        self.children.get(level).is_some_and(|child| child.wants_below(rest))
            || self.any.as_ref().is_some_and(|child| child.wants_below(rest))
    }

    /// `remaining` is what follows the levels walked so far; `None`: nothing, the topic ends here.
    fn collect_below<'s>(&'s self, remaining: Option<&str>, found: &mut Vec<&'s Subscription<S>>) {
        found.extend(&self.rest); // "a/#" matches "a" as well
        let Some(remaining) = remaining else {
            found.extend(&self.here);
            return;
        };
        let (level, rest) = split(remaining);
        if let Some(child) = self.children.get(level) {
            child.collect_below(rest, found);
        }
        if let Some(child) = &self.any {
            child.collect_below(rest, found);
        }
    }
}

fn split(topic: &str) -> (&str, Option<&str>) {
    match topic.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (topic, None),
    }
}

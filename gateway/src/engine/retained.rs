//! Retained Messages: for each topic the last message that asked to be kept [MQTT-3.3.1-5].

use super::snapshot::{IllegibleRow, chunked};
use gateway_protocol::{TopicFilter, TopicName};
use gateway_storage::{ChangeError, Changes, Event, Offset, Table};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// A message kept for those who subscribe later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainedMessage {
    offset: u64,
    client_id: Box<str>,
    topic: Box<str>,
    qos: u8,
    received_ms: u64,
    expires_at_ms: u64,
    #[serde(with = "serde_bytes")]
    properties: Box<[u8]>,
    #[serde(with = "serde_bytes")]
    payload: Box<[u8]>,
}

impl RetainedMessage {
    fn of(offset: Offset, event: &Event<'_>) -> Self {
        Self {
            offset: offset.get(),
            client_id: event.client_id.into(),
            topic: event.topic.into(),
            qos: event.qos,
            received_ms: event.received_ms,
            expires_at_ms: event.expires_at_ms,
            properties: event.properties.into(),
            payload: event.payload.into(),
        }
    }

    /// A message that the gateway itself says, and that is not in the log.
    #[must_use]
    pub fn of_the_gateway(topic: &str, payload: &[u8], now_ms: u64) -> Self {
        let event = Event {
            client_id: "",
            topic,
            qos: 0,
            retain: true,
            received_ms: now_ms,
            expires_at_ms: 0,
            properties: &[],
            payload,
        };
        Self::of(Offset::ZERO, &event)
    }

    /// The message as it was published.
    #[must_use]
    pub fn event(&self) -> Event<'_> {
        Event {
            client_id: &self.client_id,
            topic: &self.topic,
            qos: self.qos,
            retain: true,
            received_ms: self.received_ms,
            expires_at_ms: self.expires_at_ms,
            properties: &self.properties,
            payload: &self.payload,
        }
    }

    /// Where in the log it is.
    #[must_use]
    pub fn offset(&self) -> Offset {
        Offset::new(self.offset)
    }

    /// Bytes it is charged with: topic, properties, payload, and what keeping them costs.
    #[must_use]
    pub fn cost(&self) -> u64 {
        (self.topic.len() * 2 + self.client_id.len() + self.properties.len() + self.payload.len() + 160)
            as u64
    }
}

/// All of them, by topic.
#[derive(Debug, Default)]
pub(super) struct RetainedTable {
    messages: BTreeMap<Box<str>, Arc<RetainedMessage>>,
    by_offset: HashMap<u64, Arc<RetainedMessage>>,
    bytes: u64,
    unsaved: BTreeSet<Box<str>>,
    /// Topics whose message takes more than one row of the saved view, and how many.
    large: HashMap<Box<str>, u32>,
}

impl RetainedTable {
    /// How many there are, and what they cost in bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.messages.len() as u64, self.bytes)
    }

    pub(super) fn contains(&self, topic: &str) -> bool {
        self.messages.contains_key(topic)
    }

    /// The message at `offset`, unless it was replaced or removed.
    pub(super) fn at(&self, offset: Offset) -> Option<Arc<RetainedMessage>> {
        self.by_offset.get(&offset.get()).cloned()
    }

    /// A publish with RETAIN: an empty payload removes the message [MQTT-3.3.1-6], any other replaces it.
    pub(super) fn publish(&mut self, offset: Offset, event: &Event<'_>) {
        if event.payload.is_empty() {
            self.remove(event.topic);
        } else {
            self.insert(RetainedMessage::of(offset, event));
        }
        self.unsaved.insert(event.topic.into());
    }

    /// Removes the message of `topic`, if it is the one at `offset`.
    pub(super) fn remove_at(&mut self, topic: &str, offset: u64) {
        if self.messages.get(topic).is_some_and(|message| message.offset == offset) {
            self.remove(topic);
            self.unsaved.insert(topic.into());
        }
    }

    fn insert(&mut self, message: RetainedMessage) {
        self.bytes += message.cost();
        let message = Arc::new(message);
        self.by_offset.insert(message.offset, message.clone());
        if let Some(old) = self.messages.insert(message.topic.clone(), message) {
            self.forget(&old);
        }
    }

    fn remove(&mut self, topic: &str) {
        if let Some(old) = self.messages.remove(topic) {
            self.forget(&old);
        }
    }

    fn forget(&mut self, old: &RetainedMessage) {
        self.bytes -= old.cost();
        self.by_offset.remove(&old.offset);
    }

    /// Messages whose topics match, in the order in which they were published. Only topics that begin like the filter does are looked at.
    pub(super) fn matching(&self, filter: TopicFilter<'_>) -> Vec<Arc<RetainedMessage>> {
        let text = filter.as_str();
        if !filter.has_wildcards() {
            return self.messages.get(text).cloned().into_iter().collect();
        }
        let literal = text.split(['+', '#']).next().unwrap_or_default();
        // "a/#" matches "a" as well, which is shorter than the literal beginning.
        let literal = literal.strip_suffix('/').unwrap_or(literal);
        let mut found: Vec<_> = self
            .messages
            .range::<str, _>((Bound::Included(literal), Bound::Unbounded))
            .take_while(|(topic, _)| topic.starts_with(literal))
            .filter(|(topic, _)| TopicName::parse(topic).is_ok_and(|name| filter.matches(name)))
            .map(|(_, message)| message.clone())
            .collect();
        found.sort_by_key(|message| message.offset);
        found
    }

    /// Messages that have expired, at most `max` of them.
    pub(super) fn expired(&self, now_ms: u64, max: usize) -> Vec<Arc<RetainedMessage>> {
        let is_expired =
            |message: &&Arc<RetainedMessage>| message.expires_at_ms != 0 && message.expires_at_ms <= now_ms;
        self.messages.values().filter(is_expired).take(max).cloned().collect()
    }

    pub(super) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// Adds the rows of every message that has changed.
    pub(super) fn save(&mut self, changes: &mut Changes) -> Result<(), ChangeError> {
        for topic in std::mem::take(&mut self.unsaved) {
            let before = self.large.remove(&topic).unwrap_or(1);
            let now = match self.messages.get(&topic) {
                Some(message) => chunked::put(changes, Table::Retained, &topic, &**message)?,
                None => 0,
            };
            if now > 1 {
                self.large.insert(topic.clone(), now);
            }
            chunked::delete(changes, Table::Retained, &topic, now..before)?;
        }
        Ok(())
    }

    /// A table as it was saved.
    pub(super) fn restore(rows: chunked::Loader) -> Result<Self, IllegibleRow> {
        let mut table = Self::default();
        for (topic, chunks, message) in rows.finish::<RetainedMessage>(Table::Retained)? {
            if chunks > 1 {
                table.large.insert(topic, chunks);
            }
            table.insert(message);
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(topic: &'a str, payload: &'a [u8]) -> Event<'a> {
        Event {
            client_id: "device",
            topic,
            qos: 1,
            retain: true,
            received_ms: 1,
            expires_at_ms: 0,
            properties: &[],
            payload,
        }
    }

    fn topics(table: &RetainedTable, filter: &str) -> Vec<String> {
        let filter = TopicFilter::parse(filter).unwrap();
        table.matching(filter).iter().map(|message| message.topic.to_string()).collect()
    }

    #[test]
    fn mqtt_3_3_1_5_a_later_message_replaces_an_earlier_one_and_an_empty_one_removes_it() {
        let mut table = RetainedTable::default();
        table.publish(Offset::new(1), &event("a/b", b"1"));
        table.publish(Offset::new(2), &event("a/b", b"22"));
        assert_eq!(table.size().0, 1);
        assert!(table.at(Offset::new(1)).is_none());
        assert_eq!(&*table.at(Offset::new(2)).unwrap().payload, b"22");
        assert_eq!(&*table.matching(TopicFilter::parse("a/b").unwrap())[0].payload, b"22");
        table.publish(Offset::new(3), &event("a/b", b""));
        assert_eq!(table.size(), (0, 0));
        assert!(table.by_offset.is_empty());
    }

    #[test]
    fn every_kind_of_filter_finds_its_messages_in_the_order_of_publication() {
        let mut table = RetainedTable::default();
        for (offset, topic) in ["b", "a/z", "a", "a/b/c", "ab", "$SYS/x", "a/b"].iter().enumerate() {
            table.publish(Offset::new(offset as u64), &event(topic, b"x"));
        }
        assert_eq!(topics(&table, "a/#"), ["a/z", "a", "a/b/c", "a/b"]);
        assert_eq!(topics(&table, "#"), ["b", "a/z", "a", "a/b/c", "ab", "a/b"]);
        assert_eq!(topics(&table, "+/b/#"), ["a/b/c", "a/b"]);
        assert_eq!(topics(&table, "a/+"), ["a/z", "a/b"]);
        assert_eq!(topics(&table, "$SYS/#"), ["$SYS/x"]);
        assert_eq!(topics(&table, "a/b"), ["a/b"]);
        assert_eq!(topics(&table, "nothing"), [""; 0]);
    }

    #[test]
    fn a_removal_names_the_message_it_means() {
        let mut table = RetainedTable::default();
        table.publish(Offset::new(1), &event("a", b"old"));
        table.publish(Offset::new(2), &event("a", b"new"));
        table.remove_at("a", 1);
        assert!(table.contains("a"));
        table.remove_at("a", 2);
        assert!(!table.contains("a"));
    }
}

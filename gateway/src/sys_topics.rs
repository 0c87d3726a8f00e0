//! `$SYS/...`: what the gateway says of itself over MQTT, under the names that brokers have in common.
//!
//! A value stands until it is replaced, so whoever subscribes gets the newest at once, like a Retained Message; nothing of it is stored.

use crate::engine::RetainedMessage;
use gateway_protocol::{TopicFilter, TopicName};
use gateway_storage::{Batch, Staging};
use std::sync::{Arc, PoisonError, RwLock};

/// What every topic of it begins with.
pub const PREFIX: &str = "$SYS/";

/// The newest values.
#[derive(Debug, Default)]
pub struct SysTopics {
    values: RwLock<Vec<Arc<RetainedMessage>>>,
}

impl SysTopics {
    /// Replaces all values.
    pub fn replace(&self, values: &[(&str, String)], now_ms: u64) {
        let values = values
            .iter()
            .map(|(topic, value)| Arc::new(RetainedMessage::of_the_gateway(topic, value.as_bytes(), now_ms)))
            .collect();
        *self.values.write().unwrap_or_else(PoisonError::into_inner) = values;
    }

    /// Values whose topics match.
    #[must_use]
    pub fn matching(&self, filter: TopicFilter<'_>) -> Vec<Arc<RetainedMessage>> {
        let matches = |value: &&Arc<RetainedMessage>| {
            TopicName::parse(value.event().topic).is_ok_and(|name| filter.matches(name))
        };
        self.values.read().unwrap_or_else(PoisonError::into_inner).iter().filter(matches).cloned().collect()
    }

    /// Those values that `wanted` says somebody subscribes to, for dispatch; `None` when there are none.
    #[must_use]
    pub fn batch(&self, wanted: impl Fn(&str) -> bool) -> Option<Arc<Batch>> {
        let mut staging = Staging::new();
        for value in self.values.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let event = value.event();
            if wanted(event.topic) {
                // Values are a few bytes long.
                let _ = staging.push_event(&gateway_storage::Event { retain: false, ..event });
            }
        }
        (!staging.is_empty()).then(|| Arc::new(staging.into_batch()))
    }
}

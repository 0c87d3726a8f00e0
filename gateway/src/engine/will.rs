//! Will Messages: what is to be published for a client when its connection ends otherwise than by its own DISCONNECT.
//!
//! A will is in the log before its CONNECT is answered, so it is published even if the gateway itself is what fails.

use super::snapshot::{IllegibleRow, chunked};
use gateway_storage::{ChangeError, Changes, Event, Table};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The message of a will, as it was left with CONNECT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WillMessage {
    /// Will Topic.
    pub topic: Box<str>,
    /// Will QoS.
    pub qos: u8,
    /// Will Retain.
    pub retain: bool,
    /// Message Expiry Interval in seconds from publication on; `None`: it does not expire.
    pub message_expiry_secs: Option<u32>,
    /// The properties that travel with the message, in wire form.
    #[serde(with = "serde_bytes")]
    pub properties: Box<[u8]>,
    /// Will Payload.
    #[serde(with = "serde_bytes")]
    pub payload: Box<[u8]>,
}

impl WillMessage {
    /// The form in the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        super::snapshot::pack(self)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes).ok()
    }

    /// The event that publishing it makes.
    #[must_use]
    pub fn event<'a>(&'a self, client_id: &'a str, now_ms: u64) -> Event<'a> {
        let expires_at_ms = match self.message_expiry_secs {
            Some(secs) => now_ms.saturating_add(u64::from(secs) * 1000).max(1),
            None => 0,
        };
        Event {
            client_id,
            topic: &self.topic,
            qos: self.qos,
            retain: self.retain,
            received_ms: now_ms,
            expires_at_ms,
            properties: &self.properties,
            payload: &self.payload,
        }
    }
}

/// A will that was left and not published yet.
#[derive(Debug)]
pub struct Will {
    /// What is to be published.
    pub message: WillMessage,
    /// Will Delay Interval in seconds.
    pub delay_secs: u32,
    /// When it is to be published, in milliseconds since the Unix epoch; `None`: its connection stands.
    pub due_at_ms: Option<u64>,
    /// Somebody has taken it upon himself to publish it.
    taken: AtomicBool,
}

impl Will {
    /// True for the first who asks: that one publishes it.
    pub fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    /// Publishing it did not work; somebody else may try.
    pub fn give_back(&self) {
        self.taken.store(false, Ordering::Release);
    }
}

#[derive(Serialize, Deserialize)]
struct WillRow {
    message: WillMessage,
    delay_secs: u32,
    due_at_ms: Option<u64>,
}

/// All of them, by Client Identifier.
#[derive(Debug, Default)]
pub(super) struct WillTable {
    wills: HashMap<Box<str>, Arc<Will>>,
    unsaved: BTreeSet<Box<str>>,
}

impl WillTable {
    pub(super) fn get(&self, client_id: &str) -> Option<Arc<Will>> {
        self.wills.get(client_id).cloned()
    }

    pub(super) fn all(&self) -> Vec<(Box<str>, Arc<Will>)> {
        self.wills.iter().map(|(client_id, will)| (client_id.clone(), will.clone())).collect()
    }

    pub(super) fn set(&mut self, client_id: &str, delay_secs: u32, message: &[u8]) {
        let Some(message) = WillMessage::decode(message) else { return };
        self.put(client_id, message, delay_secs, None);
        self.unsaved.insert(client_id.into());
    }

    pub(super) fn due(&mut self, client_id: &str, at_ms: u64) {
        let Some(will) = self.get(client_id) else { return };
        self.put(client_id, will.message.clone(), will.delay_secs, Some(at_ms));
        self.unsaved.insert(client_id.into());
    }

    pub(super) fn clear(&mut self, client_id: &str) {
        if self.wills.remove(client_id).is_some() {
            self.unsaved.insert(client_id.into());
        }
    }

    fn put(&mut self, client_id: &str, message: WillMessage, delay_secs: u32, due_at_ms: Option<u64>) {
        let will = Will { message, delay_secs, due_at_ms, taken: AtomicBool::new(false) };
        self.wills.insert(client_id.into(), Arc::new(will));
    }

    pub(super) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    pub(super) fn save(&mut self, changes: &mut Changes) -> Result<(), ChangeError> {
        for client_id in std::mem::take(&mut self.unsaved) {
            // CONNECT bounds a will to less than two rows.
            chunked::delete(changes, Table::Wills, &client_id, 0..2)?;
            if let Some(will) = self.wills.get(&client_id) {
                let row = WillRow {
                    message: will.message.clone(),
                    delay_secs: will.delay_secs,
                    due_at_ms: will.due_at_ms,
                };
                chunked::put(changes, Table::Wills, &client_id, &row)?;
            }
        }
        Ok(())
    }

    pub(super) fn restore(rows: chunked::Loader) -> Result<Self, IllegibleRow> {
        let mut table = Self::default();
        for (client_id, _, row) in rows.finish::<WillRow>(Table::Wills)? {
            table.put(&client_id, row.message, row.delay_secs, row.due_at_ms);
        }
        Ok(table)
    }
}

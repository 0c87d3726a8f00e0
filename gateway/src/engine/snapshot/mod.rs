//! Sessions to and from the rows of the saved view.
//!
//! Row keys begin with the Client Identifier and a zero byte, which no identifier contains [MQTT-1.5.4-2]:
//!
//! | table    | rest of the key            | value (MessagePack)                                        |
//! |----------|----------------------------|------------------------------------------------------------|
//! | Sessions | `m`                        | [`SessionRow`]: expiry, times, ends of the backlog         |
//! | Sessions | `s` and the Topic Filter   | [`GrantRow`]                                               |
//! | Pending  |                            | chunks of the backlog, and what is acknowledged in it: `pending` |
//!
//! A save writes the rows of sessions that changed, and of their backlogs only the chunks that were added to. When it is complete,
//! backlogs let go of what their rows have (`rounds`).

pub(super) mod chunked;
pub(super) mod pending;
pub(super) mod rounds;

use super::backlog::Parts;
use super::session::{DurableSession, SessionState};
use crate::router::Grant;
use gateway_protocol::QoS;
use gateway_storage::{ChangeError, Changes, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Serialize, Deserialize)]
struct SessionRow {
    expiry_secs: u32,
    connected: bool,
    closed_at_ms: u64,
    next_sequence: u64,
    low: u64,
    /// What counts of the oldest chunk's bytes; its row has what it had when it was whole.
    oldest_bytes: u64,
    sent_end: u64,
    received: Vec<u16>,
    /// Given up, and perhaps open at the client: start to end (exclusive).
    #[serde(default)]
    given_up: Vec<(u64, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct GrantRow {
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    subscription_id: u32,
}

/// The saved view cannot be read; it is to be rebuilt from the log.
#[derive(Debug)]
pub(super) struct IllegibleRow {
    pub(super) table: Table,
    pub(super) key: Box<[u8]>,
}

/// Adds the rows of a session that is gone.
pub(super) fn forget(session: &DurableSession, changes: &mut Changes) -> Result<(), ChangeError> {
    let state = session.state();
    changes.delete(Table::Sessions, &key(&session.client_id, b"m"))?;
    for filter in state.subscriptions.keys().chain(state.unsaved.filters.keys()) {
        changes.delete(Table::Sessions, &filter_key(&session.client_id, filter))?;
    }
    pending::forget(&session.client_id, &state.backlog, changes)
}

/// Adds the rows of a session that has changed since it was last saved.
pub(super) fn save(session: &DurableSession, changes: &mut Changes) -> Result<(), ChangeError> {
    let mut state = session.state();
    if state.removed {
        return Ok(());
    }
    let unsaved = std::mem::take(&mut state.unsaved);
    for (filter, is_there) in &unsaved.filters {
        let key = filter_key(&session.client_id, filter);
        match state.subscriptions.get(filter) {
            Some(grant) if *is_there => changes.put(Table::Sessions, &key, &pack(&GrantRow::of(grant)))?,
            _ => changes.delete(Table::Sessions, &key)?,
        }
    }
    pending::save(&session.client_id, &mut state.backlog, changes)?;
    let row = SessionRow {
        expiry_secs: state.expiry_secs,
        connected: state.connected,
        closed_at_ms: state.closed_at_ms,
        next_sequence: state.backlog.end(),
        low: state.backlog.low(),
        oldest_bytes: state.backlog.oldest_bytes(),
        sent_end: state.sent_end,
        received: state.received.iter().copied().collect(),
        given_up: state.backlog.given_up_ranges(),
    };
    changes.put(Table::Sessions, &key(&session.client_id, b"m"), &pack(&row))?;
    state.unsaved.listed = unsaved.listed;
    Ok(())
}

/// Collects rows of a saved view, each table's in the order of their keys, and makes sessions of them. Of backlogs it keeps what
/// stays in memory, so it takes no more of that however much waits.
#[derive(Debug, Default)]
pub(super) struct Loader {
    sessions: BTreeMap<Box<str>, Loading>,
    illegible: Option<IllegibleRow>,
}

#[derive(Debug, Default)]
struct Loading {
    row: Option<SessionRow>,
    subscriptions: BTreeMap<Box<str>, Grant>,
    backlog: Parts,
}

impl Loader {
    /// One row.
    pub(super) fn add(&mut self, table: Table, key: &[u8], value: &[u8]) {
        if self.try_add(table, key, value).is_none() {
            self.illegible.get_or_insert_with(|| IllegibleRow { table, key: key.into() });
        }
    }

    fn try_add(&mut self, table: Table, key: &[u8], value: &[u8]) -> Option<()> {
        let zero = key.iter().position(|&byte| byte == 0)?;
        let (client_id, rest) = key.split_at_checked(zero)?;
        let client_id = std::str::from_utf8(client_id).ok()?;
        let loading = self.sessions.entry(client_id.into()).or_default();
        match (table, rest.get(1..)?) {
            (Table::Sessions, b"m") => loading.row = Some(rmp_serde::from_slice(value).ok()?),
            (Table::Sessions, [b's', filter @ ..]) => {
                let row: GrantRow = rmp_serde::from_slice(value).ok()?;
                loading.subscriptions.insert(std::str::from_utf8(filter).ok()?.into(), row.grant()?);
            }
            (Table::Pending, rest) => pending::restore(rest, value, &mut loading.backlog)?,
            _ => return None,
        }
        Some(())
    }

    /// The sessions, by Client Identifier.
    pub(super) fn finish(self) -> Result<Vec<(Box<str>, SessionState)>, IllegibleRow> {
        if let Some(row) = self.illegible {
            return Err(row);
        }
        self.sessions
            .into_iter()
            .map(|(client_id, loading)| {
                let state = loading.finish().ok_or_else(|| IllegibleRow {
                    table: Table::Pending,
                    key: client_id.as_bytes().into(),
                })?;
                Ok((client_id, state))
            })
            .collect()
    }
}

impl Loading {
    fn finish(mut self) -> Option<SessionState> {
        let row = self.row?;
        self.backlog.ends(row.low, row.next_sequence, row.oldest_bytes);
        self.backlog.given_up(row.given_up);
        Some(SessionState {
            expiry_secs: row.expiry_secs,
            connected: row.connected,
            closed_at_ms: row.closed_at_ms,
            subscriptions: self.subscriptions,
            backlog: self.backlog.into_backlog()?,
            sent_end: row.sent_end,
            received: row.received.into_iter().collect(),
            ..SessionState::default()
        })
    }
}

impl GrantRow {
    fn of(grant: &Grant) -> Self {
        Self {
            qos: grant.qos as u8,
            no_local: grant.no_local,
            retain_as_published: grant.retain_as_published,
            subscription_id: grant.subscription_id,
        }
    }

    fn grant(&self) -> Option<Grant> {
        Some(Grant {
            qos: QoS::try_from(self.qos).ok()?,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            subscription_id: self.subscription_id,
        })
    }
}

pub(super) fn key(client_id: &str, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(client_id.len() + 1 + rest.len());
    key.extend_from_slice(client_id.as_bytes());
    key.push(0);
    key.extend_from_slice(rest);
    key
}

fn filter_key(client_id: &str, filter: &str) -> Vec<u8> {
    let mut key = key(client_id, b"s");
    key.extend_from_slice(filter.as_bytes());
    key
}

pub(super) fn pack(row: &impl Serialize) -> Vec<u8> {
    // Rows are numbers and lists of numbers; encoding them into memory cannot fail. Were it to, the empty row is illegible and
    // the view is rebuilt from the log.
    rmp_serde::to_vec(row).unwrap_or_default()
}

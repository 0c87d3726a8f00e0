//! Sessions to and from the rows of the saved view.
//!
//! Row keys begin with the Client Identifier and a zero byte, which no identifier contains [MQTT-1.5.4-2]:
//!
//! | table    | rest of the key            | value (MessagePack)                                        |
//! |----------|----------------------------|------------------------------------------------------------|
//! | Sessions | `m`                        | [`SessionRow`]: expiry, times, ends of the backlog, profiles |
//! | Sessions | `s` and the Topic Filter   | [`GrantRow`]                                               |
//! | Pending  | number of the chunk, u64 BE | [`ChunkRow`]: runs and acknowledged ranges of 2,048 sequences |
//!
//! A save writes the rows of sessions that changed, and of their backlogs only the chunks that can have changed: those that were
//! appended to, and those in which acknowledgements fall.

pub(super) mod chunked;

use super::backlog::{Backlog, Profile, Run};
use super::session::{DurableSession, SessionState, Unsaved};
use crate::router::Grant;
use gateway_protocol::QoS;
use gateway_storage::{ChangeError, Changes, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sequences in one row of the pending table. With the worst of runs (one message each) a row stays under 64 KiB.
const CHUNK: u64 = 2048;

#[derive(Debug, Serialize, Deserialize)]
struct SessionRow {
    expiry_secs: u32,
    connected: bool,
    closed_at_ms: u64,
    next_sequence: u64,
    low: u64,
    sent_end: u64,
    profiles: Vec<ProfileRow>,
    received: Vec<u16>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProfileRow {
    qos: u8,
    retain_as_published: bool,
    is_retained: bool,
    subscription_ids: Vec<u32>,
    group: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct GrantRow {
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    subscription_id: u32,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct ChunkRow {
    runs: Vec<(u64, u64, u32, u16, u64)>,
    acknowledged: Vec<(u64, u64)>,
    received: Vec<(u64, u64)>,
}

/// The saved view can not be read; it is to be rebuilt from the log.
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
    for chunk in state.unsaved.saved_low / CHUNK..=state.unsaved.saved_end / CHUNK {
        changes.delete(Table::Pending, &key(&session.client_id, &chunk.to_be_bytes()))?;
    }
    Ok(())
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
    save_backlog(session, &state.backlog, &unsaved, changes)?;
    let row = SessionRow {
        expiry_secs: state.expiry_secs,
        connected: state.connected,
        closed_at_ms: state.closed_at_ms,
        next_sequence: state.backlog.end(),
        low: state.backlog.low(),
        sent_end: state.sent_end,
        profiles: state.backlog.profiles().iter().map(ProfileRow::of).collect(),
        received: state.received.iter().copied().collect(),
    };
    changes.put(Table::Sessions, &key(&session.client_id, b"m"), &pack(&row))?;
    state.unsaved = Unsaved {
        listed: unsaved.listed,
        saved_end: state.backlog.end(),
        saved_low: state.backlog.low(),
        saved_numbering: state.backlog.numbering(),
        filters: BTreeMap::new(),
    };
    Ok(())
}

fn save_backlog(
    session: &DurableSession,
    backlog: &Backlog,
    unsaved: &Unsaved,
    changes: &mut Changes,
) -> Result<(), ChangeError> {
    let low_chunk = backlog.low() / CHUNK;
    for gone in unsaved.saved_low / CHUNK..low_chunk {
        changes.delete(Table::Pending, &key(&session.client_id, &gone.to_be_bytes()))?;
    }
    // Only messages that were sent can be acknowledged or received, and they lie close to the low end.
    let touched_end = backlog.acknowledged().chain(backlog.received()).map(|(_, end)| end).max().unwrap_or(0);
    let mut rows: BTreeMap<u64, ChunkRow> = BTreeMap::new();
    rows.insert(low_chunk, ChunkRow::default());
    let renumbered = backlog.numbering() != unsaved.saved_numbering;
    let changed = |chunk: u64| {
        renumbered || chunk == low_chunk || chunk * CHUNK <= touched_end || chunk >= unsaved.saved_end / CHUNK
    };
    for run in backlog.runs() {
        for piece in pieces(run).filter(|piece| changed(piece.sequence / CHUNK)) {
            let row = rows.entry(piece.sequence / CHUNK).or_default();
            row.runs.push((piece.sequence, piece.offset, piece.len, piece.profile, piece.bytes));
        }
    }
    for (start, end) in backlog.acknowledged() {
        // Kept whole with the chunk it begins in; ranges do not overlap, so every row has at most half as many as sequences.
        rows.entry(start / CHUNK).or_default().acknowledged.push((start, end));
    }
    for (start, end) in backlog.received() {
        rows.entry(start / CHUNK).or_default().received.push((start, end));
    }
    for (chunk, row) in rows {
        changes.put(Table::Pending, &key(&session.client_id, &chunk.to_be_bytes()), &pack(&row))?;
    }
    Ok(())
}

/// A run cut at the borders of chunks; its bytes are shared out in proportion, the rest going to the last piece.
fn pieces(run: &Run) -> impl Iterator<Item = Run> {
    let mut rest = Some(*run);
    std::iter::from_fn(move || {
        let run = rest.take()?;
        let room = CHUNK - run.sequence % CHUNK;
        if u64::from(run.len) <= room {
            return Some(run);
        }
        let bytes = run.bytes * room / u64::from(run.len);
        let taken = u32::try_from(room).ok()?;
        rest = Some(Run {
            sequence: run.sequence + room,
            offset: run.offset + room,
            len: run.len - taken,
            bytes: run.bytes - bytes,
            profile: run.profile,
        });
        Some(Run { len: taken, bytes, ..run })
    })
}

/// Collects rows of a saved view, in whatever order they come, and makes sessions of them.
#[derive(Debug, Default)]
pub(super) struct Loader {
    sessions: BTreeMap<Box<str>, Loading>,
    illegible: Option<IllegibleRow>,
}

#[derive(Debug, Default)]
struct Loading {
    row: Option<SessionRow>,
    subscriptions: BTreeMap<Box<str>, Grant>,
    runs: Vec<Run>,
    acknowledged: Vec<(u64, u64)>,
    received: Vec<(u64, u64)>,
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
            (Table::Pending, _) => {
                let row: ChunkRow = rmp_serde::from_slice(value).ok()?;
                loading.runs.extend(row.runs.into_iter().map(|(sequence, offset, len, profile, bytes)| {
                    Run { sequence, offset, len, profile, bytes }
                }));
                loading.acknowledged.extend(row.acknowledged);
                loading.received.extend(row.received);
            }
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
        self.runs.sort_by_key(|run| run.sequence);
        let profiles = row.profiles.iter().map(ProfileRow::profile).collect::<Option<_>>()?;
        let backlog = Backlog::restore(
            profiles,
            join(self.runs),
            row.low,
            row.next_sequence,
            self.acknowledged,
            self.received,
        )?;
        Some(SessionState {
            expiry_secs: row.expiry_secs,
            connected: row.connected,
            closed_at_ms: row.closed_at_ms,
            subscriptions: self.subscriptions,
            unsaved: Unsaved {
                listed: false,
                saved_end: backlog.end(),
                saved_low: backlog.low(),
                saved_numbering: backlog.numbering(),
                filters: BTreeMap::new(),
            },
            backlog,
            sent_end: row.sent_end,
            received: row.received.into_iter().collect(),
            ..SessionState::default()
        })
    }
}

/// Joins the pieces of runs that were cut at chunk borders.
fn join(pieces: Vec<Run>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for piece in pieces {
        match runs.last_mut() {
            Some(run)
                if run.profile == piece.profile
                    && run.sequence + u64::from(run.len) == piece.sequence
                    && run.offset + u64::from(run.len) == piece.offset
                    && run.len.checked_add(piece.len).is_some() =>
            {
                run.len += piece.len;
                run.bytes += piece.bytes;
            }
            _ => runs.push(piece),
        }
    }
    runs
}

impl ProfileRow {
    fn of(profile: &Profile) -> Self {
        Self {
            qos: profile.qos as u8,
            retain_as_published: profile.retain_as_published,
            is_retained: profile.is_retained,
            subscription_ids: profile.subscription_ids.as_deref().unwrap_or_default().to_vec(),
            group: profile.group.as_deref().map(str::to_owned),
        }
    }

    fn profile(&self) -> Option<Profile> {
        Some(Profile {
            qos: QoS::try_from(self.qos).ok()?,
            retain_as_published: self.retain_as_published,
            is_retained: self.is_retained,
            subscription_ids: (!self.subscription_ids.is_empty())
                .then(|| self.subscription_ids.as_slice().into()),
            group: self.group.as_deref().map(Into::into),
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

fn key(client_id: &str, rest: &[u8]) -> Vec<u8> {
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
    // Rows are numbers and lists of numbers; encoding them into memory can not fail. Were it to, the empty row is illegible and
    // the view is rebuilt from the log.
    rmp_serde::to_vec(row).unwrap_or_default()
}

//! The plain model: what the view has to be after each entry of the log, in maps, without a thought for speed, memory or disks.
//!
//! Which member of a Shared Subscription gets a message is not predicted: it is looked up in what the engine shows afterwards, has to be one
//! that may get it, and stays so from then on. The same goes for what is passed on to another member, and for how much more than it must a
//! [`Owned::Cut`] gives up.

mod settle;

use super::entries::{Owned, Published, matches, shared};
use crate::engine::rules::{Rules, WhenFull};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong.
pub(super) type Wrong = String;

macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}
pub(super) use ensure;

/// A message that waits for a session, by its sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) offset: u64,
    pub(super) qos: u8,
    pub(super) retained: bool,
    pub(super) as_published: bool,
    pub(super) ids: Vec<u32>,
    pub(super) group: Option<String>,
    pub(super) received: bool,
}

/// What the engine shows of a session, and what the model knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) connected: bool,
    pub(super) expiry_secs: u32,
    /// QoS, RETAIN as published, No Local, identifier.
    pub(super) subscriptions: BTreeMap<String, (u8, bool, bool, u32)>,
    pub(super) packets: BTreeSet<u16>,
    pub(super) pending: BTreeMap<u64, Message>,
    pub(super) next: u64,
    /// Given up and not acknowledged since: what may be open at the client at QoS 2.
    pub(super) open: BTreeSet<u64>,
    /// Given up in the entries at hand at QoS 1, which does no harm there.
    pub(super) perhaps_open: BTreeSet<u64>,
}

impl Session {
    fn give_up(&mut self, sequence: u64, sent_end: u64) {
        let Some(message) = self.pending.remove(&sequence) else { return };
        if sequence < sent_end {
            (if message.qos == 2 { &mut self.open } else { &mut self.perhaps_open }).insert(sequence);
        }
    }
}

/// All sessions.
pub(super) type Sessions = BTreeMap<String, Session>;

/// A will: delay, when it is due, and the message as it is in the log.
pub(super) type Will = (u32, Option<u64>, Vec<u8>);

/// A message of a group that is on its way to another member.
#[derive(Debug)]
struct Leaving {
    message: Message,
    /// Who had it, under which sequence.
    from: (String, u64),
    has_ended: bool,
}

/// All there is.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    pub(super) sessions: Sessions,
    /// Up to where messages were sent to a session.
    pub(super) sent: BTreeMap<String, u64>,
    pub(super) retained: BTreeMap<String, (u64, Published)>,
    pub(super) wills: BTreeMap<String, Will>,
    pub(super) rules: Rules,
    /// All there ever was in the log, and nothing that was lost.
    pub(super) log: BTreeMap<u64, Owned>,
}

impl Plain {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            sessions: BTreeMap::new(),
            sent: BTreeMap::new(),
            retained: BTreeMap::new(),
            wills: BTreeMap::new(),
            rules,
            log: BTreeMap::new(),
        }
    }

    /// Whether there are Shared Subscriptions.
    pub(super) fn has_groups(&self) -> bool {
        self.sessions
            .values()
            .any(|session| session.subscriptions.keys().any(|filter| shared(filter).is_some()))
    }

    /// What is open stays so from now on, as [`Plain::apply`] says.
    pub(super) fn adopt_open(&mut self, seen: Sessions) {
        for (client, shown) in seen {
            if let Some(session) = self.sessions.get_mut(&client) {
                session.open = shown.open;
                session.perhaps_open.clear();
            }
        }
    }

    /// Applies what was committed since the engine was last looked at; `seen` is what it shows now.
    pub(super) fn apply(&mut self, entries: &[(u64, Owned)], seen: &Sessions) -> Result<(), Wrong> {
        let mut leaving = Vec::new();
        let mut endings = 0;
        for (offset, entry) in entries {
            let mut over_quota = BTreeSet::new();
            let before = self.sessions.len();
            self.apply_one(*offset, entry, seen, &mut leaving, &mut over_quota)
                .map_err(|wrong| format!("{wrong}, at {offset}: {entry:?}"))?;
            for client in over_quota {
                self.remove(&client, &mut leaving);
                if let Some((_, Some(due), _)) = self.wills.get_mut(&client) {
                    *due = 0;
                }
            }
            endings += before.saturating_sub(self.sessions.len());
            ensure!(self.log.insert(*offset, entry.clone()).is_none(), "two entries at {offset}");
        }
        // Who was connected, and who had room, is known when all is done, and not for each of several.
        let closings = entries.iter().filter(|(_, entry)| matches!(entry, Owned::Closed { .. })).count();
        self.settle(leaving, seen, endings > 1 || closings > 1)
    }

    fn apply_one(
        &mut self,
        offset: u64,
        entry: &Owned,
        seen: &Sessions,
        leaving: &mut Vec<Leaving>,
        over_quota: &mut BTreeSet<String>,
    ) -> Result<(), Wrong> {
        match entry {
            Owned::Event(event) => {
                if event.retain && event.payload.is_empty() {
                    self.retained.remove(&event.topic);
                } else if event.retain {
                    self.retained.insert(event.topic.clone(), (offset, event.clone()));
                }
                if event.qos > 0 {
                    self.route(offset, event, over_quota);
                    self.route_to_groups(offset, event, seen, over_quota)?;
                }
            }
            Owned::Opened { client, clean, expiry_secs } => {
                if *clean {
                    self.remove(client, leaving);
                }
                if *expiry_secs > 0 || self.sessions.contains_key(client) {
                    let session = self.sessions.entry(client.clone()).or_default();
                    (session.connected, session.expiry_secs) = (true, *expiry_secs);
                }
            }
            Owned::Closed { client, expiry_secs, state, .. } => {
                self.close(client, *expiry_secs, state, leaving);
            }
            Owned::Removed { client } => {
                if self.sessions.get(client).is_some_and(|session| !session.connected) {
                    self.remove(client, leaving);
                }
            }
            Owned::Subscribed { client, filter, options, id } => {
                self.subscribe(client, filter, *options, *id, over_quota);
            }
            Owned::Unsubscribed { client, filter } => {
                if let Some(session) = self.sessions.get_mut(client) {
                    session.subscriptions.remove(filter);
                }
            }
            Owned::Acknowledged { client, runs } => {
                if let Some(session) = self.sessions.get_mut(client) {
                    session.pending.retain(|sequence, _| !is_in(runs, *sequence));
                    session.open.retain(|sequence| !is_in(runs, *sequence));
                    session.perhaps_open.retain(|sequence| !is_in(runs, *sequence));
                }
            }
            Owned::Received { client, runs } => {
                if let Some(session) = self.sessions.get_mut(client) {
                    let pending = session.pending.iter_mut();
                    pending.for_each(|(sequence, message)| message.received |= is_in(runs, *sequence));
                }
            }
            Owned::PacketIn { client, packet_id } => {
                if let Some(session) = self.sessions.get_mut(client) {
                    session.packets.insert(*packet_id);
                }
            }
            Owned::PacketReleased { client, packet_id } => {
                if let Some(session) = self.sessions.get_mut(client) {
                    session.packets.remove(packet_id);
                }
            }
            Owned::WillSet { client, delay_secs, will } => {
                self.wills.insert(client.clone(), (*delay_secs, None, will.clone()));
            }
            Owned::WillDue { client, at_ms } => {
                if let Some((_, due, _)) = self.wills.get_mut(client) {
                    *due = Some(*at_ms);
                }
            }
            Owned::WillCleared { client } => {
                self.wills.remove(client);
            }
            Owned::RetainedRemoved { topic, offset } => {
                if self.retained.get(topic).is_some_and(|(at, _)| at == offset) {
                    self.retained.remove(topic);
                }
            }
            Owned::Rules { rules } => self.rules = Rules::decode(rules).ok_or("illegible rules")?,
            Owned::Cut { client, before } => self.cut(client, *before, seen, over_quota)?,
        }
        Ok(())
    }

    /// Each session that subscribes to the topic for itself gets the message once.
    fn route(&mut self, offset: u64, event: &Published, over_quota: &mut BTreeSet<String>) {
        let clients: Vec<String> = self.sessions.keys().cloned().collect();
        for client in clients {
            let session = &self.sessions[&client];
            let wanted = session.subscriptions.iter();
            let wanted: Vec<_> = wanted.filter(|(filter, _)| matches(filter, &event.topic)).collect();
            let qos = wanted.iter().map(|(_, grant)| grant.0).max().unwrap_or(0);
            if qos == 0 || (wanted.iter().all(|(_, grant)| grant.2) && client == event.publisher) {
                continue;
            }
            let mut ids: Vec<u32> = wanted.iter().map(|(_, grant)| grant.3).filter(|id| *id != 0).collect();
            ids.sort_unstable();
            let as_published = wanted.iter().any(|(_, grant)| grant.1);
            let message =
                Message { offset, qos, retained: false, as_published, ids, group: None, received: false };
            self.deliver(&client, message, over_quota);
        }
    }

    /// One member of each group gets the message, the groups in the order of their names: the one that has it.
    fn route_to_groups(
        &mut self,
        offset: u64,
        event: &Published,
        seen: &Sessions,
        over_quota: &mut BTreeSet<String>,
    ) -> Result<(), Wrong> {
        let filters = self.sessions.values().flat_map(|session| session.subscriptions.keys().cloned());
        let groups: BTreeSet<String> = filters
            .filter(|filter| shared(filter).is_some_and(|filter| matches(filter, &event.topic)))
            .collect();
        for group in groups {
            let mut holders = Vec::new();
            for (client, session) in seen {
                let is_it = |message: &Message| {
                    message.offset == offset && message.group.as_deref() == Some(group.as_str())
                };
                let found = session.pending.iter().filter(|(_, message)| is_it(message));
                holders.extend(found.map(|(_, message)| (client.clone(), message.clone())));
            }
            ensure!(holders.len() <= 1, "{group} has the message twice: {holders:?}");
            let candidates = self.members(&group, None);
            match holders.pop() {
                Some((client, message)) => {
                    ensure!(candidates.contains(&client), "{client} may not get a message of {group}");
                    let has_room = |client: &String| self.has_room(client);
                    ensure!(
                        has_room(&client) || !candidates.iter().any(has_room),
                        "{client} is full, others of {group} are not"
                    );
                    let (grant, as_published, _, _) = self.sessions[&client].subscriptions[&group];
                    ensure!(message.qos == grant.min(event.qos), "{group} at QoS {}", message.qos);
                    ensure!(message.as_published == as_published, "{group} {message:?}");
                    // What has become of it since then is told by the entries behind this one.
                    self.deliver(&client, Message { received: false, ..message }, over_quota);
                }
                None => {
                    let full = candidates.iter().find(|client| self.has_room(client));
                    ensure!(full.is_none(), "nobody of {group} has the message, though {full:?} has room");
                    if self.rules.when_full == WhenFull::EndSession {
                        let ended: Vec<_> =
                            candidates.iter().filter(|client| !seen.contains_key(*client)).collect();
                        ensure!(!ended.is_empty(), "nobody of {group} has ended for the message");
                        over_quota.extend(ended.into_iter().cloned());
                    } else {
                        ensure!(
                            self.rules.when_full == WhenFull::DropNewest,
                            "nobody of {group} has made room for the message"
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// Members of a group that may get a message: those that are connected, or all where none is.
    fn members(&self, group: &str, except: Option<&str>) -> Vec<String> {
        let all = || {
            let all = self.sessions.iter().filter(|(client, _)| Some(client.as_str()) != except);
            all.filter(|(_, session)| session.subscriptions.contains_key(group))
        };
        let connected: Vec<_> =
            all().filter(|(_, session)| session.connected).map(|(client, _)| client.clone()).collect();
        if connected.is_empty() { all().map(|(client, _)| client.clone()).collect() } else { connected }
    }

    fn has_room(&self, client: &str) -> bool {
        (self.sessions[client].pending.len() as u64) < self.rules.backlog.messages_max
    }

    fn deliver(&mut self, client: &str, message: Message, over_quota: &mut BTreeSet<String>) {
        let max = self.rules.backlog.messages_max;
        let when_full = self.rules.when_full;
        let sent_end = self.possibly_sent(client);
        let Some(session) = self.sessions.get_mut(client) else { return };
        if session.pending.len() as u64 >= max {
            match when_full {
                WhenFull::DropOldest if max > 0 => {
                    while session.pending.len() as u64 >= max
                        && let Some(oldest) = session.pending.keys().next().copied()
                    {
                        session.give_up(oldest, sent_end);
                    }
                }
                WhenFull::EndSession if max > 0 => {
                    over_quota.insert(client.into());
                    return;
                }
                _ => return,
            }
        }
        session.pending.insert(session.next, message);
        session.next += 1;
    }

    fn subscribe(
        &mut self,
        client: &str,
        filter: &str,
        options: u8,
        id: u32,
        over_quota: &mut BTreeSet<String>,
    ) {
        let is_shared = shared(filter).is_some();
        if is_shared && !self.sessions.contains_key(client) {
            self.sessions.insert(client.into(), Session { connected: true, ..Session::default() });
        }
        let Some(session) = self.sessions.get_mut(client) else { return };
        let grant = (options & 3, options & 8 != 0, options & 4 != 0, id);
        let is_new = session.subscriptions.insert(filter.into(), grant).is_none();
        let wants_retained = match options >> 4 {
            0 => true,
            1 => is_new,
            _ => false,
        };
        if is_shared || !wants_retained || grant.0 == 0 {
            return;
        }
        let found =
            self.retained.iter().filter(|(topic, (_, event))| event.qos > 0 && matches(filter, topic));
        let mut offsets: Vec<u64> = found.map(|(_, (offset, _))| *offset).collect();
        offsets.sort_unstable();
        for offset in offsets {
            let message = Message {
                offset,
                qos: grant.0,
                retained: true,
                as_published: grant.1,
                ids: (id != 0).then_some(id).into_iter().collect(),
                group: None,
                received: false,
            };
            self.deliver(client, message, over_quota);
        }
    }

    fn close(&mut self, client: &str, expiry_secs: u32, state: &[u8], leaving: &mut Vec<Leaving>) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        (session.connected, session.expiry_secs) = (false, expiry_secs);
        let sent_end = state.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let sent = self.sent.entry(client.into()).or_default();
        *sent = sent_end.max(*sent);
        if expiry_secs == 0 {
            self.remove(client, leaving);
        } else if state.get(8) != Some(&1) {
            for (sequence, message) in &session.pending {
                let is_begun = message.received || (message.qos == 2 && *sequence < sent_end);
                if message.group.is_some() && !is_begun {
                    let from = (client.to_owned(), *sequence);
                    leaving.push(Leaving { message: message.clone(), from, has_ended: false });
                }
            }
        }
    }

    /// The session ends. What others of its groups can still have goes to them: at QoS 2 not what may be on its way to the client.
    fn remove(&mut self, client: &str, leaving: &mut Vec<Leaving>) {
        let sent = self.possibly_sent(client);
        self.sent.remove(client);
        let Some(session) = self.sessions.remove(client) else { return };
        for (sequence, message) in session.pending {
            let is_begun = message.received || (message.qos == 2 && sequence < sent);
            if message.group.is_some() && !is_begun {
                leaving.push(Leaving { message, from: (client.to_owned(), sequence), has_ended: true });
            }
        }
    }

    /// Where those of a session's messages end that may have been sent: a connection tells when it ends.
    fn possibly_sent(&self, client: &str) -> u64 {
        let is_connected = self.sessions.get(client).is_some_and(|session| session.connected);
        if is_connected { u64::MAX } else { self.sent.get(client).copied().unwrap_or(0) }
    }

    fn cut(
        &mut self,
        client: &str,
        before: u64,
        seen: &Sessions,
        over_quota: &mut BTreeSet<String>,
    ) -> Result<(), Wrong> {
        let when_full = self.rules.when_full;
        let sent_end = self.possibly_sent(client);
        let Some(session) = self.sessions.get_mut(client) else { return Ok(()) };
        let is_meant = |message: &Message| !message.retained && message.offset < before;
        if when_full == WhenFull::DropNewest || !session.pending.values().any(is_meant) {
            return Ok(());
        }
        if when_full == WhenFull::EndSession {
            over_quota.insert(client.into());
            return Ok(());
        }
        let Some(seen) = seen.get(client) else { return Err(format!("{client} is gone")) };
        let low = seen.pending.first_key_value().map_or(session.next, |(sequence, _)| *sequence);
        let given_up: Vec<u64> = session.pending.range(..low).map(|(sequence, _)| *sequence).collect();
        given_up.into_iter().for_each(|sequence| session.give_up(sequence, sent_end));
        ensure!(!session.pending.values().any(is_meant), "{client} still has messages below {before}");
        Ok(())
    }
}

/// Whether a sequence is in the ranges of an acknowledgement, as the log has them.
fn is_in(runs: &[u8], sequence: u64) -> bool {
    runs.as_chunks::<12>().0.iter().any(|chunk| {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *chunk;
        let first = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        (first..first + u64::from(u32::from_le_bytes([i, j, k, l]))).contains(&sequence)
    })
}

//! Takes the steps of a case with the engine and the plain model, and compares them after each.

use super::compare;
use super::entries::{Owned, Published};
use super::ops::{CLIENTS, End, FILTERS, Op, Publish, TOPICS, ViewFate, Which};
use super::plain::{Plain, Wrong, ensure};
use super::rig::{Rig, Setup, checkpoints, copy, files, new_dir};
use crate::engine::{AckRuns, Ending, Rules, WhenFull, WillMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use tempfile::TempDir;

/// Copies of the view that are kept.
const COPIES_MAX: usize = 4;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    pub(super) steps: u64,
    pub(super) entries: u64,
    pub(super) restarts: u64,
    pub(super) crashes: u64,
    /// Groups that survived a crash without a receipt, and groups that did not.
    pub(super) made_whole: u64,
    pub(super) lost: u64,
    pub(super) failed: u64,
    pub(super) rebuilt: u64,
    pub(super) checkpoints: u64,
    pub(super) trimmed_segments: u64,
    /// Saves of the view that were refused, and made up for.
    pub(super) refused: u64,
}

impl Stats {
    pub(super) fn add(&mut self, more: &Self) {
        self.steps += more.steps;
        self.entries += more.entries;
        self.restarts += more.restarts;
        self.crashes += more.crashes;
        self.made_whole += more.made_whole;
        self.lost += more.lost;
        self.failed += more.failed;
        self.rebuilt += more.rebuilt;
        self.checkpoints += more.checkpoints;
        self.trimmed_segments += more.trimmed_segments;
        self.refused += more.refused;
    }
}

pub(super) struct Driver {
    /// None only while it is restarted.
    rig: Option<Rig>,
    plain: Plain,
    copies: Vec<TempDir>,
    /// Up to where a connection has sent, which the log does not know.
    sent: BTreeMap<String, u64>,
    /// Contents of checkpoints that were damaged.
    damaged: BTreeSet<Vec<u8>>,
    payloads: u64,
    stats: Stats,
}

impl Driver {
    pub(super) fn new(rules: Rules) -> Result<Self, Wrong> {
        let setup = Setup { rules, saves: true };
        let rig = Rig::open(new_dir(), setup)?;
        let mut driver = Self {
            rig: Some(rig),
            plain: Plain::new(rules),
            copies: Vec::new(),
            sent: BTreeMap::new(),
            damaged: BTreeSet::new(),
            payloads: 0,
            stats: Stats::default(),
        };
        driver.rig()?.commit(&[Owned::nothing()])?;
        driver.catch_up(&[], true)?;
        Ok(driver)
    }

    fn rig(&self) -> Result<&Rig, Wrong> {
        self.rig.as_ref().ok_or_else(|| "it is not running".into())
    }

    pub(super) fn finish(mut self) -> Result<Stats, Wrong> {
        let setup = Setup { rules: self.plain.rules, saves: true };
        self.restart(&End::Crash, ViewFate::Kept, false, setup)?;
        if let Some(rig) = self.rig.take() {
            rig.stop();
        }
        Ok(self.stats)
    }

    pub(super) fn step(&mut self, op: &Op) -> Result<(), Wrong> {
        self.stats.steps += 1;
        match op {
            Op::Save | Op::Checkpoint | Op::Retain { .. } | Op::CopyView | Op::Sent { .. } => {
                self.upkeep(op)?
            }
            Op::Fail { events, write, reopening_fails } => self.fail(events, *write, *reopening_fails)?,
            Op::Restart { end, view, damages_checkpoint, rules, saves } => {
                let setup = Setup { rules: *rules, saves: *saves };
                self.restart(end, *view, *damages_checkpoint, setup)?;
            }
            Op::BusySave { events, client, which, more } => {
                self.save_when_busy(events, (*client, *which), more)?;
            }
            _ => {
                let entries = self.entries(op);
                self.commit(&entries)?;
            }
        }
        compare::view(&self.plain, self.rig()?)
    }

    fn commit(&mut self, entries: &[Owned]) -> Result<(), Wrong> {
        // Where it is looked up who of a group has a message, it must not be gone again by then.
        let one_by_one = self.plain.has_groups() && self.plain.rules.when_full != WhenFull::DropNewest;
        let size = if one_by_one { 1 } else { entries.len().max(1) };
        for group in entries.chunks(size) {
            self.rig()?.commit(group)?;
            self.catch_up(group, true)?;
        }
        Ok(())
    }

    fn save_when_busy(
        &mut self,
        events: &[Publish],
        (client, which): (usize, Which),
        more: &[Publish],
    ) -> Result<(), Wrong> {
        let is_busy = self.rig()?.keep_view_busy()?;
        let refused = self.rig()?.engine().view.refused();
        let first = self.events(client, events);
        self.commit(&first)?;
        if is_busy {
            self.rig()?.await_refused_save(refused)?;
            self.stats.refused += 1;
        }
        let mut second =
            vec![Owned::Acknowledged { client: CLIENTS[client].to_owned(), runs: self.runs(client, which) }];
        second.extend(self.events(client, more));
        self.commit(&second)?;
        if is_busy { self.rig()?.let_go_of_view() } else { Ok(()) }
    }

    fn upkeep(&mut self, op: &Op) -> Result<(), Wrong> {
        match op {
            Op::Save => self.rig()?.save()?,
            Op::Checkpoint => self.checkpoint()?,
            Op::Retain { checkpoints, fails } => {
                if *checkpoints {
                    self.checkpoint()?;
                }
                if *fails {
                    self.rig()?.disk().faults().fail_remove(1);
                }
                let Some(rig) = &mut self.rig else { return Ok(()) };
                let before = rig.engine().retention().segments;
                rig.retain()?;
                self.stats.trimmed_segments += rig.engine().retention().segments - before;
                compare::log(&self.plain, self.rig()?, &self.damaged)?;
                compare::streams(&self.plain, self.rig()?)?;
            }
            Op::CopyView => {
                let copied = new_dir();
                self.rig()?.save()?;
                self.rig()?.copy_view(copied.path())?;
                if self.copies.len() == COPIES_MAX {
                    self.copies.remove(0);
                }
                self.copies.push(copied);
            }
            Op::Sent { client } => {
                let client = CLIENTS[*client];
                if let Some(session) = self.plain.sessions.get(client).filter(|session| session.connected)
                    && let Some(shown) = self.rig()?.engine().session(client)
                {
                    shown.sent(session.next);
                    self.sent.insert(client.into(), session.next);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Wrong> {
        self.stats.checkpoints += 1;
        // One that nobody knows to be damaged has its place.
        let newest = checkpoints(self.rig()?.dir()).pop().map(|(applied, _)| applied);
        let before = compare::whole(self.rig()?, &self.damaged).pop().filter(|one| Some(*one) == newest);
        self.rig()?.checkpoint()?;
        let after = compare::whole(self.rig()?, &self.damaged);
        let is_kept =
            before.is_none_or(|one| after.last().is_some_and(|newest| one > *newest) || after.contains(&one));
        ensure!(is_kept, "the checkpoint before this one is gone: {after:?}");
        Ok(())
    }

    fn events(&mut self, publisher: usize, events: &[Publish]) -> Vec<Owned> {
        let only_one_group = self.plain.rules.when_full == WhenFull::EndSession;
        let events = events.iter().map(|event| {
            self.payloads += 1;
            let topic = match TOPICS[event.topic] {
                "s/1" if only_one_group => "s/2",
                topic => topic,
            };
            let number = self.payloads.to_le_bytes();
            Owned::Event(Published {
                publisher: CLIENTS[publisher].into(),
                topic: topic.into(),
                qos: event.qos,
                retain: event.retain,
                payload: number.iter().copied().cycle().take(event.len).collect(),
            })
        });
        events.collect()
    }

    /// Events for a group of which it is not known whether it will be there: no other member is asked who has them.
    fn uncertain_events(&mut self, events: &[Publish]) -> Vec<Owned> {
        let has_groups = self.plain.has_groups();
        let mut events = self.events(0, events);
        if has_groups {
            events.retain(|entry| matches!(entry, Owned::Event(event) if event.topic.starts_with('a')));
            events.truncate(1);
        }
        if events.is_empty() { vec![Owned::nothing()] } else { events }
    }

    fn entries(&mut self, op: &Op) -> Vec<Owned> {
        let name = |client: &usize| CLIENTS[*client].to_owned();
        match op {
            Op::Publish { publisher, events, acknowledge } => {
                let mut entries = Vec::new();
                if let Some((client, which)) = acknowledge {
                    entries
                        .push(Owned::Acknowledged { client: name(client), runs: self.runs(*client, *which) });
                }
                entries.extend(self.events(*publisher, events));
                entries
            }
            Op::Burst { topics: (one, other), count } => {
                let is_slow = self.plain.has_groups() && self.plain.rules.when_full != WhenFull::DropNewest;
                let publish = |topic| Publish { topic, qos: 1, retain: false, len: 1 };
                let count = if is_slow { *count % 20 } else { *count };
                let events: Vec<_> =
                    [publish(*one), publish(*other)].into_iter().cycle().take(count).collect();
                self.events(0, &events)
            }
            Op::Open { client, clean, lasts } => {
                let expiry_secs = if *lasts { 3600 } else { 0 };
                vec![Owned::Opened { client: name(client), clean: *clean, expiry_secs }]
            }
            Op::Close { client, lasts, sent_permille } => {
                let next = self.plain.sessions.get(CLIENTS[*client]).map_or(0, |session| session.next);
                let sent = self.sent.get(CLIENTS[*client]).copied().unwrap_or(0);
                let sent_end = sent.max(next * sent_permille / 1000);
                vec![Owned::Closed {
                    client: name(client),
                    at_ms: 1,
                    expiry_secs: if *lasts { 3600 } else { 0 },
                    state: Ending { sent_end, with_all: false }.encode().into(),
                }]
            }
            Op::Remove { client } => vec![Owned::Removed { client: name(client) }],
            Op::Subscribe { client, filter, options, id } => vec![Owned::Subscribed {
                client: name(client),
                filter: FILTERS[*filter].into(),
                options: *options,
                id: *id,
            }],
            Op::Unsubscribe { client, filter } => {
                vec![Owned::Unsubscribed { client: name(client), filter: FILTERS[*filter].into() }]
            }
            Op::Acknowledge { client, which } => {
                vec![Owned::Acknowledged { client: name(client), runs: self.runs(*client, *which) }]
            }
            Op::Receive { client, which } => {
                vec![Owned::Received { client: name(client), runs: self.runs(*client, *which) }]
            }
            Op::PacketIn { client, packet_id } => {
                vec![Owned::PacketIn { client: name(client), packet_id: *packet_id }]
            }
            Op::PacketReleased { client, packet_id } => {
                vec![Owned::PacketReleased { client: name(client), packet_id: *packet_id }]
            }
            Op::WillSet { client, delay_secs } => {
                vec![Owned::WillSet { client: name(client), delay_secs: *delay_secs, will: will().encode() }]
            }
            Op::WillCleared { client } => vec![Owned::WillCleared { client: name(client) }],
            Op::RetainedRemoved { topic, is_stale } => {
                let offset = self.plain.retained.get(TOPICS[*topic]).map_or(0, |(offset, _)| *offset);
                vec![Owned::RetainedRemoved {
                    topic: TOPICS[*topic].into(),
                    offset: offset + u64::from(*is_stale),
                }]
            }
            Op::Cut { client, permille } => {
                vec![Owned::Cut { client: name(client), before: self.end() * permille / 1000 }]
            }
            _ => Vec::new(),
        }
    }

    fn runs(&self, client: usize, which: Which) -> Vec<u8> {
        let Some(session) = self.plain.sessions.get(CLIENTS[client]) else { return Vec::new() };
        let pending = session.pending.keys().copied();
        let meant: Vec<u64> = match which {
            Which::Oldest(permille) => {
                let count = session.pending.len() * permille as usize / 1000;
                pending.take(count.max(1)).collect()
            }
            Which::Every(step) => pending.step_by(step).collect(),
            Which::Beyond => pending.chain(session.next..session.next + 3).collect(),
        };
        let mut runs = AckRuns::default();
        meant.into_iter().for_each(|sequence| runs.push(sequence));
        let mut bytes = Vec::new();
        runs.encode(&mut bytes);
        bytes
    }

    fn fail(&mut self, events: &[Publish], write: Option<usize>, reopening_fails: bool) -> Result<(), Wrong> {
        let entries = self.uncertain_events(events);
        let faults = self.rig()?.disk().faults().clone();
        match write {
            Some(bytes) => faults.tear_write(1, bytes),
            None => faults.fail_sync(1),
        }
        if reopening_fails {
            faults.fail_reopen(1);
        }
        let ticket = self.rig()?.submit(&entries).map_err(|error| error.to_string())?;
        let is_there = self.rig()?.outcome(ticket)?;
        self.stats.failed += u64::from(!is_there);
        self.catch_up(if is_there { &entries } else { &[] }, true)
    }

    fn end(&self) -> u64 {
        self.plain.log.last_key_value().map_or(0, |(offset, _)| offset + 1)
    }

    /// Reads what the log has got, which is `expected` (if it has to be there) and what the engine says itself, and has the model apply it.
    fn catch_up(&mut self, expected: &[Owned], is_certain: bool) -> Result<(), Wrong> {
        let end = self.end();
        let new = self.rig()?.read(end)?;
        ensure!(new.iter().zip(end..).all(|((offset, _), at)| *offset == at), "offsets have holes: {new:?}");
        let is_there =
            new.len() >= expected.len() && new.iter().zip(expected).all(|(new, one)| new.1 == *one);
        ensure!(is_there || !is_certain, "{expected:?} is not in the log, but {new:?}");
        let own = if is_there { expected.len() } else { 0 };
        for (_, entry) in &new[own..] {
            let is_own = match entry {
                Owned::Rules { .. } | Owned::WillDue { .. } => true,
                Owned::Closed { client, .. } => {
                    self.plain.sessions.get(client).is_some_and(|session| session.connected)
                }
                entry => *entry == Owned::nothing(),
            };
            ensure!(is_own, "nobody has said {entry:?}");
        }
        if !is_certain {
            *(if is_there { &mut self.stats.made_whole } else { &mut self.stats.lost }) += 1;
        }
        self.stats.entries += new.len() as u64;
        let seen = self.rig()?.sessions()?;
        self.plain.apply(&new, &seen)?;
        self.sent
            .retain(|client, _| self.plain.sessions.get(client).is_some_and(|session| session.connected));
        compare::sessions(&self.plain.sessions, &seen)?;
        self.plain.adopt_open(seen);
        Ok(())
    }

    fn restart(&mut self, end: &End, fate: ViewFate, damages: bool, setup: Setup) -> Result<(), Wrong> {
        let Some(rig) = self.rig.take() else { return Err("it is not running".into()) };
        self.stats.restarts += 1;
        let mut in_flight = Vec::new();
        let earliest = rig.engine().log().bounds().0.get();
        let dir = match end {
            End::Stop => rig.stop(),
            End::Crash => crash(rig, 0)?,
            End::CrashInGroup(events, torn) => {
                in_flight = self.uncertain_events(events);
                rig.save()?;
                rig.disk().faults().stall_sync();
                rig.submit(&in_flight).map_err(|error| error.to_string())?;
                rig.wait("a group to be written", |_| rig.disk().faults().is_stalled())?;
                crash(rig, *torn)?
            }
            End::CrashInCheckpoint(torn) => {
                rig.begin_checkpoint()?;
                crash(rig, *torn)?
            }
        };
        self.stats.crashes += u64::from(!matches!(end, End::Stop));
        if damages {
            self.damage_checkpoint(&dir, earliest, fate);
        }
        self.befall(&dir, fate);
        self.sent.clear();
        let rig = Rig::open(dir, setup)?;
        self.stats.rebuilt += u64::from(rig.is_rebuilt());
        rig.commit(&[Owned::nothing()])?;
        self.rig = Some(rig);
        self.catch_up(&in_flight, in_flight.is_empty())?;
        let open = self.plain.sessions.iter().find(|(_, session)| session.connected);
        ensure!(open.is_none(), "{open:?} is still open");
        let waits = self.plain.wills.iter().find(|(_, (_, due, _))| due.is_none());
        ensure!(waits.is_none(), "the will of {waits:?} is not due");
        let rules = Rules { losses: 0, ..self.plain.rules };
        ensure!(rules == setup.rules, "the rules are {rules:?}");
        compare::log(&self.plain, self.rig()?, &self.damaged)?;
        compare::streams(&self.plain, self.rig()?)
    }

    /// Flips a bit of the newest checkpoint, if the view can be made anew all the same.
    fn damage_checkpoint(&mut self, dir: &TempDir, earliest: u64, fate: ViewFate) {
        let mut whole = checkpoints(dir.path());
        // One that could not be removed is no help.
        whole.drain(..whole.len().saturating_sub(2));
        whole.retain(|(applied, path)| {
            *applied >= earliest && !self.damaged.contains(&fs::read(path).unwrap())
        });
        // The only one is found damaged at this start, or it would have the log trimmed.
        let is_found = earliest == 0 && matches!(fate, ViewFate::Missing | ViewFate::Rubbish);
        if whole.len() < 2 && !is_found {
            return;
        }
        if let Some((_, path)) = whole.pop() {
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            fs::write(path, &bytes).unwrap();
            self.damaged.insert(bytes);
        }
    }

    /// What becomes of the view.
    fn befall(&self, dir: &TempDir, fate: ViewFate) {
        let view = dir.path().join("view");
        match fate {
            ViewFate::Kept => {}
            ViewFate::Missing => {
                let _ = fs::remove_dir_all(view);
            }
            ViewFate::Earlier(number) => {
                if !self.copies.is_empty() {
                    let _ = fs::remove_dir_all(&view);
                    copy(self.copies[number % self.copies.len()].path(), &view);
                }
            }
            ViewFate::Rubbish => {
                for (path, len) in files(&view) {
                    fs::write(path, vec![0xa5; len as usize]).unwrap();
                }
            }
            ViewFate::Halved => {
                if let Some((path, len)) = files(&view).into_iter().max_by_key(|(_, len)| *len) {
                    fs::File::options().write(true).open(path).unwrap().set_len(len / 2).unwrap();
                }
            }
        }
    }
}

fn will() -> WillMessage {
    WillMessage {
        topic: "a/will".into(),
        qos: 1,
        retain: false,
        message_expiry_secs: None,
        properties: [].into(),
        payload: (*b"gone").into(),
    }
}

/// What a crash leaves. The engine that has crashed ends by itself, on files that nobody looks at any more.
fn crash(rig: Rig, torn: u64) -> Result<TempDir, Wrong> {
    let left = rig.crash(torn)?;
    rig.disk().faults().release_sync();
    rig.stop();
    Ok(left)
}

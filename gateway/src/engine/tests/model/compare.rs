//! The engine beside the plain model.

use super::entries::{Owned, matches};
use super::plain::{Plain, Sessions, Wrong, ensure};
use super::rig::{Rig, STREAMS, checkpoints};
use gateway_storage::Offset;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// What an event counts in a stream beside its own bytes, and into how many parts what is kept is divided.
const FRAMING_BYTES: u64 = 40;
const PARTS: u64 = 512;
/// No event counts more.
const EVENT_BYTES_MAX: u64 = 400;

/// Every session with its subscriptions and everything that waits for it.
pub(super) fn sessions(expected: &Sessions, shown: &Sessions) -> Result<(), Wrong> {
    for (client, session) in expected {
        let Some(found) = shown.get(client) else { return Err(format!("{client} is gone")) };
        for (sequence, message) in &session.pending {
            let same = found.pending.get(sequence);
            ensure!(same == Some(message), "{client}, sequence {sequence}: {same:?} instead of {message:?}");
        }
        let more = found.pending.iter().find(|(sequence, _)| !session.pending.contains_key(sequence));
        ensure!(more.is_none(), "{client} has {more:?} besides");
        let open = &found.open;
        ensure!(
            open.is_superset(&session.open),
            "{client}: {open:?} are open, not all of {:?}",
            session.open
        );
        let more = open.difference(&session.open).find(|open| !session.perhaps_open.contains(open));
        ensure!(more.is_none(), "{client}: {more:?} is open besides {:?}", session.open);
        ensure!(session.next == found.next, "{client} ends at {} instead of {}", found.next, session.next);
        ensure!(
            (&session.subscriptions, &session.packets) == (&found.subscriptions, &found.packets),
            "{client}: {:?} {:?} instead of {:?} {:?}",
            found.subscriptions,
            found.packets,
            session.subscriptions,
            session.packets
        );
        ensure!(
            (session.connected, session.expiry_secs) == (found.connected, found.expiry_secs),
            "{client}: connected {}, expiry {}",
            found.connected,
            found.expiry_secs
        );
    }
    let more = shown.keys().find(|client| !expected.contains_key(*client));
    ensure!(more.is_none(), "{more:?} has a session");
    Ok(())
}

/// Retained Messages, wills and the bounds of the log.
pub(super) fn view(plain: &Plain, rig: &Rig) -> Result<(), Wrong> {
    let retained = plain.retained.iter();
    let retained: Vec<_> =
        retained.map(|(topic, (offset, event))| (topic.clone(), *offset, event.payload.clone())).collect();
    let found = rig.retained();
    ensure!(found == retained, "Retained Messages: {found:?} instead of {retained:?}");
    for (_, offset, payload) in &retained {
        let found = rig.engine().retained_at(Offset::new(*offset));
        let found = found.map(|found| found.event().payload.to_vec());
        ensure!(found.as_ref() == Some(payload), "the Retained Message at {offset}: {found:?}");
    }
    let wills = rig.engine().wills().into_iter();
    let wills: BTreeMap<_, _> = wills
        .map(|(client, will)| (client.to_string(), (will.delay_secs, will.due_at_ms, will.message.encode())))
        .collect();
    ensure!(wills == plain.wills, "wills: {wills:?} instead of {:?}", plain.wills);
    let end = plain.log.last_key_value().map_or(0, |(offset, _)| offset + 1);
    let shown = rig.engine().end().get();
    ensure!(shown == end, "it ends at {shown} instead of {end}");
    Ok(())
}

/// What is in the log, and that nothing was trimmed that somebody needs.
pub(super) fn log(plain: &Plain, rig: &Rig, damaged: &BTreeSet<Vec<u8>>) -> Result<(), Wrong> {
    let (earliest, end) = rig.engine().log().bounds();
    let expected: Vec<_> =
        plain.log.range(earliest.get()..).map(|(at, entry)| (*at, entry.clone())).collect();
    let found = rig.read(earliest.get())?;
    let differs = expected.iter().zip(&found).find(|(expected, found)| expected != found);
    ensure!(differs.is_none(), "the log differs: {differs:?}");
    ensure!(expected.len() == found.len(), "{} entries instead of {}", found.len(), expected.len());
    ensure!(end.get() == earliest.get() + found.len() as u64, "the log ends at {end}");

    let messages = plain.sessions.values().flat_map(|session| session.pending.values());
    let oldest = messages.filter(|message| !message.retained).map(|message| message.offset).min();
    ensure!(
        oldest.is_none_or(|oldest| oldest >= earliest.get()),
        "{oldest:?} waits, the log begins at {earliest}"
    );
    let whole = whole(rig, damaged);
    let reaches = |applied: Option<&u64>| applied.is_some_and(|applied| *applied >= earliest.get());
    // Where a damaged one is gone, one that could not be removed before has its place, and is of no use.
    let is_covered = earliest == Offset::ZERO
        || reaches(whole.iter().min())
        || (!damaged.is_empty() && reaches(whole.iter().max()));
    ensure!(is_covered, "the log begins at {earliest}, and whole checkpoints end at {whole:?}");
    Ok(())
}

/// Up to where the newest two checkpoints are applied, as far as they are whole. An older one could not be removed.
pub(super) fn whole(rig: &Rig, damaged: &BTreeSet<Vec<u8>>) -> Vec<u64> {
    let mut newest = checkpoints(rig.dir());
    newest.drain(..newest.len().saturating_sub(2));
    newest.retain(|(_, path)| !damaged.contains(&fs::read(path).unwrap()));
    newest.into_iter().map(|(applied, _)| applied).collect()
}

/// Streams begin where they may, and not much later.
pub(super) fn streams(plain: &Plain, rig: &Rig) -> Result<(), Wrong> {
    let earliest = rig.engine().log().bounds().0.get();
    for (id, (name, topics, max_bytes)) in (0..).zip(STREAMS) {
        let kept: BTreeMap<u64, u64> = plain
            .log
            .iter()
            .filter_map(|(offset, entry)| match entry {
                Owned::Event(event) if matches(topics, &event.topic) => {
                    let bytes = event.publisher.len() + event.topic.len() + event.payload.len();
                    Some((*offset, bytes as u64 + FRAMING_BYTES))
                }
                _ => None,
            })
            .collect();
        let floor = rig.engine().stream_floor(id).get();
        let total: u64 = kept.values().sum();
        let from_floor: u64 = kept.range(floor..).map(|(_, bytes)| bytes).sum();
        ensure!(from_floor <= max_bytes, "{name} keeps {from_floor} bytes of {max_bytes}");
        let least = total.min(max_bytes - max_bytes / PARTS - EVENT_BYTES_MAX);
        ensure!(from_floor >= least, "{name} keeps {from_floor} bytes alone, from {floor} on");
        let first = kept.range(floor..).next().map(|(offset, _)| *offset);
        ensure!(
            first.is_none_or(|first| first >= earliest),
            "{name} keeps {first:?}, the log begins at {earliest}"
        );
    }
    Ok(())
}

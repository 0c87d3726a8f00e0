//! Shared Subscriptions: each message to one member of each group, and on to another one when that member is gone.
//!
//! Who gets a message follows from the view as it is at that entry, so a replay chooses the same: among the members that are connected,
//! or among all where none is, the one whose turn it is (or the publisher's); if its backlog is full, the next.

use super::{Applied, Applier};
use crate::engine::backlog::{Profile, Waiting};
use crate::engine::rules::ShareStrategy;
use crate::engine::session::DurableSession;
use crate::router::{Grant, GroupMatch};
use gateway_protocol::QoS;
use gateway_storage::{Offset, RawEvent};
use std::sync::Arc;

type Member = (Arc<DurableSession>, Grant);

impl Applier {
    pub(super) fn add_to_group(
        &mut self,
        group: &GroupMatch<Arc<DurableSession>>,
        offset: Offset,
        event: &RawEvent<'_>,
        bytes: u64,
        applied: &mut Applied,
    ) {
        let published = QoS::try_from(event.qos).unwrap_or(QoS::AtLeastOnce);
        let candidates = candidates(&group.members, None);
        let turn = match self.rules.share {
            ShareStrategy::RoundRobin => self.next_turn(&group.group),
            ShareStrategy::Publisher => fingerprint(event.client_id),
        };
        let profile = |grant: &Grant| Profile {
            // [MQTT-4.8.2-3]: each member's own grant.
            qos: published.min(grant.qos),
            retain_as_published: grant.retain_as_published,
            is_retained: false,
            subscription_ids: identifiers(grant),
            group: Some(group.group.clone()),
        };
        if self.give(&candidates, turn, offset, bytes, profile) {
            return;
        }
        // All of them are full: the one whose turn it is has to make room.
        match candidates.get(at_turn(turn, candidates.len())) {
            Some((session, grant)) => self.add_making_room(session, offset, &profile(grant), bytes, applied),
            None => applied.backlog_full += 1,
        }
    }

    fn next_turn(&mut self, group: &Arc<str>) -> u64 {
        let turn = self.turns.entry(group.clone()).or_default();
        *turn = turn.wrapping_add(1);
        let turn = *turn;
        self.turns_unsaved.insert(group.clone());
        turn
    }

    /// Forgets whose turn it was in groups that have no members any more.
    pub(super) fn forget_empty_group(&mut self, group: &str) {
        if self.turns.contains_key(group)
            && self.table.router.read(|router| router.group_members(group)).is_empty()
        {
            self.turns.remove(group);
            self.turns_unsaved.insert(group.into());
        }
    }

    /// Gives a message to the first of `candidates` that has room, beginning with the one whose turn it is.
    fn give(
        &mut self,
        candidates: &[&Member],
        turn: u64,
        offset: Offset,
        bytes: u64,
        profile: impl Fn(&Grant) -> Profile,
    ) -> bool {
        let (before, from_turn) = candidates.split_at(at_turn(turn, candidates.len()).min(candidates.len()));
        from_turn
            .iter()
            .chain(before)
            .any(|(session, grant)| self.add(session, offset, &profile(grant), bytes))
    }

    /// Messages that `session` has not acknowledged go to other members of the groups it got them from. At QoS 2 one that was sent (its
    /// sequence is below `sent_end`) stays with its member [MQTT-4.8.2-4] and ends with it [MQTT-4.8.2-5]. Where nobody else is connected
    /// they stay too, unless the session has ended.
    pub(super) fn pass_on(
        &mut self,
        session: &Arc<DurableSession>,
        sent_end: u64,
        has_ended: bool,
        applied: &mut Applied,
    ) {
        let table = self.table.clone();
        let chunks = session.state().backlog.group_chunks();
        for (first, is_in_memory) in chunks {
            let loaded = match &self.chunks {
                Some(chunks) if !is_in_memory => match chunks.load(&session.client_id, first) {
                    Ok(loaded) => Some(loaded),
                    Err(error) => {
                        self.failure = Some(error);
                        return;
                    }
                },
                _ => None,
            };
            let waiting = session.state().backlog.of_groups(first, loaded.as_ref());
            table.moving(|| {
                for message in waiting {
                    let is_begun = message.profile.qos == QoS::ExactlyOnce && message.sequence < sent_end;
                    if is_begun || message.is_received || !self.pass_on_one(session, &message, has_ended) {
                        continue;
                    }
                    // It waits elsewhere now: neither routed again nor acknowledged.
                    session.state().backlog.acknowledge(message.sequence, 1);
                    applied.passed_on += 1;
                }
            });
        }
    }

    fn pass_on_one(&mut self, from: &Arc<DurableSession>, message: &Waiting, has_ended: bool) -> bool {
        let Some(group) = &message.profile.group else { return false };
        let members = self.table.router.read(|router| router.group_members(group));
        let others = candidates(&members, Some(from.id));
        let anybody_connected = others.iter().any(|(session, _)| session.state().connected);
        if !has_ended && !anybody_connected {
            return false;
        }
        self.give(&others, message.offset.get(), message.offset, message.bytes, |grant| Profile {
            qos: message.profile.qos.min(grant.qos),
            subscription_ids: identifiers(grant),
            ..(*message.profile).clone()
        })
    }
}

/// The place of whose turn it is among `count`.
fn at_turn(turn: u64, count: usize) -> usize {
    usize::try_from(turn % (count.max(1) as u64)).unwrap_or(0)
}

/// FNV-1a: the same on every machine and in every version, as a replay needs it.
fn fingerprint(client_id: &[u8]) -> u64 {
    client_id
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Members that are connected, or all of them where none is; without the one with the key `except`.
fn candidates(members: &[Member], except: Option<u64>) -> Vec<&Member> {
    let all = || members.iter().filter(|(session, _)| Some(session.id) != except);
    let connected: Vec<_> = all().filter(|(session, _)| session.state().connected).collect();
    if connected.is_empty() { all().collect() } else { connected }
}

fn identifiers(grant: &Grant) -> Option<Arc<[u32]>> {
    (grant.subscription_id != 0).then(|| [grant.subscription_id].into())
}

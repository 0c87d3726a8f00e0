//! What one durable Session still has to receive: compact runs over log offsets, and which of them are acknowledged.
//!
//! Every message added gets the Session's next **sequence** number. Sequences are consecutive, offsets are not (other sessions'
//! events lie between), so a run maps `len` consecutive sequences to `len` consecutive offsets. A subscriber that takes
//! everything costs one run for a whole burst, one that takes every thousandth event costs one run (32 bytes) for each.
//!
//! Pure: log offsets are numbers here, and nothing is read or sent.

use super::ranges::Ranges;
use gateway_protocol::QoS;
use gateway_storage::Offset;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How a message is to be delivered; fixed when it was routed, whatever happens to the subscription later [MQTT-3.10.4-3].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Highest granted QoS among the matching subscriptions.
    pub qos: QoS,
    /// The RETAIN flag is forwarded as published.
    pub retain_as_published: bool,
    /// It was retained when the subscription was made, and is sent with RETAIN for that reason.
    pub is_retained: bool,
    /// Identifiers of the matching subscriptions.
    pub subscription_ids: Option<Arc<[u32]>>,
    /// It was given to this Session as a member of the group with this name, and may be given to another one.
    pub group: Option<Arc<str>>,
}

/// A message that waits, for whoever moves it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Its number.
    pub(super) sequence: u64,
    /// Where it lies in the log.
    pub(super) offset: Offset,
    /// About how many bytes it has.
    pub(super) bytes: u64,
    /// How it was to be delivered.
    pub(super) profile: Profile,
    /// The client has it already (QoS 2).
    pub(super) is_received: bool,
}

/// `len` messages with consecutive sequences and consecutive offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) sequence: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) profile: u16,
    pub(super) bytes: u64,
}

impl Run {
    fn end(&self) -> u64 {
        self.sequence + u64::from(self.len)
    }
}

/// One message to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its number in the Session's durable lane.
    pub sequence: u64,
    /// Where it lies in the log.
    pub offset: Offset,
    /// How to deliver it.
    pub profile: Profile,
    /// The client has it already (QoS 2): only PUBREL is due.
    pub is_received: bool,
}

/// Bounds of a backlog; a message that would exceed one of them is not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacklogLimits {
    /// Messages waiting at most.
    pub messages_max: u64,
    /// Bytes of topic, properties and payload waiting at most.
    pub bytes_max: u64,
}

/// The messages of one Session that are not acknowledged yet.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    runs: VecDeque<Run>,
    profiles: Vec<Profile>,
    next_sequence: u64,
    /// Everything below is acknowledged.
    low: u64,
    /// Acknowledged at or above `low`; empty when the client acknowledges in order.
    acknowledged: Ranges,
    /// QoS 2: the client has them (PUBREC), but does not know yet that we know (PUBCOMP).
    received: Ranges,
    pending: u64,
    bytes: u64,
    /// Counts how often the profiles were numbered anew: what was saved under another numbering is to be saved again.
    numbering: u32,
}

/// Profiles kept for one backlog; past it the list is rebuilt from those in use.
const PROFILES_MAX: usize = 4096;

impl Backlog {
    /// The sequence the next message will get; also the end of what there is to deliver.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.next_sequence
    }

    /// The oldest sequence that is not acknowledged.
    #[must_use]
    pub fn low(&self) -> u64 {
        self.low
    }

    /// Messages that wait for an acknowledgement.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// About how many bytes those are: exact but for the oldest run, which is taken in proportion.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the message at `offset`; false when a limit forbids it.
    pub fn push(&mut self, offset: Offset, profile: &Profile, bytes: u64, limits: &BacklogLimits) -> bool {
        if self.pending() >= limits.messages_max || self.bytes + bytes > limits.bytes_max {
            return false;
        }
        let Some(profile) = self.intern(profile) else { return false };
        let sequence = self.next_sequence;
        match self.runs.back_mut() {
            Some(run)
                if run.end() == sequence
                    && run.offset + u64::from(run.len) == offset.get()
                    && run.profile == profile
                    && run.len < u32::MAX =>
            {
                run.len += 1;
                run.bytes += bytes;
            }
            _ => self.runs.push_back(Run { sequence, offset: offset.get(), len: 1, profile, bytes }),
        }
        self.next_sequence += 1;
        self.pending += 1;
        self.bytes += bytes;
        true
    }

    fn intern(&mut self, profile: &Profile) -> Option<u16> {
        let newest = self.runs.back().map(|run| run.profile);
        if let Some(newest) = newest
            && self.profiles.get(usize::from(newest)) == Some(profile)
        {
            return Some(newest);
        }
        if let Some(at) = self.profiles.iter().position(|known| known == profile) {
            return u16::try_from(at).ok();
        }
        if self.profiles.len() >= PROFILES_MAX {
            self.drop_unused_profiles();
        }
        let at = u16::try_from(self.profiles.len()).ok()?;
        self.profiles.push(profile.clone());
        Some(at)
    }

    fn drop_unused_profiles(&mut self) {
        let old = std::mem::take(&mut self.profiles);
        let mut moved: BTreeMap<u16, u16> = BTreeMap::new();
        for run in &mut self.runs {
            let at = moved.entry(run.profile).or_insert_with(|| {
                self.profiles.extend(old.get(usize::from(run.profile)).cloned());
                u16::try_from(self.profiles.len() - 1).unwrap_or(u16::MAX)
            });
            run.profile = *at;
        }
        self.numbering += 1;
    }

    /// Marks `len` messages from `sequence` on as acknowledged. Those that already are, or do not exist, are passed over.
    /// Returns how many were pending.
    pub fn acknowledge(&mut self, sequence: u64, len: u64) -> u64 {
        let start = sequence.max(self.low);
        let end = sequence.saturating_add(len).min(self.next_sequence);
        if start >= end {
            return 0;
        }
        self.acknowledged.insert(start, end);
        if let Some(low) = self.acknowledged.end_of(self.low) {
            self.low = low;
            self.acknowledged.trim_below(low);
            self.received.trim_below(low);
        }
        let before = self.pending;
        self.pending = self.next_sequence - self.low - self.acknowledged.count();
        self.release_runs();
        before - self.pending
    }

    /// Least log offset among pending messages; references to Retained Messages aside.
    #[must_use]
    pub fn oldest_offset(&self) -> Option<Offset> {
        let own = |run: &&Run| {
            self.profiles.get(usize::from(run.profile)).is_some_and(|profile| !profile.is_retained)
        };
        self.runs.iter().filter(own).map(|run| Offset::new(run.offset)).min()
    }

    /// Makes room by giving up the oldest; answers how many pending messages were dropped.
    pub fn drop_oldest(&mut self, room_messages: u64, room_bytes: u64, limits: &BacklogLimits) -> u64 {
        let mut dropped = 0;
        while self.pending > 0
            && (self.pending + room_messages > limits.messages_max
                || self.bytes + room_bytes > limits.bytes_max)
        {
            dropped += self.acknowledge(self.low, 1);
        }
        dropped
    }

    /// Gives up every pending message below `offset`: the prefix of sequences up to the last such.
    pub fn drop_before(&mut self, offset: Offset) -> u64 {
        let own = |run: &&Run| {
            self.profiles.get(usize::from(run.profile)).is_some_and(|profile| !profile.is_retained)
        };
        let end = self.runs.iter().rev().filter(own).find(|run| run.offset < offset.get());
        let end = end.map_or(0, |run| run.end().min(run.sequence + (offset.get() - run.offset)));
        self.acknowledge(self.low, end.saturating_sub(self.low))
    }

    /// Remembers that the client has `len` messages from `sequence` on (QoS 2, PUBREC).
    pub fn receive(&mut self, sequence: u64, len: u64) {
        let end = sequence.saturating_add(len).min(self.next_sequence);
        self.received.insert(sequence.max(self.low), end);
    }

    /// Gives back what lies below `low`.
    fn release_runs(&mut self) {
        while let Some(run) = self.runs.front_mut() {
            if run.end() <= self.low {
                self.bytes = self.bytes.saturating_sub(run.bytes);
                self.runs.pop_front();
                continue;
            }
            if run.sequence < self.low {
                let gone = self.low - run.sequence;
                let bytes = run.bytes * gone / u64::from(run.len);
                run.bytes -= bytes;
                self.bytes = self.bytes.saturating_sub(bytes);
                run.sequence += gone;
                run.offset += gone;
                // `gone` is less than the run's length, which is a u32.
                run.len -= u32::try_from(gone).unwrap_or(run.len);
            }
            break;
        }
    }

    /// The first unacknowledged message at or after `sequence`.
    #[must_use]
    pub fn due(&self, sequence: u64) -> Option<Due> {
        let mut sequence = sequence.max(self.low);
        sequence = self.acknowledged.end_of(sequence).unwrap_or(sequence);
        let at = self.runs.partition_point(|run| run.end() <= sequence);
        let run = self.runs.get(at)?;
        Some(Due {
            sequence,
            offset: Offset::new(run.offset + (sequence - run.sequence)),
            profile: self.profiles.get(usize::from(run.profile))?.clone(),
            is_received: self.received.end_of(sequence).is_some(),
        })
    }

    /// Every message that is not acknowledged and was given to this Session as a member of a group.
    pub(super) fn of_groups(&self) -> Vec<Waiting> {
        let mut waiting = Vec::new();
        for run in &self.runs {
            let Some(profile) = self.profiles.get(usize::from(run.profile)) else { continue };
            if profile.group.is_none() {
                continue;
            }
            for at in 0..u64::from(run.len) {
                let sequence = run.sequence + at;
                if sequence >= self.low && self.acknowledged.end_of(sequence).is_none() {
                    waiting.push(Waiting {
                        sequence,
                        offset: Offset::new(run.offset + at),
                        bytes: run.bytes / u64::from(run.len),
                        profile: profile.clone(),
                        is_received: self.received.end_of(sequence).is_some(),
                    });
                }
            }
        }
        waiting
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    pub(super) fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    pub(super) fn numbering(&self) -> u32 {
        self.numbering
    }

    pub(super) fn acknowledged(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.acknowledged.iter()
    }

    pub(super) fn received(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.received.iter()
    }

    /// A backlog as it was saved; runs in order of their sequences. Runs that name no known profile, or lie outside of
    /// `low..next_sequence`, are refused: the saved view is damaged then.
    pub(super) fn restore(
        profiles: Vec<Profile>,
        runs: Vec<Run>,
        low: u64,
        next_sequence: u64,
        acknowledged: Vec<(u64, u64)>,
        received: Vec<(u64, u64)>,
    ) -> Option<Self> {
        let mut at = low;
        for run in &runs {
            if run.sequence < at || run.len == 0 || usize::from(run.profile) >= profiles.len() {
                return None;
            }
            at = run.end();
        }
        if at > next_sequence || low > next_sequence {
            return None;
        }
        let bytes = runs.iter().map(|run| run.bytes).sum();
        let acknowledged: Ranges = acknowledged.into_iter().collect();
        let pending = (next_sequence - low).checked_sub(acknowledged.count())?;
        Some(Self {
            runs: runs.into(),
            profiles,
            next_sequence,
            low,
            acknowledged,
            received: received.into_iter().collect(),
            pending,
            bytes,
            numbering: 0,
        })
    }
}

/// Acknowledged sequences on their way into the log: ranges, merged as they come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckRuns {
    runs: Vec<(u64, u32)>,
}

impl AckRuns {
    /// Adds one sequence.
    pub fn push(&mut self, sequence: u64) {
        if let Some((first, len)) = self.runs.last_mut()
            && *first + u64::from(*len) == sequence
            && *len < u32::MAX
        {
            *len += 1;
        } else {
            self.runs.push((sequence, 1));
        }
    }

    /// Whether there is nothing to log.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Forgets what was added; the room is kept.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// The form in the log: 12 bytes for each range, first sequence (u64) and length (u32), little-endian.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (first, len) in &self.runs {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
        }
    }

    /// The ranges of an encoded list; a rest that is no whole range is passed over.
    pub fn decode(bytes: &[u8]) -> impl Iterator<Item = (u64, u32)> + '_ {
        bytes.as_chunks::<12>().0.iter().map(|chunk| {
            let [a, b, c, d, e, f, g, h, len @ ..] = *chunk;
            (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes(len))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const NO_LIMIT: BacklogLimits = BacklogLimits { messages_max: u64::MAX, bytes_max: u64::MAX };

    fn profile(qos: QoS) -> Profile {
        Profile { qos, retain_as_published: false, is_retained: false, subscription_ids: None, group: None }
    }

    #[test]
    fn a_million_messages_for_one_who_takes_all_cost_one_run_for_each_burst() {
        let mut backlog = Backlog::default();
        for offset in 0..1_000_000 {
            assert!(backlog.push(Offset::new(offset), &profile(QoS::AtLeastOnce), 240, &NO_LIMIT));
        }
        assert_eq!((backlog.pending(), backlog.runs.len()), (1_000_000, 1));
        assert_eq!(backlog.pending_bytes(), 240_000_000);
    }

    #[test]
    fn a_message_past_either_limit_is_not_added() {
        let limits = BacklogLimits { messages_max: 3, bytes_max: 100 };
        let mut backlog = Backlog::default();
        for offset in 0..3 {
            assert!(backlog.push(Offset::new(offset), &profile(QoS::AtLeastOnce), 10, &limits));
        }
        assert!(!backlog.push(Offset::new(3), &profile(QoS::AtLeastOnce), 10, &limits));
        assert_eq!(backlog.acknowledge(0, 2), 2);
        assert!(!backlog.push(Offset::new(3), &profile(QoS::AtLeastOnce), 91, &limits));
        assert!(backlog.push(Offset::new(3), &profile(QoS::AtLeastOnce), 90, &limits));
    }

    #[test]
    fn profiles_that_are_no_longer_used_make_room() {
        let mut backlog = Backlog::default();
        for id in 0..3 * PROFILES_MAX as u32 {
            let profile = Profile { subscription_ids: Some([id].into()), ..profile(QoS::AtLeastOnce) };
            assert!(backlog.push(Offset::new(u64::from(id)), &profile, 1, &NO_LIMIT));
            let due = backlog.due(u64::from(id)).expect("just added");
            assert_eq!(due.profile, profile);
            backlog.acknowledge(u64::from(id).saturating_sub(2), 1);
        }
        assert!(backlog.profiles.len() <= PROFILES_MAX);
    }

    #[test]
    fn ack_runs_merge_and_survive_the_log() {
        let mut runs = AckRuns::default();
        for sequence in [5, 6, 7, 2, 9, 10] {
            runs.push(sequence);
        }
        let mut bytes = Vec::new();
        runs.encode(&mut bytes);
        assert_eq!(AckRuns::decode(&bytes).collect::<Vec<_>>(), [(5, 3), (2, 1), (9, 2)]);
    }

    proptest! {
        /// Against a plain set: whatever is pushed and acknowledged in whatever order, the same messages are due.
        #[test]
        fn a_backlog_is_a_set_of_pending_messages(steps in proptest::collection::vec((0u8..4, 0u64..64, 1u64..8), 1..200)) {
            let mut backlog = Backlog::default();
            let mut model: BTreeSet<(u64, u64)> = BTreeSet::new();
            let mut offset = 0;
            let mut sequence = 0;
            for (kind, a, b) in steps {
                if kind < 2 {
                    offset += if kind == 0 { 1 } else { b };
                    let qos = if a % 16 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                    prop_assert!(backlog.push(Offset::new(offset), &profile(qos), 7, &NO_LIMIT));
                    model.insert((sequence, offset));
                    sequence += 1;
                } else {
                    let before = model.len();
                    model.retain(|(sequence, _)| !(a..a + b).contains(sequence));
                    prop_assert_eq!(backlog.acknowledge(a, b), (before - model.len()) as u64);
                }
                prop_assert_eq!(backlog.pending(), model.len() as u64);
                let restored = Backlog::restore(
                    backlog.profiles.clone(),
                    backlog.runs().copied().collect(),
                    backlog.low(),
                    backlog.end(),
                    backlog.acknowledged().collect(),
                    backlog.received().collect(),
                ).expect("what was saved can be restored");
                let mut at = 0;
                for (sequence, offset) in &model {
                    let due = restored.due(at).expect("one is due");
                    prop_assert_eq!((due.sequence, due.offset.get()), (*sequence, *offset));
                    at = due.sequence + 1;
                }
                prop_assert_eq!(backlog.due(at), None);
            }
        }
    }
}

//! A stretch of a backlog: a short header that stays in memory, and runs that need not.

use super::profile::Profile;
use super::runs::Runs;
use gateway_protocol::QoS;
use std::sync::Arc;

/// Messages in one chunk at most.
pub(super) const MESSAGES_MAX: u32 = 2048;
/// Bytes of its row in the saved view after which a chunk takes no more messages.
const ROW_BYTES: usize = 2048;

/// Consecutive messages of a Session. Where one chunk ends and the next begins follows from the messages alone, since what is
/// pending in bytes depends on it: a replay cuts as it was cut before.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Chunk {
    /// The sequence of its first message; its key in the saved view.
    pub(super) first: u64,
    pub(super) len: u32,
    pub(super) has_groups: bool,
    /// Some of its messages may be delivered at QoS 2.
    pub(super) has_exactly_once: bool,
    /// The saved view has a row for it.
    pub(super) has_row: bool,
    /// It differs from that row.
    pub(super) is_unsaved: bool,
    /// The least offset of its messages, references to Retained Messages left out; `u64::MAX`: there are only such.
    pub(super) least: u64,
    /// Bytes of those of its messages that are not below the low end of the backlog.
    pub(super) bytes: u64,
    /// `None`: they are in its row alone.
    pub(super) runs: Option<Box<Runs>>,
}

impl Chunk {
    pub(super) fn new(first: u64, runs: Box<Runs>) -> Self {
        Self {
            first,
            len: 0,
            has_groups: false,
            has_exactly_once: false,
            has_row: false,
            is_unsaved: true,
            least: u64::MAX,
            bytes: 0,
            runs: Some(runs),
        }
    }

    /// A chunk as it was saved.
    pub(super) fn restored(first: u64, len: u32, bytes: u64, runs: Runs) -> Self {
        let profile = |number| runs.profile(number);
        let stored = |number| profile(number).is_some_and(|profile| !profile.is_retained);
        let least = runs.iter(first).filter(|run| stored(run.profile)).map(|run| run.offset).min();
        Self {
            first,
            len,
            has_groups: runs.profiles().iter().any(|profile| profile.group.is_some()),
            has_exactly_once: runs.profiles().iter().any(|profile| profile.qos == QoS::ExactlyOnce),
            has_row: true,
            is_unsaved: false,
            least: least.unwrap_or(u64::MAX),
            bytes,
            runs: Some(Box::new(runs)),
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.len)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= MESSAGES_MAX || self.runs.as_ref().is_none_or(|runs| runs.row_bytes() >= ROW_BYTES)
    }

    /// Adds a message; false when it cannot.
    pub(super) fn push(
        &mut self,
        offset: u64,
        profile: &Profile,
        shared: Option<Arc<Profile>>,
        bytes: u64,
    ) -> bool {
        let Some(runs) = &mut self.runs else { return false };
        let number = match runs.number_of(profile) {
            Some(number) => number,
            None => {
                let shared = shared.filter(|shared| **shared == *profile);
                let Some(number) = runs.add_profile(shared.unwrap_or_else(|| Arc::new(profile.clone())))
                else {
                    return false;
                };
                number
            }
        };
        runs.push(offset, number);
        self.len += 1;
        self.bytes += bytes;
        self.has_groups |= profile.group.is_some();
        self.has_exactly_once |= profile.qos == QoS::ExactlyOnce;
        self.is_unsaved = true;
        if !profile.is_retained {
            self.least = self.least.min(offset);
        }
        true
    }

    /// The sequence of its first message.
    pub(in crate::engine) fn first(&self) -> u64 {
        self.first
    }

    /// How many messages it has, those that are done with included.
    pub(in crate::engine) fn len(&self) -> u32 {
        self.len
    }

    /// Bytes of its messages that still count.
    pub(in crate::engine) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its runs, where they are in memory.
    pub(in crate::engine) fn runs(&self) -> Option<&Runs> {
        self.runs.as_deref()
    }

    /// Its row was added to what is going to be saved.
    pub(in crate::engine) fn set_saved(&mut self) {
        self.has_row = true;
        self.is_unsaved = false;
    }
}

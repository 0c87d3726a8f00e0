//! What is to be delivered next, a few runs at a time.

use super::given_up::GivenUp;
use super::profile::Profile;
use super::runs::{Place, Runs};
use super::{Backlog, Chunk};
use gateway_storage::Offset;
use std::sync::Arc;

/// Runs in one batch.
const RUNS: usize = 16;
/// Messages in one batch, so that what is decided of it is not old.
const MESSAGES: u32 = 256;

/// Messages to deliver: consecutive sequences at consecutive offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRun {
    /// The first one's number in the Session's durable lane.
    pub sequence: u64,
    /// Where the first one lies in the log.
    pub offset: Offset,
    /// How many there are.
    pub len: u32,
    /// How to deliver them.
    pub profile: Arc<Profile>,
    /// The client has them already (QoS 2): only PUBREL is due.
    pub is_received: bool,
}

/// What is due, as of one moment.
#[derive(Debug, Default)]
pub struct DueBatch {
    runs: [Option<DueRun>; RUNS],
    count: usize,
    messages: u32,
    /// Everything below is done with, durably, and its identifiers are free.
    pub low: u64,
    /// Messages below were sent on some connection: sent again, they carry DUP.
    pub sent_end: u64,
}

impl DueBatch {
    /// The runs, in the order of their sequences.
    pub fn runs(&self) -> impl Iterator<Item = &DueRun> {
        self.runs.iter().take(self.count).flatten()
    }

    fn clear(&mut self) {
        (self.count, self.messages) = (0, 0);
    }

    fn room(&self) -> u32 {
        if self.count < RUNS { MESSAGES - self.messages } else { 0 }
    }

    fn push(&mut self, run: DueRun) {
        self.messages += run.len;
        if let Some(slot) = self.runs.get_mut(self.count) {
            *slot = Some(run);
            self.count += 1;
        }
    }
}

/// What [`Backlog::fetch`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// The batch has something.
    Some,
    /// Nothing is due.
    Nothing,
    /// These were given up, and come before anything else. The Session says so, a backlog does not.
    GivenUp(GivenUp),
    /// The chunk with this first sequence has to be given to the reader first; it is in the saved view.
    NotInMemory(u64),
}

/// The runs of a chunk that was read back from the saved view.
#[derive(Clone, Debug)]
pub struct LoadedChunk {
    pub(in crate::engine) first: u64,
    pub(in crate::engine) len: u32,
    pub(in crate::engine) runs: Arc<Runs>,
}

/// A reader's place in a backlog, and at most one chunk that was read back for it.
#[derive(Debug, Default)]
pub struct DueReader {
    loaded: Option<LoadedChunk>,
    /// The first sequence of a chunk, and a place in it.
    place: Option<(u64, Place)>,
}

impl DueReader {
    /// Takes a chunk that was asked for.
    pub fn give(&mut self, chunk: LoadedChunk) {
        self.loaded = Some(chunk);
    }

    /// Gives back what is loaded.
    pub fn release(&mut self) {
        self.loaded = None;
    }

    fn runs_of<'a>(&'a self, chunk: &'a Chunk) -> Option<&'a Runs> {
        let loaded = || {
            let loaded = self.loaded.as_ref()?;
            (loaded.first == chunk.first && loaded.len == chunk.len).then_some(&*loaded.runs)
        };
        chunk.runs().or_else(loaded)
    }

    /// Where to begin in `chunk` to come to `sequence`.
    fn place(&self, chunk: &Chunk, sequence: u64) -> Place {
        match self.place {
            Some((first, place)) if first == chunk.first && place.sequence() <= sequence => place,
            _ => Place::beginning(chunk.first),
        }
    }
}

impl Backlog {
    /// Puts the first unacknowledged messages at or after `from` into `batch`.
    pub fn fetch(&self, from: u64, reader: &mut DueReader, batch: &mut DueBatch) -> Fetch {
        batch.clear();
        batch.low = self.identifiers_from();
        let mut sequence = from.max(self.low);
        loop {
            sequence = self.acknowledged.end_of(sequence).unwrap_or(sequence);
            let Some(chunk) = self.chunk_of(sequence) else { break };
            let Some(runs) = reader.runs_of(chunk) else {
                if batch.count == 0 {
                    return Fetch::NotInMemory(chunk.first);
                }
                break;
            };
            let mut place = reader.place(chunk, sequence);
            while let Some((run, next)) = runs.next(place)
                && run.end() <= sequence
            {
                place = next;
            }
            while let Some((run, next)) = runs.next(place)
                && batch.room() > 0
            {
                while sequence < run.end() && batch.room() > 0 {
                    if let Some(end) = self.acknowledged.end_of(sequence) {
                        sequence = end;
                        continue;
                    }
                    let end = self.same_until(sequence, run.end()).min(sequence + u64::from(batch.room()));
                    let Some(profile) = runs.profile(run.profile) else { break };
                    batch.push(DueRun {
                        sequence,
                        offset: Offset::new(run.offset + (sequence - run.sequence)),
                        len: u32::try_from(end - sequence).unwrap_or(0),
                        profile: profile.clone(),
                        is_received: self.received.end_of(sequence).is_some(),
                    });
                    sequence = end;
                }
                if sequence < run.end() {
                    break; // no room for the rest
                }
                place = next;
            }
            if runs.is_lasting(place) {
                reader.place = Some((chunk.first, place));
            }
            if batch.room() == 0 || sequence < chunk.end() {
                break;
            }
        }
        if batch.count == 0 { Fetch::Nothing } else { Fetch::Some }
    }

    /// Up to where, at most `end`, all is unacknowledged and received or not, as `sequence` is.
    fn same_until(&self, sequence: u64, end: u64) -> u64 {
        let acknowledged = self.acknowledged.start_after(sequence).unwrap_or(end);
        let received = self.received.end_of(sequence).or_else(|| self.received.start_after(sequence));
        end.min(acknowledged).min(received.unwrap_or(end))
    }
}

/// A message that waits, for whoever moves it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Waiting {
    /// Its number.
    pub(in crate::engine) sequence: u64,
    /// Where it lies in the log.
    pub(in crate::engine) offset: Offset,
    /// About how many bytes it has.
    pub(in crate::engine) bytes: u64,
    /// How it was to be delivered.
    pub(in crate::engine) profile: Arc<Profile>,
    /// The client has it already (QoS 2).
    pub(in crate::engine) is_received: bool,
}

impl Backlog {
    /// The first sequences of the chunks that hold messages given to this Session as a member of a group, and whether they are in
    /// memory.
    pub(in crate::engine) fn group_chunks(&self) -> Vec<(u64, bool)> {
        let of_groups = self.chunks.iter().filter(|chunk| chunk.has_groups);
        of_groups.map(|chunk| (chunk.first, chunk.runs.is_some())).collect()
    }

    /// Every message of one chunk that is not acknowledged and was given to this Session as a member of a group. `loaded` is for a
    /// chunk that is not in memory.
    pub(in crate::engine) fn of_groups(&self, first: u64, loaded: Option<&LoadedChunk>) -> Vec<Waiting> {
        let mut waiting = Vec::new();
        let Some(chunk) = self.chunk_of(first.max(self.low)).filter(|chunk| chunk.first == first) else {
            return waiting;
        };
        let Some(runs) = chunk.runs().or_else(|| loaded.map(|loaded| &*loaded.runs)) else { return waiting };
        let bytes = chunk.bytes / (chunk.end() - first.max(self.low)).max(1);
        for run in runs.iter(first) {
            let Some(profile) = runs.profile(run.profile).filter(|profile| profile.group.is_some()) else {
                continue;
            };
            for at in 0..u64::from(run.len) {
                let sequence = run.sequence + at;
                if sequence >= self.low && self.acknowledged.end_of(sequence).is_none() {
                    waiting.push(Waiting {
                        sequence,
                        offset: Offset::new(run.offset + at),
                        bytes,
                        profile: profile.clone(),
                        is_received: self.received.end_of(sequence).is_some(),
                    });
                }
            }
        }
        waiting
    }
}

//! What a consumer remembers of an event that was handed out and is not settled.

use super::wire::{Reader, clipped, put, put_step, put_text};

/// Bytes of a worker's name that are remembered.
pub const WORKER_BYTES_MAX: usize = 128;

/// Why an attempt failed, or why an event became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The worker said nothing for as long as `ack_wait`.
    Timeout,
    /// The worker's connection was lost, and it said nothing until its lease was over.
    WorkerLost,
    /// The worker said that it could not.
    Nak,
    /// The worker said that nobody can, with this Reason Code.
    Rejected(u8),
    /// The worker gave it back without having worked on it.
    Released,
    /// It is larger than any worker takes.
    TooLarge,
    /// Every attempt that `max_deliver` allows has failed.
    MaxDeliver,
}

impl Cause {
    /// One of each, for labels.
    pub const ALL: [Self; 7] = [
        Self::Timeout,
        Self::WorkerLost,
        Self::Nak,
        Self::Rejected(0),
        Self::Released,
        Self::TooLarge,
        Self::MaxDeliver,
    ];

    /// The word for it, out of a closed set.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::WorkerLost => "worker_lost",
            Self::Nak => "nak",
            Self::Rejected(_) => "rejected",
            Self::Released => "released",
            Self::TooLarge => "too_large",
            Self::MaxDeliver => "max_deliver",
        }
    }

    /// Its place among [`Cause::ALL`].
    pub(in crate::engine) const fn number(self) -> u8 {
        match self {
            Self::Timeout => 0,
            Self::WorkerLost => 1,
            Self::Nak => 2,
            Self::Rejected(_) => 3,
            Self::Released => 4,
            Self::TooLarge => 5,
            Self::MaxDeliver => 6,
        }
    }

    /// Two bytes: its number, and the Reason Code of a rejection.
    pub(in crate::engine) const fn to_bytes(self) -> [u8; 2] {
        match self {
            Self::Rejected(reason) => [self.number(), reason],
            _ => [self.number(), 0],
        }
    }

    pub(in crate::engine) fn from_bytes([number, reason]: [u8; 2]) -> Option<Self> {
        match Self::ALL.get(usize::from(number))? {
            Self::Rejected(_) => Some(Self::Rejected(reason)),
            cause => (reason == 0).then_some(*cause),
        }
    }
}

/// An event that was handed out and is not settled, or that was passed over because its key was busy (no attempts then).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenItem {
    /// Hand-outs so far; the one under way counts. 0: it is behind where the consumer reads, but was never handed out.
    pub attempts: u32,
    /// When the lease ends, or before when it is not handed out again; in milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// When it was handed out first, in milliseconds since the Unix epoch; 0: never.
    pub first_ms: u64,
    /// Who has it, or had it last. Of a longer name [`WORKER_BYTES_MAX`] bytes are kept.
    pub worker: Box<str>,
    /// Why the last attempt failed, if one has.
    pub cause: Option<Cause>,
    /// True: handed out, and `due_ms` ends the lease. False: it waits for `due_ms`.
    pub leased: bool,
    /// A dead letter that was redriven: its content is in the table of dead letters under the same offset.
    pub is_letter: bool,
}

const LEASED: u8 = 1;
const LETTER: u8 = 2;
const CAUSE: u8 = 4;

/// Appends items, ascending by offset: the names of the workers once each, then the items. A later item under the same offset wins.
pub(super) fn encode(items: &mut dyn Iterator<Item = (u64, &OpenItem)>, out: &mut Vec<u8>) {
    let mut items: Vec<(u64, &OpenItem)> = items.collect();
    items.sort_by_key(|(offset, _)| *offset);
    let mut workers: Vec<&str> = Vec::new();
    let numbers: Vec<u64> = items
        .iter()
        .map(|(_, item)| {
            let name = clipped(&item.worker, WORKER_BYTES_MAX);
            // There are few, and the last one is the likeliest.
            let known = workers.iter().rposition(|worker| *worker == name);
            let number = known.unwrap_or(workers.len());
            if known.is_none() {
                workers.push(name);
            }
            number as u64
        })
        .collect();
    put(out, workers.len() as u64);
    for worker in workers {
        put_text(out, worker);
    }
    put(out, items.len() as u64);
    let (mut offset, mut due_ms) = (0, 0);
    for ((at, item), worker) in items.into_iter().zip(numbers) {
        put(out, at - offset);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        out.push(
            flag(item.leased, LEASED) | flag(item.is_letter, LETTER) | flag(item.cause.is_some(), CAUSE),
        );
        if let Some(cause) = item.cause {
            out.extend_from_slice(&cause.to_bytes());
        }
        put(out, u64::from(item.attempts));
        put_step(out, due_ms, item.due_ms);
        put_step(out, item.due_ms, item.first_ms);
        put(out, worker);
        (offset, due_ms) = (at, item.due_ms);
    }
}

/// Reads what [`encode`] has written.
pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Vec<(u64, OpenItem)>> {
    let mut workers = Vec::new();
    for _ in 0..reader.count()? {
        workers.push(reader.text()?);
    }
    let mut items = Vec::new();
    let (mut offset, mut last_due_ms) = (0_u64, 0);
    for _ in 0..reader.count()? {
        offset = offset.checked_add(reader.number()?)?;
        let flags = reader.byte()?;
        if flags & !(LEASED | LETTER | CAUSE) != 0 {
            return None;
        }
        let cause = match flags & CAUSE {
            0 => None,
            _ => Some(Cause::from_bytes([reader.byte()?, reader.byte()?])?),
        };
        let attempts = reader.number_u32()?;
        let due_ms = reader.step(last_due_ms)?;
        let first_ms = reader.step(due_ms)?;
        let worker = workers.get(usize::try_from(reader.number()?).ok()?)?;
        let item = OpenItem {
            attempts,
            due_ms,
            first_ms,
            worker: (*worker).into(),
            cause,
            leased: flags & LEASED != 0,
            is_letter: flags & LETTER != 0,
        };
        items.push((offset, item));
        last_due_ms = due_ms;
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_have_words_and_numbers_of_their_own() {
        let words: std::collections::BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
        assert_eq!(words.len(), Cause::ALL.len());
        for (at, cause) in (0..).zip(Cause::ALL) {
            assert_eq!(cause.number(), at);
            assert_eq!(Cause::from_bytes(cause.to_bytes()), Some(cause));
        }
        assert_eq!(Cause::from_bytes(Cause::Rejected(0x99).to_bytes()), Some(Cause::Rejected(0x99)));
        assert_eq!(Cause::from_bytes([7, 0]), None);
        assert_eq!(Cause::from_bytes([0, 1]), None);
    }
}

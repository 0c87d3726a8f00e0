//! Where the messages of one chunk lie in the log, in a few bytes for each run of them.
//!
//! A run is `len` consecutive messages of the Session at `len` consecutive offsets, all delivered in the same way. It is written as
//! numbers of variable length (seven bits to a byte, the lowest first):
//!
//! | number | what |
//! |---|---|
//! | 1 | distance from the end of the run before to this run's offset, zigzag: backwards distances are odd |
//! | 2 | (`len` - 1) * 2, and 1 if the profile is another one than that of the run before |
//! | 3 | the profile, if it is another one |
//!
//! One who takes every thousandth event costs three bytes for each.

use super::profile::Profile;
use std::mem::size_of;
use std::sync::Arc;

/// Messages at consecutive offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Run {
    /// The first one's number.
    pub(super) sequence: u64,
    /// Where the first one lies.
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) profile: u16,
}

impl Run {
    pub(super) fn end(&self) -> u64 {
        self.sequence + u64::from(self.len)
    }
}

/// Runs of consecutive sequences, in their order. Only the newest can grow.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Runs {
    /// All but the newest.
    closed: Vec<u8>,
    /// What the newest is written against: the end of the one before it, and its profile.
    before: (u64, u16),
    newest: Option<(u64, u32, u16)>,
    profiles: Vec<Arc<Profile>>,
    profile_bytes: usize,
}

/// A place before a run. Good for as long as the runs exist, whatever is added.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    at: usize,
    sequence: u64,
    before: (u64, u16),
}

impl Place {
    pub(super) fn beginning(first: u64) -> Self {
        Self { sequence: first, ..Self::default() }
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Runs {
    /// Adds a message at `offset`.
    pub(super) fn push(&mut self, offset: u64, profile: u16) {
        match &mut self.newest {
            Some((at, len, same)) if *same == profile && at.checked_add(u64::from(*len)) == Some(offset) => {
                *len += 1;
            }
            newest => {
                if let Some(run) = newest.replace((offset, 1, profile)) {
                    encode(&mut self.closed, self.before, run);
                    self.before = (run.0.wrapping_add(u64::from(run.1)), run.2);
                }
            }
        }
    }

    /// The number of a profile that the runs have, the newest one's first.
    pub(super) fn number_of(&self, profile: &Profile) -> Option<u16> {
        if let Some((_, _, newest)) = self.newest
            && self.profile(newest).is_some_and(|known| **known == *profile)
        {
            return Some(newest);
        }
        let at = self.profiles.iter().position(|known| **known == *profile)?;
        u16::try_from(at).ok()
    }

    pub(super) fn add_profile(&mut self, profile: Arc<Profile>) -> Option<u16> {
        let number = u16::try_from(self.profiles.len()).ok()?;
        self.profile_bytes += profile.row_bytes();
        self.profiles.push(profile);
        Some(number)
    }

    pub(super) fn profile(&self, number: u16) -> Option<&Arc<Profile>> {
        self.profiles.get(usize::from(number))
    }

    pub(super) fn newest_profile(&self) -> Option<&Arc<Profile>> {
        self.profile(self.newest?.2)
    }

    pub(in crate::engine) fn profiles(&self) -> &[Arc<Profile>] {
        &self.profiles
    }

    /// Bytes in a row of the saved view, about.
    pub(super) fn row_bytes(&self) -> usize {
        self.closed.len() + self.profile_bytes
    }

    /// The runs as they are saved.
    pub(in crate::engine) fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.closed.len() + 16);
        bytes.extend_from_slice(&self.closed);
        if let Some(run) = self.newest {
            encode(&mut bytes, self.before, run);
        }
        bytes
    }

    /// Runs as they were saved: `len` messages. `None` where that is not what the bytes say.
    pub(in crate::engine) fn decode(bytes: &[u8], profiles: Vec<Arc<Profile>>, len: u32) -> Option<Self> {
        let mut runs = Self::default();
        for profile in profiles {
            runs.add_profile(profile)?;
        }
        let mut at = 0;
        let mut before = (0, 0);
        let mut seen: u32 = 0;
        while at < bytes.len() {
            let run = decode(bytes, &mut at, before)?;
            runs.profile(run.2)?;
            run.0.checked_add(u64::from(run.1))?;
            seen = seen.checked_add(run.1).filter(|seen| *seen <= len)?;
            if let Some(closed) = runs.newest.replace(run) {
                encode(&mut runs.closed, runs.before, closed);
                runs.before = before;
            }
            before = (run.0 + u64::from(run.1), run.2);
        }
        (seen == len).then_some(runs)
    }

    /// The run behind `place`, and the place behind that.
    pub(super) fn next(&self, place: Place) -> Option<(Run, Place)> {
        let Place { mut at, sequence, before } = place;
        let (offset, len, profile) = if at < self.closed.len() {
            decode(&self.closed, &mut at, before)?
        } else if at == self.closed.len() {
            at += 1;
            self.newest?
        } else {
            return None;
        };
        let run = Run { sequence, offset, len, profile };
        let before = (offset.wrapping_add(u64::from(len)), profile);
        Some((run, Place { at, sequence: run.end(), before }))
    }

    /// Whether `place` lies before a run, and so stays good. Behind the newest run it does not: that may grow.
    pub(super) fn is_lasting(&self, place: Place) -> bool {
        place.at <= self.closed.len()
    }

    /// All runs; the first message has sequence `first`.
    pub(super) fn iter(&self, first: u64) -> impl Iterator<Item = Run> + '_ {
        let mut place = Place::beginning(first);
        std::iter::from_fn(move || {
            let (run, next) = self.next(place)?;
            place = next;
            Some(run)
        })
    }

    /// Gives back the room that is kept for more.
    pub(super) fn shrink(&mut self) {
        self.closed.shrink_to_fit();
        self.profiles.shrink_to_fit();
    }

    /// Forgets everything but the room.
    pub(super) fn clear(&mut self) {
        self.closed.clear();
        self.profiles.clear();
        (self.before, self.newest, self.profile_bytes) = ((0, 0), None, 0);
    }

    /// Bytes of memory, with its own.
    pub(super) fn memory_bytes(&self) -> usize {
        let profiles: usize =
            self.profiles.iter().map(|profile| 16 + size_of::<Profile>() + profile.heap_bytes()).sum();
        size_of::<Self>()
            + self.closed.capacity()
            + self.profiles.capacity() * size_of::<Arc<Profile>>()
            + profiles
    }
}

fn encode(out: &mut Vec<u8>, before: (u64, u16), (offset, len, profile): (u64, u32, u16)) {
    let distance = offset.wrapping_sub(before.0).cast_signed();
    number(out, ((distance << 1) ^ (distance >> 63)).cast_unsigned());
    let is_other = profile != before.1;
    number(out, u64::from(len - 1) << 1 | u64::from(is_other));
    if is_other {
        number(out, u64::from(profile));
    }
}

fn decode(bytes: &[u8], at: &mut usize, before: (u64, u16)) -> Option<(u64, u32, u16)> {
    let zigzag = take_number(bytes, at)?;
    let distance = (zigzag >> 1) ^ 0_u64.wrapping_sub(zigzag & 1);
    let head = take_number(bytes, at)?;
    let len = u32::try_from(head >> 1).ok()?.checked_add(1)?;
    let profile = if head & 1 == 1 { u16::try_from(take_number(bytes, at)?).ok()? } else { before.1 };
    Some((before.0.wrapping_add(distance), len, profile))
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7F) as u8);
}

fn take_number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_protocol::QoS;
    use proptest::prelude::*;

    fn profile(id: u32) -> Arc<Profile> {
        Arc::new(Profile {
            qos: QoS::AtLeastOnce,
            retain_as_published: false,
            is_retained: false,
            subscription_ids: Some([id].into()),
            group: None,
        })
    }

    proptest! {
        #[test]
        fn runs_are_what_was_pushed_before_and_after_a_save(
            steps in proptest::collection::vec((prop_oneof![Just(None), any::<u64>().prop_map(Some)], 0u16..3), 1..80),
        ) {
            let mut runs = Runs::default();
            for id in 0..3 {
                runs.add_profile(profile(id)).unwrap();
            }
            let mut model: Vec<(u64, u16)> = Vec::new();
            for (jump, profile) in steps {
                let next = model.last().map_or(7, |(offset, _)| offset.wrapping_add(1));
                // The last offset there is has no successor, and a log has never so many entries.
                let offset = jump.unwrap_or(next).min(u64::MAX - 100);
                runs.push(offset, profile);
                model.push((offset, profile));
            }
            let saved = Runs::decode(&runs.encoded(), runs.profiles().to_vec(), model.len() as u32).unwrap();
            for runs in [&runs, &saved] {
                let listed: Vec<_> = runs
                    .iter(100)
                    .flat_map(|run| (0..u64::from(run.len)).map(move |at| (run.sequence + at, run.offset + at, run.profile)))
                    .collect();
                let expected: Vec<_> =
                    (100u64..).zip(&model).map(|(sequence, (offset, profile))| (sequence, *offset, *profile)).collect();
                prop_assert_eq!(listed, expected);
            }
            prop_assert_eq!(saved.row_bytes(), runs.row_bytes(), "both are full at the same message");
        }

        #[test]
        fn any_bytes_are_runs_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60), len in 0u32..5000) {
            if let Some(runs) = Runs::decode(&bytes, vec![profile(1)], len) {
                prop_assert_eq!(runs.iter(0).map(|run| run.len).sum::<u32>(), len);
            }
        }
    }
}

//! From group to group by bounded scans.

use std::collections::VecDeque;

use sled::IVec;

use super::engine::{Engine, EngineError};
use super::keys::{PieceKey, frame_bytes, open_first_piece};
use crate::frame::FrameHeader;
use crate::offset::Offset;

/// What is read ahead at most.
const AHEAD_BYTES: usize = 1 << 20;

/// Groups that begin between two offsets, ascending.
pub(super) struct Cursor<'a> {
    engine: &'a Engine,
    salt: u64,
    rows: VecDeque<(PieceKey, IVec)>,
    from: PieceKey,
    to: Option<PieceKey>,
    ahead: usize,
}

/// What the first piece tells of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// The offset in the group's keys.
    pub(super) first: Offset,
    /// None where the first piece, or the header in it, is missing or damaged.
    pub(super) header: Option<FrameHeader>,
    /// Bytes of all groups appended before this one.
    pub(super) place: Option<u64>,
}

/// What became of the pieces of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// Bytes of the frame that were found.
    pub(super) bytes: u64,
    /// Whether all of them were there, in order.
    pub(super) complete: bool,
}

impl<'a> Cursor<'a> {
    /// Over the groups that begin at `from` or later and before `to`, for a reader of about `max_bytes`.
    pub(super) fn new(
        engine: &'a Engine,
        salt: u64,
        from: Offset,
        to: Option<Offset>,
        max_bytes: usize,
    ) -> Self {
        let to = to.map(|to| PieceKey::new(to, 0));
        let ahead = max_bytes.min(AHEAD_BYTES);
        Self { engine, salt, rows: VecDeque::new(), from: PieceKey::new(from, 0), to, ahead }
    }

    /// The group that is next, without moving on. None at the end.
    pub(super) fn peek(&mut self) -> Result<Option<Head>, EngineError> {
        let salt = self.salt;
        Ok(self.front()?.map(|(key, value)| Head::read(*key, value, salt)))
    }

    /// Moves on behind the next group, and appends its frame to `into` if that is wanted. Never appends more than the
    /// group's header announces.
    pub(super) fn take(&mut self, head: &Head, mut into: Option<&mut Vec<u8>>) -> Result<Taken, EngineError> {
        let announced = head.header.map_or(0, |header| header.frame_len() as u64);
        let mut taken = Taken { bytes: 0, complete: true };
        let mut expected = PieceKey::new(head.first, 0);
        while let Some((key, value)) = self.front()? {
            if key.first != head.first {
                break;
            }
            taken.complete &= *key == expected;
            taken.bytes += frame_bytes(*key, value);
            if let Some(into) = into.as_mut().filter(|_| taken.complete && taken.bytes <= announced) {
                let place = value.len() - frame_bytes(*key, value) as usize;
                into.extend_from_slice(value.get(place..).unwrap_or_default());
            }
            expected = PieceKey::new(key.first, key.piece.saturating_add(1));
            self.rows.pop_front();
        }
        taken.complete &= head.header.is_some() && taken.bytes == announced;
        Ok(taken)
    }

    fn front(&mut self) -> Result<Option<&(PieceKey, IVec)>, EngineError> {
        if self.rows.is_empty() {
            self.rows = self.engine.rows(self.from, self.to, self.ahead)?.into();
            if let Some((last, _)) = self.rows.back() {
                self.from = match last.piece.checked_add(1) {
                    Some(piece) => PieceKey::new(last.first, piece),
                    None => PieceKey::new(last.first.next(), 0),
                };
            }
        }
        Ok(self.rows.front())
    }
}

impl Head {
    /// Reads the first piece of the group that begins at `first`.
    pub(super) fn load(engine: &Engine, salt: u64, first: Offset) -> Result<Self, EngineError> {
        let key = PieceKey::new(first, 0);
        let value = engine.get(&key.encode())?;
        Ok(value.map_or(Self { first, header: None, place: None }, |value| Self::read(key, &value, salt)))
    }

    fn read(key: PieceKey, value: &[u8], salt: u64) -> Self {
        let opened = if key.piece == 0 { open_first_piece(key.first, value, salt) } else { None };
        let header = opened.and_then(|(_, frame)| FrameHeader::parse(frame, salt));
        Self {
            first: key.first,
            header: header.filter(|header| header.first == key.first),
            place: opened.map(|(place, _)| place),
        }
    }
}

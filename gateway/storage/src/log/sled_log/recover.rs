//! What is found when the store is opened.
//!
//! Only the last group is read. A batch of sled's is applied as a whole or not at all, so what is no whole group at the
//! end is either what a crash left of a group of several batches, or damage; both are removed and reported, as the
//! torn tail of a file would be.

use sled::Batch;

use super::cursor::{Cursor, Head};
use super::engine::{Engine, EngineError};
use super::keys::{FORMAT_KEY, FORMAT_VERSION, NEXT_KEY, PieceKey, SALT_KEY, open, seal};
use crate::frame::FRAME_VERSION;
use crate::log::segments::random_salt;
use crate::log::{OpenError, RecoveryReport, TailShows, TornTail};
use crate::offset::Offset;

/// Bytes looked at in one step of a removal.
const STEP_BYTES: usize = 4 << 20;

/// A store after recovery.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) salt: u64,
    pub(super) tail: Tail,
    /// Bytes of all groups ever appended before the earliest one.
    pub(super) trimmed_bytes: u64,
    pub(super) report: RecoveryReport,
}

/// The end of the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tail {
    pub(super) next: Offset,
    pub(super) last_time_ms: u64,
    /// Bytes of all groups ever appended.
    pub(super) place: u64,
    /// Bytes removed behind the last whole group, the place they were at, and what they show.
    pub(super) torn: Option<(u64, u64, TailShows)>,
}

/// Reads the log's own values and its ends; writes the former into an empty store.
pub(super) fn recover(engine: &Engine) -> Result<Recovered, OpenError> {
    let salt = match number(engine, FORMAT_KEY)?.map(u16::from_le_bytes) {
        None => begin(engine)?,
        Some(found) if found > FORMAT_VERSION => {
            let (file, known) = (engine.dir().into(), FORMAT_VERSION);
            return Err(OpenError::NewerFormat { file, found, known });
        }
        Some(_) => number(engine, SALT_KEY)?.map(u64::from_le_bytes).ok_or_else(|| damaged(engine))?,
    };
    let tail = tail(engine, salt)?;
    let (earliest, trimmed_bytes) = front(engine, salt, &tail).map_err(io_error("read", engine))?;
    if tail.torn.is_some() {
        engine.sync().map_err(io_error("sync", engine))?;
    }
    let torn_tail = tail.torn.map(|(bytes, at_byte, shows)| TornTail {
        file: engine.dir().into(),
        at_byte,
        bytes,
        shows,
    });
    let report = RecoveryReport {
        segments: 1,
        bytes: tail.place.saturating_sub(trimmed_bytes),
        earliest,
        next_offset: tail.next,
        torn_tail,
        ..RecoveryReport::default()
    };
    Ok(Recovered { salt, tail, trimmed_bytes, report })
}

/// Finds the end of the log, and removes what is no whole group there.
pub(super) fn tail(engine: &Engine, salt: u64) -> Result<Tail, OpenError> {
    let next = number(engine, NEXT_KEY)?.map_or(0, u64::from_le_bytes);
    let mut tail = Tail { next: Offset::new(next), ..Tail::default() };
    let mut frame = Vec::new();
    while let Some(last) = engine.last_until(Offset::new(u64::MAX)).map_err(io_error("read", engine))? {
        let head = Head::load(engine, salt, last.first).map_err(io_error("read", engine))?;
        if let Some(header) = head.header.filter(|header| !header.is_known()) {
            let (file, found, known) = (engine.dir().into(), header.version, FRAME_VERSION);
            return Err(match found == known {
                true => OpenError::UnknownFlags { file, flags: header.flags },
                false => OpenError::NewerFormat { file, found, known },
            });
        }
        frame.clear();
        let taken = Cursor::new(engine, salt, last.first, None, usize::MAX)
            .take(&head, Some(&mut frame))
            .map_err(io_error("read", engine))?;
        if let (Some(header), Some(place)) = (head.header, head.place)
            && taken.complete
            && header.is_whole(&frame, salt)
        {
            tail.next = tail.next.max(header.end());
            tail.last_time_ms = header.time_ms;
            tail.place = place + header.frame_len() as u64;
            break;
        }
        remove(engine, PieceKey::new(last.first, 0), None).map_err(io_error("cut off", engine))?;
        let shows = match (tail.torn, head.header) {
            (Some(_), _) => TailShows::Several,
            (None, None) => TailShows::NoHeader,
            (None, Some(_)) if taken.complete => TailShows::WrongChecksum,
            (None, Some(_)) => TailShows::CutShort,
        };
        let bytes = tail.torn.map_or(0, |(bytes, ..)| bytes) + taken.bytes;
        tail.torn = Some((bytes, 0, shows));
    }
    tail.torn = tail.torn.map(|(bytes, _, shows)| (bytes, tail.place, shows));
    Ok(tail)
}

/// Removes the pieces from `from` on and below `to`, in bounded batches that ascend, so that a group loses its first
/// piece first. Returns how many groups went.
pub(super) fn remove(engine: &Engine, from: PieceKey, to: Option<PieceKey>) -> Result<u64, EngineError> {
    let mut groups = 0;
    loop {
        let rows = engine.rows(from, to, STEP_BYTES)?;
        if rows.is_empty() {
            return Ok(groups);
        }
        let mut batch = Batch::default();
        let mut allowed = Ok(());
        for (key, _) in &rows {
            if key.piece == 0 {
                allowed = engine.interference.before_remove();
                if allowed.is_err() {
                    break;
                }
                groups += 1;
            }
            batch.remove(&key.encode());
        }
        drop(rows);
        engine.apply(batch)?;
        allowed?;
    }
}

/// Where the log goes on, or behind it, even if no group reaches that far.
pub(super) fn set_next(engine: &Engine, next: Offset) -> Result<(), EngineError> {
    let value = seal(NEXT_KEY, &next.get().to_le_bytes());
    engine.with(|db| db.insert(NEXT_KEY, value)).map(drop)
}

/// The earliest offset, and the bytes of all groups before it. Removes what an interrupted trimming left of a group.
fn front(engine: &Engine, salt: u64, tail: &Tail) -> Result<(Offset, u64), EngineError> {
    let beginning = PieceKey::new(Offset::ZERO, 0);
    while let Some((key, _)) = engine.rows(beginning, None, 1)?.into_iter().next() {
        if key.piece > 0 {
            remove(engine, key, Some(PieceKey::new(key.first.next(), 0)))?;
            continue;
        }
        // A damaged group in front does not know its place; the next one that does bounds the size from below.
        let mut head = Head::load(engine, salt, key.first)?;
        while head.place.is_none()
            && let Some(behind) = engine.first_behind(head.first)?
        {
            head = Head::load(engine, salt, behind.first)?;
        }
        return Ok((key.first, head.place.unwrap_or(tail.place)));
    }
    Ok((tail.next, tail.place))
}

/// Writes the log's own values into a store that has nothing else.
fn begin(engine: &Engine) -> Result<u64, OpenError> {
    let empty = engine.with(|db| db.iter().next().transpose()).map_err(io_error("read", engine))?.is_none();
    if !empty {
        return Err(damaged(engine));
    }
    let salt = random_salt();
    let mut batch = Batch::default();
    batch.insert(FORMAT_KEY, seal(FORMAT_KEY, &FORMAT_VERSION.to_le_bytes()));
    batch.insert(SALT_KEY, seal(SALT_KEY, &salt.to_le_bytes()));
    engine.apply(batch).and_then(|()| engine.sync()).map_err(io_error("create", engine))?;
    Ok(salt)
}

/// A number of the log's own; None if it is not there.
fn number<const N: usize>(engine: &Engine, key: &[u8]) -> Result<Option<[u8; N]>, OpenError> {
    let Some(sealed) = engine.get(key).map_err(io_error("read", engine))? else { return Ok(None) };
    open(key, &sealed).map(Some).ok_or_else(|| damaged(engine))
}

fn damaged(engine: &Engine) -> OpenError {
    OpenError::DamagedHeader { file: engine.dir().into() }
}

fn io_error(doing: &'static str, engine: &Engine) -> impl FnOnce(EngineError) -> OpenError + use<> {
    let path = engine.dir().to_path_buf();
    move |error| OpenError::Io { doing, path, source: error.into() }
}

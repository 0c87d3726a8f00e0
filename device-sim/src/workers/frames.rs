//! What coordinator and workers say to each other: a length of four bytes, least significant first, and that many bytes of
//! MessagePack.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::class::ByClass;
use crate::lean::{Tally, Times};
use crate::ledger::Received;
use crate::qos::ByQoS;
use crate::scenario::Variant;
use crate::shared::WorkerUsage;

/// The largest frame: a device of a hundred million events fits.
const FRAME_BYTES_MAX: u32 = 128 << 20;

/// What a worker is told to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Its part; first of all.
    Assign(Box<Assignment>),
    /// Connect the devices.
    Connect,
    /// Events are due from that moment of the machine's monotonic clock on, until the run is so old; microseconds.
    Start { at_us: u64, end_us: u64 },
    /// No events are due after that moment of the run, microseconds.
    End { end_us: u64 },
    /// Tell the halves of the ledger of the devices from one to before another.
    Page { from: u32, to: u32 },
    /// Say goodbye to the broker and end.
    Leave,
}

/// One worker's part of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// Which worker it is.
    pub(crate) number: u32,
    /// The scenario's text.
    pub(crate) scenario: String,
    /// What is changed of it.
    pub(crate) variant: Variant,
    /// Where devices find the broker.
    pub(crate) devices: SocketAddr,
    /// Where subscribers find it.
    pub(crate) subscribers: SocketAddr,
    pub(crate) seed: u64,
    pub(crate) epoch: u32,
    /// The subscribers that it is, by their places in the scenario.
    pub(crate) checkers: Vec<usize>,
}

/// What a worker tells.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum News {
    /// How far it is.
    Progress(Box<Progress>),
    /// What was asked for.
    Page(Page),
    /// It cannot go on, and why.
    Failed(String),
}

/// How far a worker is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) tally: Tally,
    pub(crate) times: Vec<Times>,
    pub(crate) usage: WorkerUsage,
    /// Everything that was due has been handed out.
    pub(crate) is_done: bool,
}

/// A device's number and its rows.
pub(crate) type Rows = (u32, Vec<u64>);

/// Halves of the ledger of some devices.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    /// Of the devices that publish here.
    pub(crate) published: Vec<Rows>,
    /// Of the subscribers here, by their place.
    pub(crate) arrived: Vec<(usize, Vec<Rows>)>,
    /// What those count themselves, over all devices.
    pub(crate) counts: Vec<(usize, ByClass<ByQoS<Received>>)>,
}

/// Why a frame did not come or go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The other side is gone.
    #[error("the other side is gone")]
    Gone,
    /// The pipe failed.
    #[error("the pipe failed: {0}")]
    Io(#[from] io::Error),
    /// What came is not a frame.
    #[error("what came is not a frame: {0}")]
    Illegal(#[from] rmp_serde::decode::Error),
    /// What was to go makes no frame.
    #[error("this makes no frame: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    /// It is larger than a frame may be.
    #[error("a frame of {0} bytes is too large")]
    TooLarge(u64),
}

/// Writes one frame.
pub(crate) fn write(out: &mut impl Write, what: &impl Serialize) -> Result<(), FrameError> {
    let mut frame = vec![0; 4];
    rmp_serde::encode::write(&mut frame, what)?;
    let length = (frame.len() - 4) as u64;
    let short = u32::try_from(length).ok().filter(|length| *length <= FRAME_BYTES_MAX);
    let length = short.ok_or(FrameError::TooLarge(length))?;
    if let Some(place) = frame.first_chunk_mut() {
        *place = length.to_le_bytes();
    }
    out.write_all(&frame)?;
    Ok(out.flush()?)
}

/// Reads one frame.
pub(crate) fn read<T: DeserializeOwned>(from: &mut impl Read) -> Result<T, FrameError> {
    let mut length = [0; 4];
    from.read_exact(&mut length).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Gone,
        _ => error.into(),
    })?;
    let length = u32::from_le_bytes(length);
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge(length.into()));
    }
    // Not allocated on the word of the other side: it grows with what comes.
    let mut frame = Vec::new();
    from.take(length.into()).read_to_end(&mut frame)?;
    if frame.len() < length as usize {
        return Err(FrameError::Gone);
    }
    Ok(rmp_serde::from_slice(&frame)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut pipe = Vec::new();
        write(&mut pipe, &Order::Start { at_us: u64::MAX, end_us: 5 }).unwrap();
        let page = Page { published: vec![(7, vec![1, u64::MAX])], arrived: Vec::new(), counts: Vec::new() };
        write(&mut pipe, &News::Page(page)).unwrap();
        let mut rest = pipe.as_slice();
        assert!(matches!(read(&mut rest), Ok(Order::Start { at_us: u64::MAX, end_us: 5 })));
        let Ok(News::Page(page)) = read(&mut rest) else { panic!("a page") };
        assert_eq!(page.published, [(7, vec![1, u64::MAX])]);
        assert!(matches!(read::<News>(&mut rest), Err(FrameError::Gone)));
    }

    #[test]
    fn what_is_no_frame_is_an_error_and_not_a_wait_or_a_large_allocation() {
        assert!(matches!(read::<News>(&mut [1, 0, 0, 0].as_slice()), Err(FrameError::Gone)), "cut short");
        assert!(matches!(read::<News>(&mut [255; 9].as_slice()), Err(FrameError::TooLarge(_))));
        assert!(matches!(read::<News>(&mut [1, 0, 0, 0, 0xc1].as_slice()), Err(FrameError::Illegal(_))));
    }
}

//! One direction of one connection: bytes go in, wait as long as the weather says, and come out in order.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Orders;
use crate::random::unit;
use crate::scenario::phase::Weather;

/// What a line holds at most; beyond it the sender feels it, as it would a full window.
pub(super) const BYTES_MAX: usize = 1 << 18;

const READ_BYTES: usize = 1 << 14;

/// Bytes to a packet, about: what is lost at once.
const PACKET_BYTES: usize = 1_460;

/// The draws of one packet-sized piece are worth so many pieces at most.
const PIECES_MAX: i32 = 64;

pub(super) struct Line {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    hear: watch::Receiver<Orders>,
    rng: ChaCha8Rng,
    /// When each may come out; never earlier than the one before it.
    held: VecDeque<(Instant, Bytes)>,
    held_bytes: usize,
    ended: bool,
}

impl Line {
    pub(super) fn new(
        from: OwnedReadHalf,
        to: OwnedWriteHalf,
        hear: watch::Receiver<Orders>,
        rng: ChaCha8Rng,
    ) -> Self {
        Line { from, to, hear, rng, held: VecDeque::new(), held_bytes: 0, ended: false }
    }

    /// Until the sender has ended and all of it is written, or the receiver takes no more. May be dropped and called
    /// again: what is held stays held, and a write that was cut short goes on where it was.
    pub(super) async fn run(&mut self) {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        loop {
            let Some((due, _)) = self.held.front() else {
                if self.ended {
                    let _ = self.to.shutdown().await;
                    return;
                }
                let read = self.from.read_buf(&mut buffer).await;
                self.take_in(read.ok(), &mut buffer);
                continue;
            };
            let due = *due;
            tokio::select! {
                biased;
                () = sleep_until(due), if due > Instant::now() => {}
                read = self.from.read_buf(&mut buffer), if !self.ended && self.held_bytes < BYTES_MAX && due > Instant::now() => {
                    self.take_in(read.ok(), &mut buffer);
                    continue;
                }
                else => {}
            }
            if due <= Instant::now() && !self.write_some().await {
                return;
            }
        }
    }

    /// Notes what was read, and when it may leave.
    fn take_in(&mut self, read: Option<usize>, buffer: &mut BytesMut) {
        match read {
            None | Some(0) => self.ended = true,
            Some(bytes) => {
                let now = Instant::now();
                let after = self.held.back().map_or(now, |(due, _)| *due);
                let due = after.max(now + self.wait(bytes));
                self.held_bytes += bytes;
                self.held.push_back((due, buffer.split().freeze()));
                buffer.reserve(READ_BYTES);
            }
        }
    }

    /// Writes a part of the first piece; false if nobody takes it.
    async fn write_some(&mut self) -> bool {
        let Some((_, piece)) = self.held.front_mut() else { return true };
        let Ok(written) = self.to.write(piece).await else { return false };
        self.held_bytes -= written;
        let _ = piece.split_to(written);
        if piece.is_empty() {
            self.held.pop_front();
        }
        written > 0
    }

    fn wait(&mut self, bytes: usize) -> Duration {
        let weather = self.hear.borrow().weather;
        match weather {
            Some(Weather::Delay { delay, jitter }) => delay + jitter.mul_f64(unit(&mut self.rng)),
            Some(Weather::Loss { share, stall }) => {
                let pieces =
                    i32::try_from(bytes.div_ceil(PACKET_BYTES)).unwrap_or(PIECES_MAX).min(PIECES_MAX);
                let lost = unit(&mut self.rng) >= (1.0 - share).powi(pieces);
                if lost { stall } else { Duration::ZERO }
            }
            _ => Duration::ZERO,
        }
    }

    /// Lets it end by a reset, and not in peace as a dropped half would.
    pub(super) fn reset(self) {
        let _ = self.to.as_ref().set_zero_linger();
        self.to.forget();
    }

    pub(super) fn into_halves(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        (self.from, self.to)
    }
}

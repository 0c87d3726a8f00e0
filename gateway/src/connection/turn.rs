//! What a connection does before others get a turn, and whether there is time for everybody.

use super::{Context, io};
use crate::admission::Level;

/// What a connection does before others get a turn.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    /// Rounds of the loop.
    pub(super) rounds: usize,
    /// How many of them read, the first ones.
    pub(super) reads: usize,
    /// How many read from a client that may be sent no more before it has acknowledged something.
    pub(super) reads_for_acks: usize,
    /// What is read at once.
    pub(super) read_bytes: usize,
}

/// While there is time for everybody.
pub(super) const AT_EASE: Turn = Turn { rounds: 8, reads: 8, reads_for_acks: 8, read_bytes: io::READ_BYTES };
/// From L1 on. Where there is always more to do than time for it, everybody has as many turns as everybody else, and hundreds publish for each that
/// receives: so whoever publishes reads a little in a turn ([`super::turnstile`]), and whoever receives is sent what there is for it.
pub(super) const PRESSED: Turn = Turn { rounds: 128, reads: 1, reads_for_acks: 8, read_bytes: 8 * 1024 };

/// Whether those who publish give way to all others, and what is critical waits for nobody. Not at L1, where larger groups are what helps.
pub(super) fn is_overloaded(context: &Context) -> bool {
    context.pressure.level() >= Level::Throttle
}

/// Whether there is more to do than time for it, or less room than there should be.
pub(super) fn is_pressed(context: &Context) -> bool {
    context.pressure.level() >= Level::Conserve
}

//! One deadline: for CONNECT to arrive, and after it for the next packet.

use super::Millis;
use std::num::NonZeroU32;

/// The moment by which the peer has to be heard of. Moving it costs one store, so every packet may do it.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepAlive {
    last_received: Millis,
    /// How long silence is borne, in milliseconds; `None`: for ever (Keep Alive 0).
    patience_ms: Option<NonZeroU32>,
}

impl KeepAlive {
    pub(super) fn awaiting_connect(now: Millis, timeout_ms: u64) -> Self {
        let timeout_ms = u32::try_from(timeout_ms).unwrap_or(u32::MAX);
        Self {
            last_received: now,
            patience_ms: Some(NonZeroU32::MIN.saturating_add(timeout_ms.saturating_sub(1))),
        }
    }

    /// From CONNECT on: one and a half times the Keep Alive [MQTT-3.1.2-22].
    pub(super) const fn connected(now: Millis, keep_alive_secs: u16) -> Self {
        Self { last_received: now, patience_ms: NonZeroU32::new(keep_alive_secs as u32 * 1500) }
    }

    pub(super) const fn received(&mut self, now: Millis) {
        self.last_received = now;
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        self.patience_ms.map(|patience| self.last_received.plus(patience.get().into()))
    }
}

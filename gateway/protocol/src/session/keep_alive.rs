//! One deadline: for CONNECT to arrive, and after it for the next packet.

use super::Millis;

/// The moment by which the peer has to be heard of. Moving it costs one store, so every packet may do it.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepAlive {
    last_received: Millis,
    /// How long silence is borne, in milliseconds; `None`: for ever (Keep Alive 0).
    patience_ms: Option<u64>,
}

impl KeepAlive {
    pub(super) const fn awaiting_connect(now: Millis, timeout_ms: u64) -> Self {
        Self { last_received: now, patience_ms: Some(timeout_ms) }
    }

    /// From CONNECT on: one and a half times the Keep Alive [MQTT-3.1.2-22].
    pub(super) const fn connected(now: Millis, keep_alive_secs: u16) -> Self {
        let patience_ms = match keep_alive_secs {
            0 => None,
            secs => Some(secs as u64 * 1500),
        };
        Self { last_received: now, patience_ms }
    }

    pub(super) const fn received(&mut self, now: Millis) {
        self.last_received = now;
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        self.patience_ms.map(|patience| self.last_received.plus(patience))
    }
}

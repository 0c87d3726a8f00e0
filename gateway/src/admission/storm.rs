//! Reconnect storms: connects at a pace, clients that come and go held off for a while, and words that tell them when to come again.
//!
//! Who is told to come again gets a time of its own: the places in the queue are handed out one after the other at the rate that the gateway
//! takes, so 15,000 clients that are refused at once do not come back at once.

use super::bucket::{Bucket, Rate};
use super::level::Level;
use super::recent::Recent;
use crate::decisions::Reason;
use core::net::IpAddr;

/// The longest that anybody is told to stay away; a client that is sent further away than this tries earlier anyway.
const RETRY_MS_MAX: u64 = 60_000;
/// Addresses and clients that are remembered.
const ADDRESSES_MAX: usize = 16_384;
const CLIENTS_MAX: usize = 65_536;
/// Over which time connects of a client are counted.
const FLAP_WINDOW_MS: u64 = 60_000;

/// The pace of connects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StormOptions {
    /// Over all listeners.
    pub connects: Option<Rate>,
    /// From one address.
    pub address_connects: Option<Rate>,
    /// Connects of one client within a minute before it is held off; 0: no limit.
    pub flap_connects: u32,
    /// How long it is.
    pub flap_hold_off_ms: u64,
}

/// Who is not let in, and when it is to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Later {
    /// Why.
    pub reason: Reason,
    /// Milliseconds from now.
    pub retry_after_ms: u64,
}

impl Later {
    /// What a Reason String says of it.
    #[must_use]
    pub fn words(&self) -> String {
        let secs = self.retry_after_ms.div_ceil(1000).max(1);
        format!("{}: connect again in {secs} s", self.reason.label())
    }
}

/// The state of the pace. Time is an argument, of a steady clock.
#[derive(Debug)]
pub struct Storm {
    options: StormOptions,
    connects: Option<Bucket>,
    addresses: Recent<Bucket>,
    clients: Recent<Flap>,
    /// When the next place in the queue of those who were told to come again is.
    next_place_ms: f64,
}

/// How often a client has come.
#[derive(Clone, Copy, Debug)]
struct Flap {
    bucket: Bucket,
    held_until_ms: u64,
}

impl Storm {
    /// Nobody has come yet.
    #[must_use]
    pub fn new(options: StormOptions, now_ms: u64) -> Self {
        Self {
            options,
            connects: options.connects.map(|rate| Bucket::full(rate, now_ms)),
            addresses: Recent::new(ADDRESSES_MAX, FLAP_WINDOW_MS),
            clients: Recent::new(CLIENTS_MAX, FLAP_WINDOW_MS.max(options.flap_hold_off_ms)),
            next_place_ms: 0.0,
        }
    }

    /// Somebody connects from this address.
    ///
    /// # Errors
    /// [`Later`]: it is too fast.
    pub fn offer(&mut self, now_ms: u64, address: IpAddr, level: Level) -> Result<(), Later> {
        if let Some(rate) = self.options.address_connects {
            let bucket = self.addresses.entry(now_ms, site(address), || Bucket::full(rate, now_ms));
            if let Err(retry_after_ms) = bucket.take(rate, now_ms, 1.0) {
                return Err(self.later(now_ms, Reason::AddressConnectRate, rate, retry_after_ms));
            }
        }
        if let (Some(configured), Some(bucket)) = (self.options.connects, &mut self.connects) {
            let rate = paced(configured, level);
            if let Err(retry_after_ms) = bucket.take(rate, now_ms, 1.0) {
                let reason = if level.paces_connects() { Reason::ConnectsPaced } else { Reason::ConnectRate };
                return Err(self.later(now_ms, reason, rate, retry_after_ms));
            }
        }
        Ok(())
    }

    /// The one that connects is this client, and has a session here or not.
    ///
    /// # Errors
    /// [`Later`]: it has come too often, or no sessions are made now.
    pub fn greet(
        &mut self,
        now_ms: u64,
        client_id: &str,
        has_session: bool,
        level: Level,
    ) -> Result<(), Later> {
        if level.refuses_sessions() && !has_session {
            // Nobody knows when it passes; as if those who come now were let in at the pace of L4.
            let rate = paced(self.options.connects.unwrap_or(Rate { per_second: 1000.0, burst: 1.0 }), level);
            return Err(self.later(now_ms, Reason::NoNewSessions, rate, 5_000));
        }
        if self.options.flap_connects == 0 {
            return Ok(());
        }
        let count = f64::from(self.options.flap_connects);
        let rate = Rate { per_second: count * 1000.0 / FLAP_WINDOW_MS as f64, burst: count };
        let flap = || Flap { bucket: Bucket::full(rate, now_ms), held_until_ms: 0 };
        let flap = self.clients.entry(now_ms, client_id, flap);
        if flap.held_until_ms <= now_ms && flap.bucket.take(rate, now_ms, 1.0).is_err() {
            // It begins anew afterwards, with half of what it had; attempts while it is held off do not make that longer.
            flap.held_until_ms = now_ms.saturating_add(self.options.flap_hold_off_ms);
            flap.bucket = Bucket::full(Rate { burst: (count / 2.0).max(1.0), ..rate }, flap.held_until_ms);
        }
        if flap.held_until_ms > now_ms {
            let retry_after_ms = flap.held_until_ms - now_ms;
            return Err(Later { reason: Reason::Flapping, retry_after_ms });
        }
        Ok(())
    }

    /// The next place in the queue of those who are told to come again.
    fn later(&mut self, now_ms: u64, reason: Reason, rate: Rate, at_least_ms: u64) -> Later {
        let now = now_ms as f64;
        let earliest = now + at_least_ms as f64;
        // Behind the last one who was told so, as long as that is in sight; then from the front again.
        if self.next_place_ms < earliest || self.next_place_ms > now + RETRY_MS_MAX as f64 {
            self.next_place_ms = earliest;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a minute at most, not negative"
        )]
        let retry_after_ms = ((self.next_place_ms - now) as u64).min(RETRY_MS_MAX);
        self.next_place_ms += 1000.0 / rate.per_second;
        Later { reason, retry_after_ms }
    }
}

/// What is left of the rate of connects at a level: half at L2, a quarter at L3, an eighth above.
fn paced(rate: Rate, level: Level) -> Rate {
    let part = match level {
        Level::Normal | Level::Conserve => 1.0,
        Level::Throttle => 0.5,
        Level::Shed => 0.25,
        Level::Protect | Level::ReadOnly => 0.125,
    };
    Rate { per_second: rate.per_second * part, burst: (rate.burst * part).max(1.0) }
}

/// What counts as one address: of IPv6 the first 64 bits, which one host has for itself.
#[must_use]
pub fn site(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        // No IPv4 address is as large as the smallest of these, but for those of 64 zero bits, which are nobody's.
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

/// A Server Keep Alive for this client: up to a fifth less than `secs`, another for each client and always the same for one, so that clients that
/// connected at once do not send PINGREQ at once. 0, no Keep Alive, stays 0.
#[must_use]
pub fn jittered_keep_alive(secs: u16, client_id: &str) -> u16 {
    // FNV-1a: the same on every machine, and nobody gains by forging it.
    let hash = client_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let less = (u64::from(secs / 5 + 1) * (hash >> 32 & 0xffff)) >> 16;
    secs.saturating_sub(u16::try_from(less).unwrap_or(0))
}

#[cfg(test)]
#[path = "storm_tests.rs"]
mod tests;

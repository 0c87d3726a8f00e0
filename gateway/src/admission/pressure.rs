//! Pressures as numbers, and the one place where everybody reads what was made of them.

use super::level::{Level, Resource};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// A pressure for each resource, 0 (idle) to 1 (at its limit).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressures {
    of: [f64; Resource::ALL.len()],
    lag_growth: f64,
}

impl Pressures {
    /// The pressure of one resource.
    #[must_use]
    pub fn get(&self, resource: Resource) -> f64 {
        self.of.get(resource as usize).copied().unwrap_or(0.0)
    }

    /// Notes a pressure. It is held to 0 to 1; what is no number, as from a limit of 0 that is used at 0, counts as 0.
    pub fn set(&mut self, resource: Resource, pressure: f64) {
        if let Some(place) = self.of.get_mut(resource as usize) {
            *place = if pressure.is_nan() { 0.0 } else { pressure.clamp(0.0, 1.0) };
        }
    }

    /// The same, for one that is built in one go.
    #[must_use]
    pub fn with(mut self, resource: Resource, pressure: f64) -> Self {
        self.set(resource, pressure);
        self
    }

    /// Of what comes for those who receive, the part by which their lag grows, 0 to 1. No level is entered or kept for it: what waits for them has
    /// room of its own. But while time is short no more is taken than can be passed on.
    #[must_use]
    pub fn lag_growth(&self) -> f64 {
        self.lag_growth
    }

    /// Notes by how much the lag of those who receive grows.
    #[must_use]
    pub fn with_lag_growth(mut self, part: f64) -> Self {
        self.lag_growth = part;
        self
    }

    /// The resource that is pressed hardest; of equals the first in the order of [`Resource::ALL`].
    #[must_use]
    pub fn worst(&self) -> (Resource, f64) {
        let mut worst = (Resource::Memory, 0.0);
        for resource in Resource::ALL {
            if self.get(resource) > worst.1 {
                worst = (resource, self.get(resource));
            }
        }
        worst
    }
}

/// Where the gateway stands: the level, and whether QoS 0 of class `normal` is shed whatever its client's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stance {
    /// The level.
    pub level: Level,
    /// From L3 on: memory, buffers or the disk fill up, so QoS 0 of class `normal` is shed, too, and not only what is over its share.
    pub sheds_normal: bool,
    /// From L2 on: the last sample demanded L1 at least. While it did not, and the level only waits for its five seconds, nobody is slowed: there is
    /// room.
    pub slows: bool,
    /// At L4: the last sample demanded it for memory, buffers, the disk or a fault. While the level only waits for its five seconds, or it is time that
    /// is short, acknowledgements are not held: those of clients over their share are late.
    pub holds_acks: bool,
}

impl Stance {
    const SHEDS_NORMAL: u8 = 0x10;
    const HOLDS_ACKS: u8 = 0x20;
    const SLOWS: u8 = 0x40;
    const LEVEL: u8 = 0x0f;

    /// A stance at this level that was just come to from below.
    #[must_use]
    pub const fn at(level: Level) -> Self {
        Self {
            level,
            sheds_normal: false,
            slows: level.as_u8() >= Level::Throttle.as_u8(),
            holds_acks: level.as_u8() >= Level::Protect.as_u8(),
        }
    }

    const fn to_bits(self) -> u8 {
        let normal = if self.sheds_normal { Self::SHEDS_NORMAL } else { 0 };
        let acks = if self.holds_acks { Self::HOLDS_ACKS } else { 0 };
        let slows = if self.slows { Self::SLOWS } else { 0 };
        self.level.as_u8() | normal | acks | slows
    }

    const fn from_bits(bits: u8) -> Self {
        Self {
            level: Level::from_u8(bits & Self::LEVEL),
            sheds_normal: bits & Self::SHEDS_NORMAL != 0,
            slows: bits & Self::SLOWS != 0,
            holds_acks: bits & Self::HOLDS_ACKS != 0,
        }
    }
}

/// What everybody reads, written by the one that samples. All of it is relaxed: whoever reads a value that is a moment old does what
/// was right a moment ago.
#[derive(Debug, Default)]
pub struct Pressure {
    stance: AtomicU8,
    pressures: [AtomicU32; Resource::ALL.len()],
    pub(super) market: Market,
    pub(super) meter: Meter,
}

/// The terms of shares, set ten times a second.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Market {
    /// Credits a second for each client, as the bits of an `f32`.
    rate: AtomicU32,
    /// The number of the window in which active clients are counted.
    window: AtomicU32,
    /// Offences above this end a connection while there are tickets; the bits of an `f32`.
    cut: AtomicU32,
    tickets: AtomicU32,
    /// What each client would bring if all brought the same, in credits a second; the bits of an `f32`.
    equal: AtomicU32,
}

/// What shares report. On a line of its own: it is written by everyone, while the rest is read.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Meter {
    /// Thousandths of credits taken.
    taken: AtomicU64,
    active: AtomicU32,
    /// The greatest offence of the window, as the bits of an `f32`; those of numbers above zero are in their order.
    worst: AtomicU32,
}

impl Default for Market {
    fn default() -> Self {
        Self {
            rate: AtomicU32::new(f32::INFINITY.to_bits()),
            window: AtomicU32::new(1),
            cut: AtomicU32::new(f32::INFINITY.to_bits()),
            tickets: AtomicU32::new(0),
            equal: AtomicU32::new(f32::INFINITY.to_bits()),
        }
    }
}

impl Pressure {
    /// The level. One relaxed load: to be asked once for each read.
    #[must_use]
    pub fn level(&self) -> Level {
        self.stance().level
    }

    /// The level and how far L3 has come. One relaxed load.
    #[must_use]
    pub fn stance(&self) -> Stance {
        Stance::from_bits(self.stance.load(Ordering::Relaxed))
    }

    /// Whether those who are over their share wait just now. One relaxed load.
    #[must_use]
    pub fn slows(&self) -> bool {
        self.stance().slows
    }

    /// Whether acknowledgements of what is not critical are held just now. One relaxed load.
    #[must_use]
    pub fn holds_acks(&self) -> bool {
        self.stance().holds_acks
    }

    /// The pressure of one resource as it was sampled last.
    #[must_use]
    pub fn pressure(&self, resource: Resource) -> f64 {
        let bits = self.pressures.get(resource as usize).map_or(0, |bits| bits.load(Ordering::Relaxed));
        f32::from_bits(bits).into()
    }

    /// All pressures as they were sampled last.
    #[must_use]
    pub fn pressures(&self) -> Pressures {
        let mut pressures = Pressures::default();
        for resource in Resource::ALL {
            pressures.set(resource, self.pressure(resource));
        }
        pressures
    }

    /// Notes what was sampled. [`super::Controller::sample`] does it; tests may.
    pub fn set(&self, stance: Stance, pressures: &Pressures) {
        for (resource, place) in Resource::ALL.into_iter().zip(&self.pressures) {
            #[expect(clippy::cast_possible_truncation, reason = "0 to 1, and a hundredth would do")]
            place.store((pressures.get(resource) as f32).to_bits(), Ordering::Relaxed);
        }
        self.stance.store(stance.to_bits(), Ordering::Relaxed);
    }

    /// Whether replay of streams and redrive of dead letters wait. They do not where it is the disk alone that presses, or nothing can be
    /// stored: who reads what is stored writes nothing, and a log that is held may stay full for days.
    #[must_use]
    pub fn pauses_replay(&self) -> bool {
        let level = self.level();
        level.pauses_replay() && level != Level::ReadOnly && self.pressures().worst().0 != Resource::Disk
    }

    /// Credits a second that each client has just now; infinite while shares are not limited.
    #[must_use]
    pub fn share_rate(&self) -> f32 {
        f32::from_bits(self.market.rate.load(Ordering::Relaxed))
    }

    /// Sets what each client has. [`super::Controller::sample`] does it; tests may.
    pub fn set_share_rate(&self, credits_per_second: f32) {
        self.market.rate.store(credits_per_second.max(0.0).to_bits(), Ordering::Relaxed);
    }

    /// What each client would bring just now if all brought the same, in credits a second, from L1 on; infinite while that is not known.
    #[must_use]
    pub fn equal_part(&self) -> f32 {
        f32::from_bits(self.market.equal.load(Ordering::Relaxed))
    }

    pub(super) fn set_equal_part(&self, credits_per_second: f32) {
        self.market.equal.store(credits_per_second.to_bits(), Ordering::Relaxed);
    }
}

impl Market {
    pub(super) fn window(&self) -> u32 {
        self.window.load(Ordering::Relaxed)
    }

    /// Begins the next window.
    pub(super) fn turn(&self) {
        self.window.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on offences above `cut` end connections, `tickets` of them.
    pub(super) fn convict_above(&self, cut: f32, tickets: u32) {
        self.cut.store(cut.to_bits(), Ordering::Relaxed);
        self.tickets.store(tickets, Ordering::Relaxed);
    }

    /// Whether this offence ends its connection. Takes a ticket if so.
    pub(super) fn convicts(&self, offence: f32) -> bool {
        if offence < f32::from_bits(self.cut.load(Ordering::Relaxed)) {
            return false;
        }
        let take = |tickets: u32| tickets.checked_sub(1);
        self.tickets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

impl Meter {
    /// A client reports what it has taken since it last did, how bad its worst offence is, and whether it is new in this window.
    pub(super) fn report(&self, credits: f32, offence: f32, is_new: bool) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and is not negative"
        )]
        self.taken.fetch_add((credits * 1000.0) as u64, Ordering::Relaxed);
        if is_new {
            self.active.fetch_add(1, Ordering::Relaxed);
        }
        if offence > f32::from_bits(self.worst.load(Ordering::Relaxed)) {
            self.worst.fetch_max(offence.to_bits(), Ordering::Relaxed);
        }
    }

    /// Credits taken since this was last asked.
    pub(super) fn take_taken(&self) -> f64 {
        self.taken.swap(0, Ordering::Relaxed) as f64 / 1000.0
    }

    /// Clients seen in this window so far.
    pub(super) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Ends a window: how many clients were seen in it, and the worst offence.
    pub(super) fn take_window(&self) -> (u32, f32) {
        let active = self.active.swap(0, Ordering::Relaxed);
        (active, f32::from_bits(self.worst.swap(0, Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_one_counts_and_nonsense_does_not() {
        let mut pressures = Pressures::default();
        assert_eq!(pressures.worst(), (Resource::Memory, 0.0));
        pressures.set(Resource::Disk, 0.5);
        pressures.set(Resource::Oldest, 0.5);
        assert_eq!(pressures.worst(), (Resource::Disk, 0.5));
        pressures.set(Resource::Oldest, 7.0);
        assert_eq!(pressures.worst(), (Resource::Oldest, 1.0));
        pressures.set(Resource::Oldest, f64::NAN);
        pressures.set(Resource::Disk, -1.0);
        assert_eq!(pressures, Pressures::default());
    }

    #[test]
    fn what_is_set_is_what_everybody_reads() {
        let pressure = Pressure::default();
        assert_eq!(pressure.level(), Level::Normal);
        assert_eq!(pressure.share_rate(), f32::INFINITY);
        for level in Level::ALL {
            for sheds_normal in [false, true] {
                let stance = Stance { level, sheds_normal, slows: sheds_normal, holds_acks: !sheds_normal };
                pressure.set(stance, &Pressures::default().with(Resource::Buffer, 0.25));
                assert_eq!(pressure.stance(), stance);
                assert_eq!(pressure.pressures().worst(), (Resource::Buffer, 0.25));
            }
        }
    }

    #[test]
    fn no_more_are_convicted_than_there_are_tickets() {
        let pressure = Pressure::default();
        assert!(!pressure.market.convicts(1e9));
        pressure.market.convict_above(10.0, 2);
        assert!(!pressure.market.convicts(9.0));
        assert!(pressure.market.convicts(10.0));
        assert!(pressure.market.convicts(11.0));
        assert!(!pressure.market.convicts(12.0));
    }
}

//! From pressures to a level: up after two samples, down one level after five seconds below.
//!
//! ```text
//!   pressure   0.60        0.75        0.85        0.92
//!   L0 ─────── L1 ──────── L2 ──────── L3 ──────── L4        L5
//!      conserve   throttle    shed        protect            read-only
//!   faults: a stalled commit or the disk at its high-water mark: at least L4; a full disk or a failed log: L5
//! ```
//!
//! Rising may pass over levels, falling never does, so from the top it takes 25 s to L0; 5 s where it was a fault that led there, and is over. A single sample moves nothing, and the
//! time below a level is the sum of what samples show, each counting for one second at most: a clock that jumps, or a sampler that was not run for
//! a while, does not bring the level down.

use super::level::{Level, Resource};
use super::pressure::{Pressures, Stance};

/// Samples further apart than this count as if they were not.
const SAMPLE_GAP_MS_MAX: u64 = 1_000;

/// Where the levels are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LadderOptions {
    /// Without it the level is L0, whatever is measured.
    pub enabled: bool,
    /// The pressures at which L1, L2, L3 and L4 begin, ascending.
    pub thresholds: [f64; 4],
    /// The pressure of what fills up from which on `normal` events are shed whatever their client's share, and not `bulk` ones alone;
    /// between those of L3 and L4.
    pub sheds_normal_at: f64,
    /// How long the pressure has to be below a level before it is left.
    pub fall_after_ms: u64,
    /// The same for a level that a fault led to, once that is over: there was nothing wrong with the load.
    pub fault_fall_after_ms: u64,
}

impl Default for LadderOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            thresholds: [0.60, 0.75, 0.85, 0.92],
            sheds_normal_at: 0.885,
            fall_after_ms: 5_000,
            fault_fall_after_ms: 1_000,
        }
    }
}

/// What is known to be wrong, whatever the pressures say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// There is no room for the log: its disk is full, or it is at its limit and nothing can be trimmed.
    pub disk_full: bool,
    /// An append or a sync failed, and the log is not open again.
    pub log_failed: bool,
    /// A commit has been under way for much longer than commits take.
    pub commit_stalled: bool,
    /// The disk is at its high-water mark.
    pub disk_high_water: bool,
}

/// Why a level was entered where no pressure would have led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// [`Faults::disk_full`]
    DiskFull,
    /// [`Faults::log_failed`]
    LogFailed,
    /// [`Faults::commit_stalled`]
    CommitStalled,
    /// [`Faults::disk_high_water`]
    DiskHighWater,
}

impl Faults {
    /// The level that these demand, and which of them does.
    fn demand(self) -> (Level, Option<Fault>) {
        match self {
            Self { log_failed: true, .. } => (Level::ReadOnly, Some(Fault::LogFailed)),
            Self { disk_full: true, .. } => (Level::ReadOnly, Some(Fault::DiskFull)),
            Self { commit_stalled: true, .. } => (Level::Protect, Some(Fault::CommitStalled)),
            Self { disk_high_water: true, .. } => (Level::Protect, Some(Fault::DiskHighWater)),
            Self { .. } => (Level::Normal, None),
        }
    }
}

/// A step of the ladder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelChange {
    /// The level before.
    pub from: Level,
    /// The level now.
    pub to: Level,
    /// What is pressed hardest just now; for a fault what it is about.
    pub resource: Resource,
    /// How hard.
    pub pressure: f64,
    /// What led to it, if it was no pressure.
    pub fault: Option<Fault>,
}

/// The state of the ladder. Time is an argument, and may stand still or jump.
#[derive(Clone, Debug)]
pub struct Ladder {
    options: LadderOptions,
    stance: Stance,
    /// What the sample before demanded.
    demanded: Stance,
    /// How long samples have shown less than the level, and less than shedding `normal`.
    below_ms: u64,
    below_normal_ms: u64,
    /// A fault led here, and no pressure has since.
    is_by_fault: bool,
    sampled_ms: Option<u64>,
}

impl Ladder {
    /// At L0.
    #[must_use]
    pub fn new(options: LadderOptions) -> Self {
        let stance = Stance::default();
        Self {
            options,
            stance,
            demanded: stance,
            below_ms: 0,
            below_normal_ms: 0,
            is_by_fault: false,
            sampled_ms: None,
        }
    }

    /// The level.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.stance.level
    }

    /// The level and how far L3 has come.
    #[must_use]
    pub const fn stance(&self) -> Stance {
        self.stance
    }

    /// Takes a sample. The step that it led to, if it did; shedding `normal` within L3 is none.
    pub fn sample(&mut self, now_ms: u64, pressures: &Pressures, faults: Faults) -> Option<LevelChange> {
        if !self.options.enabled {
            return None;
        }
        let (resource, pressure) = pressures.worst();
        let (demanded, fault) = self.demand(pressures, faults);
        let elapsed_ms =
            self.sampled_ms.map_or(0, |before| now_ms.saturating_sub(before)).min(SAMPLE_GAP_MS_MAX);
        self.sampled_ms = Some(now_ms);
        let before = std::mem::replace(&mut self.demanded, demanded);
        // Two samples in a row: what both of them demand.
        let agreed = demanded.level.min(before.level);
        let from = self.stance.level;
        if agreed > from {
            self.stance.level = agreed;
            self.below_ms = 0;
        } else if demanded.level >= from {
            self.below_ms = 0;
        } else if before.level < from {
            self.below_ms += elapsed_ms;
            let fall_after_ms = match self.is_by_fault {
                true => self.options.fault_fall_after_ms,
                false => self.options.fall_after_ms,
            };
            if self.below_ms >= fall_after_ms {
                self.stance.level = from.below();
                self.below_ms = 0;
            }
        }
        self.shed_normal(demanded.sheds_normal, before.sheds_normal, elapsed_ms);
        self.stance.holds_acks = self.stance.level >= Level::Protect && demanded.holds_acks;
        self.stance.slows = self.stance.level >= Level::Throttle && demanded.slows;
        let to = self.stance.level;
        if to > from {
            self.is_by_fault = fault.is_some();
        } else if fault.is_none() && demanded.level >= to {
            self.is_by_fault = false;
        }
        let cause = if to > from { fault } else { None };
        let resource = match cause {
            Some(Fault::DiskFull | Fault::DiskHighWater) => Resource::Disk,
            Some(Fault::LogFailed | Fault::CommitStalled) => Resource::Commit,
            None => resource,
        };
        let pressure = if cause.is_some() { pressures.get(resource) } else { pressure };
        (to != from).then_some(LevelChange { from, to, resource, pressure, fault: cause })
    }

    fn demand(&self, pressures: &Pressures, faults: Faults) -> (Stance, Option<Fault>) {
        let pressure = pressures.worst().1;
        let steps = self.options.thresholds.iter().take_while(|threshold| pressure >= **threshold).count();
        let by_pressure = Level::from_u8(u8::try_from(steps).unwrap_or(u8::MAX));
        let (by_fault, fault) = faults.demand();
        let level = by_pressure.max(by_fault);
        // Where time is short, shares see to it that what is taken is little enough, and whoever keeps to its own pays for nobody else's. What fills
        // up has to be kept from that, whoever it is that fills it.
        let filled =
            [Resource::Memory, Resource::Buffer, Resource::Disk].map(|resource| pressures.get(resource));
        let fills_up_to =
            |pressure| by_fault >= Level::Protect || filled.iter().any(|full| *full >= pressure);
        let demanded = Stance {
            level,
            sheds_normal: fills_up_to(self.options.sheds_normal_at),
            slows: level >= Level::Conserve || pressures.lag_growth() > 0.0,
            holds_acks: fills_up_to(self.options.thresholds[3]),
        };
        (demanded, fault.filter(|_| by_fault > by_pressure))
    }

    /// `normal` events follow `bulk` ones by the same rule: after two samples, and for five seconds at least.
    fn shed_normal(&mut self, demanded: bool, before: bool, elapsed_ms: u64) {
        if demanded {
            self.below_normal_ms = 0;
            self.stance.sheds_normal |= before;
        } else if !before {
            self.below_normal_ms = self.below_normal_ms.saturating_add(elapsed_ms);
            if self.below_normal_ms >= self.options.fall_after_ms {
                self.stance.sheds_normal = false;
            }
        }
        if self.stance.level < Level::Shed {
            self.stance.sheds_normal = false;
        }
    }
}

#[cfg(test)]
#[path = "ladder_tests.rs"]
mod tests;

//! What a share is: how many credits a second each client gets just now.
//!
//! The equal part of what the gateway takes, times a factor that falls as the pressure rises. What it takes is measured from what shares report,
//! smoothed over a second; who is there is counted in windows of half a second. At the beginning of L2 a client may bring twice its equal part,
//! so that only those are slowed who bring far more than others; at the end of L2 its equal part; above that less.
//!
//! What was measured while clients were held back says little about what could be taken. So the estimate rises at once and falls slowly:
//! over a minute at L2, over ten seconds above it, where the pressure says that it was too high.

use super::level::Level;
use super::pressure::{Pressure, Stance};

/// Credits a second that a client has at least, so that nobody is silenced.
const RATE_MIN: f64 = 1.0;
const SMOOTHED_SECS: f64 = 1.0;
const WINDOW_MS: u64 = 500;
/// How slowly the estimate of what can be taken falls, at L2 and above.
const FALLS_SECS: (f64, f64) = (60.0, 10.0);
/// How long L4 is borne before offenders are disconnected, how often some are, and how many.
const PROTECT_MS: u64 = 10_000;
const CONVICTIONS_MS: u64 = 1_000;
const CONVICTIONS: u32 = 4;
/// By pressure: how many times its equal part each client gets.
const FACTORS: [(f64, f64); 5] = [(0.60, 4.0), (0.75, 2.0), (0.85, 1.0), (0.92, 0.5), (1.0, 0.25)];

/// Sets the rate of shares, and says who is disconnected for its offences.
#[derive(Clone, Debug, Default)]
pub(super) struct Fair {
    sampled_ms: Option<u64>,
    /// Credits a second, smoothed; `None` until a whole sample was measured.
    taken: Option<f64>,
    /// The estimate of what can be taken.
    capacity: f64,
    window_began_ms: u64,
    /// Clients in the window before.
    active: u32,
    worst_offence: f32,
    protects_since_ms: Option<u64>,
    convicted_ms: u64,
}

impl Fair {
    /// To be called with each sample of the ladder.
    pub(super) fn sample(&mut self, now_ms: u64, stance: Stance, worst: f64, pressure: &Pressure) {
        self.convict(now_ms, stance.level, pressure);
        let taken = pressure.meter.take_taken();
        if stance.level == Level::Normal {
            if self.sampled_ms.is_some() {
                pressure.set_share_rate(f32::INFINITY);
                *self = Self { protects_since_ms: self.protects_since_ms, ..Self::default() };
            }
            return;
        }
        let Some(before) = self.sampled_ms.replace(now_ms) else {
            // Shares begin to be made now; what they say is heard from the next sample on.
            self.window_began_ms = now_ms;
            let _ = pressure.meter.take_window();
            pressure.market.turn();
            return;
        };
        let secs = now_ms.saturating_sub(before) as f64 / 1000.0;
        if secs <= 0.0 {
            return;
        }
        let per_second = taken / secs;
        let smoothed = match self.taken {
            None => per_second,
            Some(taken) => taken + (per_second - taken) * (secs / SMOOTHED_SECS).min(1.0),
        };
        self.taken = Some(smoothed);
        let falls_secs = if stance.level > Level::Throttle { FALLS_SECS.1 } else { FALLS_SECS.0 };
        let falling = self.capacity - (self.capacity - smoothed).max(0.0) * (secs / falls_secs).min(1.0);
        self.capacity = smoothed.max(falling);
        let active = self.active.max(pressure.meter.active()).max(1);
        if now_ms.saturating_sub(self.window_began_ms) >= WINDOW_MS {
            (self.active, self.worst_offence) = pressure.meter.take_window();
            pressure.market.turn();
            self.window_began_ms = now_ms;
        }
        let rate = match stance.level < Level::Throttle {
            true => f64::INFINITY,
            false => (self.capacity / f64::from(active) * factor(worst)).max(RATE_MIN),
        };
        #[expect(clippy::cast_possible_truncation, reason = "seven digits of a rate are enough")]
        pressure.set_share_rate(rate as f32);
    }

    /// At L4, after ten seconds, some of those go that bring most beyond their share; every second as many, while it lasts.
    fn convict(&mut self, now_ms: u64, level: Level, pressure: &Pressure) {
        if level != Level::Protect {
            if self.protects_since_ms.take().is_some() {
                pressure.market.convict_above(f32::INFINITY, 0);
            }
            return;
        }
        let since = *self.protects_since_ms.get_or_insert(now_ms);
        let is_time = now_ms.saturating_sub(since) >= PROTECT_MS
            && now_ms.saturating_sub(self.convicted_ms) >= CONVICTIONS_MS;
        if is_time && self.worst_offence > 0.0 {
            self.convicted_ms = now_ms;
            pressure.market.convict_above(self.worst_offence / 2.0, CONVICTIONS);
        }
    }
}

/// Straight lines between [`FACTORS`].
fn factor(pressure: f64) -> f64 {
    let mut below = (0.0, 4.0);
    for (at, factor) in FACTORS {
        if pressure < at {
            let part = (pressure - below.0) / (at - below.0);
            return below.1 + (factor - below.1) * part;
        }
        below = (at, factor);
    }
    below.1
}

#[cfg(test)]
mod tests {
    use super::super::share::{Charge, Share};
    use super::*;

    #[test]
    fn the_factor_falls_as_the_pressure_rises() {
        assert_eq!(factor(0.0), 4.0);
        assert_eq!(factor(0.60), 4.0);
        assert_eq!(factor(0.75), 2.0);
        assert!((factor(0.80) - 1.5).abs() < 1e-9);
        assert_eq!(factor(0.85), 1.0);
        assert_eq!(factor(1.0), 0.25);
        let all: Vec<_> = (0..=100).map(|at| factor(f64::from(at) / 100.0)).collect();
        assert!(all.is_sorted_by(|one, next| one >= next));
    }

    /// Ten seconds of clients that each bring so many credits in 100 ms.
    fn run(level: Level, worst: f64, clients: &[f32]) -> (Pressure, Fair) {
        let pressure = Pressure::default();
        let mut fair = Fair::default();
        let mut shares = vec![Share::new(0); clients.len()];
        for now_ms in (0..10_000).step_by(100) {
            fair.sample(now_ms, Stance::at(level), worst, &pressure);
            for (share, cost) in shares.iter_mut().zip(clients) {
                share.charge(Charge { now_ms, cost: *cost, pressure: &pressure });
            }
        }
        (pressure, fair)
    }

    #[test]
    fn at_l2_each_has_its_equal_part_times_the_factor() {
        let (pressure, _) = run(Level::Throttle, 0.75, &[1.0; 100]);
        assert!((pressure.share_rate() - 20.0).abs() < 0.5, "{}", pressure.share_rate());
        let (pressure, _) = run(Level::Throttle, 0.85, &[1.0; 100]);
        assert!((pressure.share_rate() - 10.0).abs() < 0.5, "{}", pressure.share_rate());
    }

    #[test]
    fn below_l2_there_is_no_limit_and_the_smallest_share_is_not_nothing() {
        assert_eq!(run(Level::Normal, 0.1, &[1.0; 4]).0.share_rate(), f32::INFINITY);
        assert_eq!(run(Level::Conserve, 0.7, &[1.0; 4]).0.share_rate(), f32::INFINITY);
        assert_eq!(run(Level::Shed, 0.9, &[0.001; 4]).0.share_rate(), 1.0);
    }

    #[test]
    fn what_was_measured_while_all_were_held_back_lowers_the_estimate_slowly() {
        let (pressure, mut fair) = run(Level::Throttle, 0.80, &[10.0; 10]);
        let before = pressure.share_rate();
        // Silence for a second: the gateway could still take what it took.
        for now_ms in (10_000..11_000).step_by(100) {
            fair.sample(now_ms, Stance::at(Level::Throttle), 0.80, &pressure);
        }
        assert!(fair.capacity > 970.0, "{}", fair.capacity);
        for now_ms in (11_000..41_000).step_by(100) {
            fair.sample(now_ms, Stance::at(Level::Shed), 0.90, &pressure);
        }
        assert!(pressure.share_rate() < before);
        assert!(fair.capacity < 100.0, "{}", fair.capacity);
    }

    #[test]
    fn l0_forgets() {
        let (pressure, mut fair) = run(Level::Throttle, 0.80, &[10.0; 10]);
        fair.sample(10_000, Stance::at(Level::Normal), 0.1, &pressure);
        assert_eq!(pressure.share_rate(), f32::INFINITY);
        assert_eq!(fair.taken, None);
    }

    #[test]
    fn offenders_go_after_ten_seconds_of_l4_a_few_each_second() {
        let pressure = Pressure::default();
        let mut fair = Fair::default();
        let mut shares = vec![Share::new(0); 100];
        let mut convicted = Vec::new();
        for now_ms in (0..14_000).step_by(100) {
            fair.sample(now_ms, Stance::at(Level::Protect), 0.95, &pressure);
            for (at, share) in shares.iter_mut().enumerate() {
                // Half of them behave; of the others each brings more than the one before.
                let cost = if at < 50 { 0.05 } else { at as f32 };
                share.note_shed(Charge { now_ms, cost, pressure: &pressure });
                if share.is_convicted(&pressure) {
                    convicted.push((now_ms, at));
                }
            }
        }
        assert!(convicted.iter().all(|(now_ms, at)| *now_ms >= 10_000 && *at >= 50), "{convicted:?}");
        assert_eq!(convicted.len(), 16, "{convicted:?}");
        fair.sample(14_000, Stance::at(Level::Shed), 0.9, &pressure);
        assert!(!pressure.market.convicts(1e9));
    }
}

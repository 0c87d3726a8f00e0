//! What a share is: how many credits a second each client gets just now.
//!
//! Begins at L2 with twice the equal part of what was taken, so that only those are slowed who bring far more than others. While the pressure
//! stands above its target and does not fall, shares are cut, the faster the higher it is; while it falls they are left alone, since what was
//! done suffices: whoever brings an ordinary part is not slowed for a queue that a hog has filled. Below the target they grow again. The result is
//! the share at which the sum of what clients bring is what the gateway takes, whatever that is: it need not be known.
//!
//! They are cut as well, slowly, while delivery falls behind what is taken ([`super::DeliveryLag`]): its lag is no pressure, so nothing else would
//! ever say that more is taken than can be passed on.
//!
//! Memory and disk are not like that: how full they are does not follow from what comes at the moment. Where they alone press, shares are twice the equal part, times a
//! factor that falls as they fill up.

use super::level::{Level, Resource};
use super::pressure::{Pressure, Pressures, Stance};
use std::collections::VecDeque;

/// Credits a second that a client has at least, so that nobody is silenced.
const RATE_MIN: f64 = 1.0;
/// What the equal part is taken times at the beginning of L2, and at most.
const BEGINS_WITH: f64 = 2.0;
const AT_MOST: f64 = 4.0;
/// Of the equal part of what was taken lately, what shares are cut to at least in one go: clients need a while to notice.
const CUTS_TO: f64 = 0.7;
/// Between these pressures shares stay as they are.
const TARGET: (f64, f64) = (0.77, 0.82);
/// How fast shares are cut at a pressure of 1, and how fast they grow: the logarithm for each second.
const CUT: f64 = 3.0;
const GROWTH: f64 = 0.4;
/// How fast shares are cut while receivers get nothing of what comes for them. Slowly: what they fall behind by is known a second or two late.
const LAG_CUT: f64 = 1.0;
/// A pressure that falls by as much in a second falls.
const FALLS_BY: f64 = 0.003;
const SMOOTHED_SECS: f64 = 1.0;
/// Samples before shares are limited at all: in the first one hardly anybody has reported.
const MEASURED_MIN: u32 = 2;
const WINDOW_MS: u64 = 500;
/// How long L4 is borne before offenders are disconnected, how often some are, and how many.
const PROTECT_MS: u64 = 10_000;
const CONVICTIONS_MS: u64 = 1_000;
const CONVICTIONS: u32 = 4;
/// By the pressure of memory and disk: what is left of shares.
const FACTORS_FROM: f64 = 0.75;
const FACTORS: [(f64, f64); 4] = [(FACTORS_FROM, 1.0), (0.85, 0.75), (0.92, 0.5), (1.0, 0.25)];

/// Sets the rate of shares, and says who is disconnected for its offences.
#[derive(Clone, Debug, Default)]
pub(super) struct Fair {
    sampled_ms: Option<u64>,
    /// Credits a second that were taken, smoothed; `None` until a whole sample was measured.
    taken: Option<f64>,
    measured: u32,
    /// Credits a second for each client, before memory and disk are looked at; `None` below L2.
    rate: Option<f64>,
    /// The pressures of the last second.
    lately: VecDeque<(u64, f64)>,
    window_began_ms: u64,
    /// Clients in the window before.
    active: u32,
    worst_offence: f32,
    protects_since_ms: Option<u64>,
    convicted_ms: u64,
}

impl Fair {
    /// To be called with each sample of the ladder.
    pub(super) fn sample(&mut self, now_ms: u64, stance: Stance, pressures: &Pressures, pressure: &Pressure) {
        self.convict(now_ms, stance.level, pressure);
        let taken = pressure.meter.take_taken();
        if stance.level == Level::Normal {
            if self.sampled_ms.is_some() {
                pressure.set_share_rate(f32::INFINITY);
                pressure.set_equal_part(f32::INFINITY);
                *self = Self { protects_since_ms: self.protects_since_ms, ..Self::default() };
            }
            return;
        }
        let flow = [Resource::Buffer, Resource::Commit, Resource::LoopLag, Resource::Oldest];
        let flow = flow.map(|resource| pressures.get(resource)).into_iter().fold(0.0, f64::max);
        let falls = self.falls(now_ms, flow);
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
        self.measured = self.measured.saturating_add(1);
        let equal = smoothed / f64::from(self.count_active(now_ms, pressure));
        if self.measured >= MEASURED_MIN {
            #[expect(clippy::cast_possible_truncation, reason = "seven digits of a rate are enough")]
            pressure.set_equal_part(equal as f32);
        }
        if stance.level < Level::Throttle || self.measured < MEASURED_MIN {
            self.rate = None;
            pressure.set_share_rate(f32::INFINITY);
            return;
        }
        let stock = pressures.get(Resource::Memory).max(pressures.get(Resource::Disk));
        let presses = flow > TARGET.1 && !falls;
        let lag_growth = pressures.lag_growth();
        let rate = match self.rate {
            None => equal * BEGINS_WITH,
            Some(rate) if presses || lag_growth > 0.0 => {
                let how_far = if presses { ((flow - TARGET.1) / (1.0 - TARGET.1)).max(0.1) } else { 0.0 };
                let cut = rate * (-CUT * how_far * secs).exp();
                // What is below that already stays.
                let by_flow = cut.max((equal * CUTS_TO).min(rate));
                by_flow.min(rate * (-LAG_CUT * lag_growth * secs).exp())
            }
            // Memory or disk led here: nothing is learnt from a queue, so it is what it began with.
            Some(_) if flow < TARGET.0 && stock >= FACTORS_FROM => equal * BEGINS_WITH,
            Some(rate) if flow < TARGET.0 => rate * (GROWTH * secs).exp(),
            Some(rate) => rate,
        };
        let rate = rate.min((equal * AT_MOST).max(self.rate.unwrap_or(0.0))).max(RATE_MIN);
        self.rate = Some(rate);
        #[expect(clippy::cast_possible_truncation, reason = "seven digits of a rate are enough")]
        pressure.set_share_rate((rate * factor(stock)).max(RATE_MIN) as f32);
    }

    /// Whether the pressure is less than it was a second ago.
    fn falls(&mut self, now_ms: u64, flow: f64) -> bool {
        while self.lately.front().is_some_and(|(at, _)| now_ms.saturating_sub(*at) > 1_000)
            || self.lately.len() >= 64
        {
            self.lately.pop_front();
        }
        let falls = self.lately.front().is_some_and(|(at, before)| {
            let secs = now_ms.saturating_sub(*at) as f64 / 1000.0;
            flow < before - FALLS_BY * secs
        });
        self.lately.push_back((now_ms, flow));
        falls
    }

    /// Clients that have brought something lately, 1 at least.
    fn count_active(&mut self, now_ms: u64, pressure: &Pressure) -> u32 {
        let active = self.active.max(pressure.meter.active()).max(1);
        if now_ms.saturating_sub(self.window_began_ms) >= WINDOW_MS {
            (self.active, self.worst_offence) = pressure.meter.take_window();
            pressure.market.turn();
            self.window_began_ms = now_ms;
        }
        active
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
    let mut below = (0.0, 1.0);
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

    /// Some clients that each bring so many credits in 100 ms.
    struct Fleet {
        fair: Fair,
        pressure: Pressure,
        shares: Vec<Share>,
        now_ms: u64,
    }

    impl Fleet {
        fn new(clients: usize) -> Self {
            let shares = vec![Share::new(0); clients];
            Self { fair: Fair::default(), pressure: Pressure::default(), shares, now_ms: 0 }
        }

        /// Lets time pass at a level, under pressures that are told for each sample; the rate afterwards.
        fn run(&mut self, ms: u64, level: Level, cost: f32, pressures: impl Fn(u64) -> Pressures) -> f32 {
            let until = self.now_ms + ms;
            while self.now_ms < until {
                let Self { fair, pressure, shares, now_ms } = self;
                fair.sample(*now_ms, Stance::at(level), &pressures(*now_ms), pressure);
                for half_ms in [0, 50] {
                    for share in &mut *shares {
                        share.charge(Charge { now_ms: *now_ms + half_ms, cost: cost / 2.0, pressure });
                    }
                }
                self.now_ms += 100;
            }
            self.pressure.share_rate()
        }
    }

    fn commit(pressure: f64) -> impl Fn(u64) -> Pressures {
        move |_| Pressures::default().with(Resource::Commit, pressure)
    }

    #[test]
    fn memory_and_disk_scale_shares_down() {
        assert_eq!(factor(0.0), 1.0);
        assert_eq!(factor(0.75), 1.0);
        assert!((factor(0.80) - 0.875).abs() < 1e-9);
        assert_eq!(factor(0.92), 0.5);
        assert_eq!(factor(1.0), 0.25);
        let all: Vec<_> = (0..=100).map(|at| factor(f64::from(at) / 100.0)).collect();
        assert!(all.is_sorted_by(|one, next| one >= next));
        let mut fleet = Fleet::new(100);
        let disk = |_| Pressures::default().with(Resource::Disk, 0.92);
        let rate = fleet.run(2_000, Level::Protect, 1.0, disk);
        // It is what each brings, and stays so however long the disk is as full.
        assert!((rate - 10.0).abs() < 2.0, "{rate}");
        let later = fleet.run(60_000, Level::Protect, 1.0, disk);
        assert!(later > rate / 2.0, "{later}");
    }

    #[test]
    fn it_begins_with_twice_the_equal_part_and_there_is_no_limit_below_l2() {
        assert_eq!(Fleet::new(4).run(5_000, Level::Normal, 1.0, commit(0.1)), f32::INFINITY);
        let mut fleet = Fleet::new(100);
        assert_eq!(fleet.run(2_000, Level::Conserve, 1.0, commit(0.7)), f32::INFINITY);
        let rate = fleet.run(100, Level::Throttle, 1.0, commit(0.8));
        assert!((rate - 20.0).abs() < 3.0, "{rate}");
        assert!(
            (fleet.run(10_000, Level::Throttle, 1.0, commit(0.8)) - rate).abs() < 0.1,
            "on target it stays"
        );
    }

    #[test]
    fn shares_are_cut_while_the_pressure_does_not_fall_and_the_faster_the_higher_it_is() {
        let rate = |pressure| {
            let mut fleet = Fleet::new(100);
            fleet.run(1_000, Level::Throttle, 1.0, commit(0.8));
            fleet.run(500, Level::Throttle, 1.0, commit(pressure))
        };
        assert!(rate(0.84) < 20.0 && rate(0.90) < rate(0.84) && rate(1.0) < rate(0.90));

        let mut fleet = Fleet::new(100);
        let before = fleet.run(1_000, Level::Throttle, 1.0, commit(1.0));
        let began_ms = fleet.now_ms;
        let falling = |now_ms| commit(1.0 - 0.01 * (now_ms - began_ms) as f64 / 1000.0)(now_ms);
        let after = fleet.run(10_000, Level::Throttle, 1.0, falling);
        assert!(after > 0.85 * before, "it is getting better already: {before} to {after}");
    }

    #[test]
    fn shares_are_cut_while_delivery_falls_behind_and_do_not_grow() {
        let lags = |part| move |now_ms| commit(0.65)(now_ms).with_lag_growth(part);
        let mut fleet = Fleet::new(100);
        let before = fleet.run(1_000, Level::Throttle, 1.0, commit(0.8));
        let a_third = fleet.run(1_000, Level::Throttle, 1.0, lags(0.33));
        assert!((a_third / before - 0.72).abs() < 0.05, "{before} to {a_third}");
        let all = fleet.run(10_000, Level::Throttle, 1.0, lags(1.0));
        assert_eq!(all, 1.0, "and nobody is silenced");
        assert!(fleet.run(2_000, Level::Throttle, 1.0, lags(0.0)) > 1.5 * all, "and then they grow");
    }

    #[test]
    fn below_the_target_shares_grow_to_a_bound() {
        let mut fleet = Fleet::new(100);
        let cut = fleet.run(3_000, Level::Throttle, 1.0, commit(0.95));
        let grown = fleet.run(20_000, Level::Throttle, 1.0, commit(0.65));
        assert!(cut < 15.0 && (grown - 40.0).abs() < 4.0, "{cut} to {grown}");
    }

    #[test]
    fn nobody_is_silenced_and_l0_forgets() {
        let mut fleet = Fleet::new(4);
        assert_eq!(fleet.run(10_000, Level::Shed, 0.001, commit(0.9)), 1.0);
        assert_eq!(fleet.run(100, Level::Normal, 1.0, commit(0.1)), f32::INFINITY);
        assert_eq!((fleet.fair.taken, fleet.fair.rate), (None, None));
    }

    #[test]
    fn offenders_go_after_ten_seconds_of_l4_a_few_each_second() {
        let pressure = Pressure::default();
        let mut fair = Fair::default();
        let mut shares = vec![Share::new(0); 100];
        let mut convicted = Vec::new();
        for now_ms in (0..14_000).step_by(100) {
            fair.sample(now_ms, Stance::at(Level::Protect), &commit(0.95)(now_ms), &pressure);
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
        fair.sample(14_000, Stance::at(Level::Shed), &commit(0.9)(0), &pressure);
        assert!(!pressure.market.convicts(1e9));
    }
}

//! Fair share: what one client may bring while there is not enough for all.
//!
//! Credits come at the same rate for every client, set ten times a second by `fair`. An event costs by its bytes and by how many
//! take it. Whoever stays within its share notices nothing. Whoever does not has its PUBACK late by as long as it takes to earn what it
//! has taken; at QoS 0, where there is no PUBACK, the event is not taken.
//!
//! A share is made with a client's first publish at L1 or above, and given up at L0. At L1 it only counts who is there.

use super::pressure::Pressure;

/// What a client may bring at once, whatever its rate is: a share that has just been made has it, and it is what a client that bundles
/// its readings needs.
const BURST: f32 = 64.0;
/// The longest that a PUBACK waits for credits. Clients give up on one that does not come.
pub const LATE_MS_MAX: u64 = 10_000;
/// In how many seconds an offence is forgotten, most of it.
const OFFENCE_SECS: f32 = 10.0;

/// What an event costs: one for itself, one for each KiB, an eighth for each subscriber that gets it.
#[must_use]
pub fn cost(bytes: usize, takers: usize) -> f32 {
    1.0 + bytes as f32 / 1024.0 + takers as f32 / 8.0
}

/// Whether a client is within its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Within,
    /// It has earned what it has taken in so many milliseconds, [`LATE_MS_MAX`] at most.
    Over {
        /// Milliseconds from now.
        wait_ms: u64,
    },
}

/// An event that is to be paid for.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// The time of the read, in milliseconds of any steady clock.
    pub now_ms: u64,
    /// As [`cost`] says.
    pub cost: f32,
    /// Where the rate of credits is found, and where what was taken is reported.
    pub pressure: &'a Pressure,
}

/// One client's account.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Below zero: taken and not earned yet.
    credits: f32,
    /// What it brought beyond its share, forgotten by and by.
    offence: f32,
    /// What it has taken and not reported.
    unreported: f32,
    /// The window it was counted in last.
    window: u32,
    at_ms: u64,
}

impl Share {
    /// The account of a client that has just come.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self { credits: BURST, offence: 0.0, unreported: 0.0, window: 0, at_ms: now_ms }
    }

    /// Charges an event that is taken in any case.
    pub fn charge(&mut self, charge: Charge<'_>) -> Verdict {
        let rate = self.begin(charge);
        self.unreported += charge.cost;
        if rate.is_infinite() {
            return Verdict::Within;
        }
        let before = self.credits;
        self.credits = (before - charge.cost).max(-rate * (LATE_MS_MAX / 1000) as f32);
        if self.credits >= 0.0 || before >= depth(rate) {
            return Verdict::Within;
        }
        self.offence += charge.cost;
        Verdict::Over { wait_ms: wait_ms(-self.credits, rate) }
    }

    /// Charges an event that is taken if it is within the share, and not if it is over.
    pub fn charge_within(&mut self, charge: Charge<'_>) -> Verdict {
        let verdict = self.spend(charge);
        if verdict == Verdict::Within {
            self.unreported += charge.cost;
        }
        verdict
    }

    /// Charges an event that is not taken in any case: credits are for what is offered. Whether it was within the share.
    pub fn note_shed(&mut self, charge: Charge<'_>) -> Verdict {
        self.spend(charge)
    }

    /// Whether what this client brought beyond its share is to end its connection: while the worst are being looked for, and only a few
    /// of them.
    #[must_use]
    pub fn is_convicted(&self, pressure: &Pressure) -> bool {
        self.offence > 0.0 && pressure.market.convicts(self.offence)
    }

    fn spend(&mut self, charge: Charge<'_>) -> Verdict {
        let rate = self.begin(charge);
        if rate.is_infinite() {
            return Verdict::Within;
        }
        // What costs more than there ever is passes when there is all that can be, and leaves a debt.
        let missing = charge.cost.min(depth(rate)) - self.credits;
        if missing > 0.0 {
            self.offence += charge.cost;
            return Verdict::Over { wait_ms: wait_ms(missing, rate) };
        }
        self.credits -= charge.cost;
        Verdict::Within
    }

    /// Earns what is due and reports what is not reported. The rate of credits.
    fn begin(&mut self, charge: Charge<'_>) -> f32 {
        let Charge { now_ms, pressure, .. } = charge;
        let rate = pressure.share_rate();
        let window = pressure.market.window();
        let elapsed_ms = now_ms.saturating_sub(self.at_ms);
        if window != self.window || (elapsed_ms > 0 && self.unreported > 0.0) {
            pressure.meter.report(self.unreported, self.offence, window != self.window);
            self.window = window;
            self.unreported = 0.0;
        }
        if elapsed_ms > 0 {
            let secs = elapsed_ms as f32 / 1000.0;
            self.offence *= (1.0 - secs / OFFENCE_SECS).max(0.0);
            if rate.is_finite() {
                self.credits = (self.credits + secs * rate).min(depth(rate));
            }
            self.at_ms = now_ms;
        }
        if rate.is_infinite() {
            self.credits = BURST;
        }
        rate
    }
}

/// The most credits there may be: what comes in a second, and never less than a bundle of readings.
fn depth(rate: f32) -> f32 {
    rate.max(BURST)
}

fn wait_ms(credits: f32, rate: f32) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is not negative"
    )]
    let ms = (credits * 1000.0 / rate).ceil() as u64;
    ms.clamp(1, LATE_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pressure: &Pressure, now_ms: u64, cost: f32) -> Charge<'_> {
        Charge { now_ms, cost, pressure }
    }

    #[test]
    fn an_account_is_small() {
        assert!(size_of::<Share>() <= 32, "{}", size_of::<Share>());
    }

    #[test]
    fn bytes_and_takers_cost() {
        assert_eq!(cost(0, 0), 1.0);
        assert_eq!(cost(1024, 8), 3.0);
    }

    #[test]
    fn while_there_is_enough_nobody_is_over() {
        let pressure = Pressure::default();
        let mut share = Share::new(0);
        for now in 0..1000 {
            assert_eq!(share.charge(at(&pressure, now, 1e6)), Verdict::Within);
        }
        // What was taken then is not held against it when there is not.
        pressure.set_share_rate(10.0);
        assert_eq!(share.charge(at(&pressure, 1000, BURST)), Verdict::Within);
        assert_eq!(share.charge(at(&pressure, 1000, 1.0)), Verdict::Over { wait_ms: 100 });
    }

    #[test]
    fn whoever_is_over_waits_until_it_has_earned_what_it_took() {
        let pressure = Pressure::default();
        pressure.set_share_rate(10.0);
        let mut share = Share::new(0);
        assert_eq!(share.charge(at(&pressure, 0, BURST)), Verdict::Within);
        assert_eq!(share.charge(at(&pressure, 0, 10.0)), Verdict::Over { wait_ms: 1_000 });
        assert_eq!(share.charge(at(&pressure, 0, 10.0)), Verdict::Over { wait_ms: 2_000 });
        assert_eq!(share.charge(at(&pressure, 1_000, 1.0)), Verdict::Over { wait_ms: 1_100 });
        assert_eq!(share.charge(at(&pressure, 3_000, 1.0)), Verdict::Within);
        // However much it takes, the debt is what it earns in the longest wait.
        assert_eq!(share.charge(at(&pressure, 3_000, 1e9)), Verdict::Over { wait_ms: LATE_MS_MAX });
        assert_eq!(share.charge(at(&pressure, 3_000 + LATE_MS_MAX + 100, 1.0)), Verdict::Within);
    }

    #[test]
    fn at_qos_0_what_is_over_is_not_taken_and_not_owed() {
        let pressure = Pressure::default();
        pressure.set_share_rate(10.0);
        let mut share = Share::new(0);
        assert_eq!(share.charge_within(at(&pressure, 0, BURST)), Verdict::Within);
        for _ in 0..1000 {
            assert_eq!(share.charge_within(at(&pressure, 0, 1.0)), Verdict::Over { wait_ms: 100 });
        }
        assert_eq!(share.charge_within(at(&pressure, 100, 1.0)), Verdict::Within);
        assert_eq!(share.charge_within(at(&pressure, 100, 1.0)), Verdict::Over { wait_ms: 100 });
    }

    #[test]
    fn an_event_that_costs_more_than_a_share_holds_passes_when_the_share_is_full() {
        let pressure = Pressure::default();
        pressure.set_share_rate(100.0);
        let mut share = Share::new(0);
        assert_eq!(share.charge_within(at(&pressure, 0, 1_000.0)), Verdict::Over { wait_ms: 360 });
        assert_eq!(share.charge_within(at(&pressure, 360, 1_000.0)), Verdict::Within);
        assert_eq!(share.charge_within(at(&pressure, 360, 1_000.0)), Verdict::Over { wait_ms: LATE_MS_MAX });
        let mut share = Share::new(0);
        assert_eq!(share.charge(at(&pressure, 1_000, 1_000.0)), Verdict::Within, "it was full");
        assert_eq!(share.charge(at(&pressure, 1_000, 1.0)), Verdict::Over { wait_ms: 9_010 });
    }

    #[test]
    fn what_was_taken_and_who_is_there_is_reported_once() {
        let pressure = Pressure::default();
        let mut shares = [Share::new(0), Share::new(0)];
        for now in 0..10 {
            for share in &mut shares {
                share.charge(at(&pressure, now, 1.5));
            }
        }
        // All but what came in the last millisecond.
        assert_eq!(pressure.meter.take_taken(), 2.0 * 9.0 * 1.5);
        assert_eq!(pressure.meter.take_window().0, 2);
        pressure.market.turn();
        shares[0].charge(at(&pressure, 10, 1.5));
        assert_eq!(pressure.meter.take_window().0, 1);
    }

    #[test]
    fn offences_are_reported_and_forgotten_and_a_few_of_the_worst_convicted() {
        let pressure = Pressure::default();
        pressure.set_share_rate(10.0);
        let mut shares = [Share::new(0), Share::new(0), Share::new(0)];
        for now in 0..100 {
            shares[0].charge(at(&pressure, now, 10.0));
            shares[1].note_shed(at(&pressure, now, 10.0));
            shares[2].charge(at(&pressure, now, 0.1));
        }
        let (_, worst) = pressure.meter.take_window();
        pressure.market.turn();
        for share in &mut shares {
            share.note_shed(at(&pressure, 100, 0.0));
        }
        let worst = worst.max(pressure.meter.take_window().1);
        assert!(worst > 800.0, "{worst}");
        pressure.market.convict_above(worst / 2.0, 1);
        assert!(!shares[2].is_convicted(&pressure), "it is within its share");
        assert!(shares[1].is_convicted(&pressure));
        assert!(!shares[0].is_convicted(&pressure), "one at a time");
        shares[0].note_shed(at(&pressure, 60_000, 0.0));
        pressure.market.convict_above(1.0, 1);
        assert!(!shares[0].is_convicted(&pressure), "it was forgotten");
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let pressure = Pressure::default();
        pressure.set_share_rate(10.0);
        let mut share = Share::new(10_000);
        assert_eq!(share.charge(at(&pressure, 10_000, BURST)), Verdict::Within);
        assert_eq!(share.charge(at(&pressure, 0, 1.0)), Verdict::Over { wait_ms: 100 });
        assert_eq!(share.charge(at(&pressure, 10_200, 1.0)), Verdict::Within);
    }
}

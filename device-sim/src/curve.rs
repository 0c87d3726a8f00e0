//! Rates that change over time, and the moment by which so many events are due. Pure.
//!
//! A [`Curve`] is events per second, piecewise linear, and after its last piece constant. What a schedule needs is its
//! inverse: [`Curve::due_us`] says when the integral reaches a number of events. A schedule that is laid out evenly in
//! events, and read through a curve, has the curve's rate at every moment and the same events, in the same order,
//! whatever the curve ([`crate::schedule`]).

/// Events per second over microseconds from the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    pieces: Vec<Piece>,
    /// From the end of the last piece on.
    tail: Tail,
}

/// A stretch in which the rate goes from one value to another in a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// How long.
    pub length_us: u64,
    /// Events per second at its start.
    pub from: f64,
    /// Events per second at its end.
    pub to: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    start_us: u64,
    stretch: Stretch,
    /// Events due before it.
    before: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Tail {
    start_us: u64,
    rate: f64,
    before: f64,
}

impl Curve {
    /// The same rate for ever.
    pub fn constant(rate: f64) -> Self {
        Curve::new([], rate)
    }

    /// Stretches one after the other, and then `rate` for ever.
    pub fn new(stretches: impl IntoIterator<Item = Stretch>, rate: f64) -> Self {
        let (mut start_us, mut before) = (0, 0.0);
        let mut pieces = Vec::new();
        for stretch in stretches {
            pieces.push(Piece { start_us, stretch, before });
            start_us += stretch.length_us;
            before += stretch.events();
        }
        Curve { pieces, tail: Tail { start_us, rate, before } }
    }

    /// When so many events are due, counted from 0; none if that many never are.
    pub fn due_us(&self, events: f64) -> Option<u64> {
        let place = self.pieces.partition_point(|piece| piece.before + piece.stretch.events() < events);
        match self.pieces.get(place) {
            Some(piece) => Some(piece.start_us + piece.stretch.reaches_us(events - piece.before)),
            None if self.tail.rate > 0.0 => {
                let more_us = (events - self.tail.before).max(0.0) / self.tail.rate * 1e6;
                Some(self.tail.start_us + more_us as u64)
            }
            None => None,
        }
    }

    /// The rate at a moment; at a jump, that after it.
    pub fn rate_at(&self, us: u64) -> f64 {
        let place = self.pieces.partition_point(|piece| piece.start_us + piece.stretch.length_us <= us);
        self.pieces.get(place).map_or(self.tail.rate, |piece| piece.stretch.rate_after(us - piece.start_us))
    }

    /// The rate just before a moment.
    pub(crate) fn rate_until(&self, us: u64) -> f64 {
        let place = self.pieces.partition_point(|piece| piece.start_us + piece.stretch.length_us < us);
        let within = |piece: &Piece| piece.stretch.rate_after(us.saturating_sub(piece.start_us));
        self.pieces.get(place).map_or(self.tail.rate, within)
    }

    /// Where pieces start and the last one ends.
    pub(crate) fn corners_us(&self) -> impl Iterator<Item = u64> {
        self.pieces.iter().map(|piece| piece.start_us).chain([self.tail.start_us])
    }
}

impl Stretch {
    /// The same rate throughout.
    pub fn level(length_us: u64, rate: f64) -> Self {
        Stretch { length_us, from: rate, to: rate }
    }

    fn seconds(&self) -> f64 {
        self.length_us as f64 / 1e6
    }

    fn events(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.seconds()
    }

    fn rate_after(&self, us: u64) -> f64 {
        if self.length_us == 0 {
            return self.to;
        }
        self.from + (self.to - self.from) * (us as f64 / self.length_us as f64)
    }

    /// When the integral from its start reaches `events`, which it does.
    fn reaches_us(&self, events: f64) -> u64 {
        if events <= 0.0 {
            return 0;
        }
        let seconds = self.seconds();
        let slope = if seconds > 0.0 { (self.to - self.from) / seconds } else { 0.0 };
        // from·t + slope·t²/2 = events, in the form that divides by no small difference.
        let root = (self.from * self.from + 2.0 * slope * events).max(0.0).sqrt();
        let reached = if self.from + root > 0.0 { 2.0 * events / (self.from + root) } else { seconds };
        ((reached.clamp(0.0, seconds)) * 1e6) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_US: u64 = 1_000_000;

    #[test]
    fn a_ramp_a_pause_and_a_jump_are_read_backwards() {
        let curve = Curve::new(
            [
                Stretch { length_us: 10 * SECOND_US, from: 0.0, to: 100.0 },
                Stretch::level(5 * SECOND_US, 0.0),
                Stretch::level(SECOND_US, 1_000.0),
            ],
            0.0,
        );
        assert_eq!(curve.due_us(0.0), Some(0));
        assert_eq!(curve.due_us(125.0), Some(5 * SECOND_US), "a quarter of the events in half of the ramp");
        assert_eq!(curve.due_us(500.0), Some(10 * SECOND_US));
        assert_eq!(curve.due_us(501.0), Some(15 * SECOND_US + 1_000), "nothing is due in the pause");
        assert_eq!(curve.due_us(1_500.0), Some(16 * SECOND_US));
        assert_eq!(curve.due_us(1_500.1), None, "nothing after the end");
        assert_eq!((curve.rate_at(5 * SECOND_US), curve.rate_at(15 * SECOND_US)), (50.0, 1_000.0));
        assert_eq!((curve.rate_until(15 * SECOND_US), curve.rate_until(10 * SECOND_US)), (0.0, 100.0));
    }

    #[test]
    fn a_constant_rate_goes_on_for_ever() {
        assert_eq!(Curve::constant(1_000.0).due_us(5_000_000.0), Some(5_000 * SECOND_US));
        assert_eq!(Curve::constant(0.0).due_us(1.0), None);
    }

    fn any_stretch() -> impl Strategy<Value = Stretch> {
        let rate = prop_oneof![Just(0.0), 0.1..10_000.0_f64];
        (1..100 * SECOND_US, rate.clone(), rate).prop_map(|(length_us, from, to)| Stretch {
            length_us,
            from,
            to,
        })
    }

    proptest! {
        /// What is due by the moment at which N events are due is N events, to a microsecond's worth.
        #[test]
        fn the_inverse_is_the_integrals(stretches in prop::collection::vec(any_stretch(), 1..8), share in 0.0..1.0_f64) {
            let total: f64 = stretches.iter().map(Stretch::events).sum();
            let events = total * share;
            let curve = Curve::new(stretches.clone(), 0.0);
            let due_us = curve.due_us(events).unwrap();
            let (mut start_us, mut integral) = (0, 0.0);
            for stretch in &stretches {
                let within_us = due_us.saturating_sub(start_us).min(stretch.length_us);
                let part = Stretch { length_us: within_us, from: stretch.from, to: stretch.rate_after(within_us) };
                integral += part.events();
                start_us += stretch.length_us;
            }
            prop_assert!((integral - events).abs() <= 0.03 + total * 1e-9, "{integral} instead of {events}");
        }

        #[test]
        fn later_events_are_never_due_earlier(stretches in prop::collection::vec(any_stretch(), 1..8)) {
            let total: f64 = stretches.iter().map(Stretch::events).sum();
            let curve = Curve::new(stretches, 1.0);
            let due: Vec<u64> = (0..200).map(|step| curve.due_us(total * f64::from(step) / 150.0).unwrap()).collect();
            prop_assert!(due.is_sorted());
        }
    }
}

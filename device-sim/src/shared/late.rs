//! What came shortly before a connection broke, which may come again.

use std::collections::VecDeque;

/// How many QoS 1 deliveries came lately, in steps of a tenth of the window.
pub(crate) struct LateDeliveries {
    steps: VecDeque<(u64, u64)>,
    step_us: u64,
}

impl LateDeliveries {
    /// Over a window of microseconds.
    pub(crate) fn new(window_us: u64) -> Self {
        LateDeliveries { steps: VecDeque::new(), step_us: (window_us / 10).max(1) }
    }

    pub(crate) fn note(&mut self, now_us: u64) {
        let step = now_us / self.step_us;
        match self.steps.back_mut() {
            Some((last, count)) if *last == step => *count += 1,
            _ => self.steps.push_back((step, 1)),
        }
        while self.steps.front().is_some_and(|(first, _)| first + 10 < step) {
            self.steps.pop_front();
        }
    }

    /// The connection broke: how many there were since `now_us` less the window; forgets them.
    pub(crate) fn take(&mut self, now_us: u64) -> u64 {
        let now = now_us / self.step_us;
        self.steps.drain(..).filter(|(step, _)| step + 10 >= now).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_deliveries_are_those_within_the_window() {
        let mut late = LateDeliveries::new(1_000_000);
        for now_us in (0..5_000_000).step_by(50_000) {
            late.note(now_us);
        }
        let count = late.take(5_000_000);
        assert!((20..=22).contains(&count), "{count}");
        assert_eq!(late.take(5_000_000), 0);
    }
}

//! `--find-max`: the highest rate that keeps a [`Slo`].
//!
//! A rate is tried for a while against a broker of its own, or the one that runs. The rate is doubled until one is too much, then the
//! gap is halved until it is narrow, and what is found has to hold again and again: a single good run may have been luck.
//!
//! ```text
//! Doubling ──too much──► Halving ──gap narrow──► Confirming ──held often enough──► found
//!    └──(halved while even the first is too much)              └──missed: a little less, confirmed anew
//! ```

use std::io::{self, Write as _};

use serde::Serialize;

use super::figures::Figures;
use super::slo::Slo;
use crate::command::CommandError;
use crate::report::text::grouped;

/// The gap between what holds and what does not, as a ratio, below which halving ends.
const NARROW: f64 = 1.05;
/// What is tried next when a confirmation fails.
const LESS: f64 = 0.95;
/// How often what was found has to hold again.
const CONFIRMATIONS: u32 = 2;
/// No more runs than this.
const PROBES_MAX: usize = 40;
const RATE_MIN: f64 = 1.0;
const RATE_MAX: f64 = 10_000_000.0;

/// What a search brought.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    /// What was to be kept.
    slo: Slo,
    /// The highest rate that did, confirmed; none if none did.
    rate: Option<f64>,
    /// Everything that was tried.
    probes: Vec<Probe>,
}

/// One run of a search.
#[derive(Debug, Serialize)]
struct Probe {
    rate: f64,
    /// Why it did not hold.
    missed: Option<String>,
    #[serde(flatten)]
    figures: Figures,
}

/// Where a search stands. Pure: it is told what held and says what to try.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Search {
    held: Option<f64>,
    missed: Option<f64>,
    confirmed: u32,
    next: f64,
}

/// Searches from `start` on, with runs of so many seconds that `run` makes.
pub(super) fn search(
    slo: &Slo,
    start: f64,
    seconds: f64,
    mut run: impl FnMut(f64) -> Result<Figures, CommandError>,
) -> Result<Found, CommandError> {
    let mut search = Search::from(start);
    let mut probes = Vec::new();
    while let Some(rate) = search.next().filter(|_| probes.len() < PROBES_MAX) {
        let figures = run(rate)?;
        let missed = slo.missed(&figures, rate, seconds);
        // A person who waits wants to know what for.
        let outcome = missed.as_deref().unwrap_or("held");
        let _ = writeln!(io::stderr(), "{} events/s: {outcome}", grouped(rate as u64));
        search.tell(missed.is_none());
        probes.push(Probe { rate, missed, figures });
    }
    Ok(Found { slo: slo.clone(), rate: search.found(), probes })
}

impl Found {
    /// For people at a terminal.
    pub(super) fn sentence(&self) -> String {
        let slo = self.slo.text();
        match self.rate {
            Some(rate) => {
                let least = self.probes.iter().filter(|probe| probe.missed.is_some() && probe.rate > rate);
                let least = least.min_by(|a, b| a.rate.total_cmp(&b.rate));
                let why = least.and_then(|probe| Some((probe.rate, probe.missed.as_ref()?)));
                let why = why.map(|(more, why)| format!("; at {}: {why}", grouped(more as u64)));
                format!(
                    "{} events/s keep {slo}, in {} runs{}",
                    grouped(rate as u64),
                    self.probes.len(),
                    why.unwrap_or_default()
                )
            }
            None => format!("no rate was found that keeps {slo}, in {} runs", self.probes.len()),
        }
    }
}

impl Search {
    fn from(start: f64) -> Self {
        Search { held: None, missed: None, confirmed: 0, next: start.clamp(RATE_MIN, RATE_MAX) }
    }

    /// What to try; none when it is over.
    fn next(&self) -> Option<f64> {
        let is_over = self.confirmed >= CONFIRMATIONS || (self.held.is_none() && self.next < RATE_MIN);
        (!is_over).then_some(self.next)
    }

    /// What was found, once confirmed.
    fn found(&self) -> Option<f64> {
        self.held.filter(|_| self.confirmed >= CONFIRMATIONS)
    }

    /// Whether what was tried held.
    fn tell(&mut self, held: bool) {
        let was_confirming = self.held == Some(self.next);
        match (held, was_confirming) {
            (true, true) => self.confirmed += 1,
            (false, true) => {
                // It held once and does not now: it is at the edge, and the edge lies lower.
                self.missed = Some(self.next);
                self.confirmed = 0;
                self.held = Some(self.next * LESS);
                self.next *= LESS;
                return;
            }
            (true, false) => self.held = Some(self.next),
            (false, false) => self.missed = Some(self.next),
        }
        self.next = match (self.held, self.missed) {
            (Some(held), _) if was_confirming => held,
            (Some(held), None) if held < RATE_MAX => (held * 2.0).min(RATE_MAX),
            (Some(held), Some(missed)) if missed / held > NARROW => (held * missed).sqrt(),
            (Some(held), _) => held,
            (None, _) => self.next / 2.0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where `holds` decides; what was found, and in how many runs.
    fn searched(start: f64, mut holds: impl FnMut(usize, f64) -> bool) -> (Option<f64>, usize) {
        let mut search = Search::from(start);
        let mut runs = 0;
        while let Some(rate) = search.next().filter(|_| runs < PROBES_MAX) {
            search.tell(holds(runs, rate));
            runs += 1;
        }
        (search.found(), runs)
    }

    #[test]
    fn a_limit_is_found_from_below_and_from_above() {
        for limit in [3.0, 700.0, 12_345.0, 400_000.0] {
            for start in [1.0, 1_000.0, 1_000_000.0] {
                let (found, runs) = searched(start, |_, rate| rate <= limit);
                let found = found.unwrap();
                assert!(found <= limit && found > limit / NARROW / 1.001, "{limit} from {start}: {found}");
                assert!(runs <= PROBES_MAX, "{runs}");
            }
        }
    }

    #[test]
    fn what_held_by_luck_is_not_confirmed() {
        // Above 1,000 every third run holds; below, all of them.
        let (found, _) = searched(500.0, |run, rate| rate <= 1_000.0 || run % 3 == 0);
        assert!(found.unwrap() <= 1_000.0, "{found:?}");
    }

    #[test]
    fn where_nothing_holds_nothing_is_found_and_where_all_does_the_end_is() {
        assert_eq!(searched(1_000.0, |_, _| false).0, None);
        assert_eq!(searched(1_000.0, |_, _| true).0, Some(RATE_MAX));
    }
}

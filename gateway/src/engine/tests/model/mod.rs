//! Log, view and sessions against a plain model in memory, with crashes, lost views, damaged checkpoints and failing writes at every
//! step. A case follows from its seed, but for which of two threads is faster: what a save has reached at a crash may differ.
//!
//! `GATEWAY_MODEL_CASES` is how many cases are run, `GATEWAY_SEED` the seed of the first; each later one has the next number. A failure
//! prints the seed of its case, and the shortest list of steps that was found to fail. What has failed once stands in
//! [`counterexamples`].

mod compare;
mod counterexamples;
mod driver;
mod entries;
mod ops;
mod plain;
mod rig;

use crate::engine::Rules;
use driver::{Driver, Stats};
use ops::{Op, Random};
use plain::Wrong;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Cases, and the first one's seed, where the environment does not say.
const CASES: u64 = 16;
const SEED: u64 = 20_260_131;
/// No case takes as long.
const CASE_MAX: Duration = Duration::from_secs(60);
/// How long to look for a shorter case.
const SHRINKING: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Case {
    rules: Rules,
    ops: Vec<Op>,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let rules = random.rules();
        let mut later = rules;
        let mut ops = random.beginning();
        let count = 20 + random.below(80);
        ops.extend((0..count).map(|_| random.op(&mut later)));
        Self { rules, ops }
    }

    /// Takes the steps on a new data directory.
    fn run(&self) -> Result<Stats, Wrong> {
        let (case, step) = (self.clone(), Arc::new(AtomicUsize::new(0)));
        let (done, outcome) = sync_channel(1);
        let taken = step.clone();
        std::thread::spawn(move || {
            let ran = Driver::new(case.rules).and_then(|mut driver| {
                for (number, op) in case.ops.iter().enumerate() {
                    taken.store(number, Ordering::Relaxed);
                    driver.step(op).map_err(|wrong| format!("step {number}, {op:?}: {wrong}"))?;
                }
                driver.finish()
            });
            let _ = done.send(ran);
        });
        let step = || step.load(Ordering::Relaxed);
        outcome.recv_timeout(CASE_MAX).unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => Err(format!("step {} does not end", step())),
            RecvTimeoutError::Disconnected => Err(format!("step {} ends in the panic above", step())),
        })
    }

    /// Takes out steps for as long as it fails all the same.
    fn shrink(mut self, mut wrong: Wrong) -> (Self, Wrong) {
        let give_up = Instant::now() + SHRINKING;
        let mut taken = self.ops.len().div_ceil(2);
        while taken > 0 {
            let mut at = self.ops.len();
            while at > 0 && Instant::now() < give_up {
                let from = at.saturating_sub(taken);
                let mut fewer = self.clone();
                fewer.ops.drain(from..at);
                if let Err(found) = fewer.run() {
                    (self, wrong) = (fewer, found);
                }
                at = from;
            }
            taken /= 2;
        }
        (self, wrong)
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn log_view_and_sessions_follow_the_plain_model_through_crashes_and_faults() {
    let (cases, first) = (number("GATEWAY_MODEL_CASES", CASES), number("GATEWAY_SEED", SEED));
    eprintln!("GATEWAY_MODEL_CASES={cases} GATEWAY_SEED={first}");
    let mut stats = Stats::default();
    for seed in first..first + cases {
        let case = Case::new(seed);
        match case.run() {
            Ok(more) => stats.add(&more),
            Err(wrong) => {
                // Said before shorter ones are looked for, which takes a while.
                eprintln!("GATEWAY_MODEL_CASES=1 GATEWAY_SEED={seed}: {wrong}");
                let (shortest, wrong) = case.shrink(wrong);
                eprintln!("{:?}", shortest.rules);
                for (number, op) in shortest.ops.iter().enumerate() {
                    eprintln!("{number}: {op:?}");
                }
                panic!("GATEWAY_MODEL_CASES=1 GATEWAY_SEED={seed}, {} steps: {wrong}", shortest.ops.len());
            }
        }
    }
    eprintln!("{stats:?}");
    if cases >= CASES {
        assert!(stats.crashes > 0 && stats.trimmed_segments > 0 && stats.rebuilt > 0, "{stats:?}");
        assert!(stats.refused > 0, "{stats:?}");
    }
}

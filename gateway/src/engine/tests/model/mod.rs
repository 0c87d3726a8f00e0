//! Log, view and sessions against a plain model in memory, with crashes, lost views, damaged checkpoints and failing writes at every
//! step. Every case follows from its seed, which a failure prints, with the shortest list of steps that still fails.
//!
//! The short form runs the seeds in [`COUNTEREXAMPLES`], some fixed ones and some new ones. `GATEWAY_MODEL_CASES=10000` runs so many new ones,
//! `GATEWAY_MODEL_SEED=<seed>` the one with that seed.

mod compare;
mod driver;
mod entries;
mod ops;
mod plain;
mod rig;

use driver::{Driver, Stats};
use ops::{Op, Random};
use plain::Wrong;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Seeds of cases that have failed.
const COUNTEREXAMPLES: [u64; 0] = [];
/// Fixed seeds in the short form, and new ones.
const FIXED: u64 = 40;
const NEW: u64 = 5;
/// How long to look for a shorter case.
const SHRINKING: Duration = Duration::from_secs(60);

struct Case {
    seed: u64,
    ops: Vec<Op>,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut rules = random.rules();
        let count = 20 + random.below(80);
        Self { seed, ops: (0..count).map(|_| random.op(&mut rules)).collect() }
    }

    /// Takes the steps on a new data directory.
    fn run(&self, ops: &[Op]) -> Result<Stats, Wrong> {
        let rules = Random(self.seed).rules();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut driver = Driver::new(rules)?;
            for (number, op) in ops.iter().enumerate() {
                driver.step(op).map_err(|wrong| format!("step {number}, {op:?}: {wrong}"))?;
            }
            driver.finish()
        }));
        ran.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(format!("a panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default()))
        })
    }

    /// Takes out steps for as long as it fails all the same.
    fn shrink(&self, mut wrong: Wrong) -> (Vec<Op>, Wrong) {
        let give_up = Instant::now() + SHRINKING;
        let mut ops = self.ops.clone();
        let mut taken = ops.len() / 2;
        while taken > 0 {
            let mut at = ops.len();
            while at > 0 && Instant::now() < give_up {
                let from = at.saturating_sub(taken);
                let mut fewer = ops.clone();
                fewer.drain(from..at);
                if let Err(found) = self.run(&fewer) {
                    (ops, wrong) = (fewer, found);
                }
                at = from;
            }
            taken /= 2;
        }
        (ops, wrong)
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn log_view_and_sessions_follow_the_plain_model_through_crashes_and_faults() {
    let now =
        u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() & u128::from(u64::MAX)).unwrap();
    let new = |count| (0..count).map(move |n: u64| now.wrapping_add(n << 40));
    let seeds: Vec<u64> = match (setting("GATEWAY_MODEL_SEED"), setting("GATEWAY_MODEL_CASES")) {
        (Some(seed), _) => vec![seed],
        (None, Some(cases)) => new(cases).collect(),
        (None, None) => COUNTEREXAMPLES.into_iter().chain(0..FIXED).chain(new(NEW)).collect(),
    };
    let mut stats = Stats::default();
    for (number, seed) in seeds.iter().enumerate() {
        let case = Case::new(*seed);
        match case.run(&case.ops) {
            Ok(more) => stats.add(&more),
            Err(wrong) => {
                let (ops, wrong) = case.shrink(wrong);
                for (number, op) in ops.iter().enumerate() {
                    eprintln!("{number}: {op:?}");
                }
                panic!("GATEWAY_MODEL_SEED={seed}, {} of {} steps: {wrong}", ops.len(), case.ops.len());
            }
        }
        if number % 500 == 499 {
            eprintln!("{} cases, {stats:?}", number + 1);
        }
    }
    eprintln!("{} cases, {stats:?}", seeds.len());
    if seeds.len() > 20 {
        assert!(stats.crashes > 0 && stats.trimmed_segments > 0 && stats.rebuilt > 0, "{stats:?}");
    }
}

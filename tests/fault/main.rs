//! Faults of the process, of the disk under it and of the power: nothing that was acknowledged may be missing
//! afterwards, and what stood still goes on by itself.
//!
//! - [`kill`], [`exactly_once`]: the program is killed under load, and so are its consumers.
//! - [`workers`]: what consumers promise while their workers, or the program, are killed.
//! - [`large_store`]: the program is killed with gigabytes in its store, and is ready again soon.
//! - [`database`]: the program writes to a database, and either is killed.
//! - [`scenario`]: the same scenario of the fleet simulator, with a kill in it, against the gateway and against Mosquitto.
//! - [`full_disk`]: the program on a file system that is really full.
//! - [`power`], [`failing_disk`], [`endings`], [`stalls`], [`flips`]: a gateway in this process on a disk of the test's own
//!   ([`lab`]), which loses what was not synced, fails, takes its time, or has a bit flipped.
//!
//! Sizes are for a change; the long form is had by environment variables, best with `cargo nextest run --profile long`:
//!
//! | variable | unless set | long | what |
//! |---|---:|---:|---|
//! | `GATEWAY_KILLS` | 50 | 1000 | kills of the program; variations of that run take a tenth |
//! | `GATEWAY_RESTARTS` | 5 | 200 | restarts amid QoS 2 flows |
//! | `GATEWAY_RATE` | 20000 | | events per second in all, of the kills; half of it while workers are killed |
//! | `GATEWAY_CUTS` | 10 | 200 | power cuts; half as many where acknowledgements do not wait for a sync |
//! | `GATEWAY_FAULTS` | 40 | 480 | faults of the disk, spread over the 120 operations of a run: each of them in four ways |
//! | `GATEWAY_STALL_SECS` | 5 | 30 | length of the long stall |
//! | `GATEWAY_FLIPS` | 60 | 10000 | flipped bits |
//! | `GATEWAY_STORE_GIB` | 1/4 | 10 | size of a large store; it wants a half more on the disk of `TMPDIR` |
//! | `GATEWAY_WORK` | 40000 | 1000000 | events for eight workers that are killed |
//! | `GATEWAY_POISON` | 20 | 1000 | events at which every attempt fails |
//! | `GATEWAY_DEATHS` | 1000 | 10000 | events whose worker dies |
//! | `GATEWAY_NEIGHBOUR_SECS` | 5 | 300 | how long one consumer of ten stands still |
//! | `GATEWAY_NEIGHBOUR_RATE` | 300 | | events per second for each of the ten |
//! | `GATEWAY_SESSIONS` | 200 | 1000 | Sessions that a killed program has to restore, with a tenth as many events each |
//! | `GATEWAY_SEED` | 20260131 | | seed of everything that is left to chance; every run prints its own |
//!
//! A debug build of the program is killed 5 times at 2,000 events per second, its large store has 32 MiB, and its killed workers
//! get 8,000 events.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what is not as expected fails the test, and the figures of a run are printed"
)]

mod consumer;
mod database;
mod endings;
mod event;
mod exactly_once;
mod failing_disk;
mod fleet;
mod flips;
mod full_disk;
mod kill;
mod lab;
mod large_store;
mod named;
mod power;
mod scenario;
mod sending;
mod stalls;
mod tally;
mod traffic;
mod wire;
mod workers;

use gateway_tests::Gateway;

/// How a run is sized.
#[derive(Clone, Copy, Debug)]
struct Load {
    kills: u32,
    restarts: u32,
    cuts: u32,
    faults: u32,
    stall_secs: u32,
    flips: u32,
    store_bytes: u64,
    seed: u64,
    events_per_second: u32,
    work: u32,
    poison: u32,
    deaths: u32,
    neighbour_secs: u32,
    neighbour_rate: u32,
    sessions: u32,
}

impl Load {
    fn from_environment() -> Self {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is {text}, which is no number")),
            Err(_) => default,
        };
        // An unoptimised gateway is no measure of anything; it is only to show the same promises.
        let (kills, rate) = if Gateway::is_release_build() { (50, 20_000) } else { (5, 2_000) };
        let work = if Gateway::is_release_build() { 40_000 } else { 8_000 };
        Self {
            kills: number("GATEWAY_KILLS", kills) as u32,
            restarts: number("GATEWAY_RESTARTS", 5) as u32,
            cuts: number("GATEWAY_CUTS", 10) as u32,
            faults: number("GATEWAY_FAULTS", 40) as u32,
            flips: number("GATEWAY_FLIPS", 60) as u32,
            store_bytes: match number("GATEWAY_STORE_GIB", 0) {
                0 if Gateway::is_release_build() => 256 << 20,
                0 => 32 << 20,
                gib => gib << 30,
            },
            stall_secs: number("GATEWAY_STALL_SECS", 5) as u32,
            seed: number("GATEWAY_SEED", 20_260_131),
            events_per_second: number("GATEWAY_RATE", rate) as u32,
            work: number("GATEWAY_WORK", work) as u32,
            poison: number("GATEWAY_POISON", 20) as u32,
            deaths: number("GATEWAY_DEATHS", 1_000) as u32,
            neighbour_secs: number("GATEWAY_NEIGHBOUR_SECS", 5) as u32,
            neighbour_rate: number("GATEWAY_NEIGHBOUR_RATE", 300) as u32,
            sessions: number("GATEWAY_SESSIONS", 200) as u32,
        }
    }

    /// A tenth of the kills, and at least five, for what is a variation of another run.
    fn part(self) -> Self {
        Self { kills: (self.kills / 10).max(5), ..self }
    }
}

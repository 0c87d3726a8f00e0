//! Faults at the level of the process: the gateway is killed under load, its consumers are killed, and nothing that
//! was acknowledged may be missing afterwards.
//!
//! `GATEWAY_KILLS` is the number of kills and `GATEWAY_RESTARTS` that of restarts amid QoS 2 flows (5 unless set),
//! `GATEWAY_SEED` the seed of their moments, `GATEWAY_RATE` the events per second in all (10,000 for a release build
//! of the gateway, 2,000 for a debug build).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what is not as expected fails the test, and the figures of a run are printed"
)]

mod consumer;
mod event;
mod exactly_once;
mod failing_disk;
mod fleet;
mod flips;
mod full_disk;
mod kill;
mod lab;
mod power;
mod stalls;
mod tally;
mod traffic;
mod wire;

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
    seed: u64,
    events_per_second: u32,
}

impl Load {
    fn from_environment() -> Self {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is {text}, which is no number")),
            Err(_) => default,
        };
        // An unoptimised gateway is no measure of anything; it is only to show the same promises.
        let (kills, rate) = if Gateway::is_release_build() { (50, 20_000) } else { (5, 2_000) };
        Self {
            kills: number("GATEWAY_KILLS", kills) as u32,
            restarts: number("GATEWAY_RESTARTS", 5) as u32,
            cuts: number("GATEWAY_CUTS", 10) as u32,
            faults: number("GATEWAY_FAULTS", 40) as u32,
            flips: number("GATEWAY_FLIPS", 60) as u32,
            stall_secs: number("GATEWAY_STALL_SECS", 5) as u32,
            seed: number("GATEWAY_SEED", 20_260_131),
            events_per_second: number("GATEWAY_RATE", rate) as u32,
        }
    }

    /// A tenth of the kills, and at least five, for what is a variation of another run.
    fn part(self) -> Self {
        Self { kills: (self.kills / 10).max(5), ..self }
    }
}

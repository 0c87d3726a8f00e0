//! What counting and tracing cost: CPU of a whole gateway for each message, with metrics, without them, and with traces beside them.
//!
//! `cargo run --release -p gateway-benches --bin counting`, on a machine that does nothing else. A gateway runs in a process of its own (all threads, a
//! log with its syncs); its clients in this one, pairs of a publisher and a subscriber that write [`clients::BURST`] packets and wait until all of it has
//! arrived and is acknowledged. So batches have about the same size in all gateways, and what is compared is the same work. The three take turns, each with a new
//! process, and a turn is compared with the one beside it: what the machine does in between meets all alike. Shown is the median of those comparisons
//! and the middle half of them. An argument names a load; without one it is all of them, which takes some minutes.
//!
//! Instructions, which a change can be held against, are counted by `instructions`. [`served`] is the gateway, [`clients`] what it is given.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark is a program for people: it prints, and it may stop at the first error"
)]

mod clients;
mod served;

use clients::Load;
use served::{Mode, Served};

/// Turns of each.
const ROUNDS: usize = 12;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, mode, collector, ..] = &arguments[..]
        && flag == served::SERVE
    {
        served::run(Mode::of(mode), collector);
        return;
    }
    println!(
        "{:<10}{:>12}{:>12}{:>26}{:>12}{:>26}",
        "us of CPU", "uncounted", "counted", "", "traced 1 %", ""
    );
    let named = |load: &Load| arguments.is_empty() || arguments.iter().any(|name| name == load.name);
    for load in clients::LOADS.iter().filter(|load| named(load)) {
        show(load);
    }
}

fn show(load: &Load) {
    // The first of all warms the machine up, and does not count.
    a_message(Mode::Counted, load);
    let rounds: Vec<[f64; 3]> = (0..ROUNDS)
        .map(|round| {
            let mut cost = [0.0; 3];
            for turn in 0..3 {
                let at = (round + turn) % 3;
                cost[at] = a_message(Mode::ALL[at], load);
            }
            cost
        })
        .collect();
    let of = |mode: usize| quartiles(rounds.iter().map(|cost| cost[mode]).collect())[1];
    println!(
        "{:<10}{:>12.3}{:>12.3}{:>26}{:>12.3}{:>26}",
        load.name,
        of(0),
        of(1),
        change(&rounds, 0, 1),
        of(2),
        change(&rounds, 1, 2)
    );
}

/// How much more the one costs than the other, round by round.
fn change(rounds: &[[f64; 3]], without: usize, with: usize) -> String {
    let more = rounds.iter().map(|cost| (cost[with] / cost[without] - 1.0) * 100.0).collect();
    let [low, median, high] = quartiles(more);
    format!("{median:+.2} % ({low:+.1} to {high:+.1})")
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

/// Microseconds of the gateway's CPU for each message, of a new process.
fn a_message(mode: Mode, load: &Load) -> f64 {
    let mut gateway = Served::start(mode);
    let cpu = clients::run(gateway.address, load, || gateway.cpu());
    gateway.stop();
    cpu.as_secs_f64() * 1e6 / load.messages() as f64
}

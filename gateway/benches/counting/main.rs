//! What counting and tracing cost: CPU of a whole gateway for each message, with metrics, without them, and with traces beside them.
//!
//! `cargo run --release -p gateway-benches --bin counting`. Three gateways run at a time, each in a process of its own (all threads, a log with its
//! syncs); their clients in this one, pairs of a publisher and a subscriber that write [`clients::BURST`] packets and wait until all of them have arrived and are
//! acknowledged. So batches have about the same size in all gateways, and what is compared is the same work. The three take turns of some tens of
//! milliseconds, so that what the machine does in between meets all alike, and each turn is compared with those beside it. Where a process lies in memory makes
//! a difference, too, so there are several [generations](GENERATIONS) of them. Shown is the median of the comparisons, the middle half of them, and between
//! which values the generations' own medians lie. An argument names a load; without one it is all of them, a minute each.
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

use clients::{Load, Loaded};
use served::Mode;

/// How often all gateways are started anew, and how many turns each of one generation has.
const GENERATIONS: usize = 6;
const TURNS: usize = 30;

/// What the gateways took for a message in turns beside each other, in microseconds.
type Turn = [f64; 3];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, mode, collector, ..] = &arguments[..]
        && flag == served::SERVE
    {
        served::run(Mode::of(mode), collector);
        return;
    }
    println!(
        "{:<10}{:>12}{:>12}{:>46}{:>12}{:>46}",
        "us of CPU", "uncounted", "counted", "", "traced 1 %", ""
    );
    let named = |load: &Load| arguments.is_empty() || arguments.iter().any(|name| name == load.name);
    for load in clients::LOADS.iter().filter(|load| named(load)) {
        show(load);
    }
}

fn show(load: &Load) {
    let generations: Vec<Vec<Turn>> = (0..GENERATIONS).map(|_| generation(load)).collect();
    let all: Vec<Turn> = generations.iter().flatten().copied().collect();
    let of = |mode: usize| quartiles(all.iter().map(|turn| turn[mode]).collect())[1];
    let change = |without: usize, with: usize| {
        let more = |turns: &[Turn]| {
            quartiles(turns.iter().map(|turn| (turn[with] / turn[without] - 1.0) * 100.0).collect())
        };
        let [low, median, high] = more(&all);
        let mut medians: Vec<f64> = generations.iter().map(|turns| more(turns)[1]).collect();
        medians.sort_by(f64::total_cmp);
        let (least, most) = (medians[0], medians[medians.len() - 1]);
        format!("{median:+.2} % ({low:+.1} to {high:+.1}; medians {least:+.1} to {most:+.1})")
    };
    println!(
        "{:<10}{:>12.3}{:>12.3}{:>46}{:>12.3}{:>46}",
        load.name,
        of(0),
        of(1),
        change(0, 1),
        of(2),
        change(1, 2)
    );
}

/// Gateways in turns.
fn generation(load: &Load) -> Vec<Turn> {
    let mut gateways = Mode::ALL.map(|mode| Loaded::start(mode, load));
    let turns = (0..TURNS)
        .map(|number| {
            let mut turn = [0.0; 3];
            for place in 0..3 {
                let at = (number + place) % 3;
                turn[at] = gateways[at].turn();
            }
            turn
        })
        .collect();
    for gateway in gateways {
        gateway.stop();
    }
    turns
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

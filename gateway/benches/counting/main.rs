//! What counting costs: instructions of a whole gateway for each message, with metrics, without them, and with traces beside them.
//!
//! `cargo bench -p gateway --bench counting`; it needs `valgrind`. The gateway runs under cachegrind in a process of its own, its clients
//! natively in this one. A publisher writes so many PUBLISH packets at once (QoS 1, 256 bytes, kept by a stream), and waits until a subscriber
//! has got and acknowledged them and its own acknowledgements are there; then the next. The same is done twice, the second time more often:
//! what differs has neither start nor end in it. cachegrind counts no instructions of the kernel, which counting needs none of, so that its
//! part of the whole is less than what is shown here. It ends with 1 if counting takes [`COUNTING_MAX`] or more of what a loaded
//! gateway spends on a message.
//!
//! [`served`] is the gateway, [`clients`] what it is given.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark is a program for people: it prints, and it may stop at the first error"
)]

mod clients;
mod served;

use std::process::ExitCode;

use served::Mode;

/// The most that counting may take of what a message costs, at [`LOADED`] packets at once.
const COUNTING_MAX: f64 = 0.02;
/// Packets that a busy publisher has on the way at once. The others for comparison: one by one, nothing is shared among messages.
const LOADED: usize = 64;
const BURSTS: [usize; 3] = [1, 16, LOADED];
/// Messages of the shorter and of the longer run, at least; and bursts.
const MESSAGES: [usize; 2] = [1_000, 5_000];
const BURSTS_MIN: [usize; 2] = [50, 250];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, mode, collector, ..] = &arguments[..]
        && flag == served::SERVE
    {
        served::run(Mode::of(mode), collector);
        return ExitCode::SUCCESS;
    }
    println!(
        "{:<24}{:>12}{:>12}{:>10}{:>14}{:>10}",
        "instructions a message", "uncounted", "counted", "", "traced 1 %", ""
    );
    let mut is_over = false;
    for burst in BURSTS {
        let [without, with, traced] = Mode::ALL.map(|mode| a_message(mode, burst));
        let (counting, tracing) = (with / without - 1.0, traced / with - 1.0);
        println!(
            "{:<24}{without:>12.0}{with:>12.0}{:>9.2}%{traced:>14.0}{:>9.2}%",
            format!("{burst} at once"),
            counting * 100.0,
            tracing * 100.0
        );
        is_over |= burst == LOADED && counting >= COUNTING_MAX;
    }
    if is_over {
        println!("\ncounting takes {:.0} % or more", COUNTING_MAX * 100.0);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Instructions for each message, of two runs' difference.
fn a_message(mode: Mode, burst: usize) -> f64 {
    let runs = [0, 1].map(|run| (MESSAGES[run] / burst).max(BURSTS_MIN[run]));
    let counts = runs.map(|bursts| {
        let gateway = served::Served::start(mode);
        clients::run(gateway.address, burst, bursts);
        gateway.stop()
    });
    (counts[1] - counts[0]) / ((runs[1] - runs[0]) * burst) as f64
}

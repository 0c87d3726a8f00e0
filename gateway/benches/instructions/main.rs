//! Instructions of the paths that every message takes, counted by callgrind and held against a committed baseline.
//!
//! Times differ from one machine and one minute to the next; instructions hardly do. So these can fail a change: `cargo run --release
//! -p gateway-benches --bin instructions` prints each path beside the baseline and ends with 1 if one needs more than [`TOLERANCE`] above it, or
//! if counting needs [`COUNTING_MAX`] of what an event takes. `-- --write` makes what was counted the new baseline, for a change that is worth it (or a new compiler). It needs `valgrind`.
//!
//! **What is left of chance.** Hash maps are keyed at random, and what the processor can do decides between ways to copy memory; the first is
//! kept small by counting over many topics, the second by telling the C library to leave wide registers alone. [`cases`] is what is
//! counted, [`counting`] how.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark is a program for people: it prints, and it may stop at the first error"
)]

mod cases;
mod counting;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cases::books::{BOOKS, PATH};
use counting::Count;

/// What a path may need above its baseline.
const TOLERANCE: f64 = 0.05;
/// The part of an event's path that counting it may take.
const COUNTING_MAX: f64 = 0.02;
/// Arguments with which this program runs under callgrind: the number of a case, or so many commits.
const MEASURE: &str = "--measure";
const COMMITS: &str = "--commits";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [MEASURE, number, ..] => cases::all()[number.parse::<usize>().expect("a number")]().measure(),
        [COMMITS, groups, ..] => cases::commit(groups.parse().expect("a number of groups")),
        _ => return compare(arguments.iter().any(|argument| argument == "--write")),
    }
    ExitCode::SUCCESS
}

fn compare(is_new_baseline: bool) -> ExitCode {
    let counts = counting::count_all();
    let file = baseline();
    if is_new_baseline {
        std::fs::write(&file, written(&counts)).expect("the baseline can be written");
    }
    let allowed = read(&std::fs::read_to_string(&file).expect("there is a baseline"));
    println!("{:<44}{:>12}{:>12}{:>9}", "instructions for each", "baseline", "now", "");
    let mut exceeded = 0;
    for Count { name, instructions } in &counts {
        let before = allowed.iter().find(|(other, _)| other == name).map(|(_, count)| *count);
        let change = before.map(|before| instructions / before - 1.0);
        let is_over = change.is_none_or(|change| change > TOLERANCE);
        exceeded += usize::from(is_over);
        println!(
            "{name:<44}{:>12}{instructions:>12.1}{:>9}{}",
            before.map_or_else(|| "none".to_owned(), |before| format!("{before:.1}")),
            change.map_or_else(String::new, |change| format!("{:+.1}%", change * 100.0)),
            if is_over { "  TOO MANY" } else { "" }
        );
    }
    let counting = counting_share(&counts);
    println!("\ncounting: {:.2} % of an event's path", counting * 100.0);
    if exceeded > 0 {
        println!(
            "{exceeded} above the baseline by more than {:.0} %. If the change is worth it: \
             cargo run --release -p gateway-benches --bin instructions -- --write",
            TOLERANCE * 100.0
        );
    }
    if counting >= COUNTING_MAX {
        println!("counting takes {:.0} % of it or more", COUNTING_MAX * 100.0);
    }
    if exceeded == 0 && counting < COUNTING_MAX { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What counting an event takes, as a part of what the event takes.
fn counting_share(counts: &[Count]) -> f64 {
    let of = |name: &str| counts.iter().find(|count| count.name == name).expect("it is counted").instructions;
    of(BOOKS) / PATH.map(of).iter().sum::<f64>()
}

fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions/baseline.txt")
}

fn written(counts: &[Count]) -> String {
    counts.iter().map(|Count { name, instructions }| format!("{instructions:>12.1}  {name}\n")).collect()
}

fn read(text: &str) -> Vec<(String, f64)> {
    let line = |line: &str| {
        let (count, name) = line.trim_start().split_once("  ")?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

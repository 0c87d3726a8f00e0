//! The logs side by side, in one run on one machine: what an event costs in each, alone, in groups, and while the log is
//! trimmed behind it.
//!
//! Everything goes through group commit with the default durability, as in the gateway. CPU is that of the whole process,
//! the producer included. Bytes written are those handed to the system (`wchar`), per byte of topic and payload.
//! `BENCH_DIR` says where the files go (without it, the system's temporary directory), `BENCH_SECONDS` how long a line
//! takes (without it, 2.5: half a minute in all).

#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark is a program for people: it prints, and it may stop at the first error"
)]

#[expect(dead_code, reason = "the parts for a log of segments only are for the other benchmarks")]
mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use gateway_storage::{
    CommittedGroup, GroupCommit, GroupCommitOptions, Log, LogReader, MemoryLog, Offset, ReceiptCell,
    SegmentsLog, SegmentsOptions, SledLog, SledLogOptions, Staging,
};

use self::common::{BATCH, PAYLOAD_BYTES, TOPIC, cpu, event, submit, unparker};

const GROUP_BYTES_MAX: usize = 256 << 10;
/// A line ends here at the latest, for the log in memory keeps everything.
const EVENTS_MAX: u64 = 2_000_000;
/// What trimming leaves of a log.
const KEPT_EVENTS: u64 = 100_000;
const TRIMMED_SEGMENT_BYTES: u64 = 16 << 20;
const TRIM_EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Segments,
    Sled,
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Groups,
    Trimmed,
    OneByOne,
}

fn main() {
    // Cargo passes arguments of its own; this program takes none.
    let base = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = std::env::var("BENCH_SECONDS").map_or(2.5, |seconds| seconds.parse().unwrap());
    let run = Duration::from_secs_f64(seconds);
    println!(
        "{PAYLOAD_BYTES}-byte payloads, one producer, fdatasync of every group, files in {}",
        base.display()
    );
    for (load, title) in [
        (Load::Groups, "Groups of up to 256 KiB"),
        (Load::Trimmed, "The same, trimmed to the last 100,000 events every 100 ms"),
        (Load::OneByOne, "Groups of 1 event, each waited for"),
    ] {
        println!("\n{title}");
        println!(
            "{:<10}{:>12}{:>11}{:>12}{:>12}{:>12}{:>12}",
            "", "events/s", "CPU µs/ev", "group KiB", "written/B", "trims", "MiB left"
        );
        for kind in [Kind::Segments, Kind::Sled, Kind::Memory] {
            let dir = base.join(format!("logs-bench-{}", std::process::id()));
            measure(kind, load, &dir, run);
            // The log in memory has no files.
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
}

fn open(kind: Kind, load: Load, dir: &Path) -> Box<dyn Log> {
    match kind {
        Kind::Segments => {
            let mut options = SegmentsOptions::default();
            if load == Load::Trimmed {
                // Small enough for something to be trimmed.
                options.segment_bytes = TRIMMED_SEGMENT_BYTES;
            }
            Box::new(SegmentsLog::open(dir, options).unwrap().0)
        }
        Kind::Sled => Box::new(SledLog::open(dir, SledLogOptions::default()).unwrap().0),
        Kind::Memory => Box::new(MemoryLog::with_unit(TRIMMED_SEGMENT_BYTES as usize)),
    }
}

fn measure(kind: Kind, load: Load, dir: &Path, run: Duration) {
    let log = open(kind, load, dir);
    let reader = log.reader();
    let receipts = Arc::new(ReceiptCell::new());
    let sink = {
        let receipts = Arc::clone(&receipts);
        Box::new(move |group: CommittedGroup| {
            receipts.publish(group.durable);
            group.contributors.into_iter().for_each(Waker::wake);
        })
    };
    let options = GroupCommitOptions { group_bytes_max: GROUP_BYTES_MAX, ..GroupCommitOptions::default() };
    let commit = GroupCommit::start(log, options, Box::new(|| 1), sink).unwrap();
    let (started, cpu_started, written_before) = (Instant::now(), cpu(), bytes_written());
    let stop = AtomicBool::new(false);
    let trims = thread::scope(|scope| {
        let trimming =
            scope.spawn(|| if load == Load::Trimmed { trim(&commit, reader.as_ref(), &stop) } else { 0 });
        let goes_on = || started.elapsed() < run && commit.stats().events < EVENTS_MAX;
        match load {
            Load::OneByOne => one_by_one(&commit, &receipts, goes_on),
            Load::Groups | Load::Trimmed => in_groups(&commit, goes_on),
        }
        stop.store(true, Ordering::Relaxed);
        trimming.thread().unpark();
        trimming.join().unwrap()
    });
    commit.shutdown();
    let (elapsed, cpu, written) = (started.elapsed(), cpu() - cpu_started, bytes_written() - written_before);
    let stats = commit.stats();
    let events = stats.events as f64;
    println!(
        "{:<10}{:>12.0}{:>11.2}{:>12.1}{:>12.2}{:>12}{:>12.1}",
        format!("{kind:?}").to_lowercase(),
        events / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / events,
        stats.bytes_written as f64 / stats.groups as f64 / 1024.0,
        written as f64 / (events * (PAYLOAD_BYTES + TOPIC.len()) as f64),
        trims,
        stats.log_bytes as f64 / f64::from(1 << 20),
    );
}

/// As many as are taken.
fn in_groups(commit: &GroupCommit, goes_on: impl Fn() -> bool) {
    let payload = [7; PAYLOAD_BYTES];
    let (mut staging, waker, mut last) = (Staging::new(), unparker(), None);
    while goes_on() {
        for _ in 0..BATCH {
            staging.push_event(&event(&payload)).unwrap();
        }
        last = Some(submit(commit, &mut staging, &waker, last));
    }
}

/// The next one when the one before it is durable.
fn one_by_one(commit: &GroupCommit, receipts: &ReceiptCell, goes_on: impl Fn() -> bool) {
    let payload = [7; PAYLOAD_BYTES];
    let (mut staging, waker, mut last) = (Staging::new(), unparker(), None);
    while goes_on() {
        staging.push_event(&event(&payload)).unwrap();
        let ticket = submit(commit, &mut staging, &waker, last);
        while !receipts.load().is_some_and(|durable| durable.covers(ticket)) {
            thread::park();
        }
        last = Some(ticket);
    }
}

/// Trims until told to stop, and says how often something was removed.
fn trim(commit: &GroupCommit, reader: &dyn LogReader, stop: &AtomicBool) -> u64 {
    let mut trims = 0;
    while !stop.load(Ordering::Relaxed) {
        thread::park_timeout(TRIM_EVERY);
        let before = Offset::new(reader.bounds().1.get().saturating_sub(KEPT_EVENTS));
        trims += u64::from(commit.trim(before).unwrap().segments > 0);
    }
    trims
}

/// Bytes this process has handed to the system to be written.
fn bytes_written() -> u64 {
    let counters = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = counters.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap()
}

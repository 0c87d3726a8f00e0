//! How close group commit comes to the disk.
//!
//! Each figure stands beside the limit measured in the same run, on the same file system: append and `fdatasync` of
//! groups of the same size on a bare file, and a bare `fdatasync` of one event. CPU is that of the whole process, which
//! includes the producers. `BENCH_DIR` says where the files go; without it, the system's temporary directory.
//!
//! These runs are short. On a virtual machine most of their CPU goes to pages of the page cache that the machine has not
//! used before, and whichever half of a row writes first pays for them: compare rates and CPU in `sustained`, which goes
//! on long enough for that to even out.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark is a program for people: it prints, and it may stop at the first error"
)]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{BATCH, PAYLOAD_BYTES, PRODUCERS, Payloads, Rig, TOPIC, cpu, event, produce, submit, unparker};
use gateway_storage::{GroupCommitOptions, Offset, SegmentsLog, SegmentsOptions, Staging};
use hdrhistogram::Histogram;

const RUN: Duration = Duration::from_millis(1500);

fn main() {
    // Cargo passes arguments of its own; this program takes none.
    let base = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("group-commit-bench-{}", std::process::id()));
    println!("{PAYLOAD_BYTES}-byte payloads, {PRODUCERS} producers, files in {}", base.display());
    codec(&dir);
    throughput(&dir);
    light_load(&dir);
}

/// What one event costs in the staging area and when it is read back.
fn codec(dir: &Path) {
    let payload = [7; PAYLOAD_BYTES];
    let mut staging = Staging::new();
    let started = cpu();
    for _ in 0..20_000 {
        staging.clear();
        for _ in 0..BATCH {
            staging.push_event(std::hint::black_box(&event(&payload))).unwrap();
        }
    }
    let stage = nanos_per(started, 20_000 * BATCH as u64);

    let rig = rig(dir, 4 << 20, 256 << 10);
    let (waker, mut last) = (unparker(), None);
    for _ in 0..2_000 {
        fill(&mut staging, &payload);
        last = Some(submit(&rig.commit, &mut staging, &waker, last));
    }
    rig.commit.shutdown();
    let mut events = 0;
    let started = cpu();
    for _ in 0..10 {
        let mut from = Offset::ZERO;
        while let Some(page) = rig.reader.read_page(from, 1 << 20).unwrap() {
            events += page.batch.len() as u64;
            from = page.next;
        }
    }
    let read = nanos_per(started, events);
    let page = rig.reader.read_page(Offset::ZERO, 1 << 20).unwrap().unwrap();
    let mut looks = 0;
    let started = cpu();
    for _ in 0..300 {
        for index in 0..page.batch.len() {
            assert_eq!(std::hint::black_box(page.batch.event(index)).unwrap().payload.len(), PAYLOAD_BYTES);
            looks += 1;
        }
    }
    let look = nanos_per(started, looks);
    println!(
        "\nCPU per event: stage {stage:.0} ns | read back (pread, CRC32C, decode, index) {read:.0} ns | \
         look at through the index {look:.1} ns"
    );
}

/// As much as the disk takes, beside a bare file written in groups of the same size.
fn throughput(dir: &Path) {
    println!("\nFull load: batches of {BATCH} events, as many as are taken");
    println!(
        "{:<26}{:>11}{:>10}{:>11}{:>24}{:>11}{:>13}{:>9}",
        "", "events/s", "CPU µs/ev", "group KiB", "sync ms p50/p99/max", "written/B", "bare ev/s", "of bare"
    );
    let (mut opened, payloads) = (None, Payloads(vec![7; PAYLOAD_BYTES]));
    for (group_bytes_max, reserve_bytes) in
        [(256 << 10, 0), (256 << 10, 4 << 20), (1 << 20, 0), (1 << 20, 4 << 20), (4 << 20, 4 << 20)]
    {
        let rig = rig(dir, reserve_bytes, group_bytes_max);
        let (started, cpu_started) = (Instant::now(), cpu());
        let stop = AtomicBool::new(false);
        let mut syncs = Histogram::<u64>::new(3).unwrap();
        thread::scope(|scope| {
            for _ in 0..PRODUCERS {
                scope.spawn(|| produce(&rig, &payloads, &stop));
            }
            while started.elapsed() < RUN {
                thread::park_timeout(Duration::from_millis(100));
                for sample in rig.commit.drain_samples() {
                    syncs.record(sample.sync_nanos).unwrap();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        rig.commit.shutdown();
        let (elapsed, cpu) = (started.elapsed(), cpu() - cpu_started);
        let stats = rig.commit.stats();
        let group_bytes = stats.bytes_written / stats.groups;
        let rate = stats.events as f64 / elapsed.as_secs_f64();
        opened = Some(opening(dir));
        let useful = stats.events * (PAYLOAD_BYTES + TOPIC.len()) as u64;
        drop(rig);
        let (bare, _) = bare_file(dir, group_bytes as usize, RUN);
        let bare_rate = bare * stats.events as f64 / stats.groups as f64;
        println!(
            "{:<26}{:>11.0}{:>10.3}{:>11.0}{:>24}{:>11.2}{:>13.0}{:>8.0}%",
            format!(
                "max {} KiB, {} reserved",
                group_bytes_max >> 10,
                if reserve_bytes > 0 { "4 MiB" } else { "none" }
            ),
            rate,
            cpu.as_secs_f64() * 1e6 / stats.events as f64,
            group_bytes as f64 / 1024.0,
            quantiles(&syncs, 1e6, 2),
            stats.bytes_written as f64 / useful as f64,
            bare_rate,
            rate / bare_rate * 100.0,
        );
    }
    if let Some((took, bytes, segments)) = opened {
        println!("opening {} MiB in {segments} segments: {:.0} ms", bytes >> 20, took.as_secs_f64() * 1e3);
    }
}

/// How long it takes to open what is there, and how much that is.
fn opening(dir: &Path) -> (Duration, u64, usize) {
    let started = Instant::now();
    let (_, report) = SegmentsLog::open(dir, SegmentsOptions::default()).unwrap();
    (started.elapsed(), report.bytes, report.segments)
}

/// One producer, one event at a time: from submitting to holding the receipt.
fn light_load(dir: &Path) {
    println!("\nLight load: one event at a time, from submit to receipt");
    println!("{:<26}{:>24}{:>28}", "", "µs p50/p99/max", "bare fdatasync µs p50/p99/max");
    let payload = [7; PAYLOAD_BYTES];
    for reserve_bytes in [0, 4 << 20, 0, 4 << 20] {
        let rig = rig(dir, reserve_bytes, 1 << 20);
        let mut staging = Staging::new();
        let mut latencies = Histogram::<u64>::new(3).unwrap();
        let (waker, mut last) = (unparker(), None);
        let started = Instant::now();
        let mut frame_bytes = 0;
        while started.elapsed() < RUN / 2 {
            staging.push_event(&event(&payload)).unwrap();
            frame_bytes = staging.byte_len() + 40;
            let submitted = Instant::now();
            let ticket = submit(&rig.commit, &mut staging, &waker, last);
            rig.wait_for(ticket);
            latencies.record(submitted.elapsed().as_nanos() as u64).unwrap();
            last = Some(ticket);
        }
        drop(rig);
        let (_, bare) = bare_file(dir, frame_bytes, RUN / 2);
        println!(
            "{:<26}{:>24}{:>28}",
            format!("{} reserved", if reserve_bytes > 0 { "4 MiB" } else { "none" }),
            quantiles(&latencies, 1e3, 0),
            quantiles(&bare, 1e3, 0),
        );
    }
}

/// Group commit over files that reserve this much space ahead.
fn rig(dir: &Path, reserve_bytes: u64, group_bytes_max: usize) -> Rig {
    let segments = SegmentsOptions { reserve_bytes, ..SegmentsOptions::default() };
    Rig::new(dir, segments, GroupCommitOptions { group_bytes_max, ..GroupCommitOptions::default() })
}

fn fill(staging: &mut Staging, payload: &[u8]) {
    for _ in 0..BATCH {
        staging.push_event(&event(payload)).unwrap();
    }
}

/// Appends and syncs on a bare file for a while: how many per second, and how long each took.
fn bare_file(dir: &Path, bytes: usize, run: Duration) -> (f64, Histogram<u64>) {
    std::fs::create_dir_all(dir).unwrap();
    let path = dir.join("bare");
    let file = File::create(&path).unwrap();
    let buffer = vec![7; bytes];
    let mut latencies = Histogram::<u64>::new(3).unwrap();
    let (started, mut at) = (Instant::now(), 0);
    while started.elapsed() < run {
        let begun = Instant::now();
        file.write_all_at(&buffer, at).unwrap();
        file.sync_data().unwrap();
        latencies.record(begun.elapsed().as_nanos() as u64).unwrap();
        at += bytes as u64;
    }
    let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_dir_all(dir).unwrap();
    (rate, latencies)
}

fn nanos_per(started: Duration, count: u64) -> f64 {
    (cpu() - started).as_nanos() as f64 / count as f64
}

fn quantiles(histogram: &Histogram<u64>, unit: f64, digits: usize) -> String {
    [0.5, 0.99, 1.0]
        .map(|quantile| format!("{:.digits$}", histogram.value_at_quantile(quantile) as f64 / unit))
        .join(" / ")
}

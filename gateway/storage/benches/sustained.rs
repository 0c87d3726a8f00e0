//! What compression costs and saves, and whether the log holds its rate for as long as it runs.
//!
//! The long run stands beside bare files that are appended to and synced in groups of the same size, in slices that take
//! turns, on the same file system. Both keep 1 GiB in files of 128 MiB and remove the oldest, because that decides what a
//! byte costs: a virtual machine writes into pages of its cache that it has used before at several GB/s, and into new
//! ones, which the host has to find first, at about a tenth of that. Environment: `BENCH_DIR` says where the files go (without
//! it, the system's temporary directory), `SUSTAINED_SECS` how long the long run takes (20), `GROUP_KIB` how large a
//! group may grow (the default of group commit), `COMPRESSION=lz4` what becomes of groups in the long run.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark is a program for people: it prints, and it may stop at the first error"
)]

mod common;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{PAYLOAD_BYTES, PRODUCERS, Payloads, Rig, TOPIC, cpu, produce};
use gateway_storage::{CommitStats, Compression, GroupCommitOptions, Offset, SegmentsOptions};

/// Different payloads: a megabyte of them, so that repeating them does not help LZ4 with its window of 64 KiB.
const PAYLOADS: usize = 4096;
const LIVE_BYTES: u64 = 1 << 30;
const SLICE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(200);

fn main() {
    // Cargo passes arguments of its own; this program takes none.
    let number = |name, default| std::env::var(name).map_or(default, |value| value.parse::<u64>().unwrap());
    let base = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("sustained-bench-{}", std::process::id()));
    let default = GroupCommitOptions::default();
    let group_bytes_max = number("GROUP_KIB", default.group_bytes_max as u64 >> 10) as usize * 1024;
    let compression = match std::env::var("COMPRESSION").as_deref() {
        Ok("lz4") => Compression::Lz4,
        _ => Compression::None,
    };
    let options = GroupCommitOptions { group_bytes_max, compression, ..default };
    println!(
        "{PAYLOAD_BYTES}-byte payloads, {PRODUCERS} producers, groups of at most {} KiB, files in {}",
        group_bytes_max >> 10,
        base.display()
    );
    compressions(&dir, options);
    sustained(&dir, options, Duration::from_secs(number("SUSTAINED_SECS", 20)));
}

/// None and LZ4 in turns, on payloads that can be compressed and on payloads that cannot.
fn compressions(dir: &Path, options: GroupCommitOptions) {
    println!(
        "\n{:<18}{:>11}{:>11}{:>11}{:>12}{:>13}{:>13}",
        "Compression", "events/s", "CPU µs/ev", "of it user", "written/B", "read µs/ev", "faults/kev"
    );
    for (name, payloads) in [("JSON", json()), ("random", random())] {
        for compression in [Compression::None, Compression::Lz4, Compression::None, Compression::Lz4] {
            let rig =
                Rig::new(dir, SegmentsOptions::default(), GroupCommitOptions { compression, ..options });
            // The first groups fault their memory in; what is asked for is how it goes on.
            slice(&rig, &payloads, SLICE / 4, || ());
            let usage = Usage::now();
            let run = slice(&rig, &payloads, SLICE, || ());
            let used = usage.until_now();
            let events = run.events as f64;
            println!(
                "{:<18}{:>11.0}{:>11.3}{:>11.3}{:>12.2}{:>13.3}{:>13.1}",
                format!("{name}, {compression:?}"),
                run.rate(),
                micros_each(used.cpu, run.events),
                micros_each(used.user, run.events),
                run.bytes_written as f64 / (events * useful_bytes()),
                read_back(&rig),
                used.faults as f64 / events * 1000.0,
            );
        }
    }
}

/// Microseconds of processor time for an event that is read back in pages of 1 MiB.
fn read_back(rig: &Rig) -> f64 {
    let (started, mut from, mut events) = (cpu(), rig.reader.bounds().0, 0);
    while let Some(page) = rig.reader.read_page(from, 1 << 20).unwrap().filter(|_| events < 500_000) {
        events += page.batch.len();
        from = page.next;
    }
    (cpu() - started).as_secs_f64() * 1e6 / events as f64
}

/// Group commit with trimming and the bare file in turns, for as long as asked.
fn sustained(dir: &Path, options: GroupCommitOptions, run: Duration) {
    println!("\nSustained, {} s, {:?}: 1 GiB live, the rest is trimmed", run.as_secs(), options.compression);
    println!(
        "{:>6}{:>11}{:>11}{:>9}{:>11}{:>11}{:>11}{:>10}{:>10}{:>11}",
        "s",
        "events/s",
        "bare ev/s",
        "of bare",
        "CPU µs/ev",
        "of it user",
        "bare CPU",
        "RSS MiB",
        "log MiB",
        "group KiB"
    );
    let log = dir.join("log");
    let rig = Rig::new(&log, SegmentsOptions::default(), options);
    let payloads = json();
    let (mut live, mut bare) = (Live::default(), Bare::new(dir.join("bare")));
    while rig.commit.stats().bytes_written < LIVE_BYTES + LIVE_BYTES / 4 {
        slice(&rig, &payloads, SLICE / 4, || live.trim(&rig));
        bare.append(options.group_bytes_max, LIVE_BYTES / 4 / options.group_bytes_max as u64);
    }
    let (started, mut total, mut bare_seconds, mut written, mut used) =
        (Instant::now(), Slice::default(), 0.0, 0, Usage::default());
    let mut memory = vec![resident_mib()];
    while started.elapsed() < run {
        let (usage, io) = (Usage::now(), write_bytes());
        let slice = slice(&rig, &payloads, SLICE, || live.trim(&rig));
        let slice_used = usage.until_now();
        written += write_bytes() - io;
        let group_bytes = slice.bytes_written / slice.groups;
        // As many groups of the same size, so that both write the same bytes.
        let usage = Usage::now();
        let seconds = bare.append(group_bytes as usize, slice.groups);
        let bare_used = usage.until_now();
        println!(
            "{:>6.0}{:>11.0}{:>11.0}{:>8.0}%{:>11.3}{:>11.3}{:>11.3}{:>10}{:>10}{:>11}",
            started.elapsed().as_secs_f64(),
            slice.rate(),
            slice.events as f64 / seconds,
            seconds / slice.seconds * 100.0,
            micros_each(slice_used.cpu, slice.events),
            micros_each(slice_used.user, slice.events),
            micros_each(bare_used.cpu, slice.events),
            resident_mib(),
            rig.commit.stats().log_bytes >> 20,
            group_bytes >> 10,
        );
        memory.push(resident_mib());
        bare_seconds += seconds;
        total = total.and(&slice);
        used = used.and(&slice_used);
    }
    let events = total.events as f64;
    println!(
        "all: {:.0} events/s, {:.0} % of the bare files, {:.3} µs of CPU each; {:.2} bytes written for a byte by group \
         commit, {:.2} by the process",
        total.rate(),
        bare_seconds / total.seconds * 100.0,
        micros_each(used.cpu, total.events),
        total.bytes_written as f64 / (events * useful_bytes()),
        written as f64 / (events * useful_bytes()),
    );
    let middle = memory.get(memory.len() / 2).copied().unwrap_or_default();
    println!(
        "resident MiB at start, middle, end: {} / {middle} / {}; {} files trimmed",
        memory.first().copied().unwrap_or_default(),
        memory.last().copied().unwrap_or_default(),
        live.segments,
    );
    let before = on_disk_mib(&log);
    let drained = rig.commit.trim(rig.reader.bounds().1).unwrap();
    println!(
        "MiB on disk: {before}, and {} when everything is trimmed ({} files)",
        on_disk_mib(&log),
        drained.segments
    );
    drop(rig);
    fs::remove_dir_all(dir).unwrap();
}

/// The JSON of a device: the same keys in each, values that differ.
fn json() -> Payloads {
    let mut random = numbers();
    let mut bytes = Vec::new();
    for sequence in 0..PAYLOADS {
        let mut next = |below: u64| random.next().unwrap_or_default() % below;
        let start = bytes.len();
        let json = format!(
            "{{\"device\":\"pump-{:04}\",\"sequence\":{},\"time\":\"2026-01-01T{:02}:{:02}:{:02}.{:03}Z\",\
             \"pressure_bar\":{}.{:04},\"temperature_c\":{}.{:02},\"vibration\":[{},{},{}],\"state\":\"{}\",\
             \"firmware\":\"4.12.1\",\"battery\":{},\"rssi\":-{}",
            next(10_000),
            1_000_000 + sequence,
            next(24),
            next(60),
            next(60),
            next(1000),
            next(9),
            next(10_000),
            next(90),
            next(100),
            next(1000),
            next(1000),
            next(1000),
            ["running", "idle", "starting"].get(next(3) as usize).unwrap_or(&"running"),
            next(101),
            30 + next(60),
        );
        bytes.extend_from_slice(json.as_bytes());
        bytes.resize(start + PAYLOAD_BYTES - 1, b' ');
        bytes.push(b'}');
    }
    Payloads(bytes)
}

/// What cannot be compressed.
fn random() -> Payloads {
    Payloads(numbers().flat_map(u64::to_le_bytes).take(PAYLOADS * PAYLOAD_BYTES).collect())
}

/// The same numbers in every run: a xorshift generator.
fn numbers() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0x2545_f491_4f6c_dd1d_u64), |x| {
        let x = x ^ (x << 13);
        let x = x ^ (x >> 7);
        Some(x ^ (x << 17))
    })
}

/// What group commit did for a while.
#[derive(Default)]
struct Slice {
    events: u64,
    groups: u64,
    bytes_written: u64,
    seconds: f64,
}

impl Slice {
    fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            events: self.events + other.events,
            groups: self.groups + other.groups,
            bytes_written: self.bytes_written + other.bytes_written,
            seconds: self.seconds + other.seconds,
        }
    }
}

/// As much as is taken in `duration`, until all of it is durable; `tick` is called five times a second.
fn slice(rig: &Rig, payloads: &Payloads, duration: Duration, mut tick: impl FnMut()) -> Slice {
    let (started, before) = (Instant::now(), rig.commit.stats());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| produce(rig, payloads, &stop));
        }
        while started.elapsed() < duration {
            thread::park_timeout(TICK);
            rig.commit.drain_samples();
            tick();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let CommitStats { events, groups, bytes_written, .. } = rig.commit.stats();
    Slice {
        events: events - before.events,
        groups: groups - before.groups,
        bytes_written: bytes_written - before.bytes_written,
        seconds: started.elapsed().as_secs_f64(),
    }
}

/// Trims what lies more than [`LIVE_BYTES`] behind the end.
#[derive(Default)]
struct Live {
    /// Offsets seen at the end, and the bytes that had been written up to them.
    seen: VecDeque<(Offset, u64)>,
    segments: u64,
}

impl Live {
    fn trim(&mut self, rig: &Rig) {
        let written = rig.commit.stats().bytes_written;
        self.seen.push_back((rig.reader.bounds().1, written));
        while let Some((next, bytes)) = self.seen.get(1).copied()
            && bytes + LIVE_BYTES < written
        {
            self.seen.pop_front();
            self.segments += rig.commit.trim(next).unwrap().segments;
        }
    }
}

/// Bare files that keep what the log keeps: the last [`LIVE_BYTES`], in files of the same size.
struct Bare {
    dir: PathBuf,
    files: VecDeque<(PathBuf, File)>,
    begun: u64,
    /// Bytes of the last one.
    at: u64,
}

impl Bare {
    fn new(dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).unwrap();
        Self { dir, files: VecDeque::new(), begun: 0, at: u64::MAX }
    }

    /// Seconds that it takes to append and sync so many groups of so many bytes. Files come and go off the clock.
    fn append(&mut self, bytes: usize, groups: u64) -> f64 {
        let (buffer, mut took) = (vec![7; bytes], Duration::ZERO);
        for _ in 0..groups {
            if self.at >= SegmentsOptions::default().segment_bytes {
                self.begin();
            }
            let (_, file) = self.files.back().unwrap();
            let started = Instant::now();
            file.write_all_at(&buffer, self.at).unwrap();
            file.sync_data().unwrap();
            took += started.elapsed();
            self.at += bytes as u64;
        }
        took.as_secs_f64()
    }

    fn begin(&mut self) {
        let path = self.dir.join(self.begun.to_string());
        let file = File::create(&path).unwrap();
        self.files.push_back((path, file));
        (self.begun, self.at) = (self.begun + 1, 0);
        if self.files.len() as u64 > LIVE_BYTES / SegmentsOptions::default().segment_bytes + 1
            && let Some((path, _)) = self.files.pop_front()
        {
            fs::remove_file(path).unwrap();
        }
        File::open(&self.dir).unwrap().sync_all().unwrap();
    }
}

/// What the process has used: processor time, the part of it outside of the system, and page faults.
#[derive(Default)]
struct Usage {
    cpu: Duration,
    user: Duration,
    faults: u64,
}

impl Usage {
    fn now() -> Self {
        // Linux counts these in hundredths of a second, whatever its own clock.
        let user = Duration::from_millis(10 * field("/proc/self/stat", 13));
        Self { cpu: cpu(), user, faults: field("/proc/self/stat", 9) }
    }

    fn until_now(&self) -> Self {
        let now = Self::now();
        Self { cpu: now.cpu - self.cpu, user: now.user - self.user, faults: now.faults - self.faults }
    }

    fn and(&self, other: &Self) -> Self {
        let (cpu, user) = (self.cpu + other.cpu, self.user + other.user);
        Self { cpu, user, faults: self.faults + other.faults }
    }
}

/// The number at this place among the words of a file.
fn field(path: &str, place: usize) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace().nth(place).and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn resident_mib() -> u64 {
    field("/proc/self/statm", 1) * 4 / 1024
}

/// Bytes this process has caused to be written to disks; 0 where the system does not count them.
fn write_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

fn on_disk_mib(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum::<u64>() >> 20
}

fn micros_each(time: Duration, events: u64) -> f64 {
    time.as_secs_f64() * 1e6 / events as f64
}

fn useful_bytes() -> f64 {
    (PAYLOAD_BYTES + TOPIC.len()) as f64
}

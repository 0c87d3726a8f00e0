//! The power fails under load: what is found on the disk afterwards is what was synced, and of the rest whatever
//! chance kept. The view, which is never synced, is found as it was some time ago, or cut short, or not at all.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gateway_storage::log::segments::disk::RealDisk;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Load;
use crate::lab::disk::LabDisk;
use crate::lab::{InProcess, config, copy, earliest, logs, pause, trims};
use crate::traffic::{Traffic, slots};

const PUBLISHERS: u32 = 20;
const EVENTS_PER_SECOND: u32 = 3_000;
/// From the first publish to the cut, in milliseconds.
const ALIVE_MS: std::ops::Range<u64> = 250..1_000;
/// The same where the log is to be trimmed meanwhile, which is looked at every second and waits for a checkpoint.
const ALIVE_TRIMMING_MS: std::ops::Range<u64> = 2_200..4_200;
/// `storage.interval_ms` where acknowledgements do not wait for a sync.
const INTERVAL: Duration = Duration::from_millis(50);
/// What a thread may be late on a machine that has other things to do.
const LATE: Duration = Duration::from_millis(100);

/// What is found of the view.
#[derive(Clone, Copy, Debug)]
enum ViewFate {
    Earlier,
    Truncated,
    Missing,
}

/// One cut and what came back.
struct Cut {
    seed: u64,
    sets: Vec<String>,
    /// The log is trimmed meanwhile, so the stream begins in the middle.
    trimmed: bool,
}

impl Cut {
    fn new(load: &Load, number: u32, durability: &str) -> Self {
        let seed = load.seed.wrapping_add(u64::from(number));
        let trimmed = number % 2 == 1;
        let sets = vec![
            format!("storage.durability={durability}"),
            format!("storage.interval_ms={}", INTERVAL.as_millis()),
            "storage.view_save_interval_ms=100".to_owned(),
        ];
        Self { seed, sets, trimmed }
    }

    /// Runs it. `window`: acknowledgements that young are allowed to be lost; None: none are.
    fn run(&self, window: Option<Duration>) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let dir = tempfile::tempdir().expect("a directory");
        let (data, found) = (dir.path().join("data"), dir.path().join("found"));
        let disk = LabDisk::default();
        disk.set_sync_time(Duration::from_micros(rng.random_range(0..5_000)));
        let mut lab = config(&data, &self.sets.iter().map(|set| &**set).collect::<Vec<_>>());
        // Smaller than may be configured: files are begun, sealed and removed all the time.
        lab.storage.segment_bytes = if self.trimmed { 32 << 10 } else { 128 << 10 };
        if self.trimmed {
            // 3,000 events/s are half a megabyte each second.
            lab.storage.max_bytes = 1 << 20;
            lab.streams.iter_mut().for_each(|stream| stream.max_bytes = 128 << 10);
        }
        let gateway = InProcess::start(lab.clone(), Arc::new(disk.clone())).expect("it starts");
        let mut traffic = Traffic::begin(gateway.mqtt, PUBLISHERS, EVENTS_PER_SECOND);
        let alive = if self.trimmed && trims() { ALIVE_TRIMMING_MS } else { ALIVE_MS };
        let alive = Duration::from_millis(rng.random_range(alive));
        let view_age = alive.mul_f64(rng.random_range(0.0..0.5));
        pause(alive - view_age);
        copy(&data.join("view"), &found.join("view"));
        pause(view_age);
        let wreck = disk.cut_power();
        let cut_at = Instant::now();
        traffic.stop_connecting();
        gateway.stop();
        let acknowledged = traffic.abort();
        let due = match window {
            None => acknowledged.clone(),
            Some(window) => {
                let before = cut_at - window - disk.longest_sync() - LATE;
                let mut due: Vec<u32> =
                    traffic.acknowledged.iter().map(|moments| moments.count_before(before)).collect();
                due.resize(slots(PUBLISHERS), 0);
                due
            }
        };

        let salvage = wreck.salvage(&data, &found, None, &mut rng);
        let view = [ViewFate::Earlier, ViewFate::Truncated, ViewFate::Missing][rng.random_range(0..3)];
        ruin_view(&found.join("view"), view, &mut rng);
        lab.storage.data_dir.clone_from(&found);
        // There is room for the last event of all.
        lab.storage.max_bytes = 1 << 30;
        let starting = Instant::now();
        let mark = logs::mark();
        let gateway =
            InProcess::start(lab, Arc::new(RealDisk)).unwrap_or_else(|error| panic!("{salvage}: {error}"));
        let started = starting.elapsed();
        let books = traffic.read_back(gateway.mqtt, self.trimmed);
        let total: u32 = acknowledged.iter().sum();
        let earliest = earliest(&found.join("log"));
        eprintln!(
            "power cut, seed {}: after {alive:.0?}, {total} acknowledged, lost {:?}; the log begins at {earliest}; {salvage}; view \
             {view:?}, {view_age:.0?} old; ready in {started:.0?}; {} alarms",
            self.seed,
            books.lost(&acknowledged),
            logs::since(mark, |line| line.contains(" ERROR ")).len(),
        );
        assert!(total > 100, "next to nothing was published: this run says little");
        books.assert_complete(&due);
        let retransmitted = traffic.counts.retransmitted.load(Ordering::Relaxed);
        assert!(books.stream.look().0.duplicates <= retransmitted, "in the log twice");
        gateway.stop();
    }
}

fn ruin_view(view: &Path, fate: ViewFate, rng: &mut ChaCha8Rng) {
    match fate {
        ViewFate::Earlier => {}
        ViewFate::Missing => {
            let _ = fs::remove_dir_all(view);
        }
        ViewFate::Truncated => {
            let file = fs::OpenOptions::new().write(true).open(view.join("db"));
            if let Ok(file) = file {
                let len = file.metadata().unwrap().len();
                file.set_len(rng.random_range(0..=len)).unwrap();
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails() {
    let _shown = logs::ShownOnFailure;
    let load = Load::from_environment();
    for number in 0..load.cuts {
        Cut::new(&load, number, "fsync").run(None);
    }
}

#[test]
fn no_more_than_the_interval_is_lost_when_the_power_fails() {
    let _shown = logs::ShownOnFailure;
    let load = Load::from_environment();
    for number in 0..load.cuts.div_ceil(2) {
        Cut::new(&load, number, "interval").run(Some(INTERVAL));
    }
}

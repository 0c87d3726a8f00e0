//! A file system that is really full, under the real program: publishers are not acknowledged, who reads goes on
//! reading, `/readyz` says why, and once there is space again everything goes on by itself.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gateway_tests::{Gateway, GatewayOptions, readiness, wait};
use tempfile::TempDir;

use crate::lab::{known, pause};
use crate::tally::Tally;
use crate::traffic::{Traffic, slots};

const PUBLISHERS: u32 = 20;
const EVENTS_PER_SECOND: u32 = 2_000;
/// Small files, so that little is reserved ahead of what is written.
const SETS: [&str; 6] = [
    // With it intake would be slowed before the file system is full.
    "admission.ladder=false",
    "mqtt.max_packet_bytes=64KiB",
    "storage.group_bytes_max=256KiB",
    "storage.segment_bytes=1MiB",
    "storage.view_save_interval_ms=500",
    "storage.reserve_bytes=4MiB",
];
/// Of the file system, and what is left of it when the disk is about to be full.
const SIZE: u64 = 96 << 20;
const LEFT: u64 = 256 << 10;
/// Until the rest is used up.
const FULL: Duration = Duration::from_secs(30);
/// How long it stays full.
const FULL_FOR: Duration = Duration::from_secs(3);
/// From space to acknowledgements.
const RESUMED: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_secs(20);
/// Set in the process that may mount, when this one may not.
const IN_NAMESPACE: &str = "GATEWAY_TEST_MAY_MOUNT";
const NAME: &str = "full_disk::a_full_file_system_stops_intake_and_nothing_else";

/// A small file system.
struct Small {
    dir: TempDir,
}

impl Small {
    /// None if this process may not mount one.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let size = format!("size={SIZE}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Fills it up except for [`LEFT`]. The file that does it.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).unwrap();
        let block = vec![1; LEFT as usize];
        let mut written: u64 = 0;
        loop {
            match file.write_all(&block) {
                Ok(()) => written += LEFT,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("filling the file system: {error}"),
            }
        }
        file.set_len(written.saturating_sub(LEFT)).unwrap();
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: the program may still be on its way out. Were it to fail, the directory would stay behind, and its
        // memory with it.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path().display());
        }
    }
}

#[test]
fn a_full_file_system_stops_intake_and_nothing_else() {
    match Small::mount() {
        Some(small) => run(&small),
        None if std::env::var_os(IN_NAMESPACE).is_none() => {
            // Root of its own namespace may mount.
            let test = std::env::current_exe().expect("the running test has a path");
            let again = Command::new("unshare")
                .args(["--map-root-user", "--mount"])
                .arg(test)
                .args(["--exact", NAME, "--nocapture"])
                .env(IN_NAMESPACE, "1")
                .status();
            match again {
                Ok(status) if status.success() => {}
                Ok(status) if status.code() == Some(101) => panic!("it failed in its namespace, see above"),
                other => eprintln!(
                    "SKIPPED {NAME}: this user may neither mount a tmpfs nor make a namespace to mount it in ({other:?})"
                ),
            }
        }
        None => eprintln!("SKIPPED {NAME}: not even root of a namespace may mount a tmpfs"),
    }
}

fn run(small: &Small) {
    let sets = known(&SETS);
    let data_dir = Some(small.path().join("data"));
    let mut gateway = Gateway::start_with(GatewayOptions { sets, data_dir, on_unassigned_ports: true });
    let mut traffic = Traffic::begin(gateway.mqtt(), PUBLISHERS, EVENTS_PER_SECOND);
    let acknowledged = |traffic: &Traffic| traffic.counts.acknowledged.load(Ordering::Relaxed);
    wait::until("the first acknowledgements", STEP, || (acknowledged(&traffic) > 1_000).then_some(()));

    let filler = small.fill();
    let filled = Instant::now();
    // There may be a word of warning before, when there is not enough for the view any more.
    let failed = |reasons: &String| reasons.contains("storage failed");
    let reasons = wait::until("/readyz knows", FULL, || readiness(gateway.admin()).err().filter(failed));
    assert!(reasons.contains("space") || reasons.contains("full"), "/readyz says {reasons}");
    let full_after = filled.elapsed();
    let before = acknowledged(&traffic);
    pause(FULL_FOR);
    let trickle = acknowledged(&traffic) - before;
    // Beginning anew frees what was reserved, which takes a few more events.
    let nominal = u64::from(EVENTS_PER_SECOND) * FULL_FOR.as_secs();
    assert!(trickle < nominal / 2, "{trickle} events acknowledged on a full disk");

    // What is stored can be read.
    let stored = traffic.acknowledged_now();
    let reading = Instant::now();
    let stream = traffic.read_stream(gateway.mqtt(), Tally::new(slots(PUBLISHERS)));
    for (who, ledger) in
        [("the durable subscriber", &traffic.backend), ("a new reader of the stream", &stream)]
    {
        wait::until(&format!("{who} drains"), STEP, || ledger.look().0.has_reached(&stored).then_some(()));
    }
    let read = reading.elapsed();

    fs::remove_file(filler).unwrap();
    let freed = Instant::now();
    let before = acknowledged(&traffic);
    wait::until("intake goes on", STEP, || (acknowledged(&traffic) > before + 100).then_some(()));
    let resumed = freed.elapsed();
    wait::until("/readyz", STEP, || readiness(gateway.admin()).ok());
    assert!(resumed < RESUMED, "intake took {resumed:.1?} to go on");
    traffic.finish(STEP);
    traffic.stop_connecting();
    gateway.kill();
    let published = traffic.abort();
    let start = gateway.restart();
    let books = traffic.read_back(gateway.mqtt(), false);
    let (stream, _) = &*books.stream.look();
    eprintln!(
        "full disk: /readyz said so after {full_after:.1?}; {trickle} events acknowledged in {FULL_FOR:?} meanwhile; stored events \
         read in {read:.1?}; went on after {resumed:.1?}; {} events in all, lost {:?}; restarted in {start:.1?}; {reasons}",
        published.iter().sum::<u32>(),
        (books.backend.look().0.lost(&published), stream.lost(&published)),
    );
    books.backend.look().0.assert_complete("the durable subscriber", &published);
    stream.assert_complete("the stream", &published);
    let panics = gateway.said(|line| line.contains("panicked"));
    assert!(panics.is_empty(), "{panics:#?}");
    gateway.kill();
}

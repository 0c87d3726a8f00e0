//! A file system that is really full, under the real program: publishers are not acknowledged, who reads goes on
//! reading, `/readyz` says why, and once there is space again everything goes on by itself.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gateway_tests::{Gateway, GatewayOptions, SmallDisk, readiness, wait, where_mounting_is_allowed};

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
const NAME: &str = "full_disk::a_full_file_system_stops_intake_and_nothing_else";

#[test]
fn a_full_file_system_stops_intake_and_nothing_else() {
    where_mounting_is_allowed(NAME, || run(&SmallDisk::mount(SIZE).expect("one was mounted already")));
}

fn run(small: &SmallDisk) {
    let sets = known(&SETS);
    let data_dir = Some(small.path().join("data"));
    let mut gateway = Gateway::start_with(GatewayOptions { sets, data_dir, on_unassigned_ports: true });
    let mut traffic = Traffic::begin(gateway.mqtt(), PUBLISHERS, EVENTS_PER_SECOND);
    let acknowledged = |traffic: &Traffic| traffic.counts.acknowledged.load(Ordering::Relaxed);
    wait::until("the first acknowledgements", STEP, || (acknowledged(&traffic) > 1_000).then_some(()));

    let filler = small.fill(LEFT);
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

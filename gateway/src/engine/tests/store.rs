//! The engine on segments, sled and checkpoints: what is trimmed, who holds it, and what a restart finds afterwards.

use super::*;
use gateway_storage::{LogKind, SegmentsOptions, StoreOptions, recovery};
use std::cell::Cell;
use std::fs;

const SEGMENT_BYTES: u64 = 4096;
pub(super) const YEAR_MS: u64 = 365 * 86_400_000;

/// How an engine on files is run.
pub(super) struct Setup {
    pub(super) streams: Vec<StreamOptions>,
    pub(super) rules: Rules,
    pub(super) max_bytes: u64,
    pub(super) letters_max_age_ms: u64,
}

impl Default for Setup {
    fn default() -> Self {
        let stream = StreamOptions { max_age_ms: 100 * YEAR_MS, ..stream("telemetry", "devices/#") };
        Self { streams: vec![stream], rules: RULES, max_bytes: u64::MAX, letters_max_age_ms: 30 * 86_400_000 }
    }
}

/// An engine on files.
pub(super) struct Files {
    hands: Hands,
    dir: tempfile::TempDir,
    /// What upkeep takes for the time: each turn is long after the one before.
    pub(super) now_ms: Cell<u64>,
}

impl Deref for Files {
    type Target = Hands;

    fn deref(&self) -> &Hands {
        &self.hands
    }
}

impl Files {
    pub(super) fn new(setup: Setup) -> Self {
        Self::open(tempfile::tempdir().unwrap(), setup)
    }

    fn open(dir: tempfile::TempDir, setup: Setup) -> Self {
        let segments = SegmentsOptions { segment_bytes: SEGMENT_BYTES, reserve_bytes: 0 };
        let store_options =
            StoreOptions { log: LogKind::Segments(segments), reserve_bytes: 0, ..StoreOptions::default() };
        let store = recovery::open(dir.path(), store_options).unwrap();
        let mut options = options(setup.streams, setup.rules);
        options.segment_bytes = SEGMENT_BYTES;
        options.recent_bytes = 0;
        options.commit.max_bytes = setup.max_bytes;
        options.letters_max_age_ms = setup.letters_max_age_ms;
        let engine =
            Engine::start(store.log, store.view, store.checkpoints, store.reserve, options, Box::new(|_| {}));
        Self { hands: Hands::on(engine.unwrap()), dir, now_ms: Cell::new(crate::clock::unix_ms()) }
    }

    pub(super) fn restart(self, keep_view: bool, setup: Setup) -> Self {
        self.engine.shutdown();
        let Self { hands, dir, .. } = self;
        drop(hands);
        if !keep_view {
            fs::remove_dir_all(dir.path().join("view")).unwrap();
        }
        Self::open(dir, setup)
    }

    /// Publishes `count` events of 200 bytes, ten in each group.
    pub(super) fn publish(&self, topic: &str, count: usize) {
        let Entry::Event(event) = event(topic) else { unreachable!() };
        let group = [Entry::Event(Event { payload: &[7; 200], ..event }); 10];
        for _ in 0..count / 10 {
            self.commit(&group);
        }
    }

    /// Everything so far is in a checkpoint, and there is no other.
    pub(super) fn checkpoint(&self) {
        for _ in 0..2 {
            self.commit(&[event("nothing/wants/it")]);
            let end = self.engine.end();
            self.wait(|engine| engine.view.saved() == end);
            self.wait(|engine| {
                engine.view.try_checkpoint() && {
                    engine.view.wait_idle();
                    engine.checkpoints().newest == Some(end)
                }
            });
        }
    }

    /// One turn of upkeep.
    pub(super) fn retain(&self) -> RetentionReport {
        self.retain_after(6_000)
    }

    fn retain_after(&self, passed_ms: u64) -> RetentionReport {
        self.now_ms.set(self.now_ms.get() + passed_ms);
        self.engine.retain(self.now_ms.get());
        self.engine.view.wait_idle(); // A checkpoint may have been asked for.
        self.engine.retention()
    }

    fn acknowledge_all(&self, client_id: &str) {
        let end = self.engine.session(client_id).unwrap().end();
        let mut runs = AckRuns::default();
        (0..end).for_each(|sequence| runs.push(sequence));
        let mut bytes = Vec::new();
        runs.encode(&mut bytes);
        self.commit(&[Entry::Acknowledged { client_id, runs: &bytes }]);
    }

    fn segments(&self) -> usize {
        fs::read_dir(self.dir.path().join("log")).unwrap().count()
    }

    fn log_bytes(&self) -> u64 {
        self.engine.commit().stats().log_bytes
    }
}

#[test]
fn what_everybody_has_acknowledged_is_trimmed_once_checkpoints_cover_it() {
    let files = Files::new(Setup::default());
    files.commit(&[opened("a"), subscribed("a", "x/#"), opened("b"), subscribed("b", "x/#")]);
    files.publish("x/1", 200);
    let before = files.segments();
    files.acknowledge_all("a");
    files.checkpoint();
    let report = files.retain();
    assert_eq!((report.segments, report.holder), (0, Holder::Session("b".into())));

    files.acknowledge_all("b");
    let report = files.retain();
    assert_eq!(report.holder, Holder::Checkpoint, "its end is not covered yet");
    assert!(report.bytes > 40_000, "but what b had acknowledged is");
    files.checkpoint();
    let report = files.retain();
    assert!(files.segments() <= 2, "{} of {before}", files.segments());
    assert!(files.log_bytes() < 10_000);
    assert_eq!(report.earliest, files.engine.log().bounds().0);
}

#[test]
fn checkpoints_come_by_themselves_as_the_log_grows() {
    let files = Files::new(Setup::default());
    files.commit(&[opened("a"), subscribed("a", "x/#")]);
    assert_eq!(files.engine.checkpoints().newest, None);
    let mut largest = 0;
    for _ in 0..30 {
        files.publish("x/1", 100);
        files.acknowledge_all("a");
        let end = files.engine.end();
        files.wait(|engine| engine.view.saved() == end);
        files.retain();
        largest = largest.max(files.log_bytes());
    }
    assert!(files.engine.retention().bytes > 500_000);
    assert!(largest < 200_000, "it never has much more than what comes between checkpoints: {largest}");
}

#[test]
fn a_stream_keeps_its_events_for_as_long_as_it_is_told() {
    let stream = StreamOptions { max_age_ms: 3_600_000, ..stream("telemetry", "devices/#") };
    let files = Files::new(Setup { streams: vec![stream], ..Setup::default() });
    files.publish("devices/1", 100);
    files.checkpoint();
    let report = files.retain();
    assert_eq!((report.segments, report.holder), (0, Holder::Stream("telemetry".into())));
    assert_eq!(files.engine.stream_floor(0), Offset::ZERO);
    assert_eq!(files.engine.stream_usage()[0].2, 100);

    let end = files.engine.end();
    let report = files.retain_after(3_700_000);
    assert!(report.segments > 0);
    assert_eq!(files.engine.stream_floor(0), end, "what is too old is not read, wherever the segment ends");
    assert!(report.earliest < end);
    assert_eq!(files.engine.stream_usage()[0], ("telemetry".into(), 0, 0));
}

#[test]
fn a_stream_keeps_as_many_bytes_as_it_is_told_of_its_own_events_alone() {
    let small =
        |name, topics| StreamOptions { max_age_ms: 100 * YEAR_MS, max_bytes: 20_000, ..stream(name, topics) };
    let files = Files::new(Setup {
        streams: vec![small("rare", "rare/#"), small("much", "much/#")],
        ..Setup::default()
    });
    files.publish("rare/1", 10);
    files.publish("much/1", 400);
    files.checkpoint();
    let report = files.retain();
    assert_eq!(
        (report.segments, report.holder),
        (0, Holder::Stream("rare".into())),
        "events of others do not count"
    );
    let usage = files.engine.stream_usage();
    assert_eq!(usage[0].2, 10);
    assert!((19_000..=20_000).contains(&usage[1].1), "{usage:?}");
    assert!(files.engine.stream_floor(1) > Offset::ZERO);

    files.publish("rare/1", 200);
    files.checkpoint();
    let report = files.retain();
    assert!(report.segments > 0);
    assert!(report.earliest <= files.engine.stream_floor(1).min(files.engine.stream_floor(0)));
}

#[test]
fn a_restart_after_trimming_finds_everything_with_the_view_or_with_a_checkpoint() {
    for keep_view in [true, false] {
        let small = || StreamOptions {
            max_bytes: 10_000,
            max_age_ms: 100 * YEAR_MS,
            ..stream("telemetry", "devices/#")
        };
        let setup = || Setup { streams: vec![small()], ..Setup::default() };
        let files = Files::new(setup());
        let retained = |topic| match event(topic) {
            Entry::Event(event) => Entry::Event(Event { retain: true, ..event }),
            other => other,
        };
        files.commit(&[opened("a"), subscribed("a", "x/#"), retained("r/1")]);
        files.publish("devices/1", 200);
        files.publish("x/1", 100);
        files.acknowledge_all("a");
        files.publish("x/2", 20);
        files.checkpoint();
        assert!(files.retain().segments > 0);
        files.publish("x/3", 10);
        files.publish("devices/2", 10);
        let look = |files: &Files| {
            let retained = files.engine.retained(gateway_protocol::TopicFilter::parse("#").unwrap());
            let retained: Vec<_> = retained.iter().map(|message| message.event().topic.to_owned()).collect();
            let kept = files.engine.shared.table.streams.usage().get(0).cloned().unwrap();
            (files.backlog("a"), retained, kept.floor(10_000), kept.kept_from(kept.floor(10_000)))
        };
        let before = look(&files);
        assert_eq!((before.0.len(), before.1.as_slice()), (30, &["r/1".to_owned()][..]));
        assert!(before.2 > Offset::ZERO);

        let mut files = files;
        for _ in 0..2 {
            files = files.restart(keep_view, setup());
            assert_eq!(look(&files), before);
        }
        files.publish("x/4", 10);
        assert_eq!(files.backlog("a").last(), Some(&(139, "x/4".to_owned())), "sequences go on");
    }
}

#[test]
fn a_reference_to_a_retained_message_holds_nothing_and_is_answered_by_the_table() {
    let files = Files::new(Setup::default());
    let retained = |payload| match event("r/1") {
        Entry::Event(event) => Entry::Event(Event { retain: true, payload, ..event }),
        other => other,
    };
    files.commit(&[retained(b"old")]);
    files.publish("x/1", 200);
    files.commit(&[opened("a"), subscribed("a", "r/#")]);
    files.checkpoint();
    assert!(files.retain().segments > 0);
    let (_, offset) = pending(files.engine.chunks().as_ref(), &files.engine.session("a").unwrap())[0];
    assert!(offset < files.engine.log().bounds().0, "the log no longer has it");
    assert_eq!(files.engine.retained_at(offset).unwrap().event().payload, b"old");
    files.commit(&[retained(b"new")]);
    assert!(files.engine.retained_at(offset).is_none(), "replaced meanwhile");
}

#[test]
fn the_usage_of_a_stream_that_is_not_configured_any_more_is_forgotten() {
    let with = |name| Setup { streams: vec![stream(name, "devices/#")], ..Setup::default() };
    let files = Files::new(with("one"));
    files.publish("devices/1", 20);
    assert_eq!(files.engine.stream_usage()[0].2, 20);
    let files = files.restart(true, with("two"));
    assert_eq!(files.engine.stream_usage()[0].2, 0, "it counts from now on");
    files.publish("devices/1", 10);
    let files = files.restart(true, with("one"));
    assert_eq!(files.engine.stream_usage()[0].2, 0, "what it had went with a save");
    files.publish("devices/1", 10);
    assert_eq!(files.restart(true, with("one")).engine.stream_usage()[0].2, 10);
}

/// Publishes until the log has been filled many times over, with a turn of upkeep whenever it takes nothing. Whether it went on.
fn goes_on(files: &Files, topic: &str) -> bool {
    let Entry::Event(event) = event(topic) else { unreachable!() };
    let group = [Entry::Event(Event { payload: &[7; 200], ..event }); 10];
    for _ in 0..150 {
        let mut turns = 0;
        let ticket = loop {
            match files.submit(&group) {
                Ok(ticket) => break ticket,
                Err(error) => assert_eq!(error, SubmitError::LogFull),
            }
            turns += 1;
            if turns > 20 {
                return false;
            }
            files.retain();
            // A cut that this turn has submitted is applied before this is.
            files.commit(&[Entry::Unsubscribed { client_id: "nobody", filter: "x" }]);
        };
        files.wait(|engine| engine.receipt().is_some_and(|receipt| receipt.covers(ticket)));
        files.retain();
    }
    true
}

#[test]
fn a_log_that_is_nearly_full_is_held_by_sessions_only_as_far_as_the_rules_say() {
    for (when_full, expected) in
        [(WhenFull::DropOldest, true), (WhenFull::EndSession, true), (WhenFull::DropNewest, false)]
    {
        let rules = Rules { when_full, ..RULES };
        let rules = Rules { backlog: BacklogLimits { messages_max: 1_000_000, bytes_max: 1 << 30 }, ..rules };
        let files = Files::new(Setup { rules, max_bytes: 80_000, ..Setup::default() });
        files.commit(&[opened("slow"), subscribed("slow", "x/#"), opened("b"), subscribed("b", "elsewhere")]);
        assert_eq!(goes_on(&files, "x/1"), expected, "{when_full:?}");
        assert!(files.engine.session("b").is_some());
        match when_full {
            WhenFull::DropOldest => assert!(files.engine.session("slow").unwrap().state().backlog.low() > 0),
            WhenFull::EndSession => assert!(files.engine.session("slow").is_none()),
            WhenFull::DropNewest => {
                assert_eq!(files.engine.retention().holder, Holder::Session("slow".into()));
                assert_eq!(
                    files.engine.session("slow").unwrap().state().backlog.low(),
                    0,
                    "it keeps its messages"
                );
                files.acknowledge_all("slow");
                assert!(goes_on(&files, "y"), "there is room as soon as it has caught up");
            }
        }
    }
}

#[test]
fn a_stream_gives_way_before_events_are_refused_for_its_sake() {
    // It may keep more than the log has room for: so it is, in the end, with small events and much framing.
    let large =
        StreamOptions { max_bytes: 100_000, max_age_ms: 100 * YEAR_MS, ..stream("telemetry", "devices/#") };
    let files = Files::new(Setup { streams: vec![large], max_bytes: 80_000, ..Setup::default() });
    assert!(goes_on(&files, "devices/1"));
    let (_, bytes, events) = files.engine.stream_usage().remove(0);
    assert!(bytes > 20_000 && events > 50, "it keeps most of what there is room for: {bytes} bytes");
}

/// Flips a bit in the group that begins at `offset`.
fn damage(dir: &std::path::Path, offset: Offset) {
    for entry in fs::read_dir(dir.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let is_it = |frame: &[u8]| frame.starts_with(b"GWGR") && frame[16..24] == offset.get().to_le_bytes();
        if let Some(at) = bytes.windows(40).position(is_it) {
            bytes[at + 400] ^= 1;
            fs::write(path, bytes).unwrap();
            return;
        }
    }
    panic!("no group begins at {offset}");
}

#[test]
fn a_lost_part_of_the_log_costs_its_own_messages_and_no_acknowledgement_is_taken_for_another() {
    let mut files = Files::new(Setup::default());
    files.commit(&[opened("a"), subscribed("a", "x")]);
    let mut groups = Vec::new();
    for _ in 0..12 {
        groups.push(files.engine.end());
        files.publish("x", 10);
    }
    files.commit(&[acknowledged("a", &(0..70).collect::<Vec<_>>(), &mut Vec::new())]);
    files.engine.shutdown();
    let Files { hands, dir, .. } = files;
    drop(hands);
    // The third group is damaged, and the view has to be made from the log.
    damage(dir.path(), groups[2]);
    fs::remove_dir_all(dir.path().join("view")).unwrap();
    files = Files::open(dir, Setup::default());
    let left = |files: &Files| -> Vec<u64> {
        let session = files.engine.session("a").unwrap();
        pending(files.engine.chunks().as_ref(), &session)
            .into_iter()
            .map(|(_, offset)| offset.get())
            .collect()
    };
    let unacknowledged: Vec<u64> = (groups[7].get()..groups[11].get() + 10).collect();
    let waiting = left(&files);
    assert!(unacknowledged.iter().all(|offset| waiting.contains(offset)), "{waiting:?}");

    // What is acknowledged from now on counts, at this start and at those after it.
    let end = files.engine.session("a").unwrap().end();
    files.commit(&[acknowledged("a", &(0..end).collect::<Vec<_>>(), &mut Vec::new())]);
    assert_eq!(left(&files), [0; 0]);
    for keep_view in [true, false] {
        files = files.restart(keep_view, Setup::default());
        assert_eq!(left(&files), [0; 0]);
    }
}

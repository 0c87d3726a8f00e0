//! The engine on the memory twin of the log: receipts, the view, and both after a crash.

mod consumers;
mod dedup;
mod groups;
mod model;
mod quotas;
mod store;

use super::*;
use gateway_protocol::QoS;
use gateway_protocol::packet::SubscribeOptions;
use gateway_storage::log::segments::disk::RealDisk;
use gateway_storage::{Entry, Event, MemoryHandle, MemoryLog};
use std::ops::Deref;
use std::sync::Condvar;
use std::task::Wake;
use std::time::Instant;

/// A waker that a test thread can wait on.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

/// An engine, and somebody who waits for it.
struct Hands {
    engine: Engine,
    bell: Arc<Bell>,
    waker: Waker,
}

/// An engine on the memory twin.
struct Rig {
    hands: Hands,
    log: MemoryHandle,
    dir: tempfile::TempDir,
}

impl Deref for Rig {
    type Target = Hands;

    fn deref(&self) -> &Hands {
        &self.hands
    }
}

const RULES: Rules = Rules {
    backlog: BacklogLimits { messages_max: 1000, bytes_max: 1 << 20 },
    share: ShareStrategy::RoundRobin,
    when_full: WhenFull::DropNewest,
    losses: 0,
    consumers_max: 1000,
    letters: LetterLimits { bytes_max: 64 << 20, count_max: 100_000 },
};

const WAIT: Duration = Duration::from_secs(20);

impl Rig {
    fn new() -> Self {
        Self::on(MemoryLog::new(), tempfile::tempdir().unwrap())
    }

    fn on(log: MemoryLog, dir: tempfile::TempDir) -> Self {
        Self::with(log, dir, RULES)
    }

    fn with(log: MemoryLog, dir: tempfile::TempDir, rules: Rules) -> Self {
        Self::with_streams(log, dir, rules, vec![stream("telemetry", "devices/#")])
    }

    fn with_streams(
        log: MemoryLog,
        dir: tempfile::TempDir,
        rules: Rules,
        streams: Vec<StreamOptions>,
    ) -> Self {
        let handle = log.handle();
        let (view, _) = View::open(dir.path().join("view"), gateway_storage::ViewOptions::default()).unwrap();
        let checkpoints = Checkpoints::open(dir.path().join("checkpoint"), Arc::new(RealDisk)).unwrap();
        let engine = Engine::start(
            Box::new(log),
            view,
            checkpoints,
            Reserve::none(),
            options(streams, rules),
            Box::new(|_| {}),
        );
        Self { hands: Hands::on(engine.unwrap()), log: handle, dir }
    }

    /// The gateway is killed and started again on what was durable; with the view it had, or without one.
    fn restart(self, keep_view: bool) -> Self {
        self.restart_with(keep_view, RULES)
    }

    /// As [`Rig::restart`], with the saved view, under another configuration.
    fn restart_as(self, streams: Vec<StreamOptions>) -> Self {
        self.engine.shutdown();
        let log = self.log.crash(7);
        let Self { hands, dir, .. } = self;
        drop(hands);
        Self::with_streams(log, dir, RULES, streams)
    }

    fn restart_with(self, keep_view: bool, rules: Rules) -> Self {
        self.engine.shutdown();
        let log = self.log.crash(7);
        let Self { hands, dir, .. } = self;
        drop(hands);
        if !keep_view {
            std::fs::remove_dir_all(dir.path().join("view")).unwrap();
        }
        Self::with(log, dir, rules)
    }
}

fn stream(name: &str, topics: &str) -> StreamOptions {
    StreamOptions {
        name: name.into(),
        topics: vec![topics.into()],
        max_age_ms: 3_600_000,
        max_bytes: 1 << 30,
    }
}

fn options(streams: Vec<StreamOptions>, rules: Rules) -> EngineOptions {
    EngineOptions {
        view_save_interval: Duration::from_millis(1),
        streams,
        dedup: DedupOptions { window_ms: 600_000, entries_max: 10_000 },
        rules,
        letters_max_age_ms: 30 * 86_400_000,
        segment_bytes: 1 << 20,
        recent_bytes: 1 << 20,
        commit: GroupCommitOptions {
            lazy_delay: Duration::from_millis(1),
            // Long enough for a test to see the log poisoned.
            reopen_delay: Duration::from_millis(300),
            ..GroupCommitOptions::default()
        },
    }
}

impl Hands {
    fn on(engine: Engine) -> Self {
        let bell = Arc::new(Bell::default());
        let waker = bell.clone().into();
        Self { engine, bell, waker }
    }

    fn submit(&self, entries: &[Entry<'_>]) -> Result<Ticket, SubmitError> {
        let mut staging = Staging::new();
        for entry in entries {
            staging.push(entry).unwrap();
        }
        self.engine.submit(&mut staging, Urgency::Now, &self.waker, None)
    }

    /// Waits until `done`, looking whenever something is woken.
    fn wait(&self, mut done: impl FnMut(&Engine) -> bool) {
        let deadline = Instant::now() + WAIT;
        let mut rung = self.bell.rung.lock().unwrap();
        loop {
            if done(&self.engine) {
                return;
            }
            assert!(Instant::now() < deadline, "nothing came of it");
            let (guard, _) = self.bell.changed.wait_timeout(rung, Duration::from_millis(20)).unwrap();
            rung = guard;
        }
    }

    fn commit(&self, entries: &[Entry<'_>]) {
        let ticket = self.submit(entries).unwrap();
        self.wait(|engine| engine.receipt().is_some_and(|receipt| receipt.covers(ticket)));
    }

    fn backlog(&self, client_id: &str) -> Vec<(u64, String)> {
        let session = self.engine.session(client_id).expect("the session is there");
        let topic_at = |offset: Offset| {
            let page = self.engine.log().read_page(offset, 1).unwrap().unwrap();
            page.batch.event(page.batch.index_of(offset).unwrap()).unwrap().topic.to_owned()
        };
        let found = pending(self.engine.chunks().as_ref(), &session);
        found.into_iter().map(|(sequence, offset)| (sequence, topic_at(offset))).collect()
    }
}

/// Sequences and offsets of what a session has not acknowledged.
fn pending(chunks: &dyn Chunks, session: &DurableSession) -> Vec<(u64, Offset)> {
    let (mut reader, mut batch) = (DueReader::default(), DueBatch::default());
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        match session.fetch(at, &mut reader, &mut batch) {
            Fetch::Nothing => return found,
            Fetch::GivenUp(given_up) => at = given_up.end,
            Fetch::NotInMemory(first) => {
                reader.give(chunks.load(&session.client_id, first).unwrap());
            }
            Fetch::Some => {
                for run in batch.runs() {
                    let numbers = 0..u64::from(run.len);
                    found.extend(numbers.map(|n| (run.sequence + n, Offset::new(run.offset.get() + n))));
                    at = run.sequence + u64::from(run.len);
                }
            }
        }
    }
}

fn opened(client_id: &str) -> Entry<'_> {
    Entry::SessionOpened { client_id, at_ms: 1, clean_start: false, expiry_secs: 60, state: &[] }
}

fn subscribed<'a>(client_id: &'a str, filter: &'a str) -> Entry<'a> {
    Entry::Subscribed {
        client_id,
        filter,
        options: SubscribeOptions::at_most(QoS::AtLeastOnce).to_u8(),
        subscription_id: 0,
    }
}

fn event(topic: &str) -> Entry<'_> {
    Entry::Event(Event {
        client_id: "publisher",
        topic,
        qos: 1,
        retain: false,
        received_ms: 1,
        expires_at_ms: 0,
        properties: &[],
        payload: b"21.5",
    })
}

fn acknowledged<'a>(client_id: &'a str, sequences: &[u64], bytes: &'a mut Vec<u8>) -> Entry<'a> {
    let mut runs = AckRuns::default();
    for sequence in sequences {
        runs.push(*sequence);
    }
    runs.encode(bytes);
    Entry::Acknowledged { client_id, runs: bytes }
}

#[test]
fn whoever_sees_the_receipt_finds_the_view_changed() {
    let rig = Rig::new();
    rig.commit(&[opened("a"), subscribed("a", "x/+")]);
    assert!(rig.engine.interest("x/1").is_durable(QoS::AtLeastOnce));
    assert!(!rig.engine.interest("x/1").is_durable(QoS::AtMostOnce));
    assert!(rig.engine.interest("devices/1").is_durable(QoS::AtMostOnce), "the stream keeps it");
    rig.commit(&[event("x/1"), event("y/1"), event("x/2")]);
    assert_eq!(rig.backlog("a"), [(0, "x/1".to_owned()), (1, "x/2".to_owned())]);
}

#[test]
fn a_restart_restores_sessions_subscriptions_and_backlogs_with_or_without_the_saved_view() {
    for keep_view in [true, false] {
        let rig = Rig::new();
        rig.commit(&[opened("a"), opened("b"), subscribed("a", "x/#"), subscribed("b", "x/1")]);
        rig.commit(&[event("x/1"), event("x/2"), event("x/3")]);
        rig.commit(&[acknowledged("a", &[0, 2], &mut Vec::new())]);
        rig.commit(&[Entry::Unsubscribed { client_id: "b", filter: "x/1" }]);
        let before = (rig.backlog("a"), rig.backlog("b"));
        assert_eq!(before.0, [(1, "x/2".to_owned())]);

        let rig = rig.restart(keep_view);
        assert_eq!((rig.backlog("a"), rig.backlog("b")), before);
        rig.commit(&[event("x/1")]);
        assert_eq!(rig.backlog("a").last(), Some(&(3, "x/1".to_owned())), "sequences go on");
        assert_eq!(rig.backlog("b"), before.1, "b has unsubscribed");
    }
}

#[test]
fn every_later_restart_finds_the_same_again() {
    let mut rig = Rig::new();
    rig.commit(&[opened("a"), subscribed("a", "#")]);
    for round in 0..6u64 {
        for _ in 0..700 {
            rig.submit(&[event("x")]).unwrap();
        }
        rig.commit(&[event("last")]);
        let acked: Vec<u64> =
            (round * 701..(round + 1) * 701).filter(|sequence| sequence % 100 != 0).collect();
        rig.commit(&[acknowledged("a", &acked, &mut Vec::new())]);
        let before = rig.backlog("a");
        rig = rig.restart(round % 2 == 0);
        assert_eq!(rig.backlog("a"), before);
        assert!(before.iter().all(|(sequence, _)| sequence % 100 == 0));
    }
}

#[test]
fn a_failed_sync_is_never_acknowledged_and_poisons_until_the_log_is_open_again() {
    let rig = Rig::new();
    rig.commit(&[event("devices/1")]);
    rig.log.faults().fail_sync(1);
    let lost = rig.submit(&[event("devices/2")]).unwrap();
    rig.wait(Engine::is_poisoned);
    assert!(!rig.engine.receipt().unwrap().covers(lost));
    rig.wait(|engine| !engine.is_poisoned());
    rig.commit(&[event("devices/3")]);
    let receipt = rig.engine.receipt().unwrap();
    assert!(!receipt.covers(lost) && receipt.outlives(lost));
    let page = rig.engine.log().read_page(Offset::new(0), 1 << 20).unwrap().unwrap();
    let topics: Vec<_> = (0..page.batch.len()).filter_map(|at| Some(page.batch.event(at)?.topic)).collect();
    assert_eq!(topics, ["devices/1", "devices/3"], "what was never acknowledged is never delivered");
}

#[test]
fn a_session_that_is_connected_again_is_not_removed_by_its_expiry() {
    let rig = Rig::new();
    rig.commit(&[
        opened("a"),
        Entry::SessionClosed { client_id: "a", at_ms: 1, expiry_secs: 60, state: &[] },
    ]);
    rig.commit(&[opened("a"), Entry::SessionRemoved { client_id: "a", at_ms: 2, cause: 1 }]);
    assert!(rig.engine.session("a").is_some());
    rig.commit(&[Entry::SessionClosed { client_id: "a", at_ms: 3, expiry_secs: 60, state: &[] }]);
    rig.commit(&[Entry::SessionRemoved { client_id: "a", at_ms: 4, cause: 1 }]);
    assert!(rig.engine.session("a").is_none());
}

#[test]
fn mqtt_3_1_2_4_clean_start_discards_the_session_in_the_saved_view_too() {
    let rig = Rig::new();
    rig.commit(&[opened("a"), subscribed("a", "x"), event("x")]);
    let rig = rig.restart(true);
    assert_eq!(rig.backlog("a").len(), 1);
    rig.commit(&[Entry::SessionOpened {
        client_id: "a",
        at_ms: 2,
        clean_start: true,
        expiry_secs: 60,
        state: &[],
    }]);
    rig.commit(&[event("x")]);
    assert_eq!(rig.backlog("a"), []);
    let rig = rig.restart(true);
    rig.commit(&[event("x")]);
    assert_eq!(rig.backlog("a"), [], "the old subscription did not come back");
}

#[test]
fn a_backlog_at_its_limit_refuses_the_newest_and_counts_it() {
    let rig = Rig::new();
    rig.commit(&[opened("a"), subscribed("a", "x")]);
    for _ in 0..1100 {
        rig.submit(&[event("x")]).unwrap();
    }
    rig.commit(&[event("y")]);
    let session = rig.engine.session("a").unwrap();
    assert_eq!(session.state().backlog.pending(), 1000);
}

#[test]
fn sessions_left_open_by_a_crash_are_closed_at_the_next_start_and_may_have_been_sent_everything() {
    let rig = Rig::new();
    rig.commit(&[opened("a"), subscribed("a", "x"), event("x")]);
    let rig = rig.restart(true);
    rig.wait(|engine| engine.session("a").is_some_and(|session| !session.state().connected));
    let mut batch = DueBatch::default();
    let found = rig.engine.session("a").unwrap().fetch(0, &mut DueReader::default(), &mut batch);
    assert_eq!((found, batch.sent_end), (Fetch::Some, 1), "[MQTT-3.3.1-1]");
}

#[test]
fn retained_messages_and_wills_survive_with_or_without_the_saved_view() {
    for keep_view in [true, false] {
        let rig = Rig::new();
        let retained = |topic, payload| match event(topic) {
            Entry::Event(event) => Entry::Event(Event { retain: true, payload, ..event }),
            other => other,
        };
        let large = vec![7; 300_000];
        rig.commit(&[retained("r/1", b"one"), retained("r/2", &large), retained("r/3", b"three")]);
        rig.commit(&[retained("r/1", b""), retained("r/2", b"small")]);
        let will = WillMessage {
            topic: "wills/a".into(),
            qos: 1,
            retain: false,
            message_expiry_secs: None,
            properties: [].into(),
            payload: (*b"gone").into(),
        };
        rig.commit(&[Entry::WillSet { client_id: "a", delay_secs: 5, will: &will.encode() }]);
        rig.commit(&[Entry::WillSet { client_id: "b", delay_secs: 5, will: &will.encode() }]);
        rig.commit(&[Entry::WillCleared { client_id: "b" }]);

        let rig = rig.restart(keep_view);
        let found = rig.engine.retained(gateway_protocol::TopicFilter::parse("r/#").unwrap());
        let found: Vec<_> =
            found.iter().map(|message| (message.event().topic, message.event().payload)).collect();
        assert_eq!(found, [("r/3", &b"three"[..]), ("r/2", &b"small"[..])]);
        assert!(rig.engine.will("b").is_none());
        rig.wait(|engine| engine.will("a").is_some_and(|will| will.due_at_ms.is_some()));
        assert_eq!(rig.engine.will("a").unwrap().message, will);
    }
}

#[test]
fn a_durable_subscriber_gets_retained_messages_through_its_backlog() {
    let rig = Rig::new();
    let retained = |topic| match event(topic) {
        Entry::Event(event) => Entry::Event(Event { retain: true, ..event }),
        other => other,
    };
    rig.commit(&[retained("r/1"), retained("r/2")]);
    rig.commit(&[opened("a"), subscribed("a", "r/+")]);
    assert_eq!(rig.backlog("a").len(), 2);
    let mut batch = DueBatch::default();
    let _ = rig.engine.session("a").unwrap().fetch(0, &mut DueReader::default(), &mut batch);
    assert!(batch.runs().all(|run| run.profile.is_retained));
    rig.commit(&[subscribed("a", "r/+")]);
    assert_eq!(rig.backlog("a").len(), 4, "[MQTT-3.8.4-4]: again at each subscription");
}

#[test]
fn a_replay_under_another_limit_applies_each_entry_by_the_rules_of_its_time() {
    for keep_view in [true, false] {
        let rig = Rig::new();
        rig.commit(&[opened("a"), subscribed("a", "x")]);
        for _ in 0..20 {
            rig.commit(&[event("x")]);
        }
        rig.commit(&[acknowledged("a", &(0..18).collect::<Vec<_>>(), &mut Vec::new())]);
        let before = rig.backlog("a");
        assert_eq!(before.len(), 2);
        let smaller = Rules { backlog: BacklogLimits { messages_max: 5, ..RULES.backlog }, ..RULES };
        let rig = rig.restart_with(keep_view, smaller);
        assert_eq!(rig.backlog("a"), before);
        for _ in 0..10 {
            rig.commit(&[event("x")]);
        }
        assert_eq!(rig.backlog("a").len(), 5, "from now on the new limit holds");
        let before = rig.backlog("a");
        let rig = rig.restart_with(keep_view, RULES);
        assert_eq!(rig.backlog("a"), before);
    }
}

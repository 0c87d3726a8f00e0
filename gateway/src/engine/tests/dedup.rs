//! Named events from the first staging to a restart: what is stored, what is on its way, and what was lost.

use super::*;
use gateway_protocol::{PropertiesBuf, Property};
use gateway_storage::{LogKind, SegmentsOptions, StoreOptions, recovery};

const NOW: u64 = 1_000_000;

fn name(text: &str) -> PropertiesBuf {
    let mut list = PropertiesBuf::new();
    list.push(Property::UserProperty { name: "event-id", value: text }).unwrap();
    list
}

fn named<'a>(topic: &'a str, properties: &'a PropertiesBuf) -> Entry<'a> {
    let Entry::Event(event) = event(topic) else { unreachable!() };
    Entry::Event(Event { received_ms: NOW, properties: properties.as_properties().raw(), ..event })
}

impl Hands {
    fn novelty_of(&self, text: &str, now_ms: u64) -> Novelty {
        let identity = self.engine.identity("publisher", name(text).as_properties().raw());
        self.engine.novelty(identity.expect("it is named"), now_ms)
    }

    /// What a connection does with one read: judged, staged, and submitted if `submit`.
    fn stage(&self, text: &str) -> (Staging, NamedEvents) {
        let list = name(text);
        assert_eq!(self.novelty_of(text, NOW), Novelty::New, "{text}");
        let mut staging = Staging::new();
        staging.push(&named("devices/1", &list)).unwrap();
        let mut events = self.engine.named_events();
        events.stage(self.engine.identity("publisher", list.as_properties().raw()).unwrap(), NOW);
        (staging, events)
    }

    fn submit_named(&self, text: &str) -> (Ticket, NamedEvents) {
        let (mut staging, mut events) = self.stage(text);
        let ticket = self.engine.submit(&mut staging, Urgency::Now, &self.waker, None).unwrap();
        events.submitted(ticket);
        (ticket, events)
    }

    fn await_receipt(&self, ticket: Ticket) {
        self.wait(|engine| engine.receipt().is_some_and(|receipt| receipt.covers(ticket)));
    }
}

const ON_ITS_WAY: Novelty = Novelty::OnItsWay { received_ms: NOW };

#[test]
fn a_name_is_known_within_the_window_and_across_restarts_with_or_without_the_saved_view() {
    for keep_view in [true, false] {
        let mut rig = Rig::new();
        rig.commit(&[named("devices/1", &name("a")), event("devices/2"), named("devices/1", &name("b"))]);
        for _ in 0..3 {
            assert_eq!(rig.novelty_of("a", NOW), Novelty::Stored);
            assert_eq!(rig.novelty_of("b", NOW + 599_999), Novelty::Stored);
            assert_eq!(rig.novelty_of("b", NOW + 600_000), Novelty::New, "the window is over");
            assert_eq!(rig.novelty_of("c", NOW), Novelty::New);
            assert_eq!(rig.engine.dedup_stats(), DedupStats { entries: 2, forgotten_early: 0 });
            rig = rig.restart(keep_view);
        }
    }
}

#[test]
fn names_outlive_the_log_that_brought_them_and_the_view() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let segments = SegmentsOptions { segment_bytes: 4096, reserve_bytes: 0 };
        let store =
            StoreOptions { log: LogKind::Segments(segments), reserve_bytes: 0, ..StoreOptions::default() };
        let store = recovery::open(dir.path(), store).unwrap();
        let telemetry = StreamOptions { max_age_ms: 1000, ..stream("telemetry", "devices/#") };
        let options = EngineOptions { segment_bytes: 4096, ..options(vec![telemetry], RULES) };
        let sink = Box::new(|_: &Arc<Batch>| {});
        Hands::on(
            Engine::start(store.log, store.view, store.checkpoints, store.reserve, options, sink).unwrap(),
        )
    };
    let rig = open();
    rig.commit(&[named("devices/1", &name("a"))]);
    for _ in 0..200 {
        rig.commit(&[event("devices/2")]);
    }
    let mut now_ms = crate::clock::unix_ms();
    rig.wait(|engine| {
        now_ms += 3_600_000;
        engine.retain(now_ms);
        engine.log().bounds().0 > Offset::new(100)
    });
    rig.engine.shutdown();
    drop(rig);
    std::fs::remove_dir_all(dir.path().join("view")).unwrap();
    let rig = open();
    assert!(rig.engine.log().bounds().0 > Offset::new(100), "the event itself is gone");
    assert_eq!(rig.novelty_of("a", NOW), Novelty::Stored);
    rig.engine.shutdown();
}

#[test]
fn what_is_on_its_way_is_neither_new_nor_stored_until_the_sync_is_done() {
    let rig = Rig::new();
    rig.commit(&[event("devices/0")]);
    rig.log.faults().stall_sync();
    let (ticket, first) = rig.submit_named("a");
    rig.log.faults().wait_until_stalled();
    assert_eq!(rig.novelty_of("a", NOW + 5), ON_ITS_WAY);
    assert!(first.are_stored(), "it waits for no other");
    let mut second = rig.engine.named_events();
    second.wait_for(rig.engine.identity("publisher", name("a").as_properties().raw()).unwrap(), NOW);
    assert!(!second.are_stored());
    // The connection that has submitted it may go: the event is on its way all the same.
    drop(first);
    assert_eq!(rig.novelty_of("a", NOW + 5), ON_ITS_WAY);
    rig.log.faults().release_sync();
    rig.await_receipt(ticket);
    assert_eq!(rig.novelty_of("a", NOW + 5), Novelty::Stored);
    assert!(second.are_stored());
}

#[test]
fn what_was_staged_and_not_submitted_had_never_been() {
    let rig = Rig::new();
    let (_staging, events) = rig.stage("a");
    assert_eq!(rig.novelty_of("a", NOW), ON_ITS_WAY);
    drop(events);
    assert_eq!(rig.novelty_of("a", NOW), Novelty::New);
}

#[test]
fn what_a_failing_log_has_lost_is_new_again_and_its_duplicate_is_never_acknowledged() {
    let rig = Rig::new();
    rig.commit(&[named("devices/1", &name("kept"))]);
    rig.log.faults().fail_sync(1);
    let (_, lost) = rig.submit_named("lost");
    let (_, other) = {
        rig.wait(Engine::is_poisoned);
        rig.stage("not submitted")
    };
    assert_eq!(rig.novelty_of("lost", NOW), ON_ITS_WAY, "nobody knows yet whether the log has it");
    let mut duplicate = rig.engine.named_events();
    duplicate.wait_for(rig.engine.identity("publisher", name("lost").as_properties().raw()).unwrap(), NOW);
    rig.wait(|engine| !engine.is_poisoned());
    assert_eq!(rig.novelty_of("not submitted", NOW), ON_ITS_WAY);
    rig.commit(&[event("devices/2")]);
    assert!(!duplicate.are_stored(), "a receipt of a later life does not stand for it");
    drop((lost, other));
    assert_eq!(rig.novelty_of("lost", NOW), Novelty::New);
    assert_eq!(rig.novelty_of("not submitted", NOW), Novelty::New);
    assert_eq!(rig.novelty_of("kept", NOW), Novelty::Stored);
    let (ticket, _again) = rig.submit_named("lost");
    rig.await_receipt(ticket);
    assert!(duplicate.are_stored());
}

#[test]
fn nobody_asked_and_the_lost_are_forgotten_with_the_next_receipt() {
    let rig = Rig::new();
    // What the engine itself writes as it starts is durable with it.
    rig.commit(&[event("devices/1")]);
    rig.log.faults().fail_sync(1);
    let (_, lost) = rig.submit_named("lost");
    drop(lost);
    rig.wait(Engine::is_poisoned);
    rig.wait(|engine| !engine.is_poisoned());
    rig.commit(&[event("devices/2")]);
    assert_eq!(rig.engine.shared.table.dedup.on_their_way(), 0);
}

#[test]
fn the_old_event_of_a_name_does_not_stand_for_the_one_that_was_lost() {
    let rig = Rig::new();
    let Entry::Event(old) = event("devices/1") else { unreachable!() };
    let list = name("a");
    let long_ago = NOW - 600_000;
    rig.commit(&[Entry::Event(Event {
        received_ms: long_ago,
        properties: list.as_properties().raw(),
        ..old
    })]);
    let (_staging, first) = rig.stage("a");
    let mut duplicate = rig.engine.named_events();
    duplicate.wait_for(rig.engine.identity("publisher", list.as_properties().raw()).unwrap(), NOW);
    drop(first);
    assert!(!duplicate.are_stored());
}

#[test]
fn without_a_window_names_mean_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (view, _) = View::open(dir.path().join("view"), gateway_storage::ViewOptions::default()).unwrap();
    let checkpoints = Checkpoints::open(dir.path().join("checkpoint"), Arc::new(RealDisk)).unwrap();
    let options = EngineOptions { dedup: DedupOptions::default(), ..options(Vec::new(), RULES) };
    let log = Box::new(MemoryLog::new());
    let engine = Engine::start(log, view, checkpoints, Reserve::none(), options, Box::new(|_| {})).unwrap();
    assert_eq!(engine.identity("publisher", name("a").as_properties().raw()), None);
    engine.shutdown();
}

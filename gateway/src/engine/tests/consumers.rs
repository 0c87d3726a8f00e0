//! Consumers, dead letters and streams made at run time through a whole engine: restarts by every way, trimming, limits, age.

use super::store::{Files, Setup, YEAR_MS};
use super::*;

fn spec() -> ConsumerSpec {
    ConsumerSpec {
        stream: "telemetry".into(),
        filter: "devices/#".into(),
        start: 1,
        ack_wait_ms: 30_000,
        max_deliver: 5,
        backoff_ms: vec![100, 1000],
        max_ack_pending: 1000,
        order: Order::Key,
        paused: false,
        configured: true,
        generation: 7,
    }
}

fn leased(due_ms: u64) -> OpenItem {
    OpenItem {
        attempts: 2,
        due_ms,
        first_ms: due_ms - 60,
        worker: "worker-1".into(),
        cause: Some(Cause::Rejected(0x83)),
        leased: true,
        is_letter: false,
    }
}

fn letter(offset: u64, payload: &[u8]) -> Vec<u8> {
    let Entry::Event(event) = event("devices/1") else { unreachable!() };
    let facts = LetterFacts {
        cause: Cause::MaxDeliver,
        failure: Some(Cause::Nak),
        attempts: 5,
        first_ms: 3,
        worker: "worker-1",
        note: "does not parse",
    };
    DeadLetter::new(offset, &facts, &Event { payload, ..event }).encode()
}

/// A consumer with two thousand open items, and dead letters of which one takes several rows of the view.
fn fill(hands: &Hands) {
    hands.commit(&[Entry::ConsumerSet { name: "billing", at_ms: 9, spec: &spec().encode() }]);
    let opened = (0..2000).map(|number| (number * 7, leased(1000 + number))).collect();
    let progress =
        Progress { generation: 7, read_to: 14_000, opened, missed: 3, ..Progress::default() }.encode();
    hands.commit(&[Entry::ConsumerProgress { name: "billing", at_ms: 10, progress: &progress }]);
    let acked = (0..1000).map(|number| number * 14).collect();
    let progress = Progress { generation: 7, read_to: 14_001, acked, ..Progress::default() }.encode();
    let redriven = LettersChange::Redriven(vec![(21, 500)]).encode();
    hands.commit(&[
        Entry::ConsumerProgress { name: "billing", at_ms: 11, progress: &progress },
        Entry::DeadLettered { name: "billing", at_ms: 12, letter: &letter(7, b"small") },
        Entry::DeadLettered { name: "billing", at_ms: 13, letter: &letter(21, &[9; 400_000]) },
        Entry::DeadLettersChanged { name: "billing", at_ms: 14, change: &redriven },
    ]);
}

type Look = (ConsumerSpec, u64, Vec<(u64, OpenItem)>, [u64; 5], Vec<DeadLetter>, LetterUsage);

fn look(engine: &Engine) -> Look {
    let letters = engine.dead_letters("billing", None, 100).iter().map(|letter| (**letter).clone()).collect();
    let entry = engine.consumer("billing").expect("the consumer is there");
    let state = entry.state();
    let open = state.open.iter().map(|(offset, item)| (*offset, item.clone())).collect();
    let sums = [state.handed_out, state.redelivered, state.acked, state.dead_lettered, state.missed];
    (state.spec.clone(), state.read_to, open, sums, letters, engine.dead_letter_usage("billing"))
}

#[test]
fn a_restart_finds_consumers_and_dead_letters_with_or_without_the_saved_view() {
    for keep_view in [true, false] {
        let rig = Rig::new();
        fill(&rig);
        let before = look(&rig.engine);
        assert_eq!((before.1, before.2.len(), before.3), (14_001, 999, [4000, 2000, 1000, 2, 3]));
        assert_eq!((before.4.len(), before.5.redriven), (2, 1));
        assert_eq!(&*before.4[0].note, "does not parse");
        let mut rig = rig;
        for _ in 0..2 {
            rig = rig.restart(keep_view);
            assert_eq!(look(&rig.engine), before);
        }
        let acked = [21].into_iter().collect();
        let progress = Progress { generation: 7, acked, ..Progress::default() }.encode();
        rig.commit(&[Entry::ConsumerProgress { name: "billing", at_ms: 20, progress: &progress }]);
        let rig = rig.restart(keep_view);
        assert_eq!(look(&rig.engine).4.len(), 1, "its rows are gone, too");
        rig.commit(&[Entry::ConsumerRemoved { name: "billing", at_ms: 30 }]);
        let rig = rig.restart(keep_view);
        assert!(rig.engine.consumer("billing").is_none());
        assert!(rig.engine.consumers().is_empty());
        assert_eq!(rig.engine.dead_letter_usage("billing"), LetterUsage::default());
    }
}

#[test]
fn a_consumer_holds_no_log_and_its_letters_survive_what_is_trimmed() {
    for keep_view in [true, false] {
        let small = || StreamOptions {
            max_bytes: 10_000,
            max_age_ms: 100 * YEAR_MS,
            ..stream("telemetry", "devices/#")
        };
        // The letters are of the first milliseconds of 1970: their age must not end them beside.
        let setup =
            || Setup { streams: vec![small()], letters_max_age_ms: 100 * YEAR_MS, ..Setup::default() };
        let files = Files::new(setup());
        fill(&files);
        files.publish("devices/1", 300);
        files.checkpoint();
        assert!(files.retain().segments > 0, "what the consumer has open is trimmed");
        let floor = files.engine.stream_floor(0);
        assert!(floor > Offset::new(100));
        let (bytes, events) = files.engine.stream_before(0, files.engine.end());
        let (kept_bytes, kept) = files.engine.stream_before(0, floor);
        assert!(events == 300 && (bytes - kept_bytes) <= 10_000, "{events} {}", bytes - kept_bytes);
        assert!((20..=50).contains(&(events - kept)), "{}", events - kept);
        let before = look(&files.engine);
        let files = files.restart(keep_view, setup());
        assert_eq!(look(&files.engine), before);
        let kept = files.engine.dead_letter("billing", 21).unwrap();
        assert_eq!(kept.event().payload.len(), 400_000, "although the log has it no more");
    }
}

#[test]
fn dead_letters_end_by_their_age_and_not_before() {
    let files = Files::new(Setup::default());
    files.commit(&[Entry::ConsumerSet { name: "billing", at_ms: 9, spec: &spec().encode() }]);
    let now_ms = files.now_ms.get();
    files.commit(&[
        Entry::DeadLettered {
            name: "billing",
            at_ms: now_ms - 30 * 86_400_000 - 1,
            letter: &letter(1, b"old"),
        },
        Entry::DeadLettered { name: "billing", at_ms: now_ms, letter: &letter(2, b"new") },
    ]);
    files.engine.retain(now_ms);
    files.wait(|engine| engine.dead_letter_usage("billing").count == 1);
    files.retain();
    assert!(files.engine.dead_letter("billing", 2).is_some());
}

#[test]
fn limits_are_those_in_force_at_each_entry() {
    let letters = LetterLimits { bytes_max: 1 << 20, count_max: 5 };
    let rules = Rules { letters, consumers_max: 1, ..RULES };
    let rig = Rig::with(MemoryLog::new(), tempfile::tempdir().unwrap(), rules);
    for name in ["billing", "other"] {
        rig.commit(&[Entry::ConsumerSet { name, at_ms: 9, spec: &spec().encode() }]);
    }
    assert!(rig.engine.consumer("other").is_none(), "one too many");
    let die = |rig: &Rig, offset: u64| {
        rig.commit(&[Entry::DeadLettered { name: "billing", at_ms: offset, letter: &letter(offset, b"x") }]);
    };
    let kept = |rig: &Rig| -> Vec<u64> {
        rig.engine.dead_letters("billing", None, 100).iter().map(|letter| letter.offset()).collect()
    };
    (1..=8).for_each(|offset| die(&rig, offset));
    assert_eq!(kept(&rig), [4, 5, 6, 7, 8]);
    let smaller = Rules { letters: LetterLimits { count_max: 2, ..letters }, ..rules };
    for keep_view in [true, false] {
        let next = Rig::with(MemoryLog::new(), tempfile::tempdir().unwrap(), rules);
        next.commit(&[Entry::ConsumerSet { name: "billing", at_ms: 9, spec: &spec().encode() }]);
        (1..=8).for_each(|offset| die(&next, offset));
        let next = next.restart_with(keep_view, smaller);
        next.wait(|_| kept(&next) == [7, 8]);
        let next = next.restart_with(keep_view, rules);
        die(&next, 9);
        assert_eq!(kept(&next), [7, 8, 9], "what was displaced does not come back");
    }
}

#[test]
fn streams_made_at_run_time_change_what_is_kept_and_survive() {
    let made = StreamOptions { max_bytes: 1 << 20, ..stream("alarms", "alarms/#") };
    for keep_view in [true, false] {
        let rig = Rig::new();
        let epoch = rig.engine.interest_epoch();
        assert!(!rig.engine.interest("alarms/1").is_durable(QoS::AtMostOnce));
        let ticket = rig.engine.set_stream(&made, 5, &rig.waker).unwrap();
        rig.wait(|engine| engine.receipt().is_some_and(|receipt| receipt.covers(ticket)));
        assert!(rig.engine.interest("alarms/1").is_durable(QoS::AtMostOnce));
        assert!(rig.engine.interest_epoch() > epoch, "what ingest remembers is asked for anew");
        rig.commit(&[event("alarms/1"), event("alarms/2"), event("x/1")]);
        let rig = rig.restart(keep_view);
        let streams = rig.engine.streams();
        let names: Vec<_> =
            streams.iter().map(|info| (info.options.name.as_str(), info.configured)).collect();
        assert_eq!(names, [("telemetry", true), ("alarms", false)]);
        assert_eq!((streams[1].events, &streams[1].options), (2, &made));

        let changed = StreamOptions { topics: vec!["x/#".into()], ..made.clone() };
        let ticket = rig.engine.set_stream(&changed, 6, &rig.waker).unwrap();
        rig.wait(|engine| engine.receipt().is_some_and(|receipt| receipt.covers(ticket)));
        rig.commit(&[event("alarms/1"), event("x/1")]);
        let rig = rig.restart(keep_view);
        assert_eq!((rig.engine.streams()[1].events, &rig.engine.streams()[1].options), (3, &changed));

        let ticket = rig.engine.remove_stream("alarms", 7, &rig.waker).unwrap();
        rig.wait(|engine| engine.receipt().is_some_and(|receipt| receipt.covers(ticket)));
        assert!(rig.engine.stream_id("alarms").is_none());
        assert!(!rig.engine.interest("x/1").is_durable(QoS::AtMostOnce));
        let rig = rig.restart(keep_view);
        assert_eq!(rig.engine.streams().len(), 1);
        assert!(matches!(
            rig.engine.remove_stream("alarms", 8, &rig.waker),
            Err(SetStreamError::Missing { .. })
        ));
    }
}

#[test]
fn a_stream_that_can_not_be_is_refused_before_it_is_an_entry() {
    let rig = Rig::new();
    let fine = stream("alarms", "alarms/#");
    let refuse =
        |options: StreamOptions| rig.engine.set_stream(&options, 5, &rig.waker).unwrap_err().to_string();
    for (options, said) in [
        (StreamOptions { name: "Alarms".into(), ..fine.clone() }, "is no name of a stream"),
        (StreamOptions { name: "telemetry".into(), ..fine.clone() }, "stands in the configuration"),
        (StreamOptions { topics: vec![], ..fine.clone() }, "there are 0"),
        (StreamOptions { topics: vec!["a/#/b".into()], ..fine.clone() }, "a/#/b"),
        (StreamOptions { topics: vec!["$SYS/#".into()], ..fine.clone() }, "begins with $"),
        (StreamOptions { topics: vec![format!("{}+", "a/".repeat(1000))], ..fine.clone() }, "levels"),
        (StreamOptions { max_age_ms: 10, ..fine.clone() }, "max_age is out of range"),
        (StreamOptions { max_bytes: 10, ..fine.clone() }, "max_bytes is out of range"),
        (StreamOptions { max_bytes: u64::MAX, ..fine.clone() }, "bytes more"),
    ] {
        let refusal = refuse(options);
        assert!(refusal.contains(said), "{said}: {refusal}");
    }
    let refusal = rig.engine.remove_stream("telemetry", 6, &rig.waker).unwrap_err();
    assert!(matches!(refusal, SetStreamError::Configured { .. }));
    assert_eq!(rig.engine.streams().len(), 1);
}

#[test]
fn a_configured_stream_stands_before_one_that_was_made_and_the_other_comes_back() {
    let rig = Rig::new();
    let made = stream("alarms", "made/#");
    let ticket = rig.engine.set_stream(&made, 5, &rig.waker).unwrap();
    rig.wait(|engine| engine.receipt().is_some_and(|receipt| receipt.covers(ticket)));
    let telemetry = || stream("telemetry", "devices/#");
    let rig = rig.restart_as(vec![telemetry(), stream("alarms", "configured/#")]);
    let info = &rig.engine.streams()[1];
    assert_eq!((info.configured, info.options.topics[0].as_str()), (true, "configured/#"));
    let rig = rig.restart_as(vec![telemetry()]);
    let info = &rig.engine.streams()[1];
    assert_eq!((info.configured, info.options.topics[0].as_str()), (false, "made/#"));
    let rig = rig.restart_as(Vec::new());
    let names: Vec<_> = rig.engine.streams().into_iter().map(|info| info.options.name).collect();
    assert_eq!(names, ["alarms"], "one that was only configured is gone with its configuration");
}

//! What gives way in a full backlog, and that a replay gives way in the same places.

use super::*;
use crate::engine::apply::{Applied, Applier};
use crate::engine::table::Table;
use proptest::prelude::*;

const FIVE: BacklogLimits = BacklogLimits { messages_max: 5, bytes_max: 1 << 20 };

fn rules(when_full: WhenFull, backlog: BacklogLimits) -> Rules {
    Rules { backlog, when_full, ..RULES }
}

fn rig(when_full: WhenFull) -> Rig {
    Rig::with(MemoryLog::new(), tempfile::tempdir().unwrap(), rules(when_full, FIVE))
}

fn topics(rig: &Rig, client_id: &str) -> Vec<String> {
    rig.backlog(client_id).into_iter().map(|(_, topic)| topic).collect()
}

fn publish(rig: &Rig, numbers: std::ops::Range<u32>) {
    for number in numbers {
        rig.commit(&[event(&format!("x/{number}"))]);
    }
}

#[test]
fn a_full_backlog_can_give_up_its_oldest() {
    for keep_view in [true, false] {
        let rig = rig(WhenFull::DropOldest);
        rig.commit(&[opened("a"), subscribed("a", "x/#")]);
        publish(&rig, 0..12);
        assert_eq!(topics(&rig, "a"), ["x/7", "x/8", "x/9", "x/10", "x/11"]);
        assert_eq!(rig.backlog("a")[0].0, 7, "sequences are not given twice");

        rig.commit(&[acknowledged("a", &[3, 6, 8], &mut Vec::new())]);
        assert_eq!(topics(&rig, "a"), ["x/7", "x/9", "x/10", "x/11"], "3 and 6 were in flight and are gone");
        let before = rig.backlog("a");
        let rig = rig.restart_with(keep_view, rules(WhenFull::DropOldest, FIVE));
        assert_eq!(rig.backlog("a"), before);
        publish(&rig, 12..14);
        assert_eq!(topics(&rig, "a"), ["x/9", "x/10", "x/11", "x/12", "x/13"]);
    }
}

#[test]
fn what_there_was_no_room_for_has_come_and_is_not_taken_for_done() {
    for when_full in [WhenFull::DropNewest, WhenFull::DropOldest] {
        let rig = rig(when_full);
        rig.commit(&[opened("a"), subscribed("a", "x/#")]);
        let session = rig.engine.session("a").unwrap();
        let lag = || session.came_and_done().map(|(came, done)| came - done);
        publish(&rig, 0..4);
        assert_eq!(lag(), Some(4));
        publish(&rig, 4..12);
        assert_eq!(lag(), Some(12), "{when_full:?}: it goes on to grow where the backlog does not");
        let oldest = rig.backlog("a")[0].0;
        rig.commit(&[acknowledged("a", &[oldest], &mut Vec::new())]);
        assert_eq!(lag(), Some(11));
        let ending = Ending { sent_end: 5, with_all: false }.encode();
        rig.commit(&[Entry::SessionClosed { client_id: "a", at_ms: 2, expiry_secs: 60, state: &ending }]);
        assert_eq!(lag(), None, "nobody receives");
    }
}

#[test]
fn what_is_given_up_at_qos_2_is_open_until_its_connection_says_otherwise_after_any_restart() {
    for keep_view in [true, false] {
        let rig = rig(WhenFull::DropOldest);
        let options = SubscribeOptions::at_most(QoS::ExactlyOnce).to_u8();
        rig.commit(&[
            opened("a"),
            Entry::Subscribed { client_id: "a", filter: "x/#", options, subscription_id: 0 },
        ]);
        publish(&rig, 0..9);
        let open = |rig: &Rig| rig.engine.session("a").unwrap().state().backlog.given_up_ranges();
        assert_eq!(open(&rig), [(0, 4)], "up to where it was sent is not in the log");
        rig.commit(&[acknowledged("a", &[1, 3], &mut Vec::new())]);
        assert_eq!(open(&rig), [(0, 1), (2, 3)]);

        let ending = Ending { sent_end: 5, with_all: false }.encode();
        rig.commit(&[Entry::SessionClosed { client_id: "a", at_ms: 2, expiry_secs: 60, state: &ending }]);
        publish(&rig, 9..12);
        assert_eq!(open(&rig), [(0, 1), (2, 3), (4, 5)], "5 and 6 were not sent");
        let rig = rig.restart_with(keep_view, rules(WhenFull::DropOldest, FIVE));
        assert_eq!(open(&rig), [(0, 1), (2, 3), (4, 5)]);
        let session = rig.engine.session("a").unwrap();
        assert_eq!(session.attach(&rig.waker), 0, "a connection begins with what is to be released");
        rig.commit(&[acknowledged("a", &[0, 2, 4], &mut Vec::new())]);
        assert_eq!(session.attach(&rig.waker), 7);
    }
}

#[test]
fn as_many_oldest_go_as_the_bytes_of_the_new_one_need() {
    let limits = BacklogLimits { messages_max: 100, bytes_max: 100 };
    let rules = rules(WhenFull::DropOldest, limits);
    let rig = Rig::with(MemoryLog::new(), tempfile::tempdir().unwrap(), rules);
    let sized = |topic, payload| match event(topic) {
        Entry::Event(event) => Entry::Event(Event { payload, ..event }),
        other => other,
    };
    rig.commit(&[opened("a"), subscribed("a", "#")]);
    for topic in ["1", "2", "3", "4"] {
        rig.commit(&[sized(topic, &[0; 19])]);
    }
    rig.commit(&[sized("5", &[0; 59])]);
    assert_eq!(topics(&rig, "a"), ["3", "4", "5"]);
    rig.commit(&[sized("6", &[0; 200])]);
    assert_eq!(topics(&rig, "a"), ["3", "4", "5"], "nothing makes room for what is too large by itself");
}

#[test]
fn a_full_backlog_can_end_its_session() {
    for keep_view in [true, false] {
        let rig = rig(WhenFull::EndSession);
        rig.commit(&[opened("a"), subscribed("a", "x/#"), opened("b"), subscribed("b", "x/1")]);
        let held = rig.engine.session("a").unwrap();
        held.attach(&rig.waker);
        publish(&rig, 0..5);
        assert!(!held.is_removed());
        *rig.bell.rung.lock().unwrap() = false;
        publish(&rig, 5..6);
        assert!(held.is_removed(), "the connection that has it can see that it is over");
        assert!(*rig.bell.rung.lock().unwrap(), "and was woken");
        assert!(rig.engine.session("a").is_none());
        assert!(!rig.engine.interest("x/9").is_durable(QoS::AtLeastOnce));
        assert_eq!(topics(&rig, "b"), ["x/1"], "others have nothing to do with it");

        let rig = rig.restart_with(keep_view, rules(WhenFull::EndSession, FIVE));
        assert!(rig.engine.session("a").is_none());
        assert_eq!(topics(&rig, "b"), ["x/1"]);
    }
}

#[test]
fn the_end_of_a_session_is_the_end_of_the_delay_of_its_will() {
    let rig = rig(WhenFull::EndSession);
    let will = WillMessage {
        topic: "wills/a".into(),
        qos: 1,
        retain: false,
        message_expiry_secs: None,
        properties: [].into(),
        payload: (*b"gone").into(),
    };
    rig.commit(&[opened("a"), subscribed("a", "x/#")]);
    rig.commit(&[Entry::WillSet { client_id: "a", delay_secs: 500, will: &will.encode() }]);
    rig.commit(&[Entry::WillDue { client_id: "a", at_ms: u64::MAX }]);
    publish(&rig, 0..6);
    assert_eq!(rig.engine.will("a").unwrap().due_at_ms, Some(0), "[MQTT-3.1.2-8]");
}

#[test]
fn a_group_asks_its_members_for_room_only_when_all_are_full() {
    let rig = rig(WhenFull::DropOldest);
    for member in ["a", "b"] {
        rig.commit(&[opened(member), subscribed(member, "$share/g/x/#")]);
    }
    publish(&rig, 0..10);
    assert_eq!((rig.backlog("a").len(), rig.backlog("b").len()), (5, 5));
    publish(&rig, 10..14);
    let newest: Vec<_> = topics(&rig, "a").into_iter().chain(topics(&rig, "b")).collect();
    assert_eq!(newest.len(), 10);
    assert!((10..14).all(|number| newest.contains(&format!("x/{number}"))), "{newest:?}");
}

#[test]
fn a_cut_does_what_the_rules_allow() {
    for (when_full, left) in
        [(WhenFull::DropNewest, Some(4)), (WhenFull::DropOldest, Some(2)), (WhenFull::EndSession, None)]
    {
        let rig = rig(when_full);
        rig.commit(&[opened("a"), subscribed("a", "x/#"), opened("b"), subscribed("b", "x/3")]);
        publish(&rig, 0..4);
        let offsets = pending(rig.engine.chunks().as_ref(), &rig.engine.session("a").unwrap());
        for client_id in ["a", "b"] {
            rig.commit(&[Entry::BacklogCut { client_id, before: offsets[2].1.get() }]);
        }
        assert_eq!(rig.engine.session("a").map(|session| session.state().backlog.pending()), left);
        assert_eq!(rig.backlog("b").len(), 1, "nothing of it lies below the cut");
    }
}

/// Sequences and offsets.
type Pending = Vec<(u64, Offset)>;

/// No backlog here is large enough to let go of anything.
struct Nowhere;

impl Chunks for Nowhere {
    fn load(&self, _: &str, first: u64) -> Result<LoadedChunk, ChunkError> {
        Err(ChunkError::Missing { first })
    }
}

/// What a log makes of an empty view: every session with what is due, and the books.
#[derive(Debug, PartialEq)]
struct Made {
    sessions: Vec<(String, u64, u64, Pending)>,
    kept: Vec<(u64, u64)>,
    applied: Applied,
}

fn make(batches: &[Arc<Batch>], rules: Rules) -> Made {
    let table = Arc::new(Table::new(&[stream("all", "#")]));
    let mut applier = Applier::new(table.clone(), rules);
    let mut total = Applied::default();
    for batch in batches {
        total.add(&applier.apply(batch, batch.first()));
        applier.announce();
    }
    let mut sessions: Vec<_> = table
        .sessions()
        .iter()
        .map(|session| {
            let due = pending(&Nowhere, session);
            let state = session.state();
            assert_eq!(state.backlog.pending(), due.len() as u64);
            (session.client_id.to_string(), state.backlog.low(), state.backlog.end(), due)
        })
        .collect();
    sessions.sort();
    let kept = table.streams.usage().get(0).map(|usage| usage.kept_from(Offset::ZERO)).into_iter().collect();
    Made { sessions, kept, applied: total }
}

/// The groups that a log makes of entries, one for each.
fn groups(entries: &[Entry<'_>]) -> Vec<Arc<Batch>> {
    let committed = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let committed = committed.clone();
        Box::new(move |group: CommittedGroup| committed.lock().unwrap().push(group.batch))
    };
    let commit =
        GroupCommit::start(Box::new(MemoryLog::new()), GroupCommitOptions::default(), Box::new(|| 1), sink)
            .unwrap();
    for entry in entries {
        let mut staging = Staging::new();
        staging.push(entry).unwrap();
        commit.submit(&mut staging, Urgency::Now, Waker::noop(), None).unwrap();
    }
    commit.shutdown();
    let committed = committed.lock().unwrap();
    committed.clone()
}

proptest! {
    /// Whatever happens, under each policy: the same log makes the same view again, and every message
    /// routed is acknowledged, pending, or dropped for one reason.
    #[test]
    fn a_replay_makes_the_same_view_and_the_books_balance(
        steps in proptest::collection::vec((0u8..12, 0usize..3, 0u64..40), 1..120),
        policy in 0usize..3,
    ) {
        const CLIENTS: [&str; 3] = ["a", "b", "c"];
        let when_full = [WhenFull::DropNewest, WhenFull::DropOldest, WhenFull::EndSession][policy];
        let rules = rules(when_full, FIVE);
        let runs: Vec<Vec<u8>> = steps.iter().map(|(_, _, number)| {
            let mut bytes = Vec::new();
            acknowledged("", &[number / 2], &mut bytes);
            bytes
        }).collect();
        let ending = Ending { sent_end: 3, with_all: false }.encode();
        let entries: Vec<_> = steps.iter().zip(&runs).map(|(&(kind, client, number), runs)| {
            let client_id = CLIENTS[client];
            match kind {
                0 => opened(client_id),
                1 => subscribed(client_id, "x/#"),
                2 => subscribed(client_id, "$share/g/#"),
                3 => Entry::SessionClosed { client_id, at_ms: 5, expiry_secs: 60, state: &ending },
                4 => Entry::BacklogCut { client_id, before: number * 2 },
                5 | 6 => Entry::Acknowledged { client_id, runs },
                7 => Entry::Unsubscribed { client_id, filter: "x/#" },
                _ => event(["x/1", "x/2", "y"][client]),
            }
        }).collect();
        let batches = groups(&entries);
        let made = make(&batches, rules);
        prop_assert_eq!(&make(&batches, rules), &made);
        let left: u64 = made.sessions.iter().map(|(_, _, _, due)| due.len() as u64).sum();
        let Applied { routed, acknowledged, backlog_full, oldest_dropped, over_quota, backlog_cut, session_ended, .. } =
            made.applied;
        prop_assert_eq!(
            routed,
            acknowledged + left + backlog_full + oldest_dropped + over_quota + backlog_cut + session_ended
        );
        let allowed = match when_full {
            WhenFull::DropNewest => oldest_dropped + over_quota + backlog_cut,
            WhenFull::DropOldest => backlog_full + over_quota,
            WhenFull::EndSession => backlog_full + oldest_dropped + backlog_cut,
        };
        prop_assert_eq!(allowed, 0, "each policy drops in its own way alone");
    }
}

//! What entries do to consumers and dead letters, one rule after the other; all of them together against a model in `model`.

mod model;

use super::*;
use crate::engine::dead_letters::{DeadLetter, LetterFacts, LetterLimits, LettersChange};
use crate::engine::rules::{Rules, ShareStrategy, WhenFull};
use crate::engine::{BacklogLimits, LetterUsage};
use gateway_storage::{Entry, Event, Offset};
use std::cell::Cell;
use std::sync::Arc;

pub(super) fn spec() -> ConsumerSpec {
    ConsumerSpec {
        stream: "telemetry".into(),
        filter: "#".into(),
        start: 10,
        ack_wait_ms: 30_000,
        max_deliver: 5,
        backoff_ms: Vec::new(),
        max_ack_pending: 1000,
        order: Order::None,
        paused: false,
        configured: false,
        generation: 1,
    }
}

fn rules() -> Rules {
    Rules {
        backlog: BacklogLimits { messages_max: 1, bytes_max: 1 },
        share: ShareStrategy::RoundRobin,
        when_full: WhenFull::DropNewest,
        losses: 0,
        consumers_max: 3,
        letters: LetterLimits { bytes_max: 1 << 20, count_max: 100 },
    }
}

fn leased(attempts: u32) -> OpenItem {
    OpenItem {
        attempts,
        due_ms: 1000,
        first_ms: 100,
        worker: "w".into(),
        cause: None,
        leased: true,
        is_letter: false,
    }
}

fn letter(offset: u64, payload: &[u8]) -> DeadLetter {
    let event = Event {
        client_id: "pump-1",
        topic: "devices/pump-1",
        qos: 1,
        retain: false,
        received_ms: 7,
        expires_at_ms: 0,
        properties: b"p",
        payload,
    };
    let facts = LetterFacts {
        cause: Cause::MaxDeliver,
        failure: Some(Cause::Timeout),
        attempts: 5,
        first_ms: 3,
        worker: "w",
        note: "",
    };
    DeadLetter::new(offset, &facts, &event)
}

/// A table, and how far the log has come.
struct Rig {
    table: ConsumerTable,
    offset: Cell<u64>,
    rules: Rules,
}

impl Rig {
    fn new() -> Self {
        Self { table: ConsumerTable::default(), offset: Cell::new(1000), rules: rules() }
    }

    fn with(name: &str) -> Self {
        let rig = Self::new();
        rig.set(name, &spec());
        rig
    }

    fn apply(&self, entry: &Entry<'_>) {
        self.table.apply(entry, Offset::new(self.offset.replace(self.offset.get() + 1)), &self.rules);
    }

    fn set(&self, name: &str, spec: &ConsumerSpec) {
        self.apply(&Entry::ConsumerSet { name, at_ms: 5, spec: &spec.encode() });
    }

    fn progress(&self, name: &str, progress: Progress) {
        let progress = Progress { generation: progress.generation.max(1), ..progress }.encode();
        self.apply(&Entry::ConsumerProgress { name, at_ms: 6, progress: &progress });
    }

    fn dead(&self, name: &str, at_ms: u64, letter: &DeadLetter) {
        self.apply(&Entry::DeadLettered { name, at_ms, letter: &letter.encode() });
    }

    fn change(&self, name: &str, at_ms: u64, change: &LettersChange) {
        self.apply(&Entry::DeadLettersChanged { name, at_ms, change: &change.encode() });
    }

    fn entry(&self, name: &str) -> Arc<ConsumerEntry> {
        self.table.get(name).expect("the consumer is there")
    }

    fn read_to(&self, name: &str) -> u64 {
        self.entry(name).state().read_to
    }

    fn open(&self, name: &str) -> Vec<u64> {
        self.entry(name).state().open.keys().copied().collect()
    }

    fn letters(&self, name: &str) -> Vec<u64> {
        self.table.letters().page(name, None, 1000).iter().map(|letter| letter.offset()).collect()
    }

    fn usage(&self, name: &str) -> LetterUsage {
        self.table.letters().usage(name)
    }
}

fn opened(items: &[(u64, u32)], read_to: u64) -> Progress {
    let opened = items.iter().map(|(offset, attempts)| (*offset, leased(*attempts))).collect();
    Progress { opened, read_to, ..Progress::default() }
}

fn acked(offsets: &[u64], read_to: u64) -> Progress {
    Progress { acked: offsets.iter().copied().collect(), read_to, ..Progress::default() }
}

#[test]
fn a_consumer_begins_at_its_start_and_moves_on_by_what_is_said() {
    let rig = Rig::with("a");
    assert_eq!((rig.read_to("a"), rig.open("a")), (10, vec![]));
    rig.progress("a", opened(&[(10, 1), (12, 1), (13, 1)], 14));
    assert_eq!(rig.open("a"), [10, 12, 13]);
    rig.progress("a", opened(&[(12, 2)], 14));
    rig.progress("a", Progress { acked: [10].into_iter().collect(), ..opened(&[(20, 1)], 21) });
    let entry = rig.entry("a");
    let state = entry.state();
    assert_eq!((state.read_to, state.handed_out, state.redelivered, state.acked), (21, 5, 1, 1));
    assert_eq!(state.open.keys().copied().collect::<Vec<_>>(), [12, 13, 20]);
    assert_eq!(state.open[&12], leased(2));
    drop(state);
    rig.progress("a", acked(&[11, 12], 5));
    let state = entry.state();
    assert_eq!(state.read_to, 21, "it never goes back");
    assert_eq!(state.acked, 2, "nobody has asked for 11");
}

#[test]
fn what_was_handed_out_and_settled_between_two_words_counts() {
    let rig = Rig::with("a");
    rig.progress("a", Progress { expired: 2, lost: 3, missed: 4, ..acked(&[10, 11, 15], 20) });
    let entry = rig.entry("a");
    let state = entry.state();
    assert_eq!((state.acked, state.expired, state.lost, state.missed), (3, 2, 3, 4));
    drop(state);
    rig.progress("a", acked(&[10, 11, 15], 20));
    assert_eq!(entry.state().acked, 3, "once");
}

#[test]
fn another_generation_begins_anew_and_an_alteration_does_not() {
    let rig = Rig::with("a");
    rig.progress("a", opened(&[(10, 1)], 11));
    rig.set("a", &ConsumerSpec { paused: true, ..spec() });
    assert!(rig.entry("a").state().spec.paused);
    assert_eq!((rig.read_to("a"), rig.open("a")), (11, vec![10]));

    rig.dead("a", 50, &letter(5, b"x"));
    let redriven = LettersChange::Redriven(vec![(5, 77)]);
    rig.change("a", 60, &redriven);
    assert_eq!((rig.open("a"), rig.usage("a").redriven), (vec![5, 10], 1));
    rig.set("a", &ConsumerSpec { generation: 2, start: 3, ..spec() });
    assert_eq!((rig.read_to("a"), rig.open("a")), (3, vec![]));
    assert_eq!(rig.entry("a").state().discarded, 2);
    assert_eq!((rig.letters("a"), rig.usage("a").redriven), (vec![5], 0), "letters stay");

    rig.progress("a", opened(&[(99, 1)], 100));
    assert_eq!((rig.read_to("a"), rig.open("a")), (3, vec![]), "of the generation before");
    rig.progress("a", Progress { generation: 2, ..opened(&[(4, 1)], 5) });
    assert_eq!((rig.read_to("a"), rig.open("a")), (5, vec![4]));
}

#[test]
fn there_are_as_many_consumers_as_the_rules_say_and_all_have_names() {
    let rig = Rig::new();
    for name in ["a", "b", "B", "a b", "", "c", "d"] {
        rig.set(name, &spec());
    }
    let names: Vec<_> = rig.table.all().iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    rig.set("a", &ConsumerSpec { max_deliver: 9, ..spec() });
    assert_eq!(rig.entry("a").state().spec.max_deliver, 9, "one that is there is altered at the limit, too");
    rig.apply(&Entry::ConsumerRemoved { name: "b", at_ms: 1 });
    rig.set("d", &spec());
    assert!(rig.table.get("d").is_some());
    rig.apply(&Entry::ConsumerSet { name: "e", at_ms: 1, spec: b"\x93\x01" });
    rig.apply(&Entry::ConsumerProgress { name: "a", at_ms: 1, progress: b"rubbish" });
    assert_eq!(rig.entry("a").state().read_to, 10, "what is illegible changes nothing");
}

#[test]
fn a_dead_letter_closes_its_item_and_keeps_what_was_published() {
    let rig = Rig::with("a");
    rig.progress("a", opened(&[(10, 5), (11, 1)], 12));
    rig.dead("a", 50, &letter(10, b"payload"));
    assert_eq!((rig.open("a"), rig.letters("a")), (vec![11], vec![10]));
    let found = rig.table.letters().get("a", 10).unwrap();
    assert_eq!(
        (found.cause(), found.failure(), found.attempts),
        (Cause::MaxDeliver, Some(Cause::Timeout), 5)
    );
    assert_eq!((found.first_ms, found.dead_ms, &*found.worker), (3, 50, "w"));
    let event = found.event();
    assert_eq!((event.topic, event.client_id, event.payload), ("devices/pump-1", "pump-1", &b"payload"[..]));
    rig.dead("a", 51, &letter(10, b"payload"));
    assert_eq!(rig.entry("a").state().dead_lettered, 1, "said twice");
    rig.apply(&Entry::DeadLettered { name: "a", at_ms: 1, letter: b"\x90" });
    rig.dead("nobody", 52, &letter(10, b"payload"));
    assert_eq!(rig.usage("a").bytes, found.cost());
}

#[test]
fn a_redriven_letter_is_open_until_it_is_settled_or_dead_again() {
    let rig = Rig::with("a");
    for offset in [10, 11, 12, 13] {
        rig.dead("a", 50, &letter(offset, b"x"));
    }
    rig.change("a", 60, &LettersChange::Redriven(vec![(10, 70), (11, 80), (12, 90), (99, 95)]));
    assert_eq!(rig.open("a"), [10, 11, 12], "there is no 99");
    let item = rig.entry("a").state().open[&11].clone();
    assert_eq!((item.attempts, item.due_ms, item.leased, item.is_letter), (0, 80, false, true));
    assert_eq!(rig.usage("a").redriven, 3);
    let again = LettersChange::Redriven(vec![(11, 1000)]);
    rig.progress(
        "a",
        Progress { opened: vec![(11, OpenItem { is_letter: true, ..leased(1) })], ..acked(&[10], 14) },
    );
    rig.change("a", 61, &again);
    assert_eq!(rig.entry("a").state().open[&11].attempts, 1, "it is under way already");
    assert_eq!(rig.letters("a"), [11, 12, 13], "10 is settled");

    rig.dead("a", 100, &letter(11, b"x"));
    let found = rig.table.letters().get("a", 11).unwrap();
    assert_eq!((found.redrives, found.dead_ms, found.is_redriven()), (1, 100, false));
    assert_eq!((rig.open("a"), rig.usage("a").redriven), (vec![12], 1));
    rig.progress("a", Progress { gone: [12].into_iter().collect(), ..Progress::default() });
    assert_eq!((rig.open("a"), rig.letters("a")), (vec![], vec![11, 13]));
}

#[test]
fn letters_are_purged_wherever_they_are_and_aged_only_where_they_wait() {
    let rig = Rig::with("a");
    for offset in [10, 11, 12, 13] {
        rig.dead("a", 50 + offset, &letter(offset, b"x"));
    }
    rig.change("a", 70, &LettersChange::Redriven(vec![(10, 70), (11, 70)]));
    assert_eq!(rig.table.letters().older_than(63, 100), [("a".into(), vec![12])], "the older are under way");
    assert_eq!(rig.table.letters().older_than(1000, 1)[0].1.len(), 1, "no more than asked for");
    rig.change("a", 80, &LettersChange::Aged([10, 12].into_iter().collect()));
    assert_eq!(rig.letters("a"), [10, 11, 13]);
    rig.change("a", 80, &LettersChange::Purged((0..u64::from(u32::MAX)).step_by(1).take(12).collect()));
    assert_eq!((rig.letters("a"), rig.open("a")), (vec![13], vec![]));
    assert_eq!(rig.entry("a").state().discarded, 2);
}

#[test]
fn a_purge_of_everything_names_one_long_run() {
    let rig = Rig::with("a");
    rig.dead("a", 50, &letter(u64::MAX - 10, b"x"));
    // From 0 on, so many that no list of them would fit anywhere.
    let bytes = [&[2, 1, 0][..], &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]].concat();
    rig.apply(&Entry::DeadLettersChanged { name: "a", at_ms: 1, change: &bytes });
    assert_eq!(rig.letters("a"), [0; 0]);
}

#[test]
fn a_consumer_that_fails_at_everything_displaces_its_own_letters() {
    let mut rig = Rig::with("a");
    rig.set("b", &spec());
    rig.dead("b", 1, &letter(1, &[1; 1000]));
    let limits = LetterLimits { bytes_max: 1 << 14, count_max: 12 };
    rig.rules.letters = limits;
    for offset in 10..30 {
        rig.dead("a", offset, &letter(offset, &[2; 100]));
    }
    assert_eq!(rig.letters("a"), (18..30).collect::<Vec<_>>(), "no more than count_max, the newest");
    for offset in 30..50 {
        rig.dead("a", offset, &letter(offset, &[3; 2000]));
    }
    assert_eq!(rig.letters("b"), [1], "the oldest of all, but of another one");
    let kept = rig.letters("a");
    assert_eq!(kept.last(), Some(&49));
    assert!(rig.usage("a").bytes + rig.usage("b").bytes <= limits.bytes_max && kept.len() >= 6, "{kept:?}");
    rig.dead("a", 60, &letter(60, &[4; 20_000]));
    assert_eq!(rig.letters("b"), [1]);
    assert!(!rig.letters("a").contains(&60), "larger than all may be together");

    rig.change("b", 70, &LettersChange::Redriven(vec![(1, 70)]));
    rig.rules.letters = LetterLimits { bytes_max: 1, count_max: 1 };
    rig.table.limit(&rig.rules);
    assert_eq!(
        (rig.letters("a"), rig.letters("b"), rig.open("b")),
        (vec![], vec![], vec![]),
        "under way or not"
    );
}

#[test]
fn a_consumer_that_is_removed_takes_its_letters_along() {
    let rig = Rig::with("a");
    rig.progress("a", opened(&[(10, 1)], 11));
    rig.dead("a", 50, &letter(3, b"x"));
    let entry = rig.entry("a");
    rig.apply(&Entry::ConsumerRemoved { name: "a", at_ms: 2 });
    assert!(entry.is_removed() && rig.table.get("a").is_none());
    assert_eq!(rig.usage("a"), LetterUsage::default());
    rig.progress("a", opened(&[(11, 1)], 12));
    rig.set("a", &spec());
    assert_eq!((rig.open("a"), rig.letters("a")), (vec![], vec![]));
    assert_eq!(rig.entry("a").state().created_ms, 5);
}

#[test]
fn letters_come_in_pages() {
    let rig = Rig::with("a");
    for offset in 10..20 {
        rig.dead("a", 50, &letter(offset, b"x"));
    }
    let page = |after, limit| -> Vec<u64> {
        rig.table.letters().page("a", after, limit).iter().map(|letter| letter.offset()).collect()
    };
    assert_eq!(page(None, 3), [10, 11, 12]);
    assert_eq!(page(Some(12), 3), [13, 14, 15]);
    assert_eq!(page(Some(18), 3), [19]);
    assert_eq!(page(Some(u64::MAX), 3), [0; 0]);
    let usage = rig.usage("a");
    assert_eq!((usage.count, usage.oldest_ms), (10, 50));
}

//! The index against a list of everything there ever was, its rows, and what it costs.

use super::identity::Identity;
use super::index::{CHUNK, Index};
use super::saved::{Loader, Saved};
use gateway_storage::{Changes, Offset, Table, View, ViewOptions};
use proptest::prelude::*;

proptest! {
    /// Exact within the window as long as there are not too many, and exactly the newest ones where there are.
    #[test]
    fn what_is_known_is_what_came_within_the_window(
        events in proptest::collection::vec((0u64..40, 0u64..4), 1..400),
        window_ms in 1u64..60,
        entries_max in 1u32..60,
    ) {
        let mut index = Index::new(window_ms, entries_max);
        let mut all: Vec<(u64, u64)> = Vec::new();
        let mut now_ms = 1000;
        for (number, passed_ms) in events {
            now_ms += passed_ms;
            all.push((number, now_ms));
            index.add(Identity::numbered(number), now_ms);
            let kept = &all[all.len().saturating_sub(entries_max as usize)..];
            for number in 0..40 {
                let newest = kept.iter().rev().find(|(known, _)| *known == number);
                let expected = newest.is_some_and(|(_, at_ms)| now_ms - at_ms < window_ms);
                prop_assert_eq!(index.is_known(Identity::numbered(number), now_ms), expected);
            }
            prop_assert!(index.len() <= u64::from(entries_max));
        }
        // All of it goes once its time is over, as others come.
        for number in 0..200 {
            index.add(Identity::numbered(100 + number), now_ms + window_ms + number * window_ms);
        }
        prop_assert_eq!(index.len(), 1);
        prop_assert!((0..40).all(|number| index.received_ms(Identity::numbered(number)).is_none()));
    }
}

#[test]
fn only_what_is_let_go_of_before_its_time_counts_as_forgotten_early() {
    let mut index = Index::new(100, 3);
    for number in 0..3 {
        index.add(Identity::numbered(number), number);
    }
    index.add(Identity::numbered(2), 50);
    assert_eq!((index.forgotten_early(), index.len()), (1, 3), "0 was forgotten");
    index.add(Identity::numbered(3), 60);
    assert_eq!(index.forgotten_early(), 2, "1 was forgotten");
    index.add(Identity::numbered(4), 70);
    assert_eq!(index.forgotten_early(), 2, "of 2 there is a newer one");
    for number in 5..20 {
        index.add(Identity::numbered(number), 1000 + 200 * number);
    }
    assert_eq!(index.forgotten_early(), 2, "the time of the others was over");
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_older() {
    let mut index = Index::new(100, 1000);
    index.add(Identity::numbered(1), 5000);
    index.add(Identity::numbered(2), 1000);
    assert!(index.is_known(Identity::numbered(1), 1000));
    assert!(index.is_known(Identity::numbered(2), 1099));
    assert!(!index.is_known(Identity::numbered(2), 1100));
}

/// An index and a view that it is saved in.
struct Rig {
    index: Index,
    saved: Saved,
    view: View,
    _dir: tempfile::TempDir,
}

const WINDOW_MS: u64 = 40_000;
const ENTRIES_MAX: u32 = 15_000;

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (view, _) = View::open(dir.path().join("view"), ViewOptions::default()).unwrap();
        Self { index: Index::new(WINDOW_MS, ENTRIES_MAX), saved: Saved::default(), view, _dir: dir }
    }

    fn save(&mut self) -> usize {
        let mut changes = Changes::new();
        self.saved.save(&self.index, &mut changes).unwrap();
        self.view.save(&changes, Offset::ZERO).unwrap();
        assert!(!self.saved.is_behind(&self.index));
        changes.len()
    }

    fn load(&self) -> Loader {
        let mut loader = Loader::new(Index::new(WINDOW_MS, ENTRIES_MAX));
        self.view.scan(Table::Identities, &mut |key, value| loader.add(key, value)).unwrap();
        loader
    }

    fn rows(&self) -> u64 {
        self.view.scan(Table::Identities, &mut |_, _| {}).unwrap()
    }
}

#[test]
fn a_saved_index_comes_back_as_it_was_however_often_it_is_saved() {
    let mut rig = Rig::new();
    let (mut number, mut now_ms) = (0, 0);
    // Less than a chunk, several, none, more than there may be, and a silence in which everything goes.
    for (count, passed_ms) in
        [(10, 0), (5000, 1), (0, 0), (9000, 1), (3, 1), (20_000, 1), (5, 50_000), (7000, 1)]
    {
        for _ in 0..count {
            (number, now_ms) = (number + 1, now_ms + passed_ms);
            rig.index.add(Identity::numbered(number), now_ms);
        }
        rig.save();
        let chunks = rig.index.next().div_ceil(CHUNK) - rig.index.first_chunk();
        assert_eq!(rig.rows(), chunks, "a row for each chunk that is kept, and no other");
        let loaded = rig.load().finish().unwrap();
        let from = number.saturating_sub(40_000);
        for at in from..=number + 1 {
            let identity = Identity::numbered(at);
            let known = rig.index.is_known(identity, now_ms);
            assert_eq!(loaded.index.is_known(identity, now_ms), known, "{at} of {number}");
        }
        assert_eq!(loaded.index.next(), rig.index.next());
        (rig.index, rig.saved) = (loaded.index, loaded.saved);
    }
}

#[test]
fn a_save_writes_what_was_added_and_no_more() {
    let mut rig = Rig::new();
    for number in 0..3 * CHUNK + 10 {
        rig.index.add(Identity::numbered(number), 0);
    }
    assert_eq!(rig.save(), 4);
    assert_eq!(rig.save(), 0);
    rig.index.add(Identity::numbered(u64::MAX), 0);
    assert_eq!(rig.save(), 1);
}

#[test]
fn rows_that_can_not_be_are_illegible() {
    let mut record = Identity::numbered(1).to_bytes().to_vec();
    record.extend_from_slice(&7u64.to_le_bytes());
    let row = |chunk: u64| (chunk.to_be_bytes().to_vec(), record.clone());
    let too_long = (5u64.to_be_bytes().to_vec(), record.repeat(CHUNK as usize + 1));
    let faults = [
        vec![(vec![1, 2], record.clone())],
        vec![(5u64.to_be_bytes().to_vec(), record[..23].to_vec())],
        vec![(5u64.to_be_bytes().to_vec(), Vec::new())],
        vec![row(5), row(6)],
        vec![too_long],
        vec![row(u64::MAX)],
    ];
    for rows in faults {
        let mut loader = Loader::new(Index::new(WINDOW_MS, ENTRIES_MAX));
        rows.iter().for_each(|(key, value)| loader.add(key, value));
        assert!(loader.finish().is_err(), "{:?}", rows.first());
    }
}

#[test]
fn a_million_names_cost_what_the_configuration_says() {
    const COUNT: u32 = 1_000_000;
    let mut index = Index::new(u64::MAX, COUNT);
    let mut most = 0;
    for number in 0..u64::from(COUNT) + 50_000 {
        index.add(Identity::numbered(number), number);
        if number % 10_000 == 0 {
            most = most.max(index.memory_bytes());
        }
    }
    assert_eq!(index.len(), u64::from(COUNT));
    assert_eq!(index.forgotten_early(), 50_000);
    let each = most as f64 / f64::from(COUNT);
    println!("{each:.1} bytes for each of a million names");
    assert!(each < 37.0, "{each}");
    // Ten times the window later it is given back, as others come.
    let mut index = Index::new(1, COUNT);
    (0..200_000).for_each(|number| index.add(Identity::numbered(number), 0));
    (0..100_000).for_each(|number| index.add(Identity::numbered(number), 10 * (1 + number)));
    assert_eq!(index.len(), 1);
    assert!(index.memory_bytes() < 1 << 20, "{}", index.memory_bytes());
}

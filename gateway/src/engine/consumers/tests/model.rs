//! Random entries against a model that keeps every event by itself, and against a table that was saved, read back, and given entries again
//! that it had seen.

use super::*;
use crate::engine::consumers::progress::tests::any_item;
use crate::engine::snapshot::chunked;
use gateway_storage::{Changes, Table, View, ViewOptions};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Offsets that entries speak of; some hundreds apart, so that they lie in several rows of the view.
const OFFSETS: u64 = 12;
const APART: u64 = 300;

#[derive(Clone, Debug)]
enum Step {
    Set {
        generation: u64,
        start: u64,
    },
    Remove,
    Progress {
        generation: u64,
        read_to: u64,
        opened: BTreeMap<u64, OpenItem>,
        acked: BTreeSet<u64>,
        gone: BTreeSet<u64>,
    },
    Dead {
        offset: u64,
        at_ms: u64,
    },
    Redrive(Vec<u64>),
    Purge(BTreeSet<u64>),
    Age(BTreeSet<u64>),
}

fn any_offset() -> impl Strategy<Value = u64> {
    (0..OFFSETS).prop_map(|number| number * APART)
}

fn any_step() -> impl Strategy<Value = Step> {
    let offsets = || proptest::collection::btree_set(any_offset(), 0..5);
    let opened = proptest::collection::btree_map(any_offset(), any_item(), 0..5);
    prop_oneof![
        2 => (1..3u64, any_offset()).prop_map(|(generation, start)| Step::Set { generation, start }),
        1 => Just(Step::Remove),
        8 => (1..3u64, any_offset(), opened, offsets(), offsets()).prop_map(
            |(generation, read_to, opened, acked, gone)| {
                // What is acknowledged is not gone as well.
                let gone = gone.difference(&acked).copied().collect();
                Step::Progress { generation, read_to, opened, acked, gone }
            }
        ),
        4 => (any_offset(), 1..100u64).prop_map(|(offset, at_ms)| Step::Dead { offset, at_ms }),
        2 => proptest::collection::vec(any_offset(), 0..4).prop_map(Step::Redrive),
        1 => offsets().prop_map(Step::Purge),
        1 => offsets().prop_map(Step::Age),
    ]
}

/// What the entries mean, event by event.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    generation: u64,
    read_to: u64,
    open: BTreeMap<u64, OpenItem>,
    acked: u64,
    dead: u64,
    discarded: u64,
    /// Redrives, and whether it is under way.
    letters: BTreeMap<u64, (u32, bool)>,
}

type Models = BTreeMap<&'static str, Model>;

fn step_model(models: &mut Models, name: &'static str, step: &Step) {
    if let Step::Set { generation, start } = step {
        let fresh = Model { generation: *generation, read_to: *start, ..Model::default() };
        let model = models.entry(name).or_insert(fresh);
        if model.generation != *generation {
            model.discarded += model.open.len() as u64;
            model.open.clear();
            model.letters.values_mut().for_each(|letter| letter.1 = false);
            (model.generation, model.read_to) = (*generation, *start);
        }
        return;
    }
    let Some(model) = models.get_mut(name) else { return };
    match step {
        Step::Set { .. } => {}
        Step::Remove => {
            models.remove(name);
        }
        Step::Progress { generation, read_to, opened, acked, gone } => {
            if *generation != model.generation {
                return;
            }
            model.open.extend(opened.clone());
            for offset in acked {
                let was_open = model.open.contains_key(offset);
                model.acked += u64::from(was_open || *offset >= model.read_to);
            }
            for offset in acked.iter().chain(gone) {
                if model.open.remove(offset).is_some_and(|item| item.is_letter) {
                    model.letters.remove(offset);
                }
            }
            model.read_to = model.read_to.max(*read_to);
        }
        Step::Dead { offset, .. } => {
            let was_open = model.open.remove(offset).is_some();
            let redrives = model.letters.get(offset).map(|letter| letter.0);
            if was_open || *offset >= model.read_to || redrives.is_none() {
                model.dead += 1;
                model.letters.insert(*offset, (redrives.unwrap_or(0), false));
            }
        }
        Step::Redrive(offsets) => {
            for offset in offsets {
                let Some(letter) = model.letters.get_mut(offset).filter(|letter| !letter.1) else { continue };
                *letter = (letter.0 + 1, true);
                let item = OpenItem {
                    attempts: 0,
                    due_ms: offset + 5,
                    first_ms: 0,
                    worker: "".into(),
                    cause: None,
                    leased: false,
                    is_letter: true,
                };
                model.open.insert(*offset, item);
            }
        }
        Step::Purge(offsets) => {
            for offset in offsets.iter().filter(|offset| model.letters.remove(offset).is_some()) {
                if model.open.get(offset).is_some_and(|item| item.is_letter) {
                    model.open.remove(offset);
                    model.discarded += 1;
                }
            }
        }
        Step::Age(offsets) => {
            offsets.iter().for_each(|offset| {
                if model.letters.get(offset).is_some_and(|letter| !letter.1) {
                    model.letters.remove(offset);
                }
            });
        }
    }
}

/// The same as an entry that lies at `at`.
fn step_table(table: &ConsumerTable, at: u64, name: &str, step: &Step) {
    let runs = |offsets: &BTreeSet<u64>| offsets.iter().copied().collect::<OffsetRuns>();
    let bytes;
    let entry = match step {
        Step::Set { generation, start } => {
            bytes = ConsumerSpec { generation: *generation, start: *start, ..spec() }.encode();
            Entry::ConsumerSet { name, at_ms: 1, spec: &bytes }
        }
        Step::Remove => Entry::ConsumerRemoved { name, at_ms: 1 },
        Step::Progress { generation, read_to, opened, acked, gone } => {
            let progress = Progress {
                generation: *generation,
                read_to: *read_to,
                opened: opened.clone().into_iter().collect(),
                acked: runs(acked),
                gone: runs(gone),
                ..Progress::default()
            };
            bytes = progress.encode();
            Entry::ConsumerProgress { name, at_ms: 1, progress: &bytes }
        }
        Step::Dead { offset, at_ms } => {
            bytes = letter(*offset, &vec![7; *offset as usize * 50]).encode();
            Entry::DeadLettered { name, at_ms: *at_ms, letter: &bytes }
        }
        Step::Redrive(offsets) => {
            bytes = LettersChange::Redriven(offsets.iter().map(|offset| (*offset, offset + 5)).collect())
                .encode();
            Entry::DeadLettersChanged { name, at_ms: 1, change: &bytes }
        }
        Step::Purge(offsets) => {
            bytes = LettersChange::Purged(runs(offsets)).encode();
            Entry::DeadLettersChanged { name, at_ms: 1, change: &bytes }
        }
        Step::Age(offsets) => {
            bytes = LettersChange::Aged(runs(offsets)).encode();
            Entry::DeadLettersChanged { name, at_ms: 1, change: &bytes }
        }
    };
    let letters = LetterLimits { bytes_max: 1 << 30, count_max: 1000 };
    table.apply(&entry, Offset::new(at), &Rules { letters, ..rules() });
}

fn look(table: &ConsumerTable) -> Models {
    let names = ["a", "b"];
    let look = |name: &'static str| {
        let entry = table.get(name)?;
        let state = entry.state();
        let letters = table.letters().page(name, None, 1000);
        let usage = table.letters().usage(name);
        assert_eq!(usage.count, letters.len() as u64);
        assert_eq!(usage.bytes, letters.iter().map(|letter| letter.cost()).sum::<u64>());
        assert_eq!(usage.redriven, letters.iter().filter(|letter| letter.is_redriven()).count() as u64);
        assert_eq!(usage.oldest_ms, letters.iter().map(|letter| letter.dead_ms).min().unwrap_or(0));
        let model = Model {
            generation: state.spec.generation,
            read_to: state.read_to,
            open: state.open.clone(),
            acked: state.acked,
            dead: state.dead_lettered,
            discarded: state.discarded,
            letters: letters
                .iter()
                .map(|letter| (letter.offset(), (letter.redrives, letter.is_redriven())))
                .collect(),
        };
        Some((name, model))
    };
    names.into_iter().filter_map(look).collect()
}

/// Everything that the table itself compares by.
fn all_of(table: &ConsumerTable) -> Vec<String> {
    let letters = |name: &str| table.letters().page(name, None, 1000);
    let all = table.all();
    all.iter()
        .map(|entry| {
            let mut state = entry.state();
            state.tally = Default::default();
            state.unsaved = Default::default();
            format!("{} {:?} {:?}", entry.name, *state, letters(&entry.name))
        })
        .collect()
}

fn read_back(view: &View) -> ConsumerTable {
    let (mut consumers, mut letters) = (Loader::default(), chunked::Loader::default());
    view.scan(Table::Consumers, &mut |key, value| consumers.add(key, value)).unwrap();
    view.scan(Table::DeadLetters, &mut |key, value| letters.add(key, value)).unwrap();
    let table = ConsumerTable::default();
    table.restore(SavedConsumers::finish(consumers, letters).unwrap_or_else(|row| panic!("{row:?}")));
    table
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn entries_mean_what_the_model_says_and_a_view_of_any_age_leads_to_the_same(
        steps in proptest::collection::vec((prop_oneof![Just("a"), Just("b")], any_step()), 1..80),
        saves in proptest::collection::btree_set(0usize..80, 1..5),
        again in 0usize..40,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (view, _) = View::open(dir.path().join("view"), ViewOptions::default()).unwrap();
        let table = ConsumerTable::default();
        let mut models = Models::new();
        let mut saved = 0;
        for (at, (name, step)) in steps.iter().enumerate() {
            step_model(&mut models, name, step);
            step_table(&table, at as u64, name, step);
            prop_assert_eq!(&look(&table), &models, "after step {}", at);
            if saves.contains(&at) {
                let mut changes = Changes::new();
                table.save(&mut changes).unwrap();
                prop_assert!(!table.has_unsaved());
                view.save(&changes, Offset::new(at as u64 + 1)).unwrap();
                saved = at + 1;
                prop_assert_eq!(all_of(&read_back(&view)), all_of(&table));
            }
        }
        // A replay that begins before what the view has seen.
        let restored = read_back(&view);
        for (at, (name, step)) in steps.iter().enumerate().skip(saved) {
            step_table(&restored, at as u64, name, step);
        }
        prop_assert_eq!(all_of(&restored), all_of(&table));
        let restored = read_back(&view);
        let known: BTreeSet<_> = restored.all().iter().map(|entry| entry.name.clone()).collect();
        for (at, (name, step)) in steps.iter().enumerate().skip(saved.saturating_sub(again)) {
            // One that was removed before the view was saved is made once more by such a replay, and removed once more.
            if at >= saved || known.contains(*name) {
                step_table(&restored, at as u64, name, step);
            }
        }
        prop_assert_eq!(all_of(&restored), all_of(&table));
    }
}

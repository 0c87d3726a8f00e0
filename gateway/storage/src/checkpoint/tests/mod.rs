//! Checkpoints: rows in, rows out, and nothing else out.

mod failing_disk;
mod faults;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::format::{BLOCK_BYTES, CHECKPOINT_FORMAT, Header};
use super::*;
use crate::log::segments::disk::{Disk, RealDisk};
use crate::recovery::StoreError;
use crate::view::{Changes, Table, VALUE_BYTES_MAX, View, ViewError, ViewOptions};

const SMALL: ViewOptions = ViewOptions { cache_bytes: 8 << 20 };

type Rows = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// A data directory with a view.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn view(&self) -> View {
        View::open(self.dir.path().join("view"), SMALL).unwrap().0
    }

    fn checkpoint_dir(&self) -> PathBuf {
        self.dir.path().join("checkpoint")
    }

    fn path(&self, applied: u64) -> PathBuf {
        self.checkpoint_dir().join(file_name(Offset::new(applied)))
    }

    fn checkpoints(&self) -> Checkpoints {
        self.checkpoints_on(Arc::new(RealDisk))
    }

    fn checkpoints_on(&self, disk: Arc<dyn Disk>) -> Checkpoints {
        Checkpoints::open(self.checkpoint_dir(), disk).unwrap()
    }

    fn listed(&self) -> Vec<u64> {
        list(&self.checkpoint_dir()).unwrap().iter().map(|file| file.applied.get()).collect()
    }
}

/// Saves `value` under many keys of several tables, as the state at `applied`.
fn save(view: &View, applied: u64) {
    let mut changes = Changes::new();
    for key in 0..300_u32 {
        let table = [Table::Sessions, Table::Pending, Table::Meta][key as usize % 3];
        changes.put(table, &key.to_be_bytes(), &applied.to_le_bytes().repeat(400)).unwrap();
    }
    view.save(&changes, Offset::new(applied)).unwrap();
}

fn dump(checkpoints: &mut Checkpoints, view: &View) -> Result<(), CheckpointError> {
    checkpoints.dump(view, &|| true)
}

fn rows(view: &View) -> Rows {
    let mut rows = Rows::new();
    view.scan_all::<ViewError>(&mut |key, value| {
        rows.insert((key[0], key[1..].to_vec()), value.to_vec());
        Ok(())
    })
    .unwrap();
    rows
}

/// The rows in a checkpoint, without a view.
fn rows_in(path: &Path) -> Result<Rows, CheckpointError> {
    let file = File::open(path).unwrap();
    let mut rows = Rows::new();
    Reader::open(path, &file)?.read(&mut |key, value| {
        rows.insert((key[0], key[1..].to_vec()), value.to_vec());
        Ok(())
    })?;
    Ok(rows)
}

#[test]
fn a_view_is_made_again_from_a_checkpoint() {
    let place = Place::new();
    let view = place.view();
    save(&view, 70);
    let expected = rows(&view);
    let mut checkpoints = place.checkpoints();
    assert_eq!((checkpoints.newest(), checkpoints.oldest()), (None, None));
    dump(&mut checkpoints, &view).unwrap();
    assert_eq!((checkpoints.newest(), checkpoints.oldest()), (Some(Offset::new(70)), Some(Offset::new(70))));

    let verified = verify(&place.path(70)).unwrap();
    let bytes = std::fs::metadata(place.path(70)).unwrap().len();
    assert_eq!((verified.applied, verified.rows, verified.bytes), (Offset::new(70), 300, bytes));
    assert!(bytes > 2 * BLOCK_BYTES as u64 && checkpoints.newest_bytes() == bytes);

    let reason = ViewError::Corrupt { table: None, key: Box::default() };
    let (view, report) = checkpoints.rebuild(view, reason, Offset::new(60)).unwrap();
    assert_eq!(
        (report.applied, report.rows, report.checkpoint),
        (Offset::new(70), 300, Some(place.path(70)))
    );
    assert!(report.set_aside.unwrap().path.is_dir());
    assert_eq!((view.applied(), rows(&view)), (Offset::new(70), expected.clone()));
    view.close().unwrap();
    let view = place.view();
    assert_eq!((view.applied(), rows(&view)), (Offset::new(70), expected));
}

#[test]
fn the_two_newest_are_kept_and_one_is_not_written_twice() {
    let place = Place::new();
    let view = place.view();
    let mut checkpoints = place.checkpoints();
    for applied in [0, 10, 20, 30] {
        if applied > 0 {
            save(&view, applied);
        }
        dump(&mut checkpoints, &view).unwrap();
        let written = std::fs::metadata(place.path(applied)).unwrap().modified().unwrap();
        dump(&mut checkpoints, &view).unwrap();
        assert_eq!(std::fs::metadata(place.path(applied)).unwrap().modified().unwrap(), written);
    }
    assert_eq!(place.listed(), [20, 30]);
    assert_eq!((checkpoints.oldest(), checkpoints.newest()), (Some(Offset::new(20)), Some(Offset::new(30))));
    let again = place.checkpoints();
    assert_eq!((again.oldest(), again.newest()), (Some(Offset::new(20)), Some(Offset::new(30))));
    assert_eq!(again.newest_bytes(), checkpoints.newest_bytes());
}

#[test]
fn an_empty_view_has_a_checkpoint_too() {
    let place = Place::new();
    let view = place.view();
    view.save(&Changes::new(), Offset::new(5)).unwrap();
    dump(&mut place.checkpoints(), &view).unwrap();
    assert_eq!(rows_in(&place.path(5)).unwrap(), Rows::new());
    assert_eq!(verify(&place.path(5)).unwrap().rows, 0);
}

#[test]
fn a_file_cut_off_anywhere_does_not_verify() {
    let place = Place::new();
    let view = place.view();
    save(&view, 70);
    dump(&mut place.checkpoints(), &view).unwrap();
    let path = place.path(70);
    let whole = std::fs::read(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let near_the_ends = (0..1000).chain(whole.len() - 1000..whole.len());
    let mut cuts: Vec<_> = near_the_ends.chain((1000..whole.len() - 1000).step_by(4001)).collect();
    cuts.sort_unstable();
    for len in cuts.into_iter().rev() {
        file.set_len(len as u64).unwrap();
        assert!(matches!(verify(&path), Err(CheckpointError::Damaged { .. })), "cut at {len}");
    }
    std::fs::write(&path, [whole.as_slice(), &[0]].concat()).unwrap();
    assert!(matches!(verify(&path), Err(CheckpointError::Damaged { .. })), "a byte more");
    std::fs::write(&path, &whole).unwrap();
    verify(&path).unwrap();
}

#[test]
fn a_file_with_any_bit_flipped_does_not_verify() {
    let place = Place::new();
    let view = place.view();
    let mut changes = Changes::new();
    changes.put(Table::Sessions, b"a", b"one").unwrap();
    changes.put(Table::Wills, b"b", b"two").unwrap();
    view.save(&changes, Offset::new(70)).unwrap();
    dump(&mut place.checkpoints(), &view).unwrap();
    let path = place.path(70);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            std::fs::write(&path, &flipped).unwrap();
            assert!(matches!(verify(&path), Err(CheckpointError::Damaged { .. })), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn blocks_of_other_checkpoints_or_in_other_places_do_not_verify() {
    let place = Place::new();
    let view = place.view();
    let mut checkpoints = place.checkpoints();
    for applied in [70, 80] {
        save(&view, applied);
        dump(&mut checkpoints, &view).unwrap();
    }
    let old = std::fs::read(place.path(70)).unwrap();
    let new = std::fs::read(place.path(80)).unwrap();
    // Both have the same keys and lengths, so their blocks lie in the same places.
    let middle = new.windows(4).skip(1000).position(|four| four == b"GWCB").unwrap() + 1000;
    let mixed = [&new[..middle], &old[middle..old.len() - 36], &new[new.len() - 36..]].concat();
    assert_eq!(mixed.len(), new.len());
    std::fs::write(place.path(80), &mixed).unwrap();
    let error = verify(&place.path(80)).unwrap_err();
    let CheckpointError::Damaged { at, damage, .. } = error else { panic!("{error}") };
    assert_eq!((at, damage), (middle as u64, Damage::Block));

    std::fs::write(place.path(90), &new).unwrap();
    let error = verify(&place.path(90)).unwrap_err();
    assert!(matches!(error, CheckpointError::Damaged { damage: Damage::Name, .. }), "{error}");
}

#[test]
fn a_checkpoint_of_a_newer_format_is_refused_with_a_sentence_and_left_alone() {
    let place = Place::new();
    let view = place.view();
    save(&view, 70);
    dump(&mut place.checkpoints(), &view).unwrap();
    let path = place.path(70);
    let mut bytes = std::fs::read(&path).unwrap();
    let header = Header { version: CHECKPOINT_FORMAT + 1, applied: Offset::new(70) };
    bytes[..32].copy_from_slice(&header.encode());
    std::fs::write(&path, &bytes).unwrap();
    for error in [
        verify(&path).unwrap_err(),
        Checkpoints::open(place.checkpoint_dir(), Arc::new(RealDisk)).unwrap_err(),
    ] {
        assert!(matches!(error, CheckpointError::NewerFormat { found: 2, known: 1, .. }));
        let said = error.to_string();
        assert!(
            said.contains(path.to_str().unwrap()) && said.contains("version 2") && said.contains("up to 1")
        );
    }
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn what_is_left_over_is_removed_and_what_is_damaged_is_passed_over() {
    let place = Place::new();
    let view = place.view();
    let mut checkpoints = place.checkpoints();
    for applied in [10, 20] {
        save(&view, applied);
        dump(&mut checkpoints, &view).unwrap();
    }
    let temporary = place.checkpoint_dir().join(temporary_name(Offset::new(30)));
    std::fs::write(&temporary, b"half a checkpoint").unwrap();
    std::fs::write(place.path(25), b"no checkpoint").unwrap();
    std::fs::write(place.checkpoint_dir().join("notes.txt"), b"not ours").unwrap();
    let mut checkpoints = place.checkpoints();
    assert!(!temporary.exists());
    assert_eq!((checkpoints.oldest(), checkpoints.newest()), (Some(Offset::new(10)), Some(Offset::new(20))));
    save(&view, 30);
    dump(&mut checkpoints, &view).unwrap();
    assert_eq!(place.listed(), [20, 30]);
    assert!(place.checkpoint_dir().join("notes.txt").exists());
    assert_eq!(list(&place.dir.path().join("nowhere")).unwrap(), []);
}

#[test]
fn each_checkpoint_is_tried_once_and_then_the_whole_log() {
    let place = Place::new();
    let view = place.view();
    let mut checkpoints = place.checkpoints();
    for applied in [10, 20] {
        save(&view, applied);
        dump(&mut checkpoints, &view).unwrap();
    }
    let reason = || ViewError::Corrupt { table: None, key: Box::default() };
    let mut view = view;
    for applied in [20, 10, 0] {
        let (next, report) = checkpoints.rebuild(view, reason(), Offset::ZERO).unwrap();
        assert_eq!((report.applied.get(), next.applied().get()), (applied, applied));
        assert_eq!(report.checkpoint, (applied > 0).then(|| place.path(applied)));
        view = next;
    }
    assert_eq!(rows(&view), Rows::new());
    let error = checkpoints.rebuild(view, reason(), Offset::ZERO).unwrap_err();
    assert!(matches!(error, StoreError::NothingToRebuildFrom { .. }));
    assert!(place.dir.path().join("view").is_dir(), "the last view stays where it is");
}

#[test]
fn a_checkpoint_that_the_log_does_not_continue_is_of_no_use() {
    let place = Place::new();
    let view = place.view();
    save(&view, 20);
    let mut checkpoints = place.checkpoints();
    dump(&mut checkpoints, &view).unwrap();
    let reason = ViewError::Corrupt { table: None, key: Box::default() };
    let error = checkpoints.rebuild(view, reason, Offset::new(21)).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, StoreError::NothingToRebuildFrom { .. }));
    assert!(said.contains("gateway storage repair") && said.contains("21"), "{said}");
    assert_eq!(place.view().applied(), Offset::new(20), "nothing was set aside for nothing");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn rows_in_are_rows_out(
        seed in proptest::collection::vec((1_u8..8, proptest::collection::vec(any::<u8>(), 0..40), any::<u16>()), 0..60),
        large in proptest::collection::vec((any::<u8>(), VALUE_BYTES_MAX - 3..=VALUE_BYTES_MAX), 0..6),
        applied in 1..u64::MAX,
    ) {
        let place = Place::new();
        let view = place.view();
        let tables = [
            Table::Meta,
            Table::Sessions,
            Table::Pending,
            Table::Retained,
            Table::Wills,
            Table::Consumers,
            Table::DeadLetters,
        ];
        let mut changes = Changes::new();
        let mut expected = Rows::new();
        let all = seed
            .into_iter()
            .map(|(table, key, len)| (table, key, usize::from(len)))
            .chain(large.into_iter().map(|(key, len)| (key % 7 + 1, vec![key], len)));
        for (number, (table, key, len)) in all.enumerate() {
            let value = vec![number as u8; len];
            changes.put(tables[usize::from(table) - 1], &key, &value).unwrap();
            expected.insert((table, key), value);
        }
        view.save(&changes, Offset::new(applied)).unwrap();
        let mut checkpoints = place.checkpoints();
        dump(&mut checkpoints, &view).unwrap();
        prop_assert_eq!(&rows_in(&place.path(applied)).unwrap(), &expected);
        let reason = ViewError::Corrupt { table: None, key: Box::default() };
        let (view, _) = checkpoints.rebuild(view, reason, Offset::ZERO).unwrap();
        prop_assert_eq!(&rows(&view), &expected);
        prop_assert_eq!(view.applied(), Offset::new(applied));
    }
}

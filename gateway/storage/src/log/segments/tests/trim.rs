//! Space that comes back, directories that are synced, and files that are left.

use proptest::prelude::*;

use super::*;

/// Files of this directory that are open although they are gone, and keep their space.
fn gone_and_open(dir: &Path) -> usize {
    let held = |link: &Path| {
        let name = link.to_string_lossy();
        name.starts_with(&*dir.to_string_lossy()) && name.ends_with(" (deleted)")
    };
    let open = fs::read_dir("/proc/self/fd").unwrap();
    open.filter(|entry| fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|link| held(&link))).count()
}

#[test]
fn a_trimmed_file_gives_its_space_back_although_readers_had_it_open() {
    let mut files = Files::<700>::new();
    let mut log = files.open();
    fill(&mut log, &[2; 40]);
    let reader = log.reader();
    assert_eq!(read_all(reader.as_ref(), 0, 1), ((0..80).collect(), vec![]));
    // A read under way: the segment and its file are in somebody's hands.
    let (segment, _) = log.table.segment_of(Offset::ZERO);
    let in_use = log.reader.open(segment.unwrap()).unwrap().unwrap();
    let before = log_files(files.dir.path()).len();
    let trimmed = log.trimmer().trim(Offset::new(60)).unwrap();
    assert!(trimmed.segments > 5);
    assert_eq!(log_files(files.dir.path()).len(), before - trimmed.segments as usize);
    assert_eq!(first(&log_files(files.dir.path())[0]), trimmed.earliest.get());
    let on_disk: u64 = log_files(files.dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    // Space reserved in the active file comes on top.
    assert!(on_disk >= log.size_bytes() && on_disk < log.size_bytes() + 4096 + 700);
    assert_eq!(gone_and_open(files.dir.path()), 1, "only the one in use");
    drop(in_use);
    assert_eq!(gone_and_open(files.dir.path()), 0);
}

#[test]
fn a_segment_looked_up_before_a_trim_and_opened_after_it_is_looked_up_again() {
    let mut files = Files::<700>::new();
    let mut log = files.open();
    fill(&mut log, &[2; 40]);
    let (segment, _) = log.table.segment_of(Offset::ZERO);
    let segment = segment.unwrap();
    log.trimmer().trim(Offset::new(60)).unwrap();
    assert!(log.reader.open(Arc::clone(&segment)).unwrap().is_none(), "its file is gone");
    // The file may still have been there when it was opened: it is not kept at hand.
    fs::write(&segment.path, b"as if it were not removed yet").unwrap();
    assert!(log.reader.open(segment).unwrap().is_some());
    assert_eq!(log.reader.open.lock().unwrap().len(), 0);
}

#[test]
fn the_directory_is_synced_once_for_each_trim_and_again_if_that_failed() {
    let mut files = Files::<700>::new();
    let mut log = files.open();
    fill(&mut log, &[2; 40]);
    let (trimmer, faults) = (log.trimmer(), files.faults());
    let syncs = faults.dir_syncs();
    assert!(trimmer.trim(Offset::new(40)).unwrap().segments > 3);
    assert_eq!(faults.dir_syncs() - syncs, 1);
    trimmer.trim(Offset::new(40)).unwrap();
    assert_eq!(faults.dir_syncs() - syncs, 1, "nothing was removed");
    faults.fail_sync_dir(1);
    assert!(matches!(trimmer.trim(Offset::new(60)), Err(LogError::Io { doing: "sync", .. })));
    assert_eq!(trimmer.trim(Offset::new(60)).unwrap().segments, 0);
    assert_eq!(faults.dir_syncs() - syncs, 3, "what was removed before is durable now");
}

#[test]
fn a_file_that_somebody_else_removed_counts_as_removed() {
    let mut files = Files::<700>::new();
    let mut log = files.open();
    fill(&mut log, &[2; 40]);
    fs::remove_file(&log_files(files.dir.path())[1]).unwrap();
    let trimmed = log.trimmer().trim(Offset::new(60)).unwrap();
    assert_eq!(first(&log_files(files.dir.path())[0]), trimmed.earliest.get());
}

#[test]
fn the_only_file_of_a_trimmed_log_is_never_away_while_another_takes_its_place() {
    let mut files = Files::<700>::new();
    let mut log = files.open();
    fill(&mut log, &[2; 10]);
    // A file without entries becomes the only one.
    log.advance_to(Offset::new(50)).unwrap();
    assert_eq!(log.trimmer().trim(Offset::new(50)).unwrap().earliest, Offset::new(50));
    assert_eq!(log_files(files.dir.path()).len(), 1);
    let salt = log.salt();
    files.faults().fail_reopen(1);
    log.advance_to(Offset::new(70)).unwrap_err();
    drop(log);
    let mut log = files.open();
    assert_eq!((log.next_offset(), log.salt()), (Offset::new(50), salt));
    log.advance_to(Offset::new(70)).unwrap();
    assert_eq!(log_files(files.dir.path()).iter().map(|path| first(path)).collect::<Vec<_>>(), [70]);
    assert_eq!(log.reader().bounds(), (Offset::new(70), Offset::new(70)));
    append(&mut log, 2, 99_000).unwrap();
    log.sync().unwrap();
    let size = log.size_bytes();
    drop(log);
    let log = files.open();
    assert_eq!((log.size_bytes(), log.reader().bounds().0), (size, Offset::new(70)));
}

#[derive(Clone, Debug)]
enum Step {
    Append(u32),
    /// How much of a hundredth of what there is lies below the offset, and which removal fails, if there are so many.
    Trim(u64, Option<u64>),
    FailedSync,
    Restart,
    PowerCut(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u32..9).prop_map(Step::Append),
        3 => (0_u64..120, proptest::option::of(1_u64..4)).prop_map(|(part, fails)| Step::Trim(part, fails)),
        1 => Just(Step::FailedSync),
        1 => Just(Step::Restart),
        1 => (0_usize..200).prop_map(Step::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happens to a log, what it says is left can be read, without a gap, and has the size it says.
    #[test]
    fn a_log_that_is_trimmed_restarted_and_cut_off_is_whole(steps in proptest::collection::vec(step(), 1..40)) {
        let mut files = Files::<700>::new();
        let mut log = files.open();
        // What is certainly gone, and how far the log goes.
        let (mut earliest, mut end) = (0, 0);
        for (n, step) in steps.into_iter().enumerate() {
            let time_ms = n as u64;
            match step {
                Step::Append(entries) => {
                    append(&mut log, entries, time_ms).unwrap();
                    log.sync().unwrap();
                    end += u64::from(entries);
                }
                Step::Trim(part, fails) => {
                    if let Some(nth) = fails {
                        files.faults().fail_remove(nth);
                    }
                    let before = earliest + (end - earliest) * part / 100;
                    let trimmed = log.trimmer().trim(Offset::new(before));
                    let now = log.reader().bounds().0.get();
                    prop_assert!(earliest <= now && (now == earliest || now <= before));
                    earliest = now;
                    if let Ok(trimmed) = trimmed {
                        prop_assert_eq!(trimmed.earliest.get(), now);
                    }
                    files.faults().fail_remove(u64::MAX);
                }
                Step::FailedSync => {
                    files.faults().fail_sync(1);
                    let failed = append(&mut log, 3, time_ms).and_then(|_| log.sync());
                    prop_assert!(failed.is_err());
                    log.reopen().unwrap();
                }
                Step::Restart | Step::PowerCut(_) => {
                    let size = log.size_bytes();
                    drop(log);
                    if let Step::PowerCut(torn) = step {
                        files.lose_power(torn);
                    }
                    log = files.open();
                    // A file whose removal had failed is there again.
                    let now = log.reader().bounds().0.get();
                    prop_assert!(now <= earliest);
                    earliest = now;
                    prop_assert_eq!(log.size_bytes(), size);
                }
            }
            prop_assert_eq!(log.next_offset(), Offset::new(end));
            prop_assert_eq!(log.reader().bounds(), (Offset::new(earliest), Offset::new(end)));
            prop_assert_eq!(read_all(log.reader().as_ref(), earliest, 500), ((earliest..end).collect(), vec![]));
        }
    }
}

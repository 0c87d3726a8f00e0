//! The view on a disk that really is full: the system refuses writes beyond a limit, in a process of its own.
//!
//! Each test runs itself once more, as a child without the signal that would end it at the limit. The child sets the limit
//! on the size of its files, sees sled fail, and lifts the limit again.
#![expect(clippy::unwrap_used, reason = "all of this file is a test")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gateway_storage::log::segments::disk::RealDisk;
use gateway_storage::{
    Changes, CheckpointError, Checkpoints, Offset, Reserve, Table, View, ViewError, ViewOptions, ViewWriter,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Names the directory to the child.
const DIR: &str = "GATEWAY_FULL_DISK_DIR";
const RESERVE_BYTES: u64 = 1 << 20;
/// Files may grow so far: sled fails when it is in its second segment.
const LIMIT: u64 = 24 << 20;
const KEYS: u64 = 16;
const WAIT: Duration = Duration::from_secs(60);

/// Runs `child` in a process in which writes beyond a limit fail.
fn in_a_process_of_its_own(test: &str, child: fn(&Path)) {
    if let Some(dir) = std::env::var_os(DIR) {
        return child(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn limit_files(bytes: Option<u64>) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

struct Rig {
    view: Arc<View>,
    reserve: Arc<Reserve>,
    writer: ViewWriter,
}

impl Rig {
    fn new(dir: &Path) -> Self {
        let (view, report) = View::open(dir.join("view"), ViewOptions { cache_bytes: 8 << 20 }).unwrap();
        assert!(report.set_aside.is_none());
        let view = Arc::new(view);
        let checkpoints = Checkpoints::open(dir.join("checkpoint"), Arc::new(RealDisk)).unwrap();
        let reserve = Arc::new(Reserve::open(dir.join("reserve"), RESERVE_BYTES, Arc::new(RealDisk)));
        assert!(reserve.is_whole());
        let writer = ViewWriter::start(Arc::clone(&view), checkpoints, Arc::clone(&reserve)).unwrap();
        Self { view, reserve, writer }
    }

    /// Saves rounds from `from` on until one waits for space, and says which.
    fn fill(&self, from: u64) -> u64 {
        for round in from.. {
            self.writer.try_save(changes(round), Offset::new(round)).unwrap();
            self.writer.wait_idle();
            assert!(self.writer.error().is_none(), "{:?}", self.writer.error());
            if self.writer.space_state().waiting {
                return round;
            }
        }
        unreachable!()
    }

    fn wait(&self, done: impl Fn(&ViewWriter) -> bool) {
        let deadline = Instant::now() + WAIT;
        while !done(&self.writer) {
            assert!(Instant::now() < deadline, "nothing came of it: {:?}", self.writer.space_state());
            // Nobody tells when the view has found space.
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

/// A round changes half a megabyte that cannot be compressed away, under the same keys each time.
fn changes(round: u64) -> Changes {
    let mut changes = Changes::new();
    for key in 0..KEYS {
        changes
            .put(Table::Pending, &key.to_be_bytes(), &(round * KEYS + key).to_le_bytes().repeat(4096))
            .unwrap();
    }
    changes
}

/// Every row is that of `round`.
fn assert_round(view: &View, round: u64) {
    let mut rows = 0;
    view.scan(Table::Pending, &mut |key, value| {
        let key = u64::from_be_bytes(key.try_into().unwrap());
        assert_eq!(value, (round * KEYS + key).to_le_bytes().repeat(4096), "key {key} in round {round}");
        rows += 1;
    })
    .unwrap();
    assert_eq!((rows, view.applied()), (KEYS, Offset::new(round)));
}

#[test]
fn a_save_outlives_a_full_disk() {
    in_a_process_of_its_own("a_save_outlives_a_full_disk", |dir| {
        let rig = Rig::new(dir);
        limit_files(Some(LIMIT));
        let waiting = rig.fill(1);
        assert!(waiting > 10, "it was full at once");
        assert!(!rig.reserve.is_whole(), "the reserve was given up");
        assert_eq!(rig.writer.saved(), Offset::new(waiting - 1));
        rig.writer.try_save(changes(1000), Offset::new(1000)).unwrap_err();
        rig.wait(|writer| writer.space_state().put_off >= 3);
        let space = rig.writer.space_state();
        assert!(space.waiting && rig.writer.error().is_none());
        match rig.view.get(Table::Pending, &0_u64.to_be_bytes()) {
            Ok(value) => assert_eq!(value.unwrap(), ((waiting - 1) * KEYS).to_le_bytes().repeat(4096)),
            Err(error) => assert!(matches!(error, ViewError::Closed { .. }), "{error}"),
        }

        limit_files(None);
        rig.wait(|writer| !writer.space_state().waiting);
        rig.writer.wait_idle();
        assert_round(&rig.view, waiting);
        assert!(rig.reserve.is_whole(), "there is room for it again");
        assert!(rig.writer.space_state().reopened > space.reopened);
        for round in waiting + 1..waiting + 100 {
            rig.writer.try_save(changes(round), Offset::new(round)).unwrap();
            rig.writer.wait_idle();
        }
        assert!(rig.writer.error().is_none());
        rig.writer.shutdown();
        drop(rig);
        let rig = Rig::new(dir);
        assert_round(&rig.view, waiting + 99);
    });
}

#[test]
fn a_gateway_stops_on_a_full_disk_and_finds_its_last_save_again() {
    in_a_process_of_its_own("a_gateway_stops_on_a_full_disk_and_finds_its_last_save_again", |dir| {
        let rig = Rig::new(dir);
        limit_files(Some(LIMIT));
        let waiting = rig.fill(1);
        rig.writer.wait_idle();
        rig.writer.shutdown();
        assert!(rig.writer.error().is_none());
        drop(rig);
        limit_files(None);
        let rig = Rig::new(dir);
        let applied = rig.view.applied().get();
        assert!(applied == waiting - 1 || applied == waiting, "{applied}");
        assert_round(&rig.view, applied);
        assert_eq!(rig.fill_some(applied), applied + 50);
    });
}

#[test]
fn a_checkpoint_that_finds_no_space_is_no_disaster() {
    in_a_process_of_its_own("a_checkpoint_that_finds_no_space_is_no_disaster", |dir| {
        let rig = Rig::new(dir);
        assert_eq!(rig.fill_some(0), 50);
        limit_files(Some(100_000));
        assert!(rig.writer.try_checkpoint());
        rig.writer.wait_idle();
        let state = rig.writer.checkpoint_state();
        assert!(matches!(state.failed.as_deref(), Some(CheckpointError::NoSpace { .. })), "{state:?}");
        assert_eq!((state.newest, state.oldest), (None, None));
        assert!(!rig.reserve.is_whole(), "it was tried with the reserve, too");
        limit_files(None);
        assert!(rig.writer.try_checkpoint());
        rig.writer.wait_idle();
        let state = rig.writer.checkpoint_state();
        assert!(state.failed.is_none());
        assert_eq!((state.newest, state.oldest), (Some(Offset::new(50)), Some(Offset::new(50))));
        assert!(rig.reserve.is_whole());
        assert_eq!(rig.fill_some(50), 100);
    });
}

impl Rig {
    /// Saves fifty rounds behind `round`.
    fn fill_some(&self, round: u64) -> u64 {
        for round in round + 1..=round + 50 {
            self.writer.try_save(changes(round), Offset::new(round)).unwrap();
            self.writer.wait_idle();
        }
        assert_round(&self.view, round + 50);
        round + 50
    }
}

//! Running this program under callgrind and reading what it counted.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cases::{self, EVENTS_IN_GROUP, Make};
use crate::{COMMITS, MEASURE};

/// Groups of the shorter and of the longer run: their difference has no start and no end in it.
const GROUPS: [u64; 2] = [100, 400];
/// Wide registers and string instructions of the processor, which the C library is told to do without.
const NARROW: &str =
    "glibc.cpu.hwcaps=-AVX2,-AVX,-AVX512F,-AVX512VL,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-SSSE3";

/// How many instructions one of something takes.
pub(crate) struct Count {
    pub(crate) name: String,
    pub(crate) instructions: f64,
}

/// Counts every case.
pub(crate) fn count_all() -> Vec<Count> {
    let dir = Dir::new();
    let mut counts: Vec<Count> =
        cases::all().iter().enumerate().map(|(number, make)| count_case(&dir.0, number, make)).collect();
    counts.push(count_commits(&dir.0));
    counts
}

/// In a run of its own, of which only what [`cases::Case::measure`] surrounds is counted.
fn count_case(dir: &Path, number: usize, make: &Make) -> Count {
    let case = make();
    let out = dir.join(format!("case-{number}"));
    let flags = ["--toggle-collect=*instructions::cases::counted*".to_owned()];
    callgrind(&out, &flags, &[MEASURE, &number.to_string()]);
    Count { instructions: total(&out) as f64 / case.each as f64, name: case.name }
}

/// Two runs of different length: a committer is a thread of its own, which cannot be counted by function.
fn count_commits(dir: &Path) -> Count {
    let [short, long] = GROUPS.map(|groups| {
        let out = dir.join(format!("commits-{groups}"));
        callgrind(&out, &[], &[COMMITS, &groups.to_string()]);
        total(&out) as f64
    });
    let events = (GROUPS[1] - GROUPS[0]) * EVENTS_IN_GROUP;
    Count {
        name: format!("group commit, {EVENTS_IN_GROUP} events: an event"),
        instructions: (long - short) / events as f64,
    }
}

fn callgrind(out: &Path, flags: &[String], arguments: &[&str]) {
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--fair-sched=yes"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .args(flags)
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(arguments)
        .env("GLIBC_TUNABLES", NARROW)
        .stdout(Stdio::null())
        .status()
        .expect("valgrind is installed");
    assert!(status.success(), "callgrind: {status}");
}

/// The total of a file of callgrind's.
fn total(file: &Path) -> u64 {
    let text = std::fs::read_to_string(file).expect("callgrind has written what it counted");
    let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
    of("totals:").or_else(|| of("summary:")).expect("a total")
}

/// A directory that goes when this is dropped.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("instructions-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for what is counted");
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What stays behind is in the system's temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

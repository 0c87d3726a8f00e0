//! What a process has in memory, as the kernel counts it.

use std::fs;

/// Figures of one moment, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// All that is resident.
    pub resident: u64,
    /// Of it, what belongs to the process alone and is no page of a file: heap and stacks. Code that is paged in by
    /// being run for the first time is not in it, so this is the figure to watch for growth.
    pub anonymous: u64,
}

/// Asks the kernel about the process with this id.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn memory_of(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is alive");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel reports it");
        let kib: u64 = line.trim_end_matches("kB").trim().parse().expect("a number of KiB");
        kib * 1024
    };
    Memory { resident: field("VmRSS:"), anonymous: field("RssAnon:") }
}

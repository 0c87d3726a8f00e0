//! This process as the operating system sees it: CPU time, open files, randomness for the epoch.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The niceness of whoever comes last.
const NICEST: i32 = 19;

/// CPU time of all threads so far.
pub(crate) fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.try_into().unwrap_or(0), spent.tv_nsec.try_into().unwrap_or(0))
}

/// The machine's monotonic clock.
pub(crate) fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// For how long this thread was ready to run and had no CPU; zero where the kernel does not tell.
pub(crate) fn waited_for_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().nth(1).and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Resident memory of this process, bytes; zero where the kernel does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Raises the soft limit of open files to what is wanted, if it is lower; the usual 1,024 is less than a fleet.
///
/// # Errors
/// The hard limit, if that is too low.
pub(crate) fn allow_open_files(wanted: u64) -> Result<(), u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if let Some(most) = limit.maximum.filter(|most| *most < wanted) {
        return Err(most);
    }
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|_| limit.current.unwrap_or(0))
}

/// From now on this thread, and those it starts, leave the processor to whoever else wants it.
pub(crate) fn give_way() {
    // Nobody is refused less priority; where it is refused all the same, the report says what waited.
    let _ = setpriority_process(None, NICEST);
}

/// A number that no other run has, from the randomness the standard library keys its hash maps with.
pub(crate) fn fresh_number() -> u64 {
    RandomState::new().build_hasher().finish()
}

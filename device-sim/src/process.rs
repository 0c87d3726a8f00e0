//! This process as the operating system sees it: CPU time, open files, randomness for the epoch.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads so far.
pub(crate) fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.try_into().unwrap_or(0), spent.tv_nsec.try_into().unwrap_or(0))
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

/// A number that no other run has, from the randomness the standard library keys its hash maps with.
pub(crate) fn fresh_number() -> u64 {
    RandomState::new().build_hasher().finish()
}

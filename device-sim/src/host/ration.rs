//! A broker that gets a part of one processor only, as under the quota of a container: what it uses is looked at every millisecond, and
//! while it has used more than its part it is stopped.
//!
//! So a small machine can bring many times what the broker takes, whatever it is that is brought. What arrives while it is stopped waits
//! with the kernel, and what it has given to the disk is written. Time that it does not use is saved up for [`SAVED`] of its part.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// The longest for which unused time is saved up.
const SAVED: Duration = Duration::from_millis(50);

/// As long as it is there, the process has its part of a processor; then all that there is.
pub(super) struct Ration {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What is left of a part, nanoseconds of a processor's time. Pure.
#[derive(Debug)]
struct Account {
    part: f64,
    left: f64,
}

impl Account {
    /// Time has passed, and so much of a processor was used in it. Whether the process may run.
    fn note(&mut self, passed: Duration, used: Duration) -> bool {
        let earned = passed.as_nanos() as f64 * self.part;
        let most = SAVED.as_nanos() as f64 * self.part;
        self.left = (self.left + earned - used.as_nanos() as f64).min(most);
        self.left > 0.0
    }
}

impl Ration {
    /// `part`: of one processor.
    pub(super) fn start(pid: Pid, part: f64) -> std::io::Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let work = move || {
            let mut account = Account { part, left: 0.0 };
            let (mut at, mut used) = (Instant::now(), used(pid));
            let mut runs = true;
            while !told.load(Ordering::Relaxed) {
                thread::park_timeout(LOOK);
                // One that is stopped uses nothing.
                let now = if runs { self::used(pid) } else { used };
                let may_run = account.note(at.elapsed(), now.saturating_sub(used));
                (at, used) = (Instant::now(), now);
                if may_run != runs {
                    // One that is gone is found so by whoever waits for it.
                    let _ = kill_process(pid, if may_run { Signal::CONT } else { Signal::STOP });
                    runs = may_run;
                }
            }
            let _ = kill_process(pid, Signal::CONT);
        };
        let thread = thread::Builder::new().name("ration".to_owned()).spawn(work)?;
        Ok(Ration { ends, thread: Some(thread) })
    }
}

impl Drop for Ration {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // It must not signal a process that has been waited for: its number may be another's by then.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The processor's time that all threads of a process have used; what cannot be read counts as nothing.
fn used(pid: Pid) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
    let of_task = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let nanos = tasks.into_iter().flatten().filter_map(|task| of_task(task.ok()?)).sum();
    Duration::from_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_was_used_too_much_is_waited_for_and_little_is_saved_up() {
        let mut account = Account { part: 0.1, left: 0.0 };
        assert!(account.note(1_000 * MS, Duration::ZERO), "it has not run");
        assert!(account.note(MS, 4 * MS), "fifty milliseconds' worth was saved");
        assert!(!account.note(MS, 2 * MS));
        assert!(!account.note(7 * MS, Duration::ZERO));
        assert!(account.note(2 * MS, Duration::ZERO));
    }

    #[test]
    fn this_process_uses_time() {
        let own = rustix::process::getpid();
        let before = used(own);
        let began = Instant::now();
        while used(own) == before {
            assert!(began.elapsed() < Duration::from_secs(10), "the kernel tells");
        }
    }
}

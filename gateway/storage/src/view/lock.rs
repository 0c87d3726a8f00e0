//! Whether sled still holds its store.
//!
//! sled closes a store on threads of its own, some time after the last handle is gone, and keeps its file locked until
//! then. Opening it in between fails with an error that cannot be told from damage, and a view must not be set aside
//! because it was closed a moment ago.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// How long closing may take. Commonly it is a few milliseconds.
const CLOSING_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits until nobody holds the store in `dir`. False if somebody still does after the longest time closing may take.
pub(crate) fn wait_until_free(dir: &Path) -> bool {
    let give_up = Instant::now() + CLOSING_MAX;
    while is_held(dir) {
        if Instant::now() >= give_up {
            return false;
        }
        // Nobody tells when a file lock is given up.
        thread::park_timeout(LOOK_EVERY);
    }
    true
}

/// Whether somebody holds the store in `dir` now.
pub(crate) fn is_held(dir: &Path) -> bool {
    let Ok(db) = File::open(dir.join("db")) else { return false };
    matches!(flock(&db, FlockOperation::NonBlockingLockExclusive), Err(rustix::io::Errno::WOULDBLOCK))
}

//! Waiting for what can only be looked at: bounded, and never for a fixed time.

use std::time::{Duration, Instant};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until `look` finds something, at most for `limit`. `what` is awaited, for the message.
///
/// # Panics
/// When the time is up.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        pause();
    }
}

/// Looks until `look` finds that `is_right`, at most for `limit`; the last thing it found is in the message.
///
/// # Panics
/// When the time is up.
pub fn until_it<T: std::fmt::Debug>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> T,
    is_right: impl Fn(&T) -> bool,
) -> T {
    let end = Instant::now() + limit;
    loop {
        let found = look();
        if is_right(&found) {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}, but {found:?}");
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two looks of a bounded wait; nothing is assumed to have happened"
)]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

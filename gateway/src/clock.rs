//! The two clocks: one for spans, one for dates. Everything below the edge takes time as an argument.

use gateway_protocol::session::Millis;
use jiff::Timestamp;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Monotonic milliseconds since this process first asked.
#[must_use]
pub fn monotonic() -> Millis {
    Millis(u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// When this process started, in milliseconds since the Unix epoch.
#[must_use]
pub fn started_unix_ms() -> u64 {
    static STARTED: LazyLock<u64> = LazyLock::new(unix_ms);
    *STARTED
}

/// A moment as RFC 3339 with milliseconds, always of one length, so that moments sort as text; what no calendar has becomes the first moment of
/// the epoch.
#[must_use]
pub fn rfc_3339(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", time.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Milliseconds since the Unix epoch; 0 on a machine whose clock stands before it.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Nanoseconds since the Unix epoch; 0 on a machine whose clock stands before it.
#[must_use]
pub fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

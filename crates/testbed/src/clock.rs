//! The time: the one module that looks at it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// This moment.
#[expect(clippy::disallowed_methods, reason = "measuring time is what this program does; this module owns the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Unix time in seconds.
#[expect(clippy::disallowed_methods, reason = "deadlines are in wall-clock time; this module owns the clock")]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

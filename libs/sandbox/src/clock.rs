//! Owns the simulators' time: wall time plus an offset that only `POST /_/clock/advance` moves.
//!
//! Deliberately absent: the platform's `Clock`. A provider has its own time; tests shift the two apart on purpose,
//! and webhook signatures always use wall time because the receiver compares them with its own wall.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch by the wall.
pub(crate) fn wall_ms() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Seconds since the epoch by the wall.
pub(crate) fn wall_seconds() -> i64 {
    wall_ms() / 1000
}

/// Seconds since the epoch by the simulators' clock.
pub(crate) fn simulated_seconds(offset_seconds: i64) -> i64 {
    wall_seconds().saturating_add(offset_seconds)
}

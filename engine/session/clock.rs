//! What time it is, for commands. Roles read the real clock by themselves: others made what they judge.

use crate::types::time::Timestamp;

/// The time, which tests of a debug build may pin with this variable; a release build does not look at it.
#[cfg(debug_assertions)]
const PINNED: &str = "ISTHMUS_TEST_NOW";

/// How many seconds pass, for such a test, each time that the time is asked for.
#[cfg(debug_assertions)]
const STEP: &str = "ISTHMUS_TEST_CLOCK_STEP";

/// The time that a command goes by.
#[cfg(debug_assertions)]
fn by_command() -> jiff::Timestamp {
    use std::sync::atomic::{AtomicI64, Ordering};
    static ASKED: AtomicI64 = AtomicI64::new(0);
    let Some(pinned) = std::env::var(PINNED).ok().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        return real();
    };
    let step: i64 = std::env::var(STEP).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let passed = step.saturating_mul(ASKED.fetch_add(1, Ordering::Relaxed));
    pinned.saturating_add(jiff::SignedDuration::from_secs(passed)).unwrap_or(pinned)
}

/// The time that a command goes by.
#[cfg(not(debug_assertions))]
fn by_command() -> jiff::Timestamp {
    real()
}

/// The time that a command goes by.
pub(crate) fn now() -> Timestamp {
    by_command().into()
}

/// The same as hours, minutes and seconds, where this machine is: `14:05:09`.
pub(crate) fn wall_clock() -> String {
    by_command().to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// The machine's time, to the nanosecond: stamps of files are compared with it.
pub(crate) fn real() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

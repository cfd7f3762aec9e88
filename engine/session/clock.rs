//! What time it is, for commands. Roles read the real clock by themselves: others made what they judge.

use crate::types::time::Timestamp;

/// The time, which tests of a debug build may pin with this variable; a release build does not look at it.
#[cfg(debug_assertions)]
const PINNED: &str = "ISTHMUS_TEST_NOW";

/// The time that a command goes by.
#[cfg(debug_assertions)]
fn by_command() -> jiff::Timestamp {
    std::env::var(PINNED).ok().and_then(|text| text.parse().ok()).unwrap_or_else(real)
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

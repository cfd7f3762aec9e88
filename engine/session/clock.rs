//! What time it is, for commands. Roles read the real clock by themselves: others made what they judge.

use jiff::Timestamp;

/// The time, which tests of a debug build may pin with this variable; a release build does not look at it.
#[cfg(debug_assertions)]
const PINNED: &str = "ISTHMUS_TEST_NOW";

/// The time that a command goes by.
#[cfg(debug_assertions)]
pub(crate) fn now() -> Timestamp {
    std::env::var(PINNED).ok().and_then(|text| text.parse().ok()).unwrap_or_else(real)
}

/// The time that a command goes by.
#[cfg(not(debug_assertions))]
pub(crate) fn now() -> Timestamp {
    real()
}

/// The machine's time, which stamps of files are compared with.
pub(crate) fn real() -> Timestamp {
    Timestamp::now()
}

//! Durations as people write them.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidDuration {
    /// Not a number and its unit.
    #[error("expected a number and one of `s`, `m`, `h`, such as `90s`")]
    Form,
    /// More seconds than can be counted.
    #[error("expected fewer seconds")]
    TooLong,
}

/// A duration as [`duration`] reads it, in the largest unit that it is at least two of, rounded down: `90s`, `10m`, `24h`.
pub(crate) fn shown(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

/// `90s`, `10m` or `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(InvalidDuration::Form),
    };
    let number: u64 = number.parse().map_err(|_| InvalidDuration::Form)?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or(InvalidDuration::TooLong)
}

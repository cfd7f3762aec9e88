//! Durations as people write them.

use std::time::Duration;

/// `90s`, `10m` or `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a number and one of `s`, `m`, `h`".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a number and one of `s`, `m`, `h`".to_owned())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "too long".to_owned())
}

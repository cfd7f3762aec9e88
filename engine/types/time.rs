//! Points in time. How long something lasts is a [`Duration`].

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use crate::types::name::InvalidName;

/// A day of 24 hours, as validity is counted in.
pub const DAY: Duration = Duration::from_hours(24);

/// A point in time: whole seconds since 1970-01-01T00:00:00Z, leap seconds not counted. JSON has that number; text is
/// RFC 3339 in UTC. Adding and subtracting stops at the first and the last second that a number can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// 9999-12-31T23:59:59Z, with which a certificate says that it has no end (RFC 5280, section 4.1.2.5).
    pub const NO_END: Self = Self(253_402_300_799);

    /// The time that is so many seconds after 1970, or before it.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970.
    pub const fn as_seconds(self) -> i64 {
        self.0
    }

    /// How long it is after an earlier time; zero where it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(if self > earlier { self.0.abs_diff(earlier.0) } else { 0 })
    }

    /// Whole days until another time; negative where that is before this one.
    pub fn days_until(self, end: Self) -> i64 {
        end.0.saturating_sub(self.0).div_euclid(86_400)
    }

    /// The date in UTC, `2026-12-01`; `None` for what has no end.
    pub fn date(self) -> Option<String> {
        let time = self.civil().filter(|_| self < Self::NO_END)?;
        Some(time.date().to_string())
    }

    /// As the calendar has it, in UTC; `None` beyond the years of four digits.
    fn civil(self) -> Option<DateTime> {
        EPOCH.checked_add(jiff::SignedDuration::from_secs(self.0)).ok()
    }
}

/// [`Timestamp::EPOCH`] in the calendar.
const EPOCH: DateTime = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(duration.as_secs()))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(duration.as_secs()))
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(time: jiff::Timestamp) -> Self {
        Self(time.as_second())
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339; what it cannot say is `an unknown time`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.civil() {
            Some(time) => write!(f, "{time}Z"),
            None => f.write_str("an unknown time"),
        }
    }
}

impl FromStr for Timestamp {
    type Err = InvalidName;

    /// Reads RFC 3339 with any offset; parts of a second are left out.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // the library's own points in time end on the day before the last one that RFC 3339 can say
        let last = || text.strip_suffix('Z')?.parse::<DateTime>().ok();
        text.parse::<jiff::Timestamp>()
            .map(Self::from)
            .ok()
            .or_else(|| Some(Self(last()?.duration_since(EPOCH).as_secs())))
            .ok_or_else(|| InvalidName {
                kind: "time",
                text: text.to_owned(),
                rule: "RFC 3339, for example `2026-12-01T12:00:00Z`",
            })
    }
}

/// For `#[serde(with)]`: a time as RFC 3339.
pub(crate) mod rfc3339 {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use super::Timestamp;

    /// Writes RFC 3339.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(time)
    }

    /// Reads RFC 3339.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// For `#[serde(with)]`: a time that may be missing as RFC 3339.
pub(crate) mod optional_rfc3339 {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use super::Timestamp;

    /// Writes RFC 3339.
    #[allow(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.collect_str(time),
            None => to.serialize_none(),
        }
    }

    /// Reads RFC 3339.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
    }
}

/// For `#[serde(with)]`: a duration that may be missing as a whole number of seconds. A negative one is read as zero.
pub(crate) mod optional_seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    /// Writes seconds.
    #[allow(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        duration.map(|duration| duration.as_secs()).serialize(to)
    }

    /// Reads seconds.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<i64>::deserialize(from)?;
        Ok(seconds.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_rfc_3339_up_to_the_last_second_that_it_can_say() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (1_796_126_400, "2026-12-01T12:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            let time = Timestamp::from_seconds(seconds);
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse(), Ok(time), "{text}");
            assert_eq!(serde_json::to_string(&time).unwrap(), seconds.to_string());
        }
        assert_eq!("2026-12-01T14:00:00.75+02:00".parse(), Ok(Timestamp::from_seconds(1_796_126_400)));
        for seconds in [i64::MIN, 253_402_300_800, i64::MAX] {
            assert_eq!(Timestamp::from_seconds(seconds).to_string(), "an unknown time");
        }
        for text in ["", "2026-12-01", "2026-12-01T12:00:00", "9999-12-32T00:00:00Z", "yesterday"] {
            let error = text.parse::<Timestamp>().unwrap_err().to_string();
            assert!(error.starts_with("expected a time, found ") && error.contains("RFC 3339"), "{error}");
        }
    }

    #[test]
    fn a_date_is_that_of_utc_and_none_where_there_is_no_end() {
        assert_eq!(Timestamp::from_seconds(1_796_126_400).date().as_deref(), Some("2026-12-01"));
        assert_eq!((Timestamp::NO_END.date(), Timestamp::from_seconds(i64::MAX).date()), (None, None));
    }

    #[test]
    fn differences_and_sums_stop_at_the_ends() {
        let (first, last) = (Timestamp::from_seconds(i64::MIN), Timestamp::from_seconds(i64::MAX));
        assert_eq!((last + DAY, first - DAY), (last, first));
        assert_eq!((last.since(first), first.since(last)), (Duration::from_secs(u64::MAX), Duration::ZERO));
        let noon = Timestamp::from_seconds(1_796_126_400);
        assert_eq!(
            (noon.days_until(noon + DAY * 30), noon.days_until(noon + DAY * 30 - Duration::from_secs(1))),
            (30, 29)
        );
        assert_eq!(noon.days_until(noon - Duration::from_secs(1)), -1);
    }
}

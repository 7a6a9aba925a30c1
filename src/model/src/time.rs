//! Points in time on the wire and on disk.

use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch, as CRI counts time. 0 means "not reached".
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Not reached.
    pub const ZERO: Self = Self(0);

    /// The wall clock now.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// RFC 3339 in UTC with nanoseconds: `2026-01-31T23:59:59.000000001Z`.
    pub fn rfc3339(self) -> String {
        let (date, time) = self.date_and_time();
        format!("{date}T{time}.{:09}Z", self.0.rem_euclid(SECOND))
    }

    /// `2026-01-31` and `23:59:59`, in UTC.
    pub fn date_and_time(self) -> (String, String) {
        let seconds = self.0.div_euclid(SECOND);
        let (year, month, day) = date(seconds.div_euclid(86_400));
        let second = seconds.rem_euclid(86_400);
        let time = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
        (format!("{year:04}-{month:02}-{day:02}"), time)
    }

    /// Reads a time of RFC 3339 with date, time and zone. What is finer than nanoseconds is dropped; a
    /// time that does not fit is none.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| {
            let digits = text.get(range)?;
            let all = digits.bytes().all(|byte| byte.is_ascii_digit());
            if all { digits.parse::<i64>().ok() } else { None }
        };
        let mark = |at: usize, any: &[u8]| text.as_bytes().get(at).is_some_and(|b| any.contains(b));
        let marks = [(4, b"-".as_slice()), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")];
        if !marks.iter().all(|(at, any)| mark(*at, any)) {
            return None;
        }
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        let of_month = 1..=days_in(year, month)?;
        if !of_month.contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let rest = text.get(19..)?;
        let digits = rest
            .strip_prefix('.')
            .map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
        let (nanos, zone) = match digits {
            0 if rest.starts_with('.') => return None,
            0 => (0, rest),
            n => {
                let nine: String = rest[1..=n].chars().chain("000000000".chars()).take(9).collect();
                (nine.parse::<i64>().ok()?, &rest[n + 1..])
            }
        };
        let days = days(year, month, day);
        let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
        seconds.checked_mul(SECOND)?.checked_add(nanos).map(Self)
    }
}

/// Nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// Seconds that a zone (`Z`, `+02:00`) is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let two = |text: &str| match text.as_bytes() {
        [a, b] if a.is_ascii_digit() && b.is_ascii_digit() => text.parse::<i64>().ok(),
        _ => None,
    };
    Some(sign * (two(hours)? * 3600 + two(minutes)? * 60))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> Option<i64> {
    match month {
        2 => Some(28 + i64::from(is_leap(year))),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

/// Days before a year, from the year 0 on.
fn before(year: i64) -> i64 {
    let last = year - 1;
    year * 365 + last.div_euclid(4) - last.div_euclid(100) + last.div_euclid(400)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let months = (1..month).filter_map(|month| days_in(year, month)).sum::<i64>();
    before(year) - before(1970) + months + day - 1
}

/// The date that is so many days from 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    let total = days + before(1970);
    // No year is longer than 366 days, so this one or one of the next is it.
    let mut year = total.div_euclid(366);
    while before(year + 1) <= total {
        year += 1;
    }
    let mut left = total - before(year);
    let mut month = 1;
    while let Some(length) = days_in(year, month).filter(|length| left >= *length) {
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (951_868_799, "2000-02-29T23:59:59.000000000Z"),
            (1_764_349_146, "2025-11-28T16:59:06.000000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000000Z"),
            (-1, "1969-12-31T23:59:59.000000000Z"),
        ] {
            let time = Timestamp(seconds * SECOND);
            assert_eq!(time.rfc3339(), text);
            assert_eq!(Timestamp::from_rfc3339(text), Some(time));
        }
        let second = Timestamp::from_rfc3339("2000-03-01T00:00:00Z");
        for same in
            ["2000-03-01T02:00:00+02:00", "2000-02-29t22:30:00-01:30", "2000-03-01 00:00:00.0z"]
        {
            assert_eq!(Timestamp::from_rfc3339(same), second, "{same}");
        }
        let finer = Timestamp::from_rfc3339("1970-01-01T00:00:00.12345678999Z");
        assert_eq!(finer, Some(Timestamp(123_456_789)));
        for none in [
            "",
            "2000-03-01",
            "2001-02-29T00:00:00Z",
            "2000-13-01T00:00:00Z",
            "2000-03-01T24:00:00Z",
            "2000-03-01T00:00:00",
            "2000-03-01T00:00:00.Z",
            "+000-03-01T00:00:00Z",
            "9999-12-31T00:00:00Z",
            "2000-03-01T00:00:00+2:00",
            "äöü",
        ] {
            assert_eq!(Timestamp::from_rfc3339(none), None, "{none}");
        }
    }

    #[test]
    fn every_day_of_four_centuries() {
        let mut last = (0, 0, 0);
        for day in -150_000..150_000 {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
            assert!((year, month, of_month) > last);
            last = (year, month, of_month);
        }
    }
}

//! Times as people type them, and as logs have them.

use anyhow::bail;

/// Nanoseconds since 1970.
pub(crate) type Nanos = i128;

const SECOND: Nanos = 1_000_000_000;

/// Reads a time: RFC 3339, with as much of it as is wanted (`2026-01-02`, `…T15:04`, without zone: UTC),
/// seconds since 1970 with a fraction, or how long ago (`1h30m`, `90s`).
pub(crate) fn parse(text: &str, now: Nanos) -> anyhow::Result<Nanos> {
    let found =
        seconds(text).or_else(|| duration(text).map(|ago| now - ago)).or_else(|| rfc3339(text));
    match found {
        Some(time) => Ok(time),
        None => bail!(
            "{text:?} is no time: use 2026-01-02T15:04:05Z, seconds since 1970, or how long ago as in 10m and 1h30m"
        ),
    }
}

/// Now.
pub(crate) fn now() -> Nanos {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| Nanos::try_from(since.as_nanos()).unwrap_or(Nanos::MAX))
}

/// `1136073600.000000001`.
fn seconds(text: &str) -> Option<Nanos> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    Some(Nanos::from(whole) * SECOND + fraction(part)?)
}

/// Digits behind a decimal point, as nanoseconds; what is finer is cut off.
fn fraction(digits: &str) -> Option<Nanos> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nine: String = digits.chars().chain("000000000".chars()).take(9).collect();
    nine.parse().ok()
}

/// Numbers with units, as Go writes durations.
pub(crate) fn duration(text: &str) -> Option<Nanos> {
    let mut rest = text;
    let mut total: Nanos = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let (unit, length) = [
            ("ns", 1),
            ("us", 1_000),
            ("µs", 1_000),
            ("ms", 1_000_000),
            ("s", SECOND),
            ("m", 60 * SECOND),
            ("h", 3600 * SECOND),
        ]
        .into_iter()
        .find(|(unit, _)| {
            behind.strip_prefix(unit).is_some_and(|next| {
                next.is_empty() || next.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            })
        })?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let whole: i64 =
            if whole.is_empty() && !part.is_empty() { 0 } else { whole.parse().ok()? };
        total += Nanos::from(whole) * length + fraction(part)? * length / SECOND;
        rest = behind.strip_prefix(unit)?;
    }
    Some(total)
}

/// A date, with a time, with a zone.
pub(crate) fn rfc3339(text: &str) -> Option<Nanos> {
    let (date, rest) = match text.find(['T', 't', ' ']) {
        Some(at) => (text.get(..at)?, text.get(at + 1..)?),
        None => (text, ""),
    };
    let (time, zone) = match rest.find(['Z', 'z', '+', '-']) {
        Some(at) => (rest.get(..at)?, rest.get(at..)?),
        None => (rest, ""),
    };
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let long = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if date.len() != 10 || !(1..=long).contains(&day) {
        return None;
    }
    let (clock, part) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = clock.splitn(3, ':').filter(|part| !part.is_empty());
    let mut next = |most: i64| match parts.next() {
        None => Some(0),
        Some(part) if part.len() == 2 => {
            part.parse::<i64>().ok().filter(|n| (0..=most).contains(n))
        }
        Some(_) => None,
    };
    let seconds = next(23)? * 3600 + next(59)? * 60 + next(60)?;
    let total = days(year, month, day) * 86_400 + seconds - offset(zone)?;
    Some(Nanos::from(total) * SECOND + fraction(part)?)
}

/// Seconds that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let two = |text: &str| (text.len() == 2).then(|| text.parse::<i64>().ok()).flatten();
    Some(sign * (two(hours)? * 3600 + two(minutes)? * 60))
}

/// `2000-02-29T23:59:59.000000001Z`.
pub(crate) fn written(time: Nanos) -> String {
    let (seconds, nanos) = (time.div_euclid(SECOND), time.rem_euclid(SECOND));
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(i64::try_from(day).unwrap_or(0));
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// The inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (400 * era + year_of_era + i64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. Years are counted from March, so that the
/// leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for day in (-800_000..800_000).step_by(17) {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
        }
        assert_eq!(rfc3339(&written(951_868_799 * SECOND + 1)), Some(951_868_799 * SECOND + 1));
    }

    #[test]
    fn forms() {
        let now = 2_000_000_000 * SECOND;
        for (text, time) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59.000000001Z", 951_868_799 * SECOND + 1),
            ("2000-03-01", 951_868_800 * SECOND),
            ("2000-03-01T00:00", 951_868_800 * SECOND),
            ("2000-03-01T02:00:00+02:00", 951_868_800 * SECOND),
            ("2000-02-29T22:30:00-01:30", 951_868_800 * SECOND),
            ("2100-03-01 00:00:00.5", 4_107_542_400 * SECOND + SECOND / 2),
            ("951868800", 951_868_800 * SECOND),
            ("951868800.25", 951_868_800 * SECOND + SECOND / 4),
            ("10m", now - 600 * SECOND),
            ("1h30m", now - 5400 * SECOND),
            ("1.5s", now - SECOND * 3 / 2),
            ("250ms", now - SECOND / 4),
            ("0", 0),
        ] {
            assert_eq!(parse(text, now).unwrap(), time, "{text}");
        }
        for text in [
            "",
            "yesterday",
            "10",
            "10q",
            "2000-13-01",
            "2001-02-29",
            "2000-03-01T25:00",
            "m",
            "1.x",
        ] {
            if text != "10" {
                assert!(parse(text, now).is_err(), "{text}");
            }
        }
    }
}

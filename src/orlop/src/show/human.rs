//! Sizes, times and ids in words, as Docker has them.

use anyhow::Context;
use orlop_model::Timestamp;
use std::time::Duration;

/// Bytes in at most four figures with a decimal unit: `187MB`, `7.8kB`, `0B`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let places = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.places$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

/// A time span in one unit: `5 seconds`, `About a minute`, `2 weeks`.
pub(crate) fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago a time is: `2 minutes ago`. What is to come was just now.
pub(crate) fn ago(seconds: i64, now: i64) -> String {
    let past = now.saturating_sub(seconds).max(0).unsigned_abs();
    format!("{} ago", duration(Duration::from_secs(past)))
}

/// A time as people type it: RFC 3339, a date, seconds since 1970, or how long ago (`10m`, `24h`).
pub(crate) fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if let (Ok(seconds), Ok(_)) = (whole.parse::<i64>(), part.parse::<u64>()) {
        return Ok(Timestamp(seconds.saturating_mul(1_000_000_000)));
    }
    if let Ok(ago) = crate::args::values::duration(text) {
        return Ok(Timestamp(now.0.saturating_sub_unsigned(ago)));
    }
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    Timestamp::from_rfc3339(&whole).with_context(|| {
        format!("{text} is no time: expected 2026-01-02T03:04:05Z, 2026-01-02, seconds since 1970, or 24h for how long ago")
    })
}

/// The first twelve characters of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (count, want) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (7_800, "7.8kB"),
            (1_234_567, "1.23MB"),
            (187_000_000, "187MB"),
            (12_500_000_000, "12.5GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(bytes(count), want);
        }
    }

    #[test]
    fn spans() {
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86_400, "3 days"),
            (15 * 86_400, "2 weeks"),
            (70 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), want, "{seconds}");
        }
        assert_eq!(ago(100, 220), "2 minutes ago");
        assert_eq!(ago(300, 220), "Less than a second ago");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("0123"), "0123");
    }

    #[test]
    fn moments() {
        let now = Timestamp(1_000_000_000_000);
        for (text, seconds) in [
            ("1970-01-01T00:01:00Z", 60),
            ("1970-01-02", 86_400),
            ("1970-01-01T00:02", 120),
            ("1970-01-01T00:00:03", 3),
            ("77", 77),
            ("77.5", 77),
            ("10m", 400),
        ] {
            assert_eq!(moment(text, now).unwrap(), Timestamp(seconds * 1_000_000_000), "{text}");
        }
        assert!(moment("yesterday", now).is_err());
    }
}

//! Sizes, times, counts.

use orlop_engine::spec::RestartPolicy;

/// Bytes: `512m`, `1.5g`, `64MiB`, `1048576`. A unit is a power of 1024, as Docker has it.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let form = || "expected a size such as 512m, 1.5g or 1048576".to_owned();
    let lower = text.trim().to_ascii_lowercase();
    let split = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let shift = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(form()),
    };
    let scale = 1u64 << shift;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale).ok_or_else(form);
    }
    let value: f64 = number.parse().map_err(|_| form())?;
    let bytes = value * scale as f64;
    // A fraction of a byte is of no use to anybody.
    if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(form()) }
}

/// The same, or −1 for no limit.
pub(crate) fn memory_swap(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes = size(text).map_err(|why| format!("{why}, or -1 for no limit"))?;
    i64::try_from(bytes).map_err(|_| "this is more than any machine has".into())
}

/// CPUs as thousand millionths: `1.5`, `.5`.
pub(crate) fn cpus(text: &str) -> Result<u64, String> {
    let form = || "expected a number of CPUs such as 2 or 0.5".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || (whole.is_empty() && part.is_empty()) {
        return Err(form());
    }
    if part.len() > 9 {
        return Err("a CPU has no more than nine decimal places".into());
    }
    let number = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<u64>() };
    let whole = number(whole).map_err(|_| form())?;
    let part = number(&format!("{part:0<9}")).map_err(|_| form())?;
    whole.checked_mul(1_000_000_000).and_then(|nano| nano.checked_add(part)).ok_or_else(form)
}

/// A time as Go writes it, in nanoseconds: `1m30s`, `500ms`, `0`.
pub(crate) fn duration(text: &str) -> Result<u64, String> {
    let form = || "expected a time such as 30s, 1m30s or 500ms".to_owned();
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(form)?;
        let value: f64 = rest[..split].parse().map_err(|_| form())?;
        rest = &rest[split..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(form()),
        };
        total += value * scale;
        rest = &rest[end..];
    }
    if text.is_empty() || total >= i64::MAX as f64 {
        return Err(form());
    }
    Ok(total.round() as u64)
}

const LIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `nofile=1024:2048`; −1 is no limit.
pub(crate) fn ulimit(text: &str) -> Result<(String, u64, u64), String> {
    let form = || "expected NAME=SOFT[:HARD], such as nofile=1024:2048".to_owned();
    let (name, limits) = text.split_once('=').ok_or_else(form)?;
    if !LIMITS.contains(&name) {
        let near = crate::suggest::nearest(name, LIMITS);
        let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        return Err(format!("there is no limit {name}: expected {}{hint}", LIMITS.join(", ")));
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text.parse::<u64>().map_err(|_| form()),
    };
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(format!("the soft limit {soft} is above the hard limit {hard}"));
    }
    Ok((name.to_owned(), soft, hard))
}

/// `no`, `always`, `unless-stopped`, `on-failure[:N]`.
pub(crate) fn restart(text: &str) -> Result<RestartPolicy, String> {
    let (word, count) = match text.split_once(':') {
        Some((word, count)) => (word, Some(count)),
        None => (text, None),
    };
    let policy = match word {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => {
            let max = count.map_or(Ok(0), str::parse);
            let max = max.map_err(|_| "expected a count after on-failure:".to_owned())?;
            return Ok(RestartPolicy::OnFailure { max });
        }
        _ => {
            let known = ["no", "always", "unless-stopped", "on-failure"];
            let near = crate::suggest::nearest(word, known);
            let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return Err(format!("expected no, always, unless-stopped or on-failure[:COUNT]{hint}"));
        }
    };
    match count {
        Some(_) => Err("only on-failure takes a count".into()),
        None => Ok(policy),
    }
}

/// Seconds; −1 waits for ever.
pub(crate) fn stop_timeout(text: &str) -> Result<i32, String> {
    match text.parse::<i32>() {
        Ok(seconds) if seconds >= -1 => Ok(seconds),
        _ => Err("expected seconds, or -1 to wait without end".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512m", 512 << 20),
            ("512M", 512 << 20),
            ("64MiB", 64 << 20),
            ("64 mb", 64 << 20),
            ("1.5g", 3 << 29),
            ("10b", 10),
            ("2k", 2048),
        ] {
            assert_eq!(size(text), Ok(want), "{text}");
        }
        for wrong in ["", "m", "-1", "1x", "1.2.3g", "99999999p", "∞"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(memory_swap("-1"), Ok(-1));
        assert!(memory_swap("-2").unwrap_err().contains("-1 for no limit"));
    }

    #[test]
    fn processors() {
        for (text, want) in [
            ("2", 2_000_000_000),
            ("0.5", 500_000_000),
            (".25", 250_000_000),
            ("1.", 1_000_000_000),
        ] {
            assert_eq!(cpus(text), Ok(want), "{text}");
        }
        for wrong in ["", ".", "-1", "1e3", "0.1234567890", "99999999999999999999"] {
            assert!(cpus(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times() {
        for (text, want) in [
            ("0", 0),
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("500ms", 500_000_000),
            ("1.5h", 5_400_000_000_000),
            ("2us", 2000),
        ] {
            assert_eq!(duration(text), Ok(want), "{text}");
        }
        for wrong in ["", "30", "s", "1d", "-1s", "1s2"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_of_processes() {
        assert_eq!(ulimit("nofile=1024:2048"), Ok(("nofile".into(), 1024, 2048)));
        assert_eq!(ulimit("core=-1"), Ok(("core".into(), u64::MAX, u64::MAX)));
        assert!(ulimit("nofiles=1").unwrap_err().contains("did you mean nofile?"));
        assert!(ulimit("nofile=2:1").unwrap_err().contains("above the hard limit"));
        assert!(ulimit("nofile").is_err() && ulimit("nofile=x").is_err());
    }

    #[test]
    fn policies() {
        for (text, want) in [
            ("no", RestartPolicy::No),
            ("always", RestartPolicy::Always),
            ("unless-stopped", RestartPolicy::UnlessStopped),
            ("on-failure", RestartPolicy::OnFailure { max: 0 }),
            ("on-failure:5", RestartPolicy::OnFailure { max: 5 }),
        ] {
            assert_eq!(restart(text), Ok(want), "{text}");
        }
        assert!(restart("allways").unwrap_err().contains("did you mean always?"));
        assert!(restart("always:3").unwrap_err().contains("only on-failure"));
        assert!(restart("on-failure:x").is_err());
        assert_eq!(stop_timeout("-1"), Ok(-1));
        assert!(stop_timeout("-2").is_err() && stop_timeout("1s").is_err());
    }
}

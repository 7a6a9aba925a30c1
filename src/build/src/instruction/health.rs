//! `HEALTHCHECK`.

use super::CommandLine;
use super::flags::{Flags, Kind};
use crate::Diagnostic;
use crate::parse::{Arguments, Node};

/// What `HEALTHCHECK` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// No check, also where the base image has one.
    None,
    /// A command.
    Check(Health),
}

/// A check and its times in nanoseconds; 0 means the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The command.
    pub command: CommandLine,
    /// Between two checks.
    pub interval: i64,
    /// Until a check has failed.
    pub timeout: i64,
    /// In which failures do not count.
    pub start_period: i64,
    /// Between two checks in that time.
    pub start_interval: i64,
    /// Failures in a row until the container is unhealthy.
    pub retries: u32,
}

const FLAGS: [(&str, Kind); 5] = [
    ("interval", Kind::Text),
    ("timeout", Kind::Text),
    ("start-period", Kind::Text),
    ("start-interval", Kind::Text),
    ("retries", Kind::Text),
];

pub(super) fn healthcheck(node: &Node) -> Result<Healthcheck, Diagnostic> {
    let flags = Flags::new(node, &FLAGS)?;
    let wrong = |message: &str| {
        Diagnostic::new(node.lines, message)
            .expected("HEALTHCHECK [flags] CMD command, or HEALTHCHECK NONE")
    };
    let Arguments::Health(kind, arguments) = &node.arguments else {
        return Err(wrong("HEALTHCHECK requires at least one argument"));
    };
    let command = super::build::command_line(arguments);
    let empty = match &command {
        CommandLine::Shell { text, .. } => text.is_empty(),
        CommandLine::Exec(words) => words.is_empty(),
    };
    match kind.to_ascii_uppercase().as_str() {
        "" => Err(wrong("HEALTHCHECK requires at least one argument")),
        "NONE" if empty && node.flags.is_empty() => Ok(Healthcheck::None),
        "NONE" => Err(wrong("HEALTHCHECK NONE takes no arguments")),
        "CMD" if empty => Err(wrong("missing command after HEALTHCHECK CMD")),
        "CMD" => Ok(Healthcheck::Check(Health {
            command,
            interval: duration(node, &flags, "interval")?,
            timeout: duration(node, &flags, "timeout")?,
            start_period: duration(node, &flags, "start-period")?,
            start_interval: duration(node, &flags, "start-interval")?,
            retries: retries(node, &flags)?,
        })),
        other => Err(wrong(&format!("unknown type {other:?} in HEALTHCHECK")).at(kind.as_str())),
    }
}

fn retries(node: &Node, flags: &Flags<'_>) -> Result<u32, Diagnostic> {
    let Some(text) = flags.text("retries").filter(|text| !text.is_empty()) else { return Ok(0) };
    text.parse().ok().filter(|n| *n <= i32::MAX as u32).ok_or_else(|| {
        Diagnostic::new(node.lines, format!("invalid number of retries: {text}"))
            .at("--retries")
            .expected("a whole number, 0 or more")
    })
}

fn duration(node: &Node, flags: &Flags<'_>, name: &str) -> Result<i64, Diagnostic> {
    let Some(text) = flags.text(name).filter(|text| !text.is_empty()) else { return Ok(0) };
    let wrong = |message: String| {
        Diagnostic::new(node.lines, message).at(format!("--{name}")).expected("a time such as 30s")
    };
    let nanoseconds =
        parse_duration(&text).ok_or_else(|| wrong(format!("invalid duration {text:?}")))?;
    match nanoseconds {
        0 | 1_000_000.. => Ok(nanoseconds),
        _ => Err(wrong(format!("--{name} cannot be less than 1 ms: {text}"))),
    }
}

/// Nanoseconds of `1h2m3.5s`.
fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let number =
            rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (value, after) = rest.split_at(number);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(value, scale)?)?;
        rest = after;
    }
    Some(if negative { -total } else { total })
}

fn scaled(value: &str, scale: i64) -> Option<i64> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    let mut total = whole.checked_mul(scale)?;
    let mut place = scale;
    for digit in fraction.chars() {
        place /= 10;
        total = total.checked_add(i64::from(digit.to_digit(10)?) * place)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("0", Some(0)),
            ("5s", Some(5_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5ms", Some(500_000)),
            ("-1s", Some(-1_000_000_000)),
            ("5", None),
            ("s", None),
            ("1.2.3s", None),
            ("1y", None),
            ("99999999999h", None),
            ("", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }
}

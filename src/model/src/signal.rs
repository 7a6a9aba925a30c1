//! Signals by number and name.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text or number is not a signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("signal {value:?} is not known: use a name such as SIGTERM, or a number from 1 to 64")]
pub struct SignalError {
    value: String,
}

/// A Linux signal, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Signal(u8);

/// Names in the order of their numbers on the architectures that Orlop is built for (x86, arm, riscv).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

impl Signal {
    /// SIGTERM.
    pub const TERM: Self = Self(15);
    /// SIGKILL.
    pub const KILL: Self = Self(9);

    /// The signal's number.
    pub fn number(self) -> u32 {
        u32::from(self.0)
    }

    /// Reads a name with or without `SIG`, in any case, or a number; as Dockerfile's STOPSIGNAL and
    /// CRI write them, `RTMIN+3` and `RTMAX-2` included.
    pub fn parse(text: &str) -> Result<Self, SignalError> {
        let unknown = || SignalError { value: text.chars().take(40).collect() };
        if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            return text.parse().ok().and_then(|n: u32| Self::try_from(n).ok()).ok_or_else(unknown);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let alias = match name {
            "CLD" => "CHLD",
            "IOT" => "ABRT",
            "POLL" => "IO",
            other => other,
        };
        if let Some(at) = NAMES.iter().position(|known| *known == alias) {
            return Ok(Self(at as u8 + 1));
        }
        let real_time = if let Some(rest) = name.strip_prefix("RTMIN") {
            offset(rest, '+').map(|n| RTMIN.saturating_add(n))
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            offset(rest, '-').and_then(|n| RTMAX.checked_sub(n))
        } else {
            None
        };
        real_time.filter(|n| (RTMIN..=RTMAX).contains(n)).map(Self).ok_or_else(unknown)
    }
}

/// `""`, `+N`, `-N` or CRI's `PLUSN`, `MINUSN` behind RTMIN or RTMAX.
fn offset(rest: &str, sign: char) -> Option<u8> {
    if rest.is_empty() {
        return Some(0);
    }
    let word = if sign == '+' { "PLUS" } else { "MINUS" };
    rest.strip_prefix(sign).or_else(|| rest.strip_prefix(word))?.parse().ok()
}

impl TryFrom<u32> for Signal {
    type Error = SignalError;
    fn try_from(number: u32) -> Result<Self, SignalError> {
        match u8::try_from(number) {
            Ok(n @ 1..=RTMAX) => Ok(Self(n)),
            _ => Err(SignalError { value: number.to_string() }),
        }
    }
}

impl From<Signal> for u32 {
    fn from(signal: Signal) -> u32 {
        signal.number()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n @ 1..=31 => write!(f, "SIG{}", NAMES[usize::from(n) - 1]),
            RTMIN => f.write_str("SIGRTMIN"),
            RTMAX => f.write_str("SIGRTMAX"),
            n @ 35..=49 => write!(f, "SIGRTMIN+{}", n - RTMIN),
            n @ 50..=63 => write!(f, "SIGRTMAX-{}", RTMAX - n),
            n => write!(f, "{n}"),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGCLD", 17),
            ("IOT", 6),
            ("SIGPOLL", 29),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("SIGRTMINPLUS15", 49),
            ("SIGRTMAXMINUS14", 50),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(Signal::parse(text).unwrap().number(), number, "{text}");
        }
        for bad in
            ["", "0", "65", "SIG", "SIGFOO", "RTMIN+31", "RTMAX-31", "-9", "1e1", "SIGRTMIN+"]
        {
            assert!(Signal::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn display_parses_back() {
        for n in (1..=31).chain(34..=64) {
            let signal = Signal::try_from(n).unwrap();
            assert_eq!(Signal::parse(&signal.to_string()), Ok(signal));
        }
    }
}

//! Lines of a program from the records of its log: pure.

use super::time::{Nanos, rfc3339};

/// One record: `<time> <stdout|stderr> <F|P> <text>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) stamp: &'a str,
    pub(super) error: bool,
    /// The line ends here.
    pub(super) full: bool,
    pub(super) text: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a line of the log, without its end.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let stamp = std::str::from_utf8(parts.next()?).ok()?;
        let error = match parts.next()? {
            b"stdout" => false,
            b"stderr" => true,
            _ => return None,
        };
        let full = match parts.next()?.split(|byte| *byte == b':').next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Self { stamp, error, full, text: parts.next().unwrap_or_default() })
    }
}

/// What is wanted of a log.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) since: Option<Nanos>,
    pub(super) until: Option<Nanos>,
    pub(super) timestamps: bool,
}

/// Joins the pieces of lines: what comes out is what the program wrote.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    /// For stdout and stderr: the line is begun, and whether it is shown.
    begun: [Option<bool>; 2],
    wanted: Wanted,
}

/// What is to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Nothing.
    Nothing,
    /// To stdout or to stderr.
    Bytes(bool, Vec<u8>),
    /// Nothing more: all that follows is later than what is wanted.
    Beyond,
}

impl Joiner {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { begun: [None, None], wanted }
    }

    /// Takes a line of the log, without its end.
    pub(super) fn feed(&mut self, line: &[u8]) -> Shown {
        // A line that is no record is of a write that was cut off: nothing can be said of it.
        let Some(record) = Record::parse(line) else { return Shown::Nothing };
        let slot = usize::from(record.error);
        let begun = self.begun.get(slot).copied().flatten();
        let shown = match begun {
            Some(shown) => shown,
            None => {
                let time = rfc3339(record.stamp);
                let late = |until: Nanos| time.is_some_and(|time| time > until);
                if self.wanted.until.is_some_and(late) {
                    return Shown::Beyond;
                }
                self.wanted.since.is_none_or(|since| time.is_none_or(|time| time >= since))
            }
        };
        if let Some(slot) = self.begun.get_mut(slot) {
            *slot = (!record.full).then_some(shown);
        }
        if !shown {
            return Shown::Nothing;
        }
        let mut bytes = Vec::with_capacity(record.text.len() + 40);
        if begun.is_none() && self.wanted.timestamps {
            bytes.extend_from_slice(record.stamp.as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(record.text);
        if record.full {
            bytes.push(b'\n');
        }
        Shown::Bytes(record.error, bytes)
    }
}

/// Where the last `count` lines begin in the end of a log, `tail`, whose first line is whole only with
/// `whole`; `None`: they begin before it.
pub(super) fn last_lines(tail: &[u8], count: usize, whole: bool) -> Option<usize> {
    let mut starts: Vec<usize> = Vec::new();
    let mut at = 0;
    if !whole {
        at = tail.iter().position(|byte| *byte == b'\n')? + 1;
    }
    // A line begins where no piece of the same stream is open.
    let mut open = [false; 2];
    let mut certain = whole;
    while let Some(line) = tail.get(at..).filter(|rest| !rest.is_empty()) {
        let length = line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len());
        if let Some(record) = Record::parse(line.get(..length).unwrap_or_default())
            && let Some(open) = open.get_mut(usize::from(record.error))
        {
            if !*open && certain {
                starts.push(at);
            }
            *open = !record.full;
            // From the first end of a line on it is known where lines begin.
            certain |= record.full;
        }
        at += length + 1;
    }
    if starts.len() >= count {
        return Some(
            starts
                .len()
                .checked_sub(count)
                .and_then(|first| starts.get(first))
                .copied()
                .unwrap_or(tail.len()),
        );
    }
    whole.then(|| starts.first().copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.000000000Z stdout F one\n\
        2026-01-01T00:00:02.000000000Z stdout P tw\n\
        2026-01-01T00:00:02.500000000Z stderr F error\n\
        2026-01-01T00:00:03.000000000Z stdout F o\n\
        2026-01-01T00:00:04.000000000Z stdout F \n\
        2026-01-01T00:00:05.000000000Z stdout P last";

    fn shown(wanted: Wanted) -> (String, String) {
        let mut joiner = Joiner::new(wanted);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for line in LOG.split('\n') {
            match joiner.feed(line.as_bytes()) {
                Shown::Nothing => {}
                Shown::Bytes(false, bytes) => out.extend(bytes),
                Shown::Bytes(true, bytes) => err.extend(bytes),
                Shown::Beyond => break,
            }
        }
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn pieces_are_joined() {
        assert_eq!(shown(Wanted::default()), ("one\ntwo\n\nlast".into(), "error\n".into()));
        let stamped = shown(Wanted { timestamps: true, ..Wanted::default() }).0;
        assert!(stamped.contains("2026-01-01T00:00:02.000000000Z two\n"), "{stamped}");
        assert_eq!(stamped.matches("2026").count(), 4);
    }

    #[test]
    fn times_are_those_of_a_lines_begin() {
        let at = |second: Nanos| Some((1_767_225_600 + second) * 1_000_000_000);
        let since = shown(Wanted { since: at(3), ..Wanted::default() });
        assert_eq!(since, ("\nlast".into(), String::new()));
        let until = shown(Wanted { until: at(2), ..Wanted::default() });
        assert_eq!(until.0, "one\ntw");
    }

    #[test]
    fn the_last_lines() {
        let at = |text: &str| LOG.find(text);
        assert_eq!(last_lines(LOG.as_bytes(), 1, true), at("2026-01-01T00:00:05"));
        assert_eq!(last_lines(LOG.as_bytes(), 2, true), at("2026-01-01T00:00:04"));
        assert_eq!(last_lines(LOG.as_bytes(), 3, true), at("2026-01-01T00:00:02.5"));
        assert_eq!(last_lines(LOG.as_bytes(), 4, true), at("2026-01-01T00:00:02.0"));
        assert_eq!(last_lines(LOG.as_bytes(), 99, true), Some(0));
        assert_eq!(last_lines(LOG.as_bytes(), 0, true), Some(LOG.len()));
        // A part that begins within a line says nothing of where that began.
        assert_eq!(last_lines(&LOG.as_bytes()[20..], 99, false), None);
        assert_eq!(
            last_lines(&LOG.as_bytes()[20..], 1, false),
            at("2026-01-01T00:00:05").map(|at| at - 20)
        );
        assert_eq!(last_lines(b"", 3, true), Some(0));
    }

    #[test]
    fn records() {
        assert!(Record::parse(b"").is_none());
        assert!(Record::parse(b"t stdlog F x").is_none());
        assert_eq!(Record::parse(b"t stderr F").unwrap().text, b"");
        assert_eq!(Record::parse(b"t stdout P:x a b").unwrap().text, b"a b");
    }
}

//! The CRI log format: `<time> <stdout|stderr> <F|P> <text>\n`. Pure: bytes in, records out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which of a process's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Stdout => b"stdout",
            Self::Stderr => b"stderr",
        }
    }
}

/// Records are handed on in batches of about this many bytes.
const BATCH: usize = 64 * 1024;

/// Cuts one stream into records. What it does depends on the bytes alone, never on how they were
/// cut into reads.
#[derive(Debug)]
pub(crate) struct Formatter {
    stream: Stream,
    /// The longest text of a record.
    max: usize,
    /// The begin of a line whose end has not come yet; at most `max` bytes.
    partial: Vec<u8>,
}

impl Formatter {
    pub(crate) fn new(stream: Stream, max: usize) -> Self {
        Self { stream, max: max.max(1), partial: Vec::new() }
    }

    /// Appends the records that `bytes` complete to `out`. Stops when `out` is long enough for a
    /// write; returns how many bytes it took. To be called again, with `out` emptied, for the rest.
    pub(crate) fn feed(&mut self, bytes: &[u8], time: &[u8], out: &mut Vec<u8>) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && out.len() < BATCH {
            // One byte beyond the longest text shows whether the line ends just there.
            let window = self.max - self.partial.len() + 1;
            let seen = rest.get(..window).unwrap_or(rest);
            if let Some(end) = memchr::memchr(b'\n', seen) {
                let (line, _) = seen.split_at(end);
                self.record(time, b'F', line, out);
                rest = rest.get(end + 1..).unwrap_or_default();
            } else if seen.len() == window {
                let (piece, _) = seen.split_at(window - 1);
                self.record(time, b'P', piece, out);
                rest = rest.get(window - 1..).unwrap_or_default();
            } else {
                self.partial.extend_from_slice(seen);
                rest = &[];
            }
        }
        bytes.len() - rest.len()
    }

    /// Writes what is left of a line that will not end any more.
    pub(crate) fn finish(&mut self, time: &[u8], out: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            self.record(time, b'P', &[], out);
        }
    }

    fn record(&mut self, time: &[u8], tag: u8, tail: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(time);
        out.push(b' ');
        out.extend_from_slice(self.stream.name());
        out.extend_from_slice(&[b' ', tag, b' ']);
        out.extend_from_slice(&self.partial);
        out.extend_from_slice(tail);
        // A terminal ends its lines with \r\n; the record's end stands for both.
        if tag == b'F'
            && (tail.last() == Some(&b'\r')
                || (tail.is_empty() && self.partial.last() == Some(&b'\r')))
        {
            out.pop();
        }
        out.push(b'\n');
        // Most lines come in one piece: then there is no buffer to keep.
        self.partial = Vec::new();
    }
}

/// The time as RFC 3339 with nanoseconds, in UTC: `2026-01-31T23:59:59.000000001Z`.
pub(crate) fn rfc3339(time: SystemTime) -> [u8; 30] {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    let mut put = |at: usize, width: usize, value: u64| {
        let mut value = value;
        for digit in text.iter_mut().skip(at).take(width).rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, second / 3600);
    put(14, 2, second / 60 % 60);
    put(17, 2, second % 60);
    put(20, 9, u64::from(since.subsec_nanos()));
    text
}

/// Year, month and day of the Gregorian calendar, from days since 1970. Years are counted from
/// March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    const PER_400_YEARS: u64 = 146_097;
    // Days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, of_era) = (days / PER_400_YEARS, days % PER_400_YEARS);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 31, 30, 31, 30, 31 days, and again: 153 in five.
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (400 * era + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn format(max: usize, chunks: &[&[u8]]) -> String {
        let mut formatter = Formatter::new(Stream::Stdout, max);
        let mut out = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            while !rest.is_empty() {
                let mut batch = Vec::new();
                let taken = formatter.feed(rest, b"T", &mut batch);
                assert!(taken > 0);
                rest = &rest[taken..];
                out.extend(batch);
            }
        }
        formatter.finish(b"T", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records() {
        for (max, input, want) in [
            (4, "", ""),
            (4, "a\n", "T stdout F a\n"),
            (4, "\n\n", "T stdout F \nT stdout F \n"),
            (4, "a", "T stdout P a\n"),
            (4, "abcd\n", "T stdout F abcd\n"),
            (4, "abcde\n", "T stdout P abcd\nT stdout F e\n"),
            (4, "abcdefgh\n", "T stdout P abcd\nT stdout F efgh\n"),
            (4, "abcdefgh", "T stdout P abcd\nT stdout P efgh\n"),
            (4, "abc\r\n", "T stdout F abc\n"),
            (4, "\r\n", "T stdout F \n"),
            (4, "a\rb\n", "T stdout F a\rb\n"),
            (4, "a\r", "T stdout P a\r\n"),
        ] {
            assert_eq!(format(max, &[input.as_bytes()]), want, "{input:?}");
        }
    }

    #[test]
    fn times() {
        for (seconds, nanos, want) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, 999_999_999, "2000-02-28T23:59:59.999999999Z"),
            (951_868_799, 1, "2000-02-29T23:59:59.000000001Z"),
            (951_868_800, 0, "2000-03-01T00:00:00.000000000Z"),
            (1_798_761_599, 120, "2026-12-31T23:59:59.000000120Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
        ] {
            let text = rfc3339(UNIX_EPOCH + Duration::new(seconds, nanos));
            assert_eq!(String::from_utf8_lossy(&text), want);
        }
    }

    /// What a reader of the log gets: the texts, a newline behind each F.
    fn payload(log: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in log.split_inclusive('\n') {
            let mut fields = line.strip_suffix('\n').unwrap().splitn(4, ' ');
            let (tag, text) = (fields.nth(2).unwrap(), fields.next().unwrap());
            bytes.extend_from_slice(text.as_bytes());
            if tag == "F" {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(input in "[ab\r\n]{0,300}", max in 1usize..20, cuts in prop::collection::vec(0usize..300, 0..12)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).chain([0, input.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &input.as_bytes()[pair[0]..pair[1]]).collect();
            let whole = format(max, &[input.as_bytes()]);
            prop_assert_eq!(&format(max, &chunks), &whole);
            // Only \r before \n may be missing.
            let got = payload(&whole);
            let squeezed = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "");
            prop_assert_eq!(squeezed(&got), squeezed(input.as_bytes()));
            for line in whole.lines() {
                prop_assert!(line.len() <= "T stdout F ".len() + max + 1);
            }
        }
    }
}

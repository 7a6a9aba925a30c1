//! The keys that leave a container without ending it.

use anyhow::bail;

/// Ctrl-P, Ctrl-Q.
pub(crate) const DEFAULT: &str = "ctrl-p,ctrl-q";

/// Looks for the keys in what is typed. Bytes that may be their beginning wait until it is clear; what
/// is not theirs is passed on unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them have been typed.
    seen: usize,
}

impl DetachKeys {
    /// Reads `--detach-keys`: characters, or `ctrl-` and one of a to z, `@`, `[`, `\`, `]`, `^`, `_`;
    /// with commas in between.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let text = if text.is_empty() { DEFAULT } else { text };
        let keys = text.split(',').map(key).collect::<anyhow::Result<_>>()?;
        Ok(Self { keys, seen: 0 })
    }

    /// Takes what was typed: what is to be passed on, and whether the keys were complete; what came
    /// behind them is dropped.
    pub(crate) fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len() + self.seen);
        for &byte in typed {
            self.step(byte, &mut out);
            if self.seen == self.keys.len() {
                self.seen = 0;
                return (out, true);
            }
        }
        (out, false)
    }

    /// What waits, when nothing more is typed.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let seen = std::mem::take(&mut self.seen);
        self.keys.get(..seen).unwrap_or_default().to_vec()
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        let mut held = self.keys.get(..self.seen).unwrap_or_default().to_vec();
        held.push(byte);
        // The longest end of what is held that begins the keys goes on waiting.
        let waits = (0..=held.len())
            .find(|&from| self.keys.starts_with(held.get(from..).unwrap_or_default()))
            .unwrap_or(held.len());
        out.extend(held.drain(..waits));
        self.seen = held.len();
    }
}

fn key(text: &str) -> anyhow::Result<u8> {
    let wrong = || {
        format!(
            "{text:?} is no key to detach with: use a character, or ctrl- and one of a to z, @, [, \\, ], ^ and _, with commas in between, as in {DEFAULT}"
        )
    };
    if text == "DEL" {
        return Ok(127);
    }
    let (control, letter) = match text.strip_prefix("ctrl-") {
        Some(letter) => (true, letter),
        None => (false, text),
    };
    let [byte] = letter.as_bytes() else { bail!(wrong()) };
    match (control, byte) {
        (false, byte) if byte.is_ascii() => Ok(*byte),
        (true, b'a'..=b'z' | b'A'..=b'Z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_') => {
            Ok(byte.to_ascii_uppercase() & 0x1f)
        }
        _ => bail!(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing() {
        for (text, expected) in [
            ("", &[16, 17][..]),
            ("ctrl-p,ctrl-q", &[16, 17]),
            ("ctrl-a", &[1]),
            ("ctrl-A", &[1]),
            ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", &[0, 27, 28, 29, 30, 31]),
            ("a,b", b"ab"),
            ("DEL", &[127]),
        ] {
            assert_eq!(DetachKeys::parse(text).unwrap().keys, expected, "{text}");
        }
        for text in ["ctrl-", "ctrl-1", "ab", "a,,b", "a,", "ö", "ctrl-ab"] {
            let error = DetachKeys::parse(text).unwrap_err().to_string();
            assert!(error.contains("ctrl-p,ctrl-q"), "{error}");
        }
    }

    fn feed(keys: &str, typed: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = DetachKeys::parse(keys).unwrap();
        let mut all = Vec::new();
        for part in typed {
            let (out, done) = keys.feed(part);
            all.extend(out);
            if done {
                return (all, true);
            }
        }
        all.extend(keys.rest());
        (all, false)
    }

    #[test]
    fn what_is_typed_passes_but_for_the_keys() {
        for (keys, typed, passed, left) in [
            ("ctrl-p,ctrl-q", &[&b"ls\r"[..]][..], &b"ls\r"[..], false),
            ("ctrl-p,ctrl-q", &[b"a\x10\x11b"], b"a", true),
            ("ctrl-p,ctrl-q", &[b"a\x10", b"\x11"], b"a", true),
            ("ctrl-p,ctrl-q", &[b"\x10", b"\x10", b"x"], b"\x10\x10x", false),
            ("ctrl-p,ctrl-q", &[b"\x10\x10\x11"], b"\x10", true),
            ("ctrl-p,ctrl-q", &[b"\x10"], b"\x10", false),
            ("a,a,b", &[b"aaab"], b"a", true),
            ("a,b,a,c", &[b"ababac"], b"ab", true),
            ("x", &[b"oxo"], b"o", true),
        ] {
            assert_eq!(feed(keys, typed), (passed.to_vec(), left), "{keys} {typed:?}");
        }
    }
}

//! PAX extended headers: records `<length> <key>=<value>\n`, where the length counts itself.
//! Values may hold any byte, newlines too (a file capability often does).

use std::collections::BTreeMap;

use super::header::text;

/// The records of one extended header; of two with the same key the last one holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Records {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Values of the repeated keys of sparse format 0.0: offset, length, offset, length...
    pub(crate) sparse_pairs: Vec<Vec<u8>>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";
const XATTR_LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";

impl Records {
    /// Takes the contents of an `x` member apart. Anything unexpected is an error: a record that
    /// one reader skips and another honours is how members are smuggled past a scanner.
    pub(crate) fn parse(mut data: &[u8], most_pairs: usize) -> Result<Self, &'static str> {
        let mut records = Self::default();
        while !data.is_empty() {
            let (key, value, rest) = record(data).ok_or("malformed PAX record")?;
            data = rest;
            records.insert(key, value, most_pairs)?;
        }
        if records.sparse_pairs.len() % 2 != 0 {
            return Err("sparse map of a PAX header has an offset without a length");
        }
        Ok(records)
    }

    fn insert(&mut self, key: &[u8], value: &[u8], most_pairs: usize) -> Result<(), &'static str> {
        let expected: &[u8] = match self.sparse_pairs.len() % 2 {
            0 => b"GNU.sparse.offset",
            _ => b"GNU.sparse.numbytes",
        };
        match key {
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" if key != expected => {
                return Err("sparse map of a PAX header is out of order");
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                if self.sparse_pairs.len() / 2 >= most_pairs {
                    return Err("sparse map of a PAX header has too many entries");
                }
                self.sparse_pairs.push(value.to_vec());
            }
            b"path" | b"linkpath" | b"uname" | b"gname" if value.contains(&0) => {
                return Err("PAX record holds a name with a NUL byte");
            }
            _ if key.is_empty() || key.contains(&0) => return Err("malformed PAX key"),
            _ => {
                self.values.insert(key.to_vec(), value.to_vec());
            }
        }
        Ok(())
    }

    /// The value of a key; an empty value means that the header's own field holds.
    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key.as_bytes()).map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    /// Checks the records that nothing here needs: others refuse the member for them.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        self.time("atime")?;
        self.time("ctime").map(|_| ())
    }

    /// A decimal number.
    pub(crate) fn number(&self, key: &str) -> Result<Option<i64>, &'static str> {
        self.get(key).map(|value| decimal(value).ok_or("PAX record is not a number")).transpose()
    }

    /// A time as seconds and nanoseconds.
    pub(crate) fn time(&self, key: &str) -> Result<Option<(i64, u32)>, &'static str> {
        self.get(key).map(|value| timestamp(value).ok_or("PAX record is not a time")).transpose()
    }

    /// Extended attributes, by name. The plain form wins over libarchive's, which says the same.
    pub(crate) fn xattrs(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, &'static str> {
        let mut found = BTreeMap::new();
        for (key, value) in &self.values {
            if let Some(name) = key.strip_prefix(XATTR_LIBARCHIVE) {
                let name = percent_decoded(name).ok_or("malformed LIBARCHIVE.xattr name")?;
                let value = base64_decoded(value).ok_or("malformed LIBARCHIVE.xattr value")?;
                found.insert(name, value);
            }
        }
        for (key, value) in &self.values {
            if let Some(name) = key.strip_prefix(XATTR) {
                found.insert(name.to_vec(), value.clone());
            }
        }
        Ok(found)
    }
}

/// Splits off the first record: key, value, and what follows.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    let (record, rest) = data.split_at_checked(length)?;
    let (last, body) = record.get(space + 1..)?.split_last()?;
    let equals = body.iter().position(|&byte| byte == b'=')?;
    (*last == b'\n').then(|| (&body[..equals], &body[equals + 1..], rest))
}

/// A decimal number with an optional sign.
pub(crate) fn decimal(value: &[u8]) -> Option<i64> {
    let (negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_i64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        let digit = if negative { -i64::from(digit) } else { i64::from(digit) };
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// `seconds[.fraction]`; what is finer than a nanosecond is cut off, a negative time rounds down.
fn timestamp(value: &[u8]) -> Option<(i64, u32)> {
    let dot = value.iter().position(|&byte| byte == b'.').unwrap_or(value.len());
    let seconds = decimal(&value[..dot])?;
    let fraction = value.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().map(|digit| u32::from(digit - b'0'));
    let nanos = digits.chain(std::iter::repeat(0)).take(9).fold(0, |sum, digit| sum * 10 + digit);
    if value[0] == b'-' && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

fn percent_decoded(name: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        rest = tail;
        let digits = std::str::from_utf8(digits).ok()?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
    }
    Some(decoded)
}

/// libarchive leaves out the padding.
fn base64_decoded(value: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let value = text(value);
    let end = value.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    base64::engine::general_purpose::STANDARD_NO_PAD.decode(&value[..end]).ok()
}

//! The mounts of our namespace, from `/proc/self/mountinfo`.

use crate::error::{Context, Result};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Its id in this namespace.
    pub id: u64,
    /// The directory of the file system that it shows.
    pub root: PathBuf,
    /// Where it is.
    pub target: PathBuf,
    /// The type of the file system.
    pub kind: String,
    /// What the file system was made from.
    pub source: String,
    /// Options of the mount: `rw`, `noexec`.
    pub options: String,
    /// Options of the file system (not of the mount).
    pub super_options: String,
}

/// Reads the table.
pub fn mount_table() -> Result<Vec<MountEntry>> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read(path).context("read", || path)?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let root = path(fields.nth(2)?);
    let target = path(fields.next()?);
    let options = String::from_utf8_lossy(fields.next()?).into_owned();
    // Optional fields end with a lone "-".
    fields.find(|field| *field == b"-")?;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let kind = text(fields.next()?);
    let source = text(fields.next()?);
    let super_options = text(fields.next().unwrap_or_default());
    Some(MountEntry { id, root, target, options, kind, source, super_options })
}

/// Undoes the octal escapes for space, tab, newline and backslash.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) if byte == b'\\' => {
                bytes.push(value);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_with_escapes_and_optional_fields() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134c rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue";
        let entry = parse(line).unwrap();
        assert_eq!(entry.target, PathBuf::from(r"/a b\c"));
        assert_eq!(
            (entry.id, entry.kind.as_str(), entry.source.as_str()),
            (36, "ext3", "/dev/root")
        );
        assert_eq!(entry.options, "rw,noatime");
        assert_eq!(entry.super_options, "rw,errors=continue");
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"x y"), None);
        assert!(!mount_table().unwrap().is_empty());
    }
}

//! Rules for single texts and numbers.

use super::{Result, bad, missing};
use std::path::{Component, Path, PathBuf};

/// The longest path that Linux takes.
const MAX_PATH: usize = 4095;
/// Highest user and group id: the one above means "no id" in system calls.
const MAX_ID: i64 = 4_294_967_294;

/// Not empty, no control characters, at most `max` bytes.
pub(super) fn name(field: &str, value: &str, max: usize) -> Result<String> {
    if value.is_empty() {
        return Err(missing(field, "set it"));
    }
    if value.len() > max {
        return Err(bad(field, value, &format!("use at most {max} bytes")));
    }
    if has_control(value) {
        return Err(bad(field, value, "remove control characters"));
    }
    Ok(value.to_owned())
}

pub(super) fn has_control(value: &str) -> bool {
    value.bytes().any(|byte| byte < 0x20 || byte == 0x7f)
}

/// An absolute path without `..`, cleaned of `.` and doubled slashes.
pub(super) fn absolute_path(field: &str, value: &str) -> Result<PathBuf> {
    if !value.starts_with('/') {
        return Err(bad(field, value, "use an absolute path"));
    }
    clean_path(field, value)
}

/// A relative path without `..`, cleaned likewise; not empty.
pub(super) fn relative_path(field: &str, value: &str) -> Result<PathBuf> {
    if value.starts_with('/') {
        return Err(bad(field, value, "use a path relative to the sandbox's log_directory"));
    }
    let path = clean_path(field, value)?;
    if path.as_os_str().is_empty() {
        return Err(bad(field, value, "name a file"));
    }
    Ok(path)
}

fn clean_path(field: &str, value: &str) -> Result<PathBuf> {
    if value.len() > MAX_PATH {
        return Err(bad(field, value, &format!("use at most {MAX_PATH} bytes")));
    }
    if has_control(value) {
        return Err(bad(field, value, "remove control characters"));
    }
    let path = Path::new(value);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(bad(field, value, "remove '..'"));
    }
    Ok(path.components().filter(|part| *part != Component::CurDir).collect())
}

/// A user or group id.
pub(super) fn id(field: &str, value: i64) -> Result<u32> {
    match u32::try_from(value) {
        Ok(id) if value <= MAX_ID => Ok(id),
        _ => Err(bad(field, value, "use a number from 0 to 4294967294")),
    }
}

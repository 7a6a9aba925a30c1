//! Names of members: canonical, relative to the layer's root, without any dot component.

use super::error::UnpackError;
use super::limits::Limits;

/// Longest path that the kernel takes, less its NUL.
pub(crate) const LONGEST: usize = 4095;

/// Takes a member's name apart. Absolute names are relative to the root; `.`, doubled and
/// trailing slashes disappear; `..` is refused: no honest writer needs it, and what it would mean
/// depends on links. The result is empty for the root itself.
pub(crate) fn components<'name>(
    name: &'name [u8],
    limits: &Limits,
) -> Result<Vec<&'name [u8]>, UnpackError> {
    if name.len() > limits.path_len {
        let limit = limits.path_len as u64;
        return Err(UnpackError::Limit { what: "bytes in a name", limit });
    }
    let parts = name.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let parts: Vec<&[u8]> = parts.collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(UnpackError::refused(name, "its name has a \"..\" component"));
    }
    if parts.len() > limits.path_depth {
        let limit = limits.path_depth as u64;
        return Err(UnpackError::Limit { what: "components in a name", limit });
    }
    Ok(parts)
}

/// `parent/name`, or `name` in the root.
pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// Parent and last component; of the root itself nothing.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None => Some((b"", path)),
    }
}

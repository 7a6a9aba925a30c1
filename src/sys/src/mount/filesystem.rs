//! New file systems: fsopen, fsconfig, fsmount.

use super::Attributes;
use crate::error::{Context, Error, Result};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A file system being configured.
#[derive(Debug)]
pub struct Filesystem {
    context: OwnedFd,
    kind: String,
}

impl Filesystem {
    /// Opens a file system by type: `proc`, `tmpfs`, `overlay`.
    pub fn open(kind: &str) -> Result<Self> {
        let context =
            rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).context("fsopen", || kind)?;
        Ok(Self { context, kind: kind.to_owned() })
    }

    /// An option without a value.
    pub fn flag(&self, key: &str) -> Result<&Self> {
        let result = rustix::mount::fsconfig_set_flag(&self.context, key);
        self.explain(result, || key.to_owned())?;
        Ok(self)
    }

    /// An option with a value.
    pub fn string(&self, key: &str, value: &[u8]) -> Result<&Self> {
        let result = rustix::mount::fsconfig_set_string(&self.context, key, value);
        self.explain(result, || format!("{key}={}", String::from_utf8_lossy(value)))?;
        Ok(self)
    }

    /// An option whose value is an open file.
    pub fn descriptor(&self, key: &str, value: BorrowedFd<'_>) -> Result<&Self> {
        let result = rustix::mount::fsconfig_set_fd(&self.context, key, value);
        self.explain(result, || format!("{key} by descriptor"))?;
        Ok(self)
    }

    /// The layers of an overlay, top first.
    pub(super) fn lowers<P: AsRef<Path>>(&self, lowers: &[P]) -> Result<()> {
        let mut lowers = lowers.iter().map(|path| path.as_ref().as_os_str().as_bytes());
        let Some(first) = lowers.next() else { return Ok(()) };
        match rustix::mount::fsconfig_set_string(&self.context, "lowerdir+", first) {
            Ok(()) => {
                for lower in lowers {
                    self.string("lowerdir+", lower)?;
                }
                Ok(())
            }
            // Before Linux 6.7 all layers are one string, in which ":" and "\" are escaped.
            Err(Errno::INVAL) => {
                let all: Vec<_> = std::iter::once(first).chain(lowers).map(escape).collect();
                self.string("lowerdir", &all.join(&b':')).map(drop)
            }
            result => {
                self.explain(result, || format!("lowerdir+={}", String::from_utf8_lossy(first)))
            }
        }
    }

    /// An option as mount(8) writes it: `key` or `key=value`.
    pub fn option(&self, option: &str) -> Result<&Self> {
        match option.split_once('=') {
            Some((key, value)) => self.string(key, value.as_bytes()),
            None => self.flag(option),
        }
    }

    /// Makes it, and a detached mount of it with `MOUNT_ATTR_*` bits.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        let result = rustix::mount::fsconfig_create(&self.context);
        self.explain(result, || "create".to_owned())?;
        let flags = MountAttrFlags::from_bits_retain(attributes as u32);
        rustix::mount::fsmount(self.context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)
            .context("fsmount", || self.kind.as_str())
    }

    /// Adds what the file system itself says about the failure.
    fn explain(&self, result: rustix::io::Result<()>, what: impl FnOnce() -> String) -> Result<()> {
        result.map_err(|errno| {
            let mut object = format!("{} {}", self.kind, what());
            let mut buffer = [0_u8; 512];
            if let Ok(length) = rustix::io::read(&self.context, &mut buffer) {
                let text =
                    String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
                // "e overlay: text": the level, then the message.
                object.push_str(&format!(
                    " ({})",
                    text.trim().trim_start_matches(['e', 'w', 'i']).trim()
                ));
            }
            Error::new("fsconfig", object, errno.raw_os_error())
        })
    }
}

/// An overlay of `lowers` (top first), with a writable layer when `upper` has the directories of
/// the layer and of its work space, and further `options` of overlayfs (`volatile`, `index=off`).
/// Returned detached: nothing is attached to any tree yet.
pub fn overlay<P: AsRef<Path>>(
    lowers: &[P],
    upper: Option<(&Path, &Path)>,
    options: &[&str],
    attributes: u64,
) -> Result<OwnedFd> {
    let overlay = Filesystem::open("overlay")?;
    overlay.lowers(lowers)?;
    if let Some((upper, work)) = upper {
        overlay.string("upperdir", upper.as_os_str().as_bytes())?;
        overlay.string("workdir", work.as_os_str().as_bytes())?;
    }
    for option in options {
        overlay.option(option)?;
    }
    overlay.mount(attributes)
}

fn escape(path: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(path.len());
    for &byte in path {
        if matches!(byte, b':' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}

/// The attribute bit of a mount(8) flag, and whether the flag clears it.
impl Attributes {
    /// Reads `ro`, `nosuid`, `rw`, `suid`, …; `None` when it is not an attribute.
    pub fn parse(option: &str) -> Option<Self> {
        let set = |bits| Some(Self { set: bits, clear: 0 });
        let clear = |bits| Some(Self { set: 0, clear: bits });
        match option {
            "ro" => set(Self::READ_ONLY),
            "rw" => clear(Self::READ_ONLY),
            "nosuid" => set(Self::NO_SUID),
            "suid" => clear(Self::NO_SUID),
            "nodev" => set(Self::NO_DEV),
            "dev" => clear(Self::NO_DEV),
            "noexec" => set(Self::NO_EXEC),
            "exec" => clear(Self::NO_EXEC),
            "noatime" => set(Self::NO_ATIME),
            "strictatime" => set(Self::STRICT_ATIME),
            "relatime" | "norelatime" | "nostrictatime" | "atime" => clear(Self::ATIME_MASK),
            "nodiratime" => set(Self::NO_DIR_ATIME),
            "diratime" => clear(Self::NO_DIR_ATIME),
            "nosymfollow" => set(Self::NO_SYMFOLLOW),
            "symfollow" => clear(Self::NO_SYMFOLLOW),
            _ => None,
        }
    }

    /// This, then `other`: the later word wins.
    #[must_use]
    pub fn then(self, other: Self) -> Self {
        Self {
            set: (self.set & !other.clear) | other.set,
            clear: (self.clear & !other.set) | other.clear,
        }
    }
}

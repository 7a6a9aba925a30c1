//! The users and groups that an image declares.

use crate::StoreError;
use crate::disk::io_error;
use crate::inner::Inner;
use orlop_model::Digest;
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

/// The readable part of an image's `/etc/passwd` and `/etc/group`. Lines that are not of the
/// format are skipped: the file belongs to the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserDatabase {
    /// Users, in the order of the file.
    pub passwd: Vec<PasswdEntry>,
    /// Groups, in the order of the file.
    pub group: Vec<GroupEntry>,
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswdEntry {
    /// Login name.
    pub name: String,
    /// User id, at most `u32::MAX - 1`.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory, as written.
    pub home: String,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEntry {
    /// Group name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Names of the users who are in it beside those whose primary group it is.
    pub members: Vec<String>,
}

/// Most bytes of a file that are read.
const LIMIT: u64 = 10 << 20;

impl Inner {
    pub(crate) fn user_database(&self, id: &Digest) -> Result<Arc<UserDatabase>, StoreError> {
        let lower = {
            let state = self.state();
            if let Some(known) = state.users.get(id) {
                return Ok(known.clone());
            }
            let known = state.images.get(id);
            let known = known.ok_or_else(|| StoreError::NotFound { image: id.to_string() })?;
            let snapshots: Vec<Digest> =
                known.record.layers.iter().map(|layer| layer.snapshot.clone()).collect();
            let (stack, _) = state.stack(&snapshots);
            stack.iter().map(|name| self.layout.layer(name)).collect()
        };
        let database =
            read(lower).map_err(io_error("read users and groups in", &self.layout.root))?;
        let database = Arc::new(database);
        let mut state = self.state();
        // Removed meanwhile: half of its files may have been gone already when they were read.
        if !state.images.contains_key(id) {
            return Err(StoreError::NotFound { image: id.to_string() });
        }
        state.users.insert(id.clone(), database.clone());
        Ok(database)
    }
}

fn read(lower: Vec<PathBuf>) -> io::Result<UserDatabase> {
    let root = match &lower[..] {
        [] => return Ok(UserDatabase::default()),
        // overlayfs without a writable layer wants two.
        [only] => orlop_sys::fs::open_dir(only)?,
        many => overlay(many)?,
    };
    UserDatabase::of_root(root.as_fd())
}

impl UserDatabase {
    /// Reads that of the root file system `root`. Blocking.
    pub fn of_root(root: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            passwd: parse_passwd(&read_file(root, "etc/passwd")?),
            group: parse_group(&read_file(root, "etc/group")?),
        })
    }
}

/// The layers as one tree that no path leads to.
fn overlay(lower: &[PathBuf]) -> io::Result<OwnedFd> {
    use rustix::mount::MountAttrFlags as Attr;
    let attributes = Attr::MOUNT_ATTR_RDONLY
        | Attr::MOUNT_ATTR_NODEV
        | Attr::MOUNT_ATTR_NOSUID
        | Attr::MOUNT_ATTR_NOEXEC;
    orlop_sys::mount::overlay(lower, None, &[], attributes.bits().into()).map_err(io::Error::other)
}

/// The text of a regular file in an image; empty where there is none.
fn read_file(root: BorrowedFd<'_>, path: &str) -> io::Result<String> {
    // Without opening it: that could do something where it is a device or a pipe.
    let found = match orlop_sys::fs::open_in_root(root, path, OFlags::PATH, Mode::empty()) {
        Ok(found) => found,
        Err(error) if is_of_the_image(&error) => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::RegularFile {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    File::from(reopen(&found)?).take(LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether there is no file because of what the image has there. Anything else (no descriptor left,
/// a disk that fails) must not pass for an image without users: that would be remembered.
fn is_of_the_image(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG)
    )
}

/// The same file, for reading.
fn reopen(found: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(format!("/proc/self/fd/{}", found.as_raw_fd()), flags, Mode::empty())?)
}

/// A decimal id that the kernel takes; `u32::MAX` means "none" to it.
fn id(text: &str) -> Option<u32> {
    let wide: u64 = text.parse().ok()?;
    u32::try_from(wide).ok().filter(|id| *id != u32::MAX)
}

fn parse_passwd(text: &str) -> Vec<PasswdEntry> {
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        (!name.is_empty()).then_some(PasswdEntry {
            name: name.to_owned(),
            uid: id(uid)?,
            gid: id(gid)?,
            home: home.to_owned(),
        })
    };
    text.lines().filter_map(entry).collect()
}

fn parse_group(text: &str) -> Vec<GroupEntry> {
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members, ..] = fields[..] else { return None };
        let members = members.split(',').map(str::trim).filter(|member| !member.is_empty());
        (!name.is_empty()).then_some(GroupEntry {
            name: name.to_owned(),
            gid: id(gid)?,
            members: members.map(str::to_owned).collect(),
        })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbad\n:x:1:1::/:\nbig:x:4294967295:0::/:\n\
                    huge:x:99999999999999999999:0::/:\nneg:x:-1:0::/:\nu:x:65534:5::/home/u:\n";
        let names: Vec<_> =
            parse_passwd(text).into_iter().map(|e| (e.name, e.uid, e.gid, e.home)).collect();
        assert_eq!(
            names,
            [
                ("root".into(), 0, 0, "/root".into()),
                ("u".to_string(), 65534, 5, "/home/u".to_string())
            ]
        );
        let groups = parse_group("a:x:1:\nb:x:2:u, v,\nc:x\nd:x:y:\n");
        let groups: Vec<_> = groups.into_iter().map(|e| (e.name, e.gid, e.members)).collect();
        assert_eq!(
            groups,
            [("a".into(), 1, vec![]), ("b".to_string(), 2, vec!["u".to_string(), "v".to_string()])]
        );
    }

    #[test]
    fn only_regular_files_in_the_root() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(temp.path().join("passwd"), "out:x:0:0::/:\n").unwrap();
        let fd = orlop_sys::fs::open_dir(&root).unwrap();
        std::os::unix::fs::symlink("../../passwd", root.join("etc/passwd")).unwrap();
        assert_eq!(read_file(fd.as_fd(), "etc/passwd").unwrap(), "");
        std::fs::write(root.join("passwd"), "in").unwrap();
        assert_eq!(read_file(fd.as_fd(), "etc/passwd").unwrap(), "in");
        rustix::fs::mknodat(&fd, "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert_eq!(read_file(fd.as_fd(), "fifo").unwrap(), "");
        std::fs::create_dir(root.join("dir")).unwrap();
        assert_eq!(read_file(fd.as_fd(), "dir").unwrap(), "");
        assert_eq!(read_file(fd.as_fd(), "passwd/x").unwrap(), "");
        std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
        assert_eq!(read_file(fd.as_fd(), "loop").unwrap(), "");
        for (error, absent) in [(os_error(2), true), (os_error(24), false), (os_error(5), false)] {
            assert_eq!(is_of_the_image(&error), absent, "{error}");
        }
    }

    fn os_error(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }
}

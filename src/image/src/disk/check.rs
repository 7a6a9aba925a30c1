//! Whether an unpacked layer is what was sealed: counted, or compared with one unpacked again.

use super::LayerMeta;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const BLOCK: usize = 128 << 10;

/// Inodes below a directory and the bytes of its regular files, hard links counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) inodes: u64,
    pub(crate) bytes: u64,
}

/// Counts an unpacked layer. What a power cut took shows in sizes and missing names.
pub(crate) fn count(tree: &Path) -> io::Result<Counts> {
    let (mut counts, mut linked) = (Counts::default(), HashSet::new());
    count_below(orlop_sys::fs::open_dir(tree)?.as_fd(), &mut counts, &mut linked)?;
    Ok(counts)
}

fn count_below(
    dir: BorrowedFd<'_>,
    counts: &mut Counts,
    linked: &mut HashSet<u64>,
) -> io::Result<()> {
    for name in names(dir)? {
        let stat = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_dir = kind == FileType::Directory;
        if is_dir || stat.st_nlink <= 1 || linked.insert(stat.st_ino) {
            counts.inodes += 1;
            counts.bytes += if kind == FileType::RegularFile { size(&stat) } else { 0 };
        }
        if is_dir {
            let child = openat(dir, &name, DIRECTORY, Mode::empty())?;
            count_below(child.as_fd(), counts, linked)?;
        }
    }
    Ok(())
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// What is wrong with a layer by its counts; `None` where they are as sealed. An error says nothing
/// about the layer: there may be no descriptors left.
pub(crate) fn miscounted(tree: &Path, meta: &LayerMeta) -> io::Result<Option<String>> {
    let Counts { inodes, bytes } = count(tree)?;
    let right = (inodes, bytes) == (meta.inodes, meta.bytes);
    Ok((!right).then(|| {
        format!(
            "it has {inodes} inodes and {bytes} bytes, but was sealed with {} and {}",
            meta.inodes, meta.bytes
        )
    }))
}

/// The first difference of two trees, as a path and what differs; content, owners, modes, times,
/// links, devices and extended attributes all count.
pub(crate) fn difference(ours: &Path, right: &Path) -> io::Result<Option<String>> {
    let (ours, right) = (orlop_sys::fs::open_dir(ours)?, orlop_sys::fs::open_dir(right)?);
    let mut compare = Compare { pairs: HashMap::new(), path: String::new() };
    if let Some(what) = compare.attributes(&ours, &right)? {
        return Ok(Some(format!("/: {what}")));
    }
    compare.directories(ours.as_fd(), right.as_fd())
}

struct Compare {
    /// Which inode of ours goes with which of the other's: hard links must link the same names.
    pairs: HashMap<u64, u64>,
    path: String,
}

impl Compare {
    fn directories(
        &mut self,
        ours: BorrowedFd<'_>,
        right: BorrowedFd<'_>,
    ) -> io::Result<Option<String>> {
        let (mine, theirs) = (names(ours)?, names(right)?);
        if mine != theirs {
            let (mine, theirs) =
                (mine.into_iter().collect::<HashSet<_>>(), theirs.into_iter().collect());
            let odd = mine.symmetric_difference(&theirs).min();
            let odd = odd.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            return Ok(Some(format!("{}/{odd}: missing or too much", self.path)));
        }
        for name in mine {
            let length = self.path.len();
            self.path.push('/');
            self.path.push_str(&name.to_string_lossy());
            if let Some(what) = self.entry(ours, right, &name)? {
                return Ok(Some(what));
            }
            self.path.truncate(length);
        }
        Ok(None)
    }

    fn entry(
        &mut self,
        ours: BorrowedFd<'_>,
        right: BorrowedFd<'_>,
        name: &CStr,
    ) -> io::Result<Option<String>> {
        let (a, b) = (
            statat(ours, name, AtFlags::SYMLINK_NOFOLLOW)?,
            statat(right, name, AtFlags::SYMLINK_NOFOLLOW)?,
        );
        let differs = |what: &str| Ok(Some(format!("{}: {what}", self.path)));
        let facts =
            |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_rdev, s.st_mtime, s.st_mtime_nsec);
        if facts(&a) != facts(&b) {
            return differs("type, mode, owner, device or time");
        }
        let kind = FileType::from_raw_mode(a.st_mode);
        if kind != FileType::Directory {
            if a.st_nlink != b.st_nlink
                || *self.pairs.entry(a.st_ino).or_insert(b.st_ino) != b.st_ino
            {
                return differs("hard links");
            }
            if kind == FileType::RegularFile && size(&a) != size(&b) {
                return differs("size");
            }
        }
        match kind {
            FileType::Directory => {
                let a = openat(ours, name, DIRECTORY, Mode::empty())?;
                let b = openat(right, name, DIRECTORY, Mode::empty())?;
                if let Some(what) = self.attributes(&a, &b)? {
                    return differs(&what);
                }
                self.directories(a.as_fd(), b.as_fd())
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let a = openat(ours, name, flags, Mode::empty())?;
                let b = openat(right, name, flags, Mode::empty())?;
                if let Some(what) = self.attributes(&a, &b)? {
                    return differs(&what);
                }
                if same_content(a, b)? { Ok(None) } else { differs("content") }
            }
            FileType::Symlink => {
                let a = readlinkat(ours, name, Vec::new())?;
                if a == readlinkat(right, name, Vec::new())? { Ok(None) } else { differs("target") }
            }
            // Opening a device or a pipe does something; what there is to compare was compared.
            _ => Ok(None),
        }
    }

    /// Mode and owner again for a root, and extended attributes.
    fn attributes(&self, ours: &OwnedFd, right: &OwnedFd) -> io::Result<Option<String>> {
        let (a, b) = (rustix::fs::fstat(ours)?, rustix::fs::fstat(right)?);
        if (a.st_mode, a.st_uid, a.st_gid) != (b.st_mode, b.st_uid, b.st_gid) {
            return Ok(Some("mode or owner".into()));
        }
        let attributes = |fd: &OwnedFd| {
            let all = orlop_sys::fs::xattrs(fd)?;
            Ok::<BTreeMap<_, _>, io::Error>(all.into_iter().collect())
        };
        let same = attributes(ours)? == attributes(right)?;
        Ok((!same).then(|| "extended attributes".into()))
    }
}

fn same_content(ours: OwnedFd, right: OwnedFd) -> io::Result<bool> {
    let (mut ours, mut right) = (File::from(ours), File::from(right));
    let (mut a, mut b) = (vec![0; BLOCK], vec![0; BLOCK]);
    loop {
        let read = ours.read(&mut a)?;
        if read == 0 {
            return Ok(right.read(&mut b)? == 0);
        }
        if right.read_exact(&mut b[..read]).is_err() || a[..read] != b[..read] {
            return Ok(false);
        }
    }
}

/// Names in a directory, sorted.
fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            found.push(name.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

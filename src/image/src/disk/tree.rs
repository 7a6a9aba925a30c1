//! Removing trees that a container or a layer made: of any depth, without following anything.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Directories held open at once. What lies deeper is moved up first, so that neither the stack
/// nor the table of descriptors grows with a depth that a container chose.
const DEEPEST: usize = 64;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes `path` and all beneath it; that it is absent is fine.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let parent = match orlop_sys::fs::open_dir(parent) {
        Ok(parent) => parent,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let name = CString::new(name.as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    match unlinkat(&parent, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let top = openat(&parent, &name, DIRECTORY, Mode::empty())?;
    let mut moved = 0;
    empty(top.as_fd(), top.as_fd(), 0, &mut moved)?;
    Ok(unlinkat(&parent, &name, AtFlags::REMOVEDIR)?)
}

/// Removes all entries of `dir`. Directories below [`DEEPEST`] are moved to `top` with a name of
/// their own, where the pass over `top` meets them again.
fn empty(
    dir: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    depth: usize,
    moved: &mut u64,
) -> io::Result<()> {
    loop {
        let mut again = false;
        for (name, kind) in entries(dir)? {
            if kind != FileType::Directory {
                match unlinkat(dir, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(Errno::ISDIR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if depth >= DEEPEST {
                renameat(dir, &name, top, fresh(top, moved)?)?;
                continue;
            }
            match unlinkat(dir, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let before = *moved;
            let child: OwnedFd = openat(dir, &name, DIRECTORY, Mode::empty())?;
            empty(child.as_fd(), top, depth + 1, moved)?;
            drop(child);
            unlinkat(dir, &name, AtFlags::REMOVEDIR)?;
            again |= *moved != before;
        }
        // Only `top` has received anything since its entries were listed.
        if depth > 0 || !again {
            return Ok(());
        }
    }
}

/// A name that `top` does not have.
fn fresh(top: BorrowedFd<'_>, moved: &mut u64) -> io::Result<CString> {
    loop {
        *moved += 1;
        let name = CString::new(format!(".deep-{moved}"))?;
        match rustix::fs::statat(top, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(name),
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
    }
}

/// The entries of a directory, as they are now.
fn entries(dir: BorrowedFd<'_>) -> io::Result<Vec<(CString, FileType)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if name.to_bytes() != b"." && name.to_bytes() != b".." {
            found.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;

    #[test]
    fn any_depth_and_no_following() {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), b"x").unwrap();
        let tree = temp.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        std::fs::create_dir(tree.join(".deep-1")).unwrap();
        let mut at = orlop_sys::fs::open_dir(&tree).unwrap();
        for _ in 0..3000 {
            mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
            mkdirat(&at, "e", Mode::from_raw_mode(0)).unwrap();
            at = openat(&at, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        drop(at);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("kept").exists());
        remove_tree(&tree).unwrap();
        remove_tree(&outside.join("kept")).unwrap();
        assert!(!outside.join("kept").exists());
    }
}

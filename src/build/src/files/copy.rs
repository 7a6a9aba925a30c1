//! Copying a source into a root: `COPY` and the local part of `ADD`.

use super::content::{Seen, file_attributes, names, reopen, seen};
use super::root::{Implicit, Place, Root, entry, is, own, set_mtime, set_owner_mode};
use super::select::{Selected, Tree, join, shown};
use super::{FileError, at};
use crate::chmod::Chmod;
use crate::ignore::IgnoreRules;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How entries are copied.
pub(crate) struct Copier<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) exclude: &'a IgnoreRules,
    /// Owner of everything, instead of the source's.
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) chmod: Option<&'a Chmod>,
    pub(crate) implicit: Implicit,
    pub(crate) root: &'a Root,
    /// Files with several names that were copied: device and inode to where they are now.
    pub(crate) linked: HashMap<(u64, u64), (OwnedFd, OsString)>,
}

/// A directory in both trees.
struct Pair<'a> {
    from: &'a OwnedFd,
    to: &'a OwnedFd,
    in_tree: &'a str,
    in_source: &'a str,
}

impl Copier<'_> {
    /// Copies one source to `destination`. With a slash at the end, or where a directory is already,
    /// a file goes into it; a directory's content always does.
    pub(crate) fn copy(&mut self, selected: &Selected, destination: &str) -> Result<(), FileError> {
        let into = destination.ends_with('/');
        let target = Path::new(destination);
        if let Some(kept) = &selected.kept {
            return self.copy_kept(selected, &target.join(kept));
        }
        if selected.is_dir() {
            return self.directory_to(selected, target);
        }
        if self.skips(selected) {
            return Ok(());
        }
        if into || self.root.is_dir(target) {
            // What has this name in the directory is replaced, also a link.
            let dir = self.root.make_dirs(target, &self.implicit)?;
            let place = Place { dir, name: selected.name().into() };
            return self.entry(&selected.fd, &selected.stat, &place, &selected.path);
        }
        self.file_to(selected, target)
    }

    fn skips(&self, selected: &Selected) -> bool {
        seen(&IgnoreRules::default(), self.exclude, "", selected.name(), false) == Seen::No
    }

    /// `--parents`: the source's own directories keep their attributes.
    fn copy_kept(&mut self, selected: &Selected, target: &Path) -> Result<(), FileError> {
        let above = Path::new(&selected.path).parent().map(|p| p.to_string_lossy().into_owned());
        let above = above.unwrap_or_default();
        let kept = selected.kept.as_deref().unwrap_or_default();
        let kept_parts = kept.split('/').filter(|part| !part.is_empty()).count();
        let path_parts: Vec<&str> = selected.path.split('/').filter(|p| !p.is_empty()).collect();
        if selected.is_dir() {
            self.directory_to(selected, target)?;
        } else if !self.skips(selected) {
            self.file_to(selected, target)?;
        }
        // From the deepest up, so that changes below do not change times again.
        let mut dir = target.parent().map(Path::to_owned);
        for depth in (path_parts.len().saturating_sub(kept_parts) + 1..path_parts.len()).rev() {
            let Some(path) = dir else { break };
            let source = path_parts[..depth].join("/");
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let from =
                orlop_sys::fs::open_in_root(self.tree.root.as_fd(), &source, flags, Mode::empty())
                    .map_err(at("open", &shown(&above)))?;
            let stat = rustix::fs::fstat(&from).map_err(at("look at", &shown(&source)))?;
            let to = self.root.make_dirs(&path, &self.implicit)?;
            self.attributes(&to, OsStr::new("."), &stat).map_err(at("change", &path))?;
            dir = path.parent().map(Path::to_owned);
        }
        Ok(())
    }

    fn directory_to(&mut self, selected: &Selected, target: &Path) -> Result<(), FileError> {
        let from = reopen(selected.fd.as_fd(), OFlags::DIRECTORY)
            .map_err(at("open", &shown(&selected.path)))?;
        let existed = match self.root.stat(target) {
            Some(stat) if is(&stat, FileType::Directory) => true,
            Some(_) => return Err(not_a_directory(target)),
            None => false,
        };
        let to = self.root.make_dirs(target, &self.implicit)?;
        let pair = Pair { from: &from, to: &to, in_tree: &selected.path, in_source: "" };
        self.entries(&pair)?;
        // A directory that is already there keeps what it is, and a new one is made as any other on
        // the way, but for its time. The time of the context's own root means nothing.
        if !existed && !selected.path.is_empty() {
            let stat = &selected.stat;
            let (seconds, nanoseconds) = (stat.st_mtime, stat.st_mtime_nsec as i64);
            set_mtime(&to, OsStr::new("."), seconds, nanoseconds).map_err(at("change", target))?;
        }
        Ok(())
    }

    fn file_to(&mut self, selected: &Selected, target: &Path) -> Result<(), FileError> {
        let place = self.root.place(target, &self.implicit)?;
        self.entry(&selected.fd, &selected.stat, &place, &selected.path)
    }

    fn entries(&mut self, pair: &Pair<'_>) -> Result<bool, FileError> {
        let mut any = false;
        for name in names(pair.from).map_err(at("read", &shown(pair.in_tree)))? {
            let text = name.to_string_lossy();
            let (in_tree, in_source) = (join(pair.in_tree, &text), join(pair.in_source, &text));
            let failed = |op| at::<Errno>(op, &shown(&in_tree));
            let stat = rustix::fs::statat(pair.from, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed("look at"))?;
            let directory = is(&stat, FileType::Directory);
            match seen(&self.tree.hidden, self.exclude, &in_tree, &in_source, directory) {
                Seen::No => continue,
                how if directory => {
                    let flags =
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let from = rustix::fs::openat(pair.from, &name, flags, Mode::empty())
                        .map_err(failed("open"))?;
                    let made =
                        self.below(&from, &stat, pair.to, &name, &in_tree, &in_source, how)?;
                    any |= made;
                }
                _ => {
                    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let from = rustix::fs::openat(pair.from, &name, flags, Mode::empty())
                        .map_err(failed("open"))?;
                    let dir = pair.to.try_clone().map_err(at("open", &shown(&in_tree)))?;
                    self.entry(&from, &stat, &Place { dir, name }, &in_tree)?;
                    any = true;
                }
            }
        }
        Ok(any)
    }

    #[expect(clippy::too_many_arguments, reason = "both sides of one directory")]
    fn below(
        &mut self,
        from: &OwnedFd,
        stat: &Stat,
        to: &OwnedFd,
        name: &OsStr,
        in_tree: &str,
        in_source: &str,
        how: Seen,
    ) -> Result<bool, FileError> {
        let failed = |op| at::<Errno>(op, &shown(in_tree));
        let found = entry(to, name).map_err(failed("look at"))?;
        let existed = match found {
            Some(found) if is(&found, FileType::Directory) => true,
            Some(_) => return Err(not_a_directory(&shown(in_tree))),
            None => false,
        };
        if !existed {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))
                .map_err(failed("make directory"))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(to, name, flags, Mode::empty()).map_err(failed("open"))?;
        let any = self.entries(&Pair { from, to: &inner, in_tree, in_source })?;
        if how == Seen::Through && !any {
            if !existed {
                rustix::fs::unlinkat(to, name, AtFlags::REMOVEDIR).map_err(failed("remove"))?;
            }
            return Ok(false);
        }
        self.attributes(to, name, stat).map_err(failed("change"))?;
        Ok(true)
    }

    /// Copies what is no directory.
    fn entry(
        &mut self,
        from: &OwnedFd,
        stat: &Stat,
        place: &Place,
        path: &str,
    ) -> Result<(), FileError> {
        let shown_path = shown(path);
        let failed = |op| at::<Errno>(op, &shown_path);
        let kind = FileType::from_raw_mode(stat.st_mode);
        // What nobody can connect to any more is no file of an image.
        if kind == FileType::Socket {
            return Ok(());
        }
        match entry(&place.dir, &place.name).map_err(failed("look at"))? {
            Some(found) if is(&found, FileType::Directory) => {
                return Err(FileError::refused(format!(
                    "cannot replace the directory {:?} with the file \"/{path}\"",
                    place.name
                )));
            }
            Some(_) => rustix::fs::unlinkat(&place.dir, &place.name, AtFlags::empty())
                .map_err(failed("replace"))?,
            None => {}
        }
        let several = stat.st_nlink > 1 && kind != FileType::Symlink;
        if several && let Some((dir, name)) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
            let linked = rustix::fs::linkat(dir, name, &place.dir, &place.name, AtFlags::empty());
            return linked.map_err(failed("link"));
        }
        match kind {
            FileType::RegularFile => {
                self.bytes(from, place).map_err(at("copy", &shown_path))?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, "", Vec::new())
                    .map_err(failed("read the link"))?;
                rustix::fs::symlinkat(&target, &place.dir, &place.name)
                    .map_err(failed("make the link"))?;
            }
            kind => {
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(&place.dir, &place.name, kind, mode, stat.st_rdev)
                    .map_err(failed("make the device"))?;
            }
        }
        self.attributes(&place.dir, &place.name, stat).map_err(failed("change"))?;
        if several {
            let dir = place.dir.try_clone().map_err(at("open", &shown_path))?;
            self.linked.insert((stat.st_dev, stat.st_ino), (dir, place.name.clone()));
        }
        Ok(())
    }

    fn bytes(&self, from: &OwnedFd, place: &Place) -> std::io::Result<()> {
        let mut source = std::fs::File::from(reopen(from.as_fd(), OFlags::empty())?);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&place.dir, &place.name, flags, Mode::from_raw_mode(0o600))?;
        let mut target = std::fs::File::from(fd);
        // Within the kernel where it can, shared extents where the file system has them.
        std::io::copy(&mut source, &mut target)?;
        for (name, value) in file_attributes(from)? {
            // Owner first: a new one would take file capabilities away.
            let (uid, gid) = self.owner.unwrap_or(if self.tree.owned {
                rustix::fs::fstat(from).map(|stat| (stat.st_uid, stat.st_gid))?
            } else {
                (0, 0)
            });
            own(&place.dir, &place.name, uid, gid)?;
            rustix::fs::fsetxattr(&target, name.as_slice(), &value, XattrFlags::empty())?;
        }
        Ok(())
    }

    fn attributes(&self, dir: &OwnedFd, name: &OsStr, stat: &Stat) -> Result<(), Errno> {
        let own_ids = if self.tree.owned { (stat.st_uid, stat.st_gid) } else { (0, 0) };
        let (uid, gid) = self.owner.unwrap_or(own_ids);
        let now = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let same = (now.st_uid, now.st_gid) == (uid, gid);
        if is(stat, FileType::Symlink) {
            if !same {
                own(dir, name, uid, gid)?;
            }
        } else {
            let mode = stat.st_mode & 0o7777;
            let directory = is(stat, FileType::Directory);
            let mode = self.chmod.map_or(mode, |chmod| chmod.apply(mode, directory));
            if same {
                let mode = Mode::from_raw_mode(mode);
                rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?;
            } else {
                set_owner_mode(dir, name, uid, gid, mode)?;
            }
        }
        set_mtime(dir, name, stat.st_mtime, stat.st_mtime_nsec as i64)
    }
}

fn not_a_directory(path: &Path) -> FileError {
    FileError::Refused {
        message: format!("cannot copy a directory to {}, which is no directory", path.display()),
        hint: Some("remove it before, or choose another destination".into()),
    }
}

/// Writes a text as a file: a heredoc, or what was fetched.
pub(crate) fn write_file(
    root: &Root,
    target: &Path,
    content: &mut dyn std::io::Read,
    implicit: &Implicit,
    (uid, gid, mode, mtime): (u32, u32, u32, i64),
) -> Result<(), FileError> {
    let place = root.place(target, implicit)?;
    match entry(&place.dir, &place.name).map_err(at("look at", target))? {
        Some(found) if is(&found, FileType::Directory) => {
            let shown: PathBuf = target.to_owned();
            return Err(FileError::refused(format!("{} is a directory", shown.display())));
        }
        Some(_) => rustix::fs::unlinkat(&place.dir, &place.name, AtFlags::empty())
            .map_err(at("replace", target))?,
        None => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir: BorrowedFd<'_> = place.dir.as_fd();
    let fd = rustix::fs::openat(dir, &place.name, flags, Mode::from_raw_mode(0o600))
        .map_err(at("make", target))?;
    std::io::copy(content, &mut std::fs::File::from(fd)).map_err(at("write", target))?;
    set_owner_mode(dir, &place.name, uid, gid, mode).map_err(at("change", target))?;
    set_mtime(dir, &place.name, mtime, 0).map_err(at("change", target))
}

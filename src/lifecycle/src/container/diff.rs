//! A writable layer as a tar archive.
//!
//! The container may change the tree meanwhile: nothing is opened by a path that leaves it, and no
//! link is followed. Sockets are left out: they mean nothing elsewhere.

use orlop_sys::fs::{open_beneath, open_dir, xattrs};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, readlinkat, statat};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Packs what lies below `top` into `out`.
pub(super) fn pack(top: &Path, out: &Path) -> io::Result<()> {
    let top = open_dir(top)?;
    let mut archive = Builder::new(File::create(out)?);
    // Directories that are still to be listed, below `top`.
    let mut pending = vec![PathBuf::from(".")];
    while let Some(path) = pending.pop() {
        let Some(dir) = opened(&top, &path, OFlags::DIRECTORY)? else { continue };
        let stat = fstat(&dir)?;
        add(&mut archive, &path, &stat, EntryType::Directory, Some(&dir), io::empty())?;
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let below = path.join(name);
            let Ok(stat) = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => pending.push(below),
                FileType::RegularFile => add_file(&mut archive, &top, &below)?,
                FileType::Symlink => {
                    let Ok(target) = readlinkat(&dir, name, Vec::new()) else { continue };
                    let target = OsStr::from_bytes(target.to_bytes());
                    let mut header = header(&stat, EntryType::Symlink);
                    archive.append_link(&mut header, &below, target)?;
                }
                FileType::CharacterDevice => {
                    add(&mut archive, &below, &stat, EntryType::Char, None, io::empty())?;
                }
                FileType::BlockDevice => {
                    add(&mut archive, &below, &stat, EntryType::Block, None, io::empty())?;
                }
                FileType::Fifo => {
                    add(&mut archive, &below, &stat, EntryType::Fifo, None, io::empty())?;
                }
                _ => {}
            }
        }
    }
    archive.into_inner()?.sync_all()
}

/// Opens below `top`; `None`: it has gone, or is something else by now.
fn opened(top: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<Option<OwnedFd>> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open_beneath(top.as_fd(), path, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) => match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(
                rustix::io::Errno::NOENT
                | rustix::io::Errno::LOOP
                | rustix::io::Errno::NOTDIR
                | rustix::io::Errno::NXIO,
            ) => Ok(None),
            _ => Err(error),
        },
    }
}

fn add_file(archive: &mut Builder<File>, top: &OwnedFd, path: &Path) -> io::Result<()> {
    let Some(fd) = opened(top, path, OFlags::empty())? else { return Ok(()) };
    let stat = fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    let file = File::from(fd.try_clone()?);
    // Of a file that shrinks meanwhile the rest is zeros, as the header has promised its size.
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let content = io::Read::take(io::Read::chain(file, io::repeat(0)), size);
    add(archive, path, &stat, EntryType::Regular, Some(&fd), content)
}

fn add(
    archive: &mut Builder<File>,
    path: &Path,
    stat: &Stat,
    kind: EntryType,
    fd: Option<&OwnedFd>,
    content: impl io::Read,
) -> io::Result<()> {
    let attributes = fd.map(xattrs).transpose().unwrap_or_default().unwrap_or_default();
    let names: Vec<(String, Vec<u8>)> = attributes
        .into_iter()
        .filter_map(|(name, value)| Some((String::from_utf8(name).ok()?, value)))
        .map(|(name, value)| (format!("SCHILY.xattr.{name}"), value))
        .collect();
    if !names.is_empty() {
        archive.append_pax_extensions(
            names.iter().map(|(name, value)| (name.as_str(), value.as_slice())),
        )?;
    }
    archive.append_data(&mut header(stat, kind), path, content)
}

fn header(stat: &Stat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    let size = if kind == EntryType::Regular { stat.st_size } else { 0 };
    header.set_size(u64::try_from(size).unwrap_or(0));
    if matches!(kind, EntryType::Char | EntryType::Block) {
        // Only a form without these fields refuses them.
        let _ = header.set_device_major(rustix::fs::major(stat.st_rdev));
        let _ = header.set_device_minor(rustix::fs::minor(stat.st_rdev));
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gnu_tar_reads_it() {
        let temp = tempfile::tempdir().unwrap();
        let (top, out) = (temp.path().join("upper"), temp.path().join("diff.tar"));
        std::fs::create_dir_all(top.join("etc/deep")).unwrap();
        std::fs::write(top.join("etc/deep/file"), "content").unwrap();
        std::os::unix::fs::symlink("../etc", top.join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        // A whiteout.
        rustix::fs::mknodat(rustix::fs::CWD, top.join("gone"), FileType::CharacterDevice, mode, 0)
            .unwrap();
        pack(&top, &out).unwrap();
        #[allow(clippy::disallowed_methods, reason = "a program of others")]
        let output = std::process::Command::new("tar").arg("-tvf").arg(&out).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut kinds: Vec<(char, &str)> = text
            .lines()
            .map(|line| (line.chars().next().unwrap(), line.rsplit(' ').next().unwrap()))
            .collect();
        kinds.sort_by_key(|(_, name)| *name);
        let expected = [
            ('d', "."),
            ('l', "../etc"),
            ('d', "etc"),
            ('d', "etc/deep"),
            ('-', "etc/deep/file"),
            ('c', "gone"),
        ];
        assert_eq!(kinds, expected, "{text}");
    }
}

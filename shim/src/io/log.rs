//! A container's log file.

use super::format::{Formatter, Stream, rfc3339};
use crate::error::Refusal;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The longest text of one record, as kubelet and containerd have it.
pub(crate) const DEFAULT_LINE: usize = 16 * 1024;
/// "No limit" still has one: a line is held in memory until it ends.
const LONGEST_LINE: usize = 1 << 20;

/// Writes both streams of a process to one file in CRI's format. A full disk costs records, which
/// are counted, but never stops the container.
#[derive(Debug)]
pub(crate) struct CriLog {
    path: PathBuf,
    file: Option<OwnedFd>,
    stdout: Formatter,
    stderr: Formatter,
    batch: Vec<u8>,
    /// Bytes of records that could not be written.
    pub(crate) dropped: u64,
}

impl CriLog {
    /// The path that it was opened at.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the log at `path`. `max_line` is as in `CreateOptions.max_log_line`.
    pub(crate) fn open(path: &Path, max_line: i64) -> Result<Self, Refusal> {
        let max = match max_line {
            0 => DEFAULT_LINE,
            limit => usize::try_from(limit).unwrap_or(LONGEST_LINE).min(LONGEST_LINE),
        };
        Ok(Self {
            path: path.to_owned(),
            file: Some(open_file(path)?),
            stdout: Formatter::new(Stream::Stdout, max),
            stderr: Formatter::new(Stream::Stderr, max),
            batch: Vec::new(),
            dropped: 0,
        })
    }

    /// Writes what the process wrote.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let time = rfc3339(SystemTime::now());
        let mut rest = bytes;
        while !rest.is_empty() {
            let formatter = match stream {
                Stream::Stdout => &mut self.stdout,
                Stream::Stderr => &mut self.stderr,
            };
            let taken = formatter.feed(rest, &time, &mut self.batch);
            rest = rest.get(taken..).unwrap_or_default();
            self.flush();
        }
    }

    /// The process has ended: writes lines that have no end.
    pub(crate) fn finish(&mut self) {
        let time = rfc3339(SystemTime::now());
        self.stdout.finish(&time, &mut self.batch);
        self.stderr.finish(&time, &mut self.batch);
        self.flush();
        self.batch = Vec::new();
    }

    /// Opens the file at the same path anew; everything from now on goes there.
    pub(crate) fn reopen(&mut self) -> Result<(), Refusal> {
        self.file = Some(open_file(&self.path)?);
        Ok(())
    }

    /// One write per batch. What does not fit is cut away at a record's end.
    fn flush(&mut self) {
        let mut rest = self.batch.as_slice();
        while let Some(file) = &self.file {
            if rest.is_empty() {
                break;
            }
            match rustix::io::write(file, rest) {
                Ok(0) => break,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        if !rest.is_empty() {
            let written = self.batch.len() - rest.len();
            let torn = match memchr::memrchr(b'\n', self.batch.get(..written).unwrap_or_default()) {
                Some(end) => written - end - 1,
                None => written,
            };
            self.dropped += (rest.len() + torn) as u64;
            if let Some(file) = &self.file {
                cut(file, torn as u64);
            }
        }
        self.batch.clear();
        self.batch.shrink_to(16 * 1024);
    }
}

/// Takes the last `torn` bytes of the file back: the begin of a record whose end found no room.
fn cut(file: impl AsFd, torn: u64) {
    if torn == 0 {
        return;
    }
    if let Ok(stat) = rustix::fs::fstat(&file) {
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        // If this fails too, one torn record stays in the log: there is nothing better to do.
        let _ = rustix::fs::ftruncate(&file, length.saturating_sub(torn));
    }
}

/// Opens or creates the file: regular, not reached through a link at its end, 0640 as kubelet's
/// own and containerd's logs are.
fn open_file(path: &Path) -> Result<OwnedFd, Refusal> {
    let name = || format!("log file {}", path.display());
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let file = rustix::fs::openat2(rustix::fs::CWD, path, flags, mode, ResolveFlags::NO_MAGICLINKS)
        .map_err(|errno| {
            let reason = match errno {
                Errno::LOOP => "it is a symbolic link: remove it".to_owned(),
                Errno::NXIO => "it is not a regular file: remove it".to_owned(),
                other => orlop_sys::error::reason(other.raw_os_error()),
            };
            Refusal::precondition(format!("{}: {reason}", name()))
        })?;
    let stat = rustix::fs::fstat(&file)
        .map_err(|errno| Refusal::internal(format!("{}: {errno}", name())))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refusal::precondition(format!(
            "{}: it is not a regular file: remove it",
            name()
        )));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &Path) -> Vec<String> {
        let log = std::fs::read_to_string(path).unwrap();
        log.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn writes_reopens_and_finishes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = CriLog::open(&path, 0).unwrap();
        log.write(Stream::Stdout, b"one\ntw");
        log.write(Stream::Stderr, b"err\n");
        let old = dir.path().join("0.log.1");
        std::fs::rename(&path, &old).unwrap();
        log.reopen().unwrap();
        log.write(Stream::Stdout, b"o\nlast");
        log.finish();
        assert_eq!(texts(&old), ["stdout F one", "stderr F err"]);
        assert_eq!(texts(&path), ["stdout F two", "stdout P last"]);
        assert_eq!(log.dropped, 0);
    }

    #[test]
    fn refuses_what_is_not_a_plain_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("target"), "").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("target"), &link).unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        for path in [
            link.as_path(),
            fifo.as_path(),
            dir.path(),
            Path::new("/dev/null"),
            &dir.path().join("a/b"),
        ] {
            let refusal = CriLog::open(path, 0).unwrap_err();
            assert!(refusal.message.contains(&path.display().to_string()), "{refusal}");
        }
    }

    #[test]
    fn many_short_lines_need_little_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = CriLog::open(&path, 0).unwrap();
        log.write(Stream::Stdout, &[b'\n'; 32 * 1024]);
        assert!(log.batch.capacity() <= 128 * 1024);
        assert_eq!(texts(&path).len(), 32 * 1024);
    }
}

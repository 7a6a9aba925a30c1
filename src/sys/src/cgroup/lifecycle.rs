//! Freezing, killing and removing a group.

use super::{Cgroup, files};
use crate::error::{Context, Error, Result};
use crate::process::Pidfd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long [`Cgroup::delete`] waits for processes that are ending.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a signal goes to what appeared since the last look, without cgroup.kill.
const ROUNDS: u32 = 100;

impl Cgroup {
    /// Whether it is still there: systemd removes a scope with its last process.
    pub fn exists(&self) -> bool {
        let legacy = self.legacy.iter().map(|legacy| legacy.mount.as_path());
        self.unified_dir().into_iter().chain(legacy).all(Path::exists)
    }

    /// Processes in it and below, in our numbers.
    pub fn procs(&self) -> Result<Vec<i32>> {
        let first = self.legacy.first().map(|legacy| legacy.mount.as_path());
        procs_of(self.unified_dir().into_iter().chain(first))
    }

    /// Kills everything in it and below. Returns when every process has got its SIGKILL.
    pub fn kill_all(&self) -> Result<()> {
        if let Some(directory) = self.unified_dir() {
            match files::write(directory, "cgroup.kill", "1") {
                // Before Linux 5.14 it has to be done one by one.
                Err(error) if error.errno == libc::ENOENT && directory.exists() => {}
                Err(error) if matches!(error.errno, libc::ENOENT | libc::ENODEV) => return Ok(()),
                other => return other,
            }
        }
        // Frozen processes cannot fork, so one look finds all; they die when thawed.
        let frozen = self.freeze().is_ok();
        let result = self.signal_all();
        if frozen {
            self.thaw()?;
        }
        result
    }

    fn signal_all(&self) -> Result<()> {
        let mut known: Vec<i32> = Vec::new();
        for _ in 0..ROUNDS {
            let fresh: Vec<i32> =
                self.procs()?.into_iter().filter(|pid| !known.contains(pid)).collect();
            if fresh.is_empty() {
                return Ok(());
            }
            let open: Vec<(i32, Pidfd)> =
                fresh.iter().filter_map(|pid| Some((*pid, Pidfd::open(*pid).ok()?))).collect();
            // A number that is still listed now was so while its descriptor was opened: no process
            // elsewhere that got the number meanwhile is killed.
            let listed = self.procs()?;
            for (_, pidfd) in open.iter().filter(|(pid, _)| listed.contains(pid)) {
                match pidfd.send_signal(libc::SIGKILL) {
                    Err(error) if error.errno != libc::ESRCH => return Err(error),
                    _ => {}
                }
            }
            known.extend(fresh);
        }
        Err(Error::new(
            "kill",
            format!("cgroup {}: processes keep appearing", self.path.display()),
            libc::EAGAIN,
        ))
    }

    /// Freezes it; returns when all processes have stopped. When that fails it is thawed again: half
    /// frozen, on v1, not even SIGKILL would end what has stopped.
    pub fn freeze(&self) -> Result<()> {
        let frozen = self.try_freeze();
        if frozen.is_err() {
            // Where it could not be frozen for want of a freezer, it cannot be thawed either.
            let _ = self.thaw();
        }
        frozen
    }

    fn try_freeze(&self) -> Result<()> {
        if let Some(directory) = self.unified_dir() {
            files::write(directory, "cgroup.freeze", "1")?;
            return await_event(directory, "frozen 1", PATIENCE).map(drop);
        }
        let dir = self.legacy("freezer").ok_or_else(|| files::no_controller("freezer"))?;
        for _ in 0..ROUNDS {
            // Each write also catches what forked during the last.
            files::write(dir, "freezer.state", "FROZEN")?;
            if files::read(dir, "freezer.state")?.trim() == "FROZEN" {
                return Ok(());
            }
            rustix::thread::sched_yield();
        }
        Err(Error::new("freeze", self.path.display().to_string(), libc::ETIMEDOUT))
    }

    /// Thaws it.
    pub fn thaw(&self) -> Result<()> {
        match (self.unified_dir(), self.legacy("freezer")) {
            (Some(directory), _) => files::write(directory, "cgroup.freeze", "0"),
            (None, Some(dir)) => files::write(dir, "freezer.state", "THAWED"),
            (None, None) => Err(files::no_controller("freezer")),
        }
    }

    /// Removes it and what is below. Processes that are ending are waited for, bounded; one that
    /// lives is an error. Nothing there is success.
    pub fn delete(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        // Where the kernel tells us, one wait serves all hierarchies.
        if let Some(directory) = self.unified_dir() {
            await_event(directory, "populated 0", PATIENCE)?;
        }
        let all = self.legacy.iter().map(|legacy| legacy.mount.as_path()).chain(self.unified_dir());
        for directory in all {
            remove_tree(directory, deadline)?;
        }
        self.unit.as_ref().map_or(Ok(()), super::unit::Unit::forget)
    }
}

/// Processes in these groups and below.
pub(super) fn procs_of<'a>(groups: impl Iterator<Item = &'a Path>) -> Result<Vec<i32>> {
    let mut procs = Vec::new();
    for level in groups.flat_map(tree) {
        let text = match files::read(&level, "cgroup.procs") {
            Ok(text) => text,
            // It went away between the listing and the reading.
            Err(error) if matches!(error.errno, libc::ENOENT | libc::ENODEV) => continue,
            Err(error) => return Err(error),
        };
        procs.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    procs.sort_unstable();
    procs.dedup();
    Ok(procs)
}

/// Waits until `cgroup.events` holds a line; the kernel wakes us at each change. A group that is gone
/// has all events behind it.
fn await_event(directory: &Path, line: &str, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    let path = directory.join("cgroup.events");
    let name = || path.display().to_string();
    let file = match rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(false),
        Err(errno) => return Err(errno).context("open", name),
    };
    loop {
        let mut buffer = [0_u8; 256];
        let length = match rustix::io::pread(&file, &mut buffer, 0) {
            Ok(length) => length,
            Err(Errno::NODEV | Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(errno).context("read", name),
        };
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        if text.lines().any(|have| have == line) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(
                "wait",
                format!("{} for \"{line}\"", path.display()),
                libc::ETIMEDOUT,
            ));
        }
        wait(file.as_fd(), PollFlags::PRI, left)?;
    }
}

fn wait(fd: std::os::fd::BorrowedFd<'_>, flags: PollFlags, left: Duration) -> Result<()> {
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno).context("poll", || "cgroup"),
    }
}

/// It and all groups below, the deepest last.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(level) = found.get(next).cloned() {
        let entries = std::fs::read_dir(&level).into_iter().flatten().flatten();
        found.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
        next += 1;
    }
    found
}

fn remove_tree(directory: &Path, deadline: Instant) -> Result<()> {
    for level in tree(directory).iter().rev() {
        remove(level, deadline)?;
    }
    Ok(())
}

fn remove(directory: &Path, deadline: Instant) -> Result<()> {
    loop {
        match rustix::fs::rmdir(directory) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(errno).context("rmdir", || directory.display().to_string()),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(
                "rmdir",
                format!("{}: processes are still in it", directory.display()),
                libc::EBUSY,
            ));
        }
        // The end of a process that is in it is the event to wait for.
        let procs = files::read(directory, "cgroup.procs").unwrap_or_default();
        match procs.lines().find_map(|line| Pidfd::open(line.parse().ok()?).ok()) {
            Some(process) => wait(process.as_fd(), PollFlags::IN, left)?,
            None => rustix::thread::sched_yield(),
        }
    }
}

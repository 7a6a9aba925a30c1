//! Control groups: v1, hybrid and v2, by the files themselves (docs/decisions/0001-cgroups.md).

use crate::error::Result;
use oci_spec::runtime::LinuxResources;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How the host mounts its control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Controllers on v1 only.
    V1,
    /// Controllers on v1, and a unified hierarchy (with none) beside them.
    Hybrid,
    /// The unified hierarchy holds the controllers.
    V2,
}

/// What the host has, read once from `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    /// The layout.
    pub layout: Layout,
}

impl Hierarchies {
    /// Reads the host's mounts.
    pub fn detect() -> Result<Self> {
        todo!()
    }
}

/// One control group in every hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

/// A descriptor that becomes readable (poll: POLLIN or POLLPRI) when the kernel may have killed for memory.
#[derive(Debug)]
pub struct OomNotifier(OwnedFd);

/// Numbers for stats; what the host does not count is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time used, nanoseconds.
    pub cpu_ns: u64,
    /// CPU time in user mode, nanoseconds.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel, nanoseconds.
    pub cpu_system_ns: u64,
    /// Periods, and those in which it was throttled, and for how long (nanoseconds).
    pub throttling: (u64, u64, u64),
    /// Memory charged, bytes.
    pub memory_usage: u64,
    /// Memory limit, bytes; `u64::MAX` is none.
    pub memory_limit: u64,
    /// Inactive file pages, bytes: usage minus this is the working set.
    pub memory_inactive_file: u64,
    /// Anonymous memory, bytes.
    pub memory_rss: u64,
    /// Swap used, bytes.
    pub swap_usage: u64,
    /// Minor-and-major, and major page faults.
    pub page_faults: (u64, u64),
    /// Processes and threads.
    pub pids: u64,
    /// Their limit; `u64::MAX` is none.
    pub pids_limit: u64,
}

impl Cgroup {
    /// Creates the group at `path` (`/a/b/c` below the hierarchy's root, or the systemd driver's
    /// `slice:prefix:name`, which is only mapped to its path today: units over D-Bus come later)
    /// and sets its limits. Whatever was made is removed when it fails.
    pub fn create(_hierarchies: &Hierarchies, _path: &str, _resources: Option<&LinuxResources>) -> Result<Self> {
        todo!()
    }

    /// The group at `path`, which exists.
    pub fn open(_hierarchies: &Hierarchies, _path: &str) -> Result<Self> {
        todo!()
    }

    /// Its path below the root of each hierarchy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes limits; what `resources` does not name stays.
    pub fn update(&self, _resources: &LinuxResources) -> Result<()> {
        todo!()
    }

    /// The unified directory for CLONE_INTO_CGROUP, where there is one.
    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The v1 `tasks` files, open for a process that joins itself.
    pub fn tasks_files(&self) -> Result<Vec<OwnedFd>> {
        todo!()
    }

    /// What a container may see of it: directory under `/sys/fs/cgroup` (empty: itself), further
    /// names of that directory, and the group's directory on the host.
    pub fn views(&self) -> Vec<(String, Vec<String>, PathBuf)> {
        todo!()
    }

    /// Processes in it and below.
    pub fn procs(&self) -> Result<Vec<i32>> {
        todo!()
    }

    /// Kills everything in it and below.
    pub fn kill_all(&self) -> Result<()> {
        todo!()
    }

    /// Freezes it.
    pub fn freeze(&self) -> Result<()> {
        todo!()
    }

    /// Thaws it.
    pub fn thaw(&self) -> Result<()> {
        todo!()
    }

    /// Removes it and what is below; processes that are still ending are waited for, bounded.
    pub fn delete(&self) -> Result<()> {
        todo!()
    }

    /// How often the kernel killed for memory here since it exists.
    pub fn oom_kills(&self) -> Result<u64> {
        todo!()
    }

    /// Opens the notification of memory kills.
    pub fn oom_notifier(&self) -> Result<OomNotifier> {
        todo!()
    }

    /// Reads the counters.
    pub fn usage(&self) -> Result<Usage> {
        todo!()
    }
}

impl OomNotifier {
    /// The descriptor to poll for POLLIN (v1) or POLLPRI (v2): ask for both.
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.0.as_fd()
    }

    /// Takes the event; then ask [`Cgroup::oom_kills`].
    pub fn consume(&self) {}
}


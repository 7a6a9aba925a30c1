//! What this host is and can do, read once when the daemon starts, and small questions about it.

use crate::apparmor;
use crate::error::{below, io};
use crate::selinux::Policy;
use crate::{ErrorKind, Result};
use oci_spec::runtime::LinuxResources;
use orlop_spec::{CgroupLayout, HostFeatures, KNOWN_CAPABILITIES};
use orlop_sys::cgroup::{Cgroup, Hierarchies, Layout};
use std::path::Path;

/// The host.
#[derive(Debug)]
pub(crate) struct Host {
    /// Changes with each boot.
    pub(crate) boot_id: String,
    /// What the kernel offers to containers.
    pub(crate) features: HostFeatures,
    /// The SELinux policy that is in force.
    pub(crate) selinux: Option<Policy>,
    /// The AppArmor profile that RuntimeDefault stands for, where it could be loaded.
    pub(crate) apparmor_default: Option<&'static str>,
    hierarchies: Hierarchies,
}

/// What the kernel of this host offers to containers.
pub fn host_features() -> Result<HostFeatures> {
    Host::detect().map(|host| host.features)
}

impl Host {
    pub(crate) fn detect() -> Result<Self> {
        let fail = |error| below("detecting the features", "this host", ErrorKind::Internal, error);
        let hierarchies = Hierarchies::detect().map_err(fail)?;
        let boot_id = orlop_sys::process::boot_id().map_err(fail)?;
        let cgroup = match hierarchies.layout {
            Layout::V1 => CgroupLayout::V1,
            Layout::Hybrid => CgroupLayout::Hybrid,
            Layout::V2 => CgroupLayout::V2,
        };
        let features = HostFeatures {
            cgroup,
            swap: swap_is_counted(cgroup),
            hugetlb: has_controller("hugetlb"),
            apparmor: apparmor::enabled(),
            recursive_read_only: kernel_is_at_least(5, 12),
            idmapped_mounts: kernel_is_at_least(5, 12),
            capabilities: own_capabilities(),
            min_oom_score_adj: min_oom_score_adj(),
        };
        let apparmor_default = features.apparmor.then(load_apparmor).flatten();
        let selinux = Policy::detect();
        Ok(Self { boot_id, features, apparmor_default, selinux, hierarchies })
    }

    /// The hierarchies of control groups.
    pub(crate) fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    /// Makes a cgroup without limits.
    pub(crate) fn make_cgroup(&self, path: &str) -> Result<()> {
        Cgroup::create(&self.hierarchies, path, None)
            .map(drop)
            .map_err(|error| below("making the cgroup", path, ErrorKind::Internal, error))
    }

    /// Sets limits of a cgroup that exists.
    pub(crate) fn limit_cgroup(&self, path: &str, limits: &LinuxResources) -> Result<()> {
        let fail = |error| below("changing the limits", path, ErrorKind::Internal, error);
        Cgroup::open(&self.hierarchies, path).and_then(|group| group.update(limits)).map_err(fail)
    }

    /// The pod's cgroup and those above it, as far as the client has not made them.
    pub(crate) fn missing_cgroups(&self, path: &str) -> Vec<String> {
        self.hierarchies.missing(path)
    }

    /// Gives back cgroups that were made for a pod, unless another pod uses them.
    pub(crate) fn prune_cgroups(&self, made: &[String]) {
        self.hierarchies.prune(made);
    }

    /// Removes a cgroup with all that is in it and below; one that is not there is fine.
    pub(crate) fn end_cgroup(&self, path: &str) -> Result<()> {
        let Ok(cgroup) = Cgroup::open(&self.hierarchies, path) else {
            // The directory has gone; systemd may still know the unit.
            self.hierarchies.prune(&[path.to_owned()]);
            return Ok(());
        };
        let fail = |error| below("removing the cgroup", path, ErrorKind::Internal, error);
        cgroup.kill_all().map_err(fail)?;
        cgroup.delete().map_err(fail)?;
        self.hierarchies.prune_others(path);
        Ok(())
    }
}

/// The host's own name.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether `pid` is still the process that started at `start` (0: not known, so never).
pub(crate) fn same_process(pid: i32, start: u64) -> bool {
    pid > 0 && start != 0 && orlop_sys::process::start_time(pid).is_ok_and(|now| now == start)
}

/// Kills a process that is known for sure.
pub(crate) fn kill_process(pid: i32, start: u64) {
    // The descriptor is opened before the identity is checked: what it names cannot change after.
    let Ok(process) = orlop_sys::process::Pidfd::open(pid) else { return };
    if same_process(pid, start) {
        // It has ended meanwhile, or there is nothing else to be done about it.
        let _ = process.send_signal(9);
    }
}

fn load_apparmor() -> Option<&'static str> {
    if let Err(error) = apparmor::load_default() {
        tracing::warn!(
            "AppArmor profile {} not loaded: {error}; containers that name no profile run without, RuntimeDefault is refused",
            apparmor::DEFAULT_PROFILE
        );
    }
    apparmor::default_is_loaded().then_some(apparmor::DEFAULT_PROFILE)
}

fn has_controller(name: &str) -> bool {
    let enabled = |line: &str| {
        let mut fields = line.split_whitespace();
        fields.next() == Some(name) && fields.nth(2) == Some("1")
    };
    std::fs::read_to_string("/proc/cgroups").is_ok_and(|text| text.lines().any(enabled))
}

fn swap_is_counted(layout: CgroupLayout) -> bool {
    match layout {
        CgroupLayout::V1 | CgroupLayout::Hybrid => {
            Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
        }
        // The root has no limits, so any child tells.
        CgroupLayout::V2 => std::fs::read_dir("/sys/fs/cgroup").is_ok_and(|mut entries| {
            entries.any(|e| e.is_ok_and(|e| e.path().join("memory.swap.max").exists()))
        }),
    }
}

fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= (major, minor)
}

/// Our effective capabilities as bits.
fn effective_capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(effective.trim(), 16).ok()
}

/// The names of the capabilities that we can hand on.
fn own_capabilities() -> Vec<String> {
    let bits = effective_capabilities().unwrap_or(u64::MAX);
    let numbered = KNOWN_CAPABILITIES.iter().enumerate();
    numbered
        .filter(|(number, _)| bits >> number & 1 == 1)
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

/// Without `CAP_SYS_RESOURCE` nobody may lower a score, so our own is the floor.
fn min_oom_score_adj() -> Option<i32> {
    const CAP_SYS_RESOURCE: u64 = 24;
    if effective_capabilities()? >> CAP_SYS_RESOURCE & 1 == 1 {
        return None;
    }
    std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()
}

/// Removes a directory with what is in it; that it is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io("removing directory", path)(error))
        }
        _ => Ok(()),
    }
}

//! Privileges, kernel, control groups, security modules, limits.

use super::report::Finding;
use crate::config::{CgroupDriver, Config};
use crate::host;
use orlop_sys::cgroup::{Hierarchies, Layout};
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Root, and the capabilities that the daemon uses.
pub(super) fn privileges() -> Vec<Finding> {
    let mut findings = Vec::new();
    if rustix::process::geteuid().is_root() {
        findings.push(Finding::fine("user", "root"));
    } else {
        let finding = Finding::essential("user", "not root").costs("orlop serve does not start");
        findings.push(finding.remedy("run orlop as root, this check too"));
    }
    let missing = host::missing(&read("/proc/self/status"));
    if missing.is_empty() {
        findings.push(Finding::fine("capabilities", "all that are used"));
    }
    for (capability, cost) in missing {
        let lack = match capability {
            "CAP_SYS_ADMIN" | "CAP_SETUID" | "CAP_CHOWN" => {
                Finding::essential(capability, "absent")
            }
            _ => Finding::lacking(capability, "absent"),
        };
        findings.push(
            lack.costs(cost).remedy("take it out of what limits this process's capabilities"),
        );
    }
    findings
}

/// Version, and what depends on more than that.
pub(super) fn kernel() -> Vec<Finding> {
    let version = host::kernel();
    let text = format!("{}.{}", version.0, version.1);
    let mut findings = vec![if version >= host::OLDEST_KERNEL {
        Finding::fine("kernel", text)
    } else {
        let (major, minor) = host::OLDEST_KERNEL;
        Finding::essential("kernel", text)
            .costs("system calls that every container start uses are not there")
            .remedy(format!("use Linux {major}.{minor} or newer"))
    }];
    for (since, what, cost) in [
        ((5, 14), "cgroup.kill", "groups are killed process by process"),
        ((6, 3), "idmapped tmpfs", "pods with a user namespace and tmpfs volumes are refused"),
    ] {
        if version < since {
            let found = format!("needs Linux {}.{}", since.0, since.1);
            findings.push(Finding::lacking(what, found).costs(cost).remedy("use a newer kernel"));
        }
    }
    let systems = read("/proc/filesystems");
    let has = |name: &str| systems.lines().any(|line| line.rsplit('\t').next() == Some(name));
    for (name, cost, essential) in [
        ("overlay", "no container has a root file system", true),
        ("proc", "no container has /proc", true),
        ("tmpfs", "no container has /dev and /dev/shm", true),
        ("devpts", "no container has a terminal", true),
        ("mqueue", "containers have no POSIX message queues", false),
    ] {
        let what = format!("file system {name}");
        if has(name) {
            findings.push(Finding::fine(what, "there"));
            continue;
        }
        let lack = if essential {
            Finding::essential(what, "absent")
        } else {
            Finding::lacking(what, "absent")
        };
        findings.push(lack.costs(cost).remedy(format!("modprobe {name}, or a kernel that has it")));
    }
    findings.extend(namespaces());
    findings
}

fn namespaces() -> Vec<Finding> {
    let needed = [
        ("net", true),
        ("ipc", true),
        ("uts", true),
        ("mnt", true),
        ("pid", true),
        ("cgroup", false),
    ];
    let mut findings = Vec::new();
    for (name, essential) in needed {
        let what = format!("{name} namespaces");
        findings.push(if Path::new("/proc/self/ns").join(name).exists() {
            Finding::fine(what, "there")
        } else if essential {
            Finding::essential(what, "absent")
                .costs("no pod is isolated")
                .remedy("use a kernel with namespaces")
        } else {
            Finding::lacking(what, "absent").costs("containers see the host's control groups")
        });
    }
    let most: u64 = read("/proc/sys/user/max_user_namespaces").trim().parse().unwrap_or(0);
    findings.push(if most > 0 {
        Finding::fine("user namespaces", format!("at most {most}"))
    } else {
        Finding::lacking("user namespaces", "none allowed")
            .costs("pods with hostUsers: false are refused")
            .remedy("raise the sysctl user.max_user_namespaces")
    });
    findings
}

/// Layout, controllers, and whether groups can be made.
pub(super) fn cgroups(config: &Config) -> Vec<Finding> {
    let Ok(found) = Hierarchies::detect() else {
        return vec![Finding::essential("cgroups", "/proc/self/mountinfo cannot be read")];
    };
    let layout = match found.layout {
        Layout::V1 => "version 1",
        Layout::Hybrid => "hybrid: controllers on version 1",
        Layout::V2 => "version 2",
    };
    let mut findings = vec![Finding::fine("cgroups", layout)];
    if found.layout != Layout::V2 {
        findings.push(
            Finding::note("cgroup version", layout)
                .costs("no memory QoS, no PSI of pods, slower starts; Kubernetes is giving version 1 up")
                .remedy("boot with systemd.unified_cgroup_hierarchy=1"),
        );
    }
    let controllers = found.controllers();
    for (names, cost, essential) in [
        (&["memory"][..], "no memory limits, no eviction by memory", true),
        (&["cpu"], "no CPU limits", true),
        (&["pids"], "no limits on processes", false),
        (&["cpuset"], "no pinning to processors", false),
        (&["devices"], "containers cannot be kept from the host's devices", true),
        (&["io", "blkio"], "no limits on disks", false),
        (&["hugetlb"], "limits on huge pages are ignored", false),
    ] {
        // On version 2 devices are controlled by a program, not by a controller.
        let by_program = names[0] == "devices" && found.layout == Layout::V2;
        let what = format!("cgroup controller {}", names.join(" or "));
        if by_program || names.iter().any(|name| controllers.iter().any(|known| known == name)) {
            findings.push(Finding::fine(what, "there"));
            continue;
        }
        let lack = if essential {
            Finding::essential(what, "absent")
        } else {
            Finding::lacking(what, "absent")
        };
        findings.push(lack.costs(cost).remedy("enable it in the kernel and at boot"));
    }
    findings.push(systemd(config));
    findings
}

fn systemd(config: &Config) -> Finding {
    let runs = Path::new("/run/systemd/system").is_dir();
    match (runs, config.cgroup.driver()) {
        (true, CgroupDriver::Systemd) => Finding::fine("systemd", "runs, and makes the groups"),
        (true, CgroupDriver::Cgroupfs) => {
            Finding::note("systemd", "runs, but cgroup.driver is cgroupfs")
                .costs("two programs change the same control groups")
                .remedy("use cgroup.driver = \"systemd\", here and in the kubelet")
        }
        (false, CgroupDriver::Systemd) => Finding::essential("systemd", "does not run")
            .costs("cgroup.driver = \"systemd\" cannot work")
            .remedy("use cgroup.driver = \"cgroupfs\", here and in the kubelet"),
        (false, CgroupDriver::Cgroupfs) => Finding::note("systemd", "does not run")
            .costs("something else must start the daemon again when it ends"),
    }
}

/// Seccomp and the security modules.
pub(super) fn security() -> Vec<Finding> {
    let seccomp = read("/proc/sys/kernel/seccomp/actions_avail");
    let apparmor = read("/sys/module/apparmor/parameters/enabled").trim() == "Y";
    let selinux = Path::new("/sys/fs/selinux/enforce").exists();
    vec![
        if seccomp.contains("errno") {
            Finding::fine("seccomp", seccomp.trim())
        } else {
            Finding::lacking("seccomp", "absent").costs("pods with a seccomp profile are refused")
        },
        if apparmor {
            Finding::fine("AppArmor", "enabled")
        } else {
            Finding::note("AppArmor", "not enabled")
                .costs("pods that ask for an AppArmor profile are refused")
        },
        if selinux {
            Finding::fine("SELinux", "there")
        } else {
            Finding::note("SELinux", "not there").costs("SELinux labels of pods have no effect")
        },
    ]
}

/// Limits of the host and of this process, and swap.
pub(super) fn limits() -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, least, cost) in [
        (
            "fs/inotify/max_user_instances",
            512,
            "programs in pods that watch files fail with \"too many open files\"",
        ),
        (
            "fs/inotify/max_user_watches",
            65_536,
            "programs in pods that watch files fail with \"no space left\"",
        ),
        ("kernel/pid_max", 32_768, "processes of many pods cannot be started"),
        ("kernel/threads-max", 32_768, "threads of many pods cannot be started"),
        ("fs/file-max", 262_144, "files of many pods cannot be opened"),
        ("kernel/keys/maxkeys", 200, "containers cannot have keyrings"),
    ] {
        let Ok(number) = read(&format!("/proc/sys/{path}")).trim().parse::<u64>() else { continue };
        let name = path.replace('/', ".");
        findings.push(if number >= least {
            Finding::fine(format!("sysctl {name}"), number.to_string())
        } else {
            Finding::lacking(format!("sysctl {name}"), number.to_string())
                .costs(cost)
                .remedy(format!("sysctl {name}={least} or more"))
        });
    }
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let text = files.maximum.map_or("no limit".to_owned(), |most| most.to_string());
    findings.push(if files.maximum.is_none_or(|most| most >= 65_536) {
        Finding::fine("open files", text)
    } else {
        Finding::lacking("open files", text)
            .costs("with many pods the daemon runs out of descriptors")
            .remedy("LimitNOFILE=1048576 in the unit, or ulimit -n before the start")
    });
    findings.push(swap(&read("/proc/swaps")));
    findings
}

/// From the text of `/proc/swaps`.
fn swap(text: &str) -> Finding {
    if text.lines().count() < 2 {
        return Finding::fine("swap", "none");
    }
    Finding::note("swap", "in use")
        .costs("the kubelet does not start unless failSwapOn is false")
        .remedy("swapoff -a, or configure the kubelet's memorySwap")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::Level;

    #[test]
    fn swap_is_noted() {
        let head = "Filename Type Size Used Priority\n";
        assert_eq!(swap(head).level, Level::Fine);
        assert_eq!(swap(&format!("{head}/dev/sda2 partition 1 0 -2\n")).level, Level::Note);
        assert_eq!(swap("").level, Level::Fine);
    }

    #[test]
    fn each_lack_says_what_it_costs() {
        let all =
            [privileges(), kernel(), cgroups(&Config::default()), security(), limits()].concat();
        for finding in all {
            assert_eq!(finding.level == Level::Fine, finding.cost.is_empty(), "{finding:?}");
        }
    }
}

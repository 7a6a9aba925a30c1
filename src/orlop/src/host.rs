//! What this host has and lacks. Nothing here stops the daemon: a lack is named, with what will not
//! work for it.

use orlop_spec::KNOWN_CAPABILITIES;

/// Capabilities that the daemon uses itself, and what fails without each.
const NEEDED: [(&str, &str); 8] = [
    ("CAP_SYS_ADMIN", "no container can be started"),
    ("CAP_NET_ADMIN", "no pod gets a network"),
    ("CAP_MKNOD", "layers with device nodes cannot be unpacked"),
    ("CAP_DAC_OVERRIDE", "files of other owners cannot be handled"),
    ("CAP_CHOWN", "layers cannot be unpacked with their owners"),
    ("CAP_SETUID", "containers cannot have users"),
    ("CAP_SYS_PTRACE", "namespaces of containers cannot be joined"),
    ("CAP_SYS_RESOURCE", "oom_score_adj and limits cannot be set below and above the daemon's own"),
];

/// Whether the systemd cgroup driver can work, or what is lacking.
pub(crate) fn systemd_manages_cgroups() -> Result<(), &'static str> {
    if !orlop_sys::systemd::is_running() {
        return Err("systemd does not manage this host");
    }
    match orlop_sys::cgroup::Hierarchies::detect() {
        Ok(found) if found.layout == orlop_sys::cgroup::Layout::V2 => Ok(()),
        _ => Err("it needs cgroup v2 alone, and this host has cgroup v1 controllers"),
    }
}

/// The oldest kernel that has every system call of a container's start (`mount_setattr` came last).
pub(crate) const OLDEST_KERNEL: (u32, u32) = (5, 12);

/// Version of the running kernel.
pub(crate) fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    version(&name.release().to_string_lossy())
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The host's name.
pub(crate) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Logs what is missing.
pub(crate) fn warn_of_lacks() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (capability, without) in missing(&status) {
        tracing::warn!("the daemon lacks {capability}: {without}");
    }
    let systems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !systems.lines().any(|line| line.ends_with("\toverlay")) {
        tracing::warn!(
            "the kernel has no overlay file system loaded: containers need it; try `modprobe overlay`"
        );
    }
    if rustix::net::socket(
        rustix::net::AddressFamily::NETLINK,
        rustix::net::SocketType::RAW,
        Some(rustix::net::netlink::NETFILTER),
    )
    .is_err()
    {
        tracing::warn!(
            "the kernel has no nf_tables: host ports and masquerade will not work; try `modprobe nf_tables`"
        );
    }
}

/// From the text of `/proc/self/status`.
pub(crate) fn missing(status: &str) -> Vec<(&'static str, &'static str)> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim);
    let Some(effective) = hex.and_then(|hex| u64::from_str_radix(hex, 16).ok()) else {
        return Vec::new();
    };
    let has = |name: &str| {
        KNOWN_CAPABILITIES
            .iter()
            .position(|known| *known == name)
            .is_some_and(|bit| effective >> bit & 1 == 1)
    };
    NEEDED.into_iter().filter(|(name, _)| !has(name)).collect()
}

/// The last to be killed when memory is short; best effort.
pub(crate) fn protect_from_oom() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-999") {
        tracing::debug!("oom_score_adj of the daemon cannot be lowered: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lacks() {
        assert!(missing("CapEff:\t000001ffffffffff\n").is_empty());
        let lacks = missing("Name: x\nCapEff:\t000001fffeffffff\n");
        assert_eq!(lacks.iter().map(|lack| lack.0).collect::<Vec<_>>(), ["CAP_SYS_RESOURCE"]);
        assert_eq!(missing("CapEff:\t0\n").len(), NEEDED.len());
        assert!(missing("").is_empty());
    }
}

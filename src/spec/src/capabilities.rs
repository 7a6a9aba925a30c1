//! Capability sets: the field's default, what is added and dropped, ambient ones.

use crate::Inputs;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use std::collections::BTreeSet;

/// Every capability of Linux, in the order of its number.
pub const KNOWN_CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has without asking; the set that images of the field expect.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

const ALL: &str = "ALL";

/// The five sets of the container's process. Inheritable holds only what ambient needs: a file with
/// inheritable capabilities must not gain any by itself (CVE-2022-24769).
pub(crate) fn sets(inputs: &Inputs<'_>) -> LinuxCapabilities {
    let security = &inputs.container.security;
    let mut names: BTreeSet<&str> =
        if security.privileged { every(&inputs.host.capabilities) } else { asked(inputs) };
    let dropped: BTreeSet<&str> = security.capabilities.drop.iter().map(String::as_str).collect();
    let ambient: BTreeSet<&str> = security
        .capabilities
        .add_ambient
        .iter()
        .map(String::as_str)
        .flat_map(|name| {
            if name == ALL { every(&inputs.host.capabilities) } else { BTreeSet::from([name]) }
        })
        .filter(|name| !dropped.contains(name))
        .collect();
    names.extend(&ambient);
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(to_oci(&names)))
        .set_effective(Some(to_oci(&names)))
        .set_permitted(Some(to_oci(&names)))
        .set_inheritable(Some(to_oci(&ambient)))
        .set_ambient(Some(to_oci(&ambient)));
    sets
}

/// No capability in any set.
pub(crate) fn none() -> LinuxCapabilities {
    let empty = || Some(Capabilities::new());
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(empty())
        .set_effective(empty())
        .set_permitted(empty())
        .set_inheritable(empty())
        .set_ambient(empty());
    sets
}

/// The default set with the request's changes: `ALL` first, then names, and a dropped name wins over
/// an added one.
fn asked<'a>(inputs: &'a Inputs<'_>) -> BTreeSet<&'a str> {
    let request = &inputs.container.security.capabilities;
    let has_all = |list: &[String]| list.iter().any(|name| name == ALL);
    let mut names = if has_all(&request.drop) {
        BTreeSet::new()
    } else if has_all(&request.add) {
        every(&inputs.host.capabilities)
    } else {
        DEFAULT_CAPABILITIES.into_iter().collect()
    };
    names.extend(request.add.iter().map(String::as_str).filter(|name| *name != ALL));
    for name in &request.drop {
        names.remove(name.as_str());
    }
    names
}

fn every(available: &[String]) -> BTreeSet<&str> {
    if available.is_empty() {
        KNOWN_CAPABILITIES.into_iter().collect()
    } else {
        available.iter().map(String::as_str).collect()
    }
}

/// Names that oci-spec does not know are left out; validation has refused unknown ones before.
fn to_oci(names: &BTreeSet<&str>) -> Capabilities {
    names.iter().filter_map(|name| capability(name)).collect()
}

fn capability(name: &str) -> Option<Capability> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_to_oci() {
        for name in KNOWN_CAPABILITIES.iter().chain(&DEFAULT_CAPABILITIES) {
            assert_eq!(
                capability(name).unwrap().to_string(),
                name.trim_start_matches("CAP_"),
                "{name}"
            );
        }
    }
}

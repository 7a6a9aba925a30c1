//! Sysctls: only those that the pod's own namespaces keep, as typed pairs (CVE-2022-0811).

use super::{Result, bad};
use orlop_spec::request::{NamespaceMode, NamespaceOptions};
use std::collections::BTreeMap;

const MAX_VALUE: usize = 4096;

/// Sysctls that an IPC namespace keeps.
const IPC: [&str; 12] = [
    "kernel.auto_msgmni",
    "kernel.msg_next_id",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.sem_next_id",
    "kernel.shm_next_id",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Names with dots, values of harmless characters.
pub(super) fn sysctls(
    raw: &BTreeMap<String, String>,
    namespaces: &NamespaceOptions,
) -> Result<BTreeMap<String, String>> {
    raw.iter()
        .map(|(name, value)| {
            let field = format!("linux.sysctls[{name:?}]");
            let name = canonical(&field, name)?;
            belongs(&field, &name, namespaces)?;
            check_value(&field, value)?;
            Ok((name, value.clone()))
        })
        .collect()
}

/// Slashes as separators are turned into dots; a mixture is refused, since its meaning depends on
/// the first separator.
fn canonical(field: &str, name: &str) -> Result<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    if name.len() > 255 || !name.bytes().all(fits) {
        return Err(bad(field, name, "a sysctl name has letters, digits, '_', '-' and '.'"));
    }
    if name.contains('/') && name.contains('.') {
        return Err(bad(field, name, "separate the parts of the name with '.' only"));
    }
    let dotted = name.replace('/', ".");
    if dotted.split('.').any(str::is_empty) || !dotted.contains('.') {
        return Err(bad(field, name, "a sysctl name has parts separated by single dots"));
    }
    Ok(dotted)
}

fn belongs(field: &str, name: &str, namespaces: &NamespaceOptions) -> Result<()> {
    let (kind, mode) = if name.starts_with("net.") {
        ("network", &namespaces.network)
    } else if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        ("ipc", &namespaces.ipc)
    } else if name == "kernel.domainname" {
        ("uts", &namespaces.network)
    } else if name == "kernel.hostname" {
        return Err(bad(field, name, "set the sandbox's hostname instead"));
    } else {
        return Err(bad(
            field,
            name,
            "only sysctls of the network, ipc and uts namespaces may be set for a pod",
        ));
    };
    if *mode == NamespaceMode::Node {
        let remedy = format!(
            "the pod uses the host's {kind} namespace: remove the sysctl or give the pod its own"
        );
        return Err(bad(field, name, &remedy));
    }
    Ok(())
}

fn check_value(field: &str, value: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b" \t_-.,:/".contains(&byte);
    if value.len() <= MAX_VALUE && value.bytes().all(fits) {
        Ok(())
    } else {
        Err(bad(
            field,
            value,
            "a sysctl value has letters, digits, spaces and any of \"_-.,:/\", at most 4096 bytes",
        ))
    }
}

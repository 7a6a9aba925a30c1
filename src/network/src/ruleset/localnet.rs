//! `route_localnet`: whether the kernel routes 127.0.0.0/8 on an interface.
//!
//! A connection from 127.0.0.1 of the host to a host port leaves by the pod's interface and comes
//! back there, which the kernel refuses without it.

use std::path::PathBuf;

fn path(interface: &str) -> Option<PathBuf> {
    // Names come from plugins that we did not write.
    let plain = !interface.is_empty() && !interface.contains('/') && !interface.starts_with('.');
    plain.then(|| PathBuf::from(format!("/proc/sys/net/ipv4/conf/{interface}/route_localnet")))
}

/// Whether it is off; false too where there is no such interface in this network namespace.
pub(crate) fn is_off(interface: &str) -> bool {
    path(interface)
        .and_then(|path| std::fs::read_to_string(path).ok())
        .is_some_and(|value| value.trim() == "0")
}

/// Switches it. Where that fails only the path from 127.0.0.1 is missing: a warning is enough.
pub(crate) fn switch(interface: &str, on: bool) {
    let Some(path) = path(interface) else { return };
    match std::fs::write(&path, if on { "1" } else { "0" }) {
        // The interface went together with its setting.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(
            interface,
            %error,
            "cannot write route_localnet: host ports do not answer on 127.0.0.1"
        ),
        Ok(()) => {}
    }
}

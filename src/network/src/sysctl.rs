//! Namespaced sysctls, written by a thread that is inside the namespaces.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::io;
use std::os::fd::OwnedFd;

const PROC_MAGIC: u64 = 0x9fa0;

/// The parts of `/proc/sys` that a network, ipc or uts namespace has for itself, except the host
/// and domain name, which belong to the runtime.
const NAMESPACED: [&str; 5] = ["net/", "kernel/shm", "kernel/msg", "kernel/sem", "fs/mqueue/"];

/// What every pod with its own network gets unless it asks otherwise: unprivileged containers may
/// serve low ports and send pings.
pub(crate) const POD_DEFAULTS: [(&str, &str); 2] =
    [("net/ipv4/ip_unprivileged_port_start", "0"), ("net/ipv4/ping_group_range", "0 2147483647")];

/// The path beneath `/proc/sys`, or why the sysctl cannot be set for a pod. The first separator,
/// `.` or `/`, decides which one separates, as sysctl(8) has it.
pub(crate) fn path(key: &str) -> Result<String, String> {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let dotted = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'.');
    let path: String = if dotted { key.chars().map(swap).collect() } else { key.to_owned() };
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..")
        || path.contains('\0')
    {
        return Err(format!("sysctl {key:?} is not valid: write it like net.core.somaxconn"));
    }
    if NAMESPACED.iter().any(|prefix| path.starts_with(prefix)) {
        Ok(path)
    } else {
        Err(format!(
            "sysctl {key:?} belongs to no namespace of a pod: only net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.* do"
        ))
    }
}

/// `/proc/sys`, proved to be the kernel's.
pub(crate) fn root() -> io::Result<OwnedFd> {
    let root = rustix::fs::open(
        "/proc/sys",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if rustix::fs::fstatfs(&root)?.f_type as u64 == PROC_MAGIC {
        Ok(root)
    } else {
        Err(io::Error::other("/proc/sys is not a proc file system"))
    }
}

fn open(root: &OwnedFd, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    Ok(rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Writes one value.
pub(crate) fn write(root: &OwnedFd, path: &str, value: &str) -> io::Result<()> {
    let file = open(root, path, OFlags::WRONLY)?;
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}

/// Reads one value, without the line's end.
pub(crate) fn read(root: &OwnedFd, path: &str) -> io::Result<String> {
    let file = open(root, path, OFlags::RDONLY)?;
    let mut buffer = [0; 4096];
    let length = rustix::io::read(&file, &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for (key, expected) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            ("net/ipv4/conf/eth0.1/arp_notify", "net/ipv4/conf/eth0.1/arp_notify"),
            ("net.ipv4.conf.eth0/1.arp_notify", "net/ipv4/conf/eth0.1/arp_notify"),
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ] {
            assert_eq!(path(key).as_deref(), Ok(expected));
        }
        for key in [
            "kernel.hostname",
            "vm.swappiness",
            "net",
            "net..x",
            "net/../kernel/x",
            "",
            "net/",
            "fs.file-max",
        ] {
            assert!(path(key).is_err(), "{key}");
        }
    }

    #[test]
    fn only_beneath_proc_sys() {
        let root = root().unwrap();
        assert!(read(&root, "kernel/ostype").unwrap() == "Linux");
        assert!(read(&root, "../version").is_err());
    }
}

//! Sockets of other network namespaces.

use crate::netns;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// TCP sockets of our own network namespace, for IPv4 and, where the kernel has it, IPv6; not
/// connected, non-blocking.
pub fn tcp_sockets() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let make = |family| socket_with(family, SocketType::STREAM, flags, None);
    Ok((make(AddressFamily::INET)?, make(AddressFamily::INET6).ok()))
}

/// The same of the network namespace that is pinned at `path`. The calling thread enters it for as
/// long as that takes.
pub fn tcp_sockets_in(path: &Path) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    netns::inside_net(netns::open(path)?, tcp_sockets)?
}

//! The only place with unsafe: process creation, namespaces, mounts, cgroups, seccomp, capabilities, ptys, netlink.

pub mod fs;

//! The only place with unsafe: process creation, namespaces, mounts, cgroups, seccomp, capabilities, ptys, netlink.

pub mod cgroup;
pub mod descriptors;
pub mod error;
pub mod fs;
pub mod mount;
pub mod netlink;
pub mod nft;
pub mod ns;
pub mod process;
pub mod seccomp;
pub mod systemd;

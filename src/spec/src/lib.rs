//! Pure: (CRI config, image config, node defaults, devices) to an OCI runtime spec.

mod capabilities;
mod error;
mod generate;
mod inputs;
mod mounts;
mod process;
pub mod request;
mod resources;
#[cfg(test)]
mod tests;
mod user;

pub use capabilities::{DEFAULT_CAPABILITIES, KNOWN_CAPABILITIES};
pub use error::SpecError;
pub use generate::{container_spec, fit_for_other_runtimes, process_for_exec, sandbox_init_spec};
pub use inputs::{
    CgroupLayout, DeviceKind, HostFeatures, Inputs, Namespace, Namespaces, ResolvedDevice,
    ResolvedUser, Rlimit, SandboxFiles, SelinuxLabels, rlimit,
};
pub use mounts::{DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS};
pub use resources::limits;
pub use user::{Group, User, UserTable, resolve_groups, resolve_user};

//! Pure: (CRI config, image config, node defaults, devices) to an OCI runtime spec.

mod error;
mod generate;
mod inputs;
pub mod request;
mod user;

pub use error::SpecError;
pub use generate::{container_spec, process_for_exec, sandbox_init_spec};
pub use inputs::{
    CgroupLayout, DeviceKind, HostFeatures, Inputs, Namespace, Namespaces, ResolvedDevice,
    ResolvedUser, SandboxFiles, SelinuxLabels,
};
pub use user::{Group, User, UserTable, resolve_user};

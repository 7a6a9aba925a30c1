//! What went wrong in a stage, typed, and able to cross the control socket.

use serde::{Deserialize, Serialize};

/// The part of the start that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// The spec asks for something that is wrong in itself.
    Spec,
    /// The stage process could not be created.
    Spawn,
    /// Joining or creating a namespace.
    Namespace,
    /// Joining the control group.
    Cgroup,
    /// The root file system.
    Rootfs,
    /// A mount of the spec.
    Mount,
    /// A device.
    Device,
    /// Masked and read-only paths.
    Mask,
    /// A kernel parameter.
    Sysctl,
    /// A resource limit.
    Rlimit,
    /// The terminal.
    Terminal,
    /// User, groups or capabilities.
    User,
    /// seccomp, apparmor, selinux.
    Security,
    /// The working directory.
    Cwd,
    /// The exec itself: absent, not executable, wrong architecture, interpreter missing.
    Exec,
    /// The stage ended without a word.
    Lost,
}

/// Why a container or an exec did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct StageError {
    /// Where.
    pub(crate) step: Step,
    /// On what: a path, a name.
    pub(crate) object: String,
    /// The kernel's number, 0 when it is not the kernel that refused.
    pub(crate) errno: i32,
    /// For the user: the object, the cause, the remedy.
    pub(crate) message: String,
}

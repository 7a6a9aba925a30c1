//! What went wrong in a stage, typed, and able to cross the control socket.

use orlop_sys::error::{Error, reason};
use rustix::io::Errno;
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
    /// A hook.
    Hook,
    /// The stage ended without a word.
    Lost,
}

impl Step {
    /// What was being done, as a message begins.
    fn verb(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Spawn => "start the stage",
            Self::Namespace => "namespace",
            Self::Cgroup => "cgroup",
            Self::Rootfs => "root file system",
            Self::Mount => "mount",
            Self::Device => "device",
            Self::Mask => "mask",
            Self::Sysctl => "sysctl",
            Self::Rlimit => "limit",
            Self::Terminal => "terminal",
            Self::User => "user",
            Self::Security => "security",
            Self::Cwd => "working directory",
            Self::Exec => "exec",
            Self::Hook => "hook",
            Self::Lost => "stage",
        }
    }
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

/// Result of every step.
pub(crate) type Result<T> = std::result::Result<T, StageError>;

impl StageError {
    /// Our own refusal: `cause` says what is wrong with `object`.
    pub(crate) fn refuse(step: Step, object: impl Into<String>, cause: impl AsRef<str>) -> Self {
        let object = object.into();
        let message = format!("{} {object}: {}", step.verb(), cause.as_ref());
        Self { step, object, errno: 0, message }
    }

    /// The kernel's refusal.
    pub(crate) fn kernel(step: Step, object: impl Into<String>, errno: i32) -> Self {
        let refused = Self::refuse(step, object, reason(errno));
        Self { errno, ..refused }
    }
}

/// Puts a failure into its step.
pub(crate) trait At<T> {
    /// It happened in `step`, on `object`.
    fn at<S: Into<String>>(self, step: Step, object: impl FnOnce() -> S) -> Result<T>;
}

impl<T> At<T> for std::result::Result<T, Error> {
    fn at<S: Into<String>>(self, step: Step, object: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| {
            let refused = StageError::refuse(step, object(), error.to_string());
            StageError { errno: error.errno, ..refused }
        })
    }
}

impl<T> At<T> for std::result::Result<T, Errno> {
    fn at<S: Into<String>>(self, step: Step, object: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| StageError::kernel(step, object(), errno.raw_os_error()))
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at<S: Into<String>>(self, step: Step, object: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| {
            StageError::kernel(step, object(), error.raw_os_error().unwrap_or(libc_eio()))
        })
    }
}

fn libc_eio() -> i32 {
    Errno::IO.raw_os_error()
}

//! Why a request cannot become a spec, although each field of it is well-formed.

/// What does not fit together. Every one of them is the client's or the image's to repair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Neither the request nor the image says what to run.
    #[error(
        "no command specified: the image has neither ENTRYPOINT nor CMD; set the container's command or args"
    )]
    NoCommand,
    /// The user text of the image or request breaks the grammar or a range.
    #[error("user {user:?} is not valid: {why}")]
    BadUser {
        /// What was given.
        user: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A limit that the kernel does not have.
    #[error(
        "ulimit {name:?} is not known: use nofile, nproc, core, memlock, stack or another name of getrlimit(2)"
    )]
    Ulimit {
        /// The name.
        name: String,
    },
    /// A user name that the image's passwd lacks.
    #[error(
        "user {user:?} is not in the image's /etc/passwd: use a numeric id or add the user to the image"
    )]
    UnknownUser {
        /// The name.
        user: String,
    },
    /// A group name that the image's group file lacks.
    #[error(
        "group {group:?} is not in the image's /etc/group: use a numeric id or add the group to the image"
    )]
    UnknownGroup {
        /// The name.
        group: String,
    },
    /// An environment value that JSON cannot carry.
    #[error("environment variable {key:?} is not valid UTF-8: OCI runtime specs carry text only")]
    EnvNotUtf8 {
        /// The variable's name.
        key: String,
    },
    /// A profile was asked for, but none was handed in.
    #[error(
        "seccomp profile {profile:?} is not available: use RuntimeDefault, or install the profile"
    )]
    SeccompMissing {
        /// The profile asked for.
        profile: String,
    },
    /// AppArmor was asked for on a host without it.
    #[error(
        "apparmor profile {profile:?} cannot be applied: the host has no AppArmor; remove the profile from the request"
    )]
    ApparmorAbsent {
        /// The profile asked for.
        profile: String,
    },
    /// The default AppArmor profile was asked for and could not be loaded when the daemon started.
    #[error(
        "apparmor profile RuntimeDefault cannot be applied: it is not loaded; install apparmor_parser (Debian: apparmor) and restart orlop"
    )]
    ApparmorDefaultAbsent,
    /// A working directory that is not absolute.
    #[error(
        "working directory {dir:?} is not valid: it must be an absolute path without control characters"
    )]
    BadWorkingDir {
        /// What was given.
        dir: String,
    },
    /// A text for the process holds a NUL byte, which no process can be given.
    #[error("{what} contains a NUL byte: remove it")]
    Nul {
        /// Which text.
        what: &'static str,
    },
    /// The host lacks what a mount needs.
    #[error("mount at {path:?} cannot be made: the host's kernel has no {feature}")]
    MountUnsupported {
        /// Container path.
        path: String,
        /// What is missing.
        feature: &'static str,
    },
    /// An image volume whose layers were not handed in (a bug here, reported rather than panicked on).
    #[error("ImageVolumeMountFailed: the image for {path:?} has not been looked up")]
    ImageMount {
        /// Container path.
        path: String,
    },
    /// The container is privileged, its sandbox is not.
    #[error(
        "container asks for privileged, but its sandbox is not: create the sandbox with privileged set"
    )]
    PrivilegedSandbox,
    /// A builder of the spec refused a value (a bug here, reported rather than panicked on).
    #[error("runtime spec cannot be built: {0}")]
    Build(String),
}

impl From<oci_spec::OciSpecError> for SpecError {
    fn from(error: oci_spec::OciSpecError) -> Self {
        Self::Build(error.to_string())
    }
}

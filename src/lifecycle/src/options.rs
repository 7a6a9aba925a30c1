//! What a node's operator decides.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of the runtime.
#[derive(Debug, Clone)]
pub struct Options {
    /// Durable state, `/var/lib/orlop`.
    pub root: PathBuf,
    /// Live state, on a file system that a reboot empties: `/run/orlop`.
    pub run: PathBuf,
    /// Parent cgroup of sandboxes that name none: an absolute cgroupfs path.
    pub default_cgroup_parent: String,
    /// Names of runtime handlers beside the empty one, which all mean the built-in runtime.
    pub handlers: Vec<String>,
    /// Directory of seccomp profiles; a relative Localhost profile lives beneath it.
    pub seccomp_dir: PathBuf,
    /// Directories with CDI descriptions of devices; a later one wins.
    pub cdi_dirs: Vec<PathBuf>,
    /// How long a start may take before it is undone: mounts and the image's disk are involved.
    pub start_patience: Duration,
    /// The CRIU program; `None`: no checkpoints.
    pub criu: Option<PathBuf>,
    /// Bytes of stdout and of stderr each that an ExecSync reply carries at most.
    pub exec_output_cap: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root: "/var/lib/orlop".into(),
            run: "/run/orlop".into(),
            default_cgroup_parent: "/orlop".into(),
            handlers: vec!["orlop".into()],
            seccomp_dir: "/etc/orlop/seccomp".into(),
            cdi_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            start_patience: Duration::from_secs(110),
            criu: None,
            exec_output_cap: 16 << 20,
        }
    }
}

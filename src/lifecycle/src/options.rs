//! What a node's operator decides.

use orlop_task::RuntimeOptions;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the runtime.
#[derive(Debug, Clone)]
pub struct Options {
    /// Durable state, `/var/lib/orlop`.
    pub root: PathBuf,
    /// Live state, on a file system that a reboot empties: `/run/orlop`.
    pub run: PathBuf,
    /// Parent cgroup of sandboxes that name none: an absolute cgroupfs path,
    /// or the name of a slice with the systemd driver.
    pub default_cgroup_parent: String,
    /// Names of runtime handlers beside the empty one, which all mean the built-in runtime.
    pub handlers: Vec<String>,
    /// Handlers whose containers run in shims of other makers.
    pub runtimes: Vec<ForeignHandler>,
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
            runtimes: Vec::new(),
            seccomp_dir: "/etc/orlop/seccomp".into(),
            cdi_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            start_patience: Duration::from_secs(110),
            criu: None,
            exec_output_cap: 16 << 20,
        }
    }
}

/// A runtime handler whose containers run in a shim of another maker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignHandler {
    /// The name that a RuntimeClass gives.
    pub name: String,
    /// The shim's program.
    pub binary: PathBuf,
    /// What the shim is told with every container.
    pub options: Option<RuntimeOptions>,
    /// A pod needs a container of its own that holds it; all others live in that one's shim.
    pub sandbox: bool,
    /// Annotations of pods that the shim gets to see; `*` stands for any text.
    pub pod_annotations: Vec<String>,
    /// Annotations of containers likewise.
    pub container_annotations: Vec<String>,
}

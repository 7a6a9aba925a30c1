//! Names on the wire: services and type URLs.

/// The Task service, as containerd 1.7 and later call it.
pub const TASK_V3: &str = "containerd.task.v3.Task";
/// The same service under the name that containerd 1.6 uses.
pub const TASK_V2: &str = "containerd.task.v2.Task";
/// Our own service beside it.
pub const SHIM: &str = "orlop.shim.v1.Shim";
/// Where containerd takes events.
pub const EVENTS: &str = "containerd.services.events.ttrpc.v1.Events";

/// An OCI process in JSON (`spec` of an exec request).
pub const URL_PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// OCI Linux resources in JSON (`resources` of an update request).
pub const URL_RESOURCES: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
/// Our options of a create request.
pub const URL_CREATE_OPTIONS: &str = "orlop.shim.v1.CreateOptions";
/// cgroup metrics of a stats reply.
pub const URL_METRICS: &str = "io.containerd.cgroups.v1.Metrics";
/// The same on hosts whose cgroups are unified.
pub const URL_METRICS_V2: &str = "io.containerd.cgroups.v2.Metrics";
/// Log files in CRI's format are named `cri:///absolute/path`.
pub const CRI_LOG_SCHEME: &str = "cri://";

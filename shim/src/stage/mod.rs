//! From an OCI spec to the workload's first instruction.
//!
//! Two halves. The **shim's** half ([`spawn_init`], [`spawn_exec`]) turns the spec into a plan that
//! holds nothing but facts, and starts a fresh copy of our own sealed binary with it. The **child's**
//! half ([`main`]) is that copy: single-threaded, already in its new namespaces and control group,
//! it mounts, pivots, drops privileges and executes. Between the two is one socket
//! ([`Staged`]): warnings, the terminal and "ready" come out, "go" goes in, and the end of the stream
//! without an error is the exec.

mod cgroups;
mod control;
mod cwd;
mod dev;
mod error;
mod foreign;
mod identity;
mod init;
mod launch;
mod made;
mod mask;
mod mounts;
mod null;
mod parent;
mod plan;
mod procfs;
mod rootfs;
mod run;
mod terminal;
mod translate;
mod translate_mounts;
mod treatment;
mod tree;
mod wire;

pub(crate) use error::{StageError, Step};
pub(crate) use parent::{
    ExecRequest, InitRequest, Progress, RootfsMount, Staged, Stdio, spawn_exec, spawn_init,
};

/// The program of the child, when our first argument is `stage`.
pub(crate) fn main() -> ! {
    // The second argument counts the descriptors that come after the plan.
    let handed_over = std::env::args_os().nth(2).and_then(|count| count.to_str()?.parse().ok());
    run::run(handed_over.unwrap_or(0))
}

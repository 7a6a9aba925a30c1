//! What the daemon and a container's shim agree on: containerd's Task v3 service over ttrpc, the
//! layout of a bundle, the start of a shim, and the daemon's side of all that.
//!
//! - [`protocol`]: the messages, compiled from `proto/task`.
//! - [`ttrpc`]: frames and status codes, without I/O; the shim's event loop uses it too.
//! - [`names`]: service names and type URLs.
//! - [`Bundle`]: the directory that a shim and its daemon share.
//! - [`Launcher`], [`Shim`], [`Client`]: start a shim, find it again, talk to it.
//! - [`ForeignRuntime`], [`RuntimeOptions`]: shims of other makers.
//! - [`exec_sync`]: run a command in a container and collect what it says.
//! - [`exec_session`], [`attach_session`]: talk to a command, or to a container.

mod bundle;
mod client;
mod connection;
mod error;
mod exec;
mod fifo;
mod foreign;
mod launch;
pub mod names;
mod options;
mod session;
mod socket;
mod supervision;
mod trace;
pub mod ttrpc;

pub use bundle::{Bundle, ExitRecord, ShimRecord};
pub use client::{Client, CreateRequest, Details, ExecRequest, State, Status};
pub use error::TaskError;
pub use exec::{ExecError, ExecOutput, exec_sync, kill as end_command};
pub use foreign::{Bootstrap, ForeignRuntime, OciFeatures, clear_foreign};
pub use launch::{Launcher, Shim};
pub use options::{OptionsError, OptionsForm, RuntimeOptions};
pub use session::{
    ATTACH_BUFFER, CLIENT_EXEC, Flows, Scope, Session, SessionEnd, attach_session, exec_detached,
    exec_session,
};
pub use supervision::{
    HealthCheck, HealthRecord, HealthResult, HealthStatus, Restart, RunEnd, RunsRecord, Supervision,
};
pub use trace::set_trace_context;

/// The messages of `proto/task`.
#[expect(missing_docs, reason = "generated; the proto files say what there is to say")]
pub mod protocol {
    include!(concat!(env!("OUT_DIR"), "/protocol.rs"));

    pub use containerd::events;
    pub use containerd::services::events::ttrpc::v1 as forward;
    pub use containerd::task::v3 as task;
    pub use containerd::types::Mount;
    pub use containerd::v1::types::{ProcessInfo, Status};
    pub use io::containerd::cgroups::v1 as stats;
    pub use io::containerd::cgroups::v2 as stats2;
    pub use orlop::shim::v1 as shim;

    /// Options of shims of other makers.
    pub mod foreign {
        pub use super::containerd::runc::v1 as runc;
        pub use super::runtimeoptions::v1 as generic;
    }
}

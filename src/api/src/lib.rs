//! The gRPC servers: raw requests become validated types, errors become status codes.
//!
//! [`Api`] answers both CRI services. It is up before the engine behind it: until
//! [`Api::set_ready`] every call says Unavailable.

mod batches;
mod builds;
mod calls;
mod containers;
#[cfg(test)]
mod contract_test;
mod engine;
mod error;
mod events;
mod exec;
mod images;
mod limits;
mod metrics;
mod node;
mod own;
mod resources;
mod sandboxes;
mod service;
mod stats;
mod streaming;
mod validate;
mod view;

pub use builds::BuildCalls;
pub use calls::Observer;
pub use engine::EngineCalls;
pub use error::EXIT_CODE;
pub use limits::{MAX_REQUEST, serve, serve_own};
pub use own::ImageCalls;
pub use service::{Api, Handler, Node};
pub use streaming::Streams;
pub use validate::{Abilities, Invalid};

/// CRI v1, generated from `proto/cri/v1/api.proto`.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::too_many_lines)]
    tonic::include_proto!("runtime.v1");
}

/// Orlop's own image service, generated from `proto/orlop/images/v1/images.proto`.
pub mod images_v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::too_many_lines)]
    tonic::include_proto!("orlop.images.v1");
}

/// Orlop's own service for containers, networks and volumes, generated from
/// `proto/orlop/engine/v1/engine.proto`.
pub mod engine_v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::too_many_lines)]
    tonic::include_proto!("orlop.engine.v1");
}

/// Orlop's own service for builds, generated from `proto/orlop/build/v1/build.proto`.
pub mod builds_v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::too_many_lines)]
    tonic::include_proto!("orlop.build.v1");
}

/// The compiled descriptor of [`v1`], a serialised `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.fds"));

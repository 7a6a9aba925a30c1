//! The gRPC servers: raw requests become validated types, errors become status codes.

#[cfg(test)]
mod contract_test;

/// CRI v1, generated from `proto/cri/v1/api.proto`.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
    tonic::include_proto!("runtime.v1");
}

/// The compiled descriptor of [`v1`], a serialised `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.fds"));

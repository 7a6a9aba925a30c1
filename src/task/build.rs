//! Compiles `proto/task` to Rust types with protox: no protoc needed.

use std::path::Path;

const FILES: [&str; 11] = [
    "mount.proto",
    "state.proto",
    "task.proto",
    "ttrpc.proto",
    "events.proto",
    "forward.proto",
    "shim.proto",
    "stats.proto",
    "stats2.proto",
    "runcoptions.proto",
    "runtimeoptions.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/task");
    for file in FILES {
        println!("cargo::rerun-if-changed={}", dir.join(file).display());
    }
    let descriptors = protox::compile(FILES, [&dir])?;
    prost_build::Config::new()
        .enable_type_names()
        .include_file("protocol.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

//! Compiles the files under `proto` with a compiler written in Rust: no protoc on the build machine.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", root.display());
    let mut cri = protox::Compiler::new([root.join("cri/v1")])?;
    cri.open_file(root.join("cri/v1/api.proto"))?;
    std::fs::write(out.join("cri.fds"), cri.encode_file_descriptor_set())?;
    cri.include_source_info(true);
    tonic_prost_build::configure().btree_map(".").compile_fds(cri.file_descriptor_set())?;
    // Ours, with the client that the command line uses.
    for (dir, file) in [
        ("orlop/images/v1", "images.proto"),
        ("orlop/engine/v1", "engine.proto"),
        ("orlop/build/v1", "build.proto"),
    ] {
        let mut own = protox::Compiler::new([root.join(dir)])?;
        own.open_file(root.join(dir).join(file))?;
        own.include_source_info(true);
        tonic_prost_build::configure().compile_fds(own.file_descriptor_set())?;
    }
    Ok(())
}

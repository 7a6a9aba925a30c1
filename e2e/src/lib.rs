//! Harness of the black-box tests: a world of its own for every test (network namespace, directories, registry,
//! daemon), real clients, and a look at what is left at the end.

pub mod cri;
pub mod images;
pub mod leaks;
pub mod people;
pub mod process;
pub mod streams;
pub mod typed;
pub mod world;

pub use world::World;

use std::path::PathBuf;

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e has a parent").to_owned()
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A program of ours, from the release build that `scripts/test` makes; `ORLOP_BIN` names another directory.
pub fn program(name: &str) -> PathBuf {
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let dir = std::env::var_os("ORLOP_BIN")
        .map_or_else(|| target().join(triple).join("release"), PathBuf::from);
    let path = dir.join(name);
    assert!(
        path.exists(),
        "{} is not there: run `cargo build --release -p orlop -p orlop-shim`",
        path.display()
    );
    path
}

/// crictl or critest, as `scripts/tools` built it.
pub fn tool(name: &str) -> PathBuf {
    let path = target().join("tools").join(name);
    assert!(path.exists(), "{} is not there: run `scripts/tools {name}`", path.display());
    path
}

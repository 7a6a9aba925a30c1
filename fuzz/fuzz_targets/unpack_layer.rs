//! Unpacking for real, as root, into a directory beside a canary that must not change.
#![no_main]

#[path = "../../src/image/src/unpack/mod.rs"]
#[allow(dead_code, unused_imports)]
mod unpack;

use std::os::fd::AsFd as _;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let yard = tempfile::tempdir().expect("a temporary directory");
    let canary = yard.path().join("canary");
    let layer = yard.path().join("layer");
    std::fs::write(&canary, "secret").expect("a canary");
    std::fs::create_dir(&layer).expect("a layer");
    let dest = orlop_sys::fs::open_dir(&layer).expect("the layer");
    let limits = unpack::Limits { bytes: 16 << 20, entries: 1000, ..Default::default() };
    let _ = unpack::unpack_layer(data, dest.as_fd(), &limits);
    assert_eq!(std::fs::read(&canary).expect("the canary"), b"secret");
    assert_eq!(std::fs::read_dir(yard.path()).expect("the yard").count(), 2);
});

//! The archive reader alone: whatever the bytes, it ends, without a panic and within its limits.
#![no_main]

#[path = "../../src/image/src/unpack/mod.rs"]
#[allow(dead_code, unused_imports)]
mod unpack;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = unpack::list(data, &unpack::Limits::default(), |_| {});
});

//! What a container sends to the responder of its network.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| orlop_names::fuzz(data));

//! Containers started by the stage alone, with the real binary as the stage: no shim, no daemon.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the shim uses more of the stage than these tests"
)]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "helpers of tests")]

#[path = "../src/hooks.rs"]
mod hooks;
#[path = "../src/stage/mod.rs"]
mod stage;

#[path = "stage/attacks.rs"]
mod attacks;
#[path = "stage/basics.rs"]
mod basics;
#[path = "stage/refusals.rs"]
mod refusals;
#[path = "stage/speed.rs"]
mod speed;
#[path = "stage/treatment.rs"]
mod treatment;
#[path = "stage/userns.rs"]
mod userns;
#[path = "stage/world.rs"]
mod world;

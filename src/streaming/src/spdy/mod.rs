//! SPDY/3.1 as Kubernetes' clients speak it for remote commands and port forwarding.
//!
//! [`frame`], [`header`] and [`session`] are pure: bytes in, bytes out. [`io`] puts a session on a
//! connection and gives its streams out as asynchronous readers and writers.

mod dictionary;
pub mod frame;
pub mod header;
pub mod io;
pub mod session;
#[cfg(test)]
mod session_tests;

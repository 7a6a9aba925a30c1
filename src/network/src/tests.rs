//! Tests against the kernel and against the reference plugins, each on a host of its own: a thread
//! with fresh network and mount namespaces, so that the machine's are never touched.

mod differential;
mod engine;
mod harness;
mod pool;
mod speed;
mod user;

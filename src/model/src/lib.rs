//! Names and numbers that every room of Orlop agrees on: ids, digests, references, platforms,
//! signals, exit status. No I/O, and nothing here can fail for a reason outside its arguments.

mod digest;
mod exit;
mod id;
mod platform;
mod reference;
mod signal;
mod time;

pub use digest::{Digest, DigestError};
pub use exit::ExitStatus;
pub use id::{ContainerId, ExecId, IdError, SandboxId};
pub use platform::Platform;
pub use reference::{Reference, ReferenceError};
pub use signal::{Signal, SignalError};
pub use time::Timestamp;

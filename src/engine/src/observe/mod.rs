//! What containers do and use, read from the kernel's files: nothing is executed in a container.

mod ps;
mod reading;

pub use ps::Processes;
pub use reading::Reading;

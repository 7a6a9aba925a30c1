//! Creating processes, waiting for them and signalling them, always through a pidfd.
//!
//! Everything that the child needs is prepared before the clone; between clone and exec it runs raw
//! system calls only, so that [`Command::spawn`] is safe in a program with threads.

mod attributes;
mod child;
mod exec;
mod first;
mod holder;
mod output;
mod own;
mod pidfd;
mod placeholder;
mod prepare;
mod raw;
mod sealed;
mod spawn;
mod stack;

pub use attributes::{Scheduling, set_affinity, set_io_priority, set_personality, set_scheduling};
pub use exec::exec;
pub use first::stay_behind;
pub use holder::{NamespaceHolder, write_inside};
pub use output::{Output, output};
pub use own::{
    block_termination, close_on_exec_from, inherited, new_session_keyring, reap_until_terminated,
};
pub use pidfd::{Exit, Pidfd, boot_id, start_time};
pub(crate) use placeholder::Placeholder;
pub use sealed::sealed_copy;
pub use spawn::{Child, Command, IdMap, Namespaces, Program, SpawnError, SpawnStep};

//! What can be asked of containers.

mod boot;
mod create;
mod inspect;
mod refuse;
mod remove;
mod run;
mod runs;
mod show;
mod update;
mod wait;

pub use create::NewContainer;
pub(crate) use inspect::time;
pub(crate) use remove::ended;
pub use show::{PortLine, Summary};
pub use update::UpdateSpec;
pub use wait::Until;

//! Dockerfile to image: instructions, graph, cache key, execute or reuse.

pub mod chmod;
pub mod config;
mod diagnostic;
mod engine;
pub mod exec;
pub mod expand;
mod files;
pub mod git;
pub mod ignore;
pub mod instruction;
pub mod key;
pub mod lint;
pub mod output;
pub mod parse;
pub mod pattern;
mod platform;
mod suggest;
pub mod users;

pub use diagnostic::{Diagnostic, Lines};
pub(crate) use engine::without_secrets;
pub use engine::{
    BuildError, Built, Commit, Engine, Event, NamedContext, Outline, Progress, Quiet, Request,
    StepId, is_remote, write_layer,
};
pub use files::unpack_context;
pub use instruction::bytes;
pub use platform::platform;
pub use suggest::nearest;

/// A directory of the cases that lie beside the repository; says so where they are absent.
#[cfg(test)]
#[expect(clippy::print_stderr, reason = "a skipped test has to say so")]
fn test_cases(dir: &str) -> Option<std::path::PathBuf> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases");
    let found = root.join(dir);
    if found.is_dir() {
        return Some(found);
    }
    eprintln!("SKIPPED: {} is not there", found.display());
    None
}

//! References, registry, content store, unpacked overlay snapshots, garbage collection.
//!
//! [`ImageStore`] is the room's door: it pulls an image from a registry into a store of layers,
//! each unpacked once into its own directory, and gives containers a stack of those directories
//! with a writable one on top. The order of truth is: data durable, then name durable, then the
//! row of the index, then the reply.

mod archive;
mod auth;
mod built;
mod disk;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod hosts;
mod image;
mod inner;
mod keyring;
mod materialize;
mod options;
mod policy;
mod progress;
mod pull;
mod push;
mod registry;
mod rootfs;
mod rows;
mod state;
mod store;
#[cfg(test)]
mod tests;
pub mod unpack;
mod users;
mod verify;
mod writable;

pub use archive::{ArchiveError, Imported};
pub use auth::{Auth, AuthError};
pub use built::{CachedStep, Draft, Finished};
pub use error::{PullError, PullErrorKind, StoreError};
pub use hosts::NameError;
pub use image::{Image, Layer, Rootfs, Usage};
pub use materialize::LayerWriter;
pub use options::{Options, RegistryOptions};
pub use policy::{Policy, PolicyRule, Requirement};
pub use progress::{LayerState, Progress, ProgressEvent, RunningPull};
pub use registry::Validators;
pub use store::ImageStore;
pub use users::{GroupEntry, PasswdEntry, UserDatabase};
pub use verify::{Finding, Report};
pub use writable::WritableUsage;

//! References, registry, content store, unpacked overlay snapshots, garbage collection.
//!
//! [`ImageStore`] is the room's door: it pulls an image from a registry into a store of layers,
//! each unpacked once into its own directory, and gives containers a stack of those directories
//! with a writable one on top. The order of truth is: data durable, then name durable, then the
//! row of the index, then the reply.

mod auth;
mod disk;
mod error;
mod image;
mod inner;
mod options;
mod progress;
mod pull;
mod registry;
mod rootfs;
mod state;
mod store;
#[cfg(test)]
mod tests;
pub mod unpack;
mod users;

pub use auth::{Auth, AuthError};
pub use error::{PullError, PullErrorKind, StoreError};
pub use image::{Image, Layer, Rootfs, Usage};
pub use options::{Options, RegistryOptions};
pub use progress::{LayerState, Progress, ProgressEvent};
pub use store::ImageStore;
pub use users::{GroupEntry, PasswdEntry, UserDatabase};

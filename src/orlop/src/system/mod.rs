//! `inspect`, `info`, `version`, `system df` and `system prune`: what concerns objects of every kind.

mod df;
mod info;
mod inspect;
mod prune;
mod version;

pub(crate) use df::df;
pub(crate) use info::info;
pub(crate) use inspect::inspect;
pub(crate) use prune::{containers as prune_containers, prune};
pub(crate) use version::{DOCKER, version};

use anyhow::Context;
use serde_json::Value;

/// Reads an answer of the service.
fn read(json: &[u8]) -> anyhow::Result<Value> {
    serde_json::from_slice(json).context("the answer cannot be read")
}

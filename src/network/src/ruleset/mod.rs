//! Our nftables tables: elements that name their owner in static rules.
//!
//! A table is laid out once, with the first element; every attachment after that adds and removes
//! elements of sets and maps only, in one transaction, however many rules and pods there are. The
//! comment of an element holds `<container id> <interface> <network>`, so that removal needs to
//! know nothing else. The table goes with its last element.

mod error;
pub(crate) mod isolation;
mod layout;
pub(crate) mod localnet;
pub(crate) mod nat;
mod owner;
mod segment;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use error::RulesetError;
pub(crate) use layout::{Claim, Entry, Layout, Removed, Value};
pub(crate) use owner::Owner;
pub(crate) use segment::Segment;

//! Raw requests to types that cannot be wrong. Every refusal names the field, the value and the
//! remedy, and nothing has happened yet when it is given.

mod container;
mod mounts;
mod namespaces;
mod ports;
mod resources;
mod sandbox;
mod security;
mod sysctl;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use container::container;
pub(crate) use resources::changed as changed_resources;

pub(crate) use sandbox::{SandboxRequest, sandbox};

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A required part is not there.
    #[error("{field} is missing: {remedy}")]
    Missing {
        /// Path of the field in the request.
        field: String,
        /// What to do.
        remedy: String,
    },
    /// A value breaks a rule.
    #[error("{field} {value:?} is not valid: {remedy}")]
    Value {
        /// Path of the field in the request.
        field: String,
        /// The value, cut to a printable length.
        value: String,
        /// What would be right.
        remedy: String,
    },
    /// A name of an image that is none; the text says why.
    #[error("{field} is not valid: {why}")]
    Image {
        /// Path of the field in the request.
        field: String,
        /// From the reader of references.
        why: String,
    },
    /// Well-formed, but this runtime cannot do it (yet).
    #[error("{field} {value:?} is not supported: {remedy}")]
    Unsupported {
        /// Path of the field in the request.
        field: String,
        /// The value, cut to a printable length.
        value: String,
        /// What to do instead.
        remedy: String,
    },
}

type Result<T> = std::result::Result<T, Invalid>;

fn missing(field: impl Into<String>, remedy: &str) -> Invalid {
    Invalid::Missing { field: field.into(), remedy: remedy.into() }
}

fn bad(field: impl Into<String>, value: impl std::fmt::Display, remedy: &str) -> Invalid {
    Invalid::Value { field: field.into(), value: cut(value), remedy: remedy.into() }
}

fn unsupported(field: impl Into<String>, value: impl std::fmt::Display, remedy: &str) -> Invalid {
    Invalid::Unsupported { field: field.into(), value: cut(value), remedy: remedy.into() }
}

/// What speaks of another system than this one is not silently left out.
pub(crate) fn no_windows(field: &str, given: bool) -> Result<()> {
    if given {
        return Err(unsupported(field, "its settings", "this is a Linux node: use linux"));
    }
    Ok(())
}

fn cut(value: impl std::fmt::Display) -> String {
    value.to_string().chars().take(120).collect()
}

/// What this node can do, where a request may ask for more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Pods may have user namespaces.
    pub user_namespaces: bool,
    /// They also work in the host's network.
    pub user_namespaces_host_network: bool,
    /// Groups of a container's process can be chosen.
    pub supplemental_groups: bool,
    /// The kernel can make a mount and all beneath it read-only.
    pub recursive_read_only: bool,
    /// The systemd cgroup driver is in use: parents are slices.
    pub systemd: bool,
}

/// An enum value by its number, which must be one that CRI defines.
pub(crate) fn enumeration<E: TryFrom<i32>>(field: &str, value: i32) -> Result<E> {
    E::try_from(value).map_err(|_| bad(field, value, "use a value that CRI v1 defines"))
}

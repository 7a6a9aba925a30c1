//! Identifiers of objects that Orlop makes. They appear in paths, cgroup names and socket names, so
//! their alphabet is closed: nothing that a path or a shell could read differently is an id.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kind} id {value:?} is not valid: use 1 to 64 characters of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"
)]
pub struct IdError {
    kind: &'static str,
    value: String,
}

fn valid(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=64).contains(&bytes.len())
        && (bytes[0].is_ascii_lowercase() || bytes[0].is_ascii_digit())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(b))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads an id, refusing anything outside the closed alphabet.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError { kind: $kind, value: text.chars().take(80).collect() })
                }
            }

            /// An id from 32 random bytes: 64 lower-case hexadecimal digits, as the field has them.
            pub fn from_random(bytes: [u8; 32]) -> Self {
                Self(bytes.iter().map(|b| format!("{b:02x}")).collect())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 13 characters, as people see it in lists.
            pub fn short(&self) -> &str {
                &self.0[..self.0.len().min(13)]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// A pod sandbox.
    SandboxId,
    "sandbox"
);
id!(
    /// A container in a sandbox.
    ContainerId,
    "container"
);
id!(
    /// A further process in a container, started by exec.
    ExecId,
    "exec"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_is_closed() {
        for bad in ["", "..", ".", "-a", "a/b", "A", "a b", "a\n", "é", &"a".repeat(65)] {
            assert!(ContainerId::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "0", "web-1", "a.b_c", &"f".repeat(64)] {
            assert_eq!(ContainerId::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn random_ids_are_64_hex_digits() {
        assert_eq!(SandboxId::from_random([0xab; 32]).as_str(), "ab".repeat(32));
    }
}

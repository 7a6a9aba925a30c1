//! Names of images: `[registry[:port]/]repository[:tag][@digest]`.
//!
//! The grammar is that of the distribution project's reference package as people know it from
//! Docker: a first component with a dot, a colon or the name `localhost` is a registry, anything
//! else belongs to Docker Hub, where a single name lives under `library/`.

use crate::{Digest, DigestError};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text breaks the grammar.
    #[error("image reference {value:?} is not valid: {why}")]
    Grammar {
        /// What was given, cut to a printable length.
        value: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The part behind `@` is no digest.
    #[error("image reference {value:?} is not valid")]
    Digest {
        /// What was given, cut to a printable length.
        value: String,
        /// What is wrong with its digest.
        #[source]
        source: DigestError,
    },
}

/// A normalised reference: the registry and at least one of tag and digest are always there
/// (`nginx` is `docker.io/library/nginx:latest`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

const DOCKER_HUB: &str = "docker.io";

impl Reference {
    /// Reads and normalises a reference.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let shown = || text.chars().take(120).collect::<String>();
        let bad = |why| ReferenceError::Grammar { value: shown(), why };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest)
                    .map_err(|source| ReferenceError::Digest { value: shown(), source })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !valid_tag(tag)) {
            return Err(bad(
                "a tag has 1 to 128 characters of A-Z, a-z, 0-9, '_', '.' and '-', and starts with a letter, a digit or '_'",
            ));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (if first == "index.docker.io" { DOCKER_HUB } else { first }, rest.to_owned())
            }
            Some(_) => (DOCKER_HUB, name.to_owned()),
            None => (DOCKER_HUB, format!("library/{name}")),
        };
        if !valid_registry(registry) {
            return Err(bad("the registry must be a host name or address with an optional port"));
        }
        let repository = match (registry, repository.contains('/')) {
            (DOCKER_HUB, false) => format!("library/{repository}"),
            _ => repository,
        };
        if repository.len() + registry.len() > 255 || !repository.split('/').all(valid_component) {
            return Err(bad(
                "a repository has components of a-z and 0-9, separated inside by '.', '_', '__' or dashes, joined by '/', at most 255 characters",
            ));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// Host and port of the registry, `docker.io` where none was given.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository without its registry, `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` where neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest behind `@`.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository, `docker.io/library/nginx`: the name that tags and digests share.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `name@digest` for a digest of this repository.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest),
        }
    }
}

fn valid_tag(tag: &str) -> bool {
    let bytes = tag.as_bytes();
    (1..=128).contains(&bytes.len())
        && !b".-".contains(&bytes[0])
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b))
}

fn valid_registry(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            if port.parse::<u16>().is_err() || !port.bytes().all(|b| b.is_ascii_digit()) {
                return false;
            }
            host
        }
        _ => registry,
    };
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    !host.is_empty()
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// Letters and digits, with single separators between them: `.`, `_`, `__`, or any run of dashes.
fn valid_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if bytes.is_empty() || !word(bytes[0]) || !word(bytes[bytes.len() - 1]) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii() && word(c as u8))
        .filter(|gap| !gap.is_empty())
        .all(|gap| matches!(gap, "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, full) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".to_owned()),
            ("docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
            ("index.docker.io/a/b", "docker.io/a/b:latest".to_owned()),
            ("a/b", "docker.io/a/b:latest".to_owned()),
            ("localhost/a", "localhost/a:latest".to_owned()),
            ("localhost:5000/a/b/c:T_1", "localhost:5000/a/b/c:T_1".to_owned()),
            ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest".to_owned()),
            ("[::1]:5000/x", "[::1]:5000/x:latest".to_owned()),
            (&format!("r.io/a@{digest}"), format!("r.io/a@{digest}")),
            (&format!("r.io/a:t@{digest}"), format!("r.io/a:t@{digest}")),
            ("r.io/a__b/c-.d".trim_end_matches("-.d"), "r.io/a__b/c:latest".to_owned()),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), full, "{text}");
        }
    }

    #[test]
    fn refuses() {
        for bad in [
            "",
            ":",
            "a:",
            "a@",
            "A",
            "a//b",
            "/a",
            "a/",
            "a b",
            "a:b:c",
            "a..b",
            "a.-b",
            "-a",
            "r.io:x/a",
            "r.io:99999/a",
            "r.io/../a",
            "a@sha256:x",
            "a:\n",
            "r_.io/a",
            "é",
            ".io/a",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
    }
}

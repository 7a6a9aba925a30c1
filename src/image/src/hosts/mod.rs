//! Which places a name is fetched from: what the operator wrote in `hosts.toml` trees (as
//! containerd reads them) and in `registries.conf` (version 2, as CRI-O and podman read it), read
//! anew for every pull, so that a change counts at once.

mod registries;
mod tree;

pub use registries::NameError;
pub(crate) use registries::{Registries, ShortName};

use crate::{PullErrorKind as Kind, RegistryOptions};
use orlop_model::Reference;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One host to ask for one repository, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Whose credentials may be shown there: the registry's name where it is the registry's own
    /// host, else the host itself.
    pub(crate) registry: String,
    /// `https` or `http`; `None` where the host has to be asked which of the two it speaks.
    pub(crate) scheme: Option<&'static str>,
    /// Host and port.
    pub(crate) host: String,
    /// Path of the API, with a slash at both ends.
    pub(crate) path: String,
    /// The repository there.
    pub(crate) repository: String,
    /// The registry that a mirror stands for, sent with every request.
    pub(crate) namespace: Option<String>,
    /// What it may be asked.
    pub(crate) able: Capabilities,
    /// How the connection is made.
    pub(crate) transport: Transport,
    /// Whether this is the registry itself and not a mirror.
    pub(crate) own: bool,
}

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Content by digest.
    pub(crate) pull: bool,
    /// The digest of a tag.
    pub(crate) resolve: bool,
    /// To take content.
    pub(crate) push: bool,
}

impl Capabilities {
    pub(crate) const ALL: Self = Self { pull: true, resolve: true, push: true };
}

/// How a connection is made and what goes with its requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Transport {
    /// PEM files of certificate authorities beside the host's own and the configured ones.
    pub(crate) ca: Vec<PathBuf>,
    /// Certificate and key files; without the second, both are in the first.
    pub(crate) client: Vec<(PathBuf, Option<PathBuf>)>,
    /// Whoever answers is believed.
    pub(crate) skip_verify: bool,
    /// Further headers.
    pub(crate) headers: Vec<(String, String)>,
    /// Time to make a connection, where it is not the usual one.
    pub(crate) dial_timeout: Option<Duration>,
    /// Address of a proxy, instead of what the environment says.
    pub(crate) proxy: Option<String>,
}

impl Transport {
    /// What of it may be used at another place that a redirect led to: more trust in certificates,
    /// no identity of ours.
    pub(crate) fn elsewhere(&self, same_host: bool) -> Self {
        Self {
            ca: self.ca.clone(),
            skip_verify: self.skip_verify && same_host,
            dial_timeout: self.dial_timeout,
            ..Self::default()
        }
    }
}

/// A repository at a registry, as `registries.conf` may have rewritten it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) registry: String,
    pub(crate) repository: String,
    /// TLS without verification, or none at all.
    pub(crate) insecure: bool,
    /// The registry itself, not a mirror.
    pub(crate) own: bool,
}

/// All hosts for a reference, in order. Reads files; blocking, but short.
pub(crate) fn endpoints(
    reference: &Reference,
    options: &RegistryOptions,
) -> Result<Vec<Endpoint>, Kind> {
    let sources = match &options.registries_conf {
        Some(file) => Registries::load(file)?.sources(reference)?,
        None => vec![Source {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            insecure: false,
            own: true,
        }],
    };
    let mut found = Vec::new();
    for source in sources {
        found.extend(tree::endpoints(&source, options)?);
    }
    Ok(found)
}

/// How many bytes of `name` (`registry/path`) a prefix takes, where it matches at a boundary.
/// `*.domain` stands for all registries below a domain.
pub(crate) fn covers(prefix: &str, name: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        None => name.strip_prefix(prefix).map(|_| prefix.len())?,
        Some(domain) => {
            let host = name.split('/').next().unwrap_or_default();
            let bare = host.split(':').next().unwrap_or_default();
            let whole = if domain.contains(':') { host } else { bare };
            whole.strip_suffix(domain).filter(|sub| !sub.is_empty())?;
            whole.len()
        }
    };
    (end == name.len() || name[end..].starts_with(['/', ':'])).then_some(end)
}

/// An error in a file of the operator's.
fn wrong(file: &Path, why: impl std::fmt::Display) -> Kind {
    Kind::Configuration { file: file.to_owned(), message: why.to_string() }
}

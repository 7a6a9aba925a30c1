//! The keys of `[images]`.

use anyhow::{Context, bail};
use orlop_image::unpack::{InflateLimits, Limits as UnpackLimits};
use orlop_image::{Options, Policy as ImagePolicy, PolicyRule, RegistryOptions, Requirement};
use orlop_model::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Images {
    /// Registries spoken to in plain HTTP.
    pub(crate) insecure_registries: Vec<String>,
    /// PEM files of further certificate authorities.
    pub(crate) ca_files: Vec<PathBuf>,
    /// Trees of `<registry>/hosts.toml` as containerd reads them, re-read for every pull.
    pub(crate) hosts_dirs: Vec<PathBuf>,
    /// A `registries.conf` of version 2 as CRI-O and podman read it; `None`: not read.
    pub(crate) registries_conf: Option<PathBuf>,
    /// Files with credentials like Docker's `config.json`, for pulls that bring none.
    pub(crate) auth_files: Vec<PathBuf>,
    /// Layers fetched and unpacked at once; `None`: by the number of processors.
    pub(crate) concurrent_layers: Option<usize>,
    /// Connections for one big layer.
    pub(crate) layer_connections: usize,
    /// Images that the kubelet's garbage collection must leave.
    pub(crate) pinned: Vec<String>,
    /// Token services beside a registry's own that may see its credentials: hosts (and ports) by
    /// registry.
    pub(crate) token_hosts: BTreeMap<String, Vec<String>>,
    pub(crate) limits: Limits,
    pub(crate) policy: Policy,
}

/// What an image may be at most; far above any real one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Members of a layer.
    pub(crate) layer_entries: u64,
    /// Bytes of an unpacked layer.
    pub(crate) layer_bytes: u64,
    /// Bytes out for a byte in, once 4 GiB came out.
    pub(crate) inflate_ratio: u64,
    /// Components of a path.
    pub(crate) path_depth: usize,
    /// Bytes of the extended attributes of one member.
    pub(crate) xattr_bytes: usize,
}

/// Which images may be pulled and run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policy {
    /// For what no rule is about: `allow` or `deny`.
    pub(crate) default: Demand,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// `registry`, `registry/path` or `*.domain`; the longest that fits counts.
    pub(crate) prefix: String,
    pub(crate) require: Demand,
    /// With `signed`: PEM files of public keys.
    #[serde(default)]
    pub(crate) keys: Vec<PathBuf>,
    /// With `signed`: which repository the signature must name; `*`: any.
    #[serde(default)]
    pub(crate) identity: Option<String>,
    /// With `digests`: those that are allowed.
    #[serde(default)]
    pub(crate) digests: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Demand {
    #[default]
    Allow,
    Deny,
    Digests,
    Signed,
}

impl Default for Images {
    fn default() -> Self {
        let registry = RegistryOptions::default();
        Self {
            insecure_registries: registry.insecure,
            ca_files: registry.ca_files,
            hosts_dirs: registry.hosts_dirs,
            registries_conf: registry.registries_conf,
            auth_files: registry.auth_files,
            concurrent_layers: None,
            layer_connections: registry.layer_connections,
            pinned: Vec::new(),
            token_hosts: BTreeMap::new(),
            limits: Limits::default(),
            policy: Policy::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let (unpack, inflate) = (UnpackLimits::default(), InflateLimits::default());
        Self {
            layer_entries: unpack.entries,
            layer_bytes: unpack.bytes,
            inflate_ratio: inflate.ratio,
            path_depth: unpack.path_depth,
            xattr_bytes: unpack.xattr_bytes,
        }
    }
}

impl Images {
    /// How the store is opened; says what is wrong with the keys.
    pub(crate) fn options(&self, root: &Path) -> anyhow::Result<Options> {
        let mut options = Options { root: root.to_owned(), ..Options::default() };
        let registry = &mut options.registry;
        registry.insecure.clone_from(&self.insecure_registries);
        registry.ca_files.clone_from(&self.ca_files);
        registry.hosts_dirs.clone_from(&self.hosts_dirs);
        registry.registries_conf.clone_from(&self.registries_conf);
        registry.auth_files.clone_from(&self.auth_files);
        let hosts = self.token_hosts.iter();
        registry.token_hosts = hosts
            .flat_map(|(registry, to)| to.iter().map(|host| (registry.clone(), host.clone())))
            .collect();
        if !(1..=16).contains(&self.layer_connections) {
            let number = self.layer_connections;
            bail!("images.layer_connections {number} is not valid: use a number from 1 to 16");
        }
        registry.layer_connections = self.layer_connections;
        options.concurrent_layers = self.concurrent_layers.unwrap_or(options.concurrent_layers);
        options.pinned.clone_from(&self.pinned);
        let limits = &self.limits;
        options.limits.entries = limits.layer_entries;
        options.limits.bytes = limits.layer_bytes;
        options.limits.path_depth = limits.path_depth;
        options.limits.xattr_bytes = limits.xattr_bytes;
        options.inflate.bytes = limits.layer_bytes;
        options.inflate.ratio = limits.inflate_ratio.max(1);
        options.policy = self.policy.options()?;
        Ok(options)
    }
}

impl Policy {
    fn options(&self) -> anyhow::Result<ImagePolicy> {
        let default = match self.default {
            Demand::Allow => Requirement::Allow,
            Demand::Deny => Requirement::Deny,
            Demand::Digests | Demand::Signed => {
                bail!(
                    "images.policy.default is not valid: use \"allow\" or \"deny\", and rules for the rest"
                )
            }
        };
        let rules = self.rules.iter().map(Rule::options).collect::<anyhow::Result<_>>()?;
        Ok(ImagePolicy { rules, default })
    }
}

impl Rule {
    fn options(&self) -> anyhow::Result<PolicyRule> {
        let prefix = &self.prefix;
        if prefix.is_empty() || prefix.contains("://") {
            bail!(
                "images.policy: prefix {prefix:?} is not valid: write a registry, or a registry and a path, without a scheme"
            );
        }
        let require = match self.require {
            Demand::Allow => Requirement::Allow,
            Demand::Deny => Requirement::Deny,
            Demand::Digests => {
                let parse = |text: &String| {
                    Digest::parse(text).with_context(|| format!("images.policy: prefix {prefix:?}"))
                };
                Requirement::Digests(self.digests.iter().map(parse).collect::<anyhow::Result<_>>()?)
            }
            Demand::Signed if self.keys.is_empty() => {
                bail!("images.policy: prefix {prefix:?}: signed needs keys")
            }
            Demand::Signed => {
                Requirement::Signed { keys: self.keys.clone(), identity: self.identity.clone() }
            }
        };
        let of_signed = self.require == Demand::Signed;
        if !of_signed && (!self.keys.is_empty() || self.identity.is_some()) {
            bail!("images.policy: prefix {prefix:?}: keys and identity go with signed only");
        }
        if self.require != Demand::Digests && !self.digests.is_empty() {
            bail!("images.policy: prefix {prefix:?}: digests go with require = \"digests\" only");
        }
        Ok(PolicyRule { prefix: prefix.clone(), require })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> anyhow::Result<Options> {
        toml::from_str::<Images>(text)?.options(Path::new("/r"))
    }

    #[test]
    fn a_policy() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let text = format!(
            "[policy]\ndefault = 'deny'\n[[policy.rules]]\nprefix = 'r.example'\nrequire = 'signed'\nkeys = ['/k.pub']\nidentity = '*'\n[[policy.rules]]\nprefix = 'd.example/x'\nrequire = 'digests'\ndigests = ['{digest}']"
        );
        let policy = options(&text).unwrap().policy;
        assert_eq!((policy.rules.len(), policy.default), (2, Requirement::Deny));
        let signed =
            Requirement::Signed { keys: vec!["/k.pub".into()], identity: Some("*".into()) };
        assert_eq!(policy.rules[0].require, signed);
        assert_eq!(
            policy.rules[1].require,
            Requirement::Digests(vec![Digest::parse(&digest).unwrap()])
        );
    }

    #[test]
    fn refuses() {
        let rule = |more: &str| format!("[[policy.rules]]\nprefix = 'r.example'\n{more}");
        for (text, word) in [
            ("layer_connections = 0".to_owned(), "1 to 16"),
            ("[policy]\ndefault = 'signed'".to_owned(), "allow"),
            (rule("require = 'signed'"), "needs keys"),
            (rule("require = 'maybe'"), "maybe"),
            (rule("require = 'allow'\nkeys = ['/k']"), "signed only"),
            (rule("require = 'deny'\ndigests = ['x']"), "digests"),
            (rule("require = 'digests'\ndigests = ['x']"), "r.example"),
            ("[[policy.rules]]\nprefix = 'https://x'\nrequire = 'deny'".to_owned(), "scheme"),
            ("[[policy.rules]]\nrequire = 'deny'".to_owned(), "prefix"),
            ("[limits]\nlayers = 1".to_owned(), "layers"),
        ] {
            let error = format!("{:#}", options(&text).unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}

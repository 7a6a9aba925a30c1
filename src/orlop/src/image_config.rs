//! The keys of `[images]`.

use crate::config::range;
use crate::config::schema::{List, Sub, settings};
use crate::config::value::{Size, words};
use anyhow::{Context, bail};
use orlop_image::unpack::{InflateLimits, Limits as UnpackLimits};
use orlop_image::{Options, Policy as ImagePolicy, PolicyRule, RegistryOptions, Requirement};
use orlop_model::Digest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

settings! {
    /// Images and registries.
    pub(crate) struct Images {
        /// Registries, as HOST or HOST:PORT, that are spoken to in plain HTTP. Loopback always may be.
        insecure_registries: Vec<String> = RegistryOptions::default().insecure;
        /// PEM files of certificate authorities that are trusted beside the host's own.
        ca_files: Vec<PathBuf> = RegistryOptions::default().ca_files;
        /// Directories with `REGISTRY/hosts.toml` files as containerd reads them, read again for
        /// every pull.
        hosts_dirs: Vec<PathBuf> = RegistryOptions::default().hosts_dirs;
        /// A `registries.conf` of version 2 as CRI-O and podman read it; not read without it.
        registries_conf: Option<PathBuf> = RegistryOptions::default().registries_conf;
        /// Files with credentials like Docker's `config.json`, for pulls that bring none.
        auth_files: Vec<PathBuf> = RegistryOptions::default().auth_files;
        /// Layers that are fetched and unpacked at once, from 1 to 64; without it by the number of
        /// processors.
        concurrent_layers: Option<usize> = None,
            check |n| n.map_or(Ok(()), |n| range(n, 1, 64));
        /// Connections for one big layer, from 1 to 16.
        layer_connections: usize = RegistryOptions::default().layer_connections,
            check |n| range(*n, 1, 16);
        /// Images that the kubelet's garbage collection must leave, by name, or by its beginning and `*`.
        pinned: Vec<String> = Vec::new();
        /// Token services beside a registry's own that may see its credentials: lists of HOST or
        /// HOST:PORT by registry.
        token_hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        /// What an image may be at most; far above any real one.
        limits: Sub<Limits> = Sub::default();
        /// Which images may be pulled and run.
        policy: Sub<Policy> = Sub::default();
    }
}

settings! {
    /// What an image may be at most.
    pub(crate) struct Limits {
        /// Members of a layer.
        layer_entries: u64 = UnpackLimits::default().entries;
        /// Size of an unpacked layer.
        layer_bytes: Size = Size(UnpackLimits::default().bytes);
        /// Bytes out for a byte in, once 4 GiB came out; at least 1.
        inflate_ratio: u64 = InflateLimits::default().ratio,
            check |n| if *n == 0 { Err("use at least 1".into()) } else { Ok(()) };
        /// Components of a path.
        path_depth: usize = UnpackLimits::default().path_depth;
        /// Bytes of the extended attributes of one member.
        xattr_bytes: usize = UnpackLimits::default().xattr_bytes;
    }
}

settings! {
    /// Which images may be pulled and run.
    pub(crate) struct Policy {
        /// For what no rule is about: allow or deny.
        default: Demand = Demand::Allow, check |demand| match demand {
            Demand::Allow | Demand::Deny => Ok(()),
            _ => Err("use \"allow\" or \"deny\" here, and rules for the rest".into()),
        };
        /// Rules about some images; the one with the longest prefix that fits counts.
        rules: List<Rule> = List::default(), check |rules| {
            rules.0.iter().try_for_each(|rule| rule.options().map(drop).map_err(|error| format!("{error:#}")))
        };
    }
}

settings! {
    /// A rule about some images.
    pub(crate) struct Rule {
        /// `registry`, `registry/path` or `*.domain`.
        prefix: String = String::new();
        /// What is asked of them.
        require: Demand = Demand::Allow;
        /// With "signed": PEM files of public keys.
        keys: Vec<PathBuf> = Vec::new();
        /// With "signed": which repository the signature must name; `*` for any.
        identity: Option<String> = None;
        /// With "digests": those that are allowed.
        digests: Vec<String> = Vec::new();
    }
}

/// What is asked of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Demand {
    #[default]
    Allow,
    Deny,
    Digests,
    Signed,
}

words!(Demand { "allow" => Allow, "deny" => Deny, "digests" => Digests, "signed" => Signed });

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
        registry.layer_connections = self.layer_connections;
        options.concurrent_layers = self.concurrent_layers.unwrap_or(options.concurrent_layers);
        options.pinned.clone_from(&self.pinned);
        let limits = &self.limits;
        options.limits.entries = limits.layer_entries;
        options.limits.bytes = limits.layer_bytes.0;
        options.limits.path_depth = limits.path_depth;
        options.limits.xattr_bytes = limits.xattr_bytes;
        options.inflate.bytes = limits.layer_bytes.0;
        options.inflate.ratio = limits.inflate_ratio;
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
        let rules = self.rules.0.iter().map(Rule::options).collect::<anyhow::Result<_>>()?;
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
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("orlop.toml");
        std::fs::write(&file, text)?;
        let arguments = crate::cli::SettingArgs { config: Some(file), ..Default::default() };
        crate::config::Sources::new(&arguments).load()?.config.image_options()
    }

    #[test]
    fn a_policy() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let text = format!(
            "[images.policy]\ndefault = 'deny'\n[[images.policy.rules]]\nprefix = 'r.example'\nrequire = 'signed'\nkeys = ['/k.pub']\nidentity = '*'\n[[images.policy.rules]]\nprefix = 'd.example/x'\nrequire = 'digests'\ndigests = ['{digest}']"
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
        let rule = |more: &str| format!("[[images.policy.rules]]\nprefix = 'r.example'\n{more}");
        for (text, word) in [
            ("[images]\nlayer_connections = 0".to_owned(), "1 to 16"),
            ("[images.policy]\ndefault = 'signed'".to_owned(), "allow"),
            (rule("require = 'signed'"), "needs keys"),
            (rule("require = 'maybe'"), "maybe"),
            (rule("require = 'allow'\nkeys = ['/k']"), "signed only"),
            (rule("require = 'deny'\ndigests = ['x']"), "digests"),
            (rule("require = 'digests'\ndigests = ['x']"), "r.example"),
            (
                "[[images.policy.rules]]\nprefix = 'https://x'\nrequire = 'deny'".to_owned(),
                "scheme",
            ),
            ("[[images.policy.rules]]\nrequire = 'deny'".to_owned(), "prefix"),
            ("[images.limits]\nlayers = 1".to_owned(), "layers"),
        ] {
            let error = format!("{:#}", options(&text).unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}

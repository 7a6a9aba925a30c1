//! Which images may be here and run: by repository prefix allowed, refused, of listed digests, or
//! signed. Off by default: everything is allowed.

mod sigstore;

pub(crate) use sigstore::{PAYLOAD, Signature, parse_manifest};

use crate::hosts::covers;
use orlop_model::{Digest, Reference};
use std::path::PathBuf;

/// What is demanded of images. The rule with the longest prefix that fits counts.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Rules for repositories.
    pub rules: Vec<PolicyRule>,
    /// For what no rule is about.
    pub default: Requirement,
}

/// A demand for the repositories under a prefix.
#[derive(Debug, Clone)]
pub struct PolicyRule {
    /// `registry`, `registry/path`, or `*.domain` for the registries below it.
    pub prefix: String,
    /// What is demanded.
    pub require: Requirement,
}

/// What an image must have to be pulled and run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing.
    #[default]
    Allow,
    /// It may not be here at all.
    Deny,
    /// One of these digests, of the manifest or the list that was pulled.
    Digests(Vec<Digest>),
    /// A sigstore signature, as cosign stores it beside the image.
    Signed {
        /// PEM files of public keys (ECDSA P-256), of which one must have signed.
        keys: Vec<PathBuf>,
        /// Repository prefix that the signature must name; `*` for any. `None`: the repository that
        /// is pulled from.
        identity: Option<String>,
    },
}

impl Policy {
    /// Whether anything is demanded at all.
    pub(crate) fn is_off(&self) -> bool {
        self.rules.is_empty() && self.default == Requirement::Allow
    }

    /// What is demanded of a repository (`registry/path`).
    pub(crate) fn of(&self, name: &str) -> &Requirement {
        let fitting = self.rules.iter().filter(|rule| covers(&rule.prefix, name).is_some());
        fitting.max_by_key(|rule| rule.prefix.len()).map_or(&self.default, |rule| &rule.require)
    }

    /// Whether content with these digests (of manifests and lists that lead to it) may be here
    /// under that name. Reads key files. Gives the reason why not.
    pub(crate) fn check(
        &self,
        name: &str,
        digests: &[Digest],
        signatures: &[Signature],
    ) -> Result<(), String> {
        match self.of(name) {
            Requirement::Allow => Ok(()),
            Requirement::Deny => Err(format!("the policy allows no image of {name}")),
            Requirement::Digests(listed) => {
                if digests.iter().any(|digest| listed.contains(digest)) {
                    return Ok(());
                }
                Err(format!(
                    "the policy allows listed digests of {name} only, and this is none of them"
                ))
            }
            Requirement::Signed { keys, identity } => {
                sigstore::check(name, digests, signatures, keys, identity.as_deref())
            }
        }
    }

    /// The same for an image that is here, under any of its names.
    pub(crate) fn check_image(
        &self,
        tags: &[String],
        digests: &[String],
        manifests: &[Digest],
        signatures: &[Signature],
    ) -> Result<(), String> {
        if self.is_off() {
            return Ok(());
        }
        let mut reason = None;
        for name in digests.iter().chain(tags) {
            let Ok(reference) = Reference::parse(name) else { continue };
            // Without a digest nothing proves that this is what the registry has.
            let proved = if reference.digest().is_some() { manifests } else { &[] };
            match self.check(&reference.name(), proved, signatures) {
                Ok(()) => return Ok(()),
                Err(why) => reason = reason.or(Some(why)),
            }
        }
        match reason {
            Some(why) => Err(why),
            None if self.default == Requirement::Allow => Ok(()),
            None => {
                Err("it has no name, and the policy does not allow what no rule is about".into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[(&str, Requirement)], default: Requirement) -> Policy {
        let rule = |(prefix, require): &(&str, Requirement)| PolicyRule {
            prefix: (*prefix).into(),
            require: require.clone(),
        };
        Policy { rules: rules.iter().map(rule).collect(), default }
    }

    #[test]
    fn the_longest_prefix_counts() {
        let digest = Digest::parse(&format!("sha256:{}", "ab".repeat(32))).unwrap();
        let other = Digest::parse(&format!("sha256:{}", "cd".repeat(32))).unwrap();
        let policy = policy(
            &[
                ("r.example", Requirement::Allow),
                ("r.example/bad", Requirement::Deny),
                ("r.example/bad/good", Requirement::Digests(vec![digest.clone()])),
                ("*.corp.example", Requirement::Allow),
            ],
            Requirement::Deny,
        );
        for (name, with, allowed) in [
            ("r.example/x", &other, true),
            ("r.example/bad", &digest, false),
            ("r.example/bad/x", &digest, false),
            ("r.example/badly", &other, true),
            ("r.example/bad/good", &digest, true),
            ("r.example/bad/good/er", &other, false),
            ("a.corp.example/x", &other, true),
            ("corp.example/x", &other, false),
            ("evil-r.example/x", &other, false),
        ] {
            let verdict = policy.check(name, std::slice::from_ref(with), &[]);
            assert_eq!(verdict.is_ok(), allowed, "{name}: {verdict:?}");
        }
        let named = |tags: &[&str], digests: &[&str]| {
            let own = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
            policy.check_image(&own(tags), &own(digests), std::slice::from_ref(&digest), &[])
        };
        assert!(named(&["r.example/x:1"], &[]).is_ok());
        // A tag alone proves no digest.
        assert!(named(&["r.example/bad/good:1"], &[]).is_err());
        let by_digest = format!("r.example/bad/good@{digest}");
        assert!(named(&[], &[&by_digest]).is_ok());
        assert!(named(&[], &[]).is_err());
    }
}

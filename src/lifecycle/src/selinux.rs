//! SELinux labels: what a container's processes and files are called where the host enforces a policy.
//!
//! Every pod has a pair of categories that no other pod has, so that its processes reach no other pod's
//! files; the containers of one pod share them.

use crate::{Error, Result};
use orlop_spec::SelinuxLabels;
use orlop_spec::request::SelinuxOptions;
use std::collections::BTreeSet;
use std::path::Path;

/// Categories of a policy with multi-category security: 0 to this, exclusive.
const CATEGORIES: u32 = 1024;
/// Confined by nothing: what privileged containers are.
const PRIVILEGED: &str = "spc_t";

/// The labels that the host's policy gives to containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    process: SelinuxOptions,
    file: SelinuxOptions,
}

impl Policy {
    /// The policy in force; `None`: there is none.
    pub(crate) fn detect() -> Option<Self> {
        Path::new("/sys/fs/selinux/enforce").exists().then(|| {
            let config = std::fs::read_to_string("/etc/selinux/config").unwrap_or_default();
            let name = value(&config, "SELINUXTYPE").unwrap_or("targeted").to_owned();
            let contexts = format!("/etc/selinux/{name}/contexts/lxc_contexts");
            Self::read(&std::fs::read_to_string(contexts).unwrap_or_default())
        })
    }

    /// From the text of `lxc_contexts`, which policies for containers bring; what it lacks is as Fedora's has it.
    fn read(contexts: &str) -> Self {
        let label = |key, default: &str| parse(value(contexts, key).unwrap_or(default));
        Self {
            process: label("process", "system_u:system_r:container_t:s0"),
            file: label("file", "system_u:object_r:container_file_t:s0"),
        }
    }

    /// The labels of a container in a pod whose level is `level`. What is asked for wins, part by part;
    /// the container's parts over the pod's.
    pub(crate) fn labels(
        &self,
        pod: Option<&SelinuxOptions>,
        container: Option<&SelinuxOptions>,
        level: &str,
        privileged: bool,
    ) -> SelinuxLabels {
        let part = |of: fn(&SelinuxOptions) -> &String, default: &str| {
            let asked = [container, pod].into_iter().flatten().map(of);
            asked
                .into_iter()
                .find(|part| !part.is_empty())
                .map_or(default, String::as_str)
                .to_owned()
        };
        let default_type = if privileged { PRIVILEGED } else { &self.process.kind };
        // A privileged one is above all pods; its files are everybody's.
        let own_level = if privileged { "s0" } else { level };
        let level = part(|options| &options.level, own_level);
        let process = format!(
            "{}:{}:{}:{level}",
            part(|options| &options.user, &self.process.user),
            part(|options| &options.role, &self.process.role),
            part(|options| &options.kind, default_type),
        );
        let mount = format!("{}:{}:{}:{level}", self.file.user, self.file.role, self.file.kind);
        SelinuxLabels { process, mount }
    }
}

/// Asks the kernel whether the policy knows a label.
pub(crate) fn check(label: &str) -> Result<()> {
    std::fs::write("/sys/fs/selinux/context", label).map_err(|error| Error::Invalid {
        field: "linux.security_context.selinux_options",
        value: label.to_owned(),
        why: format!("the node's policy does not know it ({error}): use parts that it has"),
    })
}

/// A level that no other pod has. `random` gives numbers; with every pair taken any will do.
pub(crate) fn pick_level(taken: &BTreeSet<String>, mut random: impl FnMut() -> u32) -> String {
    let mut pair = || {
        let first = random() % CATEGORIES;
        let second = (first + 1 + random() % (CATEGORIES - 1)) % CATEGORIES;
        format!("s0:c{},c{}", first.min(second), first.max(second))
    };
    for _ in 0..1000 {
        let level = pair();
        if !taken.contains(&level) {
            return level;
        }
    }
    let all = (0..CATEGORIES).flat_map(|a| (a + 1..CATEGORIES).map(move |b| (a, b)));
    let mut levels = all.map(|(a, b)| format!("s0:c{a},c{b}"));
    levels.find(|level| !taken.contains(level)).unwrap_or_else(pair)
}

/// `user:role:type:level`.
fn parse(label: &str) -> SelinuxOptions {
    let mut parts = label.splitn(4, ':').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    SelinuxOptions { user: next(), role: next(), kind: next(), level: next() }
}

/// The value of a line `key = "value"` or `key=value`.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXTS: &str = "process = \"system_u:system_r:pod_t:s0\"\ncontent = \"x\"\nfile = \"system_u:object_r:pod_file_t:s0\"\n";

    fn options(kind: &str, level: &str) -> SelinuxOptions {
        SelinuxOptions { kind: kind.into(), level: level.into(), ..SelinuxOptions::default() }
    }

    #[test]
    fn labels_follow_the_policy_the_pod_and_the_container() {
        let policy = Policy::read(CONTEXTS);
        let process =
            |pod: Option<&SelinuxOptions>, container: Option<&SelinuxOptions>, privileged| {
                policy.labels(pod, container, "s0:c1,c2", privileged).process
            };
        assert_eq!(process(None, None, false), "system_u:system_r:pod_t:s0:c1,c2");
        let level = options("", "s0:c7,c8");
        assert_eq!(process(Some(&level), None, false), "system_u:system_r:pod_t:s0:c7,c8");
        let kind = options("own_t", "");
        assert_eq!(process(Some(&level), Some(&kind), false), "system_u:system_r:own_t:s0:c7,c8");
        assert_eq!(process(None, None, true), "system_u:system_r:spc_t:s0");
        let mount = policy.labels(Some(&level), None, "s0:c1,c2", false).mount;
        assert_eq!(mount, "system_u:object_r:pod_file_t:s0:c7,c8");
        let default = Policy::read("").labels(None, None, "s0:c1,c2", false);
        assert_eq!(default.process, "system_u:system_r:container_t:s0:c1,c2");
    }

    #[test]
    fn every_pod_has_categories_of_its_own() {
        let mut taken = BTreeSet::new();
        // Numbers that repeat soon: most pairs are taken when they come again.
        let mut state = 1_u32;
        for _ in 0..3000 {
            let level = pick_level(&taken, || {
                state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                state >> 16 & 0x3f
            });
            let (low, high) = level.trim_start_matches("s0:").split_once(',').unwrap();
            let number = |text: &str| text.trim_start_matches('c').parse::<u32>().unwrap();
            assert!(number(low) < number(high) && number(high) < CATEGORIES, "{level}");
            assert!(taken.insert(level));
        }
    }

    /// This kernel has no SELinux: only what a refusal looks like can be seen here.
    #[test]
    fn a_label_that_nobody_knows_is_refused() {
        if Policy::detect().is_none() {
            let error = check("a:b:c:s0").unwrap_err().to_string();
            assert!(error.contains("selinux_options") && error.contains("a:b:c:s0"), "{error}");
        }
    }
}

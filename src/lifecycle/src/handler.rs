//! Runtime handlers of other makers: what their pods are told, and where they run.

use crate::context::Context;
use crate::error::io;
use crate::state::SandboxRecord;
use crate::{ForeignHandler, Result};
use oci_spec::runtime::Spec;
use orlop_task::ForeignRuntime;
use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;

/// What a container is to its pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Role<'a> {
    /// The one that holds the pod.
    Sandbox,
    /// One of the pod's own, with its name and annotations.
    Container(&'a orlop_spec::request::ContainerConfig),
}

impl Context {
    /// The handler, if it is one of another maker.
    pub(crate) fn foreign(&self, handler: &str) -> Option<&ForeignHandler> {
        self.options.runtimes.iter().find(|known| known.name == handler)
    }

    /// The handler as the bundle of a container keeps it.
    pub(crate) fn foreign_runtime(&self, handler: &str, role: Role<'_>) -> Option<ForeignRuntime> {
        let handler = self.foreign(handler)?;
        Some(ForeignRuntime {
            version: 1,
            handler: handler.name.clone(),
            binary: handler.binary.clone(),
            options: handler.options.clone(),
            instance: self.options.run.join("orlop.sock"),
            shared: handler.sandbox && role != Role::Sandbox,
        })
    }

    /// The root file system of sandbox containers: our own binary, which is a static one, as init. Made
    /// once; on the file system of the live state, so that a reboot removes it. Blocks.
    pub(crate) fn pause_root(&self) -> Result<PathBuf> {
        let root = self.options.run.join("pause");
        let init = root.join("orlop-init");
        if init.exists() {
            return Ok(root);
        }
        for name in ["", "dev", "proc", "sys"] {
            let dir = root.join(name);
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir);
            made.map_err(io("making directory", dir))?;
        }
        let new = root.join(format!(".orlop-init.{:x}", u64::from_ne_bytes(suffix())));
        self.launcher.copy_program(&new).map_err(io("writing", &new))?;
        std::fs::set_permissions(&new, Permissions::from_mode(0o555))
            .map_err(io("changing", &new))?;
        std::fs::rename(&new, &init).map_err(io("renaming", &new))?;
        Ok(root)
    }
}

fn suffix() -> [u8; 8] {
    let id = crate::context::random_id();
    id.first_chunk().copied().unwrap_or_default()
}

/// The annotations by which foreign shims know pods and containers, as containerd writes them, and
/// those that the operator lets through. Without a sandbox container each container is on its own: its
/// shim must not look for others of the pod.
pub(crate) fn annotations(
    handler: &ForeignHandler,
    facts: &SandboxRecord,
    role: Role<'_>,
) -> HashMap<String, String> {
    const PREFIX: &str = "io.kubernetes.cri.";
    let mut all: HashMap<String, String> = HashMap::new();
    let mut let_through =
        |patterns: &[String], from: &std::collections::BTreeMap<String, String>| {
            let allowed = from.iter().filter(|(key, _)| patterns.iter().any(|one| fits(one, key)));
            all.extend(allowed.map(|(key, value)| (key.clone(), value.clone())));
        };
    let_through(&handler.pod_annotations, &facts.config.annotations);
    if let Role::Container(config) = role {
        let_through(&handler.container_annotations, &config.annotations);
    }
    let pod = &facts.config.metadata;
    let mut own = vec![
        ("sandbox-name", pod.name.clone()),
        ("sandbox-namespace", pod.namespace.clone()),
        ("sandbox-uid", pod.uid.clone()),
    ];
    if let Role::Container(config) = role {
        own.push(("container-name", config.metadata.name.clone()));
        own.push(("image-name", config.image.image.clone()));
    }
    if handler.sandbox {
        let kind = if role == Role::Sandbox { "sandbox" } else { "container" };
        own.push(("container-type", kind.to_owned()));
        own.push(("sandbox-id", facts.id.to_string()));
        if let (Role::Sandbox, Some(dir)) = (role, &facts.config.log_directory) {
            own.push(("sandbox-log-directory", dir.display().to_string()));
        }
    }
    // Ours last: what the pod says does not decide which pod it is.
    all.extend(own.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)));
    all
}

/// Makes a spec fit for OCI runtimes that fail where we only warn: without CAP_SYS_RESOURCE nobody can
/// go below the daemon's own `oom_score_adj`.
pub(crate) fn fit(spec: &mut Spec) {
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    if effective.is_some_and(|bits| bits & SYS_RESOURCE != 0) {
        return;
    }
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    if let (Some(process), Ok(own)) = (spec.process_mut(), own.trim().parse::<i32>()) {
        let wanted = process.oom_score_adj();
        process.set_oom_score_adj(wanted.map(|wanted| wanted.max(own)));
    }
}

/// Whether a pattern, in which `*` stands for any text, fits a whole key.
fn fits(pattern: &str, key: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == key,
        Some((before, after)) => key.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| rest.get(at..).is_some_and(|rest| fits(after, rest)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::sandbox_facts;
    use crate::test_support::container_config;
    use std::sync::Arc;

    fn handler(sandbox: bool) -> ForeignHandler {
        ForeignHandler {
            name: "vm".into(),
            binary: "/b".into(),
            options: None,
            sandbox,
            pod_annotations: vec!["io.vm.*".into()],
            container_annotations: vec!["exact".into()],
        }
    }

    #[test]
    fn patterns() {
        for (pattern, key, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("a*", "a", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("*.x.*", "a.x.b", true),
            ("*.x.*", "a.y.b", false),
        ] {
            assert_eq!(fits(pattern, key), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn annotations_of_a_pod() {
        let mut facts = sandbox_facts();
        let mut config = (*facts.config).clone();
        config.annotations.insert("io.vm.memory".into(), "1".into());
        config.annotations.insert("other".into(), "2".into());
        config.annotations.insert("io.kubernetes.cri.sandbox-id".into(), "forged".into());
        facts.config = Arc::new(config);
        let mut container = container_config("main");
        container.annotations.insert("exact".into(), "3".into());
        let mut grouped = handler(true);
        grouped.pod_annotations.push("io.kubernetes.*".into());
        let found = annotations(&grouped, &facts, Role::Container(&container));
        let get = |name: &str| found.get(name).map(String::as_str);
        assert_eq!(get("io.vm.memory"), Some("1"));
        assert_eq!(get("other"), None);
        assert_eq!(get("exact"), Some("3"));
        assert_eq!(get("io.kubernetes.cri.container-type"), Some("container"));
        assert_eq!(get("io.kubernetes.cri.sandbox-id"), Some("s1"));
        let found = annotations(&handler(true), &facts, Role::Sandbox);
        assert_eq!(found["io.kubernetes.cri.container-type"], "sandbox");
        assert!(!found.contains_key("exact"));
        let found = annotations(&handler(false), &facts, Role::Container(&container));
        assert!(!found.contains_key("io.kubernetes.cri.sandbox-id"));
    }
}

//! The spec itself, put together from its parts.

use crate::request::{SecurityProfile, UserNamespace};
use crate::{Inputs, Namespace, Namespaces, SpecError, mounts, process, resources};
use oci_spec::runtime::{
    Linux, LinuxNamespace, LinuxNamespaceType, LinuxSeccomp, Process, Root, Spec,
};
use std::collections::HashMap;
use std::path::PathBuf;

const VERSION: &str = "1.2.0";

/// The OCI runtime spec of a container.
pub fn container_spec(inputs: &Inputs<'_>) -> Result<Spec, SpecError> {
    let security = &inputs.container.security;
    if security.privileged && !inputs.sandbox.security.privileged {
        return Err(SpecError::PrivilegedSandbox);
    }
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned())
        .set_annotations(None)
        .set_root(Some(root(security.readonly_rootfs)))
        .set_mounts(Some(mounts::mounts(inputs)?))
        .set_process(Some(process::process(inputs)?))
        .set_hostname((inputs.namespaces.uts == Namespace::New).then(|| inputs.hostname.to_owned()))
        .set_linux(Some(linux(inputs)?));
    Ok(spec)
}

fn root(readonly: bool) -> Root {
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs")).set_readonly(Some(readonly));
    root
}

fn linux(inputs: &Inputs<'_>) -> Result<Linux, SpecError> {
    let security = &inputs.container.security;
    let (masked, readonly) = if security.privileged {
        (Vec::new(), Vec::new())
    } else {
        (security.masked_paths.clone(), security.readonly_paths.clone())
    };
    let mut linux = empty_linux();
    linux
        .set_namespaces(Some(namespaces(inputs.namespaces)))
        .set_cgroups_path(Some(PathBuf::from(inputs.cgroups_path)))
        .set_resources(Some(resources::resources(inputs)))
        .set_devices(Some(resources::devices(inputs.devices)))
        .set_seccomp(seccomp(inputs)?)
        .set_masked_paths(Some(masked))
        .set_readonly_paths(Some(readonly))
        .set_mount_label(inputs.selinux.map(|labels| labels.mount.clone()))
        .set_rootfs_propagation(mounts::root_propagation(&inputs.container.mounts));
    if inputs.namespaces.user != Namespace::Host {
        map_users(&mut linux, inputs.sandbox.security.namespaces.user.as_ref())?;
    }
    Ok(linux)
}

/// Everything unset: oci-spec's own default carries namespaces, masks and resources.
fn empty_linux() -> Linux {
    let mut linux = Linux::default();
    linux
        .set_uid_mappings(None)
        .set_gid_mappings(None)
        .set_sysctl(None)
        .set_resources(None)
        .set_cgroups_path(None)
        .set_namespaces(None)
        .set_devices(None)
        .set_seccomp(None)
        .set_rootfs_propagation(None)
        .set_masked_paths(None)
        .set_readonly_paths(None)
        .set_mount_label(None);
    linux
}

fn map_users(linux: &mut Linux, user: Option<&UserNamespace>) -> Result<(), SpecError> {
    if let Some(user) = user {
        linux
            .set_uid_mappings(Some(mounts::id_mappings(&[user.uids])?))
            .set_gid_mappings(Some(mounts::id_mappings(&[user.gids])?));
    }
    Ok(())
}

fn namespaces(namespaces: &Namespaces) -> Vec<LinuxNamespace> {
    let all = [
        (LinuxNamespaceType::User, &namespaces.user),
        (LinuxNamespaceType::Pid, &namespaces.pid),
        (LinuxNamespaceType::Ipc, &namespaces.ipc),
        (LinuxNamespaceType::Uts, &namespaces.uts),
        (LinuxNamespaceType::Mount, &Namespace::New),
        (LinuxNamespaceType::Network, &namespaces.network),
        (LinuxNamespaceType::Cgroup, &namespaces.cgroup),
    ];
    all.into_iter()
        .filter_map(|(kind, from)| {
            let path = match from {
                Namespace::Host => return None,
                Namespace::New => None,
                Namespace::Path(path) => Some(path.clone()),
            };
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind).set_path(path);
            Some(namespace)
        })
        .collect()
}

/// A profile that was asked for and is not there is an error, never "unconfined" (CVE-2023-2431).
fn seccomp(inputs: &Inputs<'_>) -> Result<Option<LinuxSeccomp>, SpecError> {
    let security = &inputs.container.security;
    let profile = match &security.seccomp {
        _ if security.privileged => return Ok(None),
        None | Some(SecurityProfile::Unconfined) => return Ok(None),
        Some(SecurityProfile::RuntimeDefault) => "runtime/default",
        Some(SecurityProfile::Localhost(path)) => path,
    };
    match inputs.seccomp {
        Some(found) => Ok(Some(found.clone())),
        None => Err(SpecError::SeccompMissing { profile: profile.to_owned() }),
    }
}

/// The spec of a sandbox's init, for pods that share a PID namespace: an empty read-only root, no
/// capabilities, no mounts; the shim's own reaping loop runs in it, so its arguments are a name only.
pub fn sandbox_init_spec(
    namespaces: &Namespaces,
    hostname: &str,
    cgroups_path: &str,
) -> Result<Spec, SpecError> {
    let mut init = process::empty_process();
    init.set_args(Some(vec!["/orlop-init".to_owned()]))
        .set_env(Some(Vec::new()))
        .set_oom_score_adj(Some(-998));
    let mut limits = oci_spec::runtime::LinuxResources::default();
    limits.set_devices(Some(resources::device_rules(&[])));
    let mut linux = empty_linux();
    linux
        .set_namespaces(Some(self::namespaces(namespaces)))
        .set_cgroups_path(Some(PathBuf::from(cgroups_path)))
        .set_resources(Some(limits));
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned())
        .set_annotations(None)
        .set_root(Some(root(true)))
        .set_mounts(Some(Vec::new()))
        .set_process(Some(init))
        .set_hostname((namespaces.uts == Namespace::New).then(|| hostname.to_owned()))
        .set_linux(Some(linux));
    Ok(spec)
}

/// Makes a sandbox's init fit for runtimes that execute a program for it: `/orlop-init init`, with the
/// mounts that they need themselves.
pub fn fit_for_other_runtimes(spec: &mut Spec, annotations: HashMap<String, String>) {
    if let Some(process) = spec.process_mut() {
        process.set_args(Some(vec!["/orlop-init".to_owned(), "init".to_owned()]));
    }
    let mount = |at: &str, kind: &str, options: &[&str]| {
        let mut mount = oci_spec::runtime::Mount::default();
        mount
            .set_destination(at.into())
            .set_typ(Some(kind.to_owned()))
            .set_source(Some(kind.into()))
            .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
        mount
    };
    let mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "noexec", "mode=755", "size=64k"]),
    ];
    spec.set_mounts(Some(mounts)).set_annotations(Some(annotations));
}

/// The process of an exec in a container: the container's own with other arguments.
pub fn process_for_exec(
    spec: &Spec,
    args: &[String],
    terminal: bool,
) -> Result<Process, SpecError> {
    let own = spec
        .process()
        .as_ref()
        .ok_or_else(|| SpecError::Build("the spec has no process".to_owned()))?;
    process::exec(own, args, terminal)
}

//! What a container's process is made from: image, user, namespaces, devices, seccomp profile.

use crate::context::Context;
use crate::error::io;
use crate::sandbox::Sandbox;
use crate::{ContainerState, Error, Result};
use oci_spec::runtime::{LinuxSeccomp, Spec};
use orlop_image::{Image, UserDatabase};
use orlop_model::Signal;
use orlop_spec::request::{
    ContainerConfig, ImageSpec, NamespaceMode, Owner, SecurityProfile, UserNamespace,
};
use orlop_spec::{
    CgroupLayout, DeviceKind, Group, Namespace, Namespaces, ResolvedDevice, User, UserTable,
};
use rustix::fs::{Mode, OFlags};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a record keeps of an image, which may be removed or renamed later.
pub(super) struct ImageFacts {
    tag: Option<String>,
    /// First repository digest, else the id.
    pub(super) reference: String,
    /// As in the image's configuration; empty: root.
    pub(super) user: String,
    /// SIGTERM where the image says nothing that is a signal.
    pub(super) stop_signal: Signal,
}

impl ImageFacts {
    pub(super) fn of(image: &Image) -> Self {
        let config = image.config.config().as_ref();
        let signal = config.and_then(|config| config.stop_signal().clone());
        Self {
            tag: image.repo_tags.first().cloned(),
            reference: image.repo_digests.first().cloned().unwrap_or_else(|| image.id.to_string()),
            user: config.and_then(|config| config.user().clone()).unwrap_or_default(),
            stop_signal: signal.and_then(|name| Signal::parse(&name).ok()).unwrap_or(Signal::TERM),
        }
    }

    /// What ContainerStatus calls the image.
    pub(super) fn name(&self, asked: &ImageSpec) -> String {
        match (&self.tag, asked.user_specified.is_empty()) {
            (Some(tag), _) => tag.clone(),
            (None, false) => asked.user_specified.clone(),
            (None, true) => asked.image.clone(),
        }
    }
}

/// The image's users in the words of the spec room.
pub fn user_table(database: &UserDatabase) -> UserTable {
    let user = |entry: &orlop_image::PasswdEntry| User {
        name: entry.name.clone(),
        uid: entry.uid,
        gid: entry.gid,
        home: entry.home.clone(),
    };
    let group = |entry: &orlop_image::GroupEntry| Group {
        name: entry.name.clone(),
        gid: entry.gid,
        members: entry.members.clone(),
    };
    UserTable {
        users: database.passwd.iter().map(user).collect(),
        groups: database.group.iter().map(group).collect(),
    }
}

/// Path of a cgroup beneath a pod's: with the systemd driver (a parent that is a slice by name) a
/// scope in that slice.
pub(crate) fn cgroup_path(parent: &str, id: &str) -> String {
    if parent.starts_with('/') {
        format!("{}/{id}", parent.trim_end_matches('/'))
    } else {
        format!("{parent}:orlop:{id}")
    }
}

/// A pod has one user namespace, so a container must ask for just that.
pub(super) fn check_user_namespace(sandbox: &Sandbox, config: &ContainerConfig) -> Result<()> {
    let facts = sandbox.facts.get();
    let (pod, own) = (&facts.config.security.namespaces.user, &config.security.namespaces.user);
    if pod == own {
        return Ok(());
    }
    let show = |user: &Option<UserNamespace>| match user {
        None => "the host's".to_owned(),
        Some(UserNamespace { uids, gids }) => format!(
            "users {}:{}:{}, groups {}:{}:{}",
            uids.container_id,
            uids.host_id,
            uids.length,
            gids.container_id,
            gids.host_id,
            gids.length
        ),
    };
    Err(Error::Invalid {
        field: "linux.security_context.namespace_options.userns_options",
        value: show(own),
        why: format!("the pod has another ({}): give its containers the same", show(pod)),
    })
}

/// Path of a pod's cgroup beneath the default parent: with the systemd driver a slice in that slice.
pub(crate) fn pod_cgroup(parent: &str, id: &str) -> String {
    match parent.strip_suffix(".slice") {
        Some(stem) if !parent.starts_with('/') => format!("{stem}-{id}.slice"),
        _ => cgroup_path(parent, id),
    }
}

/// Whether the cgroup `path` lies in `above`, or is it; both paths, or both names of slices.
pub(crate) fn lies_in(path: &str, above: &str) -> bool {
    if path == above || path.starts_with('/') {
        return Path::new(path).starts_with(above);
    }
    let stem = |slice: &str| slice.strip_suffix(".slice").map(|stem| format!("{stem}-"));
    stem(path).zip(stem(above)).is_some_and(|(path, above)| path.starts_with(&above))
}

/// Where each namespace of a container comes from.
pub(super) async fn namespaces(
    context: &Arc<Context>,
    sandbox: &Arc<Sandbox>,
    config: &ContainerConfig,
) -> Result<Namespaces> {
    let mut namespaces = sandbox.namespaces();
    namespaces.pid = match &config.security.namespaces.pid {
        NamespaceMode::Container => Namespace::New,
        NamespaceMode::Node => Namespace::Host,
        NamespaceMode::Pod => {
            let pid = sandbox.ensure_init(context).await?;
            Namespace::Path(format!("/proc/{pid}/ns/pid").into())
        }
        NamespaceMode::Target(target) => {
            Namespace::Path(target_namespace(context, sandbox, target)?)
        }
    };
    // As the field has it: a private cgroup view where cgroups are unified.
    let unified = context.host.features.cgroup == CgroupLayout::V2;
    let own = config.extras.own_cgroup_namespace.unwrap_or(unified && !config.security.privileged);
    namespaces.cgroup = if own { Namespace::New } else { Namespace::Host };
    if config.extras.own_ipc.is_some() {
        namespaces.ipc = Namespace::New;
    }
    Ok(namespaces)
}

fn target_namespace(context: &Context, sandbox: &Sandbox, target: &str) -> Result<PathBuf> {
    let wrong = |why: &str| Error::Invalid {
        field: "linux.security_context.namespace_options.target_id",
        value: target.chars().take(80).collect(),
        why: why.to_owned(),
    };
    let container =
        context.index.find_container(target)?.ok_or_else(|| wrong("no such container"))?;
    // People may join any of their containers; a pod's own are its own.
    if container.owner != sandbox.owner
        || (sandbox.owner == Owner::Cri && container.sandbox != sandbox.id)
    {
        return Err(wrong("the container belongs to another pod; name one of the same pod"));
    }
    match (container.state(), container.view().pid) {
        (ContainerState::Running, Some(pid)) => Ok(format!("/proc/{pid}/ns/pid").into()),
        _ => Err(wrong("the container does not run; its PID namespace exists only while it does")),
    }
}

/// The devices that the container may use.
pub(super) fn devices(config: &ContainerConfig) -> Result<Vec<ResolvedDevice>> {
    let mut found = Vec::new();
    if config.security.privileged {
        found = host_devices();
    }
    for device in &config.devices {
        let before = found.len();
        let at = |below: &Path| join(&device.container_path, below);
        collect(&device.host_path, Path::new(""), &at, &device.permissions, &mut found);
        if found.len() == before {
            return Err(Error::Invalid {
                field: "devices.host_path",
                value: device.host_path.display().to_string(),
                why: "there is no device node at or below that path on this node".into(),
            });
        }
    }
    Ok(found)
}

/// All devices of the host, for privileged containers; what every container gets of its own anyway
/// (terminals, shared memory, queues) is left out, and so are links: `/dev/stdin` is whatever the daemon reads from.
fn host_devices() -> Vec<ResolvedDevice> {
    const OWN: [&str; 8] = ["pts", "shm", "mqueue", "fd", "console", "ptmx", ".lxc", ".lxd-mounts"];
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir("/dev") else { return found };
    for entry in entries.flatten() {
        let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if !link && OWN.iter().all(|own| entry.file_name() != *own) {
            let path = entry.path();
            let at = |below: &Path| join(&path, below);
            collect(&path, Path::new(""), &at, "rwm", &mut found);
        }
    }
    found
}

fn join(base: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { base.to_owned() } else { base.join(below) }
}

/// The device at `root/below`, or those in that directory. Links inside directories are not followed.
fn collect(
    root: &Path,
    below: &Path,
    at: &dyn Fn(&Path) -> PathBuf,
    permissions: &str,
    found: &mut Vec<ResolvedDevice>,
) {
    let path = join(root, below);
    let top = below.as_os_str().is_empty();
    let meta = if top { std::fs::metadata(&path) } else { std::fs::symlink_metadata(&path) };
    let Ok(meta) = meta else { return };
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => DeviceKind::Char,
        kind if kind.is_block_device() => DeviceKind::Block,
        kind if kind.is_dir() => {
            let Ok(entries) = std::fs::read_dir(&path) else { return };
            for entry in entries.flatten() {
                collect(root, &below.join(entry.file_name()), at, permissions, found);
            }
            return;
        }
        _ => return,
    };
    found.push(ResolvedDevice {
        container_path: at(below),
        kind,
        major: rustix::fs::major(meta.rdev()),
        minor: rustix::fs::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        permissions: permissions.to_owned(),
    });
}

/// The profile that the request names. The default one depends on the capabilities that the spec
/// will have, so it is a stand-in here; see [`fit_default_seccomp`].
pub(super) fn seccomp(dir: &Path, config: &ContainerConfig) -> Result<Option<LinuxSeccomp>> {
    match &config.security.seccomp {
        None | Some(SecurityProfile::Unconfined) => Ok(None),
        Some(SecurityProfile::RuntimeDefault) => Ok(Some(LinuxSeccomp::default())),
        Some(SecurityProfile::Localhost(name)) => {
            let path = dir.join(name);
            let wrong = |why: String| Error::Invalid {
                field: "linux.security_context.seccomp.localhost_ref",
                value: path.display().to_string(),
                why,
            };
            let text = match read_profile(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                    return Err(wrong(error.to_string()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(wrong(
                        "there is no such profile on this node: install it first".into(),
                    ));
                }
                other => other.map_err(io("reading", &path))?,
            };
            let profile = serde_json::from_slice(&text)
                .map_err(|error| wrong(format!("it is not an OCI seccomp profile: {error}")))?;
            Ok(Some(profile))
        }
    }
}

/// Reads a profile that an administrator put on the node: a regular file (a pipe is not waited for)
/// of a bounded size.
fn read_profile(path: &Path) -> std::io::Result<Vec<u8>> {
    const LIMIT: u64 = 4 << 20;
    let wrong = |why| std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(wrong("it is not a regular file"));
    }
    if found.len() > LIMIT {
        return Err(wrong("it is larger than 4 MiB"));
    }
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text)?;
    Ok(text)
}

/// Puts the default profile for the process's capabilities in the place of the stand-in.
pub(super) fn fit_default_seccomp(config: &ContainerConfig, spec: &mut Spec) {
    if config.security.seccomp == Some(SecurityProfile::RuntimeDefault) {
        set_default_seccomp(spec);
    }
}

/// Gives a spec that has a seccomp profile the default one for its process's capabilities.
pub fn set_default_seccomp(spec: &mut Spec) {
    let capabilities = spec.process().as_ref().and_then(|process| process.capabilities().as_ref());
    let bounding = capabilities.and_then(|sets| sets.bounding().as_ref());
    let mut names: Vec<String> = bounding
        .into_iter()
        .flatten()
        .filter_map(|capability| serde_json::to_value(capability).ok())
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect();
    names.sort();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(linux) = spec.linux_mut()
        && linux.seccomp().is_some()
    {
        linux.set_seccomp(Some(orlop_sys::seccomp::default_profile(&names)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::container_config;
    use orlop_spec::request::Device;

    #[test]
    fn groups_of_pods() {
        assert_eq!(pod_cgroup("/orlop", "p"), "/orlop/p");
        assert_eq!(pod_cgroup("orlop.slice", "p"), "orlop-p.slice");
        for (path, above, lies) in [
            ("/a/b", "/a", true),
            ("/ab", "/a", false),
            ("a-b.slice", "a.slice", true),
            ("a.slice", "a.slice", true),
            ("ab.slice", "a.slice", false),
            ("a.slice", "a-b.slice", false),
            ("a-b.slice", "/a", false),
        ] {
            assert_eq!(lies_in(path, above), lies, "{path} in {above}");
        }
    }

    #[test]
    fn cgroup_paths() {
        for (parent, expected) in [
            ("/orlop/s", "/orlop/s/c"),
            ("/orlop/s/", "/orlop/s/c"),
            ("kubepods-pod1.slice", "kubepods-pod1.slice:orlop:c"),
        ] {
            assert_eq!(cgroup_path(parent, "c"), expected);
        }
    }

    #[test]
    fn devices_of_the_host() {
        let mut config = container_config("c");
        config.devices = vec![Device {
            container_path: "/dev/nothing".into(),
            host_path: "/dev/null".into(),
            permissions: "rw".into(),
        }];
        let found = devices(&config).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].major, found[0].minor, found[0].kind), (1, 3, DeviceKind::Char));
        assert_eq!(found[0].container_path, Path::new("/dev/nothing"));
        config.devices[0].host_path = "/dev/no-such-device".into();
        assert!(devices(&config).unwrap_err().to_string().contains("/dev/no-such-device"));
        config.devices.clear();
        config.security.privileged = true;
        let all = devices(&config).unwrap();
        assert!(all.iter().any(|device| device.container_path == Path::new("/dev/null")));
        assert!(all.iter().all(|device| !device.container_path.starts_with("/dev/pts")));
        assert!(all.iter().all(|device| !device.container_path.is_symlink()));
    }

    #[test]
    fn a_missing_profile_is_named() {
        let mut config = container_config("c");
        config.security.seccomp = Some(SecurityProfile::Localhost("none.json".into()));
        let error = seccomp(Path::new("/nowhere"), &config).unwrap_err();
        assert!(error.to_string().contains("/nowhere/none.json"), "{error}");
    }

    #[test]
    fn a_profile_is_a_small_regular_file() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe.json");
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, Mode::RWXU, 0).unwrap();
        let large = std::fs::File::create(dir.path().join("large.json")).unwrap();
        large.set_len((4 << 20) + 1).unwrap();
        for (name, why) in [("pipe.json", "regular"), ("large.json", "4 MiB"), (".", "regular")] {
            let mut config = container_config("c");
            config.security.seccomp = Some(SecurityProfile::Localhost(name.into()));
            let error = seccomp(dir.path(), &config).unwrap_err();
            assert!(error.to_string().contains(why), "{name}: {error}");
        }
    }
}

//! The container's file systems: from the spec to the plan.

use super::error::{Result, StageError, Step};
use super::parent::RootfsMount;
use super::plan::{
    Attributes, CgroupView, Container, IdMaps, Idmap, LayerIds, Mount, MountKind, Propagation,
    Rootfs,
};
use super::translate::{self, in_bundle};
use oci_spec::runtime::{self as oci, Spec};
use orlop_sys::mount;
use orlop_sys::process::Namespaces;
use std::path::{Component, Path, PathBuf};

/// The container's part of the plan.
pub(super) fn container(
    spec: &Spec,
    bundle: &Path,
    rootfs_mounts: &[RootfsMount],
    init_only: bool,
    namespaces: &translate::NamespacePlan,
    cgroups: Vec<CgroupView>,
) -> Result<Container> {
    let mounts = spec.mounts().iter().flatten();
    let mut mounts =
        mounts.map(|mount| translate_mount(mount, bundle)).collect::<Result<Vec<_>>>()?;
    let linux = spec.linux().as_ref();
    if let Some(label) = linux.and_then(|linux| linux.mount_label().as_deref()) {
        mounts.iter_mut().for_each(|mount| label_new(mount, label));
    }
    let host_dev = |mount: &Mount| {
        mount.target == Path::new("/dev") && !matches!(mount.kind, MountKind::New { .. })
    };
    let paths =
        |list: Option<&Vec<String>>| list.into_iter().flatten().map(PathBuf::from).collect();
    let devices = linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let mut sysctls: Vec<(String, String)> =
        linux.and_then(|linux| linux.sysctl().clone()).into_iter().flatten().collect();
    sysctls.sort();
    let own_uts = namespaces.create.contains(Namespaces::UTS);
    let propagation = linux
        .and_then(|linux| linux.rootfs_propagation().as_deref())
        .filter(|word| !word.is_empty());
    Ok(Container {
        rootfs: rootfs(spec, bundle, rootfs_mounts, init_only)?,
        root_readonly: spec.root().as_ref().and_then(oci::Root::readonly).unwrap_or(false),
        root_propagation: propagation.map(translate::propagation).transpose()?,
        populate_dev: !init_only && !mounts.iter().any(host_dev),
        mounts,
        devices: devices.iter().map(translate::device).collect::<Result<_>>()?,
        hostname: spec.hostname().clone().filter(|name| own_uts && !name.is_empty()),
        domainname: spec.domainname().clone().filter(|name| own_uts && !name.is_empty()),
        sysctls,
        masked: paths(linux.and_then(|linux| linux.masked_paths().as_ref())),
        readonly: paths(linux.and_then(|linux| linux.readonly_paths().as_ref())),
        user_namespace: namespaces.all.contains(Namespaces::USER),
        cgroup_namespace: namespaces.create.contains(Namespaces::CGROUP),
        cgroups,
        hooks: None,
    })
}

fn rootfs(spec: &Spec, bundle: &Path, mounts: &[RootfsMount], init_only: bool) -> Result<Rootfs> {
    match mounts {
        [] if init_only => Ok(Rootfs::Empty),
        [] => {
            let root = spec
                .root()
                .as_ref()
                .ok_or_else(|| StageError::refuse(Step::Spec, "root", "it is missing"))?;
            Ok(Rootfs::Bind {
                source: in_bundle(bundle, root.path()),
                attributes: Attributes::default(),
            })
        }
        [only] => rootfs_mount(only),
        [_, second, ..] => Err(StageError::refuse(
            Step::Rootfs,
            second.kind.as_str(),
            "one mount makes the root, there is a second",
        )),
    }
}

fn rootfs_mount(given: &RootfsMount) -> Result<Rootfs> {
    let mut attributes = mount::Attributes::default();
    let (mut lowers, mut upper, mut work, mut options) = (Vec::new(), None, None, Vec::new());
    let mut ids = LayerIds::Host;
    let mut bind = matches!(given.kind.as_str(), "bind" | "rbind");
    for option in &given.options {
        if let Some(parsed) = mount::Attributes::parse(option) {
            attributes = attributes.then(parsed);
        } else if matches!(option.as_str(), "bind" | "rbind") {
            bind = true;
        } else if let Some(list) = option.strip_prefix("lowerdir=") {
            lowers = split_escaped(list);
        } else if let Some(path) = option.strip_prefix("upperdir=") {
            upper = Some(PathBuf::from(path));
        } else if let Some(path) = option.strip_prefix("workdir=") {
            work = Some(PathBuf::from(path));
        } else if option == "idmap" {
            ids = LayerIds::Container;
        } else if let Some(map) = option.strip_prefix("uidmap=") {
            ids = ids.with_uids(map);
        } else if let Some(map) = option.strip_prefix("gidmap=") {
            ids = ids.with_gids(map);
        } else {
            options.push(option.clone());
        }
    }
    let attributes = attributes.into();
    if bind {
        return Ok(Rootfs::Bind { source: PathBuf::from(&given.source), attributes });
    }
    if given.kind != "overlay" {
        let (kind, source) = (given.kind.clone(), given.source.clone());
        return Ok(Rootfs::Other { kind, source, options, attributes });
    }
    if lowers.is_empty() {
        return Err(StageError::refuse(Step::Rootfs, "overlay", "it has no lowerdir="));
    }
    Ok(Rootfs::Overlay { lowers, upper: upper.zip(work), options, attributes, ids })
}

/// Splits at colons that have no backslash before them, and takes the backslashes away.
pub(super) fn split_escaped(list: &str) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut path = String::new();
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => path.extend(characters.next()),
            ':' => paths.push(PathBuf::from(std::mem::take(&mut path))),
            other => path.push(other),
        }
    }
    paths.push(PathBuf::from(path));
    paths
}

fn translate_mount(given: &oci::Mount, bundle: &Path) -> Result<Mount> {
    let target = target(given.destination())?;
    let mut options = Vec::new();
    let (mut own, mut recursive) = (mount::Attributes::default(), mount::Attributes::default());
    let (mut propagation, mut idmap) = (None, None);
    let mut bind = match given.typ().as_deref() {
        Some("bind") => Some(false),
        Some("rbind") => Some(true),
        _ => None,
    };
    for option in given.options().iter().flatten() {
        let word = option.as_str();
        if let Some(parsed) = mount::Attributes::parse(word) {
            own = own.then(parsed);
        } else if let Some(parsed) = recursive_attribute(word) {
            recursive = recursive.then(parsed);
        } else if let Some(parsed) = propagation_word(word) {
            propagation = Some(parsed);
        } else {
            match word {
                "bind" => bind = Some(bind.unwrap_or(false)),
                "rbind" => bind = Some(true),
                "idmap" => idmap = Some(idmap.unwrap_or(false)),
                "ridmap" => idmap = Some(true),
                // What we do for every mount, or what has no meaning for a new one.
                "defaults" | "async" | "silent" | "loud" | "remount" | "tmpcopyup"
                | "newinstance" => {}
                _ => options.push(option.clone()),
            }
        }
    }
    let source = given.source().clone().unwrap_or_default();
    let kind = match (bind, given.typ().as_deref()) {
        (Some(recursive), _) => MountKind::Bind { source: in_bundle(bundle, &source), recursive },
        (None, Some("cgroup" | "cgroup2")) => MountKind::Cgroup,
        (None, Some(kind)) if !kind.is_empty() && kind != "none" => {
            let source = source.to_string_lossy().into_owned();
            MountKind::New { kind: kind.to_owned(), source, options }
        }
        (None, _) => {
            let cause = "it has no type: set type, or add bind to its options";
            return Err(StageError::refuse(Step::Mount, target.display().to_string(), cause));
        }
    };
    let idmap = mapped(given, idmap);
    let mappable = match &kind {
        MountKind::Bind { .. } => true,
        MountKind::New { kind, .. } => kind == "overlay",
        MountKind::Made { .. } | MountKind::Cgroup => false,
    };
    if idmap.is_some() && !mappable {
        let cause = "only the ids of binds and layers can be mapped: remove idmap and its mappings";
        return Err(StageError::refuse(Step::Mount, target.display().to_string(), cause));
    }
    let (attributes, recursive) = (own.into(), recursive.into());
    Ok(Mount { target, kind, attributes, recursive, propagation, idmap })
}

/// Mappings alone ask for it as the option does.
fn mapped(given: &oci::Mount, option: Option<bool>) -> Option<Idmap> {
    let maps = IdMaps {
        uids: translate::id_maps(given.uid_mappings().as_deref()),
        gids: translate::id_maps(given.gid_mappings().as_deref()),
    };
    (option.is_some() || !maps.is_empty())
        .then(|| Idmap { maps, recursive: option.unwrap_or(false) })
}

/// New files of the container have its label; in a tmpfs or among terminals all are new.
fn label_new(mount: &mut Mount, label: &str) {
    if label.is_empty() {
        return;
    }
    if let MountKind::New { kind, options, .. } = &mut mount.kind
        && matches!(kind.as_str(), "tmpfs" | "devpts")
    {
        options.push(format!("context={label}"));
    }
}

/// The destination without `.` and `..`, as a path below the root.
fn target(destination: &Path) -> Result<PathBuf> {
    let mut target = PathBuf::from("/");
    for component in destination.components() {
        match component {
            Component::Normal(name) => target.push(name),
            Component::ParentDir => {
                target.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if target == Path::new("/") {
        return Err(StageError::refuse(
            Step::Mount,
            "/",
            "the root itself cannot be a destination",
        ));
    }
    Ok(target)
}

/// `rro` and its kind: the same attribute for everything below.
fn recursive_attribute(word: &str) -> Option<mount::Attributes> {
    // "relatime" begins with an r of its own.
    word.strip_prefix('r').filter(|rest| !rest.starts_with("el")).and_then(mount::Attributes::parse)
}

fn propagation_word(word: &str) -> Option<(Propagation, bool)> {
    Some(match word {
        "private" => (Propagation::Private, false),
        "rprivate" => (Propagation::Private, true),
        "slave" => (Propagation::Slave, false),
        "rslave" => (Propagation::Slave, true),
        "shared" => (Propagation::Shared, false),
        "rshared" => (Propagation::Shared, true),
        "unbindable" => (Propagation::Unbindable, false),
        "runbindable" => (Propagation::Unbindable, true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_split_at_bare_colons() {
        let paths = split_escaped(r"/a:/b\:c:/d\\e");
        assert_eq!(paths, [PathBuf::from("/a"), PathBuf::from("/b:c"), PathBuf::from(r"/d\e")]);
    }

    #[test]
    fn destinations_stay_below_the_root() {
        assert_eq!(target(Path::new("/a/../../b/./c")).unwrap(), PathBuf::from("/b/c"));
        assert_eq!(target(Path::new("data")).unwrap(), PathBuf::from("/data"));
        assert!(target(Path::new("/a/..")).is_err());
    }

    #[test]
    fn a_label_is_an_option_of_what_is_new() {
        let new = |kind: &str| -> Mount {
            let text = format!(r#"{{"destination":"/x","type":"{kind}","source":"none"}}"#);
            translate_mount(&serde_json::from_str(&text).unwrap(), Path::new("/b")).unwrap()
        };
        for (kind, label, labelled) in
            [("tmpfs", "a:b:c:s0:c1,c2", true), ("proc", "a:b:c:s0", false), ("tmpfs", "", false)]
        {
            let mut mount = new(kind);
            label_new(&mut mount, label);
            let MountKind::New { options, .. } = mount.kind else { panic!("new") };
            assert_eq!(options.contains(&format!("context={label}")), labelled, "{kind} {label}");
        }
    }

    #[test]
    fn options_become_attributes() {
        let mount: oci::Mount = serde_json::from_str(
            r#"{"destination":"/x","type":"bind","source":"/y","options":["rbind","ro","rro","nosuid","rslave"]}"#,
        )
        .unwrap();
        let mount = translate_mount(&mount, Path::new("/b")).unwrap();
        assert_eq!(mount.kind, MountKind::Bind { source: PathBuf::from("/y"), recursive: true });
        assert_eq!((mount.attributes.set, mount.recursive.set), (3, 1));
        assert_eq!(mount.propagation, Some((Propagation::Slave, true)));
    }
}

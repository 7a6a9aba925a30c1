//! Edits of a spec.

use super::format::{Edits, Hook, Mount, Node};
use super::registry::Found;
use super::unresolvable;
use crate::Result;
use oci_spec::runtime::{
    Hook as OciHook, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Mount as OciMount, Spec,
};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Makes all of the edits, or says which of them cannot be made.
pub(super) fn apply(spec: &mut Spec, found: &Found) -> Result<()> {
    refuse(found)?;
    let edits = &found.edits;
    process(spec, edits);
    for node in &edits.device_nodes {
        device(spec, &found.name, node)?;
    }
    for wanted in &edits.hooks {
        hook(spec, &found.name, wanted)?;
    }
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for mount in &edits.mounts {
        mounts.push(bind(&found.name, mount)?);
    }
    // Parents first; of those at one depth none hides another.
    mounts.sort_by_key(|mount| mount.destination().components().count());
    spec.set_mounts(Some(mounts));
    Ok(())
}

/// A device that is injected in part would fail later, and without a word.
fn refuse(found: &Found) -> Result<()> {
    let what = match (&found.edits.intel_rdt, found.edits.net_devices.first()) {
        (Some(_), _) => "it wants Intel RDT, which is not managed here",
        (None, Some(_)) => "it wants a network interface to be moved, which is not done here",
        (None, None) => return Ok(()),
    };
    Err(unresolvable(&found.name, format!("{what}; use a device without it")))
}

fn process(spec: &mut Spec, edits: &Edits) {
    let Some(process) = spec.process_mut() else { return };
    let mut env = process.env().clone().unwrap_or_default();
    for entry in &edits.env {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        env.retain(|other| other.split_once('=').is_none_or(|(other, _)| other != name));
        env.push(entry.clone());
    }
    process.set_env(Some(env));
    let mut user = process.user().clone();
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    // 0 stands for "none" in the format.
    let new = edits.additional_gids.iter().filter(|gid| **gid != 0);
    for gid in new {
        if !groups.contains(gid) {
            groups.push(*gid);
        }
    }
    user.set_additional_gids(Some(groups));
    process.set_user(user);
}

fn device(spec: &mut Spec, name: &str, node: &Node) -> Result<()> {
    let path = node.host_path.as_ref().unwrap_or(&node.path);
    let fail = |why: String| unresolvable(name, format!("its node {}: {why}", path.display()));
    if !node.path.is_absolute() {
        return Err(fail("the path in the container is not absolute".into()));
    }
    let meta = std::fs::metadata(path).map_err(|error| fail(error.to_string()));
    let (kind, major, minor) = match (node.kind.as_str(), node.major, node.minor) {
        ("b", Some(major), minor) => (LinuxDeviceType::B, major, minor.unwrap_or(0)),
        ("c" | "u", Some(major), minor) => (LinuxDeviceType::C, major, minor.unwrap_or(0)),
        ("p", _, _) => (LinuxDeviceType::P, 0, 0),
        ("" | "b" | "c" | "u", _, _) => {
            let meta = meta.as_ref().map_err(|error| fail(error.to_string()))?;
            let kind = match meta.file_type() {
                kind if kind.is_block_device() => LinuxDeviceType::B,
                kind if kind.is_char_device() => LinuxDeviceType::C,
                _ => return Err(fail("it is no device".into())),
            };
            let number = meta.rdev();
            (kind, rustix::fs::major(number).into(), rustix::fs::minor(number).into())
        }
        (other, _, _) => return Err(fail(format!("no such type of device: {other:?}"))),
    };
    let on_host = meta.as_ref().ok();
    let mode = node.file_mode.or(on_host.map(MetadataExt::mode)).unwrap_or(0o666) & 0o7777;
    let mut device = LinuxDevice::default();
    device
        .set_path(node.path.clone())
        .set_typ(kind)
        .set_major(major)
        .set_minor(minor)
        .set_file_mode(Some(mode))
        .set_uid(Some(node.uid.or(on_host.map(MetadataExt::uid)).unwrap_or(0)))
        .set_gid(Some(node.gid.or(on_host.map(MetadataExt::gid)).unwrap_or(0)));
    let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
    if !access.bytes().all(|letter| b"rwm".contains(&letter)) {
        return Err(fail(format!("permissions {access:?} are not letters of \"rwm\"")));
    }
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(kind))
        .set_major(Some(major))
        .set_minor(Some(minor))
        .set_access(Some(access.to_owned()));
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let mut devices = linux.devices().clone().unwrap_or_default();
    devices.retain(|other| other.path() != device.path());
    devices.push(device);
    linux.set_devices(Some(devices));
    if kind != LinuxDeviceType::P {
        let mut resources = linux.resources().clone().unwrap_or_default();
        let mut rules = resources.devices().clone().unwrap_or_default();
        rules.push(rule);
        resources.set_devices(Some(rules));
        linux.set_resources(Some(resources));
    }
    Ok(())
}

/// A program of the vendor, at a point of the container's life.
fn hook(spec: &mut Spec, name: &str, wanted: &Hook) -> Result<()> {
    let fail = |why: String| unresolvable(name, format!("its hook {:?}: {why}", wanted.hook_name));
    if !wanted.path.is_absolute() {
        return Err(fail("its path is not absolute".into()));
    }
    let mut made = OciHook::default();
    made.set_path(wanted.path.clone())
        .set_args((!wanted.args.is_empty()).then(|| wanted.args.clone()))
        .set_env(Some(wanted.env.clone()))
        .set_timeout(wanted.timeout);
    let mut hooks = spec.hooks().clone().unwrap_or_default();
    let with = |list: &Option<Vec<OciHook>>| {
        Some(list.iter().flatten().cloned().chain([made.clone()]).collect())
    };
    match wanted.hook_name.as_str() {
        "prestart" | "createRuntime" => hooks.set_create_runtime(with(hooks.create_runtime())),
        "createContainer" => hooks.set_create_container(with(hooks.create_container())),
        "startContainer" => hooks.set_start_container(with(hooks.start_container())),
        "poststart" => hooks.set_poststart(with(hooks.poststart())),
        "poststop" => hooks.set_poststop(with(hooks.poststop())),
        _ => return Err(fail("there is no such point: see OCI's runtime specification".into())),
    };
    spec.set_hooks(Some(hooks));
    Ok(())
}

/// A file or directory of the host, unless the description names another type.
fn bind(name: &str, mount: &Mount) -> Result<OciMount> {
    let at = &mount.container_path;
    if !at.is_absolute() || (mount.host_path.as_os_str().is_empty() && mount.kind.is_empty()) {
        let why = format!("its mount at {} has no source, or no absolute path", at.display());
        return Err(unresolvable(name, why));
    }
    let mut options = mount.options.clone();
    let says_bind = options.iter().any(|option| option == "bind" || option == "rbind");
    if mount.kind.is_empty() && !says_bind {
        options.push("rbind".to_owned());
    }
    let kind = if mount.kind.is_empty() { "bind".to_owned() } else { mount.kind.clone() };
    let mut made = OciMount::default();
    made.set_destination(at.clone())
        .set_source(Some(mount.host_path.clone()))
        .set_typ(Some(kind))
        .set_options(Some(options));
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> Spec {
        let mut spec = Spec::default();
        spec.set_mounts(Some(vec![]));
        spec
    }

    fn found(edits: serde_json::Value) -> Found {
        Found { name: "v.com/c=d".into(), edits: serde_json::from_value(edits).unwrap() }
    }

    #[test]
    fn all_edits_are_made() {
        let mut spec = spec();
        let edits = json!({
            "hooks": [{"hookName": "createContainer", "path": "/bin/first", "args": ["first"], "timeout": 3},
                {"hookName": "createContainer", "path": "/bin/second"}],
            "env": ["PATH=/gpu", "NEW=1"], "additionalGids": [0, 44],
            "deviceNodes": [{"path": "/dev/gpu", "hostPath": "/dev/null", "permissions": "rw"},
                {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 7}],
            "mounts": [{"hostPath": "/lib", "containerPath": "/a/b", "options": ["ro"]}, {"hostPath": "/lib", "containerPath": "/a"}],
        });
        apply(&mut spec, &found(edits)).unwrap();
        let process = spec.process().as_ref().unwrap();
        let env = process.env().as_ref().unwrap();
        assert_eq!(env.iter().filter(|entry| entry.starts_with("PATH=")).count(), 1);
        assert!(env.contains(&"PATH=/gpu".to_owned()) && env.contains(&"NEW=1".to_owned()));
        assert_eq!(process.user().additional_gids().as_ref().unwrap(), &[44]);
        let linux = spec.linux().as_ref().unwrap();
        let devices = linux.devices().as_ref().unwrap();
        let numbers: Vec<_> =
            devices.iter().map(|device| (device.major(), device.minor())).collect();
        assert_eq!(numbers, [(1, 3), (1, 5)]);
        assert_eq!((devices[1].file_mode(), devices[1].uid()), (Some(0o600), Some(7)));
        let rules = linux.resources().as_ref().unwrap().devices().as_ref().unwrap();
        assert!(rules.iter().any(|rule| rule.access().as_deref() == Some("rw")));
        let hooks = spec.hooks().as_ref().unwrap().create_container().clone().unwrap();
        let paths: Vec<_> = hooks.iter().map(|hook| hook.path().clone()).collect();
        assert_eq!(paths, [std::path::PathBuf::from("/bin/first"), "/bin/second".into()]);
        assert_eq!(hooks[0].timeout(), Some(3));
        let at: Vec<_> =
            spec.mounts().iter().flatten().map(|mount| mount.destination().clone()).collect();
        assert_eq!(at, [std::path::PathBuf::from("/a"), "/a/b".into()]);
        let first = spec.mounts().as_ref().unwrap()[0].options().clone().unwrap();
        assert_eq!(first, ["rbind"]);
    }

    #[test]
    fn what_is_not_done_is_refused() {
        for (edits, word) in [
            (json!({"hooks": [{"hookName": "someday", "path": "/x"}]}), "someday"),
            (json!({"hooks": [{"hookName": "poststop", "path": "x"}]}), "absolute"),
            (json!({"intelRdt": {}}), "RDT"),
            (json!({"netDevices": [{"hostInterfaceName": "eth0"}]}), "network interface"),
            (json!({"deviceNodes": [{"path": "/dev/no-such-node"}]}), "/dev/no-such-node"),
            (json!({"deviceNodes": [{"path": "/etc/passwd"}]}), "no device"),
            (json!({"deviceNodes": [{"path": "dev/null"}]}), "absolute"),
            (json!({"mounts": [{"containerPath": "/a"}]}), "no source"),
        ] {
            let error = apply(&mut spec(), &found(edits)).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("v.com/c=d"), "{error}");
        }
    }
}

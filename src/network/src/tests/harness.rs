//! A host that lasts as long as a test, and what can be seen of it from outside.

use crate::conf::List;
use crate::engine::Engine;
use crate::pool::Pool;
use crate::{AttachRequest, Namespaces, NetworkConfig};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where Debian puts the reference plugins.
pub(super) const REFERENCE: &str = "/usr/lib/cni";

/// Whether the reference plugins are installed; tests that need them pass without.
pub(super) fn reference_installed() -> bool {
    Path::new(REFERENCE).join("bridge").is_file()
}

/// A host: directories, and the namespaces of the thread that it was made on.
pub(super) struct Host {
    pub(super) dir: TempDir,
    pub(super) config: NetworkConfig,
}

/// Runs a test on a host of its own.
pub(super) fn on_host<T: Send>(test: impl FnOnce(&Host) -> T + Send) -> T {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("tests run as root");
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        ip(&["link", "set", "lo", "up"]);
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let config = NetworkConfig {
            conf_dir: at("net.d"),
            bin_dirs: vec![REFERENCE.into()],
            cache_dir: at("cache"),
            ipam_dir: at("networks"),
            run_dir: at("run"),
            pool_size: 0,
            ..NetworkConfig::default()
        };
        let host = Host { dir, config };
        let result = test(&host);
        // The directory cannot be removed while the pool's mounts are on it.
        let ns = host.config.run_dir.join("ns");
        while rustix::mount::unmount(&ns, rustix::mount::UnmountFlags::DETACH).is_ok() {}
        result
    };
    std::thread::scope(|scope| {
        let joined = scope.spawn(run).join();
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Host {
    /// The engine with our plugins.
    pub(super) fn ours(&self) -> Engine {
        Engine::open(&self.config).unwrap()
    }

    /// The engine that executes every plugin.
    pub(super) fn reference(&self) -> Engine {
        Engine::open(&self.config).unwrap().executing_everything()
    }

    pub(super) fn pool(&self, size: usize) -> Pool {
        Pool::open(&self.config.run_dir, size).unwrap()
    }

    pub(super) fn data_dir(&self) -> String {
        self.config.ipam_dir.to_string_lossy().into_owned()
    }

    /// Names and contents of the files of a network's addresses.
    pub(super) fn addresses(&self, network: &str) -> BTreeMap<String, (u32, String)> {
        use std::os::unix::fs::PermissionsExt;
        let Ok(entries) = std::fs::read_dir(self.config.ipam_dir.join(network)) else {
            return BTreeMap::new();
        };
        let file = |entry: std::fs::DirEntry| {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            let text = std::fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().to_string_lossy().into_owned(), (mode, text))
        };
        entries.flatten().map(file).collect()
    }

    /// The cached results, without what is ours alone.
    pub(super) fn results(&self) -> Vec<Value> {
        let dir = self.config.cache_dir.join("results");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path()).collect();
        files.sort();
        files
            .iter()
            .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
            .collect()
    }
}

/// A configuration list.
pub(super) fn list(document: &Value) -> List {
    List::parse(document.to_string().as_bytes()).unwrap()
}

/// A request for a sandbox of that name.
pub(super) fn request(id: &str, set: &Namespaces) -> AttachRequest {
    AttachRequest {
        sandbox_id: id.into(),
        netns: set.net.clone(),
        name: "pod".into(),
        namespace: "ns".into(),
        uid: "uid".into(),
        ..AttachRequest::default()
    }
}

/// Runs a tool here; its output.
#[expect(clippy::disallowed_methods, reason = "the real tools are the judge in these tests")]
pub(super) fn tool(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(super) fn ip(arguments: &[&str]) -> String {
    tool("ip", arguments)
}

/// Runs something inside a network namespace.
pub(super) fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> T {
    crate::netns::inside_net(crate::netns::open(netns).unwrap(), work).unwrap()
}

/// Everything about links, addresses and routes of the calling thread's namespace that does not
/// depend on chance: names of veths, indices, hardware addresses and what is derived from them.
pub(super) fn snapshot() -> Value {
    let parse = |arguments: &[&str]| -> Vec<Map<String, Value>> {
        serde_json::from_str(&ip(arguments)).unwrap()
    };
    let mut links = parse(&["-j", "-d", "address", "show"]);
    for link in &mut links {
        for key in
            ["operstate", "ifindex", "address", "link", "link_index", "link_netnsid", "permaddr"]
        {
            link.remove(key);
        }
        // Whether the kernel has taken note of a carrier yet depends on chance with the reference;
        // ours makes it do so before it answers.
        if let Some(Value::Array(flags)) = link.get_mut("flags") {
            flags.retain(|flag| flag != "NO-CARRIER" && flag != "LOWER_UP");
        }
        rename(link, "ifname");
        let link_local = |info: &Value| info["scope"] == "link";
        if let Some(Value::Array(addresses)) = link.get_mut("addr_info") {
            addresses.retain(|info| !link_local(info));
            for info in addresses.iter_mut() {
                // Detection of duplicates takes a second, and nobody waits for it.
                info.as_object_mut().unwrap().remove("tentative");
                if info["label"].as_str().is_some_and(|label| label.starts_with("veth")) {
                    info["label"] = "veth".into();
                }
            }
            addresses.sort_by_key(|info| info["local"].to_string());
        }
        if let Some(Value::Object(info)) = link.get_mut("linkinfo") {
            if let Some(Value::Object(data)) = info.get_mut("info_data") {
                data.retain(|key, _| {
                    !key.contains("timer")
                        && !key.ends_with("_id")
                        && !key.contains("root_")
                        && key != "group_fwd_mask"
                });
            }
            if let Some(Value::Object(data)) = info.get_mut("info_slave_data") {
                data.retain(|key, _| {
                    !key.contains("timer")
                        && !key.ends_with("id")
                        && key != "no"
                        && key != "designated_port"
                });
            }
        }
    }
    links.sort_by_key(|link| link.get("ifname").map(ToString::to_string));
    let mut routes = Vec::new();
    for family in ["-4", "-6"] {
        let mut found = parse(&["-j", family, "route", "show"]);
        found.retain(|route| !route["dst"].as_str().unwrap_or_default().starts_with("fe80"));
        for route in &mut found {
            rename(route, "dev");
        }
        found.sort_by_key(|route| json!(route).to_string());
        routes.push(found);
    }
    json!({"links": links, "routes": routes})
}

fn rename(object: &mut Map<String, Value>, key: &str) {
    if object.get(key).and_then(Value::as_str).is_some_and(|name| name.starts_with("veth")) {
        object.insert(key.into(), "veth".into());
    }
}

/// A result without what depends on chance.
pub(super) fn normal(mut result: Value) -> Value {
    for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
        if interface["name"].as_str().is_some_and(|name| name.starts_with("veth")) {
            interface["name"] = "veth".into();
        }
        for key in ["mac", "sandbox"] {
            if interface.get(key).is_some() {
                interface[key] = "set".into();
            }
        }
    }
    result
}

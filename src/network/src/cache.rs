//! Results that are kept for DEL and CHECK: the files and the format of libcni, so that other
//! tools can read ours, with two keys more: which are ours, and the namespace. An entry is written
//! before ADD begins, without a result, so that what a crash left half made can be undone.

use crate::NetworkError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const KIND: &str = "cniCacheV1";
const OWNER: &str = "orlop";

/// One attachment: what was asked, with which configuration, and what came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    kind: String,
    /// Sandbox id.
    pub container_id: String,
    /// The network's configuration list, in base64 as Go writes bytes.
    config: String,
    /// Interface in the sandbox.
    pub if_name: String,
    /// Name of the network.
    pub network_name: String,
    /// `CNI_ARGS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cni_args: Vec<(String, String)>,
    /// The runtime's capability arguments.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub capability_args: Map<String, Value>,
    /// Result of the chain; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Namespace of the sandbox. Our own key.
    #[serde(default)]
    pub netns: String,
    /// Our own key: entries without it belong to other runtimes and are left alone.
    #[serde(default)]
    owner: String,
}

impl Entry {
    /// An attachment that begins.
    pub(crate) fn new(
        container_id: &str,
        if_name: &str,
        network_name: &str,
        config: &[u8],
        netns: &Path,
    ) -> Self {
        Self {
            kind: KIND.into(),
            container_id: container_id.into(),
            config: STANDARD.encode(config),
            if_name: if_name.into(),
            network_name: network_name.into(),
            cni_args: Vec::new(),
            capability_args: Map::new(),
            result: None,
            netns: netns.to_string_lossy().into_owned(),
            owner: OWNER.into(),
        }
    }

    /// The configuration list that the attachment was made with.
    pub(crate) fn config(&self) -> Result<Vec<u8>, String> {
        STANDARD.decode(&self.config).map_err(|error| error.to_string())
    }

    fn file_name(&self) -> String {
        format!("{}-{}-{}", self.network_name, self.container_id, self.if_name)
    }
}

/// A directory of entries.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    dir: OwnedFd,
}

impl Cache {
    /// Opens (and makes) a directory below `/var/lib/cni`.
    pub(crate) fn open(path: PathBuf) -> Result<Self, NetworkError> {
        let failed = |source| NetworkError::Io { action: "create", path: path.clone(), source };
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&path).map_err(failed)?;
        let dir = orlop_sys::fs::open_dir(&path).map_err(failed)?;
        Ok(Self { path, dir })
    }

    /// Writes an entry, by rename. It need not survive a power cut: then the pod does not either.
    pub(crate) fn put(&self, entry: &Entry) -> Result<(), NetworkError> {
        let name = entry.file_name();
        let bytes = serde_json::to_vec(entry).map_err(io::Error::other);
        let written = bytes
            .and_then(|bytes| orlop_sys::fs::atomic_write(self.dir.as_fd(), &name, &bytes, false));
        written.map_err(|source| NetworkError::Io {
            action: "write",
            path: self.path.join(name),
            source,
        })
    }

    /// Removes an entry; none is fine.
    pub(crate) fn remove(&self, entry: &Entry) -> Result<(), NetworkError> {
        let path = self.path.join(entry.file_name());
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(NetworkError::Io { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// Our entry of a sandbox in a network, found by its name alone.
    pub(crate) fn find(&self, network: &str, container: &str, if_name: &str) -> Option<Entry> {
        read(&self.path.join(format!("{network}-{container}-{if_name}")))
            .filter(|entry| entry.owner == OWNER)
    }

    /// Our entries, of one sandbox or of all.
    pub(crate) fn entries(&self, container: Option<&str>) -> Result<Vec<Entry>, NetworkError> {
        let failed = |source| NetworkError::Io { action: "list", path: self.path.clone(), source };
        let mut found = Vec::new();
        for file in fs::read_dir(&self.path).map_err(failed)? {
            let file = file.map_err(failed)?;
            // Names have the id inside, so most files need not be read.
            let name = file.file_name().to_string_lossy().into_owned();
            if container.is_none_or(|id| name.contains(id)) && !name.starts_with(".tmp-") {
                let entry = read(&file.path()).filter(|entry| entry.owner == OWNER);
                found.extend(
                    entry.filter(|entry| container.is_none_or(|id| id == entry.container_id)),
                );
            }
        }
        Ok(found)
    }
}

fn read(path: &Path) -> Option<Entry> {
    let entry: Entry = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (entry.kind == KIND).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_libcni_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().join("results")).unwrap();
        let mut entry = Entry::new("abc", "eth0", "net", b"{}", Path::new("/run/n"));
        entry.cni_args = vec![("K".into(), "v".into())];
        entry.result = Some(serde_json::json!({"cniVersion": "1.0.0"}));
        cache.put(&entry).unwrap();
        let text = fs::read_to_string(dir.path().join("results/net-abc-eth0")).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["kind"], "cniCacheV1");
        assert_eq!(value["config"], "e30=");
        assert_eq!(value["cniArgs"], serde_json::json!([["K", "v"]]));
        assert_eq!(
            (&value["ifName"], &value["networkName"], &value["containerId"]),
            (&"eth0".into(), &"net".into(), &"abc".into())
        );
        assert_eq!(cache.entries(Some("abc")).unwrap(), [entry.clone()]);
        assert_eq!(entry.config().unwrap(), b"{}");
        fs::write(
            dir.path().join("results/net-other-eth0"),
            r#"{"kind":"cniCacheV1","containerId":"o","config":"","ifName":"e","networkName":"n"}"#,
        )
        .unwrap();
        fs::write(dir.path().join("results/net-bad-eth0"), "{").unwrap();
        assert_eq!(cache.entries(None).unwrap().len(), 1);
        cache.remove(&entry).unwrap();
        cache.remove(&entry).unwrap();
        assert!(cache.entries(None).unwrap().is_empty());
    }
}

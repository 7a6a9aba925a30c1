//! `tuning`: sysctls and attributes of the pod's interface, restored by DEL from a file.

use crate::sysctl;
use crate::veth::{self, netlink_error};
use crate::{Call, CniResult, Plugin, PluginError, netns};
use orlop_sys::netlink::{Link, Request, Socket};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

/// The plugin.
pub(crate) struct Tuning;

const DATA_DIR: &str = "/run/cni/tuning";

#[derive(Debug, Default, Deserialize)]
struct Wanted {
    #[serde(default)]
    sysctl: Option<BTreeMap<String, String>>,
    #[serde(default)]
    mac: Option<String>,
    #[serde(default)]
    promisc: Option<bool>,
    #[serde(default)]
    mtu: Option<u32>,
    #[serde(default)]
    allmulti: Option<bool>,
    #[serde(default, rename = "dataDir")]
    data_dir: Option<PathBuf>,
}

/// Attributes as they were before.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Before {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
}

impl Wanted {
    fn read(call: &Call<'_>) -> Result<Self, PluginError> {
        let bad =
            |error| PluginError::config(format!("tuning: the configuration is not valid: {error}"));
        let mut wanted = Self::deserialize(call.config).map_err(bad)?;
        let env = call.args.iter().find(|(key, _)| key == "MAC").map(|(_, value)| value.clone());
        wanted.mac = [call.runtime.mac.clone(), env]
            .into_iter()
            .flatten()
            .find(|mac| !mac.is_empty())
            .or(wanted.mac);
        if let Some(args) = call.config.pointer("/args/cni").filter(|value| !value.is_null()) {
            let args = Self::deserialize(args).map_err(bad)?;
            wanted.sysctl.get_or_insert_default().extend(args.sysctl.unwrap_or_default());
            wanted.mac = args.mac.or(wanted.mac);
            wanted.promisc = args.promisc.or(wanted.promisc);
            wanted.mtu = args.mtu.or(wanted.mtu);
            wanted.allmulti = args.allmulti.or(wanted.allmulti);
        }
        wanted.mac = wanted.mac.filter(|mac| !mac.is_empty());
        wanted.mtu = wanted.mtu.filter(|mtu| *mtu > 0);
        wanted.promisc = wanted.promisc.filter(|on| *on);
        const LATER: [&str; 3] = ["txQLen", "sysctlAllowlist", "tx"];
        match LATER
            .iter()
            .find(|key| call.config.get(**key).is_some_and(|value| *value != Value::Null))
        {
            Some(key) => {
                Err(PluginError::config(format!("tuning: {key} is not supported: remove the key")))
            }
            None => Ok(wanted),
        }
    }

    fn changes_link(&self) -> bool {
        self.mac.is_some()
            || self.mtu.is_some()
            || self.promisc.is_some()
            || self.allmulti.is_some()
    }

    fn file(&self, call: &Call<'_>) -> PathBuf {
        let dir = self.data_dir.clone().filter(|dir| !dir.as_os_str().is_empty());
        let name = format!("{}_{}.json", call.container_id, call.ifname);
        dir.unwrap_or_else(|| DATA_DIR.into()).join(name)
    }
}

impl Plugin for Tuning {
    fn kind(&self) -> &'static str {
        "tuning"
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, PluginError> {
        let wanted = Wanted::read(call)?;
        let mut result = call
            .prev_result
            .cloned()
            .ok_or_else(|| PluginError::config("tuning: it must come after another plugin"))?;
        inside(call, || apply(call, &wanted))?;
        if let Some(mac) = &wanted.mac {
            for interface in
                result.interfaces.iter_mut().filter(|interface| interface.name == call.ifname)
            {
                interface.mac.clone_from(mac);
            }
        }
        Ok(result)
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let file = Wanted::read(call)?.file(call);
        let Ok(bytes) = std::fs::read(&file) else { return Ok(()) };
        if let (false, true, Ok(before)) = (
            call.netns_dies,
            call.netns.is_some_and(netns::is_namespace),
            serde_json::from_slice::<Before>(&bytes),
        ) {
            inside(call, || restore(call, &before))?;
        }
        std::fs::remove_file(&file)
            .map_err(|error| PluginError::io(format!("remove {}: {error}", file.display())))
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let wanted = Wanted::read(call)?;
        inside(call, || {
            let mut socket = Socket::open().map_err(netlink_error)?;
            let link = veth::find(&mut socket, call.ifname)?;
            let mac = wanted.mac.as_deref().map(veth::parse_mac).transpose()?;
            let same = mac.is_none_or(|mac| link.mac == mac)
                && wanted.mtu.is_none_or(|mtu| link.mtu == mtu)
                && wanted.promisc.is_none_or(|on| (link.promiscuity > 0) == on)
                && wanted.allmulti.is_none_or(|on| link.all_multicast == on);
            if same {
                Ok(())
            } else {
                Err(PluginError::new(format!("tuning: interface {:?} was changed", call.ifname)))
            }
        })
    }
}

fn inside<T: Send>(
    call: &Call<'_>,
    work: impl FnOnce() -> Result<T, PluginError> + Send,
) -> Result<T, PluginError> {
    let netns = veth::open_netns(call)?;
    netns::inside_net(&netns, work)
        .map_err(|error| PluginError::io(format!("enter the network namespace: {error}")))?
}

fn apply(call: &Call<'_>, wanted: &Wanted) -> Result<(), PluginError> {
    let root =
        sysctl::root().map_err(|error| PluginError::io(format!("open /proc/sys: {error}")))?;
    for (key, value) in wanted.sysctl.iter().flatten() {
        let key = key.replacen("IFNAME", call.ifname, 1);
        let path = sysctl::path(&key).map_err(PluginError::config)?;
        if !path.starts_with("net/") {
            return Err(PluginError::config(format!("tuning: sysctl {key:?} is not one of net.*")));
        }
        sysctl::write(&root, &path, value).map_err(|error| {
            PluginError::io(format!("tuning: set sysctl {key} to {value:?}: {error}"))
        })?;
    }
    if !wanted.changes_link() {
        return Ok(());
    }
    let mut socket = Socket::open().map_err(netlink_error)?;
    let link = veth::find(&mut socket, call.ifname)?;
    backup(&wanted.file(call), &link, wanted)?;
    let mac = wanted.mac.as_deref().map(veth::parse_mac).transpose()?;
    socket
        .run(&requests(&link, mac, wanted.promisc, wanted.mtu, wanted.allmulti))
        .map_err(netlink_error)
}

fn requests(
    link: &Link,
    mac: Option<[u8; 6]>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    allmulti: Option<bool>,
) -> Vec<Request> {
    let mut requests = Vec::new();
    requests.extend(mac.map(|mac| Request::set_mac(link, &mac)));
    requests.extend(promisc.map(|on| Request::set_promiscuous(link, on)));
    requests.extend(mtu.map(|mtu| Request::set_mtu(link, mtu)));
    requests.extend(allmulti.map(|on| Request::set_all_multicast(link, on)));
    requests
}

fn backup(file: &std::path::Path, link: &Link, wanted: &Wanted) -> Result<(), PluginError> {
    let before = Before {
        mac: wanted.mac.as_ref().map(|_| veth::mac_text(&link.mac)).unwrap_or_default(),
        promisc: wanted.promisc.map(|_| link.promiscuity > 0),
        mtu: wanted.mtu.map(|_| link.mtu),
        allmulti: wanted.allmulti.map(|_| link.all_multicast),
    };
    let write = || -> std::io::Result<()> {
        if let Some(dir) = file.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(file)?;
        out.write_all(&serde_json::to_vec_pretty(&before)?)
    };
    write().map_err(|error| PluginError::io(format!("tuning: write {}: {error}", file.display())))
}

fn restore(call: &Call<'_>, before: &Before) -> Result<(), PluginError> {
    let mut socket = Socket::open().map_err(netlink_error)?;
    let Some(link) = socket.link_by_name(call.ifname).map_err(netlink_error)? else {
        return Ok(());
    };
    let mac = if before.mac.is_empty() { None } else { Some(veth::parse_mac(&before.mac)?) };
    let requests = requests(&link, mac, before.promisc, before.mtu, before.allmulti);
    if requests.is_empty() { Ok(()) } else { socket.run(&requests).map_err(netlink_error) }
}

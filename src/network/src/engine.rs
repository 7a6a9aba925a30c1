//! The CNI engine: runs a list's plugins one after the other, in process where they are ours, and
//! keeps the record that undoes it.

use crate::cache::{Cache, Entry};
use crate::conf::{List, PluginConf, plain_name};
use crate::version::{from_json, to_json};
use crate::{
    AttachRequest, Attached, Attachment, Call, Capabilities, CniResult, NetworkConfig,
    NetworkError, Place, Plugin, PluginError, exec, netns,
};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The pod's interface, as the field has it.
const IFNAME: &str = "eth0";
/// The kernel's limit.
const MAX_IFNAME: usize = 15;

/// Runs plugins.
pub(crate) struct Engine {
    config: NetworkConfig,
    cache: Cache,
    plugins: Vec<Box<dyn Plugin>>,
}

/// What all calls of one run have in common.
struct Run<'a> {
    list: &'a List,
    entry: &'a Entry,
    netns: Option<&'a Path>,
    netns_dies: bool,
}

/// The plugins that need no execution.
fn in_process() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(crate::bridge::Bridge),
        Box::new(crate::ptp::Ptp),
        Box::new(crate::loopback::Loopback),
        Box::new(crate::tuning::Tuning),
        Box::new(crate::portmap::Portmap),
        Box::new(crate::firewall::Firewall),
    ]
}

/// The first plugin of a list that is neither in process nor in the plugin directories, in words.
pub(crate) fn absent_plugin(list: &List, bin_dirs: &[PathBuf]) -> Option<String> {
    let ours = in_process();
    let kinds = list.plugins.iter().map(|conf| conf.kind.as_str());
    let executed = kinds.filter(|kind| ours.iter().all(|plugin| plugin.kind() != *kind));
    executed
        .filter_map(|kind| exec::find(kind, bin_dirs).err())
        .map(|error| error.to_string())
        .next()
}

impl Engine {
    /// Opens the cache of results.
    pub(crate) fn open(config: &NetworkConfig) -> Result<Self, NetworkError> {
        let cache = Cache::open(config.cache_dir.join("results"))?;
        Ok(Self { config: config.clone(), cache, plugins: in_process() })
    }

    /// The same engine without plugins of its own, for comparison.
    #[cfg(test)]
    pub(crate) fn executing_everything(mut self) -> Self {
        self.plugins.clear();
        self
    }

    /// Attaches a sandbox; what a failed ADD made is undone.
    pub(crate) fn attach(
        &self,
        list: &List,
        request: &AttachRequest,
        place: Option<&Place>,
    ) -> Result<Attached, NetworkError> {
        let ifname = place.map_or(IFNAME, |place| place.interface.as_str());
        let mut entry = self.entry(list, request, place)?;
        if let Some(old) = self.cache.find(&list.name, &request.sandbox_id, ifname) {
            // A start that was cut off: its remains would make this one fail.
            self.undo(&old, request.netns.exists().then_some(request.netns.as_path()), false)?;
        }
        self.cache.put(&entry)?;
        let run = Run { list, entry: &entry, netns: Some(&request.netns), netns_dies: false };
        let result = match self.add(&run) {
            Ok(result) => result,
            Err(error) => {
                if let Err(left) = self.undo(&entry, Some(&request.netns), false) {
                    tracing::warn!(sandbox = request.sandbox_id, error = %report(&left), "a failed attachment was not undone wholly; it is tried again when the sandbox is removed");
                }
                return Err(error);
            }
        };
        let json = to_json(&result, list.version);
        entry.result = Some(json.clone());
        if let Err(error) = self.cache.put(&entry) {
            let _ = self.undo(&entry, Some(&request.netns), false);
            return Err(error);
        }
        let ips = result.ips.iter().map(|ip| ip.address.addr()).collect();
        Ok(Attached { ips, result: json, network: list.name.clone() })
    }

    /// Detaches a sandbox from everything that it was attached to.
    pub(crate) fn detach(
        &self,
        network: Option<&str>,
        sandbox: &str,
        netns: Option<&Path>,
        netns_dies: bool,
    ) -> Result<(), NetworkError> {
        // The network in use is where it is most likely to be; finding it needs no listing.
        if let Some(entry) = network.and_then(|network| self.cache.find(network, sandbox, IFNAME)) {
            return self.undo(&entry, netns, netns_dies);
        }
        let mut outcome = Ok(());
        for entry in self.cache.entries(Some(sandbox))? {
            outcome = outcome.and(self.undo(&entry, netns, netns_dies));
        }
        outcome
    }

    /// Detaches a sandbox from one network, whose namespace stays. False: it was not on it.
    pub(crate) fn leave(
        &self,
        network: &str,
        sandbox: &str,
        netns: Option<&Path>,
    ) -> Result<bool, NetworkError> {
        let mut found = false;
        for entry in self.cache.entries(Some(sandbox))? {
            if entry.network_name == network {
                found = true;
                self.undo(&entry, netns, false)?;
            }
        }
        Ok(found)
    }

    /// The interfaces of one sandbox, or of all, by name.
    pub(crate) fn attachments(
        &self,
        sandbox: Option<&str>,
    ) -> Result<Vec<Attachment>, NetworkError> {
        let entries = self.cache.entries(sandbox)?;
        let mut all: Vec<_> = entries.iter().filter_map(attachment).collect();
        all.sort_by(|a, b| (&a.sandbox, &a.interface).cmp(&(&b.sandbox, &b.interface)));
        Ok(all)
    }

    /// The sandboxes that have an entry.
    pub(crate) fn sandboxes(&self) -> Result<Vec<String>, NetworkError> {
        let mut all: Vec<String> =
            self.cache.entries(None)?.into_iter().map(|entry| entry.container_id).collect();
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Lets every plugin drop what belongs to no sandbox of `live`.
    pub(crate) fn collect(&self, list: &List, live: &[String]) -> Result<(), NetworkError> {
        let mut outcome = Ok(());
        for conf in &list.plugins {
            let Some(plugin) = self.plugin(&conf.kind) else { continue };
            let collected =
                plugin.collect(&list.name, live).map_err(|source| failed(list, &conf.kind, source));
            outcome = outcome.and(collected);
        }
        outcome
    }

    /// CHECK of an attachment.
    pub(crate) fn check(
        &self,
        network: &str,
        sandbox: &str,
        netns: &Path,
    ) -> Result<(), NetworkError> {
        let entry = self.cache.find(network, sandbox, IFNAME);
        let entry = entry.ok_or_else(|| {
            NetworkError::Invalid(format!(
                "sandbox {sandbox} is not attached to network {network:?}"
            ))
        })?;
        let list = parse(&entry)?;
        if !list.version.knows_results() {
            let version = list.version.as_str();
            return Err(NetworkError::Invalid(format!(
                "network {network:?} has cniVersion {version}, which has no CHECK"
            )));
        }
        let run = Run { list: &list, entry: &entry, netns: Some(netns), netns_dies: false };
        let previous = previous(&entry, &list);
        for conf in &list.plugins {
            let outcome = self.call(&run, conf, previous.as_ref(), |plugin, call| match plugin {
                Some(plugin) => plugin.check(call),
                None => exec::run(&conf.kind, "CHECK", call).map(drop),
            });
            outcome.map_err(|source| failed(&list, &conf.kind, source))?;
        }
        Ok(())
    }

    fn plugin(&self, kind: &str) -> Option<&dyn Plugin> {
        self.plugins.iter().find(|plugin| plugin.kind() == kind).map(AsRef::as_ref)
    }

    fn add(&self, run: &Run<'_>) -> Result<CniResult, NetworkError> {
        let mut result: Option<CniResult> = None;
        for conf in &run.list.plugins {
            let outcome = self.call(run, conf, result.as_ref(), |plugin, call| match plugin {
                Some(plugin) => plugin.add(call),
                None => {
                    let answer = exec::run(&conf.kind, "ADD", call)?;
                    let answer = answer.ok_or_else(|| PluginError::new("it printed no result"))?;
                    from_json(answer, run.list.version).map(|(result, _)| result)
                }
            });
            result = Some(outcome.map_err(|source| failed(run.list, &conf.kind, source))?);
        }
        Ok(result.unwrap_or_default())
    }

    /// DEL of the whole chain, backwards. One plugin's failure does not spare the others; the
    /// entry stays until all succeeded.
    fn undo(
        &self,
        entry: &Entry,
        netns: Option<&Path>,
        netns_dies: bool,
    ) -> Result<(), NetworkError> {
        let list = parse(entry)?;
        let netns = netns.filter(|path| netns::is_namespace(path));
        let run = Run { list: &list, entry, netns, netns_dies };
        let previous = previous(entry, &list).filter(|_| list.version.knows_results());
        let mut outcome = Ok(());
        for conf in list.plugins.iter().rev() {
            let deleted = self.call(&run, conf, previous.as_ref(), |plugin, call| match plugin {
                Some(plugin) => plugin.del(call),
                None => exec::run(&conf.kind, "DEL", call).map(drop),
            });
            outcome = outcome.and(deleted.map_err(|source| failed(&list, &conf.kind, source)));
        }
        outcome?;
        self.cache.remove(entry)
    }

    fn call<T>(
        &self,
        run: &Run<'_>,
        conf: &PluginConf,
        previous: Option<&CniResult>,
        work: impl FnOnce(Option<&dyn Plugin>, &Call<'_>) -> Result<T, PluginError>,
    ) -> Result<T, PluginError> {
        let runtime = capabilities(conf, &run.entry.capability_args)?;
        let config = document(run.list, conf, previous, &runtime);
        let call = Call {
            container_id: &run.entry.container_id,
            ifname: &run.entry.if_name,
            netns: run.netns,
            args: &run.entry.cni_args,
            network: &run.list.name,
            cni_version: run.list.version.as_str(),
            config: &config,
            runtime: &runtime,
            prev_result: previous,
            ipam_dir: &self.config.ipam_dir,
            bin_dirs: &self.config.bin_dirs,
            timeout: self.config.plugin_timeout,
            netns_dies: run.netns_dies,
        };
        work(self.plugin(&conf.kind), &call)
    }

    fn entry(
        &self,
        list: &List,
        request: &AttachRequest,
        place: Option<&Place>,
    ) -> Result<Entry, NetworkError> {
        if !plain_name(&request.sandbox_id) {
            return Err(NetworkError::Invalid(format!(
                "sandbox id {:?} is not valid for CNI",
                request.sandbox_id
            )));
        }
        let ifname = place.map_or(IFNAME, |place| place.interface.as_str());
        if !plain_name(ifname) || ifname.len() > MAX_IFNAME {
            return Err(NetworkError::Invalid(format!(
                "interface name {ifname:?} is not valid: use 1 to {MAX_IFNAME} letters and digits"
            )));
        }
        let mut entry =
            Entry::new(&request.sandbox_id, ifname, &list.name, &list.bytes, &request.netns);
        entry.cni_args = crate::capability::args(request)?;
        entry.capability_args = crate::capability::all(request)?;
        if let Some(place) = place {
            crate::capability::of_place(place, &mut entry.capability_args);
        }
        Ok(entry)
    }
}

/// An error with its causes in one line.
pub(crate) fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

fn failed(list: &List, kind: &str, source: PluginError) -> NetworkError {
    NetworkError::Plugin { network: list.name.clone(), plugin: kind.to_owned(), source }
}

fn parse(entry: &Entry) -> Result<List, NetworkError> {
    let list = entry.config().and_then(|bytes| List::parse(&bytes));
    list.map_err(|why| {
        NetworkError::Invalid(format!(
            "the cached configuration of sandbox {} cannot be used: {why}",
            entry.container_id
        ))
    })
}

/// What a finished entry says of the interface in the sandbox.
fn attachment(entry: &Entry) -> Option<Attachment> {
    let result = previous(entry, &parse(entry).ok()?)?;
    let inside = |name: &str, sandbox: &str| name == entry.if_name && !sandbox.is_empty();
    let mac = result.interfaces.iter().find(|one| inside(&one.name, &one.sandbox));
    Some(Attachment {
        sandbox: entry.container_id.clone(),
        network: entry.network_name.clone(),
        interface: entry.if_name.clone(),
        mac: mac.map(|one| one.mac.clone()).unwrap_or_default(),
        addresses: result.ips.iter().map(|ip| ip.address).collect(),
        gateways: result.ips.iter().filter_map(|ip| ip.gateway).collect(),
    })
}

fn previous(entry: &Entry, list: &List) -> Option<CniResult> {
    from_json(entry.result.clone()?, list.version).ok().map(|(result, _)| result)
}

/// The plugin's object as it is given to it.
fn document(
    list: &List,
    conf: &PluginConf,
    previous: Option<&CniResult>,
    runtime: &Capabilities,
) -> Value {
    let mut object = conf.object.clone();
    object.insert("name".into(), list.name.as_str().into());
    object.insert("cniVersion".into(), list.version.as_str().into());
    if let Some(previous) = previous {
        object.insert("prevResult".into(), to_json(previous, list.version));
    }
    if !runtime.raw.is_empty() {
        object.insert(
            "runtimeConfig".into(),
            Value::Object(runtime.raw.clone().into_iter().collect()),
        );
    }
    Value::Object(object)
}

/// Of what the runtime offers, what the plugin asks for.
fn capabilities(
    conf: &PluginConf,
    offered: &Map<String, Value>,
) -> Result<Capabilities, PluginError> {
    let mut chosen = Capabilities::default();
    for (name, value) in offered {
        if conf.capabilities.get(name).copied() != Some(true) {
            continue;
        }
        let bad = |error: serde_json::Error| {
            PluginError::config(format!("capability {name} is not valid: {error}"))
        };
        match name.as_str() {
            "portMappings" => {
                chosen.port_mappings = serde_json::from_value(value.clone()).map_err(bad)?
            }
            "mac" => chosen.mac = serde_json::from_value(value.clone()).map_err(bad)?,
            "ips" => chosen.ips = serde_json::from_value(value.clone()).map_err(bad)?,
            "ipRanges" => chosen.ip_ranges = Some(value.clone()),
            _ => {}
        }
        chosen.raw.insert(name.clone(), value.clone());
    }
    Ok(chosen)
}

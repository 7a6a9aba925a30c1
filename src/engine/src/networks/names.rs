//! Telling the responders of networks who is there, and seeing to it that there is one.

use super::{BRIDGE, NetworkRecord, place};
use crate::container::blocking;
use crate::engine::Inner;
use crate::{Error, Record, Result};
use orlop_model::ContainerId;
use orlop_names::Entry;
use orlop_network::Attachment;
use orlop_task::Launcher;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory of the containers of a network.
pub(super) fn dir(run: &Path, list: &str) -> PathBuf {
    run.join("names").join(list)
}

/// Says where a container is, on every network of people's that its pod is on, and takes it off all
/// others. Repeating it changes nothing. The networks by their names on people's lips, with its addresses.
pub(crate) async fn announce(
    inner: &Inner,
    record: &Record,
    sandbox: &str,
) -> Result<Vec<(String, Vec<IpAddr>)>> {
    let attachments = inner.network.attachments(Some(sandbox)).await?;
    let mut entries = Vec::new();
    let endpoints = place::endpoints(&record.spec.network);
    let places = places(inner, &attachments);
    for network in inner.networks.all() {
        let here = attachments.iter().find(|one| one.network == network.network.name);
        let Some(here) = here else { continue };
        let aliases = endpoints.iter().filter(|end| end.network == network.name());
        let aliases = aliases.flat_map(|end| end.aliases.clone()).collect();
        entries.push((Arc::clone(&network), entry(record, here, &attachments, aliases)));
    }
    let (run, id) = (inner.options.run.clone(), record.id.clone());
    let launcher = inner.runtime.launcher().clone();
    blocking(move || {
        for (network, entry) in &entries {
            register(&run, &launcher, network, &id, entry)?;
        }
        let lists: Vec<&str> = entries.iter().map(|(one, _)| one.network.name.as_str()).collect();
        withdraw_from(&run, &id, &|list| !lists.contains(&list))
    })
    .await?;
    Ok(places)
}

/// Networks as people call them, with the addresses there.
fn places(inner: &Inner, attachments: &[Attachment]) -> Vec<(String, Vec<IpAddr>)> {
    let all = inner.networks.all();
    let name = |list: &str| {
        let made = all.iter().find(|network| network.network.name == list);
        made.map_or(BRIDGE.to_owned(), |network| network.name().to_owned())
    };
    let ips = |one: &Attachment| one.addresses.iter().map(|net| net.addr()).collect();
    attachments.iter().map(|one| (name(&one.network), ips(one))).collect()
}

/// Takes a container off all networks.
pub(crate) async fn withdraw(inner: &Inner, id: &ContainerId) -> Result<()> {
    let (run, id) = (inner.options.run.clone(), id.clone());
    blocking(move || withdraw_from(&run, &id, &|_| true)).await
}

fn entry(record: &Record, here: &Attachment, all: &[Attachment], aliases: Vec<String>) -> Entry {
    let short = record.id.as_str().chars().take(12).collect();
    let mut names: Vec<String> = vec![record.name.to_lowercase()];
    for name in aliases.into_iter().map(|name| name.to_lowercase()).chain([short]) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let servers = record.spec.dns.iter().filter_map(|server| server.parse::<IpAddr>().ok());
    Entry {
        version: 1,
        names,
        addresses: here.addresses.iter().map(|net| net.addr()).collect(),
        networks: all.iter().map(|one| one.network.clone()).collect(),
        servers: servers.collect(),
    }
}

fn register(
    run: &Path,
    launcher: &Launcher,
    network: &NetworkRecord,
    id: &ContainerId,
    entry: &Entry,
) -> Result<()> {
    let dir = dir(run, &network.network.name);
    let registered = orlop_names::register(&dir, id.as_str(), entry, || {
        if orlop_names::is_served(&dir)? {
            return Ok(());
        }
        let gateways: Vec<String> =
            network.network.gateways().iter().map(ToString::to_string).collect();
        let forward = if network.network.internal { "internal" } else { "all" };
        let place = dir.to_string_lossy();
        let mut arguments = vec![&*place, network.network.bridge.as_str(), forward];
        arguments.extend(gateways.iter().map(String::as_str));
        launcher.names(&arguments)
    });
    registered.map_err(|error| Error::State {
        what: "network",
        name: network.name().to_owned(),
        why: format!(
            "cannot answer for names ({error}): whatever listens on port 53 of every address of this host must listen on its own addresses only"
        ),
    })
}

fn withdraw_from(run: &Path, id: &ContainerId, which: &dyn Fn(&str) -> bool) -> Result<()> {
    let dirs = match std::fs::read_dir(run.join("names")) {
        Ok(dirs) => dirs,
        Err(_) => return Ok(()),
    };
    for entry in dirs.flatten() {
        if entry.file_name().to_str().is_some_and(which) {
            let path = entry.path();
            orlop_names::unregister(&path, id.as_str())
                .map_err(Error::io("removing a name from", path))?;
        }
    }
    Ok(())
}

impl Inner {
    /// At an opening: who has gone is no longer known, and who is there is answered for, whatever has
    /// happened to the responder.
    pub(crate) async fn recover_names(&self) {
        let mut here = Vec::new();
        for container in self.index.all() {
            let record = container.record();
            let Some(attempt) = &record.attempt else { continue };
            let named = place::endpoints(&record.spec.network);
            if !named.iter().any(|endpoint| endpoint.network != BRIDGE) {
                continue;
            }
            here.push(format!("{}.json", record.id));
            if let Err(error) = announce(self, &record, attempt.sandbox.as_str()).await {
                tracing::warn!(container = %record.id, %error, "its names are not known");
            }
        }
        let Ok(dirs) = std::fs::read_dir(self.options.run.join("names")) else { return };
        for file in dirs.flatten().filter_map(|dir| std::fs::read_dir(dir.path()).ok()).flatten() {
            let Ok(file) = file else { continue };
            let name = file.file_name().to_string_lossy().into_owned();
            if name.ends_with(".json") && !here.contains(&name) {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }
}

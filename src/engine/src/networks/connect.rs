//! Putting a container on a network, and taking it off, whether it runs or not.

use super::{BRIDGE, place};
use crate::attempt;
use crate::container::to_the_end;
use crate::engine::Inner;
use crate::event::Event;
use crate::spec::{Endpoint, NetworkMode};
use crate::{Container, Engine, Error, Record, Result};
use orlop_network::{AttachRequest, Place};
use orlop_spec::request::NetworkPlace;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

impl Engine {
    /// Puts a container on a network; it stays there over stop and start.
    pub async fn connect_network(&self, container: &str, endpoint: Endpoint) -> Result<()> {
        let (inner, container) = (Arc::clone(&self.0), self.find(container)?);
        to_the_end(async move {
            let _turn = container.turn.lock().await;
            connect(&inner, &container, endpoint).await
        })
        .await
    }

    /// Takes a container off a network.
    pub async fn disconnect_network(&self, container: &str, network: &str) -> Result<()> {
        let (inner, container) = (Arc::clone(&self.0), self.find(container)?);
        let network = network.to_owned();
        to_the_end(async move {
            let _turn = container.turn.lock().await;
            disconnect(&inner, &container, &network).await
        })
        .await
    }
}

async fn connect(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    mut endpoint: Endpoint,
) -> Result<()> {
    let record = container.record();
    let network = place::network(inner, &endpoint.network)?;
    let name = network.as_ref().map_or(BRIDGE, |network| network.name()).to_owned();
    endpoint.network.clone_from(&name);
    let mut endpoints = networks(&record)?;
    if endpoints.iter().any(|other| other.network == name) {
        return Err(state(&record, format!("is on network {name:?} already")));
    }
    endpoints.push(endpoint.clone());
    if let Some((sandbox, netns)) = live(inner, &record) {
        if let Some(network) = &network {
            inner.network.make_bridge(network.network.clone()).await?;
        }
        let present = inner.network.attachments(Some(&sandbox)).await?;
        let taken: BTreeSet<&str> = present.iter().map(|one| one.interface.as_str()).collect();
        let interface =
            (0..).map(|n| format!("eth{n}")).find(|name| !taken.contains(name.as_str()));
        let interface = interface.unwrap_or_default();
        let leads_out = network.as_ref().is_none_or(|network| !network.network.internal);
        // Ports that are published stay where they are.
        let first = present.is_empty() && leads_out;
        let made = place::place(inner, network.as_deref(), &endpoint, &interface, first)?;
        let request = AttachRequest {
            sandbox_id: sandbox.clone(),
            netns,
            name: record.name.clone(),
            namespace: "orlop".into(),
            uid: record.id.to_string(),
            ..AttachRequest::default()
        };
        inner.network.connect(request, in_words_of_network(made)).await?;
    }
    container.change(|facts| facts.spec.network = NetworkMode::Named(endpoints)).await?;
    tell(inner, container, network.map(|network| network.id.clone()), &name, "connect").await
}

async fn disconnect(inner: &Arc<Inner>, container: &Arc<Container>, network: &str) -> Result<()> {
    let record = container.record();
    let found = place::network(inner, network)?;
    let name = found.as_ref().map_or(BRIDGE, |network| network.name()).to_owned();
    let mut endpoints = networks(&record)?;
    let before = endpoints.len();
    endpoints.retain(|other| other.network != name);
    if endpoints.len() == before {
        return Err(state(&record, format!("is not on network {name:?}")));
    }
    if let Some((sandbox, netns)) = live(inner, &record) {
        let list = match &found {
            Some(network) => network.network.name.clone(),
            // The built-in network's name to CNI.
            None => "orlop".to_owned(),
        };
        inner.network.disconnect(&list, &sandbox, Some(netns)).await?;
    }
    let mode = if endpoints.is_empty() { NetworkMode::None } else { NetworkMode::Named(endpoints) };
    container.change(|facts| facts.spec.network = mode).await?;
    tell(inner, container, found.map(|network| network.id.clone()), &name, "disconnect").await
}

/// Names follow, and an event.
async fn tell(
    inner: &Inner,
    container: &Container,
    id: Option<String>,
    name: &str,
    action: &str,
) -> Result<()> {
    attempt::tell_names(inner, container).await?;
    let record = container.record();
    let event = Event::new("network", action, id.as_deref().unwrap_or(name));
    inner.events.emit(&event.with("name", name).with("container", record.id.as_str()));
    container.poke();
    Ok(())
}

/// The networks of a container that can be on some.
fn networks(record: &Record) -> Result<Vec<Endpoint>> {
    match &record.spec.network {
        NetworkMode::Host | NetworkMode::Container(_) => {
            Err(state(record, "has the network of another: it can be on no other".into()))
        }
        mode => Ok(place::endpoints(mode)),
    }
}

/// Pod and network namespace of a container that has some.
fn live(inner: &Inner, record: &Record) -> Option<(String, PathBuf)> {
    let attempt = record.attempt.as_ref()?;
    let pod = inner.runtime.sandbox(attempt.sandbox.as_str()).ok()?;
    Some((attempt.sandbox.to_string(), pod.netns.clone()?))
}

fn in_words_of_network(place: NetworkPlace) -> Place {
    let NetworkPlace { list, interface, ips, mac, ports } = place;
    Place { list, interface, ips, mac, ports }
}

fn state(record: &Record, why: String) -> Error {
    Error::State { what: "container", name: record.name.clone(), why }
}

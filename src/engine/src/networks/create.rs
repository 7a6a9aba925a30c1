//! Making and removing networks.

use super::{NetworkRecord, PREDEFINED, options};
use crate::container::to_the_end;
use crate::engine::Inner;
use crate::event::Event;
use crate::spec::{NetworkSpec, Subnet};
use crate::{Engine, Error, Result, names};
use ipnet::IpNet;
use orlop_model::Timestamp;
use orlop_network::{UserNetwork, UserSubnet, free_subnet, subnets_of_host};
use rand::RngCore;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

impl Engine {
    /// Makes a network. Its id.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<String> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move { create(&inner, spec).await }).await
    }

    /// Removes a network that no container is on.
    pub async fn remove_network(&self, text: &str) -> Result<()> {
        let (inner, text) = (Arc::clone(&self.0), text.to_owned());
        to_the_end(async move {
            if PREDEFINED.contains(&text.as_str()) {
                let why = "is always there and cannot be removed".to_owned();
                return Err(Error::State { what: "network", name: text, why });
            }
            let _turn = inner.networks.turn.lock().await;
            let network = inner.networks.find(&text)?;
            remove(&inner, &network).await
        })
        .await
    }

    /// Removes all networks that no container is on, nor will be when it is started. Their names.
    pub async fn prune_networks(
        &self,
        keep: impl Fn(&NetworkRecord) -> bool,
    ) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for network in self.0.networks.all() {
            if keep(&network) || !self.0.users_of(network.name()).await?.is_empty() {
                continue;
            }
            let inner = Arc::clone(&self.0);
            let name = network.name().to_owned();
            to_the_end(async move {
                let _turn = inner.networks.turn.lock().await;
                remove(&inner, &network).await
            })
            .await?;
            removed.push(name);
        }
        Ok(removed)
    }
}

async fn create(inner: &Arc<Inner>, spec: NetworkSpec) -> Result<String> {
    names::check(&spec.name)?;
    let taken =
        |id: &str| Error::NameTaken { what: "network", name: spec.name.clone(), id: id.to_owned() };
    if PREDEFINED.contains(&spec.name.as_str()) {
        return Err(taken(&spec.name));
    }
    if !matches!(spec.driver.as_str(), "" | "bridge") {
        let why = "networks here are bridges: leave the driver out, or give the container a CNI network by a pod of Kubernetes".to_owned();
        return Err(Error::Invalid { field: "driver", value: spec.driver, why });
    }
    let options = options::read(&spec)?;
    let _turn = inner.networks.turn.lock().await;
    if let Some(other) = inner.networks.named(&spec.name) {
        return Err(taken(&other.id));
    }
    let id = draw_id();
    let network = UserNetwork {
        name: format!("orlop-{}", &id[..12]),
        bridge: options.bridge.unwrap_or_else(|| format!("br-{}", &id[..12])),
        subnets: subnets(inner, &spec)?,
        internal: spec.internal,
        masquerade: options.masquerade,
        mtu: options.mtu,
    };
    if let Some(other) =
        inner.networks.all().iter().find(|other| other.network.bridge == network.bridge)
    {
        let why = format!("network {:?} has that device: choose another name", other.name());
        return Err(Error::Invalid { field: "opt", value: network.bridge, why });
    }
    let record = NetworkRecord {
        id: id.clone(),
        created_at: Timestamp::now(),
        network: network.clone(),
        spec,
    };
    inner.network.make_bridge(network.clone()).await?;
    if let Err(error) = inner.networks.keep(record) {
        let _ = inner.network.remove_bridge(network).await;
        return Err(error);
    }
    let name = inner.networks.find(&id)?.name().to_owned();
    inner.events.emit(&Event::new("network", "create", &id).with("name", name));
    Ok(id)
}

/// The caller holds the turn.
async fn remove(inner: &Arc<Inner>, network: &NetworkRecord) -> Result<()> {
    let users = inner.present_on(network).await?;
    if !users.is_empty() {
        return Err(Error::State {
            what: "network",
            name: network.name().to_owned(),
            why: format!(
                "is used by {}: disconnect or remove {} first",
                users.join(", "),
                if users.len() == 1 { "it" } else { "them" }
            ),
        });
    }
    inner.network.remove_bridge(network.network.clone()).await?;
    let dir = super::names::dir(&inner.options.run, &network.network.name);
    // A responder that is ending sees that there is nothing left to end.
    let _ = std::fs::remove_dir_all(dir);
    inner.networks.forget(&network.id)?;
    let event = Event::new("network", "destroy", &network.id);
    inner.events.emit(&event.with("name", network.name().to_owned()));
    Ok(())
}

impl Inner {
    /// Names of the containers that have an interface on a network now.
    async fn present_on(&self, network: &NetworkRecord) -> Result<Vec<String>> {
        let attached = self.network.attachments(None).await?;
        let here = attached.iter().filter(|one| one.network == network.network.name);
        let pods: Vec<&str> = here.map(|one| one.sandbox.as_str()).collect();
        let records = self.index.all().into_iter().map(|container| container.record());
        let in_pods = records.filter(|record| {
            let pod = record.attempt.as_ref().map(|attempt| attempt.sandbox.as_str());
            pod.is_some_and(|pod| pods.contains(&pod))
        });
        let mut names: Vec<String> = in_pods.map(|record| record.name.clone()).collect();
        if names.is_empty() && !pods.is_empty() {
            // A pod whose container is not known: not to be pulled away from under it either.
            names.extend(pods.iter().map(|pod| pod.chars().take(12).collect()));
        }
        names.sort();
        Ok(names)
    }

    /// Names of the containers that are on a network, or will be when they are started.
    async fn users_of(&self, name: &str) -> Result<Vec<String>> {
        let network = self.networks.find(name)?;
        let mut users = self.present_on(&network).await?;
        for container in self.index.all() {
            let record = container.record();
            if super::place::endpoints(&record.spec.network).iter().any(|end| end.network == name) {
                users.push(record.name.clone());
            }
        }
        Ok(users)
    }
}

fn draw_id() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Those that were asked for, and free ones for the families that were not.
fn subnets(inner: &Inner, spec: &NetworkSpec) -> Result<Vec<UserSubnet>> {
    let ours: Vec<(String, IpNet)> = inner
        .networks
        .all()
        .iter()
        .flat_map(|network| {
            let name = network.name().to_owned();
            network.network.subnets.iter().map(move |one| (name.clone(), one.subnet))
        })
        .collect();
    let mut found = Vec::new();
    for asked in &spec.subnets {
        let one = subnet(asked)?;
        let overlaps = |net: &IpNet| net.contains(&one.subnet) || one.subnet.contains(net);
        if let Some((name, net)) = ours.iter().find(|(_, net)| overlaps(net)) {
            return Err(Error::Invalid {
                field: "subnet",
                value: asked.subnet.clone(),
                why: format!("network {name:?} has {net}: choose another subnet"),
            });
        }
        found.push(one);
    }
    let host = subnets_of_host()?;
    let settings = inner.network.default_bridge_settings();
    let reserved = std::iter::once(settings.subnet).chain(settings.subnet6);
    let mut used: Vec<IpNet> =
        host.into_iter().chain(ours.into_iter().map(|(_, net)| net)).collect();
    used.extend(reserved.chain(found.iter().map(|one| one.subnet)));
    let has =
        |found: &[UserSubnet], v6: bool| found.iter().any(|one| one.subnet.addr().is_ipv6() == v6);
    if !has(&found, false) && (spec.subnets.is_empty() || !spec.ipv6 || has(&found, true)) {
        found.insert(0, free(false, &used)?);
    }
    if spec.ipv6 && !has(&found, true) {
        found.push(free(true, &used)?);
    }
    Ok(found)
}

fn free(ipv6: bool, used: &[IpNet]) -> Result<UserSubnet> {
    let subnet = free_subnet(ipv6, used).ok_or_else(|| Error::Invalid {
        field: "subnet",
        value: String::new(),
        why: "no subnet of 172.18.0.0/15 and 192.168.0.0/16 is free on this host: give one".into(),
    })?;
    Ok(UserSubnet { subnet, gateway: first(&subnet), range: None })
}

/// The first address that a host can have.
fn first(subnet: &IpNet) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) + 1).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) + 1).into()),
    }
}

fn subnet(asked: &Subnet) -> Result<UserSubnet> {
    let wrong = |field, value: &str, why: &str| Error::Invalid {
        field,
        value: value.to_owned(),
        why: why.to_owned(),
    };
    let text = &asked.subnet;
    let subnet: IpNet = text
        .parse()
        .map_err(|_| wrong("subnet", text, "use an address with a prefix, as 10.5.0.0/16"))?;
    let subnet = subnet.trunc();
    let longest = if subnet.addr().is_ipv4() { 30 } else { 126 };
    if subnet.prefix_len() > longest {
        return Err(wrong("subnet", text, "it has no room for containers: use a shorter prefix"));
    }
    let gateway = match asked.gateway.as_str() {
        "" => first(&subnet),
        text => text
            .parse()
            .ok()
            .filter(|ip| subnet.contains(ip) && *ip != subnet.network())
            .ok_or_else(|| wrong("gateway", text, "use an address of the subnet"))?,
    };
    let range = match asked.range.as_str() {
        "" => None,
        text => {
            let range: Option<IpNet> = text.parse().ok();
            let inside = range.filter(|range| subnet.contains(&range.trunc()));
            Some(inside.ok_or_else(|| wrong("ip-range", text, "use a part of the subnet"))?.trunc())
        }
    };
    Ok(UserSubnet { subnet, gateway, range })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(subnet: &str, gateway: &str, range: &str) -> Subnet {
        Subnet { subnet: subnet.into(), gateway: gateway.into(), range: range.into() }
    }

    #[test]
    fn subnets_are_checked() {
        let one = subnet(&asked("10.5.3.9/16", "", "10.5.1.0/24")).unwrap();
        assert_eq!(
            (one.subnet.to_string(), one.gateway.to_string()),
            ("10.5.0.0/16".into(), "10.5.0.1".into())
        );
        assert_eq!(one.range.unwrap().to_string(), "10.5.1.0/24");
        for (one, words) in [
            (asked("nonsense", "", ""), "prefix"),
            (asked("10.5.0.0/31", "", ""), "room"),
            (asked("10.5.0.0/16", "10.6.0.1", ""), "gateway"),
            (asked("10.5.0.0/16", "10.5.0.0", ""), "gateway"),
            (asked("10.5.0.0/16", "", "10.6.0.0/24"), "ip-range"),
            (asked("10.5.0.0/16", "", "10.0.0.0/8"), "ip-range"),
        ] {
            let error = subnet(&one).unwrap_err().to_string();
            assert!(error.contains(words), "{one:?}: {error}");
        }
    }
}

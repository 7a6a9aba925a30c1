//! The plugin `firewall`: what is forwarded from and to pods.
//!
//! The configuration is the reference plugin's. Its `backend` (iptables, firewalld) is accepted
//! without effect: everything is done by nftables here. `iptablesAdminChainName` is not honoured:
//! the administrator's rules are in chains of their own already. See [`forward`] for hosts where
//! iptables drops; a firewalld that rejects must be told about the pods' interfaces by its own
//! means (a zone), as no other table can overrule it.
//!
//! `ingressPolicy`: `open` (default) adds nothing. `same-bridge` keeps apart the pods of different
//! bridges that have the policy. `internal`, which is our own, lets nothing off the bridge and nothing
//! onto it, whoever sends. `isolated` keeps apart those of one bridge too, as far as the host
//! filters bridged traffic (`br_netfilter`), which is also how far the reference plugin gets.

mod forward;
#[cfg(test)]
mod tests;

use crate::ruleset::isolation::{LAYOUT, set};
use crate::ruleset::{Claim, Entry, Owner, RulesetError, Segment, Value};
use crate::{Call, CniResult, Plugin, PluginError};
use ipnet::IpNet;
use orlop_sys::nft::{Key, Nft};
use serde::Deserialize;

/// The plugin `firewall`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Firewall;

/// What of the configuration has a meaning here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    ingress_policy: Option<String>,
}

/// Who may reach a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Open,
    SameBridge,
    Isolated,
    Internal,
}

fn policy(call: &Call<'_>) -> Result<Policy, PluginError> {
    let config = Config::deserialize(call.config)
        .map_err(|error| PluginError::config(format!("firewall: {error}")))?;
    match config.ingress_policy.as_deref().unwrap_or_default() {
        "" | "open" => Ok(Policy::Open),
        "same-bridge" => Ok(Policy::SameBridge),
        "isolated" => Ok(Policy::Isolated),
        "internal" => Ok(Policy::Internal),
        other => Err(PluginError::config(format!(
            "firewall: ingressPolicy {other:?} is unknown: use open, same-bridge, isolated or internal"
        ))),
    }
}

/// The sandbox's addresses.
fn addresses(result: &CniResult) -> Vec<IpNet> {
    let of_sandbox = |index: &Option<u32>| match index {
        None => true,
        Some(index) => result
            .interfaces
            .get(*index as usize)
            .is_some_and(|interface| !interface.sandbox.is_empty()),
    };
    let ips = result.ips.iter().filter(|ip| of_sandbox(&ip.interface));
    ips.map(|ip| ip.address).collect()
}

/// Elements that keep the pods of other bridges out.
fn isolation(policy: Policy, result: &CniResult) -> Result<Vec<Entry>, PluginError> {
    let segment = match policy {
        Policy::Open => return Ok(Vec::new()),
        Policy::Isolated => Segment::Isolated,
        Policy::SameBridge => Segment::Bridge(bridge(result)?),
        Policy::Internal => Segment::ToInternal(bridge(result)?),
    };
    let inside = match &segment {
        Segment::ToInternal(bridge) => Some(Segment::FromInternal(bridge.clone())),
        _ => None,
    };
    let of_address =
        |address: &IpNet| {
            let index = usize::from(address.addr().is_ipv6());
            let key = Key::default().address(address.addr());
            let sender = match &inside {
                Some(inside) => (set::INMATES[index], Value::Call(inside.clone())),
                None => (set::SENDERS[index], Value::Member),
            };
            [sender, (set::RECEIVERS[index], Value::Call(segment.clone()))]
                .map(|(set, value)| Entry { set, key: key.clone(), value, claim: Claim::Newest })
        };
    Ok(addresses(result).iter().flat_map(of_address).collect())
}

/// The bridge that the plugins before made.
fn bridge(result: &CniResult) -> Result<String, PluginError> {
    let of_host = result.interfaces.iter().find(|interface| interface.sandbox.is_empty());
    of_host.map(|bridge| bridge.name.clone()).ok_or_else(|| {
        PluginError::config(
            "firewall: this ingressPolicy needs a bridge, and the plugins before made none",
        )
    })
}

fn owner<'a>(call: &Call<'a>) -> Owner<'a> {
    Owner { container_id: call.container_id, ifname: call.ifname, network: call.network }
}

fn end(chosen: &dyn Fn(&str) -> bool) -> Result<(), PluginError> {
    let mut nft = Nft::kept().map_err(RulesetError::from)?;
    forward::remove(&mut nft, chosen)?;
    LAYOUT.remove(&mut nft, LAYOUT.sets, chosen)?;
    Ok(())
}

impl Plugin for Firewall {
    fn kind(&self) -> &'static str {
        "firewall"
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, PluginError> {
        let policy = policy(call)?;
        let Some(result) = call.prev_result else {
            return Err(PluginError::config(
                "firewall has no prevResult: it must follow the plugin that makes the interface",
            ));
        };
        let entries = isolation(policy, result)?;
        let comment = owner(call).comment()?;
        let mut nft = Nft::kept().map_err(RulesetError::from)?;
        forward::add(&mut nft, &comment, &addresses(result))?;
        if !entries.is_empty() {
            LAYOUT.add(&mut nft, &comment, &entries)?;
        }
        Ok(result.clone())
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let owner = owner(call);
        end(&|comment| owner.owns(comment))
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let Some(result) = call.prev_result else { return Ok(()) };
        let entries = isolation(policy(call)?, result)?;
        let comment = owner(call).comment()?;
        let mut nft = Nft::kept().map_err(RulesetError::from)?;
        let accepted = forward::is_present(&mut nft, &comment, &addresses(result))?;
        if accepted && LAYOUT.missing(&mut nft, &comment, &entries)?.is_none() {
            return Ok(());
        }
        let id = call.container_id;
        Err(PluginError::new(format!("firewall rules of sandbox {id} are gone from nftables")))
    }

    fn collect(&self, network: &str, live: &[String]) -> Result<(), PluginError> {
        end(&|comment| Owner::is_stale(comment, network, live))
    }
}

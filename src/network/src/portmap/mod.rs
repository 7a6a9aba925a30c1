//! The plugin `portmap`: host ports.
//!
//! Same configuration as the reference plugin, except that its hooks into iptables mean nothing
//! here: `backend`, `markMasqBit` and `externalSetMarkChain` are accepted without effect (they say
//! *how* iptables is told to masquerade, which needs no mark here), and `conditionsV4` and
//! `conditionsV6`, being iptables' own words, are refused. The rules are those of
//! [`crate::ruleset::nat`]; only connections to an address of this host are translated.
//!
//! Host ports answer on 127.0.0.1 but not on `::1`, as with the reference plugin.
//!
//! A port on all addresses and the same port on one address exclude each other between pods, as
//! they do between sockets.

mod config;
#[cfg(test)]
mod differential;
mod flows;
mod mapping;
#[cfg(test)]
mod tests;

use crate::ruleset::nat::{LAYOUT, set};
use crate::ruleset::{Claim, Entry, Owner, RulesetError, Value, localnet};
use crate::{Call, CniResult, Plugin, PluginError, PortMapping};
use config::Config;
use mapping::Pod;
use orlop_sys::nft::{Key, Nft};

/// The plugin `portmap`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Portmap;

/// Sets of the table that are this plugin's.
const SETS: [&str; 6] = [
    set::ANY_ADDRESS[0],
    set::HAIRPIN[0],
    set::ONE_ADDRESS[0],
    set::ANY_ADDRESS[1],
    set::HAIRPIN[1],
    set::ONE_ADDRESS[1],
];

fn owner<'a>(call: &Call<'a>) -> Owner<'a> {
    Owner { container_id: call.container_id, ifname: call.ifname, network: call.network }
}

/// What ADD makes and CHECK looks for.
fn wanted(call: &Call<'_>, result: &CniResult) -> Result<Vec<Entry>, PluginError> {
    let config = Config::read(call.config)?;
    mapping::entries(&config, &Pod::of(result), &call.runtime.port_mappings)
}

impl Plugin for Portmap {
    fn kind(&self) -> &'static str {
        "portmap"
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, PluginError> {
        let result = call.prev_result.ok_or_else(|| {
            PluginError::config(
                "portmap has no prevResult: it must follow the plugin that makes the interface",
            )
        })?;
        let mut entries = wanted(call, result)?;
        if entries.is_empty() {
            return Ok(result.clone());
        }
        let comment = owner(call).comment()?;
        let mut nft = Nft::kept().map_err(RulesetError::from)?;
        let interfaces = loopback_interfaces(&entries, result);
        entries.extend(interfaces.iter().map(|name| Entry {
            set: set::LOCALNET,
            key: Key::default().interface(name),
            value: Value::Member,
            claim: Claim::Nobody,
        }));
        exclude_overlaps(&mut nft, &comment, &call.runtime.port_mappings)?;
        LAYOUT.add(&mut nft, &comment, &entries)?;
        // After the rules: they drop what the setting would let in.
        for name in &interfaces {
            localnet::switch(name, true);
        }
        flows::forget_older(&mut nft, &Pod::of(result), &call.runtime.port_mappings)?;
        Ok(result.clone())
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let owner = owner(call);
        end(&|comment| owner.owns(comment))
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let Some(result) = call.prev_result else { return Ok(()) };
        let entries = wanted(call, result)?;
        let comment = owner(call).comment()?;
        let mut nft = Nft::kept().map_err(RulesetError::from)?;
        match LAYOUT.missing(&mut nft, &comment, &entries)? {
            None => Ok(()),
            Some(entry) => {
                let what = match &entry.claim {
                    Claim::First(what) => what.as_str(),
                    Claim::Newest | Claim::Nobody => "the return path of a host port",
                };
                let id = call.container_id;
                Err(PluginError::new(format!("{what} of sandbox {id} is gone from nftables")))
            }
        }
    }

    fn collect(&self, network: &str, live: &[String]) -> Result<(), PluginError> {
        end(&|comment| Owner::is_stale(comment, network, live))
    }
}

fn end(chosen: &dyn Fn(&str) -> bool) -> Result<(), PluginError> {
    let mut nft = Nft::kept().map_err(RulesetError::from)?;
    let removed = LAYOUT.remove(&mut nft, &SETS, chosen)?;
    flows::forget_removed(&mut nft, &removed)
}

/// The host's interfaces towards the pod that need `route_localnet` and do not have it.
fn loopback_interfaces(entries: &[Entry], result: &CniResult) -> Vec<String> {
    // Without a return path (`snat` false) a connection from 127.0.0.1 cannot work anyway.
    if !entries.iter().any(|entry| entry.set == set::HAIRPIN[0]) {
        return Vec::new();
    }
    let of_host = result.interfaces.iter().filter(|interface| interface.sandbox.is_empty());
    of_host.map(|interface| interface.name.clone()).filter(|name| localnet::is_off(name)).collect()
}

/// Refuses a port on all addresses where somebody has it on one, and the other way round.
fn exclude_overlaps(
    nft: &mut Nft,
    comment: &str,
    mappings: &[PortMapping],
) -> Result<(), PluginError> {
    let taken = |nft: &mut Nft, is_ipv6: bool, mapping: &PortMapping| {
        let index = usize::from(is_ipv6);
        let key = mapping::port_key(mapping);
        if mapping::one_address(mapping).is_some() {
            return nft.element(LAYOUT.table, set::ANY_ADDRESS[index], &key);
        }
        let width = if is_ipv6 { 16 } else { 4 };
        let all = nft.elements(LAYOUT.table, set::ONE_ADDRESS[index])?.unwrap_or_default();
        Ok(all.into_iter().find(|element| element.key.0[width..] == key.0))
    };
    for mapping in mappings {
        for is_ipv6 in [false, true] {
            if mapping.host_ip.is_some_and(|host| host.is_ipv6() != is_ipv6) {
                continue;
            }
            let present = taken(nft, is_ipv6, mapping).map_err(RulesetError::from)?;
            let holder = present.and_then(|element| element.comment);
            if let Some(holder) = holder.filter(|holder| holder != comment) {
                let holder = holder.split(' ').next().unwrap_or_default().to_owned();
                let what = mapping::describe(mapping);
                return Err(RulesetError::Taken { what, holder }.into());
            }
        }
    }
    Ok(())
}

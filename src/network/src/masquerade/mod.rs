//! Masquerade: what a pod sends to outside of its network goes with the host's address.
//!
//! One element per pod address leads to the chain of its network, where the network itself and
//! multicast are left alone. Everything lives in the table of [`crate::ruleset::nat`].

use crate::PluginError;
use crate::ruleset::nat::{LAYOUT, set};
use crate::ruleset::{Claim, Entry, Owner, RulesetError, Segment, Value};
use ipnet::IpNet;
use orlop_sys::nft::{Key, Nft};

fn entries(addresses: &[IpNet]) -> Vec<Entry> {
    addresses
        .iter()
        .map(|address| Entry {
            set: set::MASQUERADE[usize::from(address.addr().is_ipv6())],
            key: Key::default().address(address.addr()),
            value: Value::Call(Segment::Masquerade(address.trunc())),
            claim: Claim::Newest,
        })
        .collect()
}

/// Masquerades what these addresses (with the prefix of their network) send to outside of their
/// network. Repeating it changes nothing.
pub(crate) fn add(
    network: &str,
    container_id: &str,
    ifname: &str,
    addresses: &[IpNet],
) -> Result<(), PluginError> {
    let comment = Owner { container_id, ifname, network }.comment()?;
    let mut nft = Nft::kept().map_err(RulesetError::from)?;
    Ok(LAYOUT.add(&mut nft, &comment, &entries(addresses))?)
}

/// Ends it for one attachment; nothing happens where there is nothing.
pub(crate) fn remove(network: &str, container_id: &str, ifname: &str) -> Result<(), PluginError> {
    let owner = Owner { container_id, ifname, network };
    end(&|comment| owner.owns(comment))
}

/// Ends it for every attachment to the network whose container id is not among the live ones.
pub(crate) fn collect(network: &str, live: &[String]) -> Result<(), PluginError> {
    end(&|comment| Owner::is_stale(comment, network, live))
}

/// Whether all these addresses are masqueraded for the attachment.
pub(crate) fn check(
    network: &str,
    container_id: &str,
    ifname: &str,
    addresses: &[IpNet],
) -> Result<(), PluginError> {
    let comment = Owner { container_id, ifname, network }.comment()?;
    let mut nft = Nft::kept().map_err(RulesetError::from)?;
    let entries = entries(addresses);
    match LAYOUT.missing(&mut nft, &comment, &entries)? {
        None => Ok(()),
        Some(_) => Err(PluginError::new(format!(
            "the masquerade of sandbox {container_id} on network {network} is gone from nftables"
        ))),
    }
}

fn end(chosen: &dyn Fn(&str) -> bool) -> Result<(), PluginError> {
    let mut nft = Nft::kept().map_err(RulesetError::from)?;
    LAYOUT.remove(&mut nft, &set::MASQUERADE, chosen)?;
    Ok(())
}

#[cfg(test)]
mod tests;

//! UDP "connections" that a changed host port made stale.

use super::mapping::{Pod, number, one_address};
use crate::ruleset::nat::set;
use crate::ruleset::{Removed, RulesetError};
use crate::{PluginError, PortMapping, Protocol};
use orlop_sys::nft::conntrack::Flow;
use orlop_sys::nft::{Data, Nft};
use std::net::IpAddr;

const UDP: u8 = 17;

/// Forgets what was sent to the host ports before they led to this pod.
pub(super) fn forget_older(
    nft: &mut Nft,
    pod: &Pod,
    mappings: &[PortMapping],
) -> Result<(), PluginError> {
    for mapping in mappings.iter().filter(|mapping| mapping.protocol == Protocol::Udp) {
        debug_assert_eq!(number(mapping.protocol), UDP);
        for target in pod.targets(mapping) {
            let (address, host) = (target.addr(), one_address(mapping));
            forget(nft, address.is_ipv6(), mapping.host_port, &|flow| {
                flow.reply.source != address
                    && host.is_none_or(|host| flow.original.destination == host)
            })?;
        }
    }
    Ok(())
}

/// Forgets what was sent to the pods whose host ports are gone.
pub(super) fn forget_removed(nft: &mut Nft, removed: &[Removed]) -> Result<(), PluginError> {
    for Removed { set, element } in removed {
        for (index, width) in [(0, 4), (1, 16)] {
            let skip = if *set == set::ANY_ADDRESS[index] {
                0
            } else if *set == set::ONE_ADDRESS[index] {
                width
            } else {
                continue;
            };
            let Some(Data::Value(value)) = &element.data else { continue };
            let pod: Option<IpAddr> = value.address_at(0, index == 1);
            if element.key.0.get(skip) == Some(&UDP)
                && let (Some(pod), Some(port)) = (pod, element.key.port_at(skip + 4))
            {
                forget(nft, index == 1, port, &|flow| flow.reply.source == pod)?;
            }
        }
    }
    Ok(())
}

fn forget(
    nft: &mut Nft,
    ipv6: bool,
    port: u16,
    stale: &dyn Fn(&Flow) -> bool,
) -> Result<(), PluginError> {
    let flows = nft.flows(ipv6, UDP, port).map_err(RulesetError::from)?;
    for flow in flows.iter().filter(|flow| stale(flow)) {
        nft.delete_flow(flow).map_err(RulesetError::from)?;
    }
    Ok(())
}

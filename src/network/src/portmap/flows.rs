//! UDP "connections" that a changed host port made stale.

use super::mapping::{Pod, number, one_address};
use crate::ruleset::nat::set;
use crate::ruleset::{Removed, RulesetError};
use crate::{PluginError, PortMapping, Protocol};
use orlop_sys::netlink::Socket;
use orlop_sys::nft::conntrack::Flow;
use orlop_sys::nft::{Data, Nft};
use std::cell::LazyCell;
use std::net::IpAddr;

const UDP: u8 = 17;

/// Forgets what was sent to the host ports before they led to this pod. What is sent through this
/// host to the same port elsewhere (DNS, say) is left alone.
pub(super) fn forget_older(
    nft: &mut Nft,
    pod: &Pod,
    mappings: &[PortMapping],
) -> Result<(), PluginError> {
    for mapping in mappings.iter().filter(|mapping| mapping.protocol == Protocol::Udp) {
        debug_assert_eq!(number(mapping.protocol), UDP);
        for target in pod.targets(mapping) {
            let (address, host) = (target.addr(), one_address(mapping));
            let local = LazyCell::new(local_addresses);
            forget(nft, address.is_ipv6(), mapping.host_port, &|flow| {
                let to = flow.original.destination;
                flow.reply.source != address
                    && host.is_none_or(|host| to == host)
                    && (to.is_loopback() || local.contains(&to))
            })?;
        }
    }
    Ok(())
}

/// The host's addresses; none where they cannot be read, and then nothing is forgotten.
fn local_addresses() -> Vec<IpAddr> {
    let addresses = Socket::open().and_then(|mut socket| socket.all_addresses());
    match addresses {
        Ok(addresses) => addresses.into_iter().map(|address| address.ip).collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot read the host's addresses: stale UDP connections stay");
            Vec::new()
        }
    }
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

//! `loopback`: brings `lo` up. Sandboxes have it up from the start; a configuration may say it anyway.

use crate::veth::netlink_error;
use crate::{Call, CniResult, Interface, Ip, Plugin, PluginError, netns, veth};
use ipnet::IpNet;
use orlop_sys::netlink::{Link, Request, Socket};

/// The plugin.
pub(crate) struct Loopback;

fn inside<T: Send>(
    call: &Call<'_>,
    work: impl FnOnce(&mut Socket, Link) -> Result<T, PluginError> + Send,
) -> Result<T, PluginError> {
    let netns = veth::open_netns(call)?;
    netns::inside_net(&netns, || {
        let mut socket = Socket::open().map_err(netlink_error)?;
        let link = veth::find(&mut socket, "lo")?;
        work(&mut socket, link)
    })
    .map_err(|error| PluginError::io(format!("enter the network namespace: {error}")))?
}

impl Plugin for Loopback {
    fn kind(&self) -> &'static str {
        "loopback"
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, PluginError> {
        let addresses = inside(call, |socket, link| {
            socket.run(&[Request::set_up(&link, true)]).map_err(netlink_error)?;
            socket.addresses(&link).map_err(netlink_error)
        })?;
        if let Some(previous) = call.prev_result {
            return Ok(previous.clone());
        }
        // The first address of each family, IPv4 first.
        let first = |ipv4: bool| addresses.iter().find(|address| address.ip.is_ipv4() == ipv4);
        let ips = [first(true), first(false)].into_iter().flatten();
        let ips = ips.filter_map(|address| IpNet::new(address.ip, address.prefix).ok());
        Ok(CniResult {
            interfaces: vec![Interface {
                name: "lo".into(),
                mac: "00:00:00:00:00:00".into(),
                sandbox: call
                    .netns
                    .map(|path| path.to_string_lossy().into_owned())
                    .unwrap_or_default(),
                ..Interface::default()
            }],
            ips: ips.map(|address| Ip { interface: Some(0), address, gateway: None }).collect(),
            ..CniResult::default()
        })
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        if call.netns_dies || !call.netns.is_some_and(netns::is_namespace) {
            return Ok(());
        }
        inside(call, |socket, link| {
            socket.run(&[Request::set_up(&link, false)]).map_err(netlink_error)
        })
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let up = inside(call, |_, link| Ok(link.up))?;
        if up { Ok(()) } else { Err(PluginError::new("the sandbox's loopback interface is down")) }
    }
}

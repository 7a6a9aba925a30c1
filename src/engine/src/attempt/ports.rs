//! Ports of the host for containers: which they get, and that none gets another's.

use crate::spec::{NetworkMode, Protocol, Publish};
use crate::{Error, Record, Result};
use orlop_model::ContainerId;
use orlop_spec::request::{self, PortMapping};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Where a port is taken from that nobody chose: the part of IANA's dynamic range that Linux leaves
/// alone less often.
const RANDOM: (u16, u16) = (49_153, 65_535);

type Claims = BTreeMap<ContainerId, Vec<PortMapping>>;

/// Who has which port of the host.
#[derive(Default)]
pub(crate) struct PortClaims(Mutex<Claims>);

impl PortClaims {
    /// Notes ports that an attempt has already.
    pub(crate) fn note(&self, id: &ContainerId, ports: &[PortMapping]) {
        if !ports.is_empty() {
            self.claims().insert(id.clone(), ports.to_vec());
        }
    }

    /// Gives back all of a container's.
    pub(crate) fn release(&self, id: &ContainerId) {
        self.claims().remove(id);
    }

    /// Ports for all that a container publishes; they are its until [`Self::release`].
    pub(crate) fn allocate(&self, record: &Record) -> Result<Vec<PortMapping>> {
        let wanted = wanted(record);
        if matches!(
            record.spec.network,
            NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_)
        ) {
            return Ok(Vec::new());
        }
        let mut claims = self.claims();
        claims.remove(&record.id);
        let mut mine = Vec::new();
        for publish in &wanted {
            let port = choose(&claims, &mine, publish)?;
            mine.push(port);
        }
        if !mine.is_empty() {
            claims.insert(record.id.clone(), mine.clone());
        }
        Ok(mine)
    }

    fn claims(&self) -> std::sync::MutexGuard<'_, Claims> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is asked for, and with `-P` all that is exposed beside it.
fn wanted(record: &Record) -> Vec<Publish> {
    let mut wanted = record.spec.ports.clone();
    if record.spec.publish_all {
        for (port, protocol) in &record.merged.exposed {
            let there = |publish: &Publish| {
                publish.container_port == *port && publish.protocol == *protocol
            };
            if !wanted.iter().any(there) {
                wanted.push(Publish {
                    host_ip: None,
                    host_ports: None,
                    container_port: *port,
                    protocol: *protocol,
                });
            }
        }
    }
    wanted
}

fn choose(claims: &Claims, mine: &[PortMapping], publish: &Publish) -> Result<PortMapping> {
    let protocol = protocol(publish.protocol);
    let make = |host_port| PortMapping {
        protocol,
        container_port: publish.container_port,
        host_port,
        host_ip: publish.host_ip,
    };
    let holder = |port: u16| {
        let all = claims.iter().flat_map(|(id, ports)| ports.iter().map(move |held| (id, held)));
        let mut all = all.filter(|(_, held)| meets(held, port, protocol, publish.host_ip));
        all.next().map(|(id, _)| id.clone())
    };
    let own = |port: u16| mine.iter().any(|held| meets(held, port, protocol, publish.host_ip));
    let (first, last) = publish.host_ports.unwrap_or(RANDOM);
    let span = u32::from(last.saturating_sub(first)) + 1;
    // Where nobody chose, anywhere, so that two commands seldom meet.
    let start = if publish.host_ports.is_none() { rand::random::<u32>() % span } else { 0 };
    for step in 0..span {
        let offset = u16::try_from((start + step) % span).unwrap_or(0);
        let port = first + offset;
        if holder(port).is_none() && !own(port) && is_free(port, publish) {
            return Ok(make(port));
        }
    }
    let value = match publish.host_ports {
        Some((first, last)) if first == last => first.to_string(),
        Some((first, last)) => format!("{first}-{last}"),
        None => "any".to_owned(),
    };
    let why = match holder(first).filter(|_| first == last) {
        Some(id) => {
            format!("the port is published by container {id}: stop that one, or use another")
        }
        None if first == last => {
            "a program of this host listens on it: stop that one, or use another".to_owned()
        }
        None => "no port of that range is free: use another".to_owned(),
    };
    Err(Error::Invalid { field: "publish", value, why })
}

fn meets(held: &PortMapping, port: u16, protocol: request::Protocol, ip: Option<IpAddr>) -> bool {
    let everywhere = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_unspecified());
    held.host_port == port
        && held.protocol == protocol
        && (everywhere(held.host_ip) || everywhere(ip) || held.host_ip == ip)
}

/// Whether a program of the host has it.
fn is_free(port: u16, publish: &Publish) -> bool {
    let ip = publish.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    match publish.protocol {
        Protocol::Tcp => TcpListener::bind((ip, port)).is_ok(),
        Protocol::Udp => UdpSocket::bind((ip, port)).is_ok(),
        Protocol::Sctp => true,
    }
}

fn protocol(protocol: Protocol) -> request::Protocol {
    match protocol {
        Protocol::Tcp => request::Protocol::Tcp,
        Protocol::Udp => request::Protocol::Udp,
        Protocol::Sctp => request::Protocol::Sctp,
    }
}

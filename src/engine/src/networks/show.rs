//! Lists and details of networks, in the field names that scripts know.

use super::{BRIDGE, HOST, NONE, NetworkRecord};
use crate::calls::time;
use crate::engine::Inner;
use crate::{Engine, Result};
use orlop_model::Timestamp;
use orlop_network::Attachment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What `network inspect` shows, and `network ls` of each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkDetail {
    /// Unique.
    pub name: String,
    /// 64 hexadecimal digits; the name for those that are always there.
    pub id: String,
    /// RFC 3339.
    pub created: String,
    /// Always `local`.
    pub scope: String,
    /// `bridge`, `host`, `null`.
    pub driver: String,
    /// With IPv6.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Subnets.
    #[serde(rename = "IPAM")]
    pub ipam: IpamShown,
    /// Nothing leaves it.
    pub internal: bool,
    /// Always.
    pub attachable: bool,
    /// Containers that are on it now, by id.
    pub containers: BTreeMap<String, EndpointShown>,
    /// As given; `com.docker.network.bridge.name` always.
    pub options: BTreeMap<String, String>,
    /// As given.
    pub labels: BTreeMap<String, String>,
}

/// How addresses are given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamShown {
    /// Always `default`.
    pub driver: String,
    /// One of a family.
    pub config: Vec<IpamConfig>,
}

/// A subnet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamConfig {
    /// The whole.
    #[serde(rename = "Subnet")]
    pub subnet: String,
    /// Where addresses are taken from.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub range: String,
    /// The bridge's address.
    #[serde(rename = "Gateway")]
    pub gateway: String,
}

/// A container on a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointShown {
    /// The container's name.
    #[serde(rename = "Name")]
    pub name: String,
    /// The pod and the interface.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Hardware address.
    #[serde(rename = "MacAddress")]
    pub mac: String,
    /// With its prefix length; empty: none.
    #[serde(rename = "IPv4Address")]
    pub ipv4: String,
    /// The same.
    #[serde(rename = "IPv6Address")]
    pub ipv6: String,
}

impl Engine {
    /// All networks: the three that are always there, then the others by name.
    pub async fn list_networks(&self) -> Result<Vec<NetworkDetail>> {
        let attachments = self.0.network.attachments(None).await?;
        let mut all: Vec<NetworkDetail> = [BRIDGE, HOST, NONE]
            .into_iter()
            .map(|name| self.0.predefined(name, &attachments))
            .collect();
        let mut made: Vec<NetworkDetail> =
            self.0.networks.all().iter().map(|one| self.0.made(one, &attachments)).collect();
        made.sort_by(|a, b| a.name.cmp(&b.name));
        all.extend(made);
        Ok(all)
    }

    /// One network by name, id, or prefix of the id.
    pub async fn inspect_network(&self, text: &str) -> Result<NetworkDetail> {
        let attachments = self.0.network.attachments(None).await?;
        let own = if text == "default" { BRIDGE } else { text };
        if [BRIDGE, HOST, NONE].contains(&own) {
            return Ok(self.0.predefined(own, &attachments));
        }
        Ok(self.0.made(&*self.0.networks.find(text)?, &attachments))
    }
}

impl Inner {
    fn predefined(&self, name: &str, attachments: &[Attachment]) -> NetworkDetail {
        let mut shown = NetworkDetail {
            name: name.into(),
            id: name.into(),
            created: time(Timestamp(0)),
            scope: "local".into(),
            driver: if name == NONE { "null".into() } else { name.into() },
            ipam: IpamShown { driver: "default".into(), config: Vec::new() },
            ..NetworkDetail::default()
        };
        if name == BRIDGE {
            let settings = self.network.default_bridge_settings();
            let config = |subnet: &ipnet::IpNet| IpamConfig {
                subnet: subnet.trunc().to_string(),
                ..IpamConfig::default()
            };
            shown.ipam.config = std::iter::once(&settings.subnet).map(config).collect();
            shown.options = device(&settings.bridge);
            // The built-in network's name to CNI; pods of Kubernetes may be on it, too.
            shown.containers = self.on("orlop", attachments);
        }
        shown
    }

    fn made(&self, record: &NetworkRecord, attachments: &[Attachment]) -> NetworkDetail {
        let config = |one: &orlop_network::UserSubnet| IpamConfig {
            subnet: one.subnet.to_string(),
            range: one.range.map_or_else(String::new, |range| range.to_string()),
            gateway: one.gateway.to_string(),
        };
        let mut options = device(&record.network.bridge);
        options.extend(record.spec.options.clone());
        NetworkDetail {
            name: record.name().into(),
            id: record.id.clone(),
            created: time(record.created_at),
            scope: "local".into(),
            driver: "bridge".into(),
            enable_ipv6: record.network.subnets.iter().any(|one| one.subnet.addr().is_ipv6()),
            ipam: IpamShown {
                driver: "default".into(),
                config: record.network.subnets.iter().map(config).collect(),
            },
            internal: record.spec.internal,
            attachable: record.spec.attachable,
            containers: self.on(&record.network.name, attachments),
            options,
            labels: record.spec.labels.clone(),
        }
    }

    /// The containers of this room that have an interface on a network, by the name of its list.
    fn on(&self, list: &str, attachments: &[Attachment]) -> BTreeMap<String, EndpointShown> {
        let records: Vec<_> =
            self.index.all().into_iter().map(|container| container.record()).collect();
        let here = attachments.iter().filter(|one| one.network == list);
        here.flat_map(|one| {
            let inside = records.iter().filter(|record| {
                let attempt = record.attempt.as_ref();
                attempt.is_some_and(|attempt| attempt.sandbox.as_str() == one.sandbox)
            });
            inside.map(|record| (record.id.to_string(), endpoint(&record.name, one)))
        })
        .collect()
    }
}

fn device(bridge: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("com.docker.network.bridge.name".to_owned(), bridge.to_owned())])
}

fn endpoint(name: &str, one: &Attachment) -> EndpointShown {
    let first = |v4: bool| {
        let found = one.addresses.iter().find(|net| net.addr().is_ipv4() == v4);
        found.map_or_else(String::new, ToString::to_string)
    };
    let pod: String = one.sandbox.chars().take(12).collect();
    EndpointShown {
        name: name.to_owned(),
        endpoint_id: format!("{pod}-{}", one.interface),
        mac: one.mac.clone(),
        ipv4: first(true),
        ipv6: first(false),
    }
}

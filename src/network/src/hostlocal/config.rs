//! The `ipam` object of a plugin's configuration.

use super::range::{Range, RangeSet};
use crate::{Call, PluginError, Route};
use ipnet::IpNet;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::PathBuf;

/// Checked configuration.
#[derive(Debug)]
pub(super) struct Config {
    pub ranges: Vec<RangeSet>,
    pub routes: Vec<Route>,
    pub data_dir: PathBuf,
    pub resolv_conf: Option<PathBuf>,
    /// Addresses that the caller wants.
    pub requested: Vec<IpAddr>,
}

#[derive(Deserialize, Default)]
struct RawRange {
    #[serde(default, rename = "rangeStart")]
    start: Option<String>,
    #[serde(default, rename = "rangeEnd")]
    end: Option<String>,
    #[serde(default)]
    subnet: Option<String>,
    #[serde(default)]
    gateway: Option<String>,
}

#[derive(Deserialize, Default)]
struct RawIpam {
    #[serde(flatten)]
    single: RawRange,
    #[serde(default)]
    ranges: Option<Vec<Vec<RawRange>>>,
    #[serde(default)]
    routes: Option<Vec<Route>>,
    #[serde(default, rename = "dataDir")]
    data_dir: Option<String>,
    #[serde(default, rename = "resolvConf")]
    resolv_conf: Option<String>,
}

#[derive(Deserialize)]
struct RawNet {
    ipam: Option<RawIpam>,
    #[serde(default)]
    args: Option<RawArgs>,
    #[serde(default, rename = "runtimeConfig")]
    runtime: RawRuntime,
}

#[derive(Deserialize)]
struct RawArgs {
    #[serde(default)]
    cni: Option<RawCniArgs>,
}

#[derive(Deserialize)]
struct RawCniArgs {
    #[serde(default)]
    ips: Vec<String>,
}

#[derive(Deserialize, Default)]
struct RawRuntime {
    #[serde(default, rename = "ipRanges")]
    ranges: Option<Vec<Vec<RawRange>>>,
    #[serde(default)]
    ips: Option<Vec<String>>,
}

impl Config {
    /// Reads the configuration of a call, with the ranges and addresses that the runtime gives.
    pub(super) fn read(call: &Call<'_>) -> Result<Self, PluginError> {
        let raw: RawNet = RawNet::deserialize(call.config).map_err(|error| {
            PluginError::config(format!("host-local: ipam is not valid: {error}"))
        })?;
        Self::from_raw(raw, call).map_err(|why| PluginError::config(format!("host-local: {why}")))
    }

    fn from_raw(raw: RawNet, call: &Call<'_>) -> Result<Self, String> {
        let ipam = raw.ipam.ok_or("the key \"ipam\" is missing")?;
        let mut sets = raw.runtime.ranges.unwrap_or_default();
        if ipam.single.subnet.as_deref().is_some_and(|subnet| !subnet.is_empty()) {
            sets.push(vec![ipam.single]);
        }
        sets.extend(ipam.ranges.unwrap_or_default());
        if sets.is_empty() {
            return Err("no range is given: set \"subnet\" or \"ranges\"".into());
        }
        let ranges = sets
            .into_iter()
            .enumerate()
            .map(|(index, set)| range_set(set).map_err(|why| format!("range set {index}: {why}")));
        let ranges = ranges.collect::<Result<Vec<_>, _>>()?;
        for (index, one) in ranges.iter().enumerate() {
            if let Some(other) = ranges[index + 1..].iter().position(|other| one.overlaps(other)) {
                return Err(format!("range set {index} overlaps with {}", index + 1 + other));
            }
        }
        let requested = call
            .args
            .iter()
            .filter(|(key, value)| key == "IP" && !value.is_empty())
            .map(|(_, value)| value);
        let from_args = raw.args.and_then(|args| args.cni).map(|cni| cni.ips).unwrap_or_default();
        let from_runtime = raw.runtime.ips.unwrap_or_default();
        let requested = requested
            .chain(&from_args)
            .chain(&from_runtime)
            .map(|text| address(text))
            .collect::<Result<_, _>>()?;
        let path = |text: Option<String>| text.filter(|text| !text.is_empty()).map(PathBuf::from);
        Ok(Self {
            ranges,
            routes: ipam.routes.unwrap_or_default(),
            data_dir: path(ipam.data_dir).unwrap_or_else(|| call.ipam_dir.to_owned()),
            resolv_conf: path(ipam.resolv_conf),
            requested,
        })
    }
}

fn range_set(set: Vec<RawRange>) -> Result<RangeSet, String> {
    let optional =
        |text: Option<String>| text.filter(|t| !t.is_empty()).map(|t| address(&t)).transpose();
    let ranges = set.into_iter().map(|raw| {
        let text = raw.subnet.unwrap_or_default();
        let subnet: IpNet = text
            .parse()
            .map_err(|_| format!("subnet {text:?} is not an address with a prefix length"))?;
        Range::new(subnet, optional(raw.start)?, optional(raw.end)?, optional(raw.gateway)?)
    });
    RangeSet::new(ranges.collect::<Result<_, String>>()?)
}

/// An address, with or without a prefix length.
fn address(text: &str) -> Result<IpAddr, String> {
    let ip = text.split_once('/').map_or(text, |(ip, _)| ip);
    let parsed =
        ip.parse::<IpAddr>().ok().filter(|_| !text.contains('/') || text.parse::<IpNet>().is_ok());
    parsed.map(|ip| ip.to_canonical()).ok_or_else(|| format!("{text:?} is not an address"))
}

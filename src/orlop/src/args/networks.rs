//! `orlop network`.

use super::values;
use super::{FormatFlag, ListFlags, PruneFlags};
use clap::{Args, Subcommand};
use orlop_engine::spec::{NetworkSpec, Subnet};

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCall {
    /// List networks.
    #[command(visible_alias = "list")]
    Ls(ListFlags),
    /// Make a network; containers on it reach each other by name.
    Create(CreateNetworkArgs),
    /// Remove networks.
    #[command(visible_alias = "remove")]
    Rm(RmNetworkArgs),
    /// Show all that is known of networks.
    Inspect(InspectNetworkArgs),
    /// Put a container on a network.
    Connect(ConnectArgs),
    /// Take a container off a network.
    Disconnect(DisconnectArgs),
    /// Remove networks that no container uses.
    Prune(PruneFlags),
}

/// `network create`.
#[derive(Debug, Args)]
pub(crate) struct CreateNetworkArgs {
    /// Kind: bridge, macvlan, ipvlan.
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge",
          value_parser = ["bridge", "macvlan", "ipvlan"])]
    driver: String,
    /// Option of the driver; may be given several times.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = values::pair)]
    opt: Vec<(String, String)>,
    /// Label; may be given several times.
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = values::label)]
    label: Vec<(String, String)>,
    /// Addresses as 10.5.0.0/16; several, one of each kind [default: some that are free].
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<ipnet::IpNet>,
    /// The host's address on the subnet [default: the first].
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<std::net::IpAddr>,
    /// Part of the subnet that containers get addresses from [default: all of it].
    #[arg(long, value_name = "SUBNET")]
    ip_range: Vec<ipnet::IpNet>,
    /// With IPv6.
    #[arg(long)]
    ipv6: bool,
    /// Nothing leaves it.
    #[arg(long)]
    internal: bool,
    #[arg(long, hide = true)]
    attachable: bool,
    /// Name of the network.
    #[arg(value_parser = values::name)]
    name: String,
}

impl CreateNetworkArgs {
    /// The engine's form. An error names flag, value and remedy.
    pub(crate) fn spec(&self) -> Result<NetworkSpec, String> {
        if ["bridge", "host", "none", "default"].contains(&self.name.as_str()) {
            return Err(format!(
                "{}: this name is that of a network that is always there",
                self.name
            ));
        }
        let mut subnets: Vec<Subnet> = Vec::new();
        for (at, subnet) in self.subnet.iter().enumerate() {
            if subnet.trunc() != *subnet {
                return Err(format!("--subnet {subnet}: expected {}", subnet.trunc()));
            }
            if self.subnet[..at]
                .iter()
                .any(|other| other.contains(subnet) || subnet.contains(other))
            {
                return Err(format!("--subnet {subnet}: it overlaps another one given"));
            }
            subnets.push(Subnet { subnet: subnet.to_string(), ..Subnet::default() });
        }
        for gateway in &self.gateway {
            let within = self.subnet.iter().position(|subnet| subnet.contains(gateway));
            let at = within
                .ok_or_else(|| format!("--gateway {gateway}: no --subnet contains this address"))?;
            subnets[at].gateway = gateway.to_string();
        }
        for range in &self.ip_range {
            let within = self.subnet.iter().position(|subnet| subnet.contains(range));
            let at =
                within.ok_or_else(|| format!("--ip-range {range}: no --subnet contains it"))?;
            subnets[at].range = range.to_string();
        }
        Ok(NetworkSpec {
            name: self.name.clone(),
            driver: self.driver.clone(),
            options: self.opt.iter().cloned().collect(),
            labels: self.label.iter().cloned().collect(),
            subnets,
            ipv6: self.ipv6,
            internal: self.internal,
            attachable: self.attachable,
        })
    }
}

/// `network rm`.
#[derive(Debug, Args)]
pub(crate) struct RmNetworkArgs {
    /// What is not there is no error.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Names or ids.
    #[arg(required = true, value_name = "NETWORK")]
    pub(crate) networks: Vec<String>,
}

/// `network inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectNetworkArgs {
    #[command(flatten)]
    pub(crate) format: FormatFlag,
    #[arg(short, long, hide = true)]
    verbose: bool,
    /// Names or ids.
    #[arg(required = true, value_name = "NETWORK")]
    pub(crate) networks: Vec<String>,
}

/// `network connect`.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Further name of the container there; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = values::name)]
    pub(crate) alias: Vec<String>,
    /// Address of the container there.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<std::net::Ipv4Addr>,
    /// The same for IPv6.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip6: Option<std::net::Ipv6Addr>,
    #[arg(long, hide = true, value_name = "NAME", value_parser = values::refuse_link)]
    link: Vec<String>,
    /// Name of the network.
    pub(crate) network: String,
    /// Name or id of the container.
    pub(crate) container: String,
}

impl ConnectArgs {
    /// The engine's form of the container's place.
    pub(crate) fn endpoint(&self) -> orlop_engine::spec::Endpoint {
        orlop_engine::spec::Endpoint {
            network: self.network.clone(),
            aliases: self.alias.clone(),
            ip: self.ip.map(Into::into),
            ip6: self.ip6.map(Into::into),
            mac: None,
        }
    }
}

/// `network disconnect`.
#[derive(Debug, Args)]
pub(crate) struct DisconnectArgs {
    /// Also where the container is not in order.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Name of the network.
    pub(crate) network: String,
    /// Name or id of the container.
    pub(crate) container: String,
}

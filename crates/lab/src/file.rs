//! The lab file: what a lab consists of, declared in TOML (documented in `docs/lab-file.md`).
//!
//! These types are the text as it was written; [`crate::plan::Plan`] is the same after validation, with every name
//! resolved. Unknown keys are refused.

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Encapsulation between the hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tunnel {
    #[default]
    Geneve,
    Vxlan,
}

impl std::str::FromStr for Tunnel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "geneve" => Ok(Self::Geneve),
            "vxlan" => Ok(Self::Vxlan),
            _ => Err(format!("'{text}' is neither geneve nor vxlan")),
        }
    }
}

impl Tunnel {
    /// The configuration's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Geneve => "geneve",
            Self::Vxlan => "vxlan",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabFile {
    pub name: String,
    #[serde(default)]
    pub tunnel: Tunnel,
    /// Checksum and segmentation offloads on every link of the lab.
    #[serde(default = "yes")]
    pub offloads: bool,
    #[serde(default)]
    pub underlay: Underlay,
    #[serde(default)]
    pub controller: Controller,
    #[serde(default, rename = "physical_network")]
    pub physical_networks: Vec<PhysicalNetwork>,
    #[serde(default, rename = "host")]
    pub hosts: Vec<Host>,
    #[serde(default, rename = "external_host")]
    pub external_hosts: Vec<ExternalHost>,
    #[serde(default, rename = "external_network")]
    pub external_networks: Vec<ExternalNetwork>,
    #[serde(default, rename = "network")]
    pub networks: Vec<Network>,
    #[serde(default, rename = "router")]
    pub routers: Vec<Router>,
    #[serde(default, rename = "security_group")]
    pub security_groups: Vec<SecurityGroup>,
    #[serde(default, rename = "vm")]
    pub vms: Vec<Vm>,
    #[serde(default, rename = "floating_ip")]
    pub floating_ips: Vec<FloatingIp>,
}

fn yes() -> bool {
    true
}

/// The network between the hosts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Underlay {
    pub cidr: Ipv4Net,
    pub mtu: u32,
}

impl Default for Underlay {
    fn default() -> Self {
        let cidr = Ipv4Net::new_assert(Ipv4Addr::new(10, 90, 0, 0), 24);
        Self { cidr, mtu: 1500 }
    }
}

/// Where the controller runs: on a host, or on a machine of its own with an address on the underlay.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    pub host: Option<String>,
    pub address: Option<Ipv4Addr>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhysicalNetwork {
    pub name: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub name: String,
    pub vtep: Ipv4Addr,
    #[serde(default)]
    pub physical_networks: Vec<String>,
}

/// A machine outside: on a physical network, or behind another machine outside.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalHost {
    pub name: String,
    pub physical_network: Option<String>,
    pub vlan: Option<u16>,
    pub behind: Option<String>,
    pub addresses: Vec<Ipv4Net>,
    #[serde(default)]
    pub routes: Vec<Route>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub destination: Ipv4Net,
    pub via: Ipv4Addr,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    #[default]
    Direct,
    Gateway,
}

impl Egress {
    /// The API's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Gateway => "gateway",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalNetwork {
    pub name: String,
    pub physical_network: String,
    /// None: untagged.
    pub vlan: Option<u16>,
    pub cidr: Ipv4Net,
    pub gateway: Ipv4Addr,
    /// A prefix of 64 bits: its gateway has the first address, and VMs are outside with their own.
    pub ipv6: Option<Ipv6Net>,
    /// `first-last`; the rest of the subnet if not given.
    pub pool: Option<String>,
    #[serde(default)]
    pub egress: Egress,
    pub block_size: Option<u16>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub name: String,
    pub subnets: Vec<Subnet>,
    /// A prefix of 64 bits besides: VMs make their addresses of it.
    pub ipv6: Option<Ipv6Net>,
    pub mtu: Option<u16>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    pub cidr: Ipv4Net,
    /// The first address if not given.
    pub gateway: Option<Ipv4Addr>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Router {
    pub name: String,
    /// Networks whose subnets it joins.
    pub interfaces: Vec<String>,
    pub external_network: Option<String>,
    /// Chosen by the controller if not given.
    pub snat_address: Option<Ipv4Addr>,
    /// Mappings one VM may have at a time; no limit if not given.
    pub ports_per_vm_max: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmKind {
    /// A namespace at the other end of a veth pair.
    #[default]
    Veth,
    /// A tap with virtio-net headers, read by a process that plays the guest's network card.
    Tap,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroup {
    pub name: String,
    #[serde(default = "yes")]
    pub stateful: bool,
    /// Each as `ingress tcp 80-90 from 10.0.0.0/8`; nothing else is allowed.
    pub rules: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    pub name: String,
    pub host: String,
    pub network: String,
    pub address: Ipv4Addr,
    #[serde(default)]
    pub kind: VmKind,
    /// Names; everything is allowed if not given.
    pub security_groups: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloatingIp {
    pub vm: String,
    pub address: Ipv4Addr,
}

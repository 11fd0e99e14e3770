//! What the model says around the two ends, as the API tells it.

use crate::resource::{
    Context, FLOATING_IP, HOST, NETWORK, PORT, ROUTER, SECURITY_GROUP, SECURITY_GROUP_RULE, SUBNET,
};
use model::trace::Description;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};

/// Lists of the API, and the ends among them.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) description: Description,
    pub(crate) ports: Vec<Value>,
    pub(crate) networks: Vec<Value>,
    pub(crate) subnets: Vec<Value>,
    pub(crate) routers: Vec<Value>,
    pub(crate) floating_ips: Vec<Value>,
    pub(crate) hosts: Vec<Value>,
    pub(crate) security_groups: Vec<Value>,
    pub(crate) security_group_rules: Vec<Value>,
}

/// A text attribute; empty if there is none.
pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A name for messages and commands: the object's own, or its id.
pub(crate) fn name(object: &Value) -> &str {
    Some(text(object, "name")).filter(|name| !name.is_empty()).unwrap_or_else(|| text(object, "id"))
}

pub(crate) fn is(object: &Value, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or(false)
}

pub(crate) fn address(object: &Value, key: &str) -> Option<IpAddr> {
    text(object, key).parse().ok()
}

/// Addresses of a port with their subnets.
pub(crate) fn fixed_ips(port: &Value) -> impl Iterator<Item = (IpAddr, &str)> {
    let ips = port.get("fixed_ips").and_then(Value::as_array).into_iter().flatten();
    ips.filter_map(|ip| Some((address(ip, "ip_address")?, text(ip, "subnet_id"))))
}

impl Facts {
    pub(crate) async fn load(description: &Description, cx: &Context) -> anyhow::Result<Self> {
        let client = &cx.client;
        Ok(Self {
            description: description.clone(),
            ports: client.list(&PORT, &[]).await?,
            networks: client.list(&NETWORK, &[]).await?,
            subnets: client.list(&SUBNET, &[]).await?,
            routers: client.list(&ROUTER, &[]).await?,
            floating_ips: client.list(&FLOATING_IP, &[]).await?,
            hosts: client.list(&HOST, &[]).await?,
            security_groups: client.list(&SECURITY_GROUP, &[]).await?,
            security_group_rules: client.list(&SECURITY_GROUP_RULE, &[]).await?,
        })
    }

    /// The sender's port.
    pub(crate) fn from(&self) -> Option<&Value> {
        let id = self.description.from_port?.to_string();
        self.ports.iter().find(|port| text(port, "id") == id)
    }

    pub(crate) fn destination(&self) -> IpAddr {
        self.description.destination_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
    }

    /// Whose MAC a VM of a subnet asks for to send to the destination.
    pub(crate) fn next_hop(&self, subnet: Option<&Value>) -> IpAddr {
        let wanted = self.destination();
        let cidr = subnet.and_then(|subnet| text(subnet, "cidr").parse::<ipnet::IpNet>().ok());
        let gateway = subnet.and_then(|subnet| address(subnet, "gateway_ip"));
        let elsewhere = cidr.is_some_and(|cidr| !cidr.contains(&wanted));
        let link_local = matches!(wanted, IpAddr::V6(wanted) if wanted.is_unicast_link_local());
        gateway.filter(|_| elsewhere && !link_local).unwrap_or(wanted)
    }

    pub(crate) fn port(&self, id: &str) -> Option<&Value> {
        self.ports.iter().find(|port| text(port, "id") == id)
    }

    pub(crate) fn network(&self, id: &str) -> Option<&Value> {
        self.networks.iter().find(|network| text(network, "id") == id)
    }

    pub(crate) fn subnet(&self, id: &str) -> Option<&Value> {
        self.subnets.iter().find(|subnet| text(subnet, "id") == id)
    }

    pub(crate) fn router(&self, id: &str) -> Option<&Value> {
        self.routers.iter().find(|router| text(router, "id") == id)
    }

    pub(crate) fn host(&self, name: &str) -> Option<&Value> {
        self.hosts.iter().find(|host| text(host, "name") == name)
    }

    /// Routers with an interface on a network, and the interface.
    pub(crate) fn routers_of(&self, network: &str) -> impl Iterator<Item = (&Value, &Value)> {
        let legs = self.ports.iter().filter(move |port| {
            text(port, "network_id") == network && text(port, "device_owner") == "network:router_interface"
        });
        legs.filter_map(|leg| Some((self.router(text(leg, "device_id"))?, leg)))
    }

    /// The router that has a network's gateway address: that of a subnet of it.
    pub(crate) fn gateway_router(&self, network: &str, gateway: IpAddr) -> Option<&Value> {
        let mut routers = self.routers_of(network);
        routers
            .find(|(_, leg)| fixed_ips(leg).any(|(address, _)| address == gateway))
            .map(|(router, _)| router)
    }

    /// A port's network, its first subnet of the destination's family, and the router that has the gateway address.
    pub(crate) fn way_out<'a>(&'a self, port: &'a Value) -> (&'a str, Option<&'a Value>, Option<&'a Value>) {
        let network = text(port, "network_id");
        let of_family = |(address, _): &(IpAddr, &str)| address.is_ipv4() == self.destination().is_ipv4();
        let subnet = fixed_ips(port).find(of_family).and_then(|(_, subnet)| self.subnet(subnet));
        let gateway = subnet.and_then(|subnet| address(subnet, "gateway_ip"));
        (network, subnet, gateway.and_then(|gateway| self.gateway_router(network, gateway)))
    }

    /// The VM's port that has an address, seen from the sender: on its network, or on one of the same router.
    pub(crate) fn port_at(&self, wanted: IpAddr) -> Option<&Value> {
        let from = self.from();
        let own = from.map(|port| text(port, "network_id")).unwrap_or_default();
        let routers: Vec<&str> = self.routers_of(own).map(|(router, _)| text(router, "id")).collect();
        let near = |port: &Value| {
            let network = text(port, "network_id");
            network == own
                || self.routers_of(network).any(|(router, _)| routers.contains(&text(router, "id")))
        };
        let has = |port: &&Value| {
            !text(port, "device_owner").starts_with("network:") && fixed_ips(port).any(|(ip, _)| ip == wanted)
        };
        let mut at = self.ports.iter().filter(has);
        at.find(|port| near(port))
    }

    pub(crate) fn floating_ip(&self, wanted: IpAddr) -> Option<&Value> {
        self.floating_ips.iter().find(|ip| address(ip, "floating_ip_address") == Some(wanted))
    }

    /// The external network of a router.
    pub(crate) fn external_of(&self, router: &Value) -> Option<&Value> {
        let gateway = router.get("external_gateway_info").filter(|info| !info.is_null())?;
        self.network(text(gateway, "network_id"))
    }

    /// The router that has an address as its SNAT address.
    pub(crate) fn router_at(&self, wanted: IpAddr) -> Option<&Value> {
        self.routers.iter().find(|router| {
            let ips = router.get("external_gateway_info").and_then(|info| info.get("external_fixed_ips"));
            let mut ips = ips.and_then(Value::as_array).into_iter().flatten();
            ips.any(|ip| address(ip, "ip_address") == Some(wanted))
        })
    }

    /// An external network that an address could be of.
    pub(crate) fn external_with(&self, wanted: IpAddr) -> Option<&Value> {
        let contains = |subnet: &Value| {
            text(subnet, "cidr").parse::<ipnet::IpNet>().is_ok_and(|cidr| cidr.contains(&wanted))
        };
        let external = |network: &&Value| is(network, "router:external");
        self.networks.iter().filter(external).find(|network| {
            let id = text(network, "id");
            self.subnets.iter().any(|subnet| text(subnet, "network_id") == id && contains(subnet))
        })
    }

    /// Hosts that have the physical network of an external network.
    pub(crate) fn hosts_with<'a>(&'a self, physical_network: &'a str) -> impl Iterator<Item = &'a Value> {
        self.hosts.iter().filter(move |host| {
            let networks = host.get("physical_networks").and_then(Value::as_array);
            networks.into_iter().flatten().any(|network| network.as_str() == Some(physical_network))
        })
    }
}

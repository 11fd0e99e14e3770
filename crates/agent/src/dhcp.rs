//! DHCP, DHCPv6 and router advertisements for this host's VMs: what each is told follows from the slice, and every
//! message is counted by what became of it. The exchanges themselves are the crate `dhcp`'s.

use dhcp::advertisement::{AdvertisedPrefix, Advertisement};
use dhcp::{Kind, Lease, LeasedAddress, Server, Silence, v6};
use ipnet::{IpNet, Ipv4Net};
use model::dhcp::NoOption;
use model::ip;
use model::resource::Ipv6Mode;
use model::slice::{Network, Port, StaticRoute, Subnet, SubnetDhcp};
use packet::MacAddr;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SERVER_V6: v6::Server = v6::Server { mac: pipeline::SERVICE_MAC };
const SERVER: Server = Server {
    mac: pipeline::SERVICE_MAC,
    address: {
        let [a, b, c, d] = pipeline::SERVICE_ADDRESS;
        Ipv4Addr::new(a, b, c, d)
    },
};

#[derive(Debug, Default)]
pub(crate) struct Dhcp {
    answered: BTreeMap<Kind, u64>,
    unanswered: BTreeMap<Silence, u64>,
    answered_v6: BTreeMap<v6::Kind, u64>,
    unanswered_v6: BTreeMap<v6::Silence, u64>,
    /// Messages of ports that are not there any more.
    unknown_port: u64,
}

impl Dhcp {
    /// The frame that answers a port's, if it is to be answered.
    pub(crate) fn answer(&mut self, lease: Option<&Lease>, frame: &[u8]) -> Option<Vec<u8>> {
        let Some(lease) = lease else {
            self.unknown_port += 1;
            return None;
        };
        match dhcp::answer(&SERVER, lease, frame) {
            Ok(reply) => {
                *self.answered.entry(reply.kind).or_default() += 1;
                Some(reply.frame)
            }
            Err(silence) => {
                *self.unanswered.entry(silence).or_default() += 1;
                None
            }
        }
    }

    /// Likewise of DHCPv6. No lease: it is off there, or there is no such port any more.
    pub(crate) fn answer_v6(&mut self, lease: Option<&v6::Lease>, frame: &[u8]) -> Option<Vec<u8>> {
        match v6::answer(&SERVER_V6, lease, frame) {
            Ok(reply) => {
                *self.answered_v6.entry(reply.kind).or_default() += 1;
                Some(reply.frame)
            }
            Err(silence) => {
                *self.unanswered_v6.entry(silence).or_default() += 1;
                None
            }
        }
    }

    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        let answered = self.answered.iter().map(|(kind, count)| (kind.name(), *count));
        let unanswered = self.unanswered.iter().map(|(silence, count)| (silence.name(), *count));
        let all = answered.chain(unanswered).chain([("unknown-port", self.unknown_port)]);
        let all = all.map(|(name, count)| (format!("agent.dhcp-{name}"), count));
        let answered = self.answered_v6.iter().map(|(kind, count)| (kind.name(), *count));
        let unanswered = self.unanswered_v6.iter().map(|(silence, count)| (silence.name(), *count));
        let all_v6 = answered.chain(unanswered).map(|(name, count)| (format!("agent.dhcp6-{name}"), count));
        all.chain(all_v6).filter(|(_, count)| *count > 0).collect()
    }
}

/// What a port's VM is told by DHCPv6; none: its subnets have no mode that says so.
pub(crate) fn lease_v6(port: &Port, network: &Network, lease_s: u32) -> Option<v6::Lease> {
    let addresses = port.addresses.iter().copied().filter_map(ip::ipv6);
    let own = addresses.filter_map(|address| Some((address, subnet_of(network, address.into())?)));
    let served: Vec<(Ipv6Addr, &Subnet, &SubnetDhcp)> = own
        .filter(|(_, subnet)| {
            matches!(subnet.ipv6_address_mode, Some(Ipv6Mode::Stateless | Ipv6Mode::Stateful))
        })
        .filter_map(|(address, subnet)| Some((address, subnet, subnet.dhcp.as_ref()?)))
        .collect();
    let told = served.iter().filter(|(_, subnet, _)| subnet.ipv6_address_mode == Some(Ipv6Mode::Stateful));
    let mut dns_servers = Vec::new();
    for (.., said) in &served {
        add_servers(said, &mut dns_servers);
    }
    let options = port.guest.iter().flat_map(|guest| &guest.dhcp6_options);
    let options = options.filter_map(|option| encoded(option.encode_v6()));
    (!served.is_empty()).then(|| v6::Lease {
        mac: MacAddr(port.mac.0),
        addresses: told.map(|(address, ..)| *address).collect(),
        dns_servers,
        lease_s,
        options: options.collect(),
    })
}

/// What a router says that has nothing to say yet.
pub(crate) fn silent(router: MacAddr, mtu: u16) -> Advertisement {
    Advertisement {
        router,
        ends: false,
        managed: false,
        other: false,
        mtu,
        prefixes: Vec::new(),
        dns_servers: Vec::new(),
    }
}

/// Adds a subnet of the router to what it says.
pub(crate) fn advertise(subnet: &Subnet, said: &mut Advertisement) {
    let (Some(mode), IpNet::V6(prefix)) = (subnet.ipv6_ra_mode, subnet.cidr) else { return };
    said.managed |= mode == Ipv6Mode::Stateful;
    said.other |= mode == Ipv6Mode::Stateless;
    said.prefixes.push(AdvertisedPrefix { prefix, autonomous: mode != Ipv6Mode::Stateful });
    if let Some(told) = &subnet.dhcp {
        add_servers(told, &mut said.dns_servers);
    }
}

fn add_servers(said: &SubnetDhcp, servers: &mut Vec<Ipv6Addr>) {
    for server in said.dns_nameservers.iter().copied().filter_map(ip::ipv6) {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
}

/// What a port's VM is told: its addresses on those subnets that have DHCP on, in their order.
pub(crate) fn lease(port: &Port, network: &Network, lease_s: u32) -> Lease {
    let leased = port.addresses.iter().copied().filter_map(ip::ipv4).filter_map(|address| {
        let subnet = subnet_of(network, address.into())?;
        leased_address(address, subnet, subnet.dhcp.as_ref()?)
    });
    let options = port.guest.iter().flat_map(|guest| &guest.dhcp_options);
    let options = options.filter_map(|option| encoded(option.encode()));
    Lease {
        mac: MacAddr(port.mac.0),
        addresses: leased.collect(),
        mtu: network.mtu,
        lease_s,
        options: options.collect(),
    }
}

/// None: a port of an older version has an option that cannot be told.
fn encoded<T>(option: Result<T, NoOption>) -> Option<T> {
    option.inspect_err(|error| tracing::debug!(%error, "DHCP option left out")).ok()
}

fn leased_address(address: Ipv4Addr, subnet: &Subnet, said: &SubnetDhcp) -> Option<LeasedAddress> {
    Some(LeasedAddress {
        // A prefix length of a prefix.
        address: Ipv4Net::new(address, subnet.cidr.prefix_len()).ok()?,
        gateway: subnet.gateway.and_then(ip::ipv4),
        dns_servers: said.dns_nameservers.iter().copied().filter_map(ip::ipv4).collect(),
        routes: said.host_routes.iter().filter_map(ipv4_route).collect(),
    })
}

fn ipv4_route(route: &StaticRoute) -> Option<(Ipv4Net, Ipv4Addr)> {
    match (route.destination, route.next_hop) {
        (IpNet::V4(destination), IpAddr::V4(next_hop)) => Some((destination, next_hop)),
        _ => None,
    }
}

fn subnet_of(network: &Network, address: IpAddr) -> Option<&Subnet> {
    network.subnets.values().find(|subnet| subnet.cidr.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::slice::{DhcpOption, Guest};
    use model::{Mac, NetworkId, SubnetId, Vni};
    use uuid::Uuid;

    fn network(dhcp: Option<SubnetDhcp>) -> Network {
        let subnet = |cidr: &str, dhcp| Subnet { dhcp, ..Subnet::new(cidr.parse().unwrap(), None) };
        let id = |number| SubnetId::from_uuid(Uuid::from_u128(number));
        let subnets = [(id(1), subnet("10.1.0.0/24", None)), (id(2), subnet("10.2.0.0/16", dhcp))];
        let vni = Vni::new(101).unwrap();
        Network { vni, name: "blue".to_owned(), mtu: 1450, admin_up: true, subnets: subnets.into() }
    }

    fn port() -> Port {
        let option = |name: &str, value: &str| DhcpOption { name: name.to_owned(), value: value.to_owned() };
        Port {
            network: NetworkId::from_uuid(Uuid::from_u128(3)),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addresses: vec![[10, 1, 0, 5].into(), [10, 2, 0, 5].into(), [10, 9, 0, 5].into()],
            host: None,
            admin_up: true,
            port_security: true,
            allowed_pairs: Vec::new(),
            security_groups: None,
            guest: Some(Guest {
                dhcp_options: vec![option("mtu", "1400"), option("colour", "red")],
                ..Guest::default()
            }),
        }
    }

    #[test]
    fn addresses_of_subnets_with_dhcp_are_leased() {
        let said = SubnetDhcp { dns_nameservers: vec![[8, 8, 8, 8].into()], host_routes: Vec::new() };
        let told = lease(&port(), &network(Some(said)), 600);
        let [leased] = told.addresses.as_slice() else { panic!("{told:?}") };
        assert_eq!(leased.address.to_string(), "10.2.0.5/16");
        assert_eq!(leased.dns_servers, [Ipv4Addr::new(8, 8, 8, 8)]);
        assert_eq!((told.mtu, told.lease_s), (1450, 600));
        assert_eq!(told.options, [(26, vec![5, 120])].into(), "an unknown option is left out");
        assert_eq!(lease(&port(), &network(None), 600).addresses, []);
    }

    #[test]
    fn every_message_is_counted() {
        let mut dhcp = Dhcp::default();
        assert_eq!(dhcp.answer(None, &[]), None);
        assert_eq!(dhcp.answer(Some(&lease(&port(), &network(None), 600)), &[0; 20]), None);
        let want = [("agent.dhcp-malformed", 1), ("agent.dhcp-unknown-port", 1)];
        assert_eq!(dhcp.counters(), want.map(|(name, count)| (name.to_owned(), count)).into());
    }
}

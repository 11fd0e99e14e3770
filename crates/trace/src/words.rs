//! Entries of tables in words.

mod acl;

use crate::walk::Surroundings;
use model::slice::Slice;
use model::trace::Look as Told;
use model::{PortId, SecurityGroupRuleId};
use packet::zerocopy::{Immutable, IntoBytes};
use pipeline::Stage;
use pipeline::host::{Look, Step};
use pipeline::nat::{BindingKey, Mapping, MappingKey};
use pipeline::session::SessionKey;
use pipeline::table_set::{Prefix, RoutePrefix};
use pipeline::tables::*;
use pipeline::{Address, Punt};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

/// What numbers are called.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Networks and routers by VNI.
    pub networks: BTreeMap<u32, String>,
    /// By ifindex.
    pub links: BTreeMap<u32, Link>,
    /// By tunnel address.
    pub hosts: BTreeMap<Ipv4Addr, String>,
    /// Of security groups, as [`rules_of`] words them.
    pub rules: BTreeMap<SecurityGroupRuleId, String>,
}

/// Of a packet; what rules of security groups are of, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

/// A link of the host.
#[derive(Clone, Debug, Default)]
pub struct Link {
    pub name: String,
    /// Administratively up, with carrier.
    pub up: bool,
    pub port: Option<PortId>,
    pub physical_network: Option<String>,
}

pub use acl::rule_entry_text;
use acl::rule_text;

/// Every rule of security groups in a slice, as a clause: `rule 5b… of group web (ingress tcp 443 from 10.0.0.0/8)`.
pub fn rules_of(slice: &Slice) -> BTreeMap<SecurityGroupRuleId, String> {
    let worded = slice.security_group_rules.iter().map(|(id, rule)| {
        let group = slice.security_groups.get(&rule.group);
        let group = group.map_or_else(|| rule.group.to_string(), |group| group.name.clone());
        (*id, format!("rule {id} of group {group} ({})", rule_text(rule)))
    });
    worded.collect()
}

impl Names {
    pub(crate) fn network(&self, vni: u32) -> String {
        self.networks.get(&vni).cloned().unwrap_or_else(|| format!("VNI {vni}"))
    }

    pub(crate) fn link(&self, ifindex: u32) -> String {
        self.links.get(&ifindex).map_or_else(|| format!("link {ifindex}"), |link| link.name.clone())
    }

    pub(crate) fn host(&self, vtep: Ipv4Addr) -> String {
        self.hosts.get(&vtep).cloned().unwrap_or_else(|| vtep.to_string())
    }

    fn host_of(&self, vtep: Address) -> String {
        if vtep.is_zero() { "this host".to_owned() } else { self.host(vtep.to_v4().into()) }
    }
}

/// One question to a table in words; none for what is no entry.
pub(crate) fn look(look: &Look, around: &Surroundings<'_>) -> Option<Told> {
    let names = around.names;
    let (table, key, value) = worded(look, names)?;
    let (origin, differs) = match programmed_entry(look, around) {
        Some((table, key, differs)) => ((around.origin)(table, &key), differs),
        None => (None, false),
    };
    Some(Told { table: table.to_owned(), key, value, origin, differs })
}

/// Table, key and value of one question to a table; none for what is no entry.
pub fn worded(look: &Look, names: &Names) -> Option<(&'static str, String, Option<String>)> {
    let net = |vni: u32| names.network(vni);
    Some(match look {
        Look::Network(key, value) => {
            ("networks", net(key.vni), value.map(|network| network_text(&network, names)))
        }
        Look::Station(key, value) => {
            let value = value.map(|station| station_text(&station, names));
            ("stations", format!("{} on {}", key.mac, net(key.vni)), value)
        }
        Look::Neighbor(key, value) => {
            let value = value.map(|neighbor| neighbor.mac.to_string());
            ("neighbors", format!("{} on {}", key.address, net(key.vni)), value)
        }
        Look::Route(key, value) => {
            let router = net(key.router_vni());
            (
                "routes",
                format!("{} in router {router}", key.address),
                value.map(|route| route_text(&route, names)),
            )
        }
        Look::External(key, value) => {
            ("externals", net(key.vni), value.map(|external| external_text(&external, names)))
        }
        Look::Uplink(key, value) => {
            let key = format!("{}, VLAN {}", names.link(key.ifindex), key.vlan);
            ("uplinks", key, value.map(|network| net(network.vni)))
        }
        Look::Gateway(key, value) => {
            let value = value.map(|gateway| names.host_of(gateway.vtep));
            ("gateways", format!("{} slot {}", net(key.external_vni), key.slot), value)
        }
        Look::ExternalAddress(key, value) => {
            let value = value.map(|address| external_address_text(&address, names));
            ("external_addresses", format!("{} on {}", key.address, net(key.external_vni)), value)
        }
        Look::Forwarding(key, value) => {
            let value = value.map(|forwarding| forwarding_text(key, &forwarding, names));
            ("forwardings", binding_text(key), value)
        }
        Look::FloatingByFixed(key, value) => {
            let value = value.map(|floating| floating.address.to_string());
            ("floating_by_fixed", format!("{} of router {}", key.address, net(key.router_vni)), value)
        }
        Look::Snat(key, value) => {
            let value =
                value.map(|snat| format!("to {}, {} blocks here", net(snat.external_vni), snat.block_count));
            ("snat", format!("router {}", net(key.router_vni)), value)
        }
        Look::OwnBlock(key, value) => {
            let value = value.map(|block| block_text(&block));
            ("own_blocks", format!("router {} slot {}", net(key.router_vni), key.slot), value)
        }
        Look::BlockOwner(key, value) => {
            let value =
                value.map(|owner| format!("{}, router {}", names.host_of(owner.vtep), net(owner.router_vni)));
            ("block_owners", format!("{} block {}", key.address, key.block), value)
        }
        Look::Vtep(key, value) => {
            let value = value.map(|vtep| format!("{}, DVR MAC {}", names.host_of(key.address), vtep.dvr_mac));
            ("vteps", key.address.to_string(), value)
        }
        other => return port_worded(other, names),
    })
}

/// Likewise, of ports, what guards them and what their host serves them.
fn port_worded(look: &Look, names: &Names) -> Option<(&'static str, String, Option<String>)> {
    Some(match look {
        Look::Port(key, value) => {
            ("ports", names.link(key.ifindex), value.map(|port| port_text(&port, names)))
        }
        Look::PortAddress(key, found) => {
            let key = format!("{}: {} with {}", names.link(key.ifindex), key.mac, key.address);
            ("port_addresses", key, found.then(|| "allowed".to_owned()))
        }
        Look::PortPrefix(key, found) => {
            let key = format!("{}: {} with {}", names.link(key.ifindex), key.mac, key.address);
            ("port_prefixes", key, found.then(|| "allowed".to_owned()))
        }
        Look::AclRemote(key, value) => {
            let classes = |found: AclClasses| found.ids.iter().filter(|class| !class.is_zero()).count();
            let value = value.map(|found| format!("in rules, by {} remote ends", classes(found)));
            ("acl_remotes", key.address.to_string(), value)
        }
        Look::AclRule(key, allowed) => {
            let value = (*allowed != 0).then(|| acl::allowed_text(*allowed));
            ("acl_rules", acl::rule_key_text(key), value)
        }
        Look::Service(key, value) => {
            let value = value.map(|guest| format!("{} on {}", guest.address, names.link(guest.ifindex)));
            ("services", format!("{} on {}", key.address, names.link(key.ifindex)), value)
        }
        other => return state_worded(other, names),
    })
}

/// Likewise, of what the programs write themselves.
fn state_worded(look: &Look, names: &Names) -> Option<(&'static str, String, Option<String>)> {
    Some(match look {
        Look::Session(key, value) => {
            ("sessions", session_text(key, names), value.map(|reply| session_text(&reply, names)))
        }
        Look::Reply(key, value) => {
            ("replies", session_text(key, names), value.map(|forward| session_text(&forward, names)))
        }
        Look::NewSession(key, reply) => (
            "sessions",
            session_text(key, names),
            Some(format!("made, replies as {}", session_text(reply, names))),
        ),
        Look::EndedSession(key) => ("sessions", session_text(key, names), Some("ended".to_owned())),
        Look::Mapping(key, value) => {
            ("mappings", internal_text(key), value.map(|mapping| mapping_text(&mapping)))
        }
        Look::NewMapping(key, mapping) => {
            ("mappings", internal_text(key), Some(format!("made: {}", mapping_text(mapping))))
        }
        Look::Contact(key, found) => {
            let key = format!("{} towards {}", binding_text(&key.binding), key.remote);
            ("contacts", key, found.then(|| "used towards it".to_owned()))
        }
        Look::Opening(key, found) => {
            ("openings", binding_text(key), found.then(|| "opened to anyone".to_owned()))
        }
        Look::Binding(key, value) => {
            ("bindings", binding_text(key), value.map(|internal| internal_text(&internal)))
        }
        Look::Claim(key, free) => {
            ("bindings", binding_text(key), Some(if *free { "free, taken" } else { "in use" }.to_owned()))
        }
        _ => return None,
    })
}

fn port_text(port: &Port, names: &Names) -> String {
    let state = if port.flags & Port::FLAG_ACTIVE != 0 { "up" } else { "down" };
    let security = if port.flags & Port::FLAG_UNRESTRICTED != 0 { ", port security off" } else { "" };
    format!(
        "{state}, network {}, MAC {}, MTU {}{security}",
        names.network(port.network_vni),
        port.mac,
        port.mtu
    )
}

fn network_text(network: &Network, names: &Names) -> String {
    let router = |vni: u32| if vni == 0 { "none".to_owned() } else { names.network(vni) };
    match network.kind {
        Network::TENANT => {
            format!("tenant network, router {}, MTU {}", router(network.router_vni), network.mtu)
        }
        Network::TRANSIT => {
            format!("transit network to {}, MTU {}", names.network(network.external_vni), network.mtu)
        }
        _ => format!("external network, MTU {}", network.mtu),
    }
}

fn station_text(station: &Station, names: &Names) -> String {
    match station.kind {
        Station::PORT => format!("port {}", names.link(station.id)),
        Station::ROUTER => format!("router {}", names.network(station.id)),
        _ => format!("on host {}", names.host_of(station.vtep)),
    }
}

fn route_text(route: &Route, names: &Names) -> String {
    let via = if route.next_hop.is_zero() { "on link".to_owned() } else { format!("via {}", route.next_hop) };
    match route.kind {
        Route::BLACKHOLE => "discard".to_owned(),
        Route::EXTERNAL_UNTRANSLATED => {
            format!("{} {via}, MTU {}, untranslated", names.network(route.vni), route.mtu)
        }
        _ => format!("{} {via}, MTU {}", names.network(route.vni), route.mtu),
    }
}

fn external_text(external: &External, names: &Names) -> String {
    let uplink = match external.uplink_ifindex {
        0 => "no uplink here".to_owned(),
        ifindex => format!("uplink {}", names.link(ifindex)),
    };
    let vlan = if external.vlan == 0 { "untagged".to_owned() } else { format!("VLAN {}", external.vlan) };
    format!("{uplink}, {vlan}, {} live gateways", external.gateway_count)
}

fn external_address_text(address: &ExternalAddress, names: &Names) -> String {
    let answer =
        if address.flags & ExternalAddress::FLAG_ANSWER != 0 { ", this host answers for it" } else { "" };
    match address.kind {
        ExternalAddress::FLOATING => {
            format!("floating IP of {} on {}{answer}", address.fixed, names.host_of(address.vtep))
        }
        ExternalAddress::ROUTED => {
            format!("own address of a VM on {}, not translated{answer}", names.host_of(address.vtep))
        }
        ExternalAddress::ROUTER => {
            format!("own address of router {}{answer}", names.network(address.router_vni))
        }
        ExternalAddress::FORWARDED => {
            format!("floating IP whose ports router {} forwards{answer}", names.network(address.router_vni))
        }
        _ => format!("SNAT address of router {}{answer}", names.network(address.router_vni)),
    }
}

fn forwarding_text(key: &BindingKey, forwarding: &Forwarding, names: &Names) -> String {
    let to = endpoint(forwarding.address, forwarding.port, key.protocol);
    format!("forwarded to {to} on {}", names.host_of(forwarding.vtep))
}

fn block_text(block: &PortBlock) -> String {
    format!(
        "{}, ports {} to {}",
        block.address,
        block.first,
        block.first.saturating_add(block.size.saturating_sub(1))
    )
}

fn endpoint(address: Address, port: u16, protocol: u8) -> String {
    match protocol {
        packet::ipv4::PROTOCOL_TCP | packet::ipv4::PROTOCOL_UDP => {
            SocketAddr::new(address.into(), port).to_string()
        }
        packet::ipv4::PROTOCOL_ICMP | packet::ipv6::PROTOCOL_ICMP => format!("{address} id {port}"),
        _ => address.to_string(),
    }
}

fn session_text(key: &SessionKey, names: &Names) -> String {
    let src = endpoint(key.src, key.src_port, key.protocol);
    let dst = endpoint(key.dst, key.dst_port, key.protocol);
    format!("{} {src} > {dst} on {}", crate::frames::protocol_name(key.protocol), names.network(key.vni))
}

fn internal_text(key: &MappingKey) -> String {
    format!(
        "{} {}",
        crate::frames::protocol_name(key.protocol),
        endpoint(key.address, key.port, key.protocol)
    )
}

fn mapping_text(mapping: &Mapping) -> String {
    format!("{} port {}", mapping.address, mapping.port)
}

fn binding_text(key: &BindingKey) -> String {
    format!("{} {} port {}", crate::frames::protocol_name(key.protocol), key.address, key.port)
}

/// The compiler's name of the entry that was found, and whether the kernel's is another than the compiled one.
fn programmed_entry(look: &Look, around: &Surroundings<'_>) -> Option<(&'static str, Vec<u8>, bool)> {
    let set = around.programmed;
    macro_rules! entry {
        ($table:ident, $key:expr, $value:expr) => {{
            let differs = set.$table.get($key) != $value.as_ref();
            Some((stringify!($table), bytes_of($key), differs))
        }};
    }
    match look {
        Look::Port(key, value) => entry!(ports, key, value),
        Look::PortAddress(key, found) => entry!(port_addresses, key, found.then_some(1)),
        Look::Network(key, value) => entry!(networks, key, value),
        Look::Station(key, value) => entry!(stations, key, value),
        Look::Neighbor(key, value) => entry!(neighbors, key, value),
        Look::Route(key, value) => {
            let (prefix, route) = longest(set, key)?;
            let bytes = acl::entry_key(prefix.len, prefix.key.as_bytes());
            Some(("routes", bytes, Some(route) != value.as_ref()))
        }
        Look::External(key, value) => entry!(externals, key, value),
        Look::Uplink(key, value) => entry!(uplinks, key, value),
        Look::Gateway(key, value) => entry!(gateways, key, value),
        Look::ExternalAddress(key, value) => entry!(external_addresses, key, value),
        Look::Forwarding(key, value) => entry!(forwardings, key, value),
        Look::FloatingByFixed(key, value) => entry!(floating_by_fixed, key, value),
        Look::Snat(key, value) => entry!(snat, key, value),
        Look::OwnBlock(key, value) => entry!(own_blocks, key, value),
        Look::BlockOwner(key, value) => entry!(block_owners, key, value),
        Look::Vtep(key, value) => entry!(vteps, key, value),
        Look::Service(key, value) => entry!(services, key, value),
        Look::PortPrefix(key, found) => {
            let (prefix, _) = Prefix::longest(&set.port_prefixes, key, PortAddressKey::LPM_LENS)?;
            Some(("port_prefixes", acl::entry_key(prefix.len, prefix.key.as_bytes()), !found))
        }
        Look::AclRemote(key, value) => {
            let (prefix, classes) = Prefix::longest(&set.acl_remotes, key, AclRemoteKey::LPM_LENS)?;
            let bytes = acl::entry_key(prefix.len, prefix.key.as_bytes());
            Some(("acl_remotes", bytes, Some(classes) != value.as_ref()))
        }
        Look::AclRule(key, allowed) => {
            let (prefix, said) = Prefix::longest(&set.acl_rules, key, AclRuleKey::LPM_LENS)?;
            Some(("acl_rules", acl::entry_key(prefix.len, prefix.key.as_bytes()), said != allowed))
        }
        _ => None,
    }
}

fn bytes_of<K: IntoBytes + Immutable>(key: &K) -> Vec<u8> {
    key.as_bytes().to_vec()
}

/// The route that the trie would choose.
fn longest<'a>(
    set: &'a pipeline::table_set::TableSet,
    key: &RouteKey,
) -> Option<(&'a RoutePrefix, &'a Route)> {
    set.routes.iter().filter(|(prefix, _)| prefix.covers(key)).max_by_key(|(prefix, _)| prefix.len)
}

/// What a stage came to; none if it had nothing to do.
pub(crate) fn summary(step: &Step, around: &Surroundings<'_>, family: Family) -> Option<String> {
    let names = around.names;
    let text = match step.stage {
        Stage::Classify => classify(&step.looks, names),
        Stage::PortSecurity => port_security(&step.looks, names),
        Stage::EgressAcl | Stage::IngressAcl => acl::summary(step, around, family),
        Stage::Switch => switch(&step.looks, names),
        Stage::Route => route(&step.looks, around),
        Stage::Dnat => dnat(&step.looks, names),
        Stage::Snat => snat(&step.looks, names),
        Stage::Resolve => resolve(&step.looks, names),
        Stage::Output => output(&step.looks),
    };
    text.or_else(|| (!step.looks.is_empty()).then(|| "-".to_owned()))
}

fn classify(looks: &[Look], names: &Names) -> Option<String> {
    for look in looks.iter().rev() {
        return Some(match look {
            Look::Session(_, Some(forward)) => format!("session {}", session_text(forward, names)),
            Look::Session(_, None) | Look::Reply(_, None) => "no session here".to_owned(),
            Look::Port(key, None) => format!("{} is no port of this host", names.link(key.ifindex)),
            Look::Port(_, Some(port)) => format!("port on {}", names.network(port.network_vni)),
            Look::Network(key, None) => format!("VNI {} is not known here", key.vni),
            Look::Network(key, Some(_)) => names.network(key.vni),
            Look::Vtep(key, None) => format!("{} is no host of the cluster", key.address),
            Look::Service(_, None) => "no service of the host for this address".to_owned(),
            Look::Service(_, Some(_)) => "to or from a service of the host".to_owned(),
            Look::Uplink(key, None) => format!("no external network on VLAN {}", key.vlan),
            Look::Uplink(_, Some(network)) => format!("external network {}", names.network(network.vni)),
            _ => continue,
        });
    }
    None
}

fn port_security(looks: &[Look], names: &Names) -> Option<String> {
    looks.iter().rev().find_map(|look| match look {
        Look::PortAddress(key, true) | Look::PortPrefix(key, true) => {
            Some(format!("{} may use {}", names.link(key.ifindex), key.address))
        }
        Look::PortAddress(key, false) => {
            Some(format!("{} may not use {} with {}", names.link(key.ifindex), key.address, key.mac))
        }
        Look::Port(_, Some(port)) if port.flags & Port::FLAG_UNRESTRICTED != 0 => {
            Some("switched off for this port".to_owned())
        }
        _ => None,
    })
}

fn switch(looks: &[Look], names: &Names) -> Option<String> {
    looks.iter().find_map(|look| match look {
        Look::Station(key, Some(station)) => Some(format!("{} is {}", key.mac, station_text(station, names))),
        Look::Station(key, None) => Some(format!("nobody on {} has {}", names.network(key.vni), key.mac)),
        Look::Neighbor(key, Some(neighbor)) => Some(format!("{} is at {}", key.address, neighbor.mac)),
        Look::Neighbor(key, None) => {
            Some(format!("nobody on {} has {}", names.network(key.vni), key.address))
        }
        Look::ExternalAddress(key, value) => Some(match value {
            Some(address) => format!("{}: {}", key.address, external_address_text(address, names)),
            None => format!("{} is none of ours", key.address),
        }),
        _ => None,
    })
}

fn route(looks: &[Look], around: &Surroundings<'_>) -> Option<String> {
    looks.iter().find_map(|look| match look {
        Look::Route(key, Some(route)) => {
            let text = route_text(route, around.names);
            Some(match longest(around.programmed, key) {
                Some((prefix, _)) => format!("{} to {text}", prefix_text(prefix)),
                None => text,
            })
        }
        Look::Route(key, None) => {
            let router = around.names.network(key.router_vni());
            Some(format!("router {router} has no route to {}", key.address))
        }
        _ => None,
    })
}

fn prefix_text(prefix: &RoutePrefix) -> String {
    format!("{}/{}", prefix.key.address, prefix.key.address_bits(prefix.len))
}

fn dnat(looks: &[Look], names: &Names) -> Option<String> {
    for look in looks.iter().rev() {
        return Some(match look {
            Look::BlockOwner(key, Some(owner)) => {
                format!("the port block of {} belongs to {}", key.address, names.host_of(owner.vtep))
            }
            Look::BlockOwner(key, None) => format!("no host has that port block of {}", key.address),
            Look::Binding(key, Some(internal)) => {
                format!("{} is {}", binding_text(key), internal_text(internal))
            }
            Look::Binding(key, None) => format!("nobody uses {}", binding_text(key)),
            Look::Forwarding(key, Some(forwarding)) => {
                format!("{} is {}", binding_text(key), forwarding_text(key, forwarding, names))
            }
            Look::Forwarding(key, None) => format!("nothing forwards {}", binding_text(key)),
            Look::ExternalAddress(key, Some(address)) => {
                format!("{}: {}", key.address, external_address_text(address, names))
            }
            Look::ExternalAddress(key, None) => format!("{} is none of ours", key.address),
            _ => continue,
        });
    }
    None
}

fn snat(looks: &[Look], names: &Names) -> Option<String> {
    for look in looks.iter().rev() {
        return Some(match look {
            Look::NewMapping(key, mapping) => {
                format!("{} becomes {}: new mapping", internal_text(key), mapping_text(mapping))
            }
            Look::Mapping(key, Some(mapping)) => {
                format!("{} becomes {}: known mapping", internal_text(key), mapping_text(mapping))
            }
            Look::FloatingByFixed(key, Some(floating)) => {
                format!("{} leaves as its floating IP {}", key.address, floating.address)
            }
            Look::Snat(key, None) => format!("router {} has no SNAT", names.network(key.router_vni)),
            Look::Claim(key, false) => format!("{} is in use", binding_text(key)),
            Look::ExternalAddress(key, Some(address)) if address.kind == ExternalAddress::ROUTED => {
                format!("{} leaves as it is", key.address)
            }
            _ => continue,
        });
    }
    None
}

/// The most telling of what was asked: who is next, else where.
fn resolve(looks: &[Look], names: &Names) -> Option<String> {
    let said = |look: &Look| {
        Some(match look {
            Look::Gateway(key, Some(gateway)) => {
                (5, format!("gateway {} of {}", names.host_of(gateway.vtep), names.network(key.external_vni)))
            }
            Look::Gateway(key, None) => (5, format!("no gateway of {}", names.network(key.external_vni))),
            Look::Neighbor(key, Some(neighbor)) => {
                (4, format!("next hop {} is at {}", key.address, neighbor.mac))
            }
            Look::Neighbor(key, None) => (4, format!("the MAC of {} is not known", key.address)),
            Look::Vtep(key, Some(_)) => (3, format!("to {}", names.host_of(key.address))),
            Look::External(key, None) => (2, format!("{} is not known here", names.network(key.vni))),
            Look::External(key, Some(external)) => {
                (2, format!("{}: {}", names.network(key.vni), external_text(external, names)))
            }
            Look::Network(key, Some(network)) => {
                (1, format!("on {}, where {} bytes fit", names.network(key.vni), network.mtu))
            }
            _ => return None,
        })
    };
    looks.iter().filter_map(said).max_by_key(|(weight, _)| *weight).map(|(_, text)| text)
}

fn output(looks: &[Look]) -> Option<String> {
    for look in looks.iter().rev() {
        return Some(match look {
            Look::NewSession(..) => "session made".to_owned(),
            Look::Event(event) => {
                let punt = u8::try_from(event.punt).ok().and_then(Punt::from_number)?;
                punt.name().to_owned()
            }
            _ => continue,
        });
    }
    None
}

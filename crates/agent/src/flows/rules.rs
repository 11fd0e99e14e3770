//! Which entries decided a session, and what each entry says.

mod acl;

use crate::scene::Scene;
use compiler::{Compiled, EntryName};
use dataplane::SessionRow;
use model::slice::{ObjectId, Slice};
use packet::zerocopy::{Immutable, IntoBytes};
use pipeline::host::Look;
use pipeline::nat::BindingKey;
use pipeline::session::{Path, Session};
use pipeline::table_set::{Prefix, RoutePrefix, TableSet};
use pipeline::tables::*;
use pipeline::{Address, Ingress, Stage};
use std::collections::BTreeMap;
use trace::{Link, Names, worded};

/// An entry, as the compiler names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rule {
    pub(crate) table: &'static str,
    key: Vec<u8>,
}

/// An entry in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) object: Option<ObjectId>,
    pub(crate) why: &'static str,
}

/// Whether a direction's packets are an entry's: forward, reply.
pub(crate) type Directions = [bool; 2];

impl Rule {
    fn new<K: IntoBytes + Immutable>(table: &'static str, key: &K) -> Self {
        Self { table, key: key.as_bytes().to_vec() }
    }

    fn prefix<K: IntoBytes + Immutable>(table: &'static str, prefix: &Prefix<K>) -> Self {
        Self { table, key: [&prefix.len.to_ne_bytes(), prefix.key.as_bytes()].concat() }
    }

    fn route(prefix: &RoutePrefix) -> Self {
        Self::prefix("routes", prefix)
    }

    /// The stage that asks for it. `object` made it.
    pub(crate) fn stage(&self, object: Option<ObjectId>, slice: &Slice) -> Stage {
        match self.table {
            "port_addresses" | "port_prefixes" => Stage::PortSecurity,
            "acl_rules" => acl::stage(object, slice),
            "stations" => Stage::Switch,
            "routes" => Stage::Route,
            "external_addresses" | "forwardings" | "floating_by_fixed" | "block_owners" => Stage::Dnat,
            "snat" | "own_blocks" => Stage::Snat,
            "neighbors" | "gateways" | "externals" => Stage::Resolve,
            _ => Stage::Classify,
        }
    }
}

/// Whether every packet an entry decides belongs to a session of this host. Gateways forward without sessions, and a
/// router's own addresses and other hosts' stations answer ARP, which has none.
pub(super) fn is_counted(rule: &Rule, scene: &Scene) -> bool {
    let gateway = scene.slice.external_networks.values();
    let gateway = gateway.flat_map(|network| &network.gateways).any(|host| Some(*host) == scene.host_id);
    match rule.table {
        "ports" | "port_addresses" | "routes" | "floating_by_fixed" | "snat" | "own_blocks" => true,
        "stations" | "networks" | "acl_rules" => true,
        "external_addresses" | "forwardings" | "uplinks" | "gateways" | "externals" | "vteps" => !gateway,
        _ => false,
    }
}

/// The entries that decided a session, and which of its directions. Each entry once.
pub(crate) fn rules_of(session: &SessionRow, tables: &TableSet) -> BTreeMap<Rule, Directions> {
    let mut rules = Rules { tables, found: BTreeMap::new() };
    let [forward, reply] = &session.paths;
    rules.arrival(forward, session.key.vni, session.key.src, 0);
    rules.arrival(reply, session.reply.vni, session.reply.src, 1);
    rules.departure(forward, session, 0);
    rules.departure(reply, session, 1);
    rules.routed(session);
    rules.translated(session);
    acl::rules_of(session, tables).into_iter().for_each(|rule| rules.both(rule));
    rules.found
}

struct Rules<'a> {
    tables: &'a TableSet,
    found: BTreeMap<Rule, Directions>,
}

impl Rules<'_> {
    fn put(&mut self, rule: Rule, direction: usize) {
        if let Some(counted) = self.found.entry(rule).or_default().get_mut(direction) {
            *counted = true;
        }
    }

    fn both(&mut self, rule: Rule) {
        self.found.insert(rule, [true; 2]);
    }

    /// Where a direction's packets come from: a port with its addresses, another host, an uplink.
    fn arrival(&mut self, path: &Path, vni: u32, src: Address, direction: usize) {
        if path.epoch == 0 {
            return;
        }
        let network = NetworkKey { vni };
        if self.tables.networks.contains_key(&network) {
            self.put(Rule::new("networks", &network), direction);
        }
        if path.ingress == Ingress::TUNNEL_ID {
            return;
        }
        let port = PortKey { ifindex: path.ingress };
        if let Some(found) = self.tables.ports.get(&port) {
            self.put(Rule::new("ports", &port), direction);
            let pair = PortAddressKey::new(port.ifindex, found.mac, src);
            if self.tables.port_addresses.contains_key(&pair) {
                self.put(Rule::new("port_addresses", &pair), direction);
            }
        } else if let Some((key, _)) = self
            .tables
            .uplinks
            .iter()
            .find(|(key, network)| key.ifindex == path.ingress && network.vni == vni)
        {
            self.put(Rule::new("uplinks", key), direction);
        }
    }

    /// Where they go: a port, another host, an uplink; and by whose MAC.
    fn departure(&mut self, path: &Path, session: &SessionRow, direction: usize) {
        match path.output {
            Path::OUT_PORT => {
                let port = PortKey { ifindex: path.ifindex };
                if let Some(found) = self.tables.ports.get(&port) {
                    self.put(Rule::new("ports", &port), direction);
                    self.station(found.network_vni, path, direction);
                    self.neighbor(found.network_vni, path, direction);
                }
            }
            Path::OUT_TUNNEL => {
                let vtep = VtepKey { address: path.vtep };
                if self.tables.vteps.contains_key(&vtep) {
                    self.put(Rule::new("vteps", &vtep), direction);
                }
                self.station(path.vni, path, direction);
                self.neighbor(path.vni, path, direction);
                let external = session.external_vni;
                let gateways = self.tables.gateways.iter();
                let mut slots =
                    gateways.filter(|(key, to)| key.external_vni == external && to.vtep == path.vtep);
                if path.vni == session.router_vni
                    && let Some((key, _)) = slots.next()
                {
                    self.put(Rule::new("gateways", key), direction);
                }
            }
            Path::OUT_UPLINK => {
                self.neighbor(session.external_vni, path, direction);
                let external = NetworkKey { vni: session.external_vni };
                if self.tables.externals.contains_key(&external) {
                    self.put(Rule::new("externals", &external), direction);
                }
            }
            _ => {}
        }
    }

    fn station(&mut self, vni: u32, path: &Path, direction: usize) {
        let key = StationKey { vni, mac: path.dst_mac, zero: 0 };
        if self.tables.stations.contains_key(&key) {
            self.put(Rule::new("stations", &key), direction);
        }
    }

    /// Of packets that a router sent on: a switched one has its MAC from the sender.
    fn neighbor(&mut self, vni: u32, path: &Path, direction: usize) {
        if path.flags & Path::FLAG_ROUTED == 0 {
            return;
        }
        let mut of_network = self.tables.neighbors.iter().filter(|(key, _)| key.vni == vni);
        if let Some((key, _)) = of_network.find(|(_, neighbor)| neighbor.mac == path.dst_mac) {
            self.put(Rule::new("neighbors", key), direction);
        }
    }

    /// The router's station and the route of the direction that opened the connection.
    fn routed(&mut self, session: &SessionRow) {
        let [forward, _] = &session.paths;
        let network = self.tables.networks.get(&NetworkKey { vni: session.key.vni });
        let Some(network) = network.filter(|network| network.kind == Network::TENANT) else { return };
        if forward.flags & Path::FLAG_ROUTED == 0 || network.router_vni == 0 {
            return;
        }
        let station = StationKey { vni: session.key.vni, mac: network.router_mac, zero: 0 };
        if self.tables.stations.contains_key(&station) {
            self.put(Rule::new("stations", &station), 0);
        }
        let wanted = RouteKey::new(network.router_vni, session.key.dst);
        let covering = self.tables.routes.keys().filter(|prefix| prefix.covers(&wanted));
        if let Some(prefix) = covering.max_by_key(|prefix| prefix.len) {
            self.put(Rule::route(prefix), 0);
        }
    }

    /// Translations hold in both directions.
    fn translated(&mut self, session: &SessionRow) {
        let SessionRow { key, reply, router_vni, external_vni, flags, .. } = *session;
        let mut outside = Vec::new();
        if flags & Session::NAT_SNAT != 0 {
            let router = RouterKey { router_vni };
            if self.tables.snat.contains_key(&router) {
                self.both(Rule::new("snat", &router));
            }
            let own = self.tables.own_blocks.iter().find(|(at, block)| {
                let offset = reply.dst_port.checked_sub(block.first);
                at.router_vni == router_vni
                    && block.address == reply.dst
                    && offset.is_some_and(|offset| offset < block.size)
            });
            if let Some((at, _)) = own {
                self.both(Rule::new("own_blocks", at));
            }
            outside.push(reply.dst);
        }
        if flags & Session::NAT_FLOATING_SRC != 0 {
            let fixed = FixedKey { router_vni, address: key.src };
            if self.tables.floating_by_fixed.contains_key(&fixed) {
                self.both(Rule::new("floating_by_fixed", &fixed));
            }
            outside.push(reply.dst);
        }
        if flags & Session::NAT_DST != 0 {
            outside.push(key.dst);
        }
        if flags & Session::NAT_FORWARDED_DST != 0 {
            let (address, port, protocol) = (key.dst, key.dst_port, key.protocol);
            let endpoint = BindingKey { external_vni, address, port, protocol, zero: 0 };
            if self.tables.forwardings.contains_key(&endpoint) {
                self.both(Rule::new("forwardings", &endpoint));
            }
        }
        for address in outside {
            let address = ExternalAddressKey { external_vni, address };
            if self.tables.external_addresses.contains_key(&address) {
                self.both(Rule::new("external_addresses", &address));
            }
        }
    }
}

/// Every entry in words, with what made it.
pub(super) fn describe(scene: &Scene, compiled: &Compiled) -> BTreeMap<Rule, Described> {
    let names = names(scene);
    let mut all = BTreeMap::new();
    let mut put = |rule: Rule, look: Look| {
        let Some((_, key, value)) = worded(&look, &names) else { return };
        let made = compiled.provenance.get(&EntryName { table: rule.table, key: rule.key.clone() });
        let described = Described {
            key,
            value: value.unwrap_or_default(),
            object: made.map(|made| made.object),
            why: made.map_or("", |made| made.why),
        };
        all.insert(rule, described);
    };
    macro_rules! entries {
        ($($table:ident $look:ident;)*) => {
            $(for (key, value) in &compiled.tables.$table {
                put(Rule::new(stringify!($table), key), Look::$look(*key, Some(*value)));
            })*
        };
    }
    entries! {
        ports Port; networks Network; stations Station; neighbors Neighbor; externals External; uplinks Uplink;
        gateways Gateway; external_addresses ExternalAddress; forwardings Forwarding;
        floating_by_fixed FloatingByFixed; snat Snat;
        own_blocks OwnBlock; block_owners BlockOwner; vteps Vtep; services Service;
    }
    for key in compiled.tables.port_addresses.keys() {
        put(Rule::new("port_addresses", key), Look::PortAddress(*key, true));
    }
    for prefix in compiled.tables.port_prefixes.keys() {
        put(Rule::prefix("port_prefixes", prefix), Look::PortPrefix(prefix.key, true));
    }
    for (prefix, allowed) in &compiled.tables.acl_rules {
        put(Rule::prefix("acl_rules", prefix), Look::AclRule(prefix.key, *allowed));
    }
    for (prefix, route) in &compiled.tables.routes {
        put(Rule::route(prefix), Look::Route(prefix.key, Some(*route)));
    }
    // A question is about an address or a port, an entry about a prefix.
    let rules = trace::rules_of(&scene.slice);
    for prefix in compiled.tables.acl_rules.keys() {
        if let Some(described) = all.get_mut(&Rule::prefix("acl_rules", prefix)) {
            let named = match described.object {
                Some(ObjectId::SecurityGroupRule(id)) => rules.get(&id),
                _ => None,
            };
            let entry = trace::rule_entry_text(prefix);
            described.key = named.cloned().unwrap_or_else(|| entry.clone());
            described.value = format!("{entry} {}", described.value);
        }
    }
    for prefix in compiled.tables.routes.keys() {
        if let Some(described) = all.get_mut(&Rule::route(prefix)) {
            let router = scene.network(prefix.key.router_vni());
            let bits = prefix.key.address_bits(prefix.len);
            described.key = format!("{}/{bits} in router {router}", prefix.key.address);
        }
    }
    all
}

fn names(scene: &Scene) -> Names {
    let link = |name: &String| Link { name: name.clone(), up: true, ..Link::default() };
    Names {
        networks: scene.names(),
        links: scene.links.iter().map(|(ifindex, name)| (*ifindex, link(name))).collect(),
        hosts: scene.slice.hosts.values().map(|host| (host.vtep, host.name.clone())).collect(),
        rules: BTreeMap::new(),
    }
}

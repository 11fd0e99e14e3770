//! The way of a packet that somebody describes: each host walks it over its own tables, and it is followed here
//! from host to host, and its answer back.
//!
//! Nothing is decided here about packets. What a sender does before it sends (asking for the MAC of its next hop)
//! and what a receiver does then (answering) are frames too, walked like any other. A host that does not answer ends
//! the way and is named.

use super::{Error, Service};
use model::question::Question;
use model::resource::{self, FloatingIp, Host, Network, Port, Router};
use model::trace::{
    Description, Entry, Hex, Hop, HopOutcome, Kept, NoEntry, Origin, Trace, WalkAnswer, WalkRequest, Walked,
    Way,
};
use model::{HostId, SubnetId};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use store::{Record, Snapshot};
use trace::MacAddr;
use trace::frames::{self, Packet, Transport};

/// An agent that has said nothing by then is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// Source host, gateway, owner, and one more for hairpin.
const HOPS_MAX: usize = 5;
/// Of a packet whose description does not say.
const SOURCE_PORT_DEFAULT: u16 = 40_000;
const TTL_DEFAULT: u8 = 64;
/// Of whoever sends outside: what it is does not matter to anybody.
const OUTSIDE_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xfe]);

impl Service {
    /// # Errors
    /// The description makes no sense; the message names the field.
    pub(super) async fn trace(&self, description: Description) -> Result<Trace, Error> {
        let snapshot = self.snapshot();
        let mut tracer =
            Tracer { service: self, snapshot: &snapshot, fresh: description.fresh, states: BTreeMap::new() };
        let sender = tracer.sender(&description)?;
        tracer.run(&description, &sender).await
    }
}

/// Who sends the packet, as far as the model knows.
enum Sender {
    Port(Arc<Port>),
    /// On an external network.
    Outside(Arc<Network>),
}

struct Tracer<'a> {
    service: &'a Service,
    snapshot: &'a Snapshot,
    fresh: bool,
    /// What walks on each host left behind.
    states: BTreeMap<HostId, Vec<Kept>>,
}

/// A frame about to enter a host, or why there is none.
type Ready = Result<(HostId, Entry, Vec<u8>, Option<u16>), String>;

fn bad(field: &str, reason: impl std::fmt::Display) -> Error {
    Error::bad_request(format!("{field}: {reason}"))
}

impl Tracer<'_> {
    fn sender(&self, description: &Description) -> Result<Sender, Error> {
        match (&description.from_port, &description.from_external) {
            (Some(id), None) => {
                let port =
                    self.snapshot.get::<Port>(*id).ok_or(Error::PortNotFound { id: id.to_string() })?;
                if port.is_infrastructure() {
                    return Err(bad(
                        "from_port",
                        format!("{id} is no port of a VM but of the network itself"),
                    ));
                }
                Ok(Sender::Port(Arc::clone(port)))
            }
            (None, Some(wanted)) => {
                let mut networks = self.snapshot.networks.values();
                let network = networks
                    .find(|network| network.id.to_string() == *wanted || network.standard.name == *wanted)
                    .ok_or(Error::NetworkNotFound { id: wanted.clone() })?;
                if network.provider.is_none() {
                    return Err(bad("from_external", format!("{wanted} is no external network")));
                }
                Ok(Sender::Outside(Arc::clone(network)))
            }
            _ => Err(bad("from_port", "exactly one of from_port and from_external is needed")),
        }
    }

    async fn run(&mut self, description: &Description, sender: &Sender) -> Result<Trace, Error> {
        let mut trace = Trace::default();
        let ready = match sender {
            Sender::Port(port) => self.sent_by_port(description, port, &mut trace.forward).await?,
            Sender::Outside(network) => {
                self.sent_from_outside(description, network, &mut trace.forward).await?
            }
        };
        match ready {
            Ok((host, entry, frame, vlan)) => {
                trace.packet = frames::headers(&frame, vlan, None);
                self.follow(&mut trace.forward, host, entry, frame, vlan).await;
            }
            Err(reason) => trace.forward.text = reason,
        }
        if trace.forward.arrived && description.answer.unwrap_or(true) {
            trace.answer = self.answer(&trace.forward).await;
        }
        if let Some(answer) = &mut trace.answer
            && answer.arrived
        {
            let back = came_back(&trace.forward, answer);
            if let Err(reason) = back {
                answer.arrived = false;
                answer.text = reason;
            }
        }
        trace.complete = trace.forward.arrived && trace.answer.as_ref().is_none_or(|answer| answer.arrived);
        Ok(trace)
    }

    /// A VM's packet: asks for the MAC of its next hop first.
    async fn sent_by_port(
        &mut self,
        description: &Description,
        port: &Port,
        way: &mut Way,
    ) -> Result<Ready, Error> {
        let mac = MacAddr(port.mac.0);
        let Some(host) = self.snapshot.host_by_name(&port.binding_host) else {
            let reason = match port.binding_host.as_str() {
                "" => "the port is bound to no host".to_owned(),
                name => format!("the port is bound to {name}, which has no agent that ever connected"),
            };
            way.hops.push(no_entry(&port.binding_host, "not-bound", &reason));
            return Ok(Err(reason));
        };
        let (host, entry) = (host.id, Entry::Port(port.id));
        if let Some(Hex(frame)) = &description.frame {
            return Ok(Ok((host, entry, frame.clone(), None)));
        }
        let own = description.destination_ip.and_then(|dst| own_address(port, dst));
        let packet = packet_of(description, (mac, own.map(|(_, address)| address)))?;
        if let Some(dst_mac) = &description.destination_mac {
            let dst_mac = parse_mac("destination_mac", dst_mac)?;
            return Ok(Ok((host, entry, compose(&Packet { dst_mac, ..packet })?, None)));
        }
        if let Some(dst_mac) = frames::multicast_mac(packet.dst) {
            return Ok(Ok((host, entry, compose(&Packet { dst_mac, ..packet })?, None)));
        }
        let Some((subnet, address)) = own else {
            return Err(bad("source_ip", format!("the port has no {} address", version(packet.dst))));
        };
        let subnet = subnet.and_then(|subnet| self.snapshot.get::<resource::Subnet>(subnet));
        let on_link = subnet.is_none_or(|subnet| subnet.cidr.contains(&packet.dst));
        let next_hop = if on_link { Some(packet.dst) } else { subnet.and_then(|subnet| subnet.gateway_ip) };
        let Some(next_hop) = next_hop else {
            let reason = "the port's subnet has no gateway address: its VMs have no default route".to_owned();
            let name = self.host_name(host);
            way.hops.push(no_entry(&name, "no-gateway-address", &reason));
            return Ok(Err(reason));
        };
        let request = frames::neighbor_question((mac, address), next_hop)
            .ok_or_else(|| bad("source_ip", format!("the gateway {next_hop} is not of its IP version")))?;
        let hop = self.walk(host, entry.clone(), request, None).await;
        let answer = walked(&hop).and_then(|walked| frames::neighbor_answer(&walked.frame.0));
        let reason = stop_text(&hop);
        way.arp.push(hop);
        match answer {
            Some((dst_mac, _)) => Ok(Ok((host, entry, compose(&Packet { dst_mac, ..packet })?, None))),
            None => Ok(Err(format!("the VM does not get the MAC of its next hop {next_hop}: {reason}"))),
        }
    }

    /// A packet from outside: arrives where its destination is answered for.
    async fn sent_from_outside(
        &mut self,
        description: &Description,
        network: &Network,
        way: &mut Way,
    ) -> Result<Ready, Error> {
        if let Some(Hex(frame)) = &description.frame {
            let headers = frames::headers(frame, None, None);
            let dst = headers.dst.ok_or_else(|| bad("frame", "is no IP packet"))?;
            let src = headers.src.unwrap_or(unspecified(dst));
            return Ok(self.arrive(network, frame.clone(), (src, dst), way).await);
        }
        let packet = packet_of(description, (OUTSIDE_MAC, None))?;
        Ok(self.arrive(network, compose(&packet)?, (packet.src, packet.dst), way).await)
    }

    /// A frame on an external network, at the host that answers ARP or neighbour discovery for its destination.
    async fn arrive(
        &mut self,
        network: &Network,
        frame: Vec<u8>,
        (src, dst): (IpAddr, IpAddr),
        way: &mut Way,
    ) -> Ready {
        let (Some(provider), name) = (&network.provider, &network.standard.name) else {
            return Err(format!("{} is no external network", network.standard.name));
        };
        let subnets: Vec<_> = self.snapshot.subnets_of_network(network.id).collect();
        let next_hop = self.router_of_own_address(network, (src, dst)).unwrap_or(dst);
        let Some(subnet) = subnets.iter().find(|subnet| subnet.cidr.contains(&next_hop)) else {
            let reason = format!("{dst} is no address of {name}: nobody outside sends it there");
            way.hops.push(no_entry("", "not-on-link", &reason));
            return Err(reason);
        };
        let asker = if subnet.cidr.contains(&src) { Some(src) } else { subnet.gateway_ip };
        let Some(request) = frames::neighbor_question((OUTSIDE_MAC, asker.unwrap_or(src)), next_hop) else {
            return Err(format!("{src} and {next_hop} are not of one IP version"));
        };
        let entry = Entry::Uplink(provider.physical_network.clone());
        let has = |host: &&Arc<Host>| host.physical_networks.contains(&provider.physical_network);
        let hosts: Vec<HostId> = self.snapshot.hosts.values().filter(has).map(|host| host.id).collect();
        let mut owners = Vec::new();
        for hop in self.walk_all(&hosts, &entry, request, provider.vlan).await {
            let answer = walked(&hop.1).and_then(|walked| frames::neighbor_answer(&walked.frame.0));
            if let Some((mac, _)) = answer {
                owners.push((hop.0, mac));
            }
            let silent = matches!(hop.1.outcome, HopOutcome::Unanswered(_));
            if answer.is_some() || silent {
                way.arp.push(hop.1);
            }
        }
        let Some((host, mac)) = owners.first().copied() else {
            let reason = format!("no host answers for {next_hop} on {name}");
            way.hops.push(no_entry("", "nobody-answers", &reason));
            return Err(reason);
        };
        let sender = frames::macs(&frame).map_or(OUTSIDE_MAC, |(_, src)| src);
        Ok((host, entry, frames::with_macs(frame, mac, sender), provider.vlan))
    }

    /// Whom the outside sends a packet to a VM's own address: the router that translates nothing from there to it, by
    /// its first address outside.
    fn router_of_own_address(&self, network: &Network, (src, dst): (IpAddr, IpAddr)) -> Option<IpAddr> {
        let mut routers = self.snapshot.routers_of_external_network(network.id);
        routers.find_map(|router| {
            let gateway = router.gateway.as_ref()?;
            let untranslated = match src {
                IpAddr::V4(src) => {
                    gateway.untranslated_destinations.iter().any(|prefix| prefix.contains(&src))
                }
                IpAddr::V6(_) => true,
            };
            let device = router.id.to_string();
            let mut legs = self.snapshot.ports_of_device(&device).flat_map(|port| &port.fixed_ips);
            let behind = legs.any(|leg| {
                let subnet = self.snapshot.get::<resource::Subnet>(leg.subnet);
                subnet.is_some_and(|subnet| subnet.network != network.id && subnet.cidr.contains(&dst))
            });
            let mut addresses =
                crate::slices::gateway_fixed_ips(self.snapshot, gateway).iter().map(|ip| ip.address);
            addresses.find(|address| address.is_ipv4() == dst.is_ipv4()).filter(|_| untranslated && behind)
        })
    }

    /// Follows a frame until it leaves or is stopped.
    async fn follow(&mut self, way: &mut Way, host: HostId, entry: Entry, frame: Vec<u8>, vlan: Option<u16>) {
        let mut at = (host, entry, frame, vlan);
        for _ in 0..HOPS_MAX {
            let hop = self.walk(at.0, at.1, at.2, at.3).await;
            let next = self.next(&hop);
            way.text = stop_text(&hop);
            way.arrived = walked(&hop).is_some_and(arrived);
            way.hops.push(hop);
            match next {
                Some(Ok((host, frame))) => at = (host, Entry::Underlay, frame, None),
                Some(Err(reason)) => {
                    way.text = reason;
                    return;
                }
                None => return,
            }
        }
        way.text = format!("the packet was followed over {HOPS_MAX} hosts and goes on");
    }

    /// The host that a tunnel packet goes to.
    fn next(&self, hop: &Hop) -> Option<Result<(HostId, Vec<u8>), String>> {
        let walked = walked(hop)?;
        let vtep = walked.verdict.vtep?;
        let host = self.snapshot.hosts.values().find(|host| host.vtep == vtep);
        let host = host.ok_or_else(|| format!("no host of the cluster has the tunnel address {vtep}"));
        Some(host.map(|host| (host.id, walked.frame.0.clone())))
    }

    /// What the receiver would answer, on its way back.
    async fn answer(&mut self, forward: &Way) -> Option<Way> {
        let last = walked(forward.hops.last()?)?;
        let frame = frames::answer_to(&last.frame.0)?;
        let mut way = Way::default();
        let ready = match (last.verdict.port, &last.verdict.physical_network) {
            (Some(id), _) => {
                let port = self.snapshot.get::<Port>(id)?;
                let host = self.snapshot.host_by_name(&port.binding_host)?;
                Ok((host.id, Entry::Port(id), frame, None))
            }
            (None, Some(physical_network)) => {
                let network = self.external_of(physical_network, last.verdict.vlan)?;
                let headers = frames::headers(&frame, None, None);
                self.arrive(&network, frame, (headers.src?, headers.dst?), &mut way).await
            }
            _ => return None,
        };
        match ready {
            Ok((host, entry, frame, vlan)) => self.follow(&mut way, host, entry, frame, vlan).await,
            Err(reason) => way.text = reason,
        }
        Some(way)
    }

    fn external_of(&self, physical_network: &str, vlan: Option<u16>) -> Option<Arc<Network>> {
        let mut networks = self.snapshot.networks.values();
        let of = |network: &&Arc<Network>| {
            let provider = network.provider.as_ref();
            provider.is_some_and(|p| p.physical_network == physical_network && p.vlan == vlan)
        };
        networks.find(of).map(Arc::clone)
    }

    fn host_name(&self, host: HostId) -> String {
        self.snapshot.get::<Host>(host).map_or_else(|| host.to_string(), |host| host.name.clone())
    }

    /// One walk on one host; what it leaves behind is kept for the next.
    async fn walk(&mut self, host: HostId, entry: Entry, frame: Vec<u8>, vlan: Option<u16>) -> Hop {
        let state = self.states.remove(&host).unwrap_or_default();
        let request = WalkRequest { entry, frame: Hex(frame), vlan, fresh: self.fresh, state };
        let question = Question::Walk(Box::new(request));
        let rows = self.service.hub.ask_one(host, &question, PATIENCE).await;
        let mut outcome = outcome(rows);
        if let HopOutcome::Walked(walked) = &mut outcome {
            self.states.insert(host, std::mem::take(&mut walked.state));
            self.name_origins(walked);
        }
        Hop { host: self.host_name(host), outcome }
    }

    /// The same frame on many hosts at once; nothing is kept of it.
    async fn walk_all(
        &self,
        hosts: &[HostId],
        entry: &Entry,
        frame: Vec<u8>,
        vlan: Option<u16>,
    ) -> Vec<(HostId, Hop)> {
        let request = WalkRequest {
            entry: entry.clone(),
            frame: Hex(frame),
            vlan,
            fresh: self.fresh,
            state: Vec::new(),
        };
        let question = Question::Walk(Box::new(request));
        let hub = &self.service.hub;
        let mut hops = Vec::with_capacity(hosts.len());
        let asked: Vec<_> = hosts
            .iter()
            .map(|host| {
                let (hub, question, host) = (Arc::clone(hub), question.clone(), *host);
                tokio::spawn(async move { hub.ask_one(host, &question, PATIENCE).await })
            })
            .collect();
        for (host, answer) in hosts.iter().zip(asked) {
            let mut outcome = outcome(answer.await.ok().flatten());
            if let HopOutcome::Walked(walked) = &mut outcome {
                walked.state.clear();
                self.name_origins(walked);
            }
            hops.push((*host, Hop { host: self.host_name(*host), outcome }));
        }
        hops
    }

    fn name_origins(&self, walked: &mut Walked) {
        let looks = walked.stages.iter_mut().flat_map(|stage| &mut stage.looks);
        for origin in looks.filter_map(|look| look.origin.as_mut()) {
            self.name_origin(origin);
        }
    }

    fn name_origin(&self, origin: &mut Origin) {
        let found = match origin.kind.as_str() {
            "port" => self.standard::<Port>(&origin.id, |port| &port.standard),
            "network" | "external_network" => {
                self.standard::<Network>(&origin.id, |network| &network.standard)
            }
            "router" => self.standard::<Router>(&origin.id, |router| &router.standard),
            "floating_ip" => {
                let id = origin.id.parse().ok();
                let found = id.and_then(|id| self.snapshot.get::<FloatingIp>(id));
                found.map(|ip| (ip.address.to_string(), Some(ip.standard.revision_number)))
            }
            "port_forwarding" => self.forwarding(&origin.id),
            "host" => origin.id.parse().ok().map(|id| (self.host_name(id), None)),
            // Its id is `<network>/<address>:<first port>`.
            "block" => origin.id.split_once('/').map(|(_, block)| (block.to_owned(), None)),
            _ => None,
        };
        if let Some((name, revision)) = found {
            (origin.name, origin.revision) = (Some(name), revision);
        }
    }

    /// Address and port outside, and the revision of the floating IP.
    fn forwarding(&self, id: &str) -> Option<(String, Option<u64>)> {
        let id: model::PortForwardingId = id.parse().ok()?;
        self.snapshot.floating_ips.values().find_map(|ip| {
            let own = ip.forwardings.iter().find(|own| own.id == id)?;
            let revision = Some(ip.standard.revision_number);
            Some((format!("{}:{} {}", ip.address, own.external_port, own.protocol.name()), revision))
        })
    }

    fn standard<R: Record>(
        &self,
        id: &str,
        standard: fn(&R) -> &resource::Standard,
    ) -> Option<(String, Option<u64>)>
    where
        R::Id: std::str::FromStr,
    {
        let standard = standard(self.snapshot.get::<R>(id.parse().ok()?)?);
        Some((standard.name.clone(), Some(standard.revision_number)))
    }
}

fn outcome(rows: Option<Vec<serde_json::Value>>) -> HopOutcome {
    let unanswered = |reason: &str| HopOutcome::Unanswered(reason.to_owned());
    let Some(rows) = rows else {
        return unanswered("its agent is not connected, or did not answer in time");
    };
    match rows.into_iter().next().map(serde_json::from_value) {
        Some(Ok(WalkAnswer::Walked(walked))) => HopOutcome::Walked(walked),
        Some(Ok(WalkAnswer::NoEntry(no_entry))) => HopOutcome::NoEntry(no_entry),
        Some(Err(_)) | None => unanswered("its agent answered something this controller cannot read"),
    }
}

fn no_entry(host: &str, reason: &str, text: &str) -> Hop {
    let outcome = HopOutcome::NoEntry(NoEntry { reason: reason.to_owned(), text: text.to_owned() });
    Hop { host: host.to_owned(), outcome }
}

fn walked(hop: &Hop) -> Option<&Walked> {
    match &hop.outcome {
        HopOutcome::Walked(walked) => Some(walked),
        _ => None,
    }
}

/// Delivered to a link that carries, and to somebody who is there.
fn arrived(walked: &Walked) -> bool {
    let verdict = &walked.verdict;
    let delivered = matches!(verdict.kind.as_str(), "port" | "uplink") && verdict.link_up != Some(false);
    delivered && !verdict.neighbor_silent
}

/// Where a hop ended, in words.
fn stop_text(hop: &Hop) -> String {
    match &hop.outcome {
        HopOutcome::Walked(walked) if walked.verdict.link_up == Some(false) => {
            let link = walked.verdict.link.as_deref().unwrap_or("the link");
            format!("{} on {}: {link} is down", walked.verdict.text, hop.host)
        }
        HopOutcome::Walked(walked) if walked.verdict.neighbor_silent => {
            let neighbor = walked.verdict.neighbor.map(|address| address.to_string()).unwrap_or_default();
            format!("{} on {}, but {neighbor} does not say its MAC", walked.verdict.text, hop.host)
        }
        HopOutcome::Walked(walked) => format!("{} on {}", walked.verdict.text, hop.host),
        HopOutcome::NoEntry(no_entry) => format!("{}: {}", hop.host, no_entry.text),
        HopOutcome::Unanswered(reason) => format!("host {} does not answer: {reason}", hop.host),
    }
}

/// Whether an answer that arrived did so where the packet came from.
fn came_back(forward: &Way, answer: &Way) -> Result<(), String> {
    let first = forward.hops.first().and_then(walked);
    let last = answer.hops.last().and_then(walked);
    let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
    let (asker, answered) = (first.packet.src, last.output.as_ref().and_then(|output| output.dst));
    if asker == answered && first.packet.src_port == last.output.as_ref().and_then(|output| output.dst_port) {
        return Ok(());
    }
    let text = last.output.as_ref().map_or("", |output| output.text.as_str());
    Err(format!("the answer arrives as {text}, which is not where the packet came from"))
}

fn parse_mac(field: &str, text: &str) -> Result<MacAddr, Error> {
    text.parse::<model::Mac>().map(|mac| MacAddr(mac.0)).map_err(|error| bad(field, error))
}

fn compose(packet: &Packet) -> Result<Vec<u8>, Error> {
    packet.compose().map_err(|error| Error::bad_request(error.to_string()))
}

/// The address that a VM sends from to a destination, and its subnet; of the link-local address, none.
fn own_address(port: &Port, dst: IpAddr) -> Option<(Option<SubnetId>, IpAddr)> {
    let link_local = match dst {
        IpAddr::V6(dst) => dst.is_unicast_link_local() || dst.is_multicast(),
        IpAddr::V4(_) => false,
    };
    if link_local {
        return Some((None, frames::link_local(MacAddr(port.mac.0))));
    }
    let mut own = port.fixed_ips.iter().filter(|ip| ip.address.is_ipv4() == dst.is_ipv4());
    own.next().map(|ip| (Some(ip.subnet), ip.address))
}

const fn version(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// The packet described, sent by that MAC and, unless it says otherwise, from that address.
fn packet_of(description: &Description, (mac, own): (MacAddr, Option<IpAddr>)) -> Result<Packet, Error> {
    let src_mac = match &description.source_mac {
        Some(text) => parse_mac("source_mac", text)?,
        None => mac,
    };
    let dst = description.destination_ip;
    let dst = dst.ok_or_else(|| bad("destination_ip", "the receiver's address is needed"))?;
    let src = description.source_ip.or(own).ok_or_else(|| {
        bad("source_ip", format!("the sender's address is needed: its port has no {} address", version(dst)))
    });
    let packet = Packet {
        src_mac,
        dst_mac: MacAddr::ZERO,
        src: src?,
        dst,
        transport: transport(description)?,
        ttl: description.ttl.unwrap_or(TTL_DEFAULT),
        dont_fragment: description.dont_fragment,
        length: description.length,
    };
    // Whatever is wrong with it is said before anybody is asked.
    compose(&packet)?;
    Ok(packet)
}

fn transport(description: &Description) -> Result<Transport, Error> {
    let src = description.source_port.unwrap_or(SOURCE_PORT_DEFAULT);
    let dst = |protocol: &str| {
        description
            .destination_port
            .ok_or_else(|| bad("destination_port", format!("{protocol} needs the receiver's port")))
    };
    let without = |what: &str| match (description.destination_port, &description.tcp_flags) {
        (Some(_), _) => Err(bad("destination_port", format!("{what} has no ports"))),
        (None, Some(_)) => Err(bad("tcp_flags", format!("{what} has no TCP flags"))),
        (None, None) => Ok(()),
    };
    match description.protocol.as_deref().unwrap_or("icmp") {
        "icmp" => without("ICMP").map(|()| Transport::Echo { id: src }),
        "tcp" => {
            let flags = frames::tcp_flags(description.tcp_flags.as_deref().unwrap_or("syn"));
            Ok(Transport::Tcp {
                src,
                dst: dst("TCP")?,
                flags: flags.map_err(|error| Error::bad_request(error.to_string()))?,
            })
        }
        "udp" if description.tcp_flags.is_some() => Err(bad("tcp_flags", "UDP has no TCP flags")),
        "udp" => Ok(Transport::Udp { src, dst: dst("UDP")? }),
        other => {
            let number = other.parse().map_err(|_| {
                bad("protocol", format!("'{other}' is none of icmp, tcp, udp, and no number up to 255"))
            })?;
            without("such a protocol").map(|()| Transport::Other(number))
        }
    }
}

//! From where a packet was stopped to what is wrong: one function per place, each with the command that changes
//! it.

mod rules;

use super::facts::{Facts, address, fixed_ips, is, name, text};
use model::trace::{Hop, HopOutcome, NoEntry, Trace, Verdict, Walked, Way};
use serde_json::{Map, Value, json};
use std::net::{IpAddr, Ipv4Addr};

/// What is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    /// A word for programs.
    pub(crate) id: &'static str,
    /// One sentence.
    pub(crate) cause: String,
    /// Where it was seen; empty: nowhere in particular.
    pub(crate) host: String,
    pub(crate) stage: String,
    pub(crate) reason: String,
    /// What would change it, best first.
    pub(crate) commands: Vec<String>,
}

impl Finding {
    fn new(id: &'static str, cause: impl Into<String>) -> Self {
        Self { id, cause: cause.into(), ..Self::default() }
    }

    fn command(mut self, command: impl Into<String>) -> Self {
        self.commands.push(command.into());
        self
    }

    /// For JSON.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        let fields = json!({
            "cause_id": self.id, "cause": self.cause, "host": self.host, "stage": self.stage,
            "reason": self.reason, "commands": self.commands,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}

/// The packet meant for a port that the sender cannot reach by its address: none, or another, has it there.
pub(crate) fn elsewhere(facts: &Facts, to: &Value) -> Option<Finding> {
    let from = facts.from()?;
    let (own, wanted) = (text(from, "network_id"), text(to, "network_id"));
    let near = |network: &str| -> Vec<&str> {
        facts.routers_of(network).map(|(router, _)| text(router, "id")).collect()
    };
    let router = near(own).into_iter().find_map(|router| facts.router(router));
    if own == wanted || near(own).iter().any(|router| near(wanted).contains(router)) {
        return None;
    }
    let network = facts.network(wanted).map_or("another network", name);
    let finding = Finding::new(
        "other-vpc",
        format!("{} is on {network}, which no router connects with the network of {}", name(to), name(from)),
    );
    let external = near(wanted).into_iter().find_map(|router| facts.external_of(facts.router(router)?));
    let finding = match external {
        Some(external) => {
            finding.command(format!("nanboku floatingip create {} --port {}", name(external), name(to)))
        }
        None => finding,
    };
    let subnet = fixed_ips(to).next().and_then(|(_, subnet)| facts.subnet(subnet));
    Some(match (router, subnet) {
        (Some(router), Some(subnet)) => {
            finding.command(format!("nanboku router add-subnet {} {}", name(router), name(subnet)))
        }
        _ => finding,
    })
}

/// What stopped the packet or its answer.
pub(crate) fn find(trace: &Trace, facts: &Facts) -> Finding {
    let (way, back) = match &trace.answer {
        Some(answer) if trace.forward.arrived => (answer, true),
        _ => (&trace.forward, false),
    };
    let Some(hop) = way.hops.last().or_else(|| way.arp.last()) else {
        return Finding::new("unknown", way.text.clone());
    };
    let found = match &hop.outcome {
        HopOutcome::Unanswered(reason) => silent(facts, &hop.host, reason),
        HopOutcome::NoEntry(no_entry) => no_way_in(facts, way, hop, no_entry, back),
        HopOutcome::Walked(walked) => {
            let asking = way.hops.is_empty();
            Place { facts, hop, walked, asking, back }.find(way)
        }
    };
    let host = if found.host.is_empty() { hop.host.clone() } else { found.host.clone() };
    let verdict = match &hop.outcome {
        HopOutcome::Walked(walked) => Some(&walked.verdict),
        _ => None,
    };
    let word = |pick: fn(&Verdict) -> &Option<String>| {
        verdict.and_then(|verdict| pick(verdict).clone()).unwrap_or_default()
    };
    Finding { host, stage: word(|verdict| &verdict.stage), reason: word(|verdict| &verdict.reason), ..found }
}

fn silent(facts: &Facts, host: &str, reason: &str) -> Finding {
    match facts.host(host) {
        Some(known) if !is(known, "connected") => {
            Finding::new("agent-gone", format!("the agent of {host} is not connected to the controller"))
                .command(format!("on {host}: nanboku agent --config /etc/nanboku/agent.toml"))
                .command(format!("nanboku host show {host}"))
        }
        _ => Finding::new("agent-silent", format!("host {host} does not answer: {reason}"))
            .command(format!("nanboku host show {host}")),
    }
}

/// A frame that could not enter anywhere.
fn no_way_in(facts: &Facts, way: &Way, hop: &Hop, no_entry: &NoEntry, back: bool) -> Finding {
    let from = facts.from().filter(|_| !back);
    let port = from.or_else(|| facts.port_at(facts.destination()));
    let port_name = port.map_or("PORT", name);
    match no_entry.reason.as_str() {
        "not-bound" => unbound(facts, port),
        "no-link" => unplugged(&hop.host, port_name),
        "link-down" => Finding::new("link-down", format!("{port_name}: {}", no_entry.text))
            .command("in the VM: ip link set eth0 up"),
        "port-not-here" | "not-programmed" => Finding::new(
            "not-programmed",
            format!("{} has not programmed the port yet: {}", hop.host, no_entry.text),
        )
        .command(format!("nanboku host show {}", hop.host)),
        "no-gateway-address" => {
            let subnet = port.and_then(|port| facts.way_out(port).1).map_or("SUBNET", name);
            Finding::new("no-gateway-address", format!("subnet {subnet} has no gateway address"))
                .command(format!("nanboku subnet set {subnet} --gateway ADDRESS"))
        }
        "nobody-answers" => nobody_answers(facts, way, back),
        "no-uplink" => Finding::new("no-uplink", format!("{}: {}", hop.host, no_entry.text)),
        "not-on-link" => {
            let finding = Finding::new("not-external", no_entry.text.clone());
            match facts.external_with(facts.description.source_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into())) {
                Some(network) => {
                    finding.command(format!("nanboku floatingip create {} --port PORT", name(network)))
                }
                None => finding,
            }
        }
        _ => Finding::new("unknown", no_entry.text.clone()),
    }
}

fn unbound(facts: &Facts, port: Option<&Value>) -> Finding {
    let Some(port) = port else { return Finding::new("not-bound", "the port is bound to no host") };
    let host = text(port, "binding:host_id");
    let port = name(port);
    if host.is_empty() {
        return Finding::new("not-bound", format!("port {port} is bound to no host"))
            .command(format!("nanboku port set {port} --host HOST"));
    }
    let known = facts.host(host).is_some();
    let cause = if known { "is not connected" } else { "has no agent that ever connected" };
    Finding::new("not-bound", format!("port {port} is bound to {host}, which {cause}"))
        .command(format!("on {host}: nanboku agent --config /etc/nanboku/agent.toml"))
        .command(format!("nanboku port set {port} --host HOST"))
}

fn unplugged(host: &str, port: &str) -> Finding {
    Finding::new(
        "not-plugged",
        format!("port {port} has no interface on {host}: its VM is not running there"),
    )
    .command(format!("on {host}: nanboku port plug {port} --netns NAME"))
}

/// Nobody answers ARP for an address on an external network.
fn nobody_answers(facts: &Facts, way: &Way, back: bool) -> Finding {
    // What could not be reached: the destination, or the address the packet left with.
    let wanted = facts.destination();
    let external = facts.external_with(wanted);
    let behind = facts.floating_ip(wanted).and_then(|ip| facts.router(text(ip, "router_id")));
    let router = behind.or_else(|| facts.router_at(wanted)).filter(|_| !back);
    if let Some(router) = router.filter(|router| !is(router, "admin_state_up")) {
        return router_down(router);
    }
    if !back {
        return match (facts.floating_ip(wanted), external) {
            (Some(ip), _) if text(ip, "port_id").is_empty() && behind.is_none() => {
                Finding::new("floating-ip-free", format!("floating IP {wanted} stands for no port"))
                    .command(format!("nanboku floatingip set {wanted} --port PORT"))
            }
            (None, Some(network)) if facts.router_at(wanted).is_none() => {
                let network = name(network);
                Finding::new(
                    "no-floating-ip",
                    format!("{wanted} is neither a floating IP nor a SNAT address"),
                )
                .command(format!(
                    "nanboku floatingip create {network} --port PORT --floating-ip-address {wanted}"
                ))
            }
            _ => gateways(facts, external, &way.text),
        };
    }
    let port = facts.from();
    let router = port.and_then(|port| facts.way_out(port).2);
    gateways(facts, router.and_then(|router| facts.external_of(router)).or(external), &way.text)
}

/// Why no host acts as a gateway of an external network.
fn gateways(facts: &Facts, external: Option<&Value>, seen: &str) -> Finding {
    let Some(external) = external else { return Finding::new("no-gateway", seen.to_owned()) };
    let physical_network = text(external, "provider:physical_network");
    let hosts: Vec<&Value> = facts.hosts_with(physical_network).collect();
    let named = |wanted: fn(&Value) -> bool| {
        let names = hosts.iter().filter(|host| wanted(host)).map(|host| name(host));
        names.collect::<Vec<_>>().join(", ")
    };
    if hosts.is_empty() {
        let cause = format!("no host has physical network {physical_network} of {}", name(external));
        return Finding::new("no-gateway", cause).command(format!(
            "on a host: physical_networks = {{ {physical_network} = \"NIC\" }} in agent.toml"
        ));
    }
    if hosts.iter().all(|host| is(host, "drained") || !is(host, "live")) {
        let drained = named(|host| is(host, "drained"));
        let cause =
            format!("none of the hosts with {physical_network} is a live gateway ({})", named(|_| true));
        let finding = Finding::new("no-gateway", cause);
        return match drained.split(", ").next().filter(|host| !host.is_empty()) {
            Some(host) => finding.command(format!("nanboku host undrain {host}")),
            None => finding.command("nanboku host list"),
        };
    }
    let down = |host: &Value| {
        let uplinks = host.get("uplinks").and_then(Value::as_array).into_iter().flatten();
        let mut of = uplinks.filter(|uplink| text(uplink, "physical_network") == physical_network);
        of.any(|uplink| !is(uplink, "up"))
    };
    let down: Vec<&str> = hosts.iter().filter(|host| down(host)).map(|host| name(host)).collect();
    if !down.is_empty() {
        let cause = format!("the uplink of {physical_network} is down on {}", down.join(", "));
        return Finding::new("uplink-down", cause)
            .command(format!("on {}: ip link set NIC up", down.first().copied().unwrap_or("HOST")));
    }
    Finding::new("no-gateway", format!("no host answers: {seen}")).command("nanboku host list")
}

/// Where a walk was stopped.
struct Place<'a> {
    facts: &'a Facts,
    hop: &'a Hop,
    walked: &'a Walked,
    /// While the VM asked for the MAC of its next hop.
    asking: bool,
    /// On the way back.
    back: bool,
}

impl Place<'_> {
    /// The VM's port at whose link it was stopped, if it was at one: the sender's of this direction.
    fn sender(&self) -> Option<&Value> {
        if self.back { self.facts.port_at(self.facts.destination()) } else { self.facts.from() }
    }

    fn receiver(&self) -> Option<&Value> {
        let delivered = self.walked.verdict.port.map(|id| id.to_string());
        if let Some(port) = delivered.and_then(|id| self.facts.port(&id)) {
            return Some(port);
        }
        if self.back {
            return self.facts.from();
        }
        let wanted = self.facts.destination();
        let behind = self.facts.floating_ip(wanted).and_then(|ip| self.facts.port(text(ip, "port_id")));
        behind.or_else(|| self.facts.port_at(wanted))
    }

    fn router(&self) -> Option<&Value> {
        let port = if self.back { self.receiver() } else { self.sender() };
        port.and_then(|port| self.facts.way_out(port).2)
    }

    fn find(&self, way: &Way) -> Finding {
        let verdict = &self.walked.verdict;
        match verdict.kind.as_str() {
            "port" | "uplink" if verdict.link_up == Some(false) => self.link_down(),
            "uplink" if verdict.neighbor_silent => {
                self.unresolved(verdict.neighbor.unwrap_or(Ipv4Addr::UNSPECIFIED.into()))
            }
            "punt" => self.punted(),
            "drop" => self.dropped(way),
            "host" if !self.back => nobody_answers(self.facts, way, false),
            _ => Finding::new("unknown", way.text.clone()),
        }
    }

    fn link_down(&self) -> Finding {
        let (host, link) = (&self.hop.host, self.walked.verdict.link.as_deref().unwrap_or("link"));
        match (&self.walked.verdict.physical_network, self.receiver()) {
            (Some(network), _) => {
                Finding::new("uplink-down", format!("uplink {link} of {network} is down on {host}"))
                    .command(format!("on {host}: ip link set {link} up"))
            }
            (None, port) => {
                let port = port.map_or("the port", name);
                let cause =
                    format!("the interface of {port} has no carrier: its VM is off or took it down ({link})");
                Finding::new("link-down", cause).command("in the VM: ip link set eth0 up")
            }
        }
    }

    fn punted(&self) -> Finding {
        let verdict = &self.walked.verdict;
        match (verdict.reason.as_deref(), verdict.neighbor) {
            (Some("resolve-neighbor"), Some(neighbor)) => self.unresolved(neighbor),
            (Some("fragmentation-needed"), _) => self.too_big(verdict.mtu.unwrap_or(0)),
            (Some("ttl-exceeded"), _) => {
                Finding::new("ttl", "the TTL runs out on the way").command("send with a larger TTL")
            }
            _ => Finding::new("unknown", verdict.text.clone()),
        }
    }

    fn too_big(&self, mtu: u32) -> Finding {
        let length = self.walked.packet.length.unwrap_or(0);
        let finding =
            Finding::new("mtu", format!("packets of {length} bytes do not fit: the path takes {mtu}"))
                .command(format!("in the VM: ip link set eth0 mtu {mtu}"));
        match self.sender() {
            Some(port) => {
                let network = self.facts.network(text(port, "network_id")).map_or("NETWORK", name);
                finding.command(format!("nanboku network set {network} --mtu {length}"))
            }
            None => finding,
        }
    }

    /// Nobody on the external network answers for the next hop.
    fn unresolved(&self, neighbor: IpAddr) -> Finding {
        let host = &self.hop.host;
        let external = self.facts.external_with(neighbor);
        let Some(external) = external else {
            return Finding::new("neighbor", format!("{host} gets no answer from {neighbor} about its MAC"));
        };
        let network = name(external);
        let place = match external.get("provider:segmentation_id").and_then(Value::as_u64) {
            Some(vlan) => format!("VLAN {vlan} of {}", text(external, "provider:physical_network")),
            None => format!("{}, untagged", text(external, "provider:physical_network")),
        };
        let gateway = self.facts.subnets.iter().any(|subnet| address(subnet, "gateway_ip") == Some(neighbor));
        let what = if gateway { format!("{network}'s gateway {neighbor}") } else { neighbor.to_string() };
        let (how, filter) = match neighbor {
            IpAddr::V4(_) => ("ARP", "arp"),
            IpAddr::V6(_) => ("neighbour discovery", "icmp6"),
        };
        Finding::new("neighbor", format!("{what} does not answer {how} on {place}, as {host} sees it"))
            .command(format!(
                "on {host}: tcpdump -e -n -i UPLINK {filter}   # is it there, and in that VLAN?"
            ))
            .command(format!("nanboku network show {network}"))
    }

    fn dropped(&self, way: &Way) -> Finding {
        let verdict = &self.walked.verdict;
        let reason = verdict.reason.as_deref().unwrap_or_default();
        match reason {
            "arp-unknown-target" => self.no_next_hop(),
            "port-inactive" => admin_down(self.facts, self.sender()),
            "port-policy-missing" => admin_down(self.facts, self.receiver()),
            "no-port" => unplugged(&self.hop.host, self.sender().map_or("PORT", name)),
            "spoofed-mac" | "spoofed-address" | "spoofed-arp" | "spoofed-neighbor" => self.spoofed(),
            "no-rule" | "rule-gone" => self.no_rule(),
            "no-route" | "blackhole" => self.no_route(),
            "snat-disabled" => self.no_snat(),
            "no-port-block" | "ports-exhausted" | "port-quota" => self.no_port(reason),
            "unknown-station" | "not-local" | "external-destination-unknown" => self.no_station(),
            "no-gateway" | "not-gateway" => {
                let router = self.router();
                gateways(self.facts, router.and_then(|router| self.facts.external_of(router)), &way.text)
            }
            "no-mapping" | "filtered" => self.unsolicited(),
            "not-for-router" => {
                let cause = format!(
                    "{} is a router's own address, which answers ping only",
                    self.facts.destination()
                );
                Finding::new("router-address", cause)
            }
            "unknown-vtep" | "unknown-vni" | "source-not-owned" | "path-loop" | "not-programmed" => {
                let host = &self.hop.host;
                let cause = format!("{host} has not programmed what another host acts on: {}", verdict.text);
                Finding::new("stale-tables", cause).command(format!("nanboku host show {host}"))
            }
            _ => Finding::new("dropped", verdict.sentence.clone().unwrap_or_else(|| verdict.text.clone()))
                .command(format!("nanboku explain drop {reason}")),
        }
    }

    /// The VM's question for a MAC has no answer.
    fn no_next_hop(&self) -> Finding {
        let (Some(port), Some(asked)) = (self.sender(), self.walked.packet.dst.filter(|_| self.asking))
        else {
            return Finding::new("dropped", self.walked.verdict.text.clone());
        };
        let (network, subnet, _) = self.facts.way_out(port);
        // Neighbour discovery asks a group, not the next hop itself.
        let wanted = if asked.is_multicast() { self.facts.next_hop(subnet) } else { asked };
        let gateway = subnet.and_then(|subnet| address(subnet, "gateway_ip")) == Some(wanted);
        let network_name = self.facts.network(network).map_or("its network", name);
        if !gateway {
            return Finding::new(
                "no-such-address",
                format!("no port of {network_name} has the address {wanted}"),
            )
            .command(format!("nanboku port list --network {network_name}"));
        }
        if let Some(router) = self.facts.gateway_router(network, wanted) {
            let router_name = name(router);
            return if is(router, "admin_state_up") {
                Finding::new(
                    "stale-tables",
                    format!("{} does not know router {router_name} yet", self.hop.host),
                )
            } else {
                router_down(router)
            };
        }
        let subnet = subnet.map_or("SUBNET", name);
        let router = self.facts.routers.first().map_or("ROUTER", name);
        let others: Vec<&str> = self.facts.routers_of(network).map(|(router, _)| name(router)).collect();
        let router = others.first().copied().unwrap_or(router);
        Finding::new("no-router-interface", format!("no router has {subnet}'s gateway address {wanted}"))
            .command(format!("nanboku router add-subnet {router} {subnet}"))
    }

    fn spoofed(&self) -> Finding {
        let packet = &self.walked.packet;
        let src = packet.src.map(|src| src.to_string()).unwrap_or_default();
        let port = self.sender().map_or("PORT", name);
        let cause = format!("port {port} may not send from {src} with {}", packet.src_mac);
        Finding::new("spoofed", cause)
            .command(format!("nanboku port set {port} --allowed-address ip-address={src}"))
    }

    fn no_route(&self) -> Finding {
        let wanted = self.walked.packet.dst.unwrap_or_else(|| self.facts.destination());
        let Some(router) = self.router() else {
            return Finding::new("no-route", format!("the router has no route to {wanted}"));
        };
        let router_name = name(router);
        if self.facts.external_of(router).is_none() {
            let external = self.facts.networks.iter().find(|network| is(network, "router:external"));
            let external = external.map_or("NETWORK", name);
            let cause = format!("router {router_name} has no external gateway, so no route to {wanted}");
            return Finding::new("no-external-gateway", cause)
                .command(format!("nanboku router set {router_name} --external-gateway {external}"));
        }
        let bits = match wanted {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        if wanted.is_ipv6()
            && let Some(finding) = self.no_ipv6_outside(router)
        {
            return finding;
        }
        Finding::new("no-route", format!("router {router_name} has no route to {wanted}")).command(format!(
            "nanboku router add-route {router_name} --route destination={wanted}/{bits},gateway=ADDRESS"
        ))
    }

    /// A router without an IPv6 address on its external network.
    fn no_ipv6_outside(&self, router: &Value) -> Option<Finding> {
        let external = self.facts.external_of(router)?;
        let ips = router.get("external_gateway_info")?.get("external_fixed_ips")?.as_array()?;
        if ips.iter().filter_map(|ip| address(ip, "ip_address")).any(|ip| ip.is_ipv6()) {
            return None;
        }
        let (router, network) = (name(router), name(external));
        let has_subnet = self.facts.subnets.iter().any(|subnet| {
            text(subnet, "network_id") == text(external, "id")
                && subnet.get("ip_version").and_then(Value::as_u64) == Some(6)
        });
        let cause = format!("router {router} has no IPv6 address on {network}");
        let finding = Finding::new("no-ipv6-outside", cause);
        let finding = if has_subnet {
            finding
        } else {
            finding.command(format!("nanboku subnet create NAME --network {network} --cidr PREFIX"))
        };
        Some(finding.command(format!("nanboku router set {router} --external-gateway {network}")))
    }

    fn no_snat(&self) -> Finding {
        let router = self.router();
        let external = router.and_then(|router| self.facts.external_of(router)).map_or("NETWORK", name);
        let (router, port) = (router.map_or("ROUTER", name), self.sender().map_or("PORT", name));
        Finding::new("snat-off", format!("router {router} has SNAT off, and {port} has no floating IP"))
            .command(format!("nanboku router set {router} --external-gateway {external}"))
            .command(format!("nanboku floatingip create {external} --port {port}"))
    }

    fn no_port(&self, reason: &str) -> Finding {
        let router = self.router().map_or("ROUTER", name);
        let host = &self.hop.host;
        match reason {
            "port-quota" => {
                let port = self.sender().map_or("PORT", name);
                Finding::new(
                    "port-quota",
                    format!("{port} has as many mappings as router {router} allows one VM"),
                )
                .command(format!("nanboku router set {router} --ports-per-vm-max NUMBER"))
            }
            "no-port-block" => Finding::new(
                "no-block",
                format!("{host} has no port block of router {router}: none is free"),
            )
            .command(format!("nanboku block list --router {router}"))
            .command(format!(
                "nanboku router set {router} --external-gateway NETWORK --snat-address A --snat-address B"
            )),
            _ => Finding::new(
                "ports-exhausted",
                format!("{host} found no free port for router {router} in its blocks"),
            )
            .command(format!("nanboku block list --router {router} --host {host}"))
            .command(format!(
                "nanboku router set {router} --external-gateway NETWORK --snat-address A --snat-address B"
            )),
        }
    }

    /// Nobody has the destination's address or MAC.
    fn no_station(&self) -> Finding {
        let wanted = self.walked.packet.dst.unwrap_or_else(|| self.facts.destination());
        let Some(port) = self.receiver() else {
            return Finding::new("no-such-address", format!("no port has the address {wanted}"))
                .command(format!("nanboku port list   # who should have {wanted}?"));
        };
        let host = text(port, "binding:host_id");
        if fixed_ips(port).all(|(address, _)| address != wanted) && self.facts.floating_ip(wanted).is_none() {
            return Finding::new(
                "no-such-address",
                format!("{} does not have the address {wanted}", name(port)),
            );
        }
        if host.is_empty() || self.facts.host(host).is_none() {
            return unbound(self.facts, Some(port));
        }
        unplugged(host, name(port))
    }

    /// From outside to a SNAT address.
    fn unsolicited(&self) -> Finding {
        let wanted = self.facts.destination();
        if self.facts.floating_ip(wanted).is_some() {
            let cause = format!("floating IP {wanted} forwards some ports, and this is none of them");
            return Finding::new("port-not-forwarded", cause).command(format!(
                "nanboku floatingip portforwarding create {wanted} --port PORT --protocol PROTOCOL --external-port NUMBER --internal-port NUMBER"
            ));
        }
        let router = self.facts.router_at(wanted);
        let external = self.facts.external_with(wanted).map_or("NETWORK", name);
        let router = router.map_or("a router", name);
        Finding::new(
            "snat-is-outbound",
            format!("{wanted} is the SNAT address of {router}, and nobody inside opened this connection"),
        )
        .command(format!("nanboku floatingip create {external} --port PORT"))
    }
}

fn router_down(router: &Value) -> Finding {
    let router = name(router);
    Finding::new("router-down", format!("router {router} is administratively down"))
        .command(format!("nanboku router set {router} --enable"))
}

fn admin_down(facts: &Facts, port: Option<&Value>) -> Finding {
    let Some(port) = port else { return Finding::new("port-down", "the port is administratively down") };
    let network = facts.network(text(port, "network_id"));
    if let Some(network) = network.filter(|network| !is(network, "admin_state_up")) {
        let network = name(network);
        return Finding::new("network-down", format!("network {network} is administratively down"))
            .command(format!("nanboku network set {network} --enable"));
    }
    let port_name = name(port);
    if is(port, "admin_state_up") {
        return Finding::new(
            "stale-tables",
            format!("port {port_name} is up, but its host has not programmed that"),
        );
    }
    Finding::new("port-down", format!("port {port_name} is administratively down"))
        .command(format!("nanboku port set {port_name} --enable"))
}

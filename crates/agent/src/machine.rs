//! The agent's logic, sans IO: what it was told and what it sees in, what it wants done out.
//!
//! Inputs are method calls (a message of the controller, a link, an event of the data path, the clock);
//! outputs are a [`Plan`] for the kernel, frames, and messages for the controller. Nothing here waits or
//! fails: what cannot be acted on now is acted on when the missing part comes. Every input may come twice.

use crate::advertise::Advertiser;
use crate::announce::{Announcer, Claim};
use crate::answer::{self, Outgoing};
use crate::discovery::Speaker;
use crate::gateway_watch::GatewayWatch;
use crate::liveness::Verdicts;
use crate::metadata::Guest;
use crate::metering::Meters;
use crate::neighbors::{Probe, Resolver, Target};
use crate::rivals::Rivals;
use crate::state::{Tunnel, TunnelSettings, Welcome};
use compiler::{AclSizes, Compiled, LinkFacts, LocalFacts, ServiceFacts, UplinkFacts};
use dataplane::{Attachment, Hook};
use ipnet::Ipv4Net;
use model::slice::{Delta, Slice};
use model::{Mac, NatTimeouts, PortId, Vni};
use packet::compose::{ArpSender, arp_announcement, arp_announcement_reply, arp_probe};
use packet::nd;
use pipeline::Punt;
use pipeline::event::Event;
use pipeline::table_set::TableSet;
use pipeline::tables::{ExternalAddress, NetworkKey, PortKey, ServiceKey};
use proto::{agent_message, controller_message};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

mod blocks;
mod capture;
mod guests;
mod health;
mod membership;
mod status;
mod trace;
mod virtual_addresses;
pub(crate) use blocks::BlockUses;
use membership::Membership;
pub(crate) use status::PortView;
use virtual_addresses::VirtualAddresses;

/// Between two status messages when nothing changes.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Changes of the state are collected this long before the file is written.
const SAVE_AFTER: Duration = Duration::from_millis(100);

/// What the configuration says.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) vtep: Ipv4Addr,
    pub(crate) underlay_ifindex: u32,
    /// See [`LocalFacts::underlay_net`].
    pub(crate) underlay_net: Ipv4Net,
    /// As it was when the agent started.
    pub(crate) underlay_mtu: u16,
    /// NIC by physical network.
    pub(crate) physical_networks: BTreeMap<String, String>,
    pub(crate) sessions_per_vm_max: u32,
    pub(crate) acl_sizes: AclSizes,
    pub(crate) dhcp_lease_s: u32,
    pub(crate) tunnel: TunnelSettings,
}

/// What a link is to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Administratively up, with carrier.
    pub(crate) up: bool,
    /// See [`LinkFacts`].
    pub(crate) veth_peer_elsewhere: bool,
}

/// The kernel's tunnel device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TunnelLink {
    pub(crate) ifindex: u32,
    /// A VXLAN device stands in for Geneve.
    pub(crate) geneve_as_vxlan: bool,
}

/// What the kernel should have. Programs first, tables then: a port has no entry before its program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) hooks: BTreeSet<Attachment>,
    pub(crate) compiled: Compiled,
    pub(crate) revision: u64,
}

/// A message of the controller that cannot be understood; the connection is given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadMessage {
    #[error("the controller's welcome has a bad {field}: '{value}'")]
    Welcome { field: &'static str, value: String },
    #[error("the controller's {what} is not readable")]
    Json { what: &'static str, source: serde_json::Error },
    #[error("the controller sent a delta before a snapshot")]
    DeltaFirst,
}

/// What events asked for that nothing came of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unanswered {
    /// ICMP errors left to the host the packet came from.
    pub(crate) from_tunnel: u64,
    /// ICMP errors that must not or cannot be sent.
    pub(crate) refused: u64,
}

pub(crate) struct Machine {
    settings: Settings,
    welcome: Option<Welcome>,
    slice: Option<Slice>,
    /// By name; an index belongs to one name at a time.
    links: BTreeMap<String, Link>,
    tunnel: Option<TunnelLink>,
    /// Link of the host's services.
    service: Option<u32>,
    resolver: Resolver,
    announcer: Announcer,
    advertiser: Advertiser,
    /// Tables were programmed since [`Machine::macs_accepted`] was asked.
    macs_due: bool,
    /// The other hosts, as BFD found out.
    verdicts: Verdicts,
    /// The uplink or the gateway behind it is of no use.
    path_down: bool,
    /// No other host can be heard.
    isolated: bool,
    watch: GatewayWatch,
    rivals: Rivals,
    membership: Membership,
    virtual_addresses: VirtualAddresses,
    /// Frames from the uplinks, as last told.
    uplink_frames: u64,
    /// What the kernel has: of the last plan that was carried out.
    programmed: Option<Plan>,
    /// Something changed since the last plan was made.
    stale: bool,
    unsaved_since: Option<Instant>,
    connected: bool,
    /// What this connection was told last.
    reported: Option<(u64, Vec<String>)>,
    status_due: Option<Instant>,
    block_requests: blocks::Requests,
    outbox: Vec<agent_message::Message>,
    pub(crate) unanswered: Unanswered,
}

impl Machine {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            welcome: None,
            slice: None,
            links: BTreeMap::new(),
            tunnel: None,
            service: None,
            resolver: Resolver::default(),
            announcer: Announcer::default(),
            advertiser: Advertiser::default(),
            macs_due: false,
            verdicts: Verdicts::default(),
            path_down: false,
            isolated: false,
            watch: GatewayWatch::default(),
            rivals: Rivals::default(),
            membership: Membership::default(),
            virtual_addresses: VirtualAddresses::default(),
            uplink_frames: 0,
            programmed: None,
            stale: true,
            unsaved_since: None,
            connected: false,
            reported: None,
            status_due: None,
            block_requests: blocks::Requests::default(),
            outbox: Vec::new(),
            unanswered: Unanswered::default(),
        }
    }

    /// What was on disk.
    pub(crate) fn restore(&mut self, welcome: Welcome, slice: Slice) {
        self.welcome = Some(welcome);
        self.slice = Some(slice);
        self.stale = true;
    }

    /// Takes over the external neighbours that an earlier agent left in the kernel, so that packets find them
    /// from the first plan on. To be called after [`Machine::restore`].
    pub(crate) fn adopt(&mut self, now: Instant, tables: &TableSet) {
        for (key, neighbor) in &tables.neighbors {
            if let Some(vni) = self.external_vni(key.vni) {
                self.resolver.adopt(now, (vni, key.address.into()), Mac(neighbor.mac.0));
            }
        }
    }

    /// The tunnel device there should be; none before the first welcome.
    pub(crate) fn tunnel_wanted(&self) -> Option<Tunnel> {
        self.welcome.as_ref().map(|welcome| welcome.tunnel)
    }

    /// By which sessions end.
    pub(crate) fn nat_timeouts(&self) -> NatTimeouts {
        self.welcome.as_ref().map(|welcome| welcome.nat_timeouts).unwrap_or_default()
    }

    /// What the labels of the routers count.
    pub(crate) fn meters(&self) -> Meters {
        self.slice.as_ref().map(Meters::of).unwrap_or_default()
    }

    pub(crate) fn tunnel_ready(&mut self, tunnel: Option<TunnelLink>) {
        self.stale |= self.tunnel != tunnel;
        self.tunnel = tunnel;
    }

    /// The link of the host's services is there.
    pub(crate) fn service_ready(&mut self, ifindex: u32) {
        self.stale |= self.service != Some(ifindex);
        self.service = Some(ifindex);
    }

    /// Its ifindex.
    pub(crate) fn tunnel_link(&self) -> Option<u32> {
        self.tunnel.map(|tunnel| tunnel.ifindex)
    }

    // Links.

    /// All links there are; what is not among them is gone.
    pub(crate) fn set_links(&mut self, now: Instant, links: Vec<Link>) {
        let links: BTreeMap<String, Link> = links.into_iter().map(|link| (link.name.clone(), link)).collect();
        if links != self.links {
            self.links = links;
            self.links_changed(now);
        }
    }

    pub(crate) fn link_present(&mut self, now: Instant, link: Link) {
        if self.links.get(&link.name) == Some(&link) {
            return;
        }
        self.links.retain(|_, known| known.index != link.index);
        let matters = self.matters(&link.name);
        self.links.insert(link.name.clone(), link);
        if matters {
            self.links_changed(now);
        }
    }

    pub(crate) fn link_removed(&mut self, now: Instant, index: u32) {
        let gone: Vec<String> =
            self.links.values().filter(|link| link.index == index).map(|link| link.name.clone()).collect();
        for name in gone {
            self.links.remove(&name);
            if self.matters(&name) {
                self.links_changed(now);
            }
        }
    }

    fn matters(&self, name: &str) -> bool {
        is_port_link(name) || self.settings.physical_networks.values().any(|link| link == name)
    }

    fn links_changed(&mut self, now: Instant) {
        self.stale = true;
        self.status_due = self.connected.then_some(now);
    }

    // The controller.

    pub(crate) fn connected(&mut self, now: Instant) {
        self.connected = true;
        self.reported = None;
        self.status_due = Some(now);
    }

    pub(crate) fn disconnected(&mut self) {
        self.connected = false;
        self.status_due = None;
        self.outbox.clear();
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Returns a question, for the caller to answer.
    ///
    /// # Errors
    /// The message makes no sense; nothing changed.
    pub(crate) fn controller(
        &mut self,
        now: Instant,
        message: controller_message::Message,
    ) -> Result<Option<proto::Question>, BadMessage> {
        match message {
            controller_message::Message::Welcome(welcome) => {
                let welcome = parse_welcome(&welcome)?;
                if self.welcome.as_ref() != Some(&welcome) {
                    self.stale = true;
                    self.unsaved_since.get_or_insert(now);
                }
                self.welcome = Some(welcome);
            }
            controller_message::Message::Snapshot(snapshot) => {
                let slice: Slice = serde_json::from_slice(&snapshot.slice)
                    .map_err(|source| BadMessage::Json { what: "snapshot", source })?;
                self.snapshot(now, slice);
            }
            controller_message::Message::Delta(delta) => {
                let delta: Delta = serde_json::from_slice(&delta.delta)
                    .map_err(|source| BadMessage::Json { what: "delta", source })?;
                self.note_moves(&delta);
                self.slice.as_mut().ok_or(BadMessage::DeltaFirst)?.apply(delta);
                self.slice_changed(now);
            }
            controller_message::Message::Question(question) => return Ok(Some(question)),
        }
        Ok(None)
    }

    fn slice_changed(&mut self, now: Instant) {
        self.stale = true;
        self.note_membership(now);
        self.unsaved_since.get_or_insert(now);
    }

    /// The state to write to disk now, if it is time.
    pub(crate) fn take_unsaved(&mut self, now: Instant) -> Option<(&Welcome, &Slice)> {
        let due = self.unsaved_since.is_some_and(|since| since + SAVE_AFTER <= now);
        let state = self.welcome.as_ref().zip(self.slice.as_ref()).filter(|_| due)?;
        self.unsaved_since = None;
        Some(state)
    }

    // The kernel.

    fn facts(&self) -> Option<LocalFacts> {
        let (welcome, slice) = (self.welcome.as_ref()?, self.slice.as_ref()?);
        let tunnel = self.tunnel?;
        let here = slice.ports.iter().filter(|(_, port)| port.host == Some(welcome.host));
        let links = here.filter_map(|(id, _)| {
            let link = self.links.get(&id.link_name())?;
            let facts = LinkFacts { ifindex: link.index, veth_peer_elsewhere: link.veth_peer_elsewhere };
            Some((*id, facts))
        });
        let uplinks = self.settings.physical_networks.iter().filter_map(|(network, link)| {
            let link = self.links.get(link)?;
            Some((network.clone(), UplinkFacts { ifindex: link.index, up: link.up }))
        });
        Some(LocalFacts {
            host: welcome.host,
            vtep: self.settings.vtep,
            dvr_mac: welcome.dvr_mac,
            underlay_net: self.settings.underlay_net,
            underlay_ifindex: self.settings.underlay_ifindex,
            underlay_mtu: self.settings.underlay_mtu,
            tunnel: welcome.tunnel.facts(self.settings.tunnel, tunnel.geneve_as_vxlan),
            links: links.collect(),
            uplinks: uplinks.collect(),
            neighbors: self.resolver.resolved(),
            dead_hosts: self.no_gateways(welcome.host),
            standing: self.standing(),
            acl_sizes: self.settings.acl_sizes,
            sessions_per_vm_max: self.settings.sessions_per_vm_max,
            service: self.service.map(|ifindex| ServiceFacts { ifindex, mac: Mac(pipeline::SERVICE_MAC.0) }),
        })
    }

    /// Every link that needs a program: also taps that no port is known for, so that they forward nothing.
    fn hooks(&self, tunnel: TunnelLink) -> BTreeSet<Attachment> {
        let fixed = [
            Attachment { hook: Hook::Tunnel, ifindex: tunnel.ifindex },
            Attachment { hook: Hook::Underlay, ifindex: self.settings.underlay_ifindex },
        ];
        let links = self.links.values().filter_map(|link| {
            let uplink = self.settings.physical_networks.values().any(|name| *name == link.name);
            let hook = match (uplink, is_port_link(&link.name)) {
                (true, _) => Hook::Uplink,
                (_, true) => Hook::Port,
                _ => return None,
            };
            Some(Attachment { hook, ifindex: link.index })
        });
        let service = self.service.map(|ifindex| Attachment { hook: Hook::Service, ifindex });
        fixed.into_iter().chain(service).chain(links).collect()
    }

    /// What to do to the kernel, if anything changed since the last plan.
    pub(crate) fn plan(&mut self) -> Option<Plan> {
        if !self.stale {
            return None;
        }
        let (facts, tunnel) = (self.facts()?, self.tunnel?);
        let slice = self.slice.as_ref()?;
        self.stale = false;
        let compiled = compiler::compile(slice, &facts);
        Some(Plan { hooks: self.hooks(tunnel), compiled, revision: slice.revision })
    }

    /// A plan was carried out.
    pub(crate) fn carried_out(&mut self, now: Instant, plan: Plan) {
        self.programmed = Some(plan);
        let (gateways, networks) = self.external_gateways();
        self.resolver.set_gateways(now, &gateways, &networks);
        self.watch_gateways(now);
        self.announcer.set(now, &self.claims());
        self.macs_due = true;
        self.advertise(now);
        self.blocks_programmed(now);
        self.moves_programmed();
        self.report();
    }

    /// A plan could not be carried out; it is made anew at the next tick.
    pub(crate) fn failed(&mut self) {
        self.stale = true;
    }

    pub(crate) fn programmed(&self) -> Option<&Plan> {
        self.programmed.as_ref()
    }

    /// What NICs have to take beside their own: on each uplink frames for this host's MAC and, of neighbour discovery,
    /// for the groups in which its addresses there are asked for (RFC 4861 §7.2.1) and others announce theirs. None:
    /// nothing was programmed since the last question.
    pub(crate) fn macs_accepted(&mut self) -> Option<BTreeSet<(u32, packet::MacAddr)>> {
        if !std::mem::take(&mut self.macs_due) {
            return None;
        }
        let (plan, welcome) = (self.programmed.as_ref()?, self.welcome.as_ref()?);
        let own = packet::MacAddr(welcome.dvr_mac.0);
        let group = |address: &[u8; 16]| nd::multicast_mac(&nd::solicited_node(address));
        let always = [own, group(&nd::link_local(own)), nd::multicast_mac(&nd::ALL_NODES)];
        let uplinks = plan.hooks.iter().filter(|attachment| attachment.hook == Hook::Uplink);
        let mut macs: BTreeSet<_> =
            uplinks.flat_map(|uplink| always.map(|mac| (uplink.ifindex, mac))).collect();
        for claim in self.claims() {
            if let IpAddr::V6(address) = claim.address {
                macs.insert((claim.uplink_ifindex, group(&address.octets())));
            }
        }
        Some(macs)
    }

    /// Default gateways of the external networks whose NIC is here, and those networks.
    fn external_gateways(&self) -> (BTreeSet<Target>, BTreeSet<Vni>) {
        let (mut gateways, mut networks) = (BTreeSet::new(), BTreeSet::new());
        for network in self.slice.iter().flat_map(|slice| slice.external_networks.values()) {
            let link = self.settings.physical_networks.get(&network.physical_network);
            if link.is_some_and(|link| self.links.contains_key(link)) {
                networks.insert(network.vni);
                let of_subnets = network.subnets.values().filter_map(|subnet| subnet.gateway);
                gateways.extend(of_subnets.map(|address| (network.vni, address)));
            }
        }
        (gateways, networks)
    }

    fn claims(&self) -> BTreeSet<Claim> {
        let Some(plan) = &self.programmed else { return BTreeSet::new() };
        let tables = &plan.compiled.tables;
        let answered = tables
            .external_addresses
            .iter()
            .filter(|(_, address)| address.flags & ExternalAddress::FLAG_ANSWER != 0);
        answered.filter_map(|(key, _)| self.claim(key.external_vni, key.address.into())).collect()
    }

    /// An address of an external network, where this host would answer for it.
    fn claim(&self, vni: u32, address: IpAddr) -> Option<Claim> {
        let tables = &self.programmed.as_ref()?.compiled.tables;
        let external = tables.externals.get(&NetworkKey { vni })?;
        Some(Claim { address, uplink_ifindex: external.uplink_ifindex, vlan: external.vlan })
    }

    // Time and events.

    /// When [`Machine::tick`] is to be called next; none: not before something happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let save = self.unsaved_since.map(|since| since + SAVE_AFTER);
        let schedules = [self.announcer.deadline(), self.advertiser.deadline()];
        let due = [self.resolver.deadline(), self.status_due, save].into_iter().chain(schedules);
        due.chain(self.health_deadlines()).flatten().min()
    }

    /// Frames that are due.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Outgoing> {
        let (mut probes, given_up) = self.resolver.poll(now);
        self.stale |= given_up;
        probes.extend(self.poll_health(now));
        let mut frames: Vec<Outgoing> = probes.iter().filter_map(|probe| self.probe(probe)).collect();
        for claim in self.announcer.poll(now) {
            frames.extend(self.announcement(claim));
        }
        frames.extend(self.tell_of_moves());
        let advertisements = self.advertiser.poll(now).into_iter();
        frames.extend(advertisements.map(|(ifindex, frame)| Outgoing { ifindex, frame }));
        frames
    }

    fn probe(&self, probe: &Probe) -> Option<Outgoing> {
        let tables = &self.programmed.as_ref()?.compiled.tables;
        let external = tables.externals.get(&NetworkKey { vni: probe.vni.get() })?;
        if external.uplink_ifindex == 0 {
            return None;
        }
        let known = probe.unicast.map(|mac| packet::MacAddr(mac.0));
        let frame = match probe.address {
            IpAddr::V4(address) => {
                let sender = self.arp_sender(Ipv4Addr::UNSPECIFIED, external.vlan)?;
                let mut frame = arp_probe(&sender, address.octets()).to_vec();
                if let (Some(mac), Some(destination)) = (known, frame.get_mut(..6)) {
                    destination.copy_from_slice(&mac.0);
                }
                frame
            }
            IpAddr::V6(address) => self.speaker(external.vlan)?.solicitation(address, known),
        };
        Some(Outgoing { ifindex: external.uplink_ifindex, frame })
    }

    /// Of ARP both forms: some stations and switches believe only one of them.
    fn announcement(&self, claim: Claim) -> Vec<Outgoing> {
        let frames = match claim.address {
            IpAddr::V4(address) => self.arp_sender(address, claim.vlan).map(|sender| {
                vec![arp_announcement(&sender).to_vec(), arp_announcement_reply(&sender).to_vec()]
            }),
            IpAddr::V6(address) => {
                self.speaker(claim.vlan).map(|speaker| vec![speaker.announcement(address)])
            }
        };
        let ifindex = claim.uplink_ifindex;
        frames.into_iter().flatten().map(|frame| Outgoing { ifindex, frame }).collect()
    }

    fn speaker(&self, vlan: u16) -> Option<Speaker> {
        Some(Speaker { mac: packet::MacAddr(self.welcome.as_ref()?.dvr_mac.0), vlan })
    }

    fn arp_sender(&self, address: Ipv4Addr, vlan: u16) -> Option<ArpSender> {
        let mac = packet::MacAddr(self.welcome.as_ref()?.dvr_mac.0);
        Some(ArpSender { mac, ip: address.octets(), vlan: (vlan != 0).then_some(vlan) })
    }

    /// An event of the data path. Returns a frame to send, if there is one.
    pub(crate) fn event(&mut self, now: Instant, event: &Event) -> Option<Outgoing> {
        let punt = u8::try_from(event.punt).ok().and_then(Punt::from_number)?;
        match punt {
            Punt::ResolveNeighbor => {
                if let Some(vni) = self.external_vni(event.vni) {
                    self.resolver.ask(now, (vni, event.address.into()));
                }
                None
            }
            Punt::LearnNeighbor => {
                self.learn(now, event);
                None
            }
            Punt::PortBlockLow => {
                self.request_block(now, event.detail);
                None
            }
            Punt::TtlExceeded | Punt::FragmentationNeeded | Punt::Prohibited | Punt::Unreachable => {
                self.icmp_error(punt, event)
            }
            Punt::AddressAnnounced => {
                self.announced(now, event);
                None
            }
            // Of whole frames, which come another way.
            Punt::EarlyFragment
            | Punt::FirstFragment
            | Punt::Fragment
            | Punt::Dhcp
            | Punt::RouterSolicitation
            | Punt::Dhcp6
            | Punt::PortControl => None,
        }
    }

    /// Who has an address on the link of the host's services.
    pub(crate) fn guest(&self, address: Ipv4Addr) -> Option<Guest> {
        let services = &self.programmed.as_ref()?.compiled.tables.services;
        let known_as = ServiceKey { ifindex: self.service?, address: address.into() };
        let there = services.get(&known_as)?;
        let (id, _) = self.local_ports().find(|(_, link)| link.index == there.ifindex)?;
        let port = self.slice.as_ref()?.ports.get(&id)?;
        let guest = port.guest.as_ref()?;
        // A port that no compute service made is its own instance.
        let instance_id = Some(&guest.device_id).filter(|id| !id.is_empty()).cloned();
        Some(Guest {
            instance_id: instance_id.unwrap_or_else(|| id.to_string()),
            project_id: guest.project_id.clone(),
            network_id: port.network.to_string(),
            address: there.address.to_v4().into(),
        })
    }

    fn external_vni(&self, number: u32) -> Option<Vni> {
        let mut networks = self.slice.iter().flat_map(|slice| slice.external_networks.values());
        networks.find(|network| network.vni.get() == number).map(|network| network.vni)
    }

    fn learn(&mut self, now: Instant, event: &Event) {
        let (Some(vni), Some((mac, ip))) = (self.external_vni(event.vni), answer::said(event)) else {
            return;
        };
        let (target, mac) = ((vni, ip), Mac(mac.0));
        self.watch.heard(now, target);
        let own = self.welcome.as_ref().is_some_and(|welcome| welcome.dvr_mac == mac);
        if !own {
            self.stale |= self.rivals.heard(now, target);
            if let Some(claim) = self.claim(vni.get(), target.1) {
                self.announcer.contest(now, &claim);
            }
        }
        self.stale |= self.resolver.learn(now, target, mac);
    }

    fn icmp_error(&mut self, punt: Punt, event: &Event) -> Option<Outgoing> {
        let tables = &self.programmed.as_ref()?.compiled.tables;
        match answer::compose(tables, event, answer::error_of(punt, event)?) {
            Ok(outgoing) => return Some(outgoing),
            Err(answer::Silence::FromTunnel) => self.unanswered.from_tunnel += 1,
            Err(_) => self.unanswered.refused += 1,
        }
        None
    }

    // Messages to the controller.

    /// Tells of a new revision or of other ports, once per connection.
    fn report(&mut self) {
        let Some(plan) = self.programmed.as_ref().filter(|_| self.connected) else { return };
        let report = (plan.revision, self.programmed_ports().iter().map(PortId::to_string).collect());
        if self.reported.as_ref() != Some(&report) {
            let (revision, port_ids) = report.clone();
            self.reported = Some(report);
            self.outbox.push(agent_message::Message::Programmed(proto::Programmed { revision, port_ids }));
        }
    }

    /// Ports of this host whose link is there and whose tables are in the kernel.
    fn programmed_ports(&self) -> Vec<PortId> {
        let Some(plan) = &self.programmed else { return Vec::new() };
        let local = self.local_ports();
        let ports = &plan.compiled.tables.ports;
        let there = local.filter(|(_, link)| ports.contains_key(&PortKey { ifindex: link.index }));
        there.map(|(id, _)| id).collect()
    }

    /// Ports bound to this host that have a link.
    fn local_ports(&self) -> impl Iterator<Item = (PortId, &Link)> {
        let host = self.welcome.as_ref().map(|welcome| welcome.host);
        let ports = self.slice.iter().flat_map(|slice| &slice.ports);
        let here = ports.filter(move |(_, port)| host.is_some() && port.host == host);
        here.filter_map(|(id, _)| Some((*id, self.links.get(&id.link_name())?)))
    }

    /// What is to be sent now. `told` is asked for only when it is sent: the counters, and how the own port
    /// blocks are used.
    pub(crate) fn messages(
        &mut self,
        now: Instant,
        told: impl FnOnce(&mut BlockUses) -> BTreeMap<String, u64>,
    ) -> Vec<agent_message::Message> {
        if !self.connected {
            self.outbox.clear();
        } else {
            self.report();
        }
        if self.status_due.is_some_and(|due| due <= now) {
            self.status_due = Some(now + STATUS_EVERY);
            let mut blocks = self.own_blocks();
            let counters = told(&mut blocks);
            let status = self.status_message(counters, blocks);
            self.outbox.push(agent_message::Message::Status(status));
        }
        std::mem::take(&mut self.outbox)
    }
}

/// `tap` and the first eleven characters of a UUID.
fn is_port_link(name: &str) -> bool {
    let Some(id) = name.strip_prefix("tap") else { return false };
    id.len() == 11
        && id.bytes().enumerate().all(|(place, byte)| match place {
            8 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn parse_welcome(welcome: &proto::Welcome) -> Result<Welcome, BadMessage> {
    let bad = |field, value: &str| BadMessage::Welcome { field, value: value.to_owned() };
    Ok(Welcome {
        host: welcome.host_id.parse().map_err(|_| bad("host_id", &welcome.host_id))?,
        dvr_mac: welcome.dvr_mac.parse().map_err(|_| bad("dvr_mac", &welcome.dvr_mac))?,
        cluster: welcome.cluster_id.clone(),
        tunnel: Tunnel::try_from(welcome.tunnel.clone()).map_err(|_| bad("tunnel", &welcome.tunnel))?,
        nat_timeouts: welcome.nat_timeouts.as_ref().map_or(Ok(NatTimeouts::default()), parse_timeouts)?,
    })
}

/// The controller has checked them; what the RFCs forbid is not done for a broken one either.
fn parse_timeouts(timeouts: &proto::NatTimeouts) -> Result<NatTimeouts, BadMessage> {
    let proto::NatTimeouts { udp_s, icmp_s, tcp_established_s, tcp_transitory_s, tcp_closed_s, port_rest_s } =
        *timeouts;
    NatTimeouts { udp_s, icmp_s, tcp_established_s, tcp_transitory_s, tcp_closed_s, port_rest_s }
        .checked()
        .map_err(|wrong| BadMessage::Welcome { field: wrong.field, value: wrong.seconds.to_string() })
}

#[cfg(test)]
mod tests;

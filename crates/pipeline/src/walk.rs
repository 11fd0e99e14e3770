//! The walk: one packet, the tables and the working memory, from a hook's entry point to a verdict.
//!
//! Each entry point counts the packet in, classifies it, and then either follows the cached path of its
//! session or runs the stages. All stages have one shape: `run(&mut Walk) -> Step<()>`, where an `Err` is
//! the verdict that ends the walk early.

use crate::address::Address;
use crate::event::{Event, FrameEvent};
use crate::flow;
use crate::fragment::FragmentKey;
use crate::nat::{PortBits, PortBitsKey};
use crate::runtime::{Packet, Tables};
use crate::session::{Path, Session, SessionKey};
use crate::stage::{classify, ipv6, neighbor, port_security, service, switch};
use crate::tables::{
    AclClasses, AclRemoteKey, AclRuleKey, Config, Network, NetworkKey, PortKey, Station, UplinkKey, VtepKey,
};
use crate::verdict::{Punt, Reason, Stage, Total, Verdict, counter};
use packet::{MacAddr, ethernet, icmp, icmp6, ipv4, nd};
use zerocopy::{FromBytes, FromZeros, KnownLayout};

/// The outcome of a stage: go on, or the verdict.
pub(crate) type Step<T> = Result<T, Verdict>;

/// Ends the walk with a drop.
#[inline(always)]
pub(crate) fn deny<T>(stage: Stage, reason: Reason) -> Step<T> {
    Err(Verdict::Drop(stage, reason))
}

/// Ends the walk with the step's verdict, however the step went.
#[inline(always)]
pub(crate) fn end(step: Step<Verdict>) -> Step<()> {
    let (Ok(verdict) | Err(verdict)) = step;
    Err(verdict)
}

/// What classify read from the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, KnownLayout)]
pub struct Headers {
    pub dst_mac: MacAddr,
    pub src_mac: MacAddr,
    /// Offset of the transport header in the frame.
    pub l4_offset: u32,
    /// Of the whole IP packet, bytes.
    pub ip_len: u32,
    /// Of TCP's or UDP's header, bytes; 0: neither, or not in this fragment.
    pub l4_len: u32,
    /// The packet's own source: of an ICMP error it may differ from the key's, which is the quotation's.
    pub src: Address,
    /// Offsets of the IPv4 and transport headers that an ICMP error quotes; 0: the packet is none.
    pub error_offset: u32,
    pub error_l4_offset: u32,
    pub ethertype: u16,
    pub ttl: u8,
    pub protocol: u8,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// ICMP type; 0xff for other protocols.
    pub icmp_type: u8,
    /// Of a whole ICMP message or the first fragment of one; else 0.
    pub icmp_code: u8,
    /// [`Headers::FRAGMENT_FIRST`], [`Headers::FRAGMENT_LATER`], or 0: a whole datagram.
    pub fragment: u8,
    /// 1: the source and destination ports (or echo identifier) are known.
    pub has_ports: u8,
}

impl Headers {
    /// Has the transport header.
    pub const FRAGMENT_FIRST: u8 = 1;
    /// Has none: only addresses are rewritten.
    pub const FRAGMENT_LATER: u8 = 2;

    #[inline(always)]
    pub(crate) const fn is_ipv6(&self) -> bool {
        self.ethertype == ethernet::TYPE_IPV6
    }

    #[inline(always)]
    pub(crate) const fn is_ip(&self) -> bool {
        self.ethertype == ethernet::TYPE_IPV4 || self.is_ipv6()
    }

    /// IP and transport headers, bytes: what each wire packet of a super-packet begins with.
    #[inline(always)]
    pub(crate) const fn len(&self) -> u32 {
        self.l4_offset.wrapping_sub(ethernet::LEN as u32).wrapping_add(self.l4_len)
    }

    #[inline(always)]
    pub(crate) const fn is_echo_request(&self) -> bool {
        self.icmp_type == if self.is_ipv6() { icmp6::TYPE_ECHO_REQUEST } else { icmp::TYPE_ECHO_REQUEST }
    }
}

/// Where the packet goes, in the order of certainty: route, DNAT and steering fill it, resolve turns it
/// into a path.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, KnownLayout)]
pub struct Target {
    /// One of the constants.
    pub kind: u32,
    /// The network to continue on; REMOTE: the transit VNI.
    pub vni: u32,
    /// ADDRESS, EXTERNAL: the address whose MAC is needed.
    pub next_hop: Address,
    /// REMOTE: the host.
    pub vtep: Address,
    /// Source MAC for the last hop on a tenant network; zero: the network's router MAC.
    pub src_mac: MacAddr,
    /// Largest IP packet on that network; 0: not known yet.
    pub mtu: u16,
    /// 1: a router is on the way.
    pub routed: u32,
}

impl Target {
    /// A MAC on the packet's own network: switched.
    pub const STATION: u32 = 1;
    /// An address on a tenant network.
    pub const ADDRESS: u32 = 2;
    /// A next hop on an external network.
    pub const EXTERNAL: u32 = 3;
    /// Another host that knows more, over the transit network.
    pub const REMOTE: u32 = 4;
    /// The router itself: answer the echo request.
    pub const ANSWER: u32 = 5;
}

/// The packet's addresses after translation.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, KnownLayout)]
pub struct Translated {
    pub src: Address,
    pub dst: Address,
    pub src_port: u16,
    pub dst_port: u16,
    /// [`Session::NAT_SNAT`] and friends.
    pub flags: u32,
}

/// What is asked of the lists of security groups.
#[repr(C)]
#[derive(Debug, FromBytes, KnownLayout)]
pub struct AclQuestion {
    pub remote: AclRemoteKey,
    pub rule: AclRuleKey,
    pub classes: AclClasses,
}

/// Working memory of one walk. Large, so it lives in a per-CPU array in the eBPF object; every walk fills
/// what it reads.
#[repr(C)]
#[derive(Debug, FromBytes, KnownLayout)]
pub struct Work {
    pub config: Config,
    pub headers: Headers,
    /// The packet's own.
    pub ipv4: ipv4::Header,
    /// [`Hook`] as a number.
    pub hook: u32,
    /// [`crate::Ingress::id`].
    pub ingress: u32,
    /// The tunnel peer; zero for other ingresses.
    pub peer: Address,
    /// VNI of a packet that the program itself decapsulated.
    pub tunnel_vni: u32,
    /// The key the packet is looked up by.
    pub key: SessionKey,
    /// Of a fragment: its datagram.
    pub fragment_key: FragmentKey,
    /// [`SessionKey::stored`] of `key`, or of the session found; 1: with its ends exchanged.
    pub stored: SessionKey,
    pub exchanged: u32,
    /// The key of the session found: equal to `key`, or the other direction's.
    pub forward: SessionKey,
    pub reply: SessionKey,
    /// The router on the way, 0 none; the external network on the way, 0 none.
    pub router_vni: u32,
    pub external_vni: u32,
    pub translated: Translated,
    pub target: Target,
    pub station: Station,
    pub acl: AclQuestion,
    pub path: Path,
    /// 1: this walk must not create a session (a gateway only forwards).
    pub stateless: u32,
    /// VLAN id of the uplink the packet came from; to answer it there.
    pub vlan: u32,
    pub fresh: Session,
    /// The search for a free port: where it is, and how many words of the block are left.
    pub search: PortBitsKey,
    pub search_size: u32,
    pub search_word: u32,
    pub search_left: u32,
    pub no_bits: PortBits,
    /// The answer to a neighbour solicitation.
    pub neighbor: nd::Packet,
    pub event: Event,
    /// VNI of the tunnel packet, or VLAN of the uplink's.
    pub origin: u32,
    /// A frame on its way to the agent, or the part of one that is looked at as a whole.
    pub frame: FrameEvent,
}

impl Work {
    pub fn zeroed() -> Self {
        Self::new_zeroed()
    }
}

/// Which kind of ingress a packet came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    Port = 0,
    /// A tenant network's tunnel packet.
    Overlay = 1,
    /// A router's north-south packet between hosts.
    Transit = 2,
    Uplink = 3,
}

/// One packet on its way.
pub(crate) struct Walk<'a, P, T> {
    pub packet: &'a mut P,
    pub tables: &'a T,
    pub work: &'a mut Work,
    pub hook: Hook,
    /// The agent has had the packet already.
    pub given_back: bool,
}

impl<P: Packet, T: Tables> Walk<'_, P, T> {
    /// Hands the packet's beginning to the agent, if the ingress has slow-path tokens left. `vni`: the
    /// network it is about. The verdict to end with.
    #[inline(never)]
    pub(crate) fn punt(&mut self, stage: Stage, punt: Punt, vni: u32, detail: u32) -> Verdict {
        if !self.tables.punt_allowed(self.work.ingress) {
            return Verdict::Drop(stage, Reason::PuntLimited);
        }
        self.emit(punt, vni, detail);
        Verdict::Punt(punt)
    }

    /// Hands the whole packet to the agent, if its ingress has tokens for that left. Only for packets of at most
    /// [`FRAME_BYTES`]. The verdict to end with.
    #[inline(never)]
    pub(crate) fn punt_frame(&mut self, stage: Stage, punt: Punt, detail: u32) -> Verdict {
        let work = &mut *self.work;
        let len = self.packet.len();
        let head = &mut work.frame.head;
        head.punt = punt as u32;
        head.ingress = work.ingress;
        head.vni = work.key.vni;
        head.detail = detail;
        head.hook = self.hook as u32;
        head.origin = work.origin;
        head.vtep = work.peer;
        head.frame_len = len;
        head.zero = 0;
        let allowed = self.tables.frame_allowed(work.ingress);
        let loaded = self.packet.load_some(0, len, &mut work.frame.frame).is_ok();
        if allowed && loaded && self.tables.emit_frame(&work.frame) {
            Verdict::Punt(punt)
        } else {
            Verdict::Drop(stage, Reason::PuntLimited)
        }
    }

    /// Writes an event without ending the walk.
    #[inline(never)]
    pub(crate) fn emit(&mut self, punt: Punt, vni: u32, detail: u32) {
        let event = &mut self.work.event;
        event.punt = punt as u32;
        event.ingress = self.work.ingress;
        event.vni = vni;
        event.detail = detail;
        event.address = self.work.target.next_hop;
        event.vtep = self.work.peer;
        event.frame_len = self.packet.len();
        event.packet_len = self.packet.load_start(&mut event.packet);
        self.tables.emit(event);
    }

    /// Loads `config` and refuses everything before the first programming.
    #[inline(always)]
    fn begin(&mut self, ingress: u32, peer: Address) -> Step<()> {
        let work = &mut *self.work;
        work.config = self.tables.config();
        work.hook = self.hook as u32;
        work.ingress = ingress;
        work.peer = peer;
        work.router_vni = 0;
        work.external_vni = 0;
        work.stateless = 0;
        work.vlan = 0;
        work.origin = 0;
        work.target.next_hop = Address::ZERO;
        // Read after every walk, also of one that found no path.
        work.path.flags = 0;
        if work.config.epoch == 0 {
            return deny(Stage::Classify, Reason::NotProgrammed);
        }
        Ok(())
    }
}

/// Counts a verdict, once, and returns it.
#[inline(always)]
fn finish<T: Tables>(tables: &T, step: Step<Verdict>) -> Verdict {
    let (Ok(verdict) | Err(verdict)) = step;
    let total = match verdict {
        Verdict::Pass => Total::OutHost,
        Verdict::Port { .. } => Total::OutPort,
        Verdict::Uplink { .. } => Total::OutUplink,
        Verdict::Tunnel { .. } => Total::OutTunnel,
        Verdict::Punt(punt) => {
            tables.count(counter::punt(punt), 1);
            Total::Punted
        }
        Verdict::Drop(stage, reason) => {
            tables.count(counter::drop(stage, reason), 1);
            Total::Dropped
        }
    };
    tables.count(counter::total(total), 1);
    verdict
}

/// Ingress of a VM's tap or veth.
#[inline(always)]
pub fn from_port<P: Packet, T: Tables>(packet: &mut P, tables: &T, work: &mut Work, ifindex: u32) -> Verdict {
    tables.count(counter::total(Total::InPort), 1);
    tables.arrive(packet, Hook::Port, ifindex);
    let mut walk = Walk { packet, tables, work, hook: Hook::Port, given_back: false };
    let step = port(&mut walk, ifindex);
    go_on(&mut walk, step)
}

/// Forwards what the entry point did not decide, and counts. The entry points' own parts are functions of
/// their own, so that their stack is free again when the stages need it.
#[inline(always)]
fn go_on<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, step: Step<Option<Verdict>>) -> Verdict {
    let step = match step {
        Ok(None) => forward_or_answer(walk),
        Ok(Some(verdict)) => Ok(verdict),
        Err(verdict) => Err(verdict),
    };
    let verdict = finish(walk.tables, step);
    walk.tables.leave(walk.packet, walk.work, verdict);
    verdict
}

/// None: a packet to forward.
#[inline(never)]
fn port<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, ifindex: u32) -> Step<Option<Verdict>> {
    walk.begin(ifindex, Address::ZERO)?;
    let Some(port) = walk.tables.port(&PortKey { ifindex }) else {
        return deny(Stage::Classify, Reason::NoPort);
    };
    if port.flags & crate::tables::Port::FLAG_ACTIVE == 0 {
        return deny(Stage::Classify, Reason::PortInactive);
    }
    classify::ethernet(walk)?;
    if !walk.given_back {
        walk.tables.count_port(ifindex, true, walk.packet.gso_segments(), walk.packet.len());
    }
    if walk.packet.vlan().is_some() {
        return deny(Stage::Classify, Reason::VlanFromPort);
    }
    match walk.work.headers.ethertype {
        ethernet::TYPE_IPV4 => {
            classify::ipv4(walk, port.network_vni)?;
            port_security::mac(walk, &port)?;
            Ok(None)
        }
        ethernet::TYPE_ARP | ethernet::TYPE_IPV6 => Ok(None),
        ethernet::TYPE_VLAN | ethernet::TYPE_QINQ => deny(Stage::Classify, Reason::VlanFromPort),
        _ => deny(Stage::Classify, Reason::EthertypeUnsupported),
    }
}

/// One `flow::forward` for both families: it is inlined, and the stack has no room for two.
#[inline(always)]
fn forward_or_answer<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<Verdict> {
    if walk.hook == Hook::Port && walk.work.headers.ethertype != ethernet::TYPE_IPV4 {
        port_other(walk)?;
    } else if walk.hook == Hook::Port {
        service::run(walk)?;
    }
    flow::forward(walk)
}

/// What a VM sends beside IPv4, when the stack of `port` is free again. `Ok`: a packet to forward.
#[inline(never)]
fn port_other<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let ifindex = walk.work.ingress;
    let Some(port) = walk.tables.port(&PortKey { ifindex }) else {
        return deny(Stage::Classify, Reason::NoPort);
    };
    if !walk.work.headers.is_ipv6() {
        return end(switch::arp(walk, &port));
    }
    ipv6::classify(walk, port.network_vni)?;
    port_security::mac6(walk, &port)?;
    neighbor::from_vm(walk, &port)
}

/// What the outer headers said.
#[derive(Clone, Copy, Debug)]
pub struct TunnelKey {
    pub vni: u32,
    pub vtep: Address,
    /// Decapsulated by the program itself, not by the kernel's device.
    pub lone: bool,
}

/// A decapsulated frame.
#[inline(always)]
pub fn from_tunnel<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    work: &mut Work,
    key: TunnelKey,
) -> Verdict {
    let total = if key.lone { Total::InTunnelLone } else { Total::InTunnelDevice };
    tables.count(counter::total(total), 1);
    tables.arrive(packet, Hook::Overlay, crate::Ingress::TUNNEL_ID);
    let mut walk = Walk { packet, tables, work, hook: Hook::Overlay, given_back: false };
    let step = tunnel(&mut walk, &key);
    go_on(&mut walk, step)
}

/// None: a packet to forward.
#[inline(never)]
fn tunnel<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, key: &TunnelKey) -> Step<Option<Verdict>> {
    walk.begin(crate::Ingress::TUNNEL_ID, key.vtep)?;
    // The program on the underlay has looked already.
    if !key.lone && walk.tables.vtep(&VtepKey { address: key.vtep }).is_none() {
        return deny(Stage::Classify, Reason::UnknownVtep);
    }
    let Some(network) = walk.tables.network(&NetworkKey { vni: key.vni }) else {
        return deny(Stage::Classify, Reason::UnknownVni);
    };
    walk.work.origin = key.vni;
    classify::ethernet(walk)?;
    let untagged = walk.packet.vlan().is_none();
    if walk.work.headers.ethertype == ethernet::TYPE_ARP && network.kind == Network::TENANT && untagged {
        return switch::arp_overlay(walk, key.vni).map(Some);
    }
    if !walk.work.headers.is_ip() || !untagged {
        return deny(Stage::Classify, Reason::EthertypeUnsupported);
    }
    match network.kind {
        Network::TENANT => ip(walk, key.vni)?,
        Network::TRANSIT if network.external_vni != 0 => {
            walk.hook = Hook::Transit;
            walk.work.hook = Hook::Transit as u32;
            walk.work.router_vni = key.vni;
            walk.work.external_vni = network.external_vni;
            ip(walk, network.external_vni)?;
        }
        _ => return deny(Stage::Classify, Reason::UnknownVni),
    }
    Ok(None)
}

/// Classifies a packet from another host.
#[inline(always)]
fn ip<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, vni: u32) -> Step<()> {
    if walk.work.headers.is_ipv6() {
        ipv6::classify(walk, vni)?;
        return neighbor::from_host(walk);
    }
    classify::ipv4(walk, vni)
}

/// Ingress of a provider NIC.
#[inline(always)]
pub fn from_uplink<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    work: &mut Work,
    ifindex: u32,
) -> Verdict {
    tables.count(counter::total(Total::InUplink), 1);
    tables.arrive(packet, Hook::Uplink, ifindex);
    let mut walk = Walk { packet, tables, work, hook: Hook::Uplink, given_back: false };
    let vlan = u32::from(walk.packet.vlan().unwrap_or(0));
    let step = uplink(&mut walk, ifindex, vlan);
    go_on(&mut walk, step)
}

/// None: a packet to forward.
#[inline(never)]
fn uplink<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, ifindex: u32, vlan: u32) -> Step<Option<Verdict>> {
    // Before the first programming nothing on the NIC is ours.
    if walk.begin(ifindex, Address::ZERO).is_err() {
        return Ok(Some(Verdict::Pass));
    }
    let Some(network) = walk.tables.uplink(&UplinkKey { ifindex, vlan }) else {
        return Ok(Some(Verdict::Pass));
    };
    walk.work.external_vni = network.vni;
    walk.work.vlan = vlan;
    walk.work.origin = vlan;
    if classify::ethernet(walk).is_err() {
        return Ok(Some(Verdict::Pass));
    }
    if walk.work.headers.ethertype == ethernet::TYPE_ARP {
        return switch::arp_uplink(walk).map(Some);
    }
    if walk.work.headers.is_ipv6() {
        return uplink6(walk, network.vni).map(|()| None);
    }
    let ours = walk.work.headers.dst_mac == walk.work.config.dvr_mac;
    if !ours || walk.work.headers.ethertype != ethernet::TYPE_IPV4 {
        return Ok(Some(Verdict::Pass));
    }
    if vlan != 0 && !walk.given_back && walk.packet.pop_vlan().is_err() {
        return deny(Stage::Classify, Reason::OutputFailed);
    }
    classify::ipv4(walk, network.vni)?;
    Ok(None)
}

/// None: a packet to forward.
#[inline(never)]
fn uplink6<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, vni: u32) -> Step<()> {
    let ours = walk.work.headers.dst_mac == walk.work.config.dvr_mac;
    if !ours && !walk.work.headers.dst_mac.is_multicast() {
        return Err(Verdict::Pass);
    }
    match ipv6::classify(walk, vni) {
        Err(verdict) if ours => return Err(verdict),
        Err(_) => return Err(Verdict::Pass),
        Ok(()) => {}
    }
    if neighbor::from_host(walk).is_err() {
        return neighbor::from_uplink(walk);
    }
    if !ours {
        return Err(Verdict::Pass);
    }
    if walk.work.vlan != 0 && !walk.given_back && walk.packet.pop_vlan().is_err() {
        return deny(Stage::Classify, Reason::OutputFailed);
    }
    Ok(())
}

/// Ingress of the link of the host's services: what they say to VMs.
#[inline(always)]
pub fn from_service<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    work: &mut Work,
    ifindex: u32,
) -> Verdict {
    tables.count(counter::total(Total::InService), 1);
    let mut walk = Walk { packet, tables, work, hook: Hook::Port, given_back: true };
    let step = services(&mut walk, ifindex);
    let verdict = finish(walk.tables, step);
    walk.tables.leave(walk.packet, walk.work, verdict);
    verdict
}

#[inline(never)]
fn services<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, ifindex: u32) -> Step<Verdict> {
    walk.begin(ifindex, Address::ZERO)?;
    classify::ethernet(walk)?;
    if walk.work.headers.ethertype != ethernet::TYPE_IPV4 || walk.packet.vlan().is_some() {
        return deny(Stage::Classify, Reason::EthertypeUnsupported);
    }
    classify::ipv4(walk, 0)?;
    service::to_vm(walk)
}

/// Where a frame that the agent gives back came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// [`Hook`] as a number.
    pub hook: u32,
    /// Port, uplink: the interface.
    pub ifindex: u32,
    /// Tunnel: the VNI. Uplink: the VLAN, whose tag is off.
    pub detail: u32,
    /// Tunnel: the host.
    pub vtep: Address,
}

/// A frame that the agent was handed whole and gives back, cut or after a while. It walks as any packet from there,
/// but is not handed over again.
#[inline(always)]
pub fn from_agent<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    work: &mut Work,
    origin: &Origin,
) -> Verdict {
    const PORT: u32 = Hook::Port as u32;
    const UPLINK: u32 = Hook::Uplink as u32;
    let (total, hook) = match origin.hook {
        PORT => (Total::InPort, Hook::Port),
        UPLINK => (Total::InUplink, Hook::Uplink),
        _ => (Total::InTunnelDevice, Hook::Overlay),
    };
    tables.count(counter::total(total), 1);
    tables.arrive(packet, hook, origin.ifindex);
    let mut walk = Walk { packet, tables, work, hook, given_back: true };
    let step = match hook {
        Hook::Port => port(&mut walk, origin.ifindex),
        Hook::Uplink => uplink(&mut walk, origin.ifindex, origin.detail),
        _ => tunnel(&mut walk, &TunnelKey { vni: origin.detail, vtep: origin.vtep, lone: false }),
    };
    go_on(&mut walk, step)
}

//! Sessions as rows for people: one per connection, both directions and their NAT.

use crate::scene::Scene;
use dataplane::{SessionRow, State};
use model::question::{NatFilter, SessionFilter, SessionState};
use model::{HostId, PortId};
use packet::zerocopy::IntoBytes as _;
use packet::{ipv4, ipv6};
use pipeline::Address;
use pipeline::session::{Path, Session, SessionKey};
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A row of `nanboku sessions`.
#[derive(Debug, Serialize)]
pub(crate) struct Row<'a> {
    /// Names the connection on its host.
    pub(crate) id: Id,
    pub(crate) host: &'a str,
    /// The host of the other end, if that is a VM elsewhere.
    pub(crate) peer_host: &'a str,
    pub(crate) network: &'a str,
    pub(crate) router: &'a str,
    pub(crate) protocol: Protocol,
    /// As the one who opened the connection sent it.
    pub(crate) src: Endpoint,
    pub(crate) dst: Endpoint,
    /// As the other end sees it; the same as `src` and `dst` where nothing is translated.
    pub(crate) translated_src: Endpoint,
    pub(crate) translated_dst: Endpoint,
    /// The ports at the ends, of those that are VMs in this host's reach.
    pub(crate) src_port_id: Option<PortId>,
    pub(crate) dst_port_id: Option<PortId>,
    pub(crate) nat: &'static str,
    pub(crate) state: &'static str,
    pub(crate) age_ms: u64,
    pub(crate) idle_ms: u64,
    /// Idle time after which it ends.
    pub(crate) timeout_ms: u64,
    pub(crate) forward_packets: u64,
    pub(crate) forward_bytes: u64,
    pub(crate) reply_packets: u64,
    pub(crate) reply_bytes: u64,
    /// Where packets of each direction go from here; empty before the first.
    pub(crate) forward_output: Output<'a>,
    pub(crate) reply_output: Output<'a>,
}

/// 16 hexadecimal digits: FNV-1a of the session's key and the time it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(u64);

impl Id {
    pub(crate) fn of(session: &SessionRow) -> Self {
        let bytes = session.key.as_bytes().iter().chain(session.created_ns.as_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(hash)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// IP protocol number; the common ones by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol(pub(crate) u8);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ipv4::PROTOCOL_ICMP => f.write_str("icmp"),
            ipv6::PROTOCOL_ICMP => f.write_str("icmpv6"),
            ipv4::PROTOCOL_TCP => f.write_str("tcp"),
            ipv4::PROTOCOL_UDP => f.write_str("udp"),
            other => write!(f, "{other}"),
        }
    }
}

/// ICMP has an identifier in place of ports, other protocols nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    protocol: u8,
    address: Address,
    port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, port) = (IpAddr::from(self.address), self.port);
        match self.protocol {
            ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP => write!(f, "{}", SocketAddr::new(address, port)),
            ipv4::PROTOCOL_ICMP | ipv6::PROTOCOL_ICMP => write!(f, "{address} id {port}"),
            _ => write!(f, "{address}"),
        }
    }
}

/// Where a path leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output<'a> {
    path: Path,
    scene: &'a Scene,
}

impl fmt::Display for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Path { ifindex, vlan, vni, .. } = self.path;
        let link = self.scene.link(ifindex);
        match self.path.output {
            Path::OUT_PORT => write!(f, "port {link}"),
            Path::OUT_TUNNEL => {
                write!(f, "tunnel {} vni {vni}", Ipv4Addr::from(self.path.vtep.to_v4()))
            }
            Path::OUT_UPLINK if vlan != 0 => write!(f, "uplink {link} vlan {vlan}"),
            Path::OUT_UPLINK => write!(f, "uplink {link}"),
            _ => Ok(()),
        }
    }
}

macro_rules! as_text {
    ($($type:ty)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

as_text! { Id Protocol Endpoint Output<'_> }

/// The ends of a session that are VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) src: Option<(PortId, Option<HostId>)>,
    pub(crate) dst: Option<(PortId, Option<HostId>)>,
}

impl Ends {
    pub(crate) fn of(session: &SessionRow, scene: &Scene) -> Self {
        // What is translated to a VM's own address is seen on the far side of the session.
        let inside = session.reply.src.into();
        let behind = |vni| scene.place(vni, inside);
        Self {
            src: scene.place(session.key.vni, session.key.src.into()),
            dst: behind(session.reply.vni).or_else(|| behind(session.router_vni)),
        }
    }

    /// The host whose row tells of the connection: the opener's, else the other end's.
    fn teller(&self) -> Option<HostId> {
        self.src.or(self.dst).and_then(|(_, host)| host)
    }
}

/// Is the row one of those asked for? Cheap reasons against it come first.
pub(crate) fn is_wanted(session: &SessionRow, ends: &Ends, filter: &SessionFilter, scene: &Scene) -> bool {
    let SessionRow { key, reply, .. } = session;
    let id = |wanted: &String| Id::of(session).to_string() == *wanted;
    filter.protocol.is_none_or(|protocol| protocol == key.protocol)
        && filter.outside.is_none_or(|outside| is_seen_as(session, (*outside.ip(), outside.port())))
        && filter.state.is_none_or(|state| state == state_of(session))
        && filter.nat.is_none_or(|nat| has_nat(session.flags, nat))
        && filter.address.is_none_or(|address| {
            let at = |side: Address, port| address.matches(side.into(), port);
            at(key.src, key.src_port)
                || at(key.dst, key.dst_port)
                || at(reply.src, reply.src_port)
                || at(reply.dst, reply.dst_port)
        })
        && filter.port.is_none_or(|port| [ends.src, ends.dst].iter().flatten().any(|(end, _)| *end == port))
        && filter.network.is_none_or(|network| is_on(session, scene.vni_of(network)))
        && filter
            .router
            .is_none_or(|router| scene.router_of(router).is_some_and(|vni| router_of(session, scene) == vni))
        && filter.id.as_ref().is_none_or(id)
        && !is_told_elsewhere(ends, filter, scene)
}

/// A connection between two hosts that are both asked is told by one of them.
fn is_told_elsewhere(ends: &Ends, filter: &SessionFilter, scene: &Scene) -> bool {
    let elsewhere = ends.teller().filter(|host| Some(*host) != scene.host_id);
    elsewhere.and_then(|host| scene.vtep_of(host)).is_some_and(|vtep| filter.asked.contains(&vtep))
}

fn is_on(session: &SessionRow, vni: Option<u32>) -> bool {
    vni.is_some_and(|vni| [session.key.vni, session.reply.vni, session.external_vni].contains(&vni))
}

/// VNI of the router on the way; 0: none.
pub(crate) fn router_of(session: &SessionRow, scene: &Scene) -> u32 {
    let routed = session.paths.iter().any(|path| path.flags & Path::FLAG_ROUTED != 0);
    match session.router_vni {
        0 if routed => scene.router_behind(session.key.vni),
        vni => vni,
    }
}

/// Does the outside see the session's sender, translated, as that address and port?
pub(crate) fn is_seen_as(session: &SessionRow, (address, port): (Ipv4Addr, u16)) -> bool {
    let translated = session.flags & (Session::NAT_SNAT | Session::NAT_FLOATING_SRC) != 0;
    translated && session.reply.dst == address.into() && session.reply.dst_port == port
}

fn state_of(session: &SessionRow) -> SessionState {
    match session.state() {
        State::TcpTransitory => SessionState::Transitory,
        State::TcpEstablished => SessionState::Established,
        State::TcpClosed => SessionState::Closed,
        State::Icmp | State::Other => SessionState::Active,
    }
}

fn has_nat(flags: u32, wanted: NatFilter) -> bool {
    let has = |bits| flags & bits != 0;
    match wanted {
        NatFilter::Any => flags & !Session::NAT_ROUTED != 0,
        NatFilter::None => flags & !Session::NAT_ROUTED == 0,
        NatFilter::Snat => has(Session::NAT_SNAT),
        NatFilter::Floating => has(Session::NAT_FLOATING_SRC),
        NatFilter::Dnat => has(Session::NAT_DST),
    }
}

pub(crate) fn row<'a>(session: &SessionRow, ends: &Ends, scene: &'a Scene, now_ns: u64) -> Row<'a> {
    let SessionRow { key, reply, .. } = session;
    let [forward, back] = session.paths;
    let ([forward_packets, reply_packets], [forward_bytes, reply_bytes]) = (session.packets, session.bytes);
    let ms_since = |then_ns: u64| now_ns.saturating_sub(then_ns) / 1_000_000;
    let end = |key: &SessionKey, address, port| Endpoint { protocol: key.protocol, address, port };
    let mut hosts = [ends.src, ends.dst].into_iter().flatten().filter_map(|(_, host)| host);
    let peer = hosts.rfind(|host| Some(*host) != scene.host_id);
    let timeout = scene.timeouts.of(session.state());
    Row {
        id: Id::of(session),
        host: &scene.host,
        peer_host: peer.map_or("", |host| scene.host_name(host)),
        network: scene.network(key.vni),
        router: scene.network(router_of(session, scene)),
        protocol: Protocol(key.protocol),
        src: end(key, key.src, key.src_port),
        dst: end(key, key.dst, key.dst_port),
        translated_src: end(reply, reply.dst, reply.dst_port),
        translated_dst: end(reply, reply.src, reply.src_port),
        src_port_id: ends.src.map(|(port, _)| port),
        dst_port_id: ends.dst.map(|(port, _)| port),
        nat: nat(session.flags),
        state: state_of(session).name(),
        age_ms: ms_since(session.created_ns),
        idle_ms: ms_since(session.last_ns),
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        forward_packets,
        forward_bytes,
        reply_packets,
        reply_bytes,
        forward_output: Output { path: forward, scene },
        reply_output: Output { path: back, scene },
    }
}

fn nat(flags: u32) -> &'static str {
    let has = |flag| flags & flag != 0;
    let inside = has(Session::NAT_DST);
    match (has(Session::NAT_SNAT), has(Session::NAT_FLOATING_SRC), inside) {
        (true, _, true) => "snat+dnat",
        (true, _, false) => "snat",
        (false, true, true) => "floating+dnat",
        (false, true, false) => "floating",
        (false, false, true) => "dnat",
        (false, false, false) => "",
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! What one capture shows: which of the records it wants, exactly, and each in words.

use super::Wanted;
use dataplane::Captured;
use model::capture::{CaptureRequest, Dropped, Place, PlaceKind, SNAP_LEN_MAX, Seen, Translation};
use model::trace::Hex;
use pipeline::capture::{Head, Tuple};
use pipeline::walk::Hook;
use pipeline::{Punt, Reason, Stage};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use trace::filter::Filter;
use trace::{Names, edge};

const IN: &str = "in";
const OUT: &str = "out";

/// A request as this host reads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) host: String,
    /// The interface of the port or uplink that is looked at.
    pub(crate) ifindex: Option<u32>,
    /// The network that is looked at.
    pub(crate) vni: Option<u32>,
    pub(crate) router: Option<Router>,
    pub(crate) names: Names,
    pub(crate) request: CaptureRequest,
}

/// A router as its packets are known by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Router {
    pub(crate) vni: u32,
    /// Of the networks it has interfaces on.
    pub(crate) inside: BTreeSet<u32>,
    pub(crate) addresses: BTreeSet<Ipv4Addr>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct View {
    given: Request,
    filter: Filter,
    /// Stages whose edges are looked at.
    stages: Vec<Stage>,
    arrivals: bool,
    departures: bool,
    snap_len: usize,
}

impl View {
    /// # Errors
    /// The filter or an edge is none; it says where.
    pub(crate) fn new(given: Request) -> Result<Self, String> {
        let filter = given.request.filter.parse().map_err(|error| format!("filter: {error}"))?;
        let edges = &given.request.edges;
        let named = |edge: &str| Stage::ALL.iter().copied().find(|stage| stage.name() == edge);
        let stages = edges.iter().filter(|edge| !matches!(edge.as_str(), IN | OUT));
        let stages: Option<Vec<Stage>> = stages.map(|edge| named(edge)).collect();
        let stages = stages.ok_or("edges: in, out, and the names of stages")?;
        let is = |edge: &str| edges.is_empty() || edges.iter().any(|given| given == edge);
        let snap_len = given.request.snap_len.unwrap_or(SNAP_LEN_MAX).clamp(1, SNAP_LEN_MAX);
        Ok(Self { filter, stages, arrivals: is(IN), departures: is(OUT), snap_len: snap_len as usize, given })
    }

    /// What the programs can look for themselves.
    pub(crate) fn wanted(&self) -> Wanted {
        let slot = self.filter.slot();
        let mut vnis = [0; 4];
        let networks: Vec<u32> = match (&self.given.router, self.given.vni) {
            (Some(router), _) => router.inside.iter().copied().chain([router.vni]).collect(),
            (None, vni) => vni.into_iter().collect(),
        };
        // More than there is room for: all are told of, and chosen from here.
        if let Some(room) = vnis.get_mut(..networks.len()) {
            room.copy_from_slice(&networks);
        }
        let per_second = self.given.request.per_second.map(u64::from).filter(|rate| *rate > 0);
        Wanted {
            ends: slot.ends,
            ethertype: (slot.ethertype_mask != 0).then_some(slot.ethertype),
            protocol: (slot.protocol_mask != 0).then_some(slot.protocol),
            ifindex: self.given.ifindex.unwrap_or_default(),
            vnis,
            interval_ns: per_second.map_or(0, |rate| 1_000_000_000 / rate),
            whole: self.given.request.whole,
        }
    }

    pub(crate) fn host(&self) -> &str {
        if self.given.request.own { "" } else { &self.given.host }
    }

    /// What is shown of a record; `clock_ns`: nanoseconds since 1970 at the monotonic clock's zero.
    pub(crate) fn rows(&self, captured: &Captured, clock_ns: u64) -> Vec<Seen> {
        let head = &captured.head;
        if !self.is_place(head) {
            return Vec::new();
        }
        let after = (head.after.ethertype != 0).then_some(&head.after);
        let mut rows = Vec::new();
        if head.point == Head::LEFT {
            if self.departures && self.fits(captured, &captured.frame) {
                rows.push(self.seen(head, OUT, clock_ns + head.left_ns, captured.frame.clone()));
            }
            return rows;
        }
        if self.arrivals && self.fits(captured, &captured.frame) {
            rows.push(self.seen(head, IN, clock_ns + head.arrived_ns, captured.frame.clone()));
        }
        for stage in self.stages.iter().filter(|stage| head.stages & 1 << **stage as u32 != 0) {
            let frame =
                edge::before_stage(captured.frame.clone(), (&head.before, after), head.stages, *stage);
            if self.fits(captured, &frame) {
                rows.push(self.seen(head, stage.name(), clock_ns + head.arrived_ns, frame));
            }
        }
        rows
    }

    fn fits(&self, captured: &Captured, frame: &[u8]) -> bool {
        let head = &captured.head;
        let (len, vlan) = (head.frame_len, vlan_of(head));
        let matches = |frame: &[u8]| match vlan {
            0 => self.filter.matches(frame, len),
            vlan => self.filter.matches(&tagged(frame.to_vec(), vlan), len + 4),
        };
        if matches(frame) || !self.given.request.whole {
            return matches(frame);
        }
        // The other end of the walk.
        let ends =
            if head.point == Head::LEFT { (&head.after, &head.before) } else { (&head.before, &head.after) };
        let other = edge::before_stage(frame.to_vec(), (ends.0, Some(ends.1)), u32::MAX, Stage::Output);
        matches(&other)
    }

    fn is_place(&self, head: &Head) -> bool {
        let out = sent_to(head);
        let link = self.given.ifindex.is_none_or(|ifindex| {
            match (self.given.request.own || self.given.request.here, head.point) {
                (false, _) => head.ingress == ifindex || out == Some(ifindex),
                (true, Head::LEFT) => out == Some(ifindex),
                (true, _) => head.ingress == ifindex,
            }
        });
        let network = self.given.vni.is_none_or(|vni| vni == head.arrived_vni || vni == head.left_vni);
        link && network && self.given.router.as_ref().is_none_or(|router| router.has(head))
    }

    fn seen(&self, head: &Head, edge: &str, at_ns: u64, mut frame: Vec<u8>) -> Seen {
        let vlan = vlan_of(head);
        let mut frame_len = head.frame_len;
        if vlan != 0 {
            frame = tagged(frame, vlan);
            frame_len += 4;
        }
        frame.truncate(self.snap_len);
        let own = self.given.request.own;
        let stages = Stage::ALL.iter().filter(|stage| head.stages & 1 << **stage as u32 != 0);
        let left = head.after.ethertype != 0;
        let (from, to) = (self.from(head), self.to(head));
        let mine = |place: Place| {
            if own && Some(place.port) != Some(self.given.request.port) { Place::default() } else { place }
        };
        Seen {
            host: self.host().to_owned(),
            walk: head.walk,
            at_ns,
            edge: edge.to_owned(),
            verdict: if own { plain_verdict(head).to_owned() } else { self.verdict(head) },
            from: mine(from),
            to: to.map(mine),
            stages: stages.map(|stage| stage.name().to_owned()).collect(),
            drop: dropped(head),
            nat: if left && !(own && names_another(head)) {
                translation(&head.before, &head.after)
            } else {
                None
            },
            arrived_as: if own { 0 } else { fingerprint(&head.before, head.arrived_vni) },
            left_as: if left && !own { fingerprint(&head.after, head.left_vni) } else { 0 },
            frame_len,
            frame: Hex(frame),
        }
    }

    fn network(&self, vni: u32) -> String {
        match self.given.names.networks.get(&vni) {
            Some(name) => name.clone(),
            None if vni == 0 => String::new(),
            None => format!("VNI {vni}"),
        }
    }

    fn link(&self, ifindex: u32, vni: u32) -> Place {
        let link = self.given.names.links.get(&ifindex);
        let port = link.and_then(|link| link.port);
        let uplink = link.is_some_and(|link| link.physical_network.is_some());
        Place {
            kind: if uplink { PlaceKind::Uplink } else { PlaceKind::Port },
            name: link.map_or_else(|| format!("link {ifindex}"), |link| link.name.clone()),
            network: self.network(vni),
            port,
        }
    }

    fn tunnel(&self, vtep: pipeline::Address, vni: u32) -> Place {
        let address = Ipv4Addr::from(vtep.to_v4());
        let name = self.given.names.hosts.get(&address).cloned().unwrap_or_else(|| address.to_string());
        Place { kind: PlaceKind::Tunnel, name, network: self.network(vni), port: None }
    }

    fn from(&self, head: &Head) -> Place {
        let tunnel = head.hook == Hook::Overlay as u32 || head.hook == Hook::Transit as u32;
        if tunnel {
            self.tunnel(head.peer, head.arrived_vni)
        } else {
            self.link(head.ingress, head.arrived_vni)
        }
    }

    fn to(&self, head: &Head) -> Option<Place> {
        let stack = |kind| Place { kind, ..Place::default() };
        match head.verdict {
            0 => Some(stack(PlaceKind::Host)),
            1 | 2 => Some(self.link(head.detail, head.left_vni)),
            3 => Some(self.tunnel(head.vtep, head.left_vni)),
            4 => Some(stack(PlaceKind::Agent)),
            _ => None,
        }
    }

    fn verdict(&self, head: &Head) -> String {
        let to = self.to(head).unwrap_or_default();
        match head.verdict {
            1 => format!("to port {}", to.name),
            2 if head.left_vlan != 0 => format!("to uplink {}, VLAN {}", to.name, head.left_vlan),
            2 => format!("to uplink {}", to.name),
            3 => format!("to {} through the tunnel, VNI {}", to.name, head.left_vni),
            4 => {
                let punt = u8::try_from(head.detail).ok().and_then(Punt::from_number);
                format!("to the agent: {}", punt.map_or("?", Punt::name))
            }
            _ => plain_verdict(head).to_owned(),
        }
    }
}

impl Router {
    /// Whether the packet is forwarded or answered by the router, as far as this host does it.
    fn has(&self, head: &Head) -> bool {
        let inside = |vni: u32| vni == self.vni || self.inside.contains(&vni);
        let ours = |address: [u8; 4]| self.addresses.contains(&address.into());
        let (before, after) = (&head.before, &head.after);
        (inside(head.arrived_vni) || inside(head.left_vni))
            && (head.routed != 0
                || head.router_vni == self.vni
                || head.arrived_vni == self.vni
                || ours(before.src)
                || ours(before.dst)
                || translation(before, after).is_some())
    }
}

fn plain_verdict(head: &Head) -> &'static str {
    match head.verdict {
        0 => "left to the host",
        5 => "dropped",
        4 => "held",
        _ => "forwarded",
    }
}

/// The interface a packet leaves by, of those that stand in the tables.
fn sent_to(head: &Head) -> Option<u32> {
    matches!(head.verdict, 1 | 2).then_some(head.detail)
}

fn vlan_of(head: &Head) -> u16 {
    if head.point == Head::LEFT { head.left_vlan } else { head.arrived_vlan }
}

fn dropped(head: &Head) -> Option<Dropped> {
    let [reason, stage, ..] = head.detail.to_le_bytes();
    let found = Stage::from_number(stage).zip(Reason::from_number(reason)).filter(|_| head.verdict == 5);
    found.map(|(stage, reason)| Dropped {
        stage: stage.name().to_owned(),
        reason: reason.name().to_owned(),
        sentence: reason.sentence().to_owned(),
    })
}

/// None: nothing was translated, or it is no IPv4.
fn translation(before: &Tuple, after: &Tuple) -> Option<Translation> {
    let ends = |tuple: &Tuple| (tuple.src, tuple.dst, tuple.src_port, tuple.dst_port, echo_id(tuple));
    let ip = |tuple: &Tuple| tuple.ethertype == packet::ethernet::TYPE_IPV4;
    let answered = before.src == after.dst && before.dst == after.src;
    if !ip(before) || !ip(after) || answered || ends(before) == ends(after) {
        return None;
    }
    Some(Translation { before: text(before), after: text(after) })
}

/// Whether the other side of a translation is that of the other end: who is behind an address is not for everybody.
fn names_another(head: &Head) -> bool {
    match head.point {
        Head::LEFT => head.before.src != head.after.src,
        _ => head.before.dst != head.after.dst,
    }
}

fn echo_id(tuple: &Tuple) -> Option<u16> {
    let [kind, _, _, _, high, low, ..] = tuple.transport;
    (tuple.protocol == packet::ipv4::PROTOCOL_ICMP && matches!(kind, 0 | 8))
        .then(|| u16::from_be_bytes([high, low]))
}

fn text(tuple: &Tuple) -> String {
    let (src, dst) = (Ipv4Addr::from(tuple.src), Ipv4Addr::from(tuple.dst));
    match (echo_id(tuple), tuple.src_port | tuple.dst_port) {
        (Some(id), _) => format!("{src} > {dst} id {id}"),
        (None, 0) => format!("{src} > {dst}"),
        (None, _) => format!("{src}:{} > {dst}:{}", tuple.src_port, tuple.dst_port),
    }
}

/// FNV-1a of what a packet keeps on its way between hosts.
fn fingerprint(tuple: &Tuple, vni: u32) -> u64 {
    let parts = [
        &tuple.src[..],
        &tuple.dst,
        &tuple.ident.to_be_bytes(),
        &[tuple.protocol],
        &tuple.transport,
        &vni.to_be_bytes(),
    ];
    parts.into_iter().flatten().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn tagged(mut frame: Vec<u8>, vlan: u16) -> Vec<u8> {
    const MACS_LEN: usize = 12;
    if frame.len() >= MACS_LEN {
        let tag = [packet::ethernet::TYPE_VLAN.to_be_bytes(), vlan.to_be_bytes()].concat();
        frame.splice(MACS_LEN..MACS_LEN, tag);
    }
    frame
}

#[cfg(test)]
mod tests;

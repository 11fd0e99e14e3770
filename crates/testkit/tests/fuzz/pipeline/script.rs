//! Reads an input as a list of actions. Every byte string is a script; an input that ends early reads zeros.

use super::Entry;
use packet::{checksum, ethernet, ipv4};
use pipeline::host::Frame;
use pipeline::{Address, Verdict};
use std::net::Ipv4Addr;
use testkit::World;
use testkit::frames::{self, Ends, Segment};
use testkit::ipv6::{INTERNET6, link_local};
use testkit::world::{BLOCK_SIZE, GATEWAY_ADDRESS, GATEWAY_MAC, INTERNET, SNAT_ADDRESS, UPLINK, VLAN};

/// Bytes of a frame given literally: an Ethernet frame of ordinary size.
const LITERAL_MAX: usize = 1514;

/// A frame that gets far, and where it comes in.
pub(crate) struct Template {
    host: usize,
    entry: Entry,
    frame: Frame,
}

pub(crate) enum Action {
    Frame { host: usize, entry: Entry, frame: Frame },
    Wait { nanoseconds: u64 },
    Reconfigure { host: usize },
}

/// What became of the previous frame.
#[derive(Default)]
pub(crate) struct Last {
    pub(crate) host: usize,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) frame: Frame,
}

impl Last {
    /// The frame goes on: through the tunnel to its host, or its receiver answers it; `gateway` is where the
    /// outside network brings the answer.
    fn onward(&self, gateway: usize) -> Option<(usize, Entry, Frame)> {
        match self.verdict? {
            Verdict::Tunnel { .. } => {
                // Hosts are 10.0.0.1 and up.
                let host = self.frame.bytes.get(33)?.checked_sub(1)?;
                Some((usize::from(host), Entry::Underlay, self.frame.clone()))
            }
            Verdict::Port { ifindex } => Some((self.host, Entry::Port { ifindex }, reversed(&self.frame))),
            Verdict::Uplink { ifindex } => Some((gateway, Entry::Uplink { ifindex }, reversed(&self.frame))),
            Verdict::Pass | Verdict::Punt(_) | Verdict::Drop(..) => None,
        }
    }
}

pub(crate) struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// The next action; none at the end. `last`: what became of the previous frame.
    pub(crate) fn next(&mut self, templates: &[Template], last: &Last) -> Option<Action> {
        if self.rest.is_empty() {
            return None;
        }
        let kind = self.byte();
        let (host, entry, mut frame) = match kind % 8 {
            0 => return Some(Action::Wait { nanoseconds: u64::from(self.word()) << 24 }),
            1 => return Some(Action::Reconfigure { host: usize::from(self.byte()) }),
            2 => (usize::from(self.byte()), self.entry(), self.literal()),
            3 => (usize::from(self.byte()), self.entry(), last.frame.clone()),
            4 | 5 => last.onward(usize::from(self.byte()))?,
            _ => {
                let template = templates.get(usize::from(self.byte()) % templates.len().max(1))?;
                (template.host, template.entry, template.frame.clone())
            }
        };
        self.alter(&mut frame);
        if kind & 0x80 != 0 {
            fix_checksum(&mut frame.bytes);
        }
        Some(Action::Frame { host, entry, frame })
    }

    fn entry(&mut self) -> Entry {
        match self.byte() % 8 {
            0 | 1 => Entry::Port { ifindex: 100 + u32::from(self.byte() % 9) },
            2 => Entry::Port { ifindex: u32::from(self.word()) },
            3 => Entry::Tunnel {
                vni: [101, 102, 103, 900, 1001, 1002, 7][usize::from(self.byte() % 7)],
                vtep: Address::v4([10, 0, 0, self.byte() % 5]),
            },
            4 | 5 => Entry::Uplink { ifindex: UPLINK },
            _ => Entry::Underlay,
        }
    }

    fn literal(&mut self) -> Frame {
        let len = usize::from(self.word()) % (LITERAL_MAX + 1);
        let (bytes, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        Frame::new(bytes.to_vec())
    }

    /// Up to seven changed bytes near the headers, another length, tag or segment size.
    fn alter(&mut self, frame: &mut Frame) {
        let how = self.byte();
        for _ in 0..how & 7 {
            let (place, value) = (usize::from(self.byte()), self.byte());
            if let Some(byte) = frame.bytes.get_mut(place) {
                *byte ^= value;
            }
        }
        if how & 0x08 != 0 {
            let len = usize::from(self.word()) % (LITERAL_MAX + 1);
            frame.bytes.resize(len, 0);
        }
        if how & 0x10 != 0 {
            let tag = self.word();
            frame.vlan = (tag & 0x8000 == 0).then_some(tag & 0x0fff);
        }
        if how & 0x20 != 0 {
            frame.gso_size = u32::from(self.word());
        }
    }
}

/// The frame as its receiver would answer it: MACs, addresses and ports change places; echo requests become
/// replies. All sums stay what they were, but for the ICMP type's.
fn reversed(frame: &Frame) -> Frame {
    let mut frame = frame.clone();
    let bytes = &mut frame.bytes;
    if bytes.len() < 42 {
        return frame;
    }
    let (dst, src) = bytes.split_at_mut(6);
    dst.swap_with_slice(&mut src[..6]);
    let (src, dst) = bytes[26..34].split_at_mut(4);
    src.swap_with_slice(dst);
    if bytes[23] == ipv4::PROTOCOL_ICMP {
        let old = u16::from_be_bytes([bytes[34], bytes[35]]);
        bytes[34] ^= 8;
        let sum = u16::from_be_bytes([bytes[36], bytes[37]]);
        let new = checksum::update(sum, old, u16::from_be_bytes([bytes[34], bytes[35]]));
        bytes[36..38].copy_from_slice(&new.to_be_bytes());
    } else {
        let (src, dst) = bytes[34..38].split_at_mut(2);
        src.swap_with_slice(dst);
    }
    frame
}

/// Makes the IPv4 header's checksum right, if there is a header.
fn fix_checksum(frame: &mut [u8]) {
    let Some(first) = frame.get(ethernet::LEN) else { return };
    let end = ethernet::LEN + usize::from(first & 0xf) * 4;
    let Some(header) = frame.get_mut(ethernet::LEN..end).filter(|header| header.len() >= ipv4::LEN) else {
        return;
    };
    header[10..12].fill(0);
    let sum = checksum::checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Frames of IPv6 between VMs, to and from outside, and neighbour discovery.
fn ipv6(world: &World) -> Vec<Template> {
    let mut templates = Vec::new();
    for (name, vm) in &world.vms {
        let entry = Entry::Port { ifindex: vm.ifindex };
        let mut add = |bytes| templates.push(Template { host: vm.host, entry, frame: Frame::new(bytes) });
        add(frames::solicitation((vm.mac, vm.address6()), link_local(vm.router_mac)));
        for peer in world.vms.values() {
            let ends = world.routed6(name, peer.address6(), (4002, 53));
            let datagram = frames::udp(&ends, &[0x5a; 900]);
            add(frames::with_extensions(&datagram, &[(0, &[0; 8]), (44, &[0; 8]), (60, &[0; 8])]));
            add(frames::echo(&ends, false));
        }
        add(frames::tcp(&world.routed6(name, INTERNET6, (4001, 443)), Segment::Syn, b""));
        let ends = world.outside6(vm.host & 1, (INTERNET6, 443), (vm.address6(), 4001));
        let (entry, frame) = (Entry::Uplink { ifindex: UPLINK }, frames::tcp(&ends, Segment::Syn, b""));
        let frame = Frame::tagged(frame, VLAN);
        templates.push(Template { host: vm.host & 1, entry, frame });
    }
    templates
}

/// Frames between all pairs of VMs, to and from outside, and ARP.
pub(crate) fn templates(world: &World) -> Vec<Template> {
    let mut templates = Vec::new();
    for (name, vm) in &world.vms {
        let entry = Entry::Port { ifindex: vm.ifindex };
        let mut add = |bytes| templates.push(Template { host: vm.host, entry, frame: Frame::new(bytes) });
        add(frames::arp_request((vm.mac, vm.address), GATEWAY_ADDRESS));
        let [a, b, c, _] = vm.address.octets();
        let router = Ipv4Addr::new(a, b, c, 1);
        add(frames::arp_request((vm.mac, vm.address), router));
        add(frames::echo(&world.routed(name, router, (7, 7)), false));
        add(frames::udp_ttl(&world.routed(name, INTERNET, (4000, 33434)), b"probe", 1));
        for dst in [INTERNET, SNAT_ADDRESS, Ipv4Addr::new(172, 22, 7, 101), Ipv4Addr::new(172, 22, 7, 103)] {
            add(frames::udp(&world.routed(name, dst, (4000, 53)), b"query"));
            add(frames::tcp(&world.routed(name, dst, (4001, 443)), Segment::Syn, b""));
            add(frames::echo(&world.routed(name, dst, (9, 9)), false));
        }
        for (other, peer) in &world.vms {
            add(frames::udp(&world.routed(name, peer.address, (4002, 53)), &[0x5a; 900]));
            if other != name && peer.network == vm.network {
                add(frames::tcp(&world.switched(name, other, (4003, 22)), Segment::Syn, b""));
            }
        }
    }
    templates.extend(outside(world));
    templates.extend(ipv6(world));
    templates
}

fn outside(world: &World) -> Vec<Template> {
    let mut templates = Vec::new();
    for host in 0..2 {
        let entry = Entry::Uplink { ifindex: UPLINK };
        let mut add = |bytes| templates.push(Template { host, entry, frame: Frame::tagged(bytes, VLAN) });
        add(frames::arp_request((GATEWAY_MAC, GATEWAY_ADDRESS), SNAT_ADDRESS));
        for last in [27, 28, 101, 103, 200] {
            let dst = Ipv4Addr::new(172, 22, 7, last);
            for port in [53, BLOCK_SIZE, 2 * BLOCK_SIZE + 5, 3 * BLOCK_SIZE + 9] {
                let ends: Ends = world.outside(host, (INTERNET, 53), (dst, port));
                add(frames::udp(&ends, b"answer"));
                add(frames::tcp(&ends, Segment::SynAck, b""));
            }
            add(frames::echo(&world.outside(host, (INTERNET, 9), (dst, 9)), false));
        }
    }
    templates
}

//! What holds for every packet.

use super::Entry;
use packet::{checksum, ethernet, ipv4};
use pipeline::host::{Frame, HostTables};
use pipeline::tables::PortKey;
use pipeline::tunnel::OUTER_LEN;
use pipeline::verdict::counter;
use pipeline::{Punt, Reason, Stage, Total, Verdict};

/// What was true before a packet came.
pub(crate) struct Before {
    entry: Entry,
    input: Frame,
    came: u64,
    went: u64,
    drops: u64,
    punts: u64,
}

impl Before {
    pub(crate) fn new(tables: &HostTables, entry: Entry, input: &Frame) -> Self {
        let [came, went, drops, punts] = sums(tables);
        Self { entry, input: input.clone(), came, went, drops, punts }
    }
}

const IN: [Total; 5] =
    [Total::InPort, Total::InTunnelLone, Total::InTunnelDevice, Total::InUplink, Total::InService];
const OUT: [Total; 6] =
    [Total::OutPort, Total::OutTunnel, Total::OutUplink, Total::OutHost, Total::Punted, Total::Dropped];

/// Packets in, packets out (or ended), drops by reason, punts by kind.
fn sums(tables: &HostTables) -> [u64; 4] {
    let total = |list: &[Total]| list.iter().map(|total| tables.total(*total)).sum();
    let pairs = Stage::ALL.iter().flat_map(|stage| Reason::ALL.iter().map(|reason| (*stage, *reason)));
    let drops = pairs.map(|(stage, reason)| tables.counter(counter::drop(stage, reason))).sum();
    let punts = Punt::ALL.iter().map(|punt| tables.counter(counter::punt(*punt))).sum();
    [total(&IN), total(&OUT), drops, punts]
}

pub(crate) fn all(before: &Before, tables: &HostTables, verdict: Verdict, output: &Frame) {
    counted_once(before, tables, verdict);
    if verdict == Verdict::Pass {
        untouched(before, output);
    }
    if let Verdict::Port { ifindex } = verdict {
        known_port(before, tables, ifindex);
        isolated(before, tables, ifindex);
    }
    sums_hold(before, verdict, output);
}

/// In = out + dropped + punted, exactly; and each drop and punt has its own counter. The underlay's program
/// counts only what it takes.
fn counted_once(before: &Before, tables: &HostTables, verdict: Verdict) {
    let Before { entry, came, went, drops, punts, .. } = before;
    let taken = u64::from(!(*entry == Entry::Underlay && verdict == Verdict::Pass));
    let dropped = u64::from(matches!(verdict, Verdict::Drop(..)));
    let punted = u64::from(matches!(verdict, Verdict::Punt(_)));
    assert_eq!(
        sums(tables),
        [came + taken, went + taken, drops + dropped, punts + punted],
        "{entry:?}: {verdict:?}: in, out, drops, punts"
    );
    assert_eq!(tables.total(Total::Dropped), drops + dropped);
    assert_eq!(tables.total(Total::Punted), punts + punted);
}

/// What is left to the host's stack is as it came, but for the one rewritten word of a Geneve header.
fn untouched(before: &Before, output: &Frame) {
    let Before { entry, input, .. } = before;
    let word = ethernet::LEN + ipv4::LEN + 8..ethernet::LEN + ipv4::LEN + 12;
    let masked = |frame: &Frame| {
        let mut bytes = frame.bytes.clone();
        if *entry == Entry::Underlay
            && let Some(word) = bytes.get_mut(word.clone())
        {
            word.fill(0);
        }
        bytes
    };
    assert_eq!(masked(input), masked(output), "{entry:?}: passed, but changed");
    assert_eq!((input.vlan, input.gso_size), (output.vlan, output.gso_size), "{entry:?}");
}

/// Fail closed: a packet leaves to a port that exists and is active, or back where it came from.
fn known_port(before: &Before, tables: &HostTables, ifindex: u32) {
    if before.entry == (Entry::Uplink { ifindex }) {
        return;
    }
    let port = tables.set.ports.get(&PortKey { ifindex });
    let active = port.is_some_and(|port| port.flags & pipeline::tables::Port::FLAG_ACTIVE != 0);
    assert!(active, "{:?}: delivered to {ifindex}, which is no active port", before.entry);
}

/// A VM's packet reaches a VM of another router only by an external address.
fn isolated(before: &Before, tables: &HostTables, ifindex: u32) {
    let Entry::Port { ifindex: from } = before.entry else { return };
    let router = |ifindex| {
        let port = tables.set.ports.get(&PortKey { ifindex })?;
        tables.set.networks.get(&pipeline::tables::NetworkKey { vni: port.network_vni })
    };
    let external = before.input.bytes.get(30..33) == Some(&[172, 22, 7]);
    let (Some(from), Some(to)) = (router(from), router(ifindex)) else { return };
    assert!(
        external || from.router_vni == to.router_vni,
        "{:?}: delivered to {ifindex} of router {}",
        before.entry,
        to.router_vni
    );
}

/// Right checksums in give right checksums out, whatever was rewritten.
fn sums_hold(before: &Before, verdict: Verdict, output: &Frame) {
    let inside = OUTER_LEN as usize;
    let input_start = if before.entry == Entry::Underlay { inside } else { 0 };
    let output_start = match verdict {
        Verdict::Port { .. } | Verdict::Uplink { .. } => 0,
        Verdict::Tunnel { .. } => {
            assert_eq!(header_holds(&output.bytes, 0), Some(true), "outer header");
            inside
        }
        Verdict::Pass | Verdict::Punt(_) | Verdict::Drop(..) => return,
    };
    for (name, holds) in
        [("IPv4", header_holds as fn(&[u8], usize) -> Option<bool>), ("transport", transport_holds)]
    {
        if holds(&before.input.bytes, input_start) == Some(true) {
            let after = holds(&output.bytes, output_start);
            assert!(
                after != Some(false),
                "{:?}: {verdict:?}: {name} checksum\n{:02x?}",
                before.entry,
                output.bytes
            );
        }
    }
}

/// The IPv4 header behind the Ethernet header at `start`, its length, and its datagram.
fn datagram(frame: &[u8], start: usize) -> Option<(ipv4::Header, usize, &[u8])> {
    let ethernet: ethernet::Header = packet::read(frame, start)?;
    let header: ipv4::Header = packet::read(frame, start + ethernet::LEN)?;
    let header_len = header.header_len() as usize;
    let ipv4 = ethernet.ethertype.get() == ethernet::TYPE_IPV4 && header.version() == 4;
    let total_len = usize::from(header.total_len.get());
    let datagram = frame.get(start + ethernet::LEN..)?.get(..total_len)?;
    (ipv4 && header_len >= ipv4::LEN && total_len >= header_len).then_some((header, header_len, datagram))
}

fn header_holds(frame: &[u8], start: usize) -> Option<bool> {
    let (_, header_len, datagram) = datagram(frame, start)?;
    Some(checksum::checksum(&datagram[..header_len]) == 0)
}

/// None if there is nothing to verify: a fragment, another protocol, an unused or inconsistent field.
fn transport_holds(frame: &[u8], start: usize) -> Option<bool> {
    let (header, header_len, datagram) = datagram(frame, start)?;
    let segment = &datagram[header_len..];
    if header.is_fragment() {
        return None;
    }
    let mut sum = checksum::sum(segment);
    match header.protocol {
        ipv4::PROTOCOL_ICMP if segment.len() >= packet::icmp::LEN => {}
        ipv4::PROTOCOL_TCP if segment.len() >= packet::tcp::LEN => {}
        ipv4::PROTOCOL_UDP => {
            let udp: packet::udp::Header = packet::read(segment, 0)?;
            if udp.checksum.get() == 0 || usize::from(udp.len.get()) != segment.len() {
                return None;
            }
        }
        _ => return None,
    }
    if header.protocol != ipv4::PROTOCOL_ICMP {
        sum = sum
            .wrapping_add(checksum::sum(&header.src))
            .wrapping_add(checksum::sum(&header.dst))
            .wrapping_add(u32::from(header.protocol))
            .wrapping_add(segment.len() as u32);
    }
    Some(checksum::fold(sum) == 0xffff)
}

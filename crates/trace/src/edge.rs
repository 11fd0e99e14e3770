//! A packet at an edge between stages, from what is known of its two ends.
//!
//! The programs rewrite a packet once, when it leaves. Before that a stage's outcome stands beside the packet; here
//! it is put in, so that a captured frame shows what the next stage is told.

use packet::{checksum, ethernet, icmp, ipv4, tcp, udp};
use pipeline::Stage;
use pipeline::capture::Tuple;

const NETWORK: usize = ethernet::LEN;

/// The frame as it came, with what the stages before `stage` changed. `after`: as the packet left; without it
/// nothing was changed. `stages`: one bit per stage that was walked; whoever of DNAT and SNAT was walked alone
/// translated all, as for answers.
pub fn before_stage(
    mut frame: Vec<u8>,
    (before, after): (&Tuple, Option<&Tuple>),
    stages: u32,
    stage: Stage,
) -> Vec<u8> {
    let Some(after) = after.filter(|after| after.ethertype == before.ethertype) else { return frame };
    if before.ethertype != ethernet::TYPE_IPV4 {
        return frame;
    }
    let walked = |stage: Stage| stages & 1 << stage as u32 != 0;
    let destination_by = if walked(Stage::Dnat) { Stage::Dnat } else { Stage::Snat };
    let source_by = if walked(Stage::Snat) { Stage::Snat } else { Stage::Dnat };
    if stage > destination_by {
        translate(&mut frame, ipv4::OFFSET_DST, (before.dst, after.dst));
        set_port(&mut frame, before.protocol, 2, (before.dst_port, after.dst_port));
    }
    if stage > source_by {
        translate(&mut frame, ipv4::OFFSET_SRC, (before.src, after.src));
        set_port(&mut frame, before.protocol, 0, (before.src_port, after.src_port));
        set_echo_id(&mut frame, before, after);
    }
    frame
}

fn half(frame: &[u8], at: usize) -> Option<u16> {
    frame.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Where the transport header is, if the packet has one.
fn transport(frame: &[u8]) -> Option<usize> {
    let later = half(frame, NETWORK + 6)? & 0x1fff != 0;
    let header_len = usize::from(frame.get(NETWORK)? & 0xf) * 4;
    (!later).then_some(NETWORK + header_len)
}

/// The transport checksum that covers addresses.
fn transport_checksum(frame: &[u8], protocol: u8) -> Option<usize> {
    let offset = match protocol {
        ipv4::PROTOCOL_TCP => tcp::OFFSET_CHECKSUM,
        ipv4::PROTOCOL_UDP => udp::OFFSET_CHECKSUM,
        _ => return None,
    };
    let at = transport(frame)? + offset as usize;
    let none = protocol == ipv4::PROTOCOL_UDP && half(frame, at)? == 0;
    (!none).then_some(at)
}

fn update(frame: &mut [u8], at: usize, old: u16, new: u16) {
    if let Some(sum) = half(frame, at) {
        put(frame, at, checksum::update(sum, old, new));
    }
}

fn translate(frame: &mut [u8], offset: u32, (old, new): ([u8; 4], [u8; 4])) {
    let at = NETWORK + offset as usize;
    if old == new || frame.get(at..at + 4) != Some(&old) {
        return;
    }
    let protocol = frame.get(NETWORK + 9).copied().unwrap_or_default();
    let sums = [Some(NETWORK + ipv4::OFFSET_CHECKSUM as usize), transport_checksum(frame, protocol)];
    let ([a, b, c, d], [e, f, g, h]) = (old, new);
    for sum in sums.into_iter().flatten() {
        update(frame, sum, u16::from_be_bytes([a, b]), u16::from_be_bytes([e, f]));
        update(frame, sum, u16::from_be_bytes([c, d]), u16::from_be_bytes([g, h]));
    }
    if let Some(field) = frame.get_mut(at..at + 4) {
        field.copy_from_slice(&new);
    }
}

fn set_port(frame: &mut [u8], protocol: u8, offset: usize, (old, new): (u16, u16)) {
    if old == new || !matches!(protocol, ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP) {
        return;
    }
    let Some(at) = transport(frame) else { return };
    if let Some(sum) = transport_checksum(frame, protocol) {
        update(frame, sum, old, new);
    }
    put(frame, at + offset, new);
}

fn set_echo_id(frame: &mut [u8], before: &Tuple, after: &Tuple) {
    let id = |tuple: &Tuple| u16::from_be_bytes([tuple.transport[4], tuple.transport[5]]);
    let (old, new) = (id(before), id(after));
    let echo = matches!(before.transport[0], icmp::TYPE_ECHO_REQUEST | icmp::TYPE_ECHO_REPLY);
    if before.protocol != ipv4::PROTOCOL_ICMP || !echo || old == new {
        return;
    }
    let Some(at) = transport(frame) else { return };
    update(frame, at + icmp::OFFSET_CHECKSUM as usize, old, new);
    put(frame, at + icmp::OFFSET_ECHO_ID as usize, new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MacAddr;
    use crate::frames::{Packet, Transport};
    use std::net::IpAddr;

    fn packet(src: [u8; 4], dst: [u8; 4], transport: Transport) -> Vec<u8> {
        let (src_mac, dst_mac) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let (src, dst) = (IpAddr::from(src), IpAddr::from(dst));
        Packet { src_mac, dst_mac, src, dst, transport, ttl: 64, dont_fragment: false, length: None }
            .compose()
            .unwrap()
    }

    fn tuple(frame: &[u8]) -> Tuple {
        let ports = |at: usize| half(frame, at).unwrap();
        let protocol = frame[23];
        let has_ports = protocol != ipv4::PROTOCOL_ICMP;
        Tuple {
            src: frame[26..30].try_into().unwrap(),
            dst: frame[30..34].try_into().unwrap(),
            src_port: if has_ports { ports(34) } else { 0 },
            dst_port: if has_ports { ports(36) } else { 0 },
            ethertype: ethernet::TYPE_IPV4,
            protocol,
            transport: frame[34..42].try_into().unwrap(),
            ..Tuple::default()
        }
    }

    /// Between DNAT and SNAT only the destination is new; behind both, the packet is what was sent, checksums too.
    #[test]
    fn what_is_translated_shows_behind_its_stage_and_checksums_hold() {
        let (vm, dst, outside, inside) = ([10, 0, 0, 5], [8, 8, 8, 8], [172, 22, 7, 27], [10, 9, 9, 9]);
        for (old, new) in [
            (Transport::Udp { src: 4000, dst: 53 }, Transport::Udp { src: 2047, dst: 5353 }),
            (
                Transport::Tcp { src: 4000, dst: 80, flags: 2 },
                Transport::Tcp { src: 2047, dst: 8080, flags: 2 },
            ),
            (Transport::Echo { id: 7 }, Transport::Echo { id: 999 }),
        ] {
            let (came, left) = (packet(vm, dst, old), packet(outside, inside, new));
            let (before, after) = (tuple(&came), tuple(&left));
            let all = u32::MAX;
            let at = |stage| before_stage(came.clone(), (&before, Some(&after)), all, stage);
            assert_eq!(at(Stage::Route), came);
            assert_eq!(at(Stage::Dnat), came);
            let between = at(Stage::Snat);
            assert_eq!((&between[26..30], &between[30..34]), (&vm[..], &inside[..]));
            assert_eq!(at(Stage::Resolve), left);
            let alone = !(1 << Stage::Dnat as u32);
            assert_eq!(before_stage(came.clone(), (&before, Some(&after)), alone, Stage::Snat), came);
            assert_eq!(before_stage(came.clone(), (&before, Some(&after)), alone, Stage::Resolve), left);
            let dropped = before_stage(came.clone(), (&before, None), all, Stage::Output);
            assert_eq!(dropped, came, "a drop is as it came");
            for len in 0..came.len() {
                before_stage(came[..len].to_vec(), (&before, Some(&after)), all, Stage::Output);
            }
        }
    }
}

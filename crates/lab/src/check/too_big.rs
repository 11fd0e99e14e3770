//! Packets that do not fit the overlay: whoever sent them with "don't fragment" hears so, with the MTU that fits.

use super::probe::{REACH, split_ip};
use super::raw::{Ends, Wire, echo_frame};
use super::{Bench, Check};
use crate::names::GUEST_LINK;
use netlink::MacAddr;
use packet::{ethernet, icmp, ipv4};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest IP packet on a physical network.
const PACKET_LEN: usize = 1500;
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// From outside to every floating IP whose network is narrower than the physical one.
pub(super) fn checks(bench: &Arc<Bench>) -> Vec<Check> {
    let mut checks = Vec::new();
    for floating in &bench.plan.floating_ips {
        let vm = &bench.plan.vms[floating.vm];
        let Some(mtu) = bench.state.ports.get(&vm.name).map(|port| port.mtu) else { continue };
        let outside =
            bench.segment_of_vm(floating.vm).and_then(|segment| bench.outside_of(segment, true).next());
        let Some(from) = outside.filter(|_| (mtu as usize) < PACKET_LEN).cloned() else { continue };
        let name = format!("too big {} -> {} ({}): told MTU {mtu}", from.name, floating.address, vm.name);
        let to = floating.address;
        checks.push(Check::new(name, async move {
            let wire = Wire::open(&from.netns, GUEST_LINK).await?;
            let probe = move || probe(&wire, from.address, to, mtu);
            tokio::task::spawn_blocking(probe).await.map_err(|error| error.to_string())?
        }));
    }
    checks
}

/// Sends echo requests of [`PACKET_LEN`] bytes until the error comes back. Blocks.
fn probe(wire: &Wire, own: Ipv4Addr, to: Ipv4Addr, mtu: u32) -> Result<String, String> {
    let destination_mac = wire.resolve(own, to, REACH)?;
    let ends = Ends { source_mac: wire.mac, source: own, destination_mac, destination: to };
    let frame = echo_frame(&ends, PACKET_LEN);
    let deadline = Instant::now() + REACH;
    while Instant::now() < deadline {
        wire.send(&frame)?;
        let again = Instant::now() + RETRY_INTERVAL;
        let mut buffer = [0; 2048];
        while Instant::now() < again {
            let Some(len) = wire.receive(&mut buffer)? else { break };
            match answer(&buffer[..len], wire.mac, to) {
                Some(Answer::TooBig { mtu: told, from }) if u32::from(told) == mtu => {
                    return Ok(format!("told by {from}"));
                }
                Some(other) => return Err(format!("{other:?} instead of MTU {mtu}")),
                None => {}
            }
        }
    }
    Err(format!("silence for {} s", REACH.as_secs()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    TooBig {
        mtu: u16,
        from: Ipv4Addr,
    },
    /// It arrived after all.
    Echoed,
}

/// What a received frame says about our request to this address, if anything.
fn answer(frame: &[u8], own: MacAddr, to: Ipv4Addr) -> Option<Answer> {
    let for_us = frame.get(..6)? == own.0 && frame.get(12..14)? == ethernet::TYPE_IPV4.to_be_bytes();
    let (header, message) = split_ip(frame.get(14..)?).filter(|_| for_us)?;
    if header.protocol != ipv4::PROTOCOL_ICMP {
        return None;
    }
    let from = Ipv4Addr::from(header.src);
    match (*message.first()?, *message.get(1)?) {
        (icmp::TYPE_ECHO_REPLY, _) if from == to && message.len() > 1000 => Some(Answer::Echoed),
        (icmp::TYPE_UNREACHABLE, icmp::CODE_FRAGMENTATION_NEEDED) => {
            let (inner, _) = split_ip(message.get(icmp::LEN..)?)?;
            let mtu = u16::from_be_bytes(message.get(6..8)?.try_into().ok()?);
            (Ipv4Addr::from(inner.dst) == to).then_some(Answer::TooBig { mtu, from })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_error_about_our_packet_counts() {
        let (own, to) = (MacAddr([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(192, 0, 2, 40));
        let ends = Ends {
            source_mac: own,
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination_mac: own,
            destination: to,
        };
        let request = echo_frame(&ends, PACKET_LEN);
        assert_eq!(request.len(), 14 + PACKET_LEN);
        assert_eq!(answer(&request, own, to), None, "our own request");
        let mut error = request[..34].to_vec();
        error.extend([3, 4, 0, 0, 0, 0, 0x05, 0xaa]);
        error.extend(&request[14..42]);
        let told = Answer::TooBig { mtu: 1450, from: Ipv4Addr::new(192, 0, 2, 1) };
        assert_eq!(answer(&error, own, to), Some(told));
        assert_eq!(answer(&error, MacAddr::BROADCAST, to), None, "for somebody else");
        assert_eq!(answer(&error, own, Ipv4Addr::new(192, 0, 2, 41)), None, "about another packet");
        for len in 0..error.len() {
            let cut = answer(&error[..len], own, to);
            assert!(cut.is_none() || len >= 34 + 8 + 20, "{len}");
        }
    }
}

//! Hand-made frames: what no honest IP stack would send.

use super::station::ECHO_PORT;
use netlink::{Links, MacAddr, Netns, PacketSocket};
use packet::{arp, checksum, ethernet, icmp, ipv4};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// ARP is asked anew after this long without an answer.
const ARP_RETRY: Duration = Duration::from_millis(200);

/// Who a frame says it is from and to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) source_mac: MacAddr,
    pub(crate) source: Ipv4Addr,
    pub(crate) destination_mac: MacAddr,
    pub(crate) destination: Ipv4Addr,
}

/// An Ethernet frame with a UDP datagram to the echo port.
pub(crate) fn udp_frame(ends: &Ends, payload: &[u8]) -> Vec<u8> {
    const SOURCE_PORT: u16 = 40_000;
    let udp_len = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut frame = start(ends, ipv4::PROTOCOL_UDP, udp_len);
    // A UDP checksum of zero says that there is none.
    for field in [SOURCE_PORT, ECHO_PORT, udp_len, 0] {
        frame.extend(field.to_be_bytes());
    }
    frame.extend(payload);
    frame
}

/// An Ethernet frame with an ICMP echo request in an IP packet of this length, "don't fragment" set.
pub(crate) fn echo_frame(ends: &Ends, packet_len: usize) -> Vec<u8> {
    let mut message = vec![0x5a; packet_len.saturating_sub(ipv4::LEN).max(icmp::LEN)];
    message[..4].copy_from_slice(&[icmp::TYPE_ECHO_REQUEST, 0, 0, 0]);
    let sum = checksum::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = start(ends, ipv4::PROTOCOL_ICMP, u16::try_from(message.len()).unwrap_or(u16::MAX));
    frame.extend(message);
    frame
}

/// Ethernet and IPv4 headers in front of so many bytes.
fn start(ends: &Ends, protocol: u8, len: u16) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((ipv4::LEN as u16).saturating_add(len).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    ip.extend(ends.source.octets());
    ip.extend(ends.destination.octets());
    let sum = checksum::checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = Vec::from(ends.destination_mac.0);
    frame.extend(ends.source_mac.0);
    frame.extend(ethernet::TYPE_IPV4.to_be_bytes());
    frame.extend(ip);
    frame
}

/// A machine's link, ready to send and listen on.
pub(crate) struct Wire {
    pub(crate) ifindex: u32,
    pub(crate) mac: MacAddr,
    socket: PacketSocket,
}

impl Wire {
    pub(crate) async fn open(netns: &Netns, link: &str) -> Result<Self, String> {
        let links = Links::connect_in(netns).map_err(|error| error.to_string())?;
        let link = links.get(link).await.map_err(|error| error.to_string())?;
        let socket =
            netns.run(PacketSocket::open).and_then(|socket| socket).map_err(|error| error.to_string())?;
        Ok(Self { ifindex: link.index, mac: link.mac, socket })
    }

    pub(crate) fn send(&self, frame: &[u8]) -> Result<(), String> {
        self.socket.send(self.ifindex, frame).map_err(|error| error.to_string())
    }

    /// The next frame, after [`Self::resolve`] has opened the ears. Blocks for at most [`ARP_RETRY`].
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, String> {
        let received = self.socket.receive(buffer).map_err(|error| error.to_string())?;
        Ok(received.map(|received| received.len))
    }

    /// Asks for a MAC address the way an IP stack would, whatever this machine's own stack knows. Blocks.
    pub(crate) fn resolve(
        &self,
        own: Ipv4Addr,
        target: Ipv4Addr,
        limit: Duration,
    ) -> Result<MacAddr, String> {
        self.socket.listen(self.ifindex, ARP_RETRY).map_err(|error| error.to_string())?;
        let request =
            arp::Header::new(arp::OP_REQUEST, (self.mac, own.octets()), (MacAddr::ZERO, target.octets()));
        let mut frame = Vec::from(MacAddr::BROADCAST.0);
        frame.extend(self.mac.0);
        frame.extend(ethernet::TYPE_ARP.to_be_bytes());
        frame.extend(packet::bytes::<_, { arp::LEN }>(request));
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            self.send(&frame)?;
            let again = Instant::now() + ARP_RETRY;
            let mut buffer = [0; 256];
            while Instant::now() < again {
                let received = self.socket.receive(&mut buffer).map_err(|error| error.to_string())?;
                let Some(received) = received else { break };
                if let Some(mac) = arp_reply(&buffer[..received.len], target) {
                    return Ok(mac);
                }
            }
        }
        Err(format!("nobody answers ARP for {target}"))
    }
}

/// The MAC in an ARP reply from this address.
fn arp_reply(frame: &[u8], from: Ipv4Addr) -> Option<MacAddr> {
    let kind = frame.get(12..14)?;
    let header: arp::Header = packet::view::<_, { arp::LEN }>(frame.get(14..14 + arp::LEN)?.try_into().ok()?);
    let reply = kind == ethernet::TYPE_ARP.to_be_bytes() && header.operation.get() == arp::OP_REPLY;
    (reply && header.sender_ip == from.octets()).then_some(header.sender_mac)
}

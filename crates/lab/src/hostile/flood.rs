//! What a hostile VM sends: frames no honest IP stack would, as many as it is allowed, on its own link.

use crate::check::raw::Ends;
use netlink::{MacAddr, PacketSocket};
use packet::{arp, checksum, ethernet, ipv4, tcp};
use serde::Serialize;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Frames are sent in bursts this far apart.
const BURST_INTERVAL: Duration = Duration::from_millis(1);
/// Bytes of payload: small packets cost the most.
const PAYLOAD_LEN: usize = 18;
/// The discard port.
const DISCARD: u16 = 9;

/// What a flood consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flood {
    /// Each packet wants a mapping of its own: another source port, of UDP and TCP.
    Mappings,
    /// Each packet wants a session of its own: another destination port.
    Ports,
    /// Fragments without a rest, rests without a first fragment, and overlaps.
    Fragments,
    /// Sources that are not the VM's: addresses and MACs.
    Spoofs,
    /// ARP for nobody, in the name of others, and unasked for.
    Arp,
}

/// With their words. Mappings come last: afterwards the attacker has none left for another flood.
const FLOODS: [(Flood, &str); 5] = [
    (Flood::Ports, "ports"),
    (Flood::Fragments, "fragments"),
    (Flood::Spoofs, "spoofs"),
    (Flood::Arp, "arp"),
    (Flood::Mappings, "mappings"),
];

impl Flood {
    pub fn all() -> Vec<Self> {
        FLOODS.iter().map(|(flood, _)| *flood).collect()
    }

    /// Counters of which one must count each frame of the flood; none: some of them may pass.
    pub(super) fn refusals(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Mappings | Self::Ports | Self::Fragments => None,
            Self::Spoofs => Some(&["drop.port-security.spoofed-mac", "drop.port-security.spoofed-address"]),
            Self::Arp => Some(&[
                "drop.port-security.spoofed-arp",
                "drop.switch.arp-unknown-target",
                "drop.switch.arp-ignored",
            ]),
        }
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(FLOODS.iter().find(|(flood, _)| flood == self).map_or("", |(_, word)| *word))
    }
}

impl FromStr for Flood {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = FLOODS.iter().find(|(_, word)| *word == text).map(|(flood, _)| *flood);
        let words: Vec<&str> = FLOODS.iter().map(|(_, word)| *word).collect();
        found.ok_or_else(|| format!("'{text}' is no flood; there are {}, and all", words.join(", ")))
    }
}

/// The numbers of splitmix64: the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next numbers' lowest bits.
    fn short(&mut self) -> u16 {
        self.next() as u16
    }
}

/// The frames of one flood.
pub(super) struct Frames {
    flood: Flood,
    /// As an honest frame to the outside has them.
    ends: Ends,
    numbers: Numbers,
    count: u64,
}

impl Frames {
    pub(super) fn new(flood: Flood, ends: Ends) -> Self {
        Self { flood, ends, numbers: Numbers(flood as u64), count: 0 }
    }

    fn next(&mut self) -> Vec<u8> {
        self.count += 1;
        let port = 1024 + self.numbers.short() % 64_000;
        match self.flood {
            Flood::Mappings if self.count.is_multiple_of(2) => syn(&self.ends, (port, DISCARD)),
            Flood::Mappings => udp(&self.ends, (port, DISCARD), 0, 0),
            Flood::Ports => udp(&self.ends, (40_000, port), 0, 0),
            Flood::Fragments => self.fragment(),
            Flood::Spoofs => self.spoof(),
            Flood::Arp => self.arp(),
        }
    }

    /// In turn: a first fragment that nothing follows, the middle of nothing, and one that begins within a header.
    fn fragment(&mut self) -> Vec<u8> {
        let id = self.numbers.short();
        let field = match self.count % 3 {
            0 => ipv4::FLAG_MF,
            1 => ipv4::FLAG_MF | (1 + self.numbers.short() % 1000),
            _ => 1,
        };
        udp(&self.ends, (40_001, DISCARD), id, field)
    }

    fn spoof(&mut self) -> Vec<u8> {
        let number = self.numbers.next();
        let octets = number.to_be_bytes();
        let ends = if self.count.is_multiple_of(2) {
            // Of 10.0.0.0/8 and never an address that a lab gives a VM's own subnet.
            let source = Ipv4Addr::new(10, 255, octets[0], octets[1] | 1);
            Ends { source, ..self.ends }
        } else {
            let source_mac = MacAddr([0x02, 0xbe, octets[0], octets[1], octets[2], octets[3]]);
            Ends { source_mac, ..self.ends }
        };
        udp(&ends, (40_002, DISCARD), 0, 0)
    }

    /// In turn: a question for an address that nobody has, one in the name of another, an answer nobody asked for.
    fn arp(&mut self) -> Vec<u8> {
        let [a, b, ..] = self.numbers.next().to_be_bytes();
        let nobody = [10, 255, a, b];
        let own = (self.ends.source_mac, self.ends.source.octets());
        let header = match self.count % 3 {
            0 => arp::Header::new(arp::OP_REQUEST, own, (MacAddr::ZERO, nobody)),
            1 => arp::Header::new(arp::OP_REQUEST, (own.0, nobody), (MacAddr::ZERO, own.1)),
            _ => arp::Header::new(arp::OP_REPLY, own, (MacAddr::BROADCAST, own.1)),
        };
        let mut frame = ethernet(MacAddr::BROADCAST, self.ends.source_mac, ethernet::TYPE_ARP);
        frame.extend(packet::bytes::<_, { arp::LEN }>(header));
        frame
    }
}

fn ethernet(destination: MacAddr, source: MacAddr, kind: u16) -> Vec<u8> {
    let mut frame = Vec::from(destination.0);
    frame.extend(source.0);
    frame.extend(kind.to_be_bytes());
    frame
}

/// An Ethernet frame with a UDP datagram, or with what a fragment of one would be: IP id and the field of flags and
/// offset are given.
fn udp(ends: &Ends, (source, destination): (u16, u16), id: u16, fragment: u16) -> Vec<u8> {
    const UDP_LEN: u16 = 8 + PAYLOAD_LEN as u16;
    let mut frame = ip(ends, ipv4::PROTOCOL_UDP, UDP_LEN, (id, fragment));
    // A UDP checksum of zero says that there is none.
    for field in [source, destination, UDP_LEN, 0] {
        frame.extend(field.to_be_bytes());
    }
    frame.extend([0x5a; PAYLOAD_LEN]);
    frame
}

/// An Ethernet frame that begins a TCP connection. Its checksum is wrong, which only its receiver looks at.
fn syn(ends: &Ends, (source, destination): (u16, u16)) -> Vec<u8> {
    let mut frame = ip(ends, ipv4::PROTOCOL_TCP, tcp::LEN as u16, (0, 0));
    let mut header = [0; tcp::LEN];
    header[..2].copy_from_slice(&source.to_be_bytes());
    header[2..4].copy_from_slice(&destination.to_be_bytes());
    header[12..14].copy_from_slice(&[0x50, tcp::FLAG_SYN]);
    frame.extend(header);
    frame
}

/// Ethernet and IPv4 headers in front of so many bytes, with IP id and the field of flags and offset.
fn ip(ends: &Ends, protocol: u8, len: u16, (id, fragment): (u16, u16)) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    for field in [ipv4::LEN as u16 + len, id, fragment] {
        ip.extend(field.to_be_bytes());
    }
    ip.extend([64, protocol, 0, 0]);
    ip.extend(ends.source.octets());
    ip.extend(ends.destination.octets());
    let sum = checksum::checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(ends.destination_mac, ends.source_mac, ethernet::TYPE_IPV4);
    frame.extend(ip);
    frame
}

/// A flood under way.
pub(super) struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64, netlink::Error>>,
}

impl Running {
    /// Starts a thread that sends so many frames a second on a link of the socket's namespace.
    pub(super) fn start(
        socket: PacketSocket,
        ifindex: u32,
        mut frames: Frames,
        rate: u32,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread_stop = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("flood".to_owned()).spawn(move || {
            let (start, mut sent) = (Instant::now(), 0);
            while !thread_stop.load(Ordering::Relaxed) {
                let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
                // After a pause not everything at once, or the link's queue would lose it.
                let burst = due.saturating_sub(sent).min(u64::from(rate / 200).max(1));
                for _ in 0..burst {
                    socket.send(ifindex, &frames.next())?;
                    sent += 1;
                }
                std::thread::sleep(BURST_INTERVAL);
            }
            Ok(sent)
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it. Answers how many frames were sent.
    pub(super) fn end(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.thread.join().map_err(|_| anyhow::anyhow!("the flood's thread died"))?;
        Ok(outcome?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const OWN: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]);

    fn frames(flood: Flood) -> Vec<Vec<u8>> {
        let ends = Ends {
            source_mac: OWN,
            source: Ipv4Addr::new(192, 168, 10, 11),
            destination_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            destination: Ipv4Addr::new(8, 8, 8, 8),
        };
        let mut frames = Frames::new(flood, ends);
        (0..300).map(|_| frames.next()).collect()
    }

    #[test]
    fn each_flood_is_what_its_name_says() {
        let ports = |flood, at: usize| -> usize {
            frames(flood).iter().map(|frame| frame[at..at + 2].to_vec()).collect::<BTreeSet<_>>().len()
        };
        assert!(ports(Flood::Mappings, 34) > 290 && ports(Flood::Mappings, 36) == 1);
        assert!(ports(Flood::Ports, 34) == 1 && ports(Flood::Ports, 36) > 290);
        for frame in frames(Flood::Fragments) {
            let field = u16::from_be_bytes([frame[20], frame[21]]);
            assert!(field & (ipv4::FLAG_MF | ipv4::FRAGMENT_OFFSET) != 0);
        }
        for frame in frames(Flood::Spoofs) {
            assert!(frame[6..12] != OWN.0 || frame[26..30] != [192, 168, 10, 11], "neither is false");
        }
        assert!(frames(Flood::Arp).iter().all(|frame| frame[12..14] == ethernet::TYPE_ARP.to_be_bytes()));
    }

    #[test]
    fn a_flood_is_the_same_in_every_run() {
        for flood in Flood::all() {
            assert_eq!(frames(flood), frames(flood));
            assert_eq!(flood.to_string().parse(), Ok(flood));
        }
    }
}

//! A VM's frame to the PCP server. Shared by `fuzz/` and by `replay.rs`, which runs it on every input that once found
//! something.

use packet::datagram::{self, Ends};
use packet::{MacAddr, checksum};
use pcp::{Internal, Nat, Opened, Refused, Server, Wanted, answer};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

const VM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 27);
const LIFETIME_MAX_S: u32 = 86_400;
/// RFC 6887 §7.
const LEN_MAX: usize = 1100;

/// A NAT that gives each port once.
#[derive(Default)]
struct Ports(BTreeMap<Internal, Opened>);

impl Nat for Ports {
    fn find(&self, internal: Internal) -> Option<Opened> {
        self.0.get(&internal).copied()
    }

    fn all(&self) -> Vec<Opened> {
        self.0.values().copied().collect()
    }

    fn open(&mut self, wanted: &Wanted) -> Result<SocketAddrV4, Refused> {
        let Wanted { internal, nonce, lifetime_s: left_s, .. } = *wanted;
        assert!(internal.port != 0 && [6, 17].contains(&internal.protocol), "{wanted:?}");
        assert!((120..=LIFETIME_MAX_S).contains(&left_s), "{wanted:?}");
        let external = SocketAddrV4::new(OUTSIDE, 1024 + self.0.len() as u16);
        let former = self.0.insert(internal, Opened { internal, nonce, external, left_s });
        assert_eq!(former, None, "made where there was one");
        Ok(external)
    }

    fn renew(&mut self, internal: Internal, lifetime_s: u32) -> Result<(), Refused> {
        self.0.get_mut(&internal).expect("renewed what there is").left_s = lifetime_s;
        Ok(())
    }

    fn close(&mut self, internal: Internal) {
        self.0.remove(&internal).expect("closed what there is");
    }
}

/// Two requests from the same bytes, the second cut at the choice: whatever is answered is sound and not longer than
/// allowed, and nobody's mapping is made twice.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, payload)) = data.split_first() else { return };
    let mut nat = Ports::default();
    let server = Server { lifetime_max_s: LIFETIME_MAX_S, epoch_s: 1 };
    let payload = payload.get(..1400).unwrap_or(payload);
    let second = payload.get(usize::from(*choice)..).unwrap_or_default();
    for frame in [payload.to_vec(), datagram(payload), datagram(second)] {
        let Some(reply) = answer(&server, &mut nat, &frame) else { continue };
        let said = datagram::read(&reply.frame).expect("a datagram is sent");
        assert_eq!(checksum::checksum(&reply.frame[14..34]), 0);
        assert!(
            said.payload.len() <= LEN_MAX && said.payload.len().is_multiple_of(4),
            "{} bytes",
            said.payload.len()
        );
        assert!(said.payload[1] & 0x80 != 0, "an answer is one");
    }
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    let macs = (MacAddr([0xfa, 0x16, 0x3e, 0, 0, 5]), MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]));
    let ends = Ends { macs, addresses: (VM.octets(), [10, 0, 0, 1]), ports: (4000, 5351) };
    [&datagram::headers(&ends, payload)[..], payload].concat()
}

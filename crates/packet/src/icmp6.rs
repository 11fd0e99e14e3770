//! ICMP for IPv6 (RFC 4443). The header's layout is that of [`crate::icmp::Header`].

use crate::{checksum, ipv6};

pub const TYPE_UNREACHABLE: u8 = 1;
pub const TYPE_PACKET_TOO_BIG: u8 = 2;
pub const TYPE_TIME_EXCEEDED: u8 = 3;
pub const TYPE_PARAMETER_PROBLEM: u8 = 4;
pub const TYPE_ECHO_REQUEST: u8 = 128;
pub const TYPE_ECHO_REPLY: u8 = 129;
/// Multicast listener discovery (RFC 2710, RFC 3810).
pub const TYPE_MLD_QUERY: u8 = 130;
pub const TYPE_MLD_REPORT: u8 = 131;
pub const TYPE_MLD_DONE: u8 = 132;
pub const TYPE_MLD_REPORT_V2: u8 = 143;
/// Neighbour discovery (RFC 4861): [`crate::nd`].
pub const TYPE_ROUTER_SOLICITATION: u8 = 133;
pub const TYPE_ROUTER_ADVERTISEMENT: u8 = 134;
pub const TYPE_NEIGHBOR_SOLICITATION: u8 = 135;
pub const TYPE_NEIGHBOR_ADVERTISEMENT: u8 = 136;
pub const TYPE_REDIRECT: u8 = 137;

/// Codes of "destination unreachable".
pub const CODE_NO_ROUTE: u8 = 0;
pub const CODE_ADMIN_PROHIBITED: u8 = 1;
pub const CODE_ADDRESS_UNREACHABLE: u8 = 3;
pub const CODE_PORT_UNREACHABLE: u8 = 4;

/// The checksum of a message of at most 65,535 bytes whose own field is zero (RFC 4443 §2.3): it covers the
/// addresses, in wire order, too.
pub fn checksum(src: &[u8; 16], dst: &[u8; 16], message: &[u8]) -> u16 {
    transport_checksum(src, dst, ipv6::PROTOCOL_ICMP, message)
}

/// Likewise of any transport's message (RFC 8200 §8.1). A UDP checksum of 0 is sent as 0xffff; that is the caller's.
pub fn transport_checksum(src: &[u8; 16], dst: &[u8; 16], protocol: u8, message: &[u8]) -> u16 {
    let pseudo = checksum::sum(src).wrapping_add(checksum::sum(dst));
    let rest = (message.len() as u32).wrapping_add(u32::from(protocol)).wrapping_add(checksum::sum(message));
    !checksum::fold(pseudo.wrapping_add(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv6Header, Icmpv6Type};
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn our_checksum_is_etherparses(src: [u8; 16], dst: [u8; 16], data: Vec<u8>, id: u16, seq: u16) {
            let echo = Icmpv6Type::EchoRequest(etherparse::IcmpEchoHeader { id, seq });
            let header = Icmpv6Header::with_checksum(echo, src, dst, &data).unwrap();
            let mut message = header.to_bytes().to_vec();
            message.extend(data);
            message[2..4].fill(0);
            prop_assert_eq!(checksum(&src, &dst, &message), header.checksum);
        }
    }
}

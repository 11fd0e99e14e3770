//! Wire formats: fixed header views over byte arrays, and the Internet checksum.
//!
//! What this is: one file per protocol, each the same shape: a `#[repr(C)]` header whose fields carry
//! their byte order in the type, `LEN`, the constants of the protocol, and (where the agent composes
//! whole frames) an `emit` function over fixed arrays. What this is not: it knows no networks, ports or
//! policies, allocates nothing and never panics. Every header is converted from a `[u8; LEN]` with
//! [`view`] and back with [`bytes`], both free; [`read`] finds one in a slice. [`compose`] makes the whole
//! frames that the agent sends.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod arp;
pub mod checksum;
pub mod compose;
pub mod datagram;
pub mod dhcp;
pub mod ethernet;
pub mod geneve;
pub mod icmp;
pub mod icmp6;
pub mod ipv4;
pub mod ipv6;
pub mod nd;
pub mod tcp;
pub mod udp;
pub mod vxlan;

pub use ethernet::MacAddr;
pub use zerocopy;
pub use zerocopy::network_endian::{U16, U32};

/// Reads a header from exactly its bytes. Infallible: every bit pattern is a header; meaning is checked
/// by whoever asks (`Header::is_…`).
#[inline(always)]
pub fn view<H: zerocopy::FromBytes, const N: usize>(bytes: [u8; N]) -> H {
    const { assert!(size_of::<H>() == N) };
    // `read_from_bytes` fails on a length mismatch only, which the assertion above excludes at
    // compile time; the zeroed fallback is removed by the optimiser.
    match H::read_from_bytes(&bytes) {
        Ok(header) => header,
        Err(_) => zerocopy::FromZeros::new_zeroed(),
    }
}

/// Reads a header at `offset` of `bytes`; none if it does not fit.
pub fn read<H: zerocopy::FromBytes>(bytes: &[u8], offset: usize) -> Option<H> {
    H::read_from_prefix(bytes.get(offset..)?).ok().map(|(header, _)| header)
}

/// The bytes of a header.
#[inline(always)]
pub fn bytes<H: zerocopy::IntoBytes + zerocopy::Immutable, const N: usize>(header: H) -> [u8; N] {
    const { assert!(size_of::<H>() == N) };
    let mut out = [0u8; N];
    // Lengths are equal by the assertion above, so this never fails.
    let _ = zerocopy::IntoBytes::write_to(&header, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Reads `H` from every beginning of its bytes and one more: only all of them are a header.
    fn truncated<H: zerocopy::FromBytes>(name: &str) {
        let whole: Vec<u8> = (0..=size_of::<H>() as u8).collect();
        for len in 0..=whole.len() {
            let fits = len >= size_of::<H>();
            assert_eq!(read::<H>(&whole[..len], 0).is_some(), fits, "{name}: {len} bytes");
        }
        assert!(read::<H>(&whole, 1).is_some() && read::<H>(&whole, 2).is_none(), "{name}: offset");
        assert!(read::<H>(&whole, usize::MAX).is_none(), "{name}: offset beyond everything");
    }

    #[test]
    fn a_truncated_header_is_none() {
        truncated::<arp::Header>("ARP");
        truncated::<dhcp::Header>("DHCP");
        truncated::<ethernet::Header>("Ethernet");
        truncated::<geneve::Header>("Geneve");
        truncated::<icmp::Header>("ICMP");
        truncated::<ipv4::Header>("IPv4");
        truncated::<ipv6::Header>("IPv6");
        truncated::<nd::Message>("neighbour discovery");
        truncated::<tcp::Header>("TCP");
        truncated::<udp::Header>("UDP");
        truncated::<vxlan::Header>("VXLAN");
    }
}

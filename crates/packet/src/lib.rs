//! Wire formats: fixed header views over byte arrays, and the Internet checksum.
//!
//! What this is: one file per protocol, each the same shape: a `#[repr(C)]` header whose fields carry
//! their byte order in the type, `LEN`, the constants of the protocol, and (where the agent composes
//! whole frames) an `emit` function over fixed arrays. What this is not: it knows no networks, ports or
//! policies, allocates nothing and never panics. Every header is converted from a `[u8; LEN]` with
//! [`view`] and back with [`bytes`], both free.
#![no_std]

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod geneve;
pub mod icmp;
pub mod ipv4;
pub mod tcp;
pub mod udp;
pub mod vxlan;

pub use ethernet::MacAddr;
pub use zerocopy;
pub use zerocopy::network_endian::{U16, U32};

/// Reads a header from exactly its bytes. Infallible: every bit pattern is a header; meaning is checked
/// by whoever asks (`Header::is_…`).
#[inline(always)]
pub fn view<H: zerocopy::FromBytes, const N: usize>(bytes: [u8; N]) -> H
where
    H: Sized,
{
    const { assert!(size_of::<H>() == N) };
    // `read_from_bytes` fails on a length mismatch only, which the assertion above excludes at
    // compile time; the zeroed fallback is removed by the optimiser.
    match H::read_from_bytes(&bytes) {
        Ok(header) => header,
        Err(_) => zerocopy::FromZeros::new_zeroed(),
    }
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

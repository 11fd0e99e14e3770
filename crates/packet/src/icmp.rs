//! ICMP for IPv4 (RFC 792): echo and the error messages the agent composes.

use crate::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of type, code, checksum and the four that depend on the type.
pub const LEN: usize = 8;
pub const OFFSET_TYPE: u32 = 0;
pub const OFFSET_CHECKSUM: u32 = 2;
pub const OFFSET_ECHO_ID: u32 = 4;

pub const TYPE_ECHO_REPLY: u8 = 0;
pub const TYPE_UNREACHABLE: u8 = 3;
pub const TYPE_REDIRECT: u8 = 5;
pub const TYPE_ECHO_REQUEST: u8 = 8;
pub const TYPE_TIME_EXCEEDED: u8 = 11;
pub const TYPE_PARAMETER_PROBLEM: u8 = 12;

/// Codes of "destination unreachable" (RFC 792, RFC 1812 §5.2.7.1).
pub const CODE_NET_UNREACHABLE: u8 = 0;
pub const CODE_HOST_UNREACHABLE: u8 = 1;
pub const CODE_PORT_UNREACHABLE: u8 = 3;
pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;
pub const CODE_ADMIN_PROHIBITED: u8 = 13;

/// The first eight bytes: for echo `id`, `sequence`; for "fragmentation needed" unused, next-hop MTU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    pub kind: u8,
    pub code: u8,
    pub checksum: U16,
    pub id: U16,
    pub sequence: U16,
}

impl Header {
    #[inline(always)]
    pub fn is_echo(&self) -> bool {
        self.kind == TYPE_ECHO_REQUEST || self.kind == TYPE_ECHO_REPLY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv4Slice, Icmpv4Type};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(wire: [u8; LEN]) {
            prop_assert_eq!(crate::bytes::<_, LEN>(crate::view::<Header, LEN>(wire)), wire);
        }

        #[test]
        fn etherparse_agrees_on_echo(mut wire: [u8; LEN], request: bool) {
            wire[0] = if request { TYPE_ECHO_REQUEST } else { TYPE_ECHO_REPLY };
            wire[1] = 0;
            let header: Header = crate::view(wire);
            let other = Icmpv4Slice::from_slice(&wire).unwrap();
            let (Icmpv4Type::EchoRequest(echo) | Icmpv4Type::EchoReply(echo)) = other.icmp_type() else {
                panic!("no echo")
            };
            prop_assert!(header.is_echo());
            prop_assert_eq!((header.id.get(), header.sequence.get()), (echo.id, echo.seq));
            prop_assert_eq!(header.checksum.get(), other.checksum());
            prop_assert_eq!(&wire[OFFSET_ECHO_ID as usize..][..2], echo.id.to_be_bytes());
        }

        #[test]
        fn only_echo_is_echo(wire: [u8; LEN]) {
            let header: Header = crate::view(wire);
            prop_assert_eq!(header.is_echo(), matches!(wire[OFFSET_TYPE as usize], 0 | 8));
        }
    }
}

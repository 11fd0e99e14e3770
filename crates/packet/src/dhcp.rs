//! DHCPv4 message (RFC 2131 §2) and its options (RFC 2132).

use crate::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the fixed part, the cookie included.
pub const LEN: usize = 240;
pub const OP_REQUEST: u8 = 1;
pub const OP_REPLY: u8 = 2;
pub const HTYPE_ETHERNET: u8 = 1;
pub const COOKIE: u32 = 0x6382_5363;
/// The client cannot take unicast before it has its address.
pub const FLAG_BROADCAST: u16 = 0x8000;

/// Values of the message type option.
pub mod message_type {
    pub const DISCOVER: u8 = 1;
    pub const OFFER: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const DECLINE: u8 = 4;
    pub const ACK: u8 = 5;
    pub const NAK: u8 = 6;
    pub const RELEASE: u8 = 7;
    pub const INFORM: u8 = 8;
}

/// Option codes.
pub mod option {
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS_SERVER: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const MTU: u8 = 26;
    pub const BROADCAST: u8 = 28;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETER_LIST: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const SIZE_MAX: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const CLIENT_ID: u8 = 61;
    pub const TFTP_SERVER: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    /// RFC 3442, and the number an old client of Microsoft's asks for it by.
    pub const CLASSLESS_ROUTES: u8 = 121;
    pub const CLASSLESS_ROUTES_MICROSOFT: u8 = 249;
    pub const TFTP_SERVER_ADDRESS: u8 = 150;
    pub const END: u8 = 255;
}

/// Bits of the overload option: which fields hold options too.
pub const OVERLOAD_FILE: u8 = 1;
pub const OVERLOAD_SNAME: u8 = 2;

/// The fixed part. Addresses in wire order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    pub op: u8,
    pub htype: u8,
    pub hlen: u8,
    pub hops: u8,
    pub xid: U32,
    pub secs: U16,
    pub flags: U16,
    /// What the client has and answers ARP for.
    pub ciaddr: [u8; 4],
    /// What it is given.
    pub yiaddr: [u8; 4],
    pub siaddr: [u8; 4],
    /// The relay's; zero: there is none.
    pub giaddr: [u8; 4],
    pub chaddr: [u8; 16],
    pub sname: [u8; 64],
    pub file: [u8; 128],
    pub cookie: U32,
}

impl Header {
    /// A client's message of DHCP, over Ethernet.
    pub fn is_ethernet_request(&self) -> bool {
        let cookie = self.cookie.get() == COOKIE;
        cookie && self.op == OP_REQUEST && self.htype == HTYPE_ETHERNET && self.hlen == 6
    }

    /// Of [`Header::is_ethernet_request`].
    pub fn client_mac(&self) -> crate::MacAddr {
        let [a, b, c, d, e, f, ..] = self.chaddr;
        crate::MacAddr([a, b, c, d, e, f])
    }
}

/// An option is longer than what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

/// Options one after the other, without padding, up to the end mark or the last byte.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn split(&self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (&code, rest) = self.rest.split_first()?;
        let (&len, rest) = rest.split_first()?;
        let (value, rest) = rest.split_at_checked(usize::from(len))?;
        Some((code, value, rest))
    }
}

/// Code and value. Nothing follows an error.
impl<'a> Iterator for Options<'a> {
    type Item = Result<(u8, &'a [u8]), Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((&option::PAD, rest)) = self.rest.split_first() {
            self.rest = rest;
        }
        if matches!(self.rest.first(), None | Some(&option::END)) {
            return None;
        }
        let Some((code, value, rest)) = self.split() else {
            self.rest = &[];
            return Some(Err(Truncated));
        };
        self.rest = rest;
        Some(Ok((code, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn options_end_at_the_mark_and_padding_is_none() {
        let bytes = [0, 53, 1, 1, 0, 0, 12, 0, 255, 50, 4, 1, 2, 3, 4];
        let options: Vec<_> = Options::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(options, [(53, &[1][..]), (12, &[][..])]);
    }

    #[test]
    fn an_option_that_is_cut_at_any_place_is_an_error() {
        let bytes = [53, 1, 1, 50, 4, 1, 2, 3, 4];
        for len in 4..bytes.len() {
            let read: Vec<_> = Options::new(&bytes[..len]).collect();
            assert_eq!(read, [Ok((53, &[1][..])), Err(Truncated)], "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn round_trip(wire: [u8; LEN]) {
            prop_assert_eq!(crate::bytes::<_, LEN>(crate::view::<Header, LEN>(wire)), wire);
        }

        /// Goal: options that were read are those that were written. Method: write what was read of random bytes.
        #[test]
        fn what_is_read_can_be_written(bytes: Vec<u8>) {
            let read: Vec<_> = Options::new(&bytes).map_while(Result::ok).collect();
            let mut written = Vec::new();
            for (code, value) in &read {
                written.extend([*code, value.len() as u8]);
                written.extend(*value);
            }
            prop_assert_eq!(Options::new(&written).map_while(Result::ok).collect::<Vec<_>>(), read);
        }
    }
}

//! Messages of the Port Control Protocol (RFC 6887 §7 and §11.1): a request out of its bytes, an answer into bytes.

use packet::{U16, U32};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub(crate) const VERSION: u8 = 2;
/// Of the second byte: an answer.
const RESPONSE: u8 = 0x80;
/// RFC 6887 §7: longer ones are not for anybody.
const LEN_MAX: usize = 1100;
const HEADER_LEN: usize = size_of::<RequestHeader>();
const MAP_LEN: usize = size_of::<MapBody>();

const OPTION_THIRD_PARTY: u8 = 1;
const OPTION_PREFER_FAILURE: u8 = 2;
/// An option that may be passed over (§7.3).
const OPTION_OPTIONAL: u8 = 0x80;
const OPTION_HEADER_LEN: usize = 4;

/// Names a mapping to its client (§11.1).
pub type Nonce = [u8; 12];

/// Result codes (§7.4); those that are never sent are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    Success = 0,
    UnsupportedVersion = 1,
    NotAuthorized = 2,
    MalformedRequest = 3,
    UnsupportedOpcode = 4,
    UnsupportedOption = 5,
    MalformedOption = 6,
    NoResources = 8,
    UnsupportedProtocol = 9,
    QuotaExceeded = 10,
    CannotProvideExternal = 11,
    AddressMismatch = 12,
}

impl Code {
    /// For counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::UnsupportedVersion => "unsupported-version",
            Self::NotAuthorized => "not-authorized",
            Self::MalformedRequest => "malformed-request",
            Self::UnsupportedOpcode => "unsupported-opcode",
            Self::UnsupportedOption => "unsupported-option",
            Self::MalformedOption => "malformed-option",
            Self::NoResources => "no-resources",
            Self::UnsupportedProtocol => "unsupported-protocol",
            Self::QuotaExceeded => "quota-exceeded",
            Self::CannotProvideExternal => "cannot-provide-external",
            Self::AddressMismatch => "address-mismatch",
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, KnownLayout, Unaligned)]
struct RequestHeader {
    version: u8,
    opcode: u8,
    reserved: [u8; 2],
    lifetime_s: U32,
    client: [u8; 16],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, IntoBytes, Immutable, Unaligned)]
struct ResponseHeader {
    version: u8,
    opcode: u8,
    reserved: u8,
    code: u8,
    lifetime_s: U32,
    epoch_s: U32,
    reserved_end: [u8; 12],
}

/// §11.1, of request and answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct MapBody {
    nonce: Nonce,
    protocol: u8,
    reserved: [u8; 3],
    internal_port: U16,
    external_port: U16,
    external_address: [u8; 16],
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Announce,
    Map(Map),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) nonce: Nonce,
    /// 0: all.
    pub(crate) protocol: u8,
    /// 0: all.
    pub(crate) port: u16,
    /// 0: it is to end.
    pub(crate) lifetime_s: u32,
    /// The external endpoint it would like; what it does not care for is zero.
    pub(crate) wanted: SocketAddrV4,
    /// Another endpoint is none (PREFER_FAILURE, §13.2).
    pub(crate) exact: bool,
}

/// Whether the bytes are a request of any version; anything else is not answered (§8.2).
pub(crate) fn is_request(bytes: &[u8]) -> bool {
    matches!(bytes, [_, opcode, ..] if opcode & RESPONSE == 0)
}

/// A request of this version.
///
/// # Errors
/// The code to answer with.
pub(crate) fn read(bytes: &[u8], client: Ipv4Addr) -> Result<Request, Code> {
    if bytes.first() != Some(&VERSION) {
        return Err(Code::UnsupportedVersion);
    }
    if bytes.len() > LEN_MAX || !bytes.len().is_multiple_of(4) {
        return Err(Code::MalformedRequest);
    }
    let header: RequestHeader = packet::read(bytes, 0).ok_or(Code::MalformedRequest)?;
    if header.opcode > Opcode::MAP {
        return Err(Code::UnsupportedOpcode);
    }
    if Ipv6Addr::from(header.client) != client.to_ipv6_mapped() {
        return Err(Code::AddressMismatch);
    }
    if header.opcode == Opcode::ANNOUNCE {
        options(bytes.get(HEADER_LEN..).unwrap_or_default(), false)?;
        return Ok(Request::Announce);
    }
    let body: MapBody = packet::read(bytes, HEADER_LEN).ok_or(Code::MalformedRequest)?;
    let exact = options(bytes.get(HEADER_LEN + MAP_LEN..).unwrap_or_default(), true)?;
    // Another family's address is no wish that could be met.
    let address = Ipv6Addr::from(body.external_address).to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED);
    Ok(Request::Map(Map {
        nonce: body.nonce,
        protocol: body.protocol,
        port: body.internal_port.get(),
        lifetime_s: header.lifetime_s.get(),
        wanted: SocketAddrV4::new(address, body.external_port.get()),
        exact,
    }))
}

struct Opcode;

impl Opcode {
    const ANNOUNCE: u8 = 0;
    const MAP: u8 = 1;
}

/// Whether PREFER_FAILURE is among the options. THIRD_PARTY is of nobody's here: a VM speaks for itself. FILTER would
/// say again what security groups say.
fn options(mut rest: &[u8], of_map: bool) -> Result<bool, Code> {
    let mut exact = false;
    while let Some((&[code, _, high, low], behind)) = rest.split_first_chunk::<OPTION_HEADER_LEN>() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        rest = behind.get(len.next_multiple_of(4)..).ok_or(Code::MalformedOption)?;
        match code {
            OPTION_PREFER_FAILURE if len != 0 || exact || !of_map => return Err(Code::MalformedOption),
            OPTION_PREFER_FAILURE => exact = true,
            OPTION_THIRD_PARTY => return Err(Code::UnsupportedOption),
            _ if code & OPTION_OPTIONAL == 0 => return Err(Code::UnsupportedOption),
            _ => {}
        }
    }
    if rest.is_empty() { Ok(exact) } else { Err(Code::MalformedOption) }
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: Code,
    /// Of the mapping; of an error, how long it will be the same.
    pub(crate) lifetime_s: u32,
    pub(crate) epoch_s: u32,
    /// Where the mapping leads from.
    pub(crate) external: Option<SocketAddrV4>,
}

impl Answer {
    /// The bytes that answer `request`: what it says beside is told back, as far as this version knows it (§8.3).
    pub(crate) fn bytes(&self, request: &[u8]) -> Vec<u8> {
        let opcode = request.get(1).copied().unwrap_or_default();
        let header = ResponseHeader {
            version: VERSION,
            opcode: opcode | RESPONSE,
            reserved: 0,
            code: self.code as u8,
            lifetime_s: U32::new(self.lifetime_s),
            epoch_s: U32::new(self.epoch_s),
            reserved_end: [0; 12],
        };
        let mut bytes = header.as_bytes().to_vec();
        if self.code == Code::UnsupportedVersion {
            return bytes;
        }
        let mut behind = request.get(HEADER_LEN..request.len().min(LEN_MAX)).unwrap_or_default().to_vec();
        if let Some(external) = self.external
            && let Some((body, _)) = behind.split_at_mut_checked(MAP_LEN)
            && let Ok(mut said) = MapBody::read_from_bytes(body)
        {
            said.external_port = U16::new(external.port());
            said.external_address = external.ip().to_ipv6_mapped().octets();
            body.copy_from_slice(said.as_bytes());
        }
        behind.resize(behind.len().next_multiple_of(4), 0);
        bytes.extend(behind);
        bytes
    }
}

/// The answer to NAT-PMP (RFC 6886 §3.5), which has version 0: not that one.
pub(crate) fn not_nat_pmp(request: &[u8], epoch_s: u32) -> Vec<u8> {
    let opcode = request.get(1).copied().unwrap_or_default();
    [&[0, opcode | RESPONSE, 0, Code::UnsupportedVersion as u8][..], &epoch_s.to_be_bytes()].concat()
}

//! Bidirectional Forwarding Detection (RFC 5880, RFC 5881): is a host there, within milliseconds.
//!
//! Sans-IO: a [`Session`] is told the time, the packets that came and what the local system thinks of
//! itself, and says which packets to send and when to be asked again. Asynchronous mode only, without
//! authentication, echo or demand mode. Sockets, threads and who the peers are live with the caller; so does
//! the check of the TTL (RFC 5881 §5: 255) and of the sender's address.

mod packet;
mod session;

pub use packet::{Control, Diagnostic, MalformedControl, State};
pub use session::{Change, Session, Settings, Transmit};

/// UDP destination port of single-hop control packets (RFC 5881 §4).
pub const PORT: u16 = 3784;
/// First of the source ports that RFC 5881 §4 allows; the last is 65535.
pub const SOURCE_PORT_FIRST: u16 = 49152;
/// TTL of every control packet, checked on receipt (RFC 5881 §5, RFC 5082).
pub const TTL: u8 = 255;

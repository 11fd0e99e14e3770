//! The kernel's networking objects: namespaces, links, addresses, routes, neighbours, raw sockets, taps.
//!
//! The only crate that speaks rtnetlink and ioctl. It knows nothing of Nanboku: no port, no VNI, no router.
//! Everything that belongs to a namespace says which one: a [`Links`] handle stays in the namespace its
//! socket was opened in, and [`Netns::run`] is the only way to do something elsewhere.

mod datagram;
mod error;
mod ip_socket;
mod links;
mod netns;
mod offload;
mod packet_socket;
mod realtime;
mod tap;
mod watch;

pub use datagram::send_without_checksum;
pub use error::Error;
pub use ip_socket::IpSocket;
pub use links::{Link, Links, Route, TunnelDevice, TunnelKind, Veth, VethPeer};
pub use netns::Netns;
pub use offload::{Offloads, set_offloads};
pub use packet::ethernet::MacAddr;
pub use packet_socket::{PacketSocket, Received};
pub use realtime::realtime_thread;
pub use tap::{Tap, TapOptions, VNET_HDR_LEN};
pub use watch::{LinkEvent, LinkWatch};

//! The host build's surroundings: frames in vectors and tables in maps, with the semantics of the BPF
//! helpers. For tests, fuzzing, the simulator and the trace; never in the packet path of a host.

mod frame;
mod recorder;
mod source;
mod tables;

pub use frame::Frame;
pub use recorder::{Changes, Look, Recorder, State, Step};
pub use source::Source;
pub use tables::HostTables;

use crate::address::Address;
use crate::session::Path;
use crate::tables::Config;
use crate::tunnel;
use crate::walk::Work;
use packet::ethernet;

/// The packet on the underlay that carries a frame to a host, on the network `vni`, from its outer IPv4 header; none: it
/// is no frame.
pub fn encapsulate(config: &Config, (vni, vtep): (u32, Address), mut frame: Vec<u8>) -> Option<Vec<u8>> {
    let header: ethernet::Header = packet::read(&frame, 0)?;
    let mut work = Box::new(Work::zeroed());
    work.config = *config;
    work.headers.ethertype = header.ethertype.get();
    work.path = Path {
        vni,
        vtep,
        dst_mac: header.dst,
        src_mac: header.src,
        source_port: tunnel::SOURCE_PORT_FIRST,
        ..Path::default()
    };
    // There is room in IP packets only, as in the kernel; the true type comes with the outer headers.
    frame.get_mut(12..ethernet::LEN)?.copy_from_slice(&ethernet::TYPE_IPV4.to_be_bytes());
    let mut frame = Frame::new(frame);
    tunnel::push(&mut frame, &work).ok()?;
    frame.bytes.get(ethernet::LEN..).map(<[u8]>::to_vec)
}

//! Offloads of a link, by the ethtool ioctls every kernel has; and the one ioctl that sets a link up.
//!
//! The calls act in the namespace of the calling thread: wrap them in `Netns::run`.

use crate::Error;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_SRXCSUM: u32 = 0x15;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_SGSO: u32 = 0x24;
const ETHTOOL_SGRO: u32 = 0x2c;

/// Which offloads are to be on. Turning the transmit checksum off takes segmentation of TCP with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    pub rx_checksum: bool,
    pub tx_checksum: bool,
    pub tso: bool,
    pub gso: bool,
    pub gro: bool,
}

impl Offloads {
    pub const ON: Self = Self { rx_checksum: true, tx_checksum: true, tso: true, gso: true, gro: true };
    /// A tunnel device's: the NIC's receive offload, by the tunnel's socket, has merged what can be merged, and a second
    /// attempt only costs.
    pub const TUNNEL: Self = Self { gro: false, ..Self::ON };
    pub const OFF: Self = Self { rx_checksum: false, tx_checksum: false, tso: false, gso: false, gro: false };
}

/// Sets a link's offloads. What the link can't switch (`EOPNOTSUPP`) is left as it is.
pub fn set_offloads(link: &str, offloads: Offloads) -> Result<(), Error> {
    let fail = |source| Error::link("set offloads of", link, source);
    let socket = control_socket().map_err(fail)?;
    let wanted = [
        (ETHTOOL_SRXCSUM, offloads.rx_checksum),
        (ETHTOOL_STXCSUM, offloads.tx_checksum),
        (ETHTOOL_STSO, offloads.tso),
        (ETHTOOL_SGSO, offloads.gso),
        (ETHTOOL_SGRO, offloads.gro),
    ];
    for (command, on) in wanted {
        match ethtool(&socket, link, command, u32::from(on)) {
            Err(error) if error.raw_os_error() != Some(libc::EOPNOTSUPP) => return Err(fail(error)),
            _ => {}
        }
    }
    Ok(())
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

fn ethtool(socket: &OwnedFd, link: &str, command: u32, data: u32) -> io::Result<()> {
    let mut value = EthtoolValue { command, data };
    let mut request = request(link)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the kernel reads `request` and the eight bytes of `value` behind its pointer; both outlive the
    // call, and the socket is open.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets `IFF_UP` in the calling thread's namespace without an async runtime.
pub(crate) fn set_flags_up(link: &str) -> io::Result<()> {
    let socket = control_socket()?;
    let mut request = request(link)?;
    // SAFETY: SIOCGIFFLAGS fills `ifru_flags` of the request, which is ours and initialised.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the flags were written by the call above; the union field is plain data.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: SIOCSIFFLAGS only reads the request.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a negative answer is checked before the descriptor is owned.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just returned to us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An `ifreq` with the link's name; the kernel wants it shorter than 16 bytes with a zero at the end.
pub(crate) fn request(link: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain data, all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if link.is_empty() || link.len() >= libc::IFNAMSIZ {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a link name has 1 to 15 bytes"));
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *slot = byte as libc::c_char;
    }
    Ok(request)
}

//! Whole IPv4 packets, headers and all, that the kernel routes and whose neighbour it finds.

use crate::Error;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A raw IPv4 socket (`IPPROTO_RAW`) that only sends.
#[derive(Debug)]
pub struct IpSocket {
    fd: OwnedFd,
}

impl IpSocket {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers; a negative answer is checked before the descriptor is owned.
        let fd = unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_RAW) };
        if fd < 0 {
            return Err(failed("open", io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just returned to us and nobody else has it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Sends a packet that begins with its IPv4 header to the header's destination. The kernel fills in the header's
    /// checksum.
    pub fn send(&self, packet: &[u8]) -> Result<(), Error> {
        let destination = packet.get(16..20).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let Some(destination) = destination else {
            return Err(failed("send on", io::ErrorKind::InvalidInput.into()));
        };
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(destination) },
            sin_zero: [0; 8],
        };
        // SAFETY: the packet and the address outlive the call; both lengths are their own.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_in>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(failed("send on", io::Error::last_os_error())) } else { Ok(()) }
    }
}

fn failed(operation: &'static str, source: io::Error) -> Error {
    Error::IpSocket { operation, source }
}

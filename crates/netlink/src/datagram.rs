//! UDP sockets that send without a checksum.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Makes a socket send datagrams with checksum 0, as tunnels over IPv4 do (RFC 7348 §5, RFC 8926 §3.3).
///
/// # Errors
/// The kernel's.
pub fn send_without_checksum(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads the length given of a local that outlives the call; the descriptor is open.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

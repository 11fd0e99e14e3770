//! Raw frames on a link (AF_PACKET): sending ready-made frames, and seeing what passes.

use crate::Error;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A packet socket. Without [`PacketSocket::listen`] it only sends and no frame is ever queued to it.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

/// One frame seen by a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the frame in the caller's buffer; a longer frame is cut to the buffer.
    pub len: usize,
    /// The 802.1Q tag (priority, DEI and VLAN id), which the kernel takes out of the frame.
    pub vlan_tci: Option<u16>,
    /// True for a frame the machine itself sent on the link.
    pub outgoing: bool,
}

impl PacketSocket {
    /// Opens a socket in the calling thread's namespace that only sends.
    pub fn open() -> Result<Self, Error> {
        let fail = |source| Error::PacketSocket { operation: "open", ifindex: 0, source };
        // SAFETY: no pointers; a negative answer is checked before the descriptor is owned.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(fail(io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just returned to us and nobody else has it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Starts receiving every frame of one link, both directions. `timeout` bounds each [`Self::receive`].
    pub fn listen(&self, ifindex: u32, timeout: Duration) -> Result<(), Error> {
        self.listen_for(ifindex, libc::ETH_P_ALL as u16, timeout)
    }

    /// As [`Self::listen`], for one Ethernet type only. Frames that the machine itself sends are not among them.
    pub fn listen_for(&self, ifindex: u32, ether_type: u16, timeout: Duration) -> Result<(), Error> {
        let fail = |source| Error::PacketSocket { operation: "listen on", ifindex, source };
        self.set_option(libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32).map_err(fail)?;
        let time = libc::timeval {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_usec: libc::suseconds_t::from(timeout.subsec_micros()),
        };
        self.set_option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &time).map_err(fail)?;
        let address = link_address(ifindex, ether_type, &[]);
        // SAFETY: the address is ours, initialised, and its length is its type's.
        let answer = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        check(answer as isize).map(drop).map_err(fail)
    }

    /// Sends one whole Ethernet frame out of a link.
    pub fn send(&self, ifindex: u32, frame: &[u8]) -> Result<(), Error> {
        let address = link_address(ifindex, 0, frame.get(..6).unwrap_or_default());
        // SAFETY: the frame and the address outlive the call; both lengths are their own.
        let answer = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        check(answer).map(drop).map_err(|source| Error::PacketSocket {
            operation: "send on",
            ifindex,
            source,
        })
    }

    /// Waits for the next frame. `None` when the time given to [`Self::listen`] has passed without one.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: `sockaddr_ll` and `msghdr` are plain data, all zeroes is a valid value of both.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut control = [0u64; 8];
        // SAFETY: as above.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &raw mut slice;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: every pointer of the message refers to a local that outlives the call, with its length.
        let answer = check(unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, 0) });
        match answer {
            Ok(len) => Ok(Some(Received {
                len: len as usize,
                vlan_tci: vlan_of(&message),
                outgoing: from.sll_pkttype == libc::PACKET_OUTGOING,
            })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn set_option<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel reads `length` bytes of `value`, which is a live reference.
        let answer = unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length)
        };
        check(answer as isize).map(drop)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn link_address(ifindex: u32, protocol: u16, destination: &[u8]) -> libc::sockaddr_ll {
    // SAFETY: `sockaddr_ll` is plain data, all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex as i32;
    address.sll_halen = destination.len() as u8;
    for (slot, octet) in address.sll_addr.iter_mut().zip(destination) {
        *slot = *octet;
    }
    address
}

/// The tag in the auxiliary data, if the kernel says that it is valid.
fn vlan_of(message: &libc::msghdr) -> Option<u16> {
    // SAFETY: `message` was filled by `recvmsg`, so its control buffer is well formed and still alive.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, and inside the control buffer as the CMSG functions promise.
        let current = unsafe { &*header };
        if current.cmsg_level == libc::SOL_PACKET && current.cmsg_type == libc::PACKET_AUXDATA {
            // SAFETY: the kernel wrote a whole `tpacket_auxdata` there; it may be unaligned.
            let data: libc::tpacket_auxdata =
                unsafe { std::ptr::read_unaligned(libc::CMSG_DATA(header).cast()) };
            return (data.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then_some(data.tp_vlan_tci);
        }
        // SAFETY: `header` is a header of this message.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

fn check(answer: isize) -> io::Result<isize> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

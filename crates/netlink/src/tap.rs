//! Tap devices: frames between the kernel and a process, with the virtio-net header in front if asked for.

use crate::Error;
use crate::offload::request;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
const IFF_TAP: libc::c_short = 0x0002;
const IFF_NO_PI: libc::c_short = 0x1000;
const IFF_VNET_HDR: libc::c_short = 0x4000;
const TUN_F_CSUM: libc::c_uint = 0x01;
const TUN_F_TSO4: libc::c_uint = 0x02;
const TUN_F_TSO6: libc::c_uint = 0x04;
const TUN_F_TSO_ECN: libc::c_uint = 0x08;
const TUN_F_USO4: libc::c_uint = 0x20;
const TUN_F_USO6: libc::c_uint = 0x40;

/// Bytes of `struct virtio_net_hdr_v1` in front of every frame of a tap with `vnet_hdr`.
pub const VNET_HDR_LEN: usize = 12;

/// How a tap is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct TapOptions {
    /// Every frame carries a virtio-net header: checksums may be partial, TCP and UDP may be unsegmented.
    pub vnet_hdr: bool,
    /// Tell the kernel that this end takes partial checksums and super-packets. Needs `vnet_hdr`.
    pub offloads: bool,
}

/// An open tap. The link lives as long as the value, in the namespace where it was opened or moved to.
#[derive(Debug)]
pub struct Tap {
    name: String,
    file: File,
}

impl Tap {
    /// Makes (or attaches to) the tap `name` in the calling thread's namespace. Cost: some system calls.
    pub fn open(name: &str, options: TapOptions) -> Result<Self, Error> {
        open(name, options)
            .map(|file| Self { name: name.to_owned(), file })
            .map_err(|source| Error::link("open tap", name, source))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads one frame, with its header if there is one; blocks until there is a frame.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes one frame, with its header if there is one.
    pub fn write(&self, frame: &[u8]) -> io::Result<usize> {
        (&self.file).write(frame)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(name: &str, options: TapOptions) -> io::Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = request(name)?;
    let vnet_hdr = if options.vnet_hdr { IFF_VNET_HDR } else { 0 };
    request.ifr_ifru.ifru_flags = IFF_TAP | IFF_NO_PI | vnet_hdr;
    // SAFETY: TUNSETIFF reads and writes the `ifreq`, which is ours and initialised.
    check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    if options.vnet_hdr {
        let length = VNET_HDR_LEN as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one int behind the pointer.
        check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &raw const length) })?;
        set_offloads(&file, options.offloads)?;
    }
    Ok(file)
}

/// Offers segmentation of UDP too, and goes without where the kernel does not know it (before 6.2).
fn set_offloads(file: &File, on: bool) -> io::Result<()> {
    let tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    let offer = |flags: libc::c_uint| {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, libc::c_ulong::from(flags)) })
    };
    if !on {
        return offer(0);
    }
    match offer(tcp | TUN_F_USO4 | TUN_F_USO6) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => offer(tcp),
        other => other,
    }
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

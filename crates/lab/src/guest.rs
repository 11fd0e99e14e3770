//! The network card of a tap VM: a process that carries frames between a tap on the host and a tap in the VM's
//! namespace, with their virtio-net headers untouched, so that checksums stay partial and super-packets whole.

use anyhow::Context as _;
use netlink::{Netns, Tap, TapOptions, VNET_HDR_LEN};
use std::io;

/// Largest frame: a 64 KiB packet, its Ethernet header with a tag, and the virtio-net header.
const FRAME_LEN_MAX: usize = VNET_HDR_LEN + 18 + 65536;

/// What `nanboku lab guest` is told. It runs inside the VM's namespace.
#[derive(Clone, Debug)]
pub struct GuestArgs {
    pub host_netns: String,
    pub host_link: String,
    pub guest_link: String,
    pub offloads: bool,
}

impl GuestArgs {
    /// The arguments of this executable that lead to [`run`] with these values.
    pub(crate) fn command_line(&self) -> Vec<String> {
        let mut args = vec!["lab".to_owned(), "guest".to_owned()];
        let pairs = [
            ("--host-netns", &self.host_netns),
            ("--host-link", &self.host_link),
            ("--guest-link", &self.guest_link),
        ];
        args.extend(pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value.clone()]));
        if !self.offloads {
            args.push("--no-offloads".to_owned());
        }
        args
    }
}

/// Carries frames until one of the taps is gone.
///
/// # Errors
/// What opening or reading a tap failed with.
pub fn run(args: &GuestArgs) -> anyhow::Result<()> {
    let options = TapOptions { vnet_hdr: true, offloads: args.offloads };
    let host_netns = Netns::open(&args.host_netns)?;
    let guest = Tap::open(&args.guest_link, options)?;
    let host = host_netns.run(|| Tap::open(&args.host_link, options))??;
    std::thread::scope(|scope| {
        let outward = scope.spawn(|| carry(&guest, &host));
        let inward = carry(&host, &guest);
        // The scope waits for the other direction, which ends with the namespace or the process.
        drop(outward);
        inward
    })
    .with_context(|| format!("carrying frames between {} and {}", args.host_link, args.guest_link))
}

/// One direction. A frame that the other side refuses (its link is down, its queue is full) is lost, as on a wire.
fn carry(from: &Tap, to: &Tap) -> io::Result<()> {
    let mut buffer = vec![0; FRAME_LEN_MAX];
    loop {
        let len = match from.read(&mut buffer) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if let Err(error) = to.write(&buffer[..len]) {
            tracing::trace!(%error, len, "frame lost");
        }
    }
}

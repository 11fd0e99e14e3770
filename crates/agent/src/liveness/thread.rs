//! The thread that runs the sessions: two UDP sockets in the namespace of whoever starts it.
//!
//! One socket takes what comes to port 3784 of the tunnel address, with its TTL; one sends, from a port that
//! RFC 5881 §4 allows. All sessions share the sending port: peers tell them apart by address and discriminator.
//! VMs cannot reach the receiving socket: their packets never enter the host's own stack, and a packet that a
//! router of a VPC sent on has lost its TTL of 255.

use super::peers::Peers;
use super::{Timing, Wanted};
use model::HostId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt::Ipv4RecvTtl,
};
use std::collections::BTreeSet;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A change of what is wanted, and the end of the agent, are seen within this time.
const TURN_MAX: Duration = Duration::from_millis(20);
/// Sockets that cannot be opened are tried again after this.
const RETRY: Duration = Duration::from_millis(500);
/// Packets taken before the timers get their turn.
const PACKETS_PER_TURN: usize = 256;
/// Source ports tried before giving up for this time.
const PORTS_TRIED: u16 = 64;
/// A control packet without authentication has 24 bytes; longer ones are cut and refused.
const PACKET_LEN_MAX: usize = 128;

/// The main loop's end. When it is dropped the thread ends.
pub(crate) struct Liveness {
    wanted: watch::Sender<Wanted>,
    dead: watch::Receiver<BTreeSet<HostId>>,
}

impl Liveness {
    pub(crate) fn want(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|old| {
            let changed = *old != wanted;
            *old = wanted;
            changed
        });
    }

    /// For the main loop to wait on.
    pub(crate) fn dead(&self) -> watch::Receiver<BTreeSet<HostId>> {
        self.dead.clone()
    }
}

/// Starts the thread in the calling thread's network namespace.
///
/// # Errors
/// No thread could be started.
pub(crate) fn start(vtep: Ipv4Addr, timing: Timing) -> io::Result<Liveness> {
    let (wanted, wanted_receiver) = watch::channel(Wanted::default());
    let (dead_sender, dead) = watch::channel(BTreeSet::new());
    let runner =
        Runner { vtep, peers: Peers::new(timing), wanted: wanted_receiver, dead: dead_sender, refused: 0 };
    std::thread::Builder::new().name("bfd".to_owned()).spawn(move || runner.run())?;
    Ok(Liveness { wanted, dead })
}

struct Runner {
    vtep: Ipv4Addr,
    peers: Peers,
    wanted: watch::Receiver<Wanted>,
    dead: watch::Sender<BTreeSet<HostId>>,
    /// As last logged.
    refused: u64,
}

struct Sockets {
    receive: UdpSocket,
    send: UdpSocket,
}

impl Runner {
    fn run(mut self) {
        if let Err(error) = netlink::realtime_thread() {
            tracing::debug!(error = crate::chain(&error), "liveness runs at normal priority");
        }
        let start = Instant::now();
        let mut told = false;
        // An error means that the agent ended.
        while self.wanted.has_changed().is_ok() {
            match Sockets::open(self.vtep) {
                Ok(sockets) => return self.turns(&sockets, start),
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(
                        error = crate::chain(&error),
                        "no liveness between hosts yet; trying again"
                    );
                }
                Err(_) => {}
            }
            std::thread::sleep(RETRY);
        }
    }

    fn turns(&mut self, sockets: &Sockets, start: Instant) {
        loop {
            match self.wanted.has_changed() {
                Ok(true) => {
                    let wanted = self.wanted.borrow_and_update().clone();
                    self.peers.set_wanted(wanted, start.elapsed(), rand::random);
                }
                Ok(false) => {}
                Err(_) => return,
            }
            self.receive(sockets, start);
            for (address, control) in self.peers.poll(start.elapsed(), rand::random) {
                // One that is not sent is as good as lost on the way, which the protocol expects.
                drop(sockets.send.send_to(&control.emit(), SocketAddrV4::new(address, bfd::PORT)));
            }
            self.publish();
            let due = self.peers.next().map(|next| next.saturating_sub(start.elapsed()));
            sockets.wait(due.unwrap_or(TURN_MAX).min(TURN_MAX));
        }
    }

    fn receive(&mut self, sockets: &Sockets, start: Instant) {
        for _ in 0..PACKETS_PER_TURN {
            let mut buffer = [0; PACKET_LEN_MAX];
            let Some((from, ttl, len)) = sockets.next(&mut buffer) else { return };
            let payload = buffer.get(..len).unwrap_or_default();
            self.peers.receive(from, ttl, payload, start.elapsed());
        }
    }

    fn publish(&mut self) {
        let dead = self.peers.dead();
        self.dead.send_if_modified(|published| {
            let changed = *published != dead;
            if changed {
                tracing::info!(dead = ?dead, "hosts that are no gateways");
                *published = dead;
            }
            changed
        });
        if self.refused == 0 && self.peers.refused > 0 {
            tracing::warn!(
                "a BFD packet from no known host, malformed, or from more than one hop away was refused"
            );
        }
        self.refused = self.peers.refused;
    }
}

impl Sockets {
    fn open(vtep: Ipv4Addr) -> io::Result<Self> {
        let receive = UdpSocket::bind(SocketAddrV4::new(vtep, bfd::PORT))?;
        receive.set_nonblocking(true)?;
        setsockopt(&receive, Ipv4RecvTtl, &true)?;
        let first: u16 = rand::random_range(bfd::SOURCE_PORT_FIRST..=u16::MAX - PORTS_TRIED);
        let send = (first..first + PORTS_TRIED)
            .find_map(|port| UdpSocket::bind(SocketAddrV4::new(vtep, port)).ok())
            .ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))?;
        send.set_nonblocking(true)?;
        send.set_ttl(u32::from(bfd::TTL))?;
        Ok(Self { receive, send })
    }

    fn wait(&self, time: Duration) {
        // Rounded up: a wait that ends early would spin.
        let ms = u16::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(self.receive.as_fd(), PollFlags::POLLIN)];
        // Interrupted or not: the turn that follows looks at everything.
        let _ = poll(&mut fds, PollTimeout::from(ms));
    }

    /// The next packet's sender, TTL and length.
    fn next(&self, buffer: &mut [u8]) -> Option<(Ipv4Addr, u8, usize)> {
        let mut control = nix::cmsg_space!(i32);
        let mut slices = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrIn>(self.receive.as_raw_fd(), &mut slices, Some(&mut control), flags).ok()?;
        let ttl = message.cmsgs().ok()?.find_map(|message| match message {
            ControlMessageOwned::Ipv4Ttl(ttl) => u8::try_from(ttl).ok(),
            _ => None,
        });
        // Without its TTL a packet is refused by the caller.
        Some((message.address?.ip(), ttl.unwrap_or(0), message.bytes))
    }
}

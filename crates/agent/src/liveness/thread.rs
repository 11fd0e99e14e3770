//! The thread that runs the sessions: two UDP sockets in the namespace of whoever starts it.
//!
//! One socket takes what comes to port 3784 of the tunnel address, with its TTL: plainly, or from the program that
//! took the tunnel off. Two send, from ports that RFC 5881 §4 allows: one plainly, one to the peers' tunnel port.
//! All sessions share them: peers tell sessions apart by address and discriminator. VMs cannot reach the receiving
//! socket: their packets never enter the host's own stack, a packet that a router of a VPC sent on has lost its TTL
//! of 255, and none is in the management VNI.

use super::peers::{PeerView, Peers, Refusal};
use super::{Timing, Verdicts, Wanted, envelope};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt::Ipv4RecvTtl,
};
use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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

/// A thread that has not turned for so long is stuck: what it said last is not true any more.
const STALE_AFTER: Duration = Duration::from_secs(2);

/// The main loop's end. When it is dropped the thread ends.
pub(crate) struct Liveness {
    wanted: watch::Sender<Wanted>,
    verdicts: watch::Receiver<Verdicts>,
    views: watch::Receiver<Vec<PeerView>>,
    shared: Arc<Shared>,
    start: Instant,
}

/// What the thread counts.
#[derive(Debug, Default)]
struct Shared {
    refused: [AtomicU64; Refusal::ALL.len()],
    /// Milliseconds from the start to the latest turn.
    turned_ms: AtomicU64,
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
    pub(crate) fn verdicts(&self) -> watch::Receiver<Verdicts> {
        self.verdicts.clone()
    }

    /// Every session, with its age; none if the thread stands still, because nobody knows then.
    pub(crate) fn views(&self) -> Option<Vec<(PeerView, Duration)>> {
        let now = self.start.elapsed();
        let turned = Duration::from_millis(self.shared.turned_ms.load(Relaxed));
        let fresh = now.saturating_sub(turned) < STALE_AFTER;
        let views = self.views.borrow();
        let aged = views.iter().map(|view| (view.clone(), now.saturating_sub(view.since)));
        fresh.then(|| aged.collect())
    }

    /// Control packets that were not taken, by reason: `bfd.refused.ttl`.
    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        let count = |refusal: Refusal| {
            let count = self.shared.refused[refusal as usize].load(Relaxed);
            (format!("bfd.refused.{}", refusal.name()), count)
        };
        Refusal::ALL.into_iter().map(count).filter(|(_, count)| *count != 0).collect()
    }
}

/// Starts the thread in the calling thread's network namespace.
///
/// # Errors
/// No thread could be started.
pub(crate) fn start(vtep: Ipv4Addr, timing: Timing) -> io::Result<Liveness> {
    let (wanted, wanted_receiver) = watch::channel(Wanted::default());
    let (verdicts_sender, verdicts) = watch::channel(Verdicts::default());
    let (views_sender, views) = watch::channel(Vec::new());
    let (shared, start) = (Arc::new(Shared::default()), Instant::now());
    let runner = Runner {
        vtep,
        start,
        peers: Peers::new(timing),
        wanted: wanted_receiver,
        now_wanted: Wanted::default(),
        verdicts: verdicts_sender,
        views: views_sender,
        shared: shared.clone(),
    };
    std::thread::Builder::new().name("bfd".to_owned()).spawn(move || runner.run())?;
    Ok(Liveness { wanted, verdicts, views, shared, start })
}

struct Runner {
    vtep: Ipv4Addr,
    start: Instant,
    peers: Peers,
    wanted: watch::Receiver<Wanted>,
    now_wanted: Wanted,
    verdicts: watch::Sender<Verdicts>,
    views: watch::Sender<Vec<PeerView>>,
    shared: Arc<Shared>,
}

struct Sockets {
    receive: UdpSocket,
    plain: UdpSocket,
    /// Sends without a checksum.
    tunnel: UdpSocket,
    tunnel_port: u16,
}

impl Runner {
    fn run(mut self) {
        if let Err(error) = netlink::realtime_thread() {
            tracing::debug!(error = crate::chain(&error), "liveness runs at normal priority");
        }
        let mut told = false;
        // An error means that the agent ended.
        while self.wanted.has_changed().is_ok() {
            match Sockets::open(self.vtep) {
                Ok(sockets) => return self.turns(&sockets),
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

    fn turns(&mut self, sockets: &Sockets) {
        loop {
            match self.wanted.has_changed() {
                Ok(true) => {
                    self.now_wanted = self.wanted.borrow_and_update().clone();
                    self.peers.set_wanted(self.now_wanted.clone(), self.start.elapsed(), rand::random);
                }
                Ok(false) => {}
                Err(_) => return,
            }
            self.receive(sockets);
            for (address, control) in self.peers.poll(self.start.elapsed(), rand::random) {
                self.send(sockets, address, &control.emit());
            }
            self.publish();
            let due = self.peers.next().map(|next| next.saturating_sub(self.start.elapsed()));
            sockets.wait(due.unwrap_or(TURN_MAX).min(TURN_MAX));
        }
    }

    fn receive(&mut self, sockets: &Sockets) {
        for _ in 0..PACKETS_PER_TURN {
            let mut buffer = [0; PACKET_LEN_MAX];
            let Some((from, ttl, len)) = sockets.next(&mut buffer) else { return };
            let payload = buffer.get(..len).unwrap_or_default();
            self.peers.receive(from, ttl, payload, self.start.elapsed());
        }
    }

    /// One that is not sent is as good as lost on the way, which the protocol expects.
    fn send(&self, sockets: &Sockets, to: Ipv4Addr, control: &[u8]) {
        let sent = match self.now_wanted.tunnel {
            None => sockets.plain.send_to(control, SocketAddrV4::new(to, bfd::PORT)),
            Some(tunnel) => {
                let payload = envelope::wrap(tunnel, self.vtep, sockets.tunnel_port, control);
                sockets.tunnel.send_to(&payload, SocketAddrV4::new(to, tunnel.port))
            }
        };
        if let Err(error) = sent {
            tracing::trace!(%to, error = crate::chain(&error), "control packet not sent");
        }
    }

    fn publish(&mut self) {
        let verdicts = self.peers.verdicts();
        self.verdicts.send_if_modified(|published| {
            let changed = *published != verdicts;
            if changed {
                let Verdicts { dead, withdrawn, alone } = &verdicts;
                tracing::info!(?dead, ?withdrawn, alone, "hosts that are no gateways");
                *published = verdicts;
            }
            changed
        });
        let views = self.peers.views();
        self.views.send_if_modified(|published| {
            let changed = *published != views;
            *published = views;
            changed
        });
        for (shared, count) in self.shared.refused.iter().zip(self.peers.refused) {
            if shared.swap(count, Relaxed) == 0 && count > 0 {
                tracing::warn!("BFD packets were refused; their counters are in the status");
            }
        }
        let turned = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.turned_ms.store(turned, Relaxed);
    }
}

impl Sockets {
    fn open(vtep: Ipv4Addr) -> io::Result<Self> {
        let receive = UdpSocket::bind(SocketAddrV4::new(vtep, bfd::PORT))?;
        receive.set_nonblocking(true)?;
        setsockopt(&receive, Ipv4RecvTtl, &true)?;
        let (plain, tunnel) = (sender(vtep)?, sender(vtep)?);
        plain.set_ttl(u32::from(bfd::TTL))?;
        netlink::send_without_checksum(&tunnel)?;
        let tunnel_port = tunnel.local_addr()?.port();
        Ok(Self { receive, plain, tunnel, tunnel_port })
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

/// A socket on one of the source ports.
fn sender(vtep: Ipv4Addr) -> io::Result<UdpSocket> {
    let first: u16 = rand::random_range(bfd::SOURCE_PORT_FIRST..=u16::MAX - PORTS_TRIED);
    let socket = (first..first + PORTS_TRIED)
        .find_map(|port| UdpSocket::bind(SocketAddrV4::new(vtep, port)).ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

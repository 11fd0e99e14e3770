//! Senders and receivers: threads of this process inside the namespaces of two machines.
//!
//! Every figure is taken over a window in the middle of the traffic: it starts after a warm-up and ends
//! before the first sender is told to stop. Nobody waits for ever: sockets have timeouts.

use anyhow::{Context as _, ensure};
use netlink::Netns;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrIn, connect, recvmmsg, sendmmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::unistd::Pid;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

const PORT: u16 = 5201;
const WARM_UP: Duration = Duration::from_millis(100);
/// A blocked call looks at the stop flag this often.
const POLL_MS: i64 = 200;
const POLL: Duration = Duration::from_millis(POLL_MS.unsigned_abs());
/// A client that waits longer has lost its path.
const CLIENT_TIMEOUT_MS: i64 = 3000;
const STREAM_BUFFER_BYTES: usize = 128 * 1024;
/// Messages per sendmmsg and recvmmsg.
const BATCH: usize = 32;
/// UDP payload that makes a 64-byte Ethernet frame.
const SMALL_PAYLOAD_BYTES: usize = 22;
/// What comes in some 50 ms.
const SINK_BUFFER_BYTES: usize = 8 << 20;
const SINK_PAUSE: Duration = Duration::from_millis(1);
const ECHO_BYTES: usize = 5;
const RTT_BYTES: usize = 64;

/// Two machines and the address the server is reached by.
#[derive(Clone, Copy)]
pub(crate) struct Ends<'a> {
    pub(crate) client: &'a Netns,
    pub(crate) server: &'a Netns,
    pub(crate) address: Ipv4Addr,
}

impl Ends<'_> {
    fn socket_address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, PORT)
    }
}

/// What the threads of one measurement share.
#[derive(Default)]
struct Shared {
    /// Clients begin nothing new.
    stop: AtomicBool,
    /// All clients are gone: a server that left before would keep one waiting.
    closed: AtomicBool,
    count: AtomicU64,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Counts per second over the window.
    fn rate(&self, window: Duration) -> f64 {
        thread::sleep(WARM_UP);
        let (before, start) = (self.count.load(Relaxed), Instant::now());
        thread::sleep(window);
        let (after, elapsed) = (self.count.load(Relaxed), start.elapsed());
        after.saturating_sub(before) as f64 / elapsed.as_secs_f64()
    }
}

/// Starts `work` on a thread inside a namespace. Its error ends the measurement.
fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    netns: &'scope Netns,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'scope,
) -> thread::ScopedJoinHandle<'scope, anyhow::Result<T>> {
    scope.spawn(move || {
        netns.enter()?;
        work()
    })
}

fn join<T>(handle: thread::ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Keeps the calling thread on one core, the same for all that ask: with client and server on two, the time a core
/// takes to wake up is added to a path that takes less.
fn stay_on_one_core() -> anyhow::Result<()> {
    let (this_thread, allowed) = (Pid::from_raw(0), sched_getaffinity(Pid::from_raw(0))?);
    let last = (0..CpuSet::count()).rev().find(|core| allowed.is_set(*core).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.context("a thread without a core")?)?;
    Ok(sched_setaffinity(this_thread, &one)?)
}

type Worker<'scope> = thread::ScopedJoinHandle<'scope, anyhow::Result<()>>;

/// Waits for the clients and then for the servers. The clients' error comes first: it is the one that tells.
fn join_in_turn<'scope>(
    clients: impl IntoIterator<Item = Worker<'scope>>,
    servers: impl IntoIterator<Item = Worker<'scope>>,
    shared: &Shared,
) -> anyhow::Result<()> {
    let clients: anyhow::Result<()> = clients.into_iter().map(join).collect::<Vec<_>>().into_iter().collect();
    shared.closed.store(true, Relaxed);
    let servers: anyhow::Result<()> = servers.into_iter().map(join).collect::<Vec<_>>().into_iter().collect();
    clients.and(servers)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// A listener inside the server's namespace that never blocks for ever.
fn listen(ends: &Ends<'_>) -> anyhow::Result<TcpListener> {
    let listener = ends.server.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))??;
    setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::milliseconds(POLL_MS))?;
    Ok(listener)
}

/// A connection with timeouts, by as few system calls as it takes: they are part of what is measured.
fn connect_tcp(ends: &Ends<'_>) -> anyhow::Result<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let timeout = TimeVal::milliseconds(CLIENT_TIMEOUT_MS);
    setsockopt(&socket, sockopt::SendTimeout, &timeout)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &timeout)?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(ends.socket_address())).context("TCP connect")?;
    Ok(TcpStream::from(socket))
}

/// Gigabits per second of payload received over `connections` TCP connections.
pub(crate) fn tcp_gbps(ends: Ends<'_>, connections: usize, window: Duration) -> anyhow::Result<f64> {
    let shared = Shared::default();
    let listener = listen(&ends)?;
    let (shared, listener) = (&shared, &listener);
    let bytes = thread::scope(|scope| {
        let receivers: Vec<_> = (0..connections)
            .map(|_| start(scope, ends.server, || receive_stream(listener, shared)))
            .collect();
        let senders: Vec<_> =
            (0..connections).map(|_| start(scope, ends.client, move || send_stream(ends, shared))).collect();
        let rate = shared.rate(window);
        shared.stop.store(true, Relaxed);
        join_in_turn(senders, receivers, shared)?;
        anyhow::Ok(rate)
    })?;
    ensure!(bytes > 0.0, "no TCP payload arrived");
    Ok(bytes * 8.0 / 1e9)
}

fn send_stream(ends: Ends<'_>, shared: &Shared) -> anyhow::Result<()> {
    let mut stream = connect_tcp(&ends)?;
    let buffer = vec![0x5a; STREAM_BUFFER_BYTES];
    while !shared.stopped() {
        match stream.write(&buffer) {
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("TCP send"),
        }
    }
    Ok(())
}

fn receive_stream(listener: &TcpListener, shared: &Shared) -> anyhow::Result<()> {
    let Some(mut stream) = accept(listener, shared)? else { return Ok(()) };
    let mut buffer = vec![0; STREAM_BUFFER_BYTES];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => {
                shared.count.fetch_add(len as u64, Relaxed);
            }
            // The sender's last bytes may be lost with their path; that is not this window's business.
            Err(error) if is_timeout(&error) && shared.closed.load(Relaxed) => return Ok(()),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("TCP receive"),
        }
    }
}

/// The next connection; none if the measurement ends first.
fn accept(listener: &TcpListener, shared: &Shared) -> anyhow::Result<Option<TcpStream>> {
    while !shared.closed.load(Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => return Ok(Some(stream)),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("accept"),
        }
    }
    Ok(None)
}

/// 64-byte frames of UDP that arrive per second, from a sender that sends as fast as it can.
pub(crate) fn udp_packets_per_second(ends: Ends<'_>, window: Duration) -> anyhow::Result<f64> {
    let shared = Shared::default();
    let shared = &shared;
    let sink = ends.server.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)))??;
    let rate = thread::scope(|scope| {
        let receiver = start(scope, ends.server, || sink_packets(&sink, shared));
        let sender = start(scope, ends.client, move || flood(ends, shared));
        let rate = shared.rate(window);
        shared.stop.store(true, Relaxed);
        join_in_turn([sender], [receiver], shared)?;
        anyhow::Ok(rate)
    })?;
    ensure!(rate > 0.0, "no UDP packet arrived");
    Ok(rate)
}

fn flood(ends: Ends<'_>, shared: &Shared) -> anyhow::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(ends.socket_address()))?;
    let payload = [0x5a; SMALL_PAYLOAD_BYTES];
    let slices = [[IoSlice::new(&payload)]; BATCH];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    while !shared.stopped() {
        match sendmmsg(socket.as_raw_fd(), &mut headers, &slices, [None; BATCH], [], MsgFlags::empty()) {
            // A full queue and an address not resolved yet are part of a flood.
            Ok(_) | Err(nix::Error::ENOBUFS | nix::Error::EHOSTUNREACH | nix::Error::ECONNREFUSED) => {}
            Err(error) => return Err(error).context("sendmmsg"),
        }
    }
    Ok(())
}

/// Takes what has come, then sleeps: a receiver that waits in the socket is woken for every packet, and how long that
/// takes says more about the scheduler than about the path.
fn sink_packets(socket: &UdpSocket, shared: &Shared) -> anyhow::Result<()> {
    setsockopt(socket, sockopt::RcvBufForce, &SINK_BUFFER_BYTES)?;
    let mut buffers = [[0; 64]; BATCH];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    while !shared.closed.load(Relaxed) {
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        match recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, MsgFlags::MSG_DONTWAIT, None) {
            Ok(messages) => {
                shared.count.fetch_add(messages.count() as u64, Relaxed);
            }
            Err(nix::Error::EAGAIN) => thread::sleep(SINK_PAUSE),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).context("recvmmsg"),
        }
    }
    Ok(())
}

/// TCP connections per second and core, one after the other: connect, 5 bytes, their echo, reset.
pub(crate) fn connections_per_second(ends: Ends<'_>, window: Duration) -> anyhow::Result<f64> {
    let shared = Shared::default();
    let listener = listen(&ends)?;
    let (shared, listener) = (&shared, &listener);
    let rate = thread::scope(|scope| {
        let server = start(scope, ends.server, || serve_echoes(listener, shared));
        let client = start(scope, ends.client, move || open_connections(ends, shared));
        let rate = shared.rate(window);
        shared.stop.store(true, Relaxed);
        join_in_turn([client], [server], shared)?;
        anyhow::Ok(rate)
    })?;
    ensure!(rate > 0.0, "no TCP connection came about");
    Ok(rate)
}

fn open_connections(ends: Ends<'_>, shared: &Shared) -> anyhow::Result<()> {
    stay_on_one_core()?;
    let mut bytes = *b"hello";
    while !shared.stopped() {
        let mut stream = connect_tcp(&ends)?;
        // Closing resets: no TIME_WAIT, or the client would run out of ports.
        setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
        stream.write_all(&bytes).context("request")?;
        stream.read_exact(&mut bytes).context("echo")?;
        shared.count.fetch_add(1, Relaxed);
    }
    Ok(())
}

fn serve_echoes(listener: &TcpListener, shared: &Shared) -> anyhow::Result<()> {
    stay_on_one_core()?;
    let mut bytes = [0; ECHO_BYTES];
    while let Some(mut stream) = accept(listener, shared)? {
        // Timeouts are the listener's. A connection that the client gave up is no error of the server.
        if stream.read_exact(&mut bytes).is_ok() {
            drop(stream.write_all(&bytes));
        }
    }
    Ok(())
}

/// Median round trip of a UDP datagram and its echo on one core, microseconds.
pub(crate) fn round_trip_us(ends: Ends<'_>, window: Duration) -> anyhow::Result<f64> {
    let shared = Shared::default();
    let shared = &shared;
    let server = ends.server.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)))??;
    server.set_read_timeout(Some(POLL))?;
    thread::scope(|scope| {
        let echo = start(scope, ends.server, || echo_datagrams(&server, shared));
        let client = start(scope, ends.client, move || ping_pong(ends, window));
        let median = join(client);
        shared.closed.store(true, Relaxed);
        join(echo)?;
        median
    })
}

fn echo_datagrams(socket: &UdpSocket, shared: &Shared) -> anyhow::Result<()> {
    stay_on_one_core()?;
    let mut buffer = [0; RTT_BYTES];
    while !shared.closed.load(Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((len, peer)) => {
                socket.send_to(&buffer[..len], peer)?;
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("UDP echo"),
        }
    }
    Ok(())
}

fn ping_pong(ends: Ends<'_>, window: Duration) -> anyhow::Result<f64> {
    stay_on_one_core()?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(POLL))?;
    socket.connect(ends.socket_address())?;
    let mut buffer = [0; RTT_BYTES];
    let mut times_ns: Vec<u64> = Vec::with_capacity(100_000);
    let (begin, end) = (Instant::now() + WARM_UP, Instant::now() + WARM_UP + window);
    loop {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        socket.send(&buffer)?;
        match socket.recv(&mut buffer) {
            Ok(_) if sent >= begin => times_ns.push(sent.elapsed().as_nanos() as u64),
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("UDP ping"),
        }
    }
    ensure!(!times_ns.is_empty(), "no UDP echo arrived");
    let middle = times_ns.len() / 2;
    Ok(*times_ns.select_nth_unstable(middle).1 as f64 / 1000.0)
}

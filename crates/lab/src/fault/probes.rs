//! The constant probe: on every flow a packet each 5 ms, each answered by the far end, none sent twice.
//!
//! One thread sends and receives all of them, real-time where that is permitted, so that a busy machine does not
//! look like a lost packet. What it sent and what came back is kept per probe; [`Figures`] are computed from that.

use netlink::Netns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use packet::{checksum, icmp, ipv4};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two probes of a flow.
pub(super) const INTERVAL: Duration = Duration::from_millis(5);
/// The UDP port of the far end.
pub(crate) const PORT: u16 = 7001;
/// A packet that is not back by then is lost.
pub(super) const LATE: Duration = Duration::from_secs(1);
/// Begins every probe's payload.
const MAGIC: u32 = 0x6e62_6b70;
/// Magic, flow and sequence.
const PAYLOAD_LEN: usize = 16;
const ICMP_LEN: usize = icmp::LEN + PAYLOAD_LEN;

/// What a flow's probes are made of.
#[derive(Debug)]
pub(super) enum Kind {
    /// Datagrams over a connected socket, sent back by [`Responder`].
    Udp,
    /// Echo requests with this id to this address, answered by the far end's kernel.
    Icmp { id: u16, to: Ipv4Addr },
}

#[derive(Debug)]
pub(super) struct Flow {
    /// Who to whom, and how.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) socket: UdpSocket,
}

impl Flow {
    /// An echo flow from a namespace.
    pub(super) fn icmp(name: String, from: &Netns, to: Ipv4Addr) -> anyhow::Result<Self> {
        let socket = from.run(|| -> io::Result<UdpSocket> {
            let fd = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
            // Only a descriptor with sendto and recvfrom, which is what a raw socket needs too.
            Ok(UdpSocket::from(fd))
        })??;
        socket.set_nonblocking(true)?;
        let id = uuid::Uuid::new_v4().as_fields().1;
        Ok(Self { name, kind: Kind::Icmp { id, to }, socket })
    }

    /// A datagram flow over a socket that is connected to a [`Responder`].
    pub(super) fn udp(name: String, socket: UdpSocket) -> anyhow::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { name, kind: Kind::Udp, socket })
    }

    /// A probe that cannot be sent is one that is not answered.
    fn send(&self, flow: u32, sequence: u64) {
        let payload = payload(flow, sequence);
        let sent = match self.kind {
            Kind::Udp => self.socket.send(&payload),
            Kind::Icmp { id, to } => self.socket.send_to(&echo_request(id, &payload), (to, 0)),
        };
        if let Err(error) = sent {
            tracing::trace!(%error, flow = self.name, "probe not sent");
        }
    }

    /// The sequence of the next answer that waits; `Some(None)` for a packet that is none.
    fn receive(&self, flow: u32) -> Option<Option<u64>> {
        let mut buffer = [0; 256];
        let len = match self.socket.recv(&mut buffer) {
            Ok(len) => len,
            // An ICMP error for an earlier probe is reported once and says nothing that silence does not.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Some(None),
            Err(_) => return None,
        };
        let packet = &buffer[..len];
        Some(match self.kind {
            Kind::Udp => sequence_of(packet, flow),
            Kind::Icmp { id, to } => echo_reply(packet, id, to).and_then(|rest| sequence_of(rest, flow)),
        })
    }
}

/// What is sent to a [`Responder`] and comes back.
pub(super) fn payload(flow: u32, sequence: u64) -> [u8; PAYLOAD_LEN] {
    let mut bytes = [0; PAYLOAD_LEN];
    bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
    bytes[4..8].copy_from_slice(&flow.to_be_bytes());
    bytes[8..].copy_from_slice(&sequence.to_be_bytes());
    bytes
}

/// The sequence of a payload of this flow.
pub(super) fn sequence_of(payload: &[u8], flow: u32) -> Option<u64> {
    let (head, sequence) = (payload.get(..8)?, payload.get(8..PAYLOAD_LEN)?);
    let own = head[..4] == MAGIC.to_be_bytes() && head[4..] == flow.to_be_bytes();
    own.then(|| sequence.try_into().ok().map(u64::from_be_bytes))?
}

fn echo_request(id: u16, payload: &[u8; PAYLOAD_LEN]) -> [u8; ICMP_LEN] {
    let mut message = [0; ICMP_LEN];
    message[0] = icmp::TYPE_ECHO_REQUEST;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[icmp::LEN..].copy_from_slice(payload);
    let sum = checksum::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The payload of an echo reply with this id from this address.
fn echo_reply(packet: &[u8], id: u16, from: Ipv4Addr) -> Option<&[u8]> {
    let header: ipv4::Header = packet::view::<_, { ipv4::LEN }>(packet.get(..ipv4::LEN)?.try_into().ok()?);
    let message = packet.get(header.header_len() as usize..)?;
    let reply = *message.first()? == icmp::TYPE_ECHO_REPLY && message.get(4..6)? == id.to_be_bytes();
    (reply && header.src == from.octets()).then(|| message.get(icmp::LEN..))?
}

/// One probe, and how often it came back.
#[derive(Clone, Copy, Debug)]
struct Probe {
    sent: Instant,
    answered: Option<Instant>,
    answers: u32,
}

/// The probes of a flow: `first` is the sequence of the oldest that is kept.
#[derive(Debug, Default)]
struct Log {
    first: u64,
    probes: VecDeque<Probe>,
}

impl Log {
    fn sent(&mut self, at: Instant) {
        self.probes.push_back(Probe { sent: at, answered: None, answers: 0 });
    }

    fn next_sequence(&self) -> u64 {
        self.first + self.probes.len() as u64
    }

    fn answered(&mut self, sequence: u64, at: Instant) {
        let index = sequence.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(probe) = index.and_then(|index| self.probes.get_mut(index)) {
            probe.answers += 1;
            probe.answered.get_or_insert(at);
        }
    }

    fn forget_before(&mut self, time: Instant) {
        while self.probes.front().is_some_and(|probe| probe.sent < time) {
            self.probes.pop_front();
            self.first += 1;
        }
    }

    /// What became of the probes sent in `from..to`.
    fn figures(&self, from: Instant, to: Instant) -> Figures {
        let mut figures = Figures::default();
        let mut silent_since = None;
        for probe in self.probes.iter().filter(|probe| (from..to).contains(&probe.sent)) {
            figures.sent += 1;
            figures.duplicates += u64::from(probe.answers.saturating_sub(1));
            match probe.answered {
                Some(at) => {
                    figures.slowest = figures.slowest.max(at - probe.sent);
                    figures.end_silence(silent_since.take(), probe.sent);
                }
                None => {
                    figures.lost += 1;
                    silent_since.get_or_insert(probe.sent);
                }
            }
        }
        figures.end_silence(silent_since, to);
        figures
    }

    /// All probes sent in `from..to` came back, and there were some.
    fn is_well(&self, from: Instant, to: Instant) -> bool {
        let mut probes = self.probes.iter().filter(|probe| (from..to).contains(&probe.sent)).peekable();
        probes.peek().is_some() && probes.all(|probe| probe.answered.is_some())
    }
}

/// What became of a flow's probes in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) sent: u64,
    pub(super) lost: u64,
    /// Answers beyond the first to a probe.
    pub(super) duplicates: u64,
    /// The longest time from a probe that was lost to the next one that was answered.
    pub(super) outage: Duration,
    /// The longest time an answer took.
    pub(super) slowest: Duration,
}

impl Figures {
    fn end_silence(&mut self, since: Option<Instant>, until: Instant) {
        if let Some(since) = since {
            self.outage = self.outage.max(until.saturating_duration_since(since));
        }
    }
}

type Logs = Arc<Mutex<Vec<Log>>>;

fn lock(logs: &Logs) -> MutexGuard<'_, Vec<Log>> {
    // A log is whole after every step, whatever panicked elsewhere.
    logs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running probes. Dropping it ends them.
pub(super) struct Probes {
    pub(super) names: Vec<String>,
    logs: Logs,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Probes {
    pub(super) fn start(flows: Vec<Flow>) -> anyhow::Result<Self> {
        let names = flows.iter().map(|flow| flow.name.clone()).collect();
        let logs: Logs = Arc::new(Mutex::new(flows.iter().map(|_| Log::default()).collect()));
        let stop = Arc::new(AtomicBool::new(false));
        let (thread_logs, thread_stop) = (Arc::clone(&logs), Arc::clone(&stop));
        let run = move || run(&flows, &thread_logs, &thread_stop);
        let thread = std::thread::Builder::new().name("probes".to_owned()).spawn(run)?;
        Ok(Self { names, logs, stop, thread: Some(thread) })
    }

    /// What became of the probes sent in `from..to`, by flow.
    pub(super) fn figures(&self, from: Instant, to: Instant) -> Vec<Figures> {
        lock(&self.logs).iter().map(|log| log.figures(from, to)).collect()
    }

    pub(super) fn forget_before(&self, time: Instant) {
        lock(&self.logs).iter_mut().for_each(|log| log.forget_before(time));
    }

    /// The flows that did not get every probe of `from..to` answered.
    pub(super) fn unwell(&self, from: Instant, to: Instant) -> Vec<&str> {
        let logs = lock(&self.logs);
        let unwell = logs.iter().zip(&self.names).filter(|(log, _)| !log.is_well(from, to));
        unwell.map(|(_, name)| name.as_str()).collect()
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panicked: its figures are not asked for any more.
            drop(thread.join());
        }
    }
}

fn run(flows: &[Flow], logs: &Logs, stop: &AtomicBool) {
    if let Err(error) = netlink::realtime_thread() {
        tracing::debug!(%error, "the probes run at normal priority");
    }
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= due {
            send_all(flows, logs);
            // After a pause no burst makes up for it: what was not sent was not lost.
            due = (due + INTERVAL).max(now);
        }
        wait(flows, due.saturating_duration_since(Instant::now()));
        receive_all(flows, logs);
    }
}

fn send_all(flows: &[Flow], logs: &Logs) {
    for (index, flow) in (0u32..).zip(flows) {
        let sequence = {
            let mut logs = lock(logs);
            let Some(log) = logs.get_mut(index as usize) else { return };
            let sequence = log.next_sequence();
            log.sent(Instant::now());
            sequence
        };
        flow.send(index, sequence);
    }
}

fn receive_all(flows: &[Flow], logs: &Logs) {
    for (index, flow) in (0u32..).zip(flows) {
        while let Some(answer) = flow.receive(index) {
            let now = Instant::now();
            if let (Some(sequence), Some(log)) = (answer, lock(logs).get_mut(index as usize)) {
                log.answered(sequence, now);
            }
        }
    }
}

fn wait(flows: &[Flow], time: Duration) {
    // Rounded up: a wait that ends early would spin.
    let ms = u16::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
    let mut fds: Vec<PollFd<'_>> =
        flows.iter().map(|flow| PollFd::new(flow.socket.as_fd(), PollFlags::POLLIN)).collect();
    // Interrupted or not: what follows looks at every socket.
    let _ = poll(&mut fds, PollTimeout::from(ms));
}

/// Sends every datagram back, from a port of a namespace. Dropping it ends it.
pub(crate) struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    pub(crate) fn start(netns: &Netns) -> anyhow::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        let socket = netns.run(|| UdpSocket::bind(any))??;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread_stop = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("responder".to_owned())
            .spawn(move || respond(&socket, &thread_stop))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn respond(socket: &UdpSocket, stop: &AtomicBool) {
    if let Err(error) = netlink::realtime_thread() {
        tracing::debug!(%error, "the responder runs at normal priority");
    }
    let mut buffer = [0; 256];
    while !stop.load(Ordering::Relaxed) {
        // A time-out, or an ICMP error for an earlier answer.
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        drop(socket.send_to(&buffer[..len], from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// One probe each 5 ms; the text has a letter for each: `.` answered, `-` lost, `2` answered twice.
    fn log(start: Instant, text: &str) -> Log {
        let mut log = Log::default();
        for (index, letter) in text.chars().enumerate() {
            let at = start + INTERVAL * u32::try_from(index).unwrap();
            let sequence = log.next_sequence();
            log.sent(at);
            let answers = match letter {
                '.' => 1,
                '2' => 2,
                _ => 0,
            };
            (0..answers).for_each(|_| log.answered(sequence, at + ms(1)));
        }
        log
    }

    #[test]
    fn an_outage_lasts_from_the_first_lost_probe_to_the_next_answered_one() {
        let start = Instant::now();
        for (text, lost, duplicates, outage) in [
            ("........", 0, 0, 0),
            ("..-.....", 1, 0, 5),
            ("..---.-.", 4, 0, 15),
            ("..2.2...", 0, 2, 0),
            // Without an end the outage lasts as long as one looked.
            ("......--", 2, 0, 70),
            ("--------", 8, 0, 100),
        ] {
            let figures = log(start, text).figures(start, start + ms(100));
            let want = Figures { sent: 8, lost, duplicates, outage: ms(outage), slowest: figures.slowest };
            assert_eq!(figures, want, "{text}");
        }
    }

    #[test]
    fn only_the_probes_of_the_span_count() {
        let start = Instant::now();
        let mut log = log(start, "--....2.--");
        let figures = log.figures(start + ms(10), start + ms(40));
        assert_eq!((figures.sent, figures.lost, figures.duplicates), (6, 0, 1));
        assert!(log.is_well(start + ms(10), start + ms(40)));
        assert!(!log.is_well(start, start + ms(40)) && !log.is_well(start + ms(60), start + ms(70)));
        log.forget_before(start + ms(40));
        assert_eq!((log.first, log.probes.len(), log.next_sequence()), (8, 2, 10));
        log.answered(3, start + ms(41));
        log.answered(9, start + ms(41));
        log.answered(10, start + ms(41));
        assert_eq!(log.figures(start, start + ms(100)).lost, 1, "one of the two is back");
    }

    #[test]
    fn a_payload_is_known_by_its_flow() {
        assert_eq!(sequence_of(&payload(3, 77), 3), Some(77));
        assert_eq!(sequence_of(&payload(3, 77), 4), None);
        (0..PAYLOAD_LEN).for_each(|len| assert_eq!(sequence_of(&payload(3, 77)[..len], 3), None, "{len}"));
    }

    #[test]
    fn an_echo_reply_is_known_by_its_id_and_sender() {
        let from = Ipv4Addr::new(8, 8, 8, 8);
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 8, 8, 8, 8, 10, 0, 0, 1];
        packet.extend(echo_request(5, &payload(1, 2)));
        assert_eq!(echo_reply(&packet, 5, from), None, "a request");
        packet[ipv4::LEN] = icmp::TYPE_ECHO_REPLY;
        assert_eq!(echo_reply(&packet, 5, from).and_then(|rest| sequence_of(rest, 1)), Some(2));
        assert_eq!(echo_reply(&packet, 6, from), None, "another id");
        assert_eq!(echo_reply(&packet, 5, Ipv4Addr::new(8, 8, 4, 4)), None, "another sender");
        (0..packet.len()).for_each(|len| {
            let rest = echo_reply(&packet[..len], 5, from);
            assert_eq!(rest.and_then(|rest| sequence_of(rest, 1)), None, "{len} bytes");
        });
    }
}

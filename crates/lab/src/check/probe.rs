//! Single probes: one ICMP echo, TCP connection or UDP datagram from inside a namespace, with a deadline.
//!
//! A probe asks until it is answered or the time is up: the first packet to an address may be what makes a neighbour
//! known.

use super::station::{ECHO_PORT, NONCE_LEN, Station};
use netlink::Netns;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use packet::{checksum, icmp, ipv4};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout, timeout_at};

/// Until something that must arrive has arrived, on a machine that does other work too.
pub(super) const REACH: Duration = Duration::from_secs(5);
/// Until something that must not arrive counts as not arrived.
pub(super) const SILENCE: Duration = Duration::from_millis(700);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// What an echo service answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Who answered.
    pub(super) name: String,
    /// The address the request came from, as seen there.
    pub(super) seen: Ipv4Addr,
}

/// What came back for an ICMP echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    Reply,
    TimeExceeded { from: Ipv4Addr },
    Unreachable { from: Ipv4Addr, code: u8 },
}

/// A fresh nonce in hex digits.
pub(super) fn nonce() -> String {
    let mut text = uuid::Uuid::new_v4().simple().to_string();
    text.truncate(NONCE_LEN);
    text
}

/// One TCP connection to an echo service.
pub(super) async fn tcp(
    from: &Station,
    to: Ipv4Addr,
    nonce: &str,
    limit: Duration,
) -> Result<Answer, String> {
    tcp_to(from, (to, ECHO_PORT), nonce, limit).await
}

/// One to an echo service that has another port where it is sent.
pub(super) async fn tcp_to(
    from: &Station,
    to: (Ipv4Addr, u16),
    nonce: &str,
    limit: Duration,
) -> Result<Answer, String> {
    let text = tcp_text(from, to.into(), nonce, limit).await?;
    answer(&text, nonce).ok_or_else(|| format!("tcp: a strange answer {text:?}"))
}

/// What an echo service answers to one TCP connection.
pub(super) async fn tcp_text(
    from: &Station,
    to: SocketAddr,
    nonce: &str,
    limit: Duration,
) -> Result<String, String> {
    let open = if to.is_ipv4() { TcpSocket::new_v4 } else { TcpSocket::new_v6 };
    let attempt = async {
        let socket = from.netns.run(open).map_err(display)?.map_err(display)?;
        let mut stream = socket.connect(to).await.map_err(display)?;
        stream.write_all(nonce.as_bytes()).await.map_err(display)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map_err(display)?;
        Ok(text)
    };
    match timeout(limit, attempt).await {
        Ok(outcome) => outcome.map_err(|error: String| format!("tcp: {error}")),
        Err(_) => Err(format!("tcp: no answer in {} ms", limit.as_millis())),
    }
}

/// UDP datagrams to an echo service until one is answered.
pub(super) async fn udp(
    from: &Station,
    to: Ipv4Addr,
    nonce: &str,
    limit: Duration,
) -> Result<Answer, String> {
    udp_to(from, (to, ECHO_PORT), nonce, limit).await
}

/// Likewise.
pub(super) async fn udp_to(
    from: &Station,
    (to, port): (Ipv4Addr, u16),
    nonce: &str,
    limit: Duration,
) -> Result<Answer, String> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let socket = from.netns.run(|| UdpSocket::bind(any)).map_err(display)?.map_err(display)?;
    let socket = nonblocking(socket).map_err(display)?;
    let deadline = Instant::now() + limit;
    let mut problem = "no answer".to_owned();
    while Instant::now() < deadline {
        if let Err(error) = socket.send_to(nonce.as_bytes(), (to, port)).await {
            problem = error.to_string();
        }
        let again = deadline.min(Instant::now() + RETRY_INTERVAL);
        let mut buffer = [0; 128];
        while let Ok(received) = timeout_at(again, socket.recv_from(&mut buffer)).await {
            let Ok((len, peer)) = received else { continue };
            let text = String::from_utf8_lossy(&buffer[..len]);
            if peer.ip() != to {
                problem = format!("answered by {} instead of {to}", peer.ip());
            } else if let Some(answer) = answer(&text, nonce) {
                return Ok(answer);
            }
        }
    }
    Err(format!("udp: {problem} in {} ms", limit.as_millis()))
}

/// ICMP echo requests until something comes back for one of them.
pub(super) async fn ping(
    from: &Netns,
    to: Ipv4Addr,
    ttl: Option<u32>,
    limit: Duration,
) -> Result<Echo, String> {
    let socket = from.run(|| -> std::io::Result<UdpSocket> {
        let fd = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
        // The standard library's datagram socket is only a descriptor with sendto and recvfrom, which is what a raw
        // socket needs too.
        let socket = UdpSocket::from(fd);
        ttl.map_or(Ok(()), |ttl| socket.set_ttl(ttl))?;
        Ok(socket)
    });
    let socket = nonblocking(socket.map_err(display)?.map_err(display)?).map_err(display)?;
    let id = uuid::Uuid::new_v4().as_fields().1;
    let deadline = Instant::now() + limit;
    let mut problem = "no answer".to_owned();
    for sequence in 0..u16::MAX {
        if Instant::now() >= deadline {
            break;
        }
        if let Err(error) = socket.send_to(&echo_request(id, sequence), (to, 0)).await {
            problem = error.to_string();
        }
        let again = deadline.min(Instant::now() + RETRY_INTERVAL);
        let mut buffer = [0; 576];
        while let Ok(received) = timeout_at(again, socket.recv_from(&mut buffer)).await {
            let Ok((len, _)) = received else { continue };
            if let Some(echo) = echo_answer(&buffer[..len], id, to) {
                return Ok(echo);
            }
        }
    }
    Err(format!("icmp: {problem} in {} ms", limit.as_millis()))
}

fn nonblocking(socket: UdpSocket) -> std::io::Result<tokio::net::UdpSocket> {
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
}

fn display(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// `NAME ADDRESS NONCE`, with the nonce that was asked with.
fn answer(text: &str, nonce: &str) -> Option<Answer> {
    let mut words = text.split_whitespace();
    let (name, seen, echoed) = (words.next()?, words.next()?, words.next()?);
    (echoed == nonce).then(|| Some(Answer { name: name.to_owned(), seen: seen.parse().ok()? }))?
}

fn echo_request(id: u16, sequence: u16) -> [u8; 40] {
    let mut message = [0x5a; 40];
    message[..4].copy_from_slice(&[icmp::TYPE_ECHO_REQUEST, 0, 0, 0]);
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    let sum = checksum::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// What a received IP packet says about the request with this id to this address, if anything.
fn echo_answer(packet: &[u8], id: u16, to: Ipv4Addr) -> Option<Echo> {
    let (header, message) = split_ip(packet)?;
    let from = Ipv4Addr::from(header.src);
    let (kind, code) = (*message.first()?, *message.get(1)?);
    let own = |message: &[u8]| message.get(4..6) == Some(&id.to_be_bytes()[..]);
    if kind == icmp::TYPE_ECHO_REPLY {
        return (own(message) && from == to).then_some(Echo::Reply);
    }
    let (inner, inner_message) = split_ip(message.get(icmp::LEN..)?)?;
    if Ipv4Addr::from(inner.dst) != to || inner.protocol != ipv4::PROTOCOL_ICMP || !own(inner_message) {
        return None;
    }
    match kind {
        icmp::TYPE_TIME_EXCEEDED => Some(Echo::TimeExceeded { from }),
        icmp::TYPE_UNREACHABLE => Some(Echo::Unreachable { from, code }),
        _ => None,
    }
}

/// An IPv4 header and what follows it.
pub(super) fn split_ip(packet: &[u8]) -> Option<(ipv4::Header, &[u8])> {
    let header: ipv4::Header = packet::view::<_, { ipv4::LEN }>(packet.get(..ipv4::LEN)?.try_into().ok()?);
    let rest = packet.get(header.header_len() as usize..)?;
    (header.version() == 4).then_some((header, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(src: [u8; 4], dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0];
        packet.extend(src.iter().chain(&dst).chain(payload));
        packet
    }

    #[test]
    fn an_answer_counts_only_with_its_nonce() {
        let seen = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(answer("vm_a 192.0.2.1 abc\n", "abc"), Some(Answer { name: "vm_a".to_owned(), seen }));
        assert_eq!(answer("vm_a 192.0.2.1 abc\n", "xyz"), None);
        assert_eq!(answer("vm_a 192.0.2.1", "abc"), None);
    }

    #[test]
    fn echo_answers_are_told_apart_and_matched() {
        let (me, to, router) = ([10, 0, 0, 2], [8, 8, 8, 8], [10, 0, 0, 1]);
        let reply = ip(to, me, &[0, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert_eq!(echo_answer(&reply, 0x1234, to.into()), Some(Echo::Reply));
        assert_eq!(echo_answer(&reply, 0x1235, to.into()), None, "another id");
        assert_eq!(echo_answer(&reply, 0x1234, router.into()), None, "another sender");
        let request = ip(me, to, &[8, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert_eq!(echo_answer(&request, 0x1234, to.into()), None, "our own request");
        let error = ip(router, me, &[&[11, 0, 0, 0, 0, 0, 0, 0][..], &request].concat());
        assert_eq!(echo_answer(&error, 0x1234, to.into()), Some(Echo::TimeExceeded { from: router.into() }));
        for len in 0..error.len() {
            assert_eq!(
                echo_answer(&error[..len], 0x1234, to.into()).is_some(),
                len >= 20 + 8 + 20 + 6,
                "{len}"
            );
        }
    }
}

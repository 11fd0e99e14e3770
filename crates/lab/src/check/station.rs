//! A machine under test: its namespace, and an echo service inside it.
//!
//! The service answers a request (a nonce in 16 hex digits) with `NAME PEER NONCE`: who answered, and with which address
//! the request came. It remembers every nonce it saw, so that a packet that must not arrive can be shown not to have. A
//! second port takes bulk transfers ([`super::bulk`]).

use super::bulk::{self, BULK_PORT};
use crate::names::Names;
use netlink::Netns;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

/// The port of the service, TCP and UDP.
pub(super) const ECHO_PORT: u16 = 7;
/// Characters of a nonce on the wire.
pub(super) const NONCE_LEN: usize = 16;
/// Bytes of a datagram to the bulk port, which starts with a nonce; others are not counted.
pub(super) const DATAGRAM_LEN: usize = 1000;

pub(super) struct Station {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) netns: Netns,
    seen: Seen,
    services: Vec<JoinHandle<()>>,
}

/// The nonces that arrived, and how often.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<String, usize>>>);

impl Seen {
    fn note(&self, nonce: &str) {
        // A map of counts has no broken state that a panic elsewhere could have left.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(nonce.to_owned()).or_default() += 1;
    }

    fn count(&self, nonce: &str) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(nonce).copied().unwrap_or(0)
    }
}

/// A listener and a datagram socket on a port of the namespace.
type Sockets = (tokio::net::TcpListener, tokio::net::UdpSocket);

fn sockets(netns: &Netns, port: u16) -> anyhow::Result<Sockets> {
    // Of both versions, where the kernel has both.
    let any = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), (Ipv4Addr::UNSPECIFIED, port).into()];
    let (tcp, udp) = netns.run(|| -> std::io::Result<_> {
        let (tcp, udp) = (TcpListener::bind(&any[..])?, UdpSocket::bind(&any[..])?);
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        Ok((tcp, udp))
    })??;
    Ok((tokio::net::TcpListener::from_std(tcp)?, tokio::net::UdpSocket::from_std(udp)?))
}

impl Station {
    /// Opens the machine's namespace and starts the service there. Needs a tokio runtime.
    pub(super) fn start(names: &Names, name: &str, address: Ipv4Addr) -> anyhow::Result<Self> {
        let netns = Netns::open(&names.netns(name))?;
        let (echo, bulk) = (sockets(&netns, ECHO_PORT)?, sockets(&netns, BULK_PORT)?);
        let seen = Seen::default();
        let services = vec![
            tokio::spawn(serve_tcp(echo.0, name.to_owned(), seen.clone())),
            tokio::spawn(serve_udp(echo.1, name.to_owned(), seen.clone())),
            tokio::spawn(serve_bulk(bulk.0)),
            tokio::spawn(count(bulk.1, seen.clone())),
        ];
        Ok(Self { name: name.to_owned(), address, netns, seen, services })
    }

    /// True if a request with this nonce arrived, in whatever packet.
    pub(super) fn saw(&self, nonce: &str) -> bool {
        self.seen.count(nonce) > 0
    }

    /// How many whole datagrams with this nonce arrived at the bulk port.
    pub(super) fn datagrams(&self, nonce: &str) -> usize {
        self.seen.count(nonce)
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        for service in &self.services {
            service.abort();
        }
    }
}

async fn serve_tcp(listener: tokio::net::TcpListener, name: String, seen: Seen) {
    while let Ok((mut stream, peer)) = listener.accept().await {
        let (name, seen) = (name.clone(), seen.clone());
        tokio::spawn(async move {
            let mut nonce = [0; NONCE_LEN];
            if stream.read_exact(&mut nonce).await.is_ok() {
                let nonce = String::from_utf8_lossy(&nonce);
                seen.note(&nonce);
                // A prober that went away needs no answer.
                let _ = stream
                    .write_all(format!("{name} {} {nonce}\n", peer.ip().to_canonical()).as_bytes())
                    .await;
            }
        });
    }
}

async fn serve_udp(socket: tokio::net::UdpSocket, name: String, seen: Seen) {
    let mut buffer = [0; 64];
    loop {
        // Errors of earlier answers (port unreachable) come back here; they end nothing.
        let Ok((len, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let nonce = String::from_utf8_lossy(&buffer[..len]);
        seen.note(&nonce);
        let answer = format!("{name} {} {nonce}\n", peer.ip().to_canonical());
        let _ = socket.send_to(answer.as_bytes(), peer).await;
    }
}

async fn serve_bulk(listener: tokio::net::TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        // What goes wrong shows at the other end.
        tokio::spawn(async move { drop(bulk::serve(stream).await) });
    }
}

async fn count(socket: tokio::net::UdpSocket, seen: Seen) {
    let mut buffer = [0; 2 * DATAGRAM_LEN];
    loop {
        let Ok((DATAGRAM_LEN, _)) = socket.recv_from(&mut buffer).await else { continue };
        seen.note(&String::from_utf8_lossy(&buffer[..NONCE_LEN]));
    }
}

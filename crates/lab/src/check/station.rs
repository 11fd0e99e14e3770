//! A machine under test: its namespace, and an echo service inside it.
//!
//! The service answers a request (a nonce in 16 hex digits) with `NAME PEER NONCE`: who answered, and with which address
//! the request came. It remembers every nonce it saw, so that a packet that must not arrive can be shown not to have.

use crate::names::Names;
use netlink::Netns;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

/// The port of the service, TCP and UDP.
pub(super) const ECHO_PORT: u16 = 7;
/// Characters of a nonce on the wire.
pub(super) const NONCE_LEN: usize = 16;

pub(super) struct Station {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) netns: Netns,
    seen: Seen,
    services: [JoinHandle<()>; 2],
}

/// The nonces that arrived.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeSet<String>>>);

impl Seen {
    fn note(&self, nonce: &str) {
        // A set of strings has no broken state that a panic elsewhere could have left.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(nonce.to_owned());
    }

    fn has(&self, nonce: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(nonce)
    }
}

impl Station {
    /// Opens the machine's namespace and starts the service there. Needs a tokio runtime.
    pub(super) fn start(names: &Names, name: &str, address: Ipv4Addr) -> anyhow::Result<Self> {
        let netns = Netns::open(&names.netns(name))?;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, ECHO_PORT));
        let (tcp, udp) = netns.run(|| -> std::io::Result<_> {
            let (tcp, udp) = (TcpListener::bind(any)?, UdpSocket::bind(any)?);
            tcp.set_nonblocking(true)?;
            udp.set_nonblocking(true)?;
            Ok((tcp, udp))
        })??;
        let (tcp, udp) = (tokio::net::TcpListener::from_std(tcp)?, tokio::net::UdpSocket::from_std(udp)?);
        let seen = Seen::default();
        let services = [
            tokio::spawn(serve_tcp(tcp, name.to_owned(), seen.clone())),
            tokio::spawn(serve_udp(udp, name.to_owned(), seen.clone())),
        ];
        Ok(Self { name: name.to_owned(), address, netns, seen, services })
    }

    /// True if a request with this nonce arrived, in whatever packet.
    pub(super) fn saw(&self, nonce: &str) -> bool {
        self.seen.has(nonce)
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
                let _ = stream.write_all(format!("{name} {} {nonce}\n", peer.ip()).as_bytes()).await;
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
        let answer = format!("{name} {} {nonce}\n", peer.ip());
        let _ = socket.send_to(answer.as_bytes(), peer).await;
    }
}

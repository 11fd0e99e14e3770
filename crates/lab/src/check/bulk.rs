//! Much data at once: what goes wrong with segmentation, checksums and MTUs, and never with single small packets.
//!
//! TCP carries a pattern in both directions, in super-packets of up to 64 KiB where offloads are on; UDP sends one
//! buffer that the kernel or the far end cuts into datagrams (UDP GSO). Every byte and every datagram is counted.

use super::probe::nonce;
use super::station::{DATAGRAM_LEN, Station};
use super::{Bench, Check};
use crate::plan::Index;
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep, timeout};

/// The port of the pattern service (TCP) and of the counter (UDP).
pub(super) const BULK_PORT: u16 = 9;
/// Bytes in each direction.
const TRANSFER_LEN: usize = 1 << 20;
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(15);
/// Datagrams of one UDP GSO buffer: together less than 64 KiB.
const DATAGRAMS: usize = 32;
/// UDP may lose a datagram on a busy machine; not every time.
const ATTEMPTS: usize = 5;
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) fn checks(bench: &Arc<Bench>) -> Vec<Check> {
    let mut checks = Vec::new();
    for vm in 0..bench.vms.len() {
        checks.extend(to_peer(bench, vm));
        checks.extend(to_outside(bench, vm));
    }
    for floating in &bench.plan.floating_ips {
        let outside =
            bench.segment_of_vm(floating.vm).and_then(|segment| bench.outside_of(segment, true).next());
        checks.extend(outside.map(|from| {
            transfer(
                from,
                &bench.vms[floating.vm],
                floating.address,
                &format!("floating IP {}", floating.address),
            )
        }));
    }
    checks
}

/// To another VM of the VPC, on another host if there is one.
fn to_peer(bench: &Arc<Bench>, vm: Index) -> Option<Check> {
    let plan = &bench.plan;
    let this = &plan.vms[vm];
    let peers = || (0..plan.vms.len()).filter(|peer| *peer != vm && plan.same_vpc(this, &plan.vms[*peer]));
    let peer = peers().find(|peer| plan.vms[*peer].host != this.host).or_else(|| peers().next())?;
    Some(transfer(&bench.vms[vm], &bench.vms[peer], bench.vms[peer].address, "east-west"))
}

fn to_outside(bench: &Arc<Bench>, vm: Index) -> Option<Check> {
    let outside = bench.segment_of_vm(vm).and_then(|segment| bench.outside_of(segment, true).next())?;
    Some(transfer(&bench.vms[vm], outside, outside.address, "north-south"))
}

fn transfer(from: &Arc<Station>, to: &Arc<Station>, address: Ipv4Addr, way: &str) -> Check {
    let name = format!("bulk {} -> {} ({way})", from.name, to.name);
    let (from, to) = (from.clone(), to.clone());
    Check::new(name, async move {
        tcp(&from, address).await.map_err(|error| format!("tcp: {error}"))?;
        udp(&from, &to, address).await.map_err(|error| format!("udp: {error}"))?;
        Ok(format!("tcp {} KiB both ways, {DATAGRAMS} datagrams from one buffer", TRANSFER_LEN >> 10))
    })
}

/// The pattern to a machine and back.
pub(super) async fn tcp(from: &Station, to: Ipv4Addr) -> Result<(), String> {
    let work = async {
        let socket = from.netns.run(TcpSocket::new_v4).map_err(std::io::Error::other)??;
        let mut stream = socket.connect((to, BULK_PORT).into()).await?;
        write_pattern(&mut stream).await?;
        stream.shutdown().await?;
        match read_pattern(&mut stream).await? {
            TRANSFER_LEN => Ok(()),
            other => Err(std::io::Error::other(format!("{other} good bytes of {TRANSFER_LEN} came back"))),
        }
    };
    match timeout(TRANSFER_TIMEOUT, work).await {
        Ok(outcome) => outcome.map_err(|error: std::io::Error| error.to_string()),
        Err(_) => Err(format!("not done in {} s", TRANSFER_TIMEOUT.as_secs())),
    }
}

/// Sends one buffer per attempt until all datagrams of one have arrived.
async fn udp(from: &Station, to: &Station, address: Ipv4Addr) -> Result<(), String> {
    let mut best = 0;
    for _ in 0..ATTEMPTS {
        let nonce = nonce();
        let mut buffer = vec![0x33; DATAGRAM_LEN * DATAGRAMS];
        for datagram in buffer.chunks_mut(DATAGRAM_LEN) {
            datagram[..nonce.len()].copy_from_slice(nonce.as_bytes());
        }
        let sent = from.netns.run(|| -> std::io::Result<usize> {
            let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
            setsockopt(&socket, UdpGsoSegment, &(DATAGRAM_LEN as i32))?;
            socket.send_to(&buffer, (address, BULK_PORT))
        });
        sent.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let deadline = Instant::now() + ATTEMPT_TIMEOUT;
        while Instant::now() < deadline {
            match to.datagrams(&nonce) {
                DATAGRAMS => return Ok(()),
                count => best = best.max(count),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
    Err(format!("{best} of {DATAGRAMS} datagrams arrived at best"))
}

/// The byte at a place of the pattern: no period that a lost or repeated segment could hide in.
fn pattern(place: usize) -> u8 {
    (place.wrapping_mul(2_654_435_761) >> 16) as u8
}

async fn write_pattern(stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    let bytes: Vec<u8> = (0..TRANSFER_LEN).map(pattern).collect();
    stream.write_all(&bytes).await
}

/// Reads to the end. Answers how many bytes were right before the first that was not.
async fn read_pattern(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<usize> {
    let mut good = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Ok(good);
        }
        let right =
            buffer[..len].iter().enumerate().take_while(|(at, byte)| **byte == pattern(good + at)).count();
        good += right;
        if right != len {
            return Ok(good);
        }
    }
}

/// The far end: reads the pattern to its end and, if it was right, sends it back.
pub(super) async fn serve(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    if read_pattern(&mut stream).await? == TRANSFER_LEN {
        write_pattern(&mut stream).await?;
    }
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrong_byte_is_found_at_its_place() {
        let mut bytes = Vec::new();
        write_pattern(&mut bytes).await.unwrap();
        assert_eq!(read_pattern(&mut bytes.as_slice()).await.unwrap(), TRANSFER_LEN);
        bytes[70_000] ^= 1;
        assert_eq!(read_pattern(&mut bytes.as_slice()).await.unwrap(), 70_000);
        bytes.drain(1000..2000);
        assert_eq!(read_pattern(&mut bytes.as_slice()).await.unwrap(), 1000, "a missing piece");
    }
}

//! The slow path of fragments: holding those that overtook the first one of their datagram (RFC 4787 REQ-14), and
//! cutting packets that are too big and may be cut (REQ-13a, RFC 791 §3.2).
//!
//! What this is not: it sends nothing and asks no clock. Memory is bounded per ingress and in all; what does not fit
//! is given up, so a flood costs its sender's fragments and nobody else's.

use crate::Handed;
use packet::{checksum, ethernet, ipv4, tcp, udp};
use pipeline::Address;
use pipeline::fragment::FragmentKey;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a fragment waits for the first one of its datagram.
pub const HOLD: Duration = Duration::from_secs(2);
/// Fragments held of one ingress.
pub const HELD_PER_INGRESS_MAX: usize = 64;
/// Fragments held in all.
pub const HELD_MAX: usize = 1024;

const ETHERNET_LEN: usize = ethernet::LEN;
/// Fragment offsets count in these.
const UNIT: usize = 8;
/// Smallest MTU of IPv4 (RFC 791): a header with all options, and one unit.
const MTU_MIN: usize = 68;

/// What became of fragments that were held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldCounters {
    pub held: u64,
    /// The first one came.
    pub released: u64,
    /// It did not.
    pub expired: u64,
    /// There was no room.
    pub refused: u64,
    /// They overlapped each other, as no honest sender's do; all of their datagram were dropped.
    pub overlapping: u64,
}

/// Fragments that wait.
#[derive(Debug, Default)]
pub struct Holder {
    datagrams: BTreeMap<FragmentKey, Datagram>,
    per_ingress: BTreeMap<u32, usize>,
    total: usize,
    pub counters: HeldCounters,
}

#[derive(Debug)]
struct Datagram {
    /// Of its first fragment here.
    since: Instant,
    fragments: Vec<Handed>,
    /// Fragments overlapped: whatever else comes of it is dropped.
    poisoned: bool,
}

impl Holder {
    /// Takes a fragment. False if there is no room for it, or it is part of an attack.
    pub fn hold(&mut self, now: Instant, key: FragmentKey, handed: Handed) -> bool {
        self.expire(now);
        let ingress = key.ingress;
        let of_ingress = self.per_ingress.get(&ingress).copied().unwrap_or(0);
        if of_ingress >= HELD_PER_INGRESS_MAX || self.total >= HELD_MAX {
            self.counters.refused += 1;
            return false;
        }
        let datagram = self.datagrams.entry(key).or_insert_with(|| Datagram {
            since: now,
            fragments: Vec::new(),
            poisoned: false,
        });
        let clash = datagram.fragments.iter().any(|other| overlap(&other.frame, &handed.frame));
        if datagram.poisoned || clash {
            let dropped = datagram.fragments.len();
            datagram.fragments.clear();
            datagram.poisoned = true;
            self.counters.overlapping += dropped as u64 + 1;
            self.forget(ingress, dropped);
            return false;
        }
        datagram.fragments.push(handed);
        *self.per_ingress.entry(ingress).or_default() += 1;
        self.total += 1;
        self.counters.held += 1;
        true
    }

    /// The first fragment of the datagram has come: what waited for it, in the order of arrival.
    pub fn release(&mut self, key: &FragmentKey) -> Vec<Handed> {
        let Some(datagram) = self.datagrams.remove(key) else { return Vec::new() };
        self.forget(key.ingress, datagram.fragments.len());
        self.counters.released += datagram.fragments.len() as u64;
        datagram.fragments
    }

    /// Gives up what has waited for too long.
    pub fn expire(&mut self, now: Instant) {
        let over = |datagram: &Datagram| now.saturating_duration_since(datagram.since) >= HOLD;
        let gone: Vec<FragmentKey> =
            self.datagrams.iter().filter(|(_, datagram)| over(datagram)).map(|(key, _)| *key).collect();
        for key in gone {
            let count = self.datagrams.remove(&key).map_or(0, |datagram| datagram.fragments.len());
            self.forget(key.ingress, count);
            self.counters.expired += count as u64;
        }
    }

    /// When [`Self::expire`] has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        self.datagrams.values().map(|datagram| datagram.since + HOLD).min()
    }

    /// Fragments held now.
    pub fn len(&self) -> usize {
        self.total
    }

    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    fn forget(&mut self, ingress: u32, count: usize) {
        self.total -= count;
        if let Some(held) = self.per_ingress.get_mut(&ingress) {
            *held -= count;
            if *held == 0 {
                self.per_ingress.remove(&ingress);
            }
        }
    }
}

/// The datagram that a frame's packet is a fragment of, as the walk names it; none if it is no IPv4.
pub fn datagram_of(vni: u32, ingress: u32, frame: &[u8]) -> Option<FragmentKey> {
    let header: ipv4::Header = packet::read(frame, ETHERNET_LEN)?;
    Some(FragmentKey {
        vni,
        ingress,
        src: Address::v4(header.src),
        dst: Address::v4(header.dst),
        identification: header.identification.get(),
        protocol: header.protocol,
        zero: 0,
    })
}

/// Offsets of a fragment's first byte in the datagram, and of the first behind.
fn range(frame: &[u8]) -> Option<(usize, usize)> {
    let header: ipv4::Header = packet::read(frame, ETHERNET_LEN)?;
    let start = usize::from(header.flags_fragment.get() & ipv4::FRAGMENT_OFFSET) * UNIT;
    let len = usize::from(header.total_len.get()).checked_sub(header.header_len() as usize)?;
    Some((start, start + len))
}

/// Whether two fragments say something about the same bytes. The same fragment twice is no contradiction.
fn overlap(one: &[u8], other: &[u8]) -> bool {
    match (range(one), range(other)) {
        (Some(a), Some(b)) => a != b && a.0 < b.1 && b.0 < a.1,
        _ => true,
    }
}

/// A packet that cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    #[error("the frame does not hold the IPv4 packet it announces")]
    Malformed,
    #[error("the MTU is below {MTU_MIN} bytes")]
    Mtu,
}

/// The frame's packet in pieces of at most `mtu` bytes of IPv4, in order. A fragment is cut further.
pub fn cut(frame: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, CutError> {
    let header: ipv4::Header = packet::read(frame, ETHERNET_LEN).ok_or(CutError::Malformed)?;
    let (header_len, len) = (header.header_len() as usize, usize::from(header.total_len.get()));
    let packet = frame.get(ETHERNET_LEN..ETHERNET_LEN + len).ok_or(CutError::Malformed)?;
    if header.version() != 4 || header_len < ipv4::LEN || header_len > len {
        return Err(CutError::Malformed);
    }
    if mtu < MTU_MIN {
        return Err(CutError::Mtu);
    }
    let (head, payload) = packet.split_at(header_len);
    let later_head = without_uncopied_options(head);
    let field = header.flags_fragment.get();
    let first_offset = usize::from(field & ipv4::FRAGMENT_OFFSET);
    let mut payload = payload.to_vec();
    if field & (ipv4::FRAGMENT_OFFSET | ipv4::FLAG_MF) == 0 {
        complete_checksum(&header, &mut payload);
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        let head = if at == 0 { head } else { &later_head };
        let room = (mtu - head.len()) / UNIT * UNIT;
        let end = payload.len().min(at + room);
        let more = end < payload.len() || field & ipv4::FLAG_MF != 0;
        let offset = u16::try_from(first_offset + at / UNIT).map_err(|_| CutError::Malformed)?;
        if offset > ipv4::FRAGMENT_OFFSET {
            return Err(CutError::Malformed);
        }
        let field = offset | if more { ipv4::FLAG_MF } else { 0 };
        pieces.push(piece(&frame[..ETHERNET_LEN], head, field, &payload[at..end]));
        at = end;
    }
    Ok(pieces)
}

fn piece(link: &[u8], head: &[u8], field: u16, payload: &[u8]) -> Vec<u8> {
    let mut head = head.to_vec();
    let len = (head.len() + payload.len()) as u16;
    let words = (head.len() / 4) as u8;
    head[0] = 0x40 | words;
    head[2..4].copy_from_slice(&len.to_be_bytes());
    head[6..8].copy_from_slice(&field.to_be_bytes());
    head[10..12].fill(0);
    let sum = checksum::checksum(&head);
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    [link, &head, payload].concat()
}

/// A header for pieces behind the first: only options with the copied flag go along (RFC 791 §3.1).
fn without_uncopied_options(head: &[u8]) -> Vec<u8> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    let (fixed, mut options) = head.split_at(ipv4::LEN);
    let mut kept = fixed.to_vec();
    while let [kind, rest @ ..] = options {
        let len = match *kind {
            END => break,
            NO_OPERATION => 1,
            _ => usize::from(rest.first().copied().unwrap_or(0)).max(2),
        };
        let Some((option, behind)) = options.split_at_checked(len) else { break };
        if kind & COPIED != 0 {
            kept.extend_from_slice(option);
        }
        options = behind;
    }
    kept.resize(kept.len().next_multiple_of(4), END);
    kept
}

/// A VM may have left the transport checksum to its NIC: then the field holds the sum of the pseudo header alone,
/// and no NIC completes it once the datagram is in pieces.
fn complete_checksum(header: &ipv4::Header, payload: &mut [u8]) {
    let at = match header.protocol {
        ipv4::PROTOCOL_TCP => tcp::OFFSET_CHECKSUM as usize,
        ipv4::PROTOCOL_UDP => udp::OFFSET_CHECKSUM as usize,
        _ => return,
    };
    let len = payload.len() as u32;
    let pseudo = checksum::sum(&header.src)
        + checksum::sum(&header.dst)
        + u32::from(header.protocol)
        + (len & 0xffff)
        + (len >> 16);
    let Some(field) = payload.get(at..at + 2) else { return };
    if field != checksum::fold(pseudo).to_be_bytes() {
        return;
    }
    // The field itself is part of the sum, as the kernel counts it.
    let sum = match !checksum::fold(checksum::sum(payload)) {
        0 if header.protocol == ipv4::PROTOCOL_UDP => 0xffff,
        sum => sum,
    };
    if let Some(field) = payload.get_mut(at..at + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;

//! Sessions: one connection's pair of directions with its NAT, conntrack entry and flow cache in one.
//!
//! `sessions` holds the whole state under the key of the first packet, its ends put in order
//! ([`SessionKey::stored`]), so that both directions of a connection that nothing translates find it at once.
//! Where the other direction's packets have a key of their own, translated or on another network, `replies`
//! maps it to the one in `sessions`. Only `sessions` entries hold state, so two halves can never disagree.
//! Neither table evicts. The agent sweeps: it deletes the reply key first, so a session that is half deleted
//! is found by its own direction only and is built anew by the next packet.
//!
//! Concurrency: a session is updated in place by any CPU. Counters and times are atomics. A path is written
//! word by word with its epoch's last and cleared first; two CPUs that write the same path for the same epoch
//! write the same words, because a path is a pure function of session, tables and epoch. A reader that
//! meets a half-written path sees epoch 0 and walks the stages itself.

use crate::address::Address;
use crate::atomic::{AtomicU32, AtomicU64};
use crate::tables::table_type;
use core::sync::atomic::Ordering::Relaxed;
use packet::MacAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

table_type! {
    /// What identifies a direction of a connection: the network the packet is on when it is looked up, and
    /// its addresses and ports there. Ports in host order; ICMP echo: the identifier in both ports;
    /// protocols without ports: 0. A fragment has the ports of the first of its datagram.
    pub struct SessionKey {
        pub vni: u32,
        pub src: Address,
        pub dst: Address,
        pub src_port: u16,
        pub dst_port: u16,
        pub protocol: u8,
        pub zero: [u8; 3],
    }
}

impl SessionKey {
    /// The key of the other direction, as long as nothing is translated.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, src_port: self.dst_port, dst_port: self.src_port, ..*self }
    }

    /// The key that a connection has in `sessions`, the same for both of its directions; true: with the ends
    /// exchanged. The ports decide, which are mostly unequal and quick to compare.
    #[inline(always)]
    pub fn stored(&self) -> (Self, bool) {
        let exchanged = self.ends_exchanged();
        (if exchanged { self.reversed() } else { *self }, exchanged)
    }

    #[inline(always)]
    pub(crate) fn ends_exchanged(&self) -> bool {
        if self.src_port == self.dst_port {
            self.dst.words() < self.src.words()
        } else {
            self.dst_port < self.src_port
        }
    }
}

/// Index of a direction in a session's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// As the first packet.
    Forward = 0,
    Reply = 1,
}

table_type! {
    /// The cached outcome of the stages for one direction: what to check before it may be used, and what to
    /// do then. Addresses and ports to rewrite are the session's keys themselves.
    #[repr(align(8))]
    pub struct Path {
        /// Configuration epoch it was computed in; 0: not computed.
        pub epoch: u32,
        /// Where packets of this direction must come from: [`crate::Ingress::id`].
        pub ingress: u32,
        /// Interface to send to.
        pub ifindex: u32,
        /// Tunnel: the VNI on the wire.
        pub vni: u32,
        /// Tunnel: the remote host.
        pub vtep: Address,
        /// Destination MAC the packets must have come with.
        pub arrived_dst: MacAddr,
        pub dst_mac: MacAddr,
        pub src_mac: MacAddr,
        /// [`Path::OUT_PORT`], [`Path::OUT_TUNNEL`] or [`Path::OUT_UPLINK`].
        pub output: u8,
        /// [`Path::FLAG_ROUTED`] and friends.
        pub flags: u8,
        /// Uplink: VLAN to tag with, 0 none.
        pub vlan: u16,
        /// Largest IP packet that fits the rest of the way.
        pub mtu: u16,
        /// Tunnel: the UDP source port, which spreads flows over the underlay's paths.
        pub source_port: u16,
        pub zero: [u16; 3],
    }
}

impl Path {
    pub const OUT_PORT: u8 = 1;
    pub const OUT_TUNNEL: u8 = 2;
    pub const OUT_UPLINK: u8 = 3;
    /// A router is on the way: TTL is checked and decremented.
    pub const FLAG_ROUTED: u8 = 1;
    /// Tunnel: the remote host is a neighbour on the underlay; no route has to be looked up.
    pub const FLAG_ON_LINK: u8 = 2;
    /// Port: one end of a veth pair whose other end takes packets directly.
    pub const FLAG_VETH_PEER: u8 = 4;
}

const PATH_WORDS: usize = size_of::<Path>() / 8;

/// A path in memory shared between CPUs.
#[repr(transparent)]
#[derive(Debug, FromBytes, IntoBytes, KnownLayout)]
pub struct PathCell([AtomicU64; PATH_WORDS]);

impl PathCell {
    /// Copies the path to `path`; true if it was computed in `epoch` and no write was under way. Otherwise
    /// `path` holds anything.
    #[inline(always)]
    pub fn load(&self, epoch: u32, path: &mut Path) -> bool {
        let words: &mut [u64; PATH_WORDS] = zerocopy::transmute_mut!(path);
        for (word, cell) in words.iter_mut().zip(&self.0) {
            *word = cell.load(Relaxed);
        }
        let ([first, ..], [loaded, ..]) = (&self.0, words);
        let whole = first.load(Relaxed) == *loaded;
        epoch != 0 && path.epoch == epoch && whole
    }

    #[inline(always)]
    pub fn store(&self, path: &Path) {
        let words: &[u64; PATH_WORDS] = zerocopy::transmute_ref!(path);
        let [first, rest @ ..] = &self.0;
        let [with_epoch, values @ ..] = words;
        first.store(0, Relaxed);
        for (cell, value) in rest.iter().zip(values) {
            cell.store(*value, Relaxed);
        }
        first.store(*with_epoch, Relaxed);
    }

    /// Makes the path unknown.
    #[inline(always)]
    pub fn clear(&self) {
        for cell in &self.0 {
            cell.store(0, Relaxed);
        }
    }

    /// Whatever is stored, for display.
    pub fn peek(&self) -> Path {
        let mut words = [0u64; PATH_WORDS];
        for (word, cell) in words.iter_mut().zip(&self.0) {
            *word = cell.load(Relaxed);
        }
        zerocopy::transmute!(words)
    }
}

/// What has been seen of a TCP connection, per direction, in `Session::tcp`: forward in bits 0-7, reply in
/// bits 8-15. For other protocols only "any packet" is used.
pub mod seen {
    pub const PACKET: u32 = 0x01;
    pub const SYN: u32 = 0x02;
    pub const ACK: u32 = 0x04;
    pub const FIN: u32 = 0x08;
    pub const RST: u32 = 0x10;
    pub const REPLY_SHIFT: u32 = 8;
}

/// The value of `sessions`, keyed by [`SessionKey::stored`].
#[repr(C)]
#[derive(Debug, FromBytes, IntoBytes, KnownLayout)]
pub struct Session {
    /// The key of the other direction: `src`/`dst` are the *translated* `dst`/`src` of this one.
    pub reply: SessionKey,
    /// [`Session::NAT_SRC`] and friends: what differs between `key` and the reversed `reply`.
    pub flags: u32,
    /// Times in nanoseconds of the monotonic clock.
    pub created_ns: u64,
    pub last_ns: AtomicU64,
    /// Per [`Direction`]. Bytes are of IP packets, each wire packet of a super-packet counted.
    pub packets: [AtomicU64; 2],
    pub bytes: [AtomicU64; 2],
    /// See [`seen`].
    pub seen: AtomicU32,
    /// The router that translates: scope of its mapping. 0: none.
    pub router_vni: u32,
    /// The external network its external side is on. 0: none.
    pub external_vni: u32,
    /// The network the forward direction ends on.
    pub inside_vni: u32,
    /// 1: the forward key is the stored one with its ends exchanged.
    pub exchanged: u32,
    pub zero: u32,
    /// Per [`Direction`].
    pub paths: [PathCell; 2],
}

impl Session {
    /// The forward source is translated by a mapping (port block).
    pub const NAT_SNAT: u32 = 1;
    /// The forward source is translated to its floating IP.
    pub const NAT_FLOATING_SRC: u32 = 2;
    /// The forward destination was a floating IP.
    pub const NAT_FLOATING_DST: u32 = 4;

    /// The forward destination was the external endpoint of a mapping on this host.
    pub const NAT_MAPPED_DST: u32 = 8;
    /// Its filter refused the first packet. Until the mapping's owner answers, which makes this the sender's
    /// hole in its own filter (RFC 4787 REQ-9, RFC 5382 REQ-8), forward packets are dropped.
    pub const NAT_PUNCHED: u32 = 16;
    /// The forward destination was a forwarded port of a floating IP.
    pub const NAT_FORWARDED_DST: u32 = 32;
    /// The forward destination was an external endpoint of ours, of whatever kind.
    pub const NAT_DST: u32 = Self::NAT_FLOATING_DST | Self::NAT_MAPPED_DST | Self::NAT_FORWARDED_DST;

    /// North-south with the source's own address.
    pub const NAT_ROUTED_SRC: u32 = 64;
    /// North-south to the destination's own address.
    pub const NAT_ROUTED_DST: u32 = 128;
    /// Neither is a translation.
    pub const NAT_ROUTED: u32 = Self::NAT_ROUTED_SRC | Self::NAT_ROUTED_DST;

    /// The key of the first packet, from the one the session is stored under.
    #[inline(always)]
    pub fn forward(&self, stored: &SessionKey) -> SessionKey {
        if self.exchanged != 0 { stored.reversed() } else { *stored }
    }

    /// The path cell of a direction.
    #[inline(always)]
    pub fn path(&self, direction: Direction) -> &PathCell {
        let [forward, reply] = &self.paths;
        match direction {
            Direction::Forward => forward,
            Direction::Reply => reply,
        }
    }

    /// Whether a packet of the other direction was seen.
    #[inline(always)]
    pub fn is_answered(&self) -> bool {
        self.seen.load(Relaxed) & seen::PACKET << seen::REPLY_SHIFT != 0
    }

    /// A copy of the state at this moment; fields that other CPUs change are read one by one.
    #[cfg(feature = "host")]
    pub fn duplicate(&self) -> Self {
        let [forward, reply] = &self.paths;
        let copy_u64 = |cells: &[AtomicU64; 2]| cells.each_ref().map(|c| AtomicU64::new(c.load(Relaxed)));
        let copy = Self {
            reply: self.reply,
            flags: self.flags,
            created_ns: self.created_ns,
            last_ns: AtomicU64::new(self.last_ns.load(Relaxed)),
            packets: copy_u64(&self.packets),
            bytes: copy_u64(&self.bytes),
            seen: AtomicU32::new(self.seen.load(Relaxed)),
            router_vni: self.router_vni,
            external_vni: self.external_vni,
            inside_vni: self.inside_vni,
            exchanged: self.exchanged,
            zero: 0,
            paths: zerocopy::FromZeros::new_zeroed(),
        };
        let [forward_copy, reply_copy] = &copy.paths;
        forward_copy.store(&forward.peek());
        reply_copy.store(&reply.peek());
        copy
    }

    /// Counts a packet: `wire_packets` on the wire with `ip_bytes` in total, TCP `flags` or 0.
    #[inline(always)]
    pub fn count(&self, direction: Direction, wire_packets: u32, ip_bytes: u32, now_ns: u64) {
        let ([forward_packets, reply_packets], [forward_bytes, reply_bytes]) = (&self.packets, &self.bytes);
        let (packets, bytes) = match direction {
            Direction::Forward => (forward_packets, forward_bytes),
            Direction::Reply => (reply_packets, reply_bytes),
        };
        packets.fetch_add(wire_packets as u64, Relaxed);
        bytes.fetch_add(ip_bytes as u64, Relaxed);
        self.last_ns.store(now_ns, Relaxed);
    }
}

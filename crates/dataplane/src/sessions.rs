//! Sessions and mappings as the kernel holds them: reading and ending them, and the times after which they are over.

use crate::Dataplane;
use crate::error::Error;
use crate::openings::OpenPort;
use crate::sys::MapFd;
use pipeline::nat::{BindingKey, ContactKey, Mapping, MappingKey};
use pipeline::session::{Path, Session, SessionKey, seen};
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;

/// One connection, as it was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Of the first packet's direction.
    pub key: SessionKey,
    /// Of the other direction.
    pub reply: SessionKey,
    /// `Session::NAT_SNAT` and friends.
    pub flags: u32,
    pub created_ns: u64,
    pub last_ns: u64,
    /// Forward, reply.
    pub packets: [u64; 2],
    /// Forward, reply; of IP packets.
    pub bytes: [u64; 2],
    /// See [`seen`].
    pub seen: u32,
    pub router_vni: u32,
    pub external_vni: u32,
    /// Forward, reply.
    pub paths: [Path; 2],
}

impl SessionRow {
    pub(crate) fn new(stored: SessionKey, session: &Session) -> Self {
        Self {
            key: session.forward(&stored),
            reply: session.reply,
            flags: session.flags,
            created_ns: session.created_ns,
            last_ns: session.last_ns.load(Relaxed),
            packets: session.packets.each_ref().map(|count| count.load(Relaxed)),
            bytes: session.bytes.each_ref().map(|count| count.load(Relaxed)),
            seen: session.seen.load(Relaxed),
            router_vni: session.router_vni,
            external_vni: session.external_vni,
            paths: session.paths.each_ref().map(|path| path.peek()),
        }
    }

    pub fn state(&self) -> State {
        State::of(self.key.protocol, self.seen)
    }

    /// Whether each end of a TCP connection has said that it is over, which no reset of a stranger can fake.
    pub(crate) fn is_closed_by_both(&self) -> bool {
        let both = self.seen & self.seen >> seen::REPLY_SHIFT;
        self.key.protocol == PROTOCOL_TCP && both & seen::FIN != 0
    }

    /// The claim its destination was reached by; none if whoever has it never answered.
    pub(crate) fn mapped_destination(&self) -> Option<BindingKey> {
        let answered = self.seen & seen::PACKET << seen::REPLY_SHIFT != 0;
        self.claim().filter(|_| answered)
    }

    /// The claim that somebody let its first packet in by.
    pub(crate) fn came_in_by(&self) -> Option<BindingKey> {
        self.claim().filter(|_| self.flags & Session::NAT_PUNCHED == 0)
    }

    fn claim(&self) -> Option<BindingKey> {
        (self.flags & Session::NAT_MAPPED_DST != 0).then_some(BindingKey {
            external_vni: self.external_vni,
            address: self.key.dst,
            port: self.key.dst_port,
            protocol: self.key.protocol,
            zero: 0,
        })
    }

    /// What its mapping was used towards.
    pub(crate) fn contact(&self) -> Option<ContactKey> {
        (self.flags & Session::NAT_SNAT != 0).then_some(ContactKey {
            binding: BindingKey {
                external_vni: self.external_vni,
                address: self.reply.dst,
                port: self.reply.dst_port,
                protocol: self.key.protocol,
                zero: 0,
            },
            remote: self.key.dst,
        })
    }

    /// The mapping its source is translated by, if any.
    pub fn mapping(&self) -> Option<MappingKey> {
        (self.flags & Session::NAT_SNAT != 0).then_some(MappingKey {
            router_vni: self.router_vni,
            address: self.key.src,
            port: self.key.src_port,
            protocol: self.key.protocol,
            zero: 0,
        })
    }
}

/// How far a connection has come; what its idle time is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// TCP: not both sides have been heard, or one has closed.
    TcpTransitory,
    TcpEstablished,
    /// TCP: reset, or closed from both sides.
    TcpClosed,
    Icmp,
    /// UDP and everything else.
    Other,
}

impl State {
    /// From the bits of [`seen`].
    pub fn of(protocol: u8, bits: u32) -> Self {
        if protocol == PROTOCOL_ICMP {
            return Self::Icmp;
        }
        if protocol != PROTOCOL_TCP {
            return Self::Other;
        }
        let (forward, reply) = (bits & 0xff, bits >> seen::REPLY_SHIFT & 0xff);
        if (forward | reply) & seen::RST != 0 || forward & reply & seen::FIN != 0 {
            Self::TcpClosed
        } else if (forward | reply) & seen::FIN != 0 || forward & reply & seen::ACK == 0 {
            Self::TcpTransitory
        } else {
            Self::TcpEstablished
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::TcpTransitory => "transitory",
            Self::TcpEstablished => "established",
            Self::TcpClosed => "closed",
            Self::Icmp | Self::Other => "active",
        }
    }
}

/// Idle times after which a session ends, and how long a freed port rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// RFC 4787 REQ-5 (the recommended five minutes, above the required two). Also of other protocols.
    pub udp: Duration,
    /// RFC 5508 REQ-2.
    pub icmp: Duration,
    /// RFC 5382 REQ-5: two hours and four minutes.
    pub tcp_established: Duration,
    /// RFC 5382 REQ-5: four minutes.
    pub tcp_transitory: Duration,
    /// RFC 7857 §2.1 and §2.2: four minutes.
    pub tcp_closed: Duration,
    /// Instead, while sessions or ports are scarce: both ends have said that it is over, and a client that
    /// opens thousands of connections a second would otherwise leave others none (RFC 6888 REQ-8).
    pub tcp_closed_pressed: Duration,
    /// Instead, while the session's own VM or external address has hardly a port left, and only if both ends
    /// have closed: long enough for the last acknowledgement. RFC 6888 REQ-8 lets such a port be reused at once.
    pub tcp_closed_scarce: Duration,
    /// Rest of a freed external port of UDP and ICMP (RFC 6888 REQ-8). TCP's is reused at once: its sessions
    /// end by its own state machine.
    pub port_rest: Duration,
    /// A mapping without session is left alone for this long after it was made: its session may be being made.
    pub mapping_grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            udp: Duration::from_secs(300),
            icmp: Duration::from_secs(60),
            tcp_established: Duration::from_secs(7440),
            tcp_transitory: Duration::from_secs(240),
            tcp_closed: Duration::from_secs(240),
            tcp_closed_pressed: Duration::from_secs(10),
            tcp_closed_scarce: Duration::from_secs(1),
            port_rest: Duration::from_secs(120),
            mapping_grace: Duration::from_secs(5),
        }
    }
}

impl Timeouts {
    /// Idle time of a session in a state.
    pub const fn of(&self, state: State) -> Duration {
        match state {
            State::TcpTransitory => self.tcp_transitory,
            State::TcpEstablished => self.tcp_established,
            State::TcpClosed => self.tcp_closed,
            State::Icmp => self.icmp,
            State::Other => self.udp,
        }
    }

    pub(crate) const fn under(self, pressed: bool) -> Self {
        if pressed { Self { tcp_closed: self.tcp_closed_pressed, ..self } } else { self }
    }

    pub(crate) fn rest(&self, protocol: u8) -> Duration {
        if protocol == PROTOCOL_TCP { Duration::ZERO } else { self.port_rest }
    }
}

/// What [`Dataplane::purge_mappings`] ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub mappings: usize,
    /// Those of them that VMs had asked for.
    pub openings: Vec<OpenPort>,
}

impl Dataplane {
    /// Every session, read in batches. Sessions that begin or end meanwhile may or may not be seen.
    pub fn sessions(&self) -> impl Iterator<Item = Result<SessionRow, Error>> {
        rows(&self.object.tables.sessions)
    }

    /// Every mapping, in the same way.
    pub fn mappings(&self) -> impl Iterator<Item = Result<(MappingKey, Mapping), Error>> {
        self.object.tables.mappings.elements().map(|row| row.map_err(Error::table("mappings")))
    }

    /// Ends a session; false if there was none. Its next packet is judged as the first of a new one.
    pub fn delete_session(&mut self, key: &SessionKey) -> Result<bool, Error> {
        match find(&self.object.tables.sessions, key)? {
            Some(row) if row.key == *key => self.remove_session(key, &row.reply),
            _ => Ok(false),
        }
    }

    fn remove_session(&self, key: &SessionKey, reply: &SessionKey) -> Result<bool, Error> {
        let tables = &self.object.tables;
        remove(&tables.sessions, &tables.replies, key, reply)
    }

    /// Ends the mappings for which `keep` is false, with their sessions. For SNAT addresses and port blocks that are no
    /// longer this host's.
    pub fn purge_mappings(
        &mut self,
        mut keep: impl FnMut(&MappingKey, &Mapping) -> bool,
    ) -> Result<Purged, Error> {
        let mut purged = HashSet::new();
        // The mapping first, so that no new session is built on it; the claim last, when nobody has opened it.
        let mut claims = Vec::new();
        for row in self.mappings() {
            let (key, mapping) = row?;
            if !keep(&key, &mapping) {
                self.object.tables.mappings.delete(&key).map_err(Error::table("mappings"))?;
                purged.insert(key);
                claims.push(binding_of(&key, &mapping));
            }
        }
        if purged.is_empty() {
            return Ok(Purged::default());
        }
        for row in self.sessions() {
            let row = row?;
            if row.mapping().is_some_and(|mapping| purged.contains(&mapping)) {
                self.remove_session(&row.key, &row.reply)?;
            }
        }
        let openings = self.close_ports(|open| !purged.contains(&open.internal))?;
        for claim in &claims {
            self.object.tables.bindings.delete(claim).map_err(Error::table("bindings"))?;
        }
        Ok(Purged { mappings: claims.len(), openings })
    }
}

/// The session that either direction's untranslated key leads to.
pub(crate) fn find(
    sessions: &MapFd<SessionKey, Session>,
    key: &SessionKey,
) -> Result<Option<SessionRow>, Error> {
    let (stored, _) = key.stored();
    let session = sessions.get(&stored).map_err(Error::table("sessions"))?;
    Ok(session.map(|session| SessionRow::new(stored, &session)))
}

/// Every session, read in batches. Sessions that begin or end meanwhile may or may not be seen.
pub(crate) fn rows(sessions: &MapFd<SessionKey, Session>) -> impl Iterator<Item = Result<SessionRow, Error>> {
    let rows = sessions.elements();
    rows.map(|row| row.map(|(key, session)| SessionRow::new(key, &session)).map_err(Error::table("sessions")))
}

/// Ends a session; false if it is gone. Reply first: a half-removed session is found by its own direction only. A
/// reply key that meanwhile belongs to another session is left alone.
pub(crate) fn remove(
    sessions: &MapFd<SessionKey, Session>,
    replies: &MapFd<SessionKey, SessionKey>,
    key: &SessionKey,
    reply: &SessionKey,
) -> Result<bool, Error> {
    let (stored, _) = key.stored();
    if *reply != key.reversed() && replies.get(reply).map_err(Error::table("replies"))? == Some(stored) {
        replies.delete(reply).map_err(Error::table("replies"))?;
    }
    sessions.delete(&stored).map_err(Error::table("sessions"))
}

pub(crate) fn binding_of(key: &MappingKey, mapping: &Mapping) -> BindingKey {
    BindingKey {
        external_vni: mapping.external_vni,
        address: mapping.address,
        port: mapping.port,
        protocol: key.protocol,
        zero: 0,
    }
}

//! Sessions and mappings as the kernel holds them: reading, ending, expiring.

use crate::Dataplane;
use crate::error::Error;
use crate::sys::MapFd;
use pipeline::Address;
use pipeline::nat::{BindingKey, ContactKey, Mapping, MappingKey};
use pipeline::session::{Path, Session, SessionKey, seen};
use pipeline::tables::{FixedKey, PortKey, RouterKey, Snat, Usage};
use port_bits::Crowded;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
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
    fn is_closed_by_both(&self) -> bool {
        let both = self.seen & self.seen >> seen::REPLY_SHIFT;
        self.key.protocol == PROTOCOL_TCP && both & seen::FIN != 0
    }

    /// The claim its destination was reached by; none if whoever has it never answered.
    fn mapped_destination(&self) -> Option<BindingKey> {
        let answered = self.seen & seen::PACKET << seen::REPLY_SHIFT != 0;
        (answered && self.flags & Session::NAT_MAPPED_DST != 0).then_some(BindingKey {
            external_vni: self.external_vni,
            address: self.key.dst,
            port: self.key.dst_port,
            protocol: self.key.protocol,
            zero: 0,
        })
    }

    /// What its mapping was used towards.
    fn contact(&self) -> Option<ContactKey> {
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

    const fn under(self, pressed: bool) -> Self {
        if pressed { Self { tcp_closed: self.tcp_closed_pressed, ..self } } else { self }
    }

    fn rest(&self, protocol: u8) -> Duration {
        if protocol == PROTOCOL_TCP { Duration::ZERO } else { self.port_rest }
    }
}

/// What a sweep did with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Alive,
    Ended,
}

/// What a sweep found and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub sessions_alive: usize,
    pub sessions_removed: usize,
    pub mappings_alive: usize,
    pub mappings_removed: usize,
    pub ports_freed: usize,
}

/// Ports without mapping, and since when. Lost with the process, which makes them rest a little longer.
#[derive(Debug, Default)]
pub(crate) struct RestingPorts(HashMap<BindingKey, u64>);

/// Keys in use, by hash: a collision keeps what is unused for one sweep more, and a set of hashes takes a third
/// of the memory.
#[derive(Default)]
struct HashedSet(HashSet<u64, BuildHasherDefault<DefaultHasher>>);

/// What sessions use.
#[derive(Default)]
struct InUse {
    mappings: HashedSet,
    /// Of routers that filter by address.
    contacts: HashedSet,
    /// Sessions by the port that they count against.
    ports: HashMap<PortKey, u32>,
}

/// Mappings alive, by the VM's address and by the external one, each of a router.
#[derive(Default)]
struct Mapped {
    owners: HashMap<FixedKey, u32>,
    addresses: HashMap<(u32, Address), u32>,
}

/// Who had hardly a port left when the last sweep looked.
#[derive(Debug, Default)]
pub(crate) struct Scarce {
    owners: HashSet<FixedKey>,
    addresses: HashSet<(u32, Address)>,
}

impl Scarce {
    /// Whether a session gives back a port that is missed, as soon as nobody needs it.
    fn wants(&self, row: &SessionRow) -> bool {
        let Some(mapping) = row.mapping() else { return false };
        let owner = FixedKey { router_vni: mapping.router_vni, address: mapping.address };
        row.is_closed_by_both()
            && (self.owners.contains(&owner) || self.addresses.contains(&(mapping.router_vni, row.reply.dst)))
    }
}

impl HashedSet {
    fn hash(key: &impl Hash) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
    }

    fn insert(&mut self, key: &impl Hash) {
        self.0.insert(Self::hash(key));
    }

    fn contains(&self, key: &impl Hash) -> bool {
        self.0.contains(&Self::hash(key))
    }
}

/// Nanoseconds of a duration; 584 years are enough.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Dataplane {
    /// Every session, read in batches. Sessions that begin or end meanwhile may or may not be seen.
    pub fn sessions(&self) -> impl Iterator<Item = Result<SessionRow, Error>> {
        let rows = self.object.tables.sessions.elements();
        rows.map(|row| {
            row.map(|(key, session)| SessionRow::new(key, &session)).map_err(Error::table("sessions"))
        })
    }

    /// Every mapping, in the same way.
    pub fn mappings(&self) -> impl Iterator<Item = Result<(MappingKey, Mapping), Error>> {
        self.object.tables.mappings.elements().map(|row| row.map_err(Error::table("mappings")))
    }

    /// Ends a session; false if there was none. Its next packet is judged as the first of a new one.
    pub fn delete_session(&mut self, key: &SessionKey) -> Result<bool, Error> {
        match self.session(key)? {
            Some(row) if row.key == *key => self.remove_session(key, &row.reply),
            _ => Ok(false),
        }
    }

    /// Reply first: a half-removed session is found by its own direction only. A reply key that meanwhile
    /// belongs to another session is left alone.
    fn remove_session(&self, key: &SessionKey, reply: &SessionKey) -> Result<bool, Error> {
        let tables = &self.object.tables;
        remove(&tables.sessions, &tables.replies, key, reply)
    }

    /// Removes what is over at `now_ns` of the monotonic clock: idle sessions, mappings that no session uses, and
    /// claims on ports that no mapping has, once they have rested.
    pub fn sweep(&mut self, now_ns: u64, timeouts: &Timeouts) -> Result<Swept, Error> {
        self.sweep_seen(now_ns, timeouts, &mut |_, _| {})
    }

    /// Likewise, and shows every session there was.
    pub fn sweep_seen(
        &mut self,
        now_ns: u64,
        timeouts: &Timeouts,
        seen: &mut dyn FnMut(&SessionRow, Fate),
    ) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let timeouts = &timeouts.under(self.pressed);
        let in_use = self.sweep_sessions(now_ns, timeouts, &mut swept, seen)?;
        self.sweep_contacts(&in_use)?;
        let usage = self.sweep_mappings(now_ns, timeouts, &in_use, &mut swept)?;
        self.pressed = swept.sessions_alive > self.sessions_max as usize / 4
            || self.sessions_scarce(&in_use.ports)
            || self.ports_used(&usage, |max, used| used > max / 2).is_some();
        self.scarce = self.ports_used(&usage, |max, used| used >= max - max / 8).unwrap_or_default();
        self.correct_sessions(&in_use.ports)?;
        self.correct_usage(&usage.owners)?;
        let crowded = self.sweep_bindings(now_ns, timeouts, &mut swept)?;
        self.correct_port_bits(&crowded)?;
        Ok(swept)
    }

    fn sweep_sessions(
        &self,
        now_ns: u64,
        timeouts: &Timeouts,
        swept: &mut Swept,
        seen: &mut dyn FnMut(&SessionRow, Fate),
    ) -> Result<InUse, Error> {
        let idle = |row: &SessionRow| {
            let max =
                if self.scarce.wants(row) { timeouts.tcp_closed_scarce } else { timeouts.of(row.state()) };
            now_ns.saturating_sub(row.last_ns) > nanoseconds(max)
        };
        let mut in_use = InUse::default();
        for row in self.sessions() {
            let row = row?;
            // A packet may have come since the batch was read.
            if idle(&row) && self.session(&row.key)?.is_none_or(|row| idle(&row)) {
                if self.remove_session(&row.key, &row.reply)? {
                    swept.sessions_removed += 1;
                    seen(&row, Fate::Ended);
                }
                continue;
            }
            swept.sessions_alive += 1;
            seen(&row, Fate::Alive);
            self.note_use(&row, &mut in_use)?;
        }
        Ok(in_use)
    }

    fn note_use(&self, row: &SessionRow, in_use: &mut InUse) -> Result<(), Error> {
        let tables = &self.object.tables;
        *in_use.ports.entry(self.payer(row)).or_default() += 1;
        if let Some(mapping) = row.mapping() {
            in_use.mappings.insert(&mapping);
        }
        if let Some(claim) = row.mapped_destination()
            && let Some(mapping) = tables.bindings.get(&claim).map_err(Error::table("bindings"))?
        {
            in_use.mappings.insert(&mapping);
        }
        if let Some(contact) = row.contact().filter(|_| self.filters_by_address(row.router_vni)) {
            in_use.contacts.insert(&contact);
            // Of a session that is older than the router's choice.
            tables.contacts.add(&contact, &1).map_err(Error::table("contacts"))?;
        }
        Ok(())
    }

    /// The port that a session counts against, as in the walk: the sender's, or else the receiver's.
    fn payer(&self, row: &SessionRow) -> PortKey {
        let [forward, _] = &row.paths;
        let sender = PortKey { ifindex: forward.ingress };
        if self.current.ports.contains_key(&sender) { sender } else { PortKey { ifindex: forward.ifindex } }
    }

    /// The programs count sessions up; this counts them as they are. One made meanwhile may be missed until the
    /// next sweep.
    fn correct_sessions(&self, ports: &HashMap<PortKey, u32>) -> Result<(), Error> {
        let table = &self.object.tables.port_sessions;
        for key in self.current.ports.keys() {
            let used = ports.get(key).copied().unwrap_or(0);
            if table.get(key).map_err(Error::table("port_sessions"))? != Some(used) {
                table.put(key, &used).map_err(Error::table("port_sessions"))?;
            }
        }
        Ok(())
    }

    /// Whether some port has half of the sessions it may have.
    fn sessions_scarce(&self, ports: &HashMap<PortKey, u32>) -> bool {
        let max = self.current.config.sessions_per_port_max;
        max != 0 && ports.values().any(|used| *used > max / 2)
    }

    fn filters_by_address(&self, router_vni: u32) -> bool {
        let snat = self.current.snat.get(&RouterKey { router_vni });
        snat.is_some_and(|snat| snat.flags & Snat::FLAG_ADDRESS_FILTERING != 0)
    }

    /// A contact that no session has any more, or that its router no longer asks for. One made meanwhile may be
    /// lost, and comes back with the next session or sweep.
    fn sweep_contacts(&self, in_use: &InUse) -> Result<(), Error> {
        let table = &self.object.tables.contacts;
        for row in table.elements() {
            let (contact, _) = row.map_err(Error::table("contacts"))?;
            if !in_use.contacts.contains(&contact) {
                table.delete(&contact).map_err(Error::table("contacts"))?;
            }
        }
        Ok(())
    }

    /// The session that either direction's untranslated key leads to.
    fn session(&self, key: &SessionKey) -> Result<Option<SessionRow>, Error> {
        let (stored, _) = key.stored();
        let session = self.object.tables.sessions.get(&stored).map_err(Error::table("sessions"))?;
        Ok(session.map(|session| SessionRow::new(stored, &session)))
    }

    fn sweep_mappings(
        &self,
        now_ns: u64,
        timeouts: &Timeouts,
        in_use: &InUse,
        swept: &mut Swept,
    ) -> Result<Mapped, Error> {
        let mut usage = Mapped::default();
        for row in self.mappings() {
            let (key, mapping) = row?;
            let age_ns = now_ns.saturating_sub(mapping.created_ns);
            if in_use.mappings.contains(&key) || age_ns <= nanoseconds(timeouts.mapping_grace) {
                swept.mappings_alive += 1;
                let owner = FixedKey { router_vni: key.router_vni, address: key.address };
                *usage.owners.entry(owner).or_default() += 1;
                *usage.addresses.entry((key.router_vni, mapping.address)).or_default() += 1;
                continue;
            }
            let removed = self.object.tables.mappings.delete(&key).map_err(Error::table("mappings"))?;
            swept.mappings_removed += usize::from(removed);
        }
        Ok(usage)
    }

    /// The addresses and the VMs of which so many of the ports are mapped that there are here, or that they may
    /// have; none if there is none of them.
    fn ports_used(&self, usage: &Mapped, many: impl Fn(u32, u32) -> bool) -> Option<Scarce> {
        let mut ports: HashMap<(u32, Address), u32> = HashMap::new();
        for (key, block) in &self.current.own_blocks {
            *ports.entry((key.router_vni, block.address)).or_default() += u32::from(block.size);
        }
        let share = |owner: &FixedKey| {
            let snat = self.current.snat.get(&RouterKey { router_vni: owner.router_vni });
            snat.map(|snat| snat.ports_max).filter(|max| *max != 0)
        };
        let many = |max: Option<u32>, used: u32| max.is_some_and(|max| many(max, used));
        let owners = usage.owners.iter().filter(|(owner, used)| many(share(owner), **used));
        let addresses = usage.addresses.iter().filter(|(key, used)| many(ports.get(key).copied(), **used));
        let scarce = Scarce {
            owners: owners.map(|(owner, _)| *owner).collect(),
            addresses: addresses.map(|(key, _)| *key).collect(),
        };
        (!scarce.owners.is_empty() || !scarce.addresses.is_empty()).then_some(scarce)
    }

    /// The programs count mappings up; this counts them as they are. A mapping made meanwhile may be missed
    /// until the next sweep, which lets one address have a few more than its share.
    fn correct_usage(&self, usage: &HashMap<FixedKey, u32>) -> Result<(), Error> {
        let table = &self.object.tables.port_usage;
        for row in table.elements() {
            let (owner, counted) = row.map_err(Error::table("port_usage"))?;
            match usage.get(&owner) {
                Some(ports) if *ports == counted.ports => {}
                Some(ports) => {
                    let corrected = Usage { ports: *ports, ..counted };
                    table.put(&owner, &corrected).map_err(Error::table("port_usage"))?;
                }
                None => drop(table.delete(&owner).map_err(Error::table("port_usage"))?),
            }
        }
        Ok(())
    }

    /// A claim without mapping rests from the sweep that found it so.
    fn sweep_bindings(
        &mut self,
        now_ns: u64,
        timeouts: &Timeouts,
        swept: &mut Swept,
    ) -> Result<Crowded, Error> {
        let tables = &self.object.tables;
        let mut crowded = self.crowded()?;
        let mut resting = HashMap::new();
        for row in tables.bindings.elements() {
            let (binding, mapping_key) = row.map_err(Error::table("bindings"))?;
            let mapping = tables.mappings.get(&mapping_key).map_err(Error::table("mappings"))?;
            if mapping.is_some_and(|mapping| binding_of(&mapping_key, &mapping) == binding) {
                crowded.note(&binding);
                continue;
            }
            let since = self.resting.0.get(&binding).copied();
            let rest = nanoseconds(timeouts.rest(binding.protocol).max(timeouts.mapping_grace));
            if since.is_some_and(|since| now_ns.saturating_sub(since) >= rest) {
                swept.ports_freed +=
                    usize::from(tables.bindings.delete(&binding).map_err(Error::table("bindings"))?);
            } else {
                crowded.note(&binding);
                resting.insert(binding, since.unwrap_or(now_ns));
            }
        }
        self.resting = RestingPorts(resting);
        Ok(crowded)
    }

    /// Ends the mappings for which `keep` is false, with their sessions; returns how many. For SNAT addresses
    /// and port blocks that are no longer this host's.
    pub fn purge_mappings(
        &mut self,
        mut keep: impl FnMut(&MappingKey, &Mapping) -> bool,
    ) -> Result<usize, Error> {
        let mut purged = HashSet::new();
        // The mapping first, so that no new session is built on it; the claim last.
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
            return Ok(0);
        }
        for row in self.sessions() {
            let row = row?;
            if row.mapping().is_some_and(|mapping| purged.contains(&mapping)) {
                self.remove_session(&row.key, &row.reply)?;
            }
        }
        for claim in &claims {
            self.object.tables.bindings.delete(claim).map_err(Error::table("bindings"))?;
        }
        Ok(claims.len())
    }
}

/// Ends a session; false if it is gone.
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

mod port_bits;
#[cfg(test)]
mod root_tests;

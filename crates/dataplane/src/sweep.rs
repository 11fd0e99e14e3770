//! The sweep: ends what is over. It has handles of its own, so that it can be done in any thread while packets, and
//! whoever writes the tables, go on.
//!
//! Who races: the programs make and use sessions and mappings, others end them, ports come and go. So a session is read
//! again before it is ended, a mapping has a time of grace, a claim rests, and a count that was wrong is put right by
//! the next sweep.

use crate::Dataplane;
use crate::error::Error;
use crate::object::KernelTables;
use crate::session_tables::SessionTables;
use crate::sessions::{self, SessionRow, Timeouts, binding_of};
use crate::sys::MapFd;
use pipeline::Address;
use pipeline::nat::{BindingKey, ContactKey, MappingKey, Opening, PortBits, PortBitsKey};
use pipeline::table_set::TableSet;
use pipeline::tables::{FixedKey, PortKey, RouterKey, Snat, Usage};
use port_bits::Crowded;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::time::Duration;

mod port_bits;

/// Sweeps one data path, and remembers between two sweeps.
#[derive(Debug)]
pub struct Sweeper {
    tables: SessionTables,
    bindings: MapFd<BindingKey, MappingKey>,
    contacts: MapFd<ContactKey, u32>,
    openings: MapFd<BindingKey, Opening>,
    port_sessions: MapFd<PortKey, u32>,
    port_usage: MapFd<FixedKey, Usage>,
    port_bits: MapFd<PortBitsKey, PortBits>,
    /// Entries that `sessions` was made for.
    sessions_max: u32,
    resting: RestingPorts,
    /// Whether the last sweep found sessions or ports getting scarce.
    pressed: bool,
    /// Whose ports it found nearly gone.
    scarce: Scarce,
    /// External endpoints that were closed since the last one.
    closed: HashSet<BindingKey>,
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
struct RestingPorts(HashMap<BindingKey, u64>);

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
struct Scarce {
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
    /// Sweeps with a memory of its own. What sweeps must always be the same one: ports rest in its memory.
    pub fn sweeper(&self) -> Result<Sweeper, Error> {
        Sweeper::new(&self.object.tables, self.sessions_max)
    }
}

impl Sweeper {
    fn new(kernel: &KernelTables, sessions_max: u32) -> Result<Self, Error> {
        macro_rules! handle {
            ($table:ident) => {
                kernel.$table.try_clone().map_err(Error::table(stringify!($table)))?
            };
        }
        Ok(Self {
            tables: SessionTables::of(kernel)?,
            bindings: handle!(bindings),
            contacts: handle!(contacts),
            openings: handle!(openings),
            port_sessions: handle!(port_sessions),
            port_usage: handle!(port_usage),
            port_bits: handle!(port_bits),
            sessions_max,
            resting: RestingPorts::default(),
            pressed: false,
            scarce: Scarce::default(),
            closed: HashSet::new(),
        })
    }

    /// Sessions that came in by these external endpoints, which their VMs or the operator closed, end with the next
    /// sweep. Those that somebody else's rule lets in begin anew with their next packet.
    pub fn close(&mut self, closed: impl IntoIterator<Item = BindingKey>) {
        self.closed.extend(closed);
    }

    /// Removes what is over at `now_ns` of the monotonic clock: idle sessions, mappings that no session uses, and
    /// claims on ports that no mapping has, once they have rested. `programmed` is what the kernel's tables hold, or
    /// held a moment ago. Every session there was is shown.
    pub fn sweep(
        &mut self,
        now_ns: u64,
        timeouts: &Timeouts,
        programmed: &TableSet,
        seen: &mut dyn FnMut(&SessionRow, Fate),
    ) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let timeouts = &timeouts.under(self.pressed);
        let in_use = self.sweep_sessions((now_ns, timeouts), programmed, &mut swept, seen)?;
        self.sweep_contacts(&in_use)?;
        let usage = self.sweep_mappings(now_ns, timeouts, &in_use, &mut swept)?;
        self.pressed = swept.sessions_alive > self.sessions_max as usize / 4
            || sessions_scarce(programmed, &in_use.ports)
            || ports_used(programmed, &usage, |max, used| used > max / 2).is_some();
        self.scarce = ports_used(programmed, &usage, |max, used| used >= max - max / 8).unwrap_or_default();
        self.closed.clear();
        self.correct_sessions(programmed, &in_use.ports)?;
        self.correct_usage(&usage.owners)?;
        let crowded = self.sweep_bindings((now_ns, timeouts), programmed, &mut swept)?;
        self.correct_port_bits(&crowded)?;
        Ok(swept)
    }

    fn sweep_sessions(
        &self,
        (now_ns, timeouts): (u64, &Timeouts),
        programmed: &TableSet,
        swept: &mut Swept,
        seen: &mut dyn FnMut(&SessionRow, Fate),
    ) -> Result<InUse, Error> {
        let over = |row: &SessionRow| {
            if row.came_in_by().is_some_and(|claim| self.closed.contains(&claim)) {
                return true;
            }
            let max =
                if self.scarce.wants(row) { timeouts.tcp_closed_scarce } else { timeouts.of(row.state()) };
            now_ns.saturating_sub(row.last_ns) > nanoseconds(max)
        };
        let mut in_use = InUse::default();
        let SessionTables { sessions, replies, .. } = &self.tables;
        for row in self.tables.rows() {
            let row = row?;
            // A packet may have come since the batch was read.
            if over(&row) && sessions::find(sessions, &row.key)?.is_none_or(|row| over(&row)) {
                if sessions::remove(sessions, replies, &row.key, &row.reply)? {
                    swept.sessions_removed += 1;
                    seen(&row, Fate::Ended);
                }
                continue;
            }
            swept.sessions_alive += 1;
            seen(&row, Fate::Alive);
            self.note_use(&row, programmed, &mut in_use)?;
        }
        Ok(in_use)
    }

    fn note_use(&self, row: &SessionRow, programmed: &TableSet, in_use: &mut InUse) -> Result<(), Error> {
        *in_use.ports.entry(payer(programmed, row)).or_default() += 1;
        if let Some(mapping) = row.mapping() {
            in_use.mappings.insert(&mapping);
        }
        if let Some(claim) = row.mapped_destination()
            && let Some(mapping) = self.bindings.get(&claim).map_err(Error::table("bindings"))?
        {
            in_use.mappings.insert(&mapping);
        }
        if let Some(contact) = row.contact().filter(|_| filters_by_address(programmed, row.router_vni)) {
            in_use.contacts.insert(&contact);
            // Of a session that is older than the router's choice.
            self.contacts.add(&contact, &1).map_err(Error::table("contacts"))?;
        }
        Ok(())
    }

    /// The programs count sessions up; this counts them as they are. One made meanwhile may be missed until the
    /// next sweep.
    fn correct_sessions(&self, programmed: &TableSet, ports: &HashMap<PortKey, u32>) -> Result<(), Error> {
        let table = &self.port_sessions;
        for key in programmed.ports.keys() {
            let used = ports.get(key).copied().unwrap_or(0);
            // A port that went meanwhile has taken its count along.
            if table.get(key).map_err(Error::table("port_sessions"))?.is_some_and(|counted| counted != used) {
                table.replace(key, &used).map_err(Error::table("port_sessions"))?;
            }
        }
        Ok(())
    }

    /// A contact that no session has any more, or that its router no longer asks for. One made meanwhile may be
    /// lost, and comes back with the next session or sweep.
    fn sweep_contacts(&self, in_use: &InUse) -> Result<(), Error> {
        let table = &self.contacts;
        for row in table.elements() {
            let (contact, _) = row.map_err(Error::table("contacts"))?;
            if !in_use.contacts.contains(&contact) {
                table.delete(&contact).map_err(Error::table("contacts"))?;
            }
        }
        Ok(())
    }

    fn sweep_mappings(
        &self,
        now_ns: u64,
        timeouts: &Timeouts,
        in_use: &InUse,
        swept: &mut Swept,
    ) -> Result<Mapped, Error> {
        let mut usage = Mapped::default();
        for row in self.tables.mappings() {
            let (key, mapping) = row?;
            let age_ns = now_ns.saturating_sub(mapping.created_ns);
            let claim = binding_of(&key, &mapping);
            let used = in_use.mappings.contains(&key) || age_ns <= nanoseconds(timeouts.mapping_grace);
            if used || self.is_open(&claim)? {
                swept.mappings_alive += 1;
                let owner = FixedKey { router_vni: key.router_vni, address: key.address };
                *usage.owners.entry(owner).or_default() += 1;
                *usage.addresses.entry((key.router_vni, mapping.address)).or_default() += 1;
                continue;
            }
            let removed = self.tables.mappings.delete(&key).map_err(Error::table("mappings"))?;
            swept.mappings_removed += usize::from(removed);
            // Opened between the look and the end of it: whoever did counts on it, or finds it gone and makes another.
            if removed && self.is_open(&claim)? {
                self.tables.mappings.add(&key, &mapping).map_err(Error::table("mappings"))?;
            }
        }
        Ok(usage)
    }

    fn is_open(&self, claim: &BindingKey) -> Result<bool, Error> {
        Ok(self.openings.get(claim).map_err(Error::table("openings"))?.is_some())
    }

    /// The programs count mappings up; this counts them as they are. A mapping made meanwhile may be missed
    /// until the next sweep, which lets one address have a few more than its share.
    fn correct_usage(&self, usage: &HashMap<FixedKey, u32>) -> Result<(), Error> {
        let table = &self.port_usage;
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
        (now_ns, timeouts): (u64, &Timeouts),
        programmed: &TableSet,
        swept: &mut Swept,
    ) -> Result<Crowded, Error> {
        let mut crowded = self.crowded(programmed)?;
        let mut resting = HashMap::new();
        for row in self.bindings.elements() {
            let (binding, mapping_key) = row.map_err(Error::table("bindings"))?;
            let mapping = self.tables.mappings.get(&mapping_key).map_err(Error::table("mappings"))?;
            if mapping.is_some_and(|mapping| binding_of(&mapping_key, &mapping) == binding) {
                crowded.note(&binding);
                continue;
            }
            let since = self.resting.0.get(&binding).copied();
            let rest = nanoseconds(timeouts.rest(binding.protocol).max(timeouts.mapping_grace));
            if since.is_some_and(|since| now_ns.saturating_sub(since) >= rest) {
                swept.ports_freed +=
                    usize::from(self.bindings.delete(&binding).map_err(Error::table("bindings"))?);
            } else {
                crowded.note(&binding);
                resting.insert(binding, since.unwrap_or(now_ns));
            }
        }
        self.resting = RestingPorts(resting);
        Ok(crowded)
    }
}

/// The port that a session counts against, as in the walk: the sender's, or else the receiver's.
fn payer(programmed: &TableSet, row: &SessionRow) -> PortKey {
    let [forward, _] = &row.paths;
    let sender = PortKey { ifindex: forward.ingress };
    if programmed.ports.contains_key(&sender) { sender } else { PortKey { ifindex: forward.ifindex } }
}

/// Whether some port has half of the sessions it may have.
fn sessions_scarce(programmed: &TableSet, ports: &HashMap<PortKey, u32>) -> bool {
    let max = programmed.config.sessions_per_port_max;
    max != 0 && ports.values().any(|used| *used > max / 2)
}

fn filters_by_address(programmed: &TableSet, router_vni: u32) -> bool {
    let snat = programmed.snat.get(&RouterKey { router_vni });
    snat.is_some_and(|snat| snat.flags & Snat::FLAG_ADDRESS_FILTERING != 0)
}

/// The addresses and the VMs of which so many of the ports are mapped that there are here, or that they may
/// have; none if there is none of them.
fn ports_used(programmed: &TableSet, usage: &Mapped, many: impl Fn(u32, u32) -> bool) -> Option<Scarce> {
    let mut ports: HashMap<(u32, Address), u32> = HashMap::new();
    for (key, block) in &programmed.own_blocks {
        *ports.entry((key.router_vni, block.address)).or_default() += u32::from(block.size);
    }
    let share = |owner: &FixedKey| {
        let snat = programmed.snat.get(&RouterKey { router_vni: owner.router_vni });
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

#[cfg(test)]
mod root_tests;

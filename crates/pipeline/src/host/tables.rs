//! A host's tables in maps, with a clock and a seeded source of randomness.

use crate::address::Address;
use crate::bounds::{
    FRAGMENTS_MAX, FRAME_BURST, FRAMES_PER_SECOND, PUNT_BURST, PUNTS_PER_SECOND, SESSIONS_MAX,
};
use crate::event::{Event, FrameEvent, FrameHead};
use crate::fragment::{Fragment, FragmentKey};
use crate::nat::{BindingKey, ContactKey, Mapping, MappingKey, Opening, PortBits, PortBitsKey};
use crate::runtime::{InsertError, Reserved, Share, Tables};
use crate::session::{Session, SessionKey};
use crate::table_set::{Prefix, TableSet};
use crate::tables::*;
use crate::verdict::{Total, counter};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet, hash_map::Entry};
use std::rc::Rc;
use zerocopy::FromZeros;

const SECOND_NS: u64 = 1_000_000_000;

/// Configuration and state of one host.
#[derive(Debug, Default)]
pub struct HostTables {
    pub set: TableSet,
    pub sessions: RefCell<HashMap<SessionKey, Rc<Session>>>,
    pub replies: RefCell<HashMap<SessionKey, SessionKey>>,
    pub mappings: RefCell<HashMap<MappingKey, Mapping>>,
    pub bindings: RefCell<HashMap<BindingKey, MappingKey>>,
    pub contacts: RefCell<HashSet<ContactKey>>,
    pub openings: RefCell<HashMap<BindingKey, Opening>>,
    pub port_usage: RefCell<HashMap<FixedKey, Usage>>,
    pub port_bits: RefCell<HashMap<PortBitsKey, Rc<PortBits>>>,
    /// Of the ports in `set`, by interface.
    pub port_sessions: RefCell<HashMap<u32, u32>>,
    pub fragments: RefCell<HashMap<FragmentKey, Fragment>>,
    pub counters: RefCell<BTreeMap<u32, u64>>,
    pub port_counters: RefCell<BTreeMap<u32, PortCounters>>,
    pub events: RefCell<Vec<Event>>,
    pub frames: RefCell<Vec<(FrameHead, Vec<u8>)>>,
    /// Tokens and time of the last refill per ingress; true: of whole frames.
    punt_buckets: RefCell<HashMap<(u32, bool), (u64, u64)>>,
    pub now_ns: Cell<u64>,
    pub seed: Cell<u64>,
}

impl HostTables {
    /// Tables with this configuration in epoch 1, at one second after boot.
    pub fn new(mut set: TableSet, seed: u64) -> Self {
        set.config.epoch = set.config.epoch.max(1);
        let tables = Self { set, ..Self::default() };
        tables.now_ns.set(1_000_000_000);
        tables.seed.set(seed);
        tables
    }

    /// Replaces the configuration as the data plane does: in a new epoch.
    pub fn reconfigure(&mut self, mut set: TableSet) {
        set.config.epoch = self.set.config.epoch + 1;
        self.set = set;
    }

    pub(super) fn acl_classes(&self, key: &AclRemoteKey) -> Option<AclClasses> {
        Prefix::longest(&self.set.acl_remotes, key, AclRemoteKey::LPM_LENS).map(|(_, classes)| *classes)
    }

    fn token(&self, bucket: (u32, bool), burst: u64, per_second: u64) -> bool {
        let now_ns = self.now_ns.get();
        let mut buckets = self.punt_buckets.borrow_mut();
        let (tokens, filled_ns) = buckets.entry(bucket).or_insert((burst, now_ns));
        let refill = now_ns.saturating_sub(*filled_ns) * per_second / SECOND_NS;
        if refill > 0 {
            *tokens = (*tokens + refill).min(burst);
            *filled_ns = now_ns;
        }
        if *tokens == 0 {
            return false;
        }
        *tokens -= 1;
        true
    }

    /// A counter's value.
    pub fn counter(&self, slot: u32) -> u64 {
        self.counters.borrow().get(&slot).copied().unwrap_or(0)
    }

    pub fn total(&self, total: Total) -> u64 {
        self.counter(counter::total(total))
    }
}

fn insert_new<K: Eq + std::hash::Hash, V>(
    table: &RefCell<HashMap<K, V>>,
    key: K,
    value: V,
) -> Result<(), InsertError> {
    let mut table = table.borrow_mut();
    let full = table.len() >= SESSIONS_MAX as usize;
    match table.entry(key) {
        Entry::Occupied(_) => Err(InsertError::Exists),
        Entry::Vacant(_) if full => Err(InsertError::Full),
        Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
    }
}

impl Tables for HostTables {
    type SessionRef<'a> = Rc<Session>;
    type PortBitsRef<'a> = Rc<PortBits>;

    fn config(&self) -> Config {
        self.set.config
    }

    fn port(&self, key: &PortKey) -> Option<Port> {
        self.set.ports.get(key).copied()
    }

    fn port_address(&self, key: &PortAddressKey) -> bool {
        self.set.port_addresses.contains_key(key)
    }

    fn port_prefix(&self, key: &PortAddressKey) -> bool {
        Prefix::longest(&self.set.port_prefixes, key, PortAddressKey::LPM_LENS).is_some()
    }

    fn acl_remote(&self, key: &AclRemoteKey, classes: &mut AclClasses) -> bool {
        let found = self.acl_classes(key);
        *classes = found.unwrap_or(*classes);
        found.is_some()
    }

    fn acl_rule(&self, key: &AclRuleKey) -> u32 {
        Prefix::longest(&self.set.acl_rules, key, AclRuleKey::LPM_LENS).map_or(0, |(_, allowed)| *allowed)
    }

    fn network(&self, key: &NetworkKey) -> Option<Network> {
        self.set.networks.get(key).copied()
    }

    fn station(&self, key: &StationKey) -> Option<Station> {
        self.set.stations.get(key).copied()
    }

    fn neighbor(&self, key: &NeighborKey) -> Option<Neighbor> {
        self.set.neighbors.get(key).copied()
    }

    fn route(&self, key: &RouteKey) -> Option<Route> {
        let matching = self.set.routes.iter().filter(|(prefix, _)| prefix.covers(key));
        matching.max_by_key(|(prefix, _)| prefix.len).map(|(_, route)| *route)
    }

    fn external(&self, key: &NetworkKey) -> Option<External> {
        self.set.externals.get(key).copied()
    }

    fn uplink(&self, key: &UplinkKey) -> Option<NetworkKey> {
        self.set.uplinks.get(key).copied()
    }

    fn gateway(&self, key: &GatewayKey) -> Option<GatewayValue> {
        self.set.gateways.get(key).copied()
    }

    fn external_address(&self, key: &ExternalAddressKey) -> Option<ExternalAddress> {
        self.set.external_addresses.get(key).copied()
    }

    fn forwarding(&self, key: &BindingKey) -> Option<Forwarding> {
        self.set.forwardings.get(key).copied()
    }

    fn floating_by_fixed(&self, key: &FixedKey) -> Option<Floating> {
        self.set.floating_by_fixed.get(key).copied()
    }

    fn snat(&self, key: &RouterKey) -> Option<Snat> {
        self.set.snat.get(key).copied()
    }

    fn own_block(&self, key: &BlockKey) -> Option<PortBlock> {
        self.set.own_blocks.get(key).copied()
    }

    fn block_owner(&self, key: &BlockOwnerKey) -> Option<BlockOwner> {
        self.set.block_owners.get(key).copied()
    }

    fn vtep(&self, key: &VtepKey) -> Option<Vtep> {
        self.set.vteps.get(key).copied()
    }

    fn service(&self, key: &ServiceKey) -> Option<Service> {
        self.set.services.get(key).copied()
    }

    fn session(&self, key: &SessionKey) -> Option<Rc<Session>> {
        self.sessions.borrow().get(key).cloned()
    }

    fn insert_session(&self, key: &SessionKey, session: &Session) -> Result<(), InsertError> {
        insert_new(&self.sessions, *key, Rc::new(session.duplicate()))
    }

    fn remove_session(&self, key: &SessionKey) {
        self.sessions.borrow_mut().remove(key);
    }

    fn reply(&self, key: &SessionKey) -> Option<SessionKey> {
        self.replies.borrow().get(key).copied()
    }

    fn insert_reply(&self, key: &SessionKey, forward: &SessionKey) -> Result<(), InsertError> {
        insert_new(&self.replies, *key, *forward)
    }

    fn remove_reply(&self, key: &SessionKey) {
        self.replies.borrow_mut().remove(key);
    }

    fn mapping(&self, key: &MappingKey) -> Option<Mapping> {
        self.mappings.borrow().get(key).copied()
    }

    fn insert_mapping(&self, key: &MappingKey, mapping: &Mapping) -> Result<(), InsertError> {
        insert_new(&self.mappings, *key, *mapping)
    }

    fn binding(&self, key: &BindingKey) -> Option<MappingKey> {
        self.bindings.borrow().get(key).copied()
    }

    fn insert_binding(&self, key: &BindingKey, mapping: &MappingKey) -> Result<(), InsertError> {
        insert_new(&self.bindings, *key, *mapping)
    }

    fn remove_binding(&self, key: &BindingKey) {
        self.bindings.borrow_mut().remove(key);
    }

    fn contact(&self, key: &ContactKey) -> bool {
        self.contacts.borrow().contains(key)
    }

    fn insert_contact(&self, key: &ContactKey) {
        let mut contacts = self.contacts.borrow_mut();
        if contacts.len() < SESSIONS_MAX as usize {
            contacts.insert(*key);
        }
    }

    fn opening(&self, key: &BindingKey) -> bool {
        self.openings.borrow().contains_key(key)
    }

    fn reserve_port(&self, owner: &FixedKey, share: &Share) -> Reserved {
        let mut usages = self.port_usage.borrow_mut();
        let usage = usages.entry(*owner).or_default();
        match share.admit(usage, self.now_ns.get()) {
            Ok(paid_ns) => {
                usage.full_at_ns = paid_ns;
                usage.ports += 1;
                Reserved::Granted
            }
            Err(refused) => refused,
        }
    }

    fn release_port(&self, owner: &FixedKey) {
        if let Some(usage) = self.port_usage.borrow_mut().get_mut(owner) {
            usage.ports = usage.ports.saturating_sub(1);
        }
    }

    fn port_bits(&self, key: &PortBitsKey) -> Option<Rc<PortBits>> {
        self.port_bits.borrow().get(key).cloned()
    }

    fn insert_port_bits(&self, key: &PortBitsKey, _none: &PortBits) {
        self.port_bits.borrow_mut().entry(*key).or_insert_with(|| Rc::new(PortBits::new_zeroed()));
    }

    fn reserve_session(&self, ifindex: u32, max: u32) -> bool {
        if !self.set.ports.contains_key(&PortKey { ifindex }) {
            return true;
        }
        let mut sessions = self.port_sessions.borrow_mut();
        let used = sessions.entry(ifindex).or_default();
        let free = *used < max;
        *used += u32::from(free);
        free
    }

    fn release_session(&self, ifindex: u32) {
        if let Some(used) = self.port_sessions.borrow_mut().get_mut(&ifindex) {
            *used = used.saturating_sub(1);
        }
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        self.fragments.borrow().get(key).copied()
    }

    fn insert_fragment(&self, key: &FragmentKey, fragment: &Fragment, replace: bool) {
        let mut fragments = self.fragments.borrow_mut();
        if !replace && fragments.contains_key(key) {
            return;
        }
        if fragments.len() >= FRAGMENTS_MAX as usize && !fragments.contains_key(key) {
            // The kernel's table forgets the one that was not used for longest; here the oldest.
            let oldest = fragments.iter().min_by_key(|(_, fragment)| fragment.seen_ns).map(|(key, _)| *key);
            oldest.map(|key| fragments.remove(&key));
        }
        fragments.insert(*key, *fragment);
    }

    fn count(&self, slot: u32, packets: u64) {
        *self.counters.borrow_mut().entry(slot).or_default() += packets;
    }

    fn count_port(&self, ifindex: u32, sent: bool, packets: u32, bytes: u32) {
        let mut counters = self.port_counters.borrow_mut();
        let entry = counters.entry(ifindex).or_default();
        let (packet_counter, byte_counter) = if sent {
            (&mut entry.sent_packets, &mut entry.sent_bytes)
        } else {
            (&mut entry.delivered_packets, &mut entry.delivered_bytes)
        };
        *packet_counter += u64::from(packets);
        *byte_counter += u64::from(bytes);
    }

    fn punt_allowed(&self, ingress: u32) -> bool {
        self.token((ingress, false), PUNT_BURST, PUNTS_PER_SECOND)
    }

    fn frame_allowed(&self, ingress: u32) -> bool {
        self.token((ingress, true), FRAME_BURST, FRAMES_PER_SECOND)
    }

    fn emit_frame(&self, event: &FrameEvent) -> bool {
        let frame = event.frame[..event.head.frame_len as usize].to_vec();
        self.frames.borrow_mut().push((event.head, frame));
        true
    }

    fn emit(&self, event: &Event) -> bool {
        self.events.borrow_mut().push(*event);
        true
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn random(&self) -> u32 {
        let (state, number) = split_mix(self.seed.get());
        self.seed.set(state);
        number
    }
}

/// SplitMix64: the next state, and its number.
pub(super) fn split_mix(state: u64) -> (u64, u32) {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state, (mixed ^ (mixed >> 31)) as u32)
}

/// An address for tests and tools.
impl From<[u8; 4]> for Address {
    fn from(octets: [u8; 4]) -> Self {
        Self::v4(octets)
    }
}

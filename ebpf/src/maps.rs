//! The tables of the pipeline as BPF maps, each with the name of its [`Tables`] method's table.
//!
//! No hash preallocates: sizes are limits, and memory is what is in use. None evicts: a full table is a
//! counted drop, never the end of somebody's connection. Values are copied out, because another CPU or the
//! agent may replace an element at any time; a session alone is used in place (see [`pipeline::session`]).

use crate::watch;
use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_loop};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use core::ffi::c_void;
use core::sync::atomic::Ordering::Relaxed;
use pipeline::Tables;
use pipeline::atomic::{AtomicU32, AtomicU64};
use pipeline::bounds::*;
use pipeline::event::{Event, FrameEvent, FrameHead};
use pipeline::fragment::{Fragment, FragmentKey};
use pipeline::nat::{BindingKey, ContactKey, Mapping, MappingKey, Opening, PortBits, PortBitsKey};
use pipeline::runtime::{InsertError, Reserved, Share};
use pipeline::session::{Session, SessionKey};
use pipeline::tables::*;
use pipeline::verdict::counter;
use pipeline::walk::{Hook, Work};
use pipeline::{Packet, Stage, Verdict};

type Hash<K, V> = HashMap<K, V>;

const fn hash<K, V>(max_entries: u32) -> Hash<K, V> {
    HashMap::with_max_entries(max_entries, BPF_F_NO_PREALLOC)
}

macro_rules! hashes {
    ($($name:ident: $key:ty => $value:ty, $size:expr;)*) => {
        $(#[map]
        #[expect(non_upper_case_globals, reason = "a map's name is its table's")]
        static $name: Hash<$key, $value> = hash($size);)*
    };
}

hashes! {
    ports: PortKey => Port, PORTS_MAX;
    port_addresses: PortAddressKey => u32, PORT_ADDRESSES_MAX;
    networks: NetworkKey => Network, NETWORKS_MAX;
    stations: StationKey => Station, STATIONS_MAX;
    neighbors: NeighborKey => Neighbor, NEIGHBORS_MAX;
    externals: NetworkKey => External, EXTERNALS_MAX;
    uplinks: UplinkKey => NetworkKey, EXTERNALS_MAX;
    gateways: GatewayKey => GatewayValue, EXTERNALS_MAX * GATEWAYS_MAX;
    external_addresses: ExternalAddressKey => ExternalAddress, EXTERNAL_ADDRESSES_MAX;
    forwardings: BindingKey => Forwarding, FORWARDINGS_MAX;
    floating_by_fixed: FixedKey => Floating, EXTERNAL_ADDRESSES_MAX;
    snat: RouterKey => Snat, ROUTERS_MAX;
    own_blocks: BlockKey => PortBlock, OWN_BLOCKS_MAX;
    block_owners: BlockOwnerKey => BlockOwner, BLOCK_OWNERS_MAX;
    vteps: VtepKey => Vtep, VTEPS_MAX;
    services: ServiceKey => Service, SERVICES_MAX;
    sessions: SessionKey => Session, SESSIONS_MAX;
    replies: SessionKey => SessionKey, SESSIONS_MAX;
    mappings: MappingKey => Mapping, MAPPINGS_MAX;
    bindings: BindingKey => MappingKey, MAPPINGS_MAX;
    contacts: ContactKey => u32, SESSIONS_MAX;
    openings: BindingKey => Opening, OPENINGS_MAX;
    port_usage: FixedKey => Usage, MAPPINGS_MAX;
    port_bits: PortBitsKey => PortBits, OWN_BLOCKS_MAX;
    port_sessions: PortKey => u32, PORTS_MAX;
    punt_buckets: u32 => u64, 2 * PORTS_MAX;
}

#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static config: Array<Config> = Array::with_max_entries(1, 0);

#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static routes: LpmTrie<RouteKey, Route> = LpmTrie::with_max_entries(ROUTES_MAX, BPF_F_NO_PREALLOC);

#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static port_prefixes: LpmTrie<PortAddressKey, u32> =
    LpmTrie::with_max_entries(PORT_ADDRESSES_MAX, BPF_F_NO_PREALLOC);

#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static acl_remotes: LpmTrie<AclRemoteKey, AclClasses> =
    LpmTrie::with_max_entries(ACL_REMOTES_MAX, BPF_F_NO_PREALLOC);

#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static acl_rules: LpmTrie<AclRuleKey, u32> = LpmTrie::with_max_entries(ACL_RULES_MAX, BPF_F_NO_PREALLOC);

/// The one table that evicts.
#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static fragments: LruHashMap<FragmentKey, Fragment> = LruHashMap::with_max_entries(FRAGMENTS_MAX, 0);

#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static counters: PerCpuArray<u64> = PerCpuArray::with_max_entries(counter::SLOTS, 0);

#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static port_counters: PerCpuHashMap<PortKey, PortCounters> =
    PerCpuHashMap::with_max_entries(PORTS_MAX, BPF_F_NO_PREALLOC);

#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static events: RingBuf = RingBuf::with_byte_size(EVENT_RING_BYTES, 0);

#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static frames: RingBuf = RingBuf::with_byte_size(FRAME_RING_BYTES, 0);

/// Working memory. A program runs to its end on one CPU with bottom halves off, so no two share it.
#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static work: PerCpuArray<Work> = PerCpuArray::with_max_entries(2, 0);

/// This CPU's working memory, for one run.
#[inline(always)]
pub(crate) fn working_memory() -> Option<&'static mut Work> {
    // SAFETY: the element lives as long as the map, and each program asks once per run: see `work`.
    work.get_ptr_mut(0).map(|memory| unsafe { &mut *memory })
}

/// Likewise for the program that the agent runs, which a program on an interface may interrupt.
#[inline(always)]
pub(crate) fn agents_working_memory() -> Option<&'static mut Work> {
    // SAFETY: as above; the agent runs one at a time.
    work.get_ptr_mut(1).map(|memory| unsafe { &mut *memory })
}

/// Nanoseconds that one punt costs of a bucket's credit.
const PUNT_NS: u64 = 1_000_000_000 / PUNTS_PER_SECOND;

/// Likewise one whole frame.
const FRAME_NS: u64 = 1_000_000_000 / FRAMES_PER_SECOND;

/// The maps of this object.
pub(crate) struct Maps;

#[inline(always)]
fn copy<K, V: Copy>(table: &Hash<K, V>, key: &K) -> Option<V> {
    // SAFETY: the kernel keeps the element's memory until the program ends; what is copied may be old and
    // new in part only if the agent replaced the element in place, which it never does (BPF hash updates
    // exchange elements).
    table.get_ptr(key).map(|value| unsafe { *value })
}

#[inline(always)]
fn insert<K, V>(table: &Hash<K, V>, key: &K, value: &V) -> Result<(), InsertError> {
    const EEXIST: i32 = -17;
    match table.insert(key, value, BPF_NOEXIST as u64) {
        Ok(()) => Ok(()),
        Err(EEXIST) => Err(InsertError::Exists),
        Err(_) => Err(InsertError::Full),
    }
}

impl Maps {
    /// The bucket holds the time at which it will be full again. Two CPUs that take the last token at once
    /// may both get it: one event more is harmless. The agent makes the buckets; no bucket, no punt.
    #[inline(always)]
    fn take_token(&self, bucket: u32, cost_ns: u64, debt_ns_max: u64) -> bool {
        let Some(bucket) = punt_buckets.get_ptr_mut(bucket) else { return false };
        let now = self.now_ns();
        // SAFETY: the element's memory stays valid until the program ends; one aligned word.
        let full_at = unsafe { bucket.read_volatile() }.max(now);
        if full_at.wrapping_sub(now) > debt_ns_max {
            return false;
        }
        // SAFETY: as above.
        unsafe { bucket.write_volatile(full_at.wrapping_add(cost_ns)) };
        true
    }
}

impl Tables for Maps {
    type SessionRef<'a> = &'a Session;
    type PortBitsRef<'a> = &'a PortBits;

    #[inline(always)]
    fn config(&self) -> Config {
        // An array of one element has an element 0. The default's epoch 0 means "not programmed".
        // SAFETY: as in `copy`; the agent writes the configuration with the new epoch last.
        config.get_ptr(0).map_or_else(Config::default, |value| unsafe { *value })
    }

    #[inline(always)]
    fn port(&self, key: &PortKey) -> Option<Port> {
        copy(&ports, key)
    }

    #[inline(always)]
    fn port_address(&self, key: &PortAddressKey) -> bool {
        port_addresses.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn port_prefix(&self, key: &PortAddressKey) -> bool {
        port_prefixes.get(Key::new(PortAddressKey::LPM_LEN, *key)).is_some()
    }

    #[inline(always)]
    fn acl_remote(&self, key: &AclRemoteKey, classes: &mut AclClasses) -> bool {
        let found = acl_remotes.get(Key::new(AclRemoteKey::LPM_LEN, *key));
        if let Some(found) = found {
            *classes = *found;
        }
        found.is_some()
    }

    #[inline(always)]
    fn acl_rule(&self, key: &AclRuleKey) -> u32 {
        acl_rules.get(Key::new(AclRuleKey::LPM_LEN, *key)).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn network(&self, key: &NetworkKey) -> Option<Network> {
        copy(&networks, key)
    }

    #[inline(always)]
    fn station(&self, key: &StationKey) -> Option<Station> {
        copy(&stations, key)
    }

    #[inline(always)]
    fn neighbor(&self, key: &NeighborKey) -> Option<Neighbor> {
        copy(&neighbors, key)
    }

    #[inline(always)]
    fn route(&self, key: &RouteKey) -> Option<Route> {
        routes.get(Key::new(RouteKey::LPM_LEN, *key)).copied()
    }

    #[inline(always)]
    fn external(&self, key: &NetworkKey) -> Option<External> {
        copy(&externals, key)
    }

    #[inline(always)]
    fn uplink(&self, key: &UplinkKey) -> Option<NetworkKey> {
        copy(&uplinks, key)
    }

    #[inline(always)]
    fn gateway(&self, key: &GatewayKey) -> Option<GatewayValue> {
        copy(&gateways, key)
    }

    #[inline(always)]
    fn external_address(&self, key: &ExternalAddressKey) -> Option<ExternalAddress> {
        copy(&external_addresses, key)
    }

    #[inline(always)]
    fn forwarding(&self, key: &BindingKey) -> Option<Forwarding> {
        copy(&forwardings, key)
    }

    #[inline(always)]
    fn floating_by_fixed(&self, key: &FixedKey) -> Option<Floating> {
        copy(&floating_by_fixed, key)
    }

    #[inline(always)]
    fn snat(&self, key: &RouterKey) -> Option<Snat> {
        copy(&snat, key)
    }

    #[inline(always)]
    fn own_block(&self, key: &BlockKey) -> Option<PortBlock> {
        copy(&own_blocks, key)
    }

    #[inline(always)]
    fn block_owner(&self, key: &BlockOwnerKey) -> Option<BlockOwner> {
        copy(&block_owners, key)
    }

    #[inline(always)]
    fn vtep(&self, key: &VtepKey) -> Option<Vtep> {
        copy(&vteps, key)
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<Service> {
        copy(&services, key)
    }

    #[inline(always)]
    fn session(&self, key: &SessionKey) -> Option<&Session> {
        // SAFETY: the element's memory stays valid until the program ends; its fields that change are
        // atomics, the others are written once, before the insertion.
        sessions.get_ptr(key).map(|session| unsafe { &*session })
    }

    #[inline(always)]
    fn insert_session(&self, key: &SessionKey, session: &Session) -> Result<(), InsertError> {
        insert(&sessions, key, session)
    }

    #[inline(always)]
    fn remove_session(&self, key: &SessionKey) {
        let _ = sessions.remove(key);
    }

    #[inline(always)]
    fn reply(&self, key: &SessionKey) -> Option<SessionKey> {
        copy(&replies, key)
    }

    #[inline(always)]
    fn insert_reply(&self, key: &SessionKey, forward: &SessionKey) -> Result<(), InsertError> {
        insert(&replies, key, forward)
    }

    #[inline(always)]
    fn remove_reply(&self, key: &SessionKey) {
        let _ = replies.remove(key);
    }

    #[inline(always)]
    fn mapping(&self, key: &MappingKey) -> Option<Mapping> {
        copy(&mappings, key)
    }

    #[inline(always)]
    fn insert_mapping(&self, key: &MappingKey, mapping: &Mapping) -> Result<(), InsertError> {
        insert(&mappings, key, mapping)
    }

    #[inline(always)]
    fn binding(&self, key: &BindingKey) -> Option<MappingKey> {
        copy(&bindings, key)
    }

    #[inline(always)]
    fn insert_binding(&self, key: &BindingKey, mapping: &MappingKey) -> Result<(), InsertError> {
        insert(&bindings, key, mapping)
    }

    #[inline(always)]
    fn remove_binding(&self, key: &BindingKey) {
        let _ = bindings.remove(key);
    }

    #[inline(always)]
    fn contact(&self, key: &ContactKey) -> bool {
        contacts.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn insert_contact(&self, key: &ContactKey) {
        let _ = contacts.insert(key, 1, BPF_NOEXIST as u64);
    }

    #[inline(always)]
    fn opening(&self, key: &BindingKey) -> bool {
        openings.get_ptr(key).is_some()
    }

    /// Two CPUs may both see the last free port, or the last token: a share is exceeded by at most the number of
    /// CPUs.
    #[inline(always)]
    fn reserve_port(&self, owner: &FixedKey, share: &Share) -> Reserved {
        let (now, cost_ns) = (self.now_ns(), share.mapping_ns());
        let Some(usage) = port_usage.get_ptr_mut(owner) else {
            let first = Usage { ports: 1, zero: 0, full_at_ns: now.wrapping_add(cost_ns) };
            let made = port_usage.insert(owner, first, BPF_NOEXIST as u64).is_ok();
            return if made { Reserved::Granted } else { Reserved::Full };
        };
        // SAFETY: an element of the map, whose memory stays valid until the program ends; an atomic has the
        // layout of its integer.
        let (count, full_at) = unsafe {
            (
                &*(&raw const (*usage).ports).cast::<AtomicU32>(),
                &*(&raw const (*usage).full_at_ns).cast::<AtomicU64>(),
            )
        };
        let used = Usage { ports: count.load(Relaxed), zero: 0, full_at_ns: full_at.load(Relaxed) };
        match share.admit(&used, now) {
            Ok(paid_ns) => {
                full_at.store(paid_ns, Relaxed);
                count.fetch_add(1, Relaxed);
                Reserved::Granted
            }
            Err(refused) => refused,
        }
    }

    #[inline(always)]
    fn release_port(&self, owner: &FixedKey) {
        if let Some(usage) = port_usage.get_ptr_mut(owner) {
            // SAFETY: as above.
            let count = unsafe { &*(&raw const (*usage).ports).cast::<AtomicU32>() };
            count.store(count.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    #[inline(always)]
    fn port_bits(&self, key: &PortBitsKey) -> Option<&PortBits> {
        // SAFETY: the element's memory stays valid until the program ends; all of it is atomics.
        port_bits.get_ptr(key).map(|bits| unsafe { &*bits })
    }

    #[inline(always)]
    fn insert_port_bits(&self, key: &PortBitsKey, none: &PortBits) {
        let _ = port_bits.insert(key, none, BPF_NOEXIST as u64);
    }

    /// The agent makes the elements together with the ports.
    #[inline(always)]
    fn reserve_session(&self, ifindex: u32, max: u32) -> bool {
        let Some(used) = port_sessions.get_ptr_mut(PortKey { ifindex }) else { return true };
        // SAFETY: an element of the map; `AtomicU32` has the layout of `u32`.
        let used = unsafe { &*used.cast::<AtomicU32>() };
        if used.load(Relaxed) >= max {
            return false;
        }
        used.fetch_add(1, Relaxed);
        true
    }

    #[inline(always)]
    fn release_session(&self, ifindex: u32) {
        if let Some(used) = port_sessions.get_ptr_mut(PortKey { ifindex }) {
            // SAFETY: as above.
            let used = unsafe { &*used.cast::<AtomicU32>() };
            used.store(used.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        // SAFETY: the value is copied before anything else runs on this CPU.
        unsafe { fragments.get(key) }.copied()
    }

    #[inline(always)]
    fn insert_fragment(&self, key: &FragmentKey, fragment: &Fragment, replace: bool) {
        let flags = if replace { 0 } else { BPF_NOEXIST as u64 };
        let _ = fragments.insert(key, fragment, flags);
    }

    #[inline(always)]
    fn count(&self, slot: u32, packets: u64) {
        if let Some(count) = counters.get_ptr_mut(slot) {
            // SAFETY: this CPU's element; nothing else writes it (see `work`).
            unsafe { *count = (*count).wrapping_add(packets) }
        }
    }

    #[inline(always)]
    fn count_port(&self, ifindex: u32, sent: bool, packets: u32, bytes: u32) {
        // The agent makes the entry together with the port's.
        let Some(count) = port_counters.get_ptr_mut(PortKey { ifindex }) else { return };
        // SAFETY: this CPU's element; nothing else writes it (see `work`).
        let count = unsafe { &mut *count };
        let (count_packets, count_bytes) = if sent {
            (&mut count.sent_packets, &mut count.sent_bytes)
        } else {
            (&mut count.delivered_packets, &mut count.delivered_bytes)
        };
        *count_packets = count_packets.wrapping_add(packets.into());
        *count_bytes = count_bytes.wrapping_add(bytes.into());
    }

    #[inline(always)]
    fn punt_allowed(&self, ingress: u32) -> bool {
        self.take_token(ingress, PUNT_NS, (PUNT_BURST - 1) * PUNT_NS)
    }

    #[inline(always)]
    fn frame_allowed(&self, ingress: u32) -> bool {
        self.take_token(ingress | FRAME_BUCKET, FRAME_NS, (FRAME_BURST - 1) * FRAME_NS)
    }

    #[inline(always)]
    fn emit_frame(&self, event: &FrameEvent) -> bool {
        let len = size_of::<FrameHead>() + crate::skb::bounded_frame(event.head.frame_len) as usize;
        // SAFETY: the length is at most the event's, and the event has no padding.
        let bytes = unsafe { core::slice::from_raw_parts((&raw const *event).cast::<u8>(), len) };
        frames.output::<[u8]>(bytes, 0).is_ok()
    }

    #[inline(always)]
    fn emit(&self, event: &Event) -> bool {
        events.output::<Event>(event, 0).is_ok()
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: no preconditions.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: no preconditions.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn repeat(&self, times_max: u32, mut step: impl FnMut() -> bool) {
        repeat(times_max, &mut step);
    }

    #[inline(always)]
    fn enter(&self, stage: Stage) {
        watch::enter(stage);
    }

    #[inline(always)]
    fn arrive<P: Packet>(&self, packet: &P, hook: Hook, ingress: u32) {
        watch::arrive(packet, hook, ingress);
    }

    #[inline(always)]
    fn leave<P: Packet>(&self, packet: &P, memory: &Work, verdict: Verdict) {
        watch::leave(packet, memory, verdict);
    }
}

/// `bpf_loop` over a closure.
#[inline(always)]
fn repeat<F: FnMut() -> bool>(times_max: u32, step: &mut F) {
    /// Goes on at 0, ends the loop at 1.
    unsafe extern "C" fn once<F: FnMut() -> bool>(_index: u64, step: *mut c_void) -> u64 {
        // SAFETY: the helper hands on the pointer below, and runs one step at a time.
        let step = unsafe { &mut *step.cast::<F>() };
        u64::from(step())
    }
    let once: unsafe extern "C" fn(u64, *mut c_void) -> u64 = once::<F>;
    // SAFETY: the closure outlives the call, which returns behind the last step.
    let _ = unsafe { bpf_loop(times_max, once as *mut c_void, (&raw mut *step).cast(), 0) };
}

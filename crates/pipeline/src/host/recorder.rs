//! A walk that is only looked at: tables that are read from a [`Source`], changed in memory of their own, and
//! that write down which stage asked for which entry and got what.
//!
//! What the walk would write (sessions, mappings, counters, events) stays here, and can be given to the next
//! walk on the same host ([`State`]), so that an answer meets the session its question made. The share of the
//! slow path that an ingress has left is not looked at: a punt is always allowed.

use crate::event::{Event, FrameEvent, FrameHead};
use crate::fragment::{Fragment, FragmentKey};
use crate::host::Source;
use crate::nat::{BindingKey, ContactKey, Mapping, MappingKey, PortBits, PortBitsKey};
use crate::runtime::{InsertError, Reserved, Share, Tables};
use crate::session::{Session, SessionKey};
use crate::tables::*;
use crate::verdict::Stage;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use zerocopy::FromZeros;

/// One question to a table, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Port(PortKey, Option<Port>),
    PortAddress(PortAddressKey, bool),
    PortPrefix(PortAddressKey, bool),
    AclRemote(AclRemoteKey, Option<AclClasses>),
    /// With bits of [`allow`].
    AclRule(AclRuleKey, u32),
    Network(NetworkKey, Option<Network>),
    Station(StationKey, Option<Station>),
    Neighbor(NeighborKey, Option<Neighbor>),
    Route(RouteKey, Option<Route>),
    External(NetworkKey, Option<External>),
    Uplink(UplinkKey, Option<NetworkKey>),
    Gateway(GatewayKey, Option<GatewayValue>),
    ExternalAddress(ExternalAddressKey, Option<ExternalAddress>),
    Forwarding(BindingKey, Option<Forwarding>),
    FloatingByFixed(FixedKey, Option<Floating>),
    Snat(RouterKey, Option<Snat>),
    OwnBlock(BlockKey, Option<PortBlock>),
    BlockOwner(BlockOwnerKey, Option<BlockOwner>),
    Vtep(VtepKey, Option<Vtep>),
    Service(ServiceKey, Option<Service>),
    /// By its stored key, with the forward key of the session found.
    Session(SessionKey, Option<SessionKey>),
    /// With the stored key found.
    Reply(SessionKey, Option<SessionKey>),
    Mapping(MappingKey, Option<Mapping>),
    Binding(BindingKey, Option<MappingKey>),
    /// A port was tried; true: it was free.
    Claim(BindingKey, bool),
    /// A mapping's use towards an address was asked for.
    Contact(ContactKey, bool),
    /// Whether a mapping was opened to anyone was asked for.
    Opening(BindingKey, bool),
    Fragment(FragmentKey, Option<Fragment>),
    /// The walk made a session: its forward and its reply key.
    NewSession(SessionKey, SessionKey),
    /// It made a mapping.
    NewMapping(MappingKey, Mapping),
    /// It ended a session.
    EndedSession(SessionKey),
    /// It told the agent something.
    Event(Event),
    /// It handed the agent the packet.
    Frame(FrameHead),
}

/// What one stage asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub stage: Stage,
    pub looks: Vec<Look>,
}

/// Entries that walks changed, by key; none: removed.
#[derive(Debug)]
pub struct Changes<K, V>(pub BTreeMap<K, Option<V>>);

impl<K, V> Default for Changes<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// What walks on one host left behind.
#[derive(Debug, Default)]
pub struct State {
    pub sessions: Changes<SessionKey, Rc<Session>>,
    pub replies: Changes<SessionKey, SessionKey>,
    pub mappings: Changes<MappingKey, Mapping>,
    pub bindings: Changes<BindingKey, MappingKey>,
    pub contacts: Changes<ContactKey, ()>,
    pub port_usage: Changes<FixedKey, u32>,
    pub fragments: Changes<FragmentKey, Fragment>,
}

/// The tables of a recorded walk.
#[derive(Debug)]
pub struct Recorder<'a, S> {
    source: &'a S,
    /// Sessions of the source are not seen.
    fresh: bool,
    state: RefCell<State>,
    steps: RefCell<Vec<Step>>,
    counters: RefCell<BTreeMap<u32, u64>>,
    port_bits: RefCell<BTreeMap<PortBitsKey, Rc<PortBits>>>,
    seed: Cell<u64>,
}

impl<'a, S: Source> Recorder<'a, S> {
    /// `fresh`: as if the source had no sessions; mappings are seen all the same.
    pub fn new(source: &'a S, state: State, fresh: bool) -> Self {
        Self {
            source,
            fresh,
            state: RefCell::new(state),
            steps: RefCell::new(vec![Step { stage: Stage::Classify, looks: Vec::new() }]),
            counters: RefCell::default(),
            port_bits: RefCell::default(),
            seed: Cell::new(source.seed()),
        }
    }

    /// The stages in the order they were entered, what they asked, and what the walk changed.
    pub fn finish(self) -> (Vec<Step>, State) {
        (self.steps.into_inner(), self.state.into_inner())
    }

    /// What was counted, by slot of [`crate::verdict::counter`].
    pub fn counters(&self) -> BTreeMap<u32, u64> {
        self.counters.borrow().clone()
    }

    fn note(&self, look: Look) {
        if let Some(step) = self.steps.borrow_mut().last_mut() {
            step.looks.push(look);
        }
    }

    fn find_session(&self, key: &SessionKey) -> Option<Rc<Session>> {
        if let Some(changed) = self.state.borrow().sessions.0.get(key) {
            return changed.clone();
        }
        let found = self.source.session(key).filter(|_| !self.fresh).map(Rc::new)?;
        // The walk counts in it and stores paths: from here on the copy is the session.
        self.state.borrow_mut().sessions.0.insert(*key, Some(Rc::clone(&found)));
        Some(found)
    }

    fn find_reply(&self, key: &SessionKey) -> Option<SessionKey> {
        let changed = self.state.borrow().replies.0.get(key).copied();
        changed.unwrap_or_else(|| self.source.reply(key).filter(|_| !self.fresh))
    }

    fn find_mapping(&self, key: &MappingKey) -> Option<Mapping> {
        let changed = self.state.borrow().mappings.0.get(key).copied();
        changed.unwrap_or_else(|| self.source.mapping(key))
    }

    fn find_binding(&self, key: &BindingKey) -> Option<MappingKey> {
        let changed = self.state.borrow().bindings.0.get(key).copied();
        changed.unwrap_or_else(|| self.source.binding(key))
    }

    fn used_ports(&self, owner: &FixedKey) -> u32 {
        let changed = self.state.borrow().port_usage.0.get(owner).copied();
        changed.unwrap_or_else(|| Some(self.source.port_usage(owner))).unwrap_or(0)
    }

    fn set_used_ports(&self, owner: &FixedKey, used: u32) {
        self.state.borrow_mut().port_usage.0.insert(*owner, Some(used));
    }
}

macro_rules! recorded {
    ($($name:ident: $key:ty => $value:ty, $look:ident;)*) => {
        $(fn $name(&self, key: &$key) -> $value {
            let found = self.source.$name(key);
            self.note(Look::$look(*key, found));
            found
        })*
    };
}

impl<S: Source> Tables for Recorder<'_, S> {
    type SessionRef<'a>
        = Rc<Session>
    where
        Self: 'a;
    type PortBitsRef<'a>
        = Rc<PortBits>
    where
        Self: 'a;

    recorded! {
        port: PortKey => Option<Port>, Port;
        port_address: PortAddressKey => bool, PortAddress;
        port_prefix: PortAddressKey => bool, PortPrefix;
        acl_rule: AclRuleKey => u32, AclRule;
        network: NetworkKey => Option<Network>, Network;
        station: StationKey => Option<Station>, Station;
        neighbor: NeighborKey => Option<Neighbor>, Neighbor;
        route: RouteKey => Option<Route>, Route;
        external: NetworkKey => Option<External>, External;
        uplink: UplinkKey => Option<NetworkKey>, Uplink;
        gateway: GatewayKey => Option<GatewayValue>, Gateway;
        external_address: ExternalAddressKey => Option<ExternalAddress>, ExternalAddress;
        forwarding: BindingKey => Option<Forwarding>, Forwarding;
        floating_by_fixed: FixedKey => Option<Floating>, FloatingByFixed;
        snat: RouterKey => Option<Snat>, Snat;
        own_block: BlockKey => Option<PortBlock>, OwnBlock;
        block_owner: BlockOwnerKey => Option<BlockOwner>, BlockOwner;
        vtep: VtepKey => Option<Vtep>, Vtep;
        service: ServiceKey => Option<Service>, Service;
    }

    fn config(&self) -> Config {
        self.source.config()
    }

    fn acl_remote(&self, key: &AclRemoteKey, classes: &mut AclClasses) -> bool {
        let found = self.source.acl_remote(key);
        self.note(Look::AclRemote(*key, found));
        *classes = found.unwrap_or(*classes);
        found.is_some()
    }

    fn session(&self, key: &SessionKey) -> Option<Rc<Session>> {
        let found = self.find_session(key);
        self.note(Look::Session(*key, found.as_ref().map(|session| session.forward(key))));
        found
    }

    fn insert_session(&self, key: &SessionKey, session: &Session) -> Result<(), InsertError> {
        if self.find_session(key).is_some() {
            return Err(InsertError::Exists);
        }
        self.note(Look::NewSession(session.forward(key), session.reply));
        self.state.borrow_mut().sessions.0.insert(*key, Some(Rc::new(session.duplicate())));
        Ok(())
    }

    fn remove_session(&self, key: &SessionKey) {
        self.note(Look::EndedSession(*key));
        self.state.borrow_mut().sessions.0.insert(*key, None);
    }

    fn reply(&self, key: &SessionKey) -> Option<SessionKey> {
        let found = self.find_reply(key);
        self.note(Look::Reply(*key, found));
        found
    }

    fn insert_reply(&self, key: &SessionKey, forward: &SessionKey) -> Result<(), InsertError> {
        if self.find_reply(key).is_some() {
            return Err(InsertError::Exists);
        }
        self.state.borrow_mut().replies.0.insert(*key, Some(*forward));
        Ok(())
    }

    fn remove_reply(&self, key: &SessionKey) {
        self.state.borrow_mut().replies.0.insert(*key, None);
    }

    fn mapping(&self, key: &MappingKey) -> Option<Mapping> {
        let found = self.find_mapping(key);
        self.note(Look::Mapping(*key, found));
        found
    }

    fn insert_mapping(&self, key: &MappingKey, mapping: &Mapping) -> Result<(), InsertError> {
        if self.find_mapping(key).is_some() {
            return Err(InsertError::Exists);
        }
        self.note(Look::NewMapping(*key, *mapping));
        self.state.borrow_mut().mappings.0.insert(*key, Some(*mapping));
        Ok(())
    }

    fn binding(&self, key: &BindingKey) -> Option<MappingKey> {
        let found = self.find_binding(key);
        self.note(Look::Binding(*key, found));
        found
    }

    fn insert_binding(&self, key: &BindingKey, mapping: &MappingKey) -> Result<(), InsertError> {
        let free = self.find_binding(key).is_none();
        self.note(Look::Claim(*key, free));
        if !free {
            return Err(InsertError::Exists);
        }
        self.state.borrow_mut().bindings.0.insert(*key, Some(*mapping));
        Ok(())
    }

    fn remove_binding(&self, key: &BindingKey) {
        self.state.borrow_mut().bindings.0.insert(*key, None);
    }

    fn contact(&self, key: &ContactKey) -> bool {
        let changed = self.state.borrow().contacts.0.contains_key(key);
        let found = changed || self.source.contact(key);
        self.note(Look::Contact(*key, found));
        found
    }

    fn insert_contact(&self, key: &ContactKey) {
        self.state.borrow_mut().contacts.0.insert(*key, Some(()));
    }

    fn opening(&self, key: &BindingKey) -> bool {
        let found = self.source.opening(key);
        self.note(Look::Opening(*key, found));
        found
    }

    /// How fast mappings were made before is not looked at.
    fn reserve_port(&self, owner: &FixedKey, share: &Share) -> Reserved {
        let used = self.used_ports(owner);
        if share.ports_max != 0 && used >= share.ports_max {
            return Reserved::Full;
        }
        self.set_used_ports(owner, used + 1);
        Reserved::Granted
    }

    fn release_port(&self, owner: &FixedKey) {
        self.set_used_ports(owner, self.used_ports(owner).saturating_sub(1));
    }

    /// A walk of its own learns which ports are taken by trying them.
    fn port_bits(&self, key: &PortBitsKey) -> Option<Rc<PortBits>> {
        self.port_bits.borrow().get(key).cloned()
    }

    fn insert_port_bits(&self, key: &PortBitsKey, _none: &PortBits) {
        self.port_bits.borrow_mut().entry(*key).or_insert_with(|| Rc::new(PortBits::new_zeroed()));
    }

    /// Sessions that recorded walks made do not count.
    fn reserve_session(&self, ifindex: u32, max: u32) -> bool {
        self.source.port_sessions(ifindex).is_none_or(|used| used < max)
    }

    fn release_session(&self, _ifindex: u32) {}

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        let changed = self.state.borrow().fragments.0.get(key).copied();
        let found = changed.unwrap_or_else(|| self.source.fragment(key));
        self.note(Look::Fragment(*key, found));
        found
    }

    fn insert_fragment(&self, key: &FragmentKey, fragment: &Fragment, replace: bool) {
        if !replace && Tables::fragment(self, key).is_some() {
            return;
        }
        self.state.borrow_mut().fragments.0.insert(*key, Some(*fragment));
    }

    fn count(&self, slot: u32, packets: u64) {
        *self.counters.borrow_mut().entry(slot).or_default() += packets;
    }

    fn count_port(&self, _ifindex: u32, _sent: bool, _packets: u32, _bytes: u32) {}

    fn punt_allowed(&self, _ingress: u32) -> bool {
        true
    }

    fn frame_allowed(&self, _ingress: u32) -> bool {
        true
    }

    fn emit_frame(&self, event: &FrameEvent) -> bool {
        self.note(Look::Frame(event.head));
        true
    }

    fn emit(&self, event: &Event) -> bool {
        self.note(Look::Event(*event));
        true
    }

    fn now_ns(&self) -> u64 {
        self.source.now_ns()
    }

    /// The numbers that [`crate::host::HostTables`] would give.
    fn random(&self) -> u32 {
        let (state, number) = super::tables::split_mix(self.seed.get());
        self.seed.set(state);
        number
    }

    fn enter(&self, stage: Stage) {
        let mut steps = self.steps.borrow_mut();
        if steps.last().is_none_or(|step| step.stage != stage) {
            steps.push(Step { stage, looks: Vec::new() });
        }
    }
}

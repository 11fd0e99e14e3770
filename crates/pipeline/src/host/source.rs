//! Tables that can be read but not changed: what a walk of the [`super::Recorder`] is given.

use crate::fragment::{Fragment, FragmentKey};
use crate::host::HostTables;
use crate::nat::{BindingKey, ContactKey, Mapping, MappingKey};
use crate::runtime::Tables;
use crate::session::{Session, SessionKey};
use crate::tables::*;

/// The tables of a host as they are at this moment: configuration, sessions and NAT. Every method only reads.
pub trait Source {
    fn config(&self) -> Config;
    fn port(&self, key: &PortKey) -> Option<Port>;
    fn port_address(&self, key: &PortAddressKey) -> bool;
    fn port_prefix(&self, key: &PortAddressKey) -> bool;
    fn acl_remote(&self, key: &AclRemoteKey) -> Option<AclClasses>;
    /// Bits of [`allow`].
    fn acl_rule(&self, key: &AclRuleKey) -> u32;
    fn network(&self, key: &NetworkKey) -> Option<Network>;
    fn station(&self, key: &StationKey) -> Option<Station>;
    fn neighbor(&self, key: &NeighborKey) -> Option<Neighbor>;
    /// Longest-prefix match over all 160 bits.
    fn route(&self, key: &RouteKey) -> Option<Route>;
    fn external(&self, key: &NetworkKey) -> Option<External>;
    fn uplink(&self, key: &UplinkKey) -> Option<NetworkKey>;
    fn gateway(&self, key: &GatewayKey) -> Option<GatewayValue>;
    fn external_address(&self, key: &ExternalAddressKey) -> Option<ExternalAddress>;
    fn forwarding(&self, key: &BindingKey) -> Option<Forwarding>;
    fn floating_by_fixed(&self, key: &FixedKey) -> Option<Floating>;
    fn snat(&self, key: &RouterKey) -> Option<Snat>;
    fn own_block(&self, key: &BlockKey) -> Option<PortBlock>;
    fn block_owner(&self, key: &BlockOwnerKey) -> Option<BlockOwner>;
    fn vtep(&self, key: &VtepKey) -> Option<Vtep>;
    fn service(&self, key: &ServiceKey) -> Option<Service>;
    /// A copy.
    fn session(&self, key: &SessionKey) -> Option<Session>;
    fn reply(&self, key: &SessionKey) -> Option<SessionKey>;
    fn mapping(&self, key: &MappingKey) -> Option<Mapping>;
    fn binding(&self, key: &BindingKey) -> Option<MappingKey>;
    fn contact(&self, key: &ContactKey) -> bool;
    fn opening(&self, key: &BindingKey) -> bool;
    /// Mappings of a fixed address that count against its router's limit.
    fn port_usage(&self, key: &FixedKey) -> u32;
    /// Sessions that count against a port's share; none: no port.
    fn port_sessions(&self, ifindex: u32) -> Option<u32>;
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment>;
    /// Monotonic clock, nanoseconds; may be some milliseconds old.
    fn now_ns(&self) -> u64;
    /// Where the walk's random numbers begin.
    fn seed(&self) -> u64;
}

macro_rules! as_tables_say {
    ($($name:ident: $key:ty => $value:ty;)*) => {
        $(fn $name(&self, key: &$key) -> $value {
            Tables::$name(self, key)
        })*
    };
}

impl Source for HostTables {
    as_tables_say! {
        port: PortKey => Option<Port>;
        port_address: PortAddressKey => bool;
        port_prefix: PortAddressKey => bool;
        acl_rule: AclRuleKey => u32;
        network: NetworkKey => Option<Network>;
        station: StationKey => Option<Station>;
        neighbor: NeighborKey => Option<Neighbor>;
        route: RouteKey => Option<Route>;
        external: NetworkKey => Option<External>;
        uplink: UplinkKey => Option<NetworkKey>;
        gateway: GatewayKey => Option<GatewayValue>;
        external_address: ExternalAddressKey => Option<ExternalAddress>;
        forwarding: BindingKey => Option<Forwarding>;
        floating_by_fixed: FixedKey => Option<Floating>;
        snat: RouterKey => Option<Snat>;
        own_block: BlockKey => Option<PortBlock>;
        block_owner: BlockOwnerKey => Option<BlockOwner>;
        vtep: VtepKey => Option<Vtep>;
        service: ServiceKey => Option<Service>;
        reply: SessionKey => Option<SessionKey>;
        mapping: MappingKey => Option<Mapping>;
        binding: BindingKey => Option<MappingKey>;
        fragment: FragmentKey => Option<Fragment>;
        contact: ContactKey => bool;
        opening: BindingKey => bool;
    }

    fn config(&self) -> Config {
        self.set.config
    }

    fn acl_remote(&self, key: &AclRemoteKey) -> Option<AclClasses> {
        self.acl_classes(key)
    }

    fn session(&self, key: &SessionKey) -> Option<Session> {
        self.sessions.borrow().get(key).map(|session| session.duplicate())
    }

    fn port_usage(&self, key: &FixedKey) -> u32 {
        self.port_usage.borrow().get(key).map_or(0, |usage| usage.ports)
    }

    fn port_sessions(&self, ifindex: u32) -> Option<u32> {
        self.set
            .ports
            .contains_key(&PortKey { ifindex })
            .then(|| self.port_sessions.borrow().get(&ifindex).copied().unwrap_or(0))
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn seed(&self) -> u64 {
        self.seed.get()
    }
}

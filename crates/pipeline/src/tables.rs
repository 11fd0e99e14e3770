//! Keys and values of the configuration tables, and the trait through which the pipeline reads them.
//!
//! Every type here is the memory layout of a BPF map: `#[repr(C)]`, no implicit padding (`IntoBytes` proves
//! it at compile time), every bit pattern valid. Numbers are in host order unless the name ends in `_be`;
//! addresses and MACs are in wire order. The agent fills these tables from the compiler's output; the
//! pipeline only reads them. What the pipeline itself writes is in [`crate::session`] and [`crate::nat`].
//!
//! Every network has one VNI, of one of three kinds: a tenant network, an external network (its VNI never
//! appears on the wire, it scopes table keys), or a router's transit network, which carries the router's
//! already translated north-south packets between a VM's host and a gateway.

use crate::address::Address;
use core::ops::RangeInclusive;
use packet::MacAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! table_type {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($body:tt)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        $vis struct $name { $($body)* }
    };
}
pub(crate) use table_type;

table_type! {
    /// The single entry of `config`: what the host itself is.
    pub struct Config {
        /// Bumped by the agent after any change that can alter a verdict; never 0 once programmed. 0 means
        /// "not programmed": every packet is dropped.
        pub epoch: u32,
        pub underlay_ifindex: u32,
        /// [`Config::FLAG_GENEVE`] and friends.
        pub flags: u32,
        /// Most sessions of one port, 0: no limit (RFC 6888 REQ-5): what one VM opens, or has opened to it,
        /// leaves the other VMs of the host theirs.
        pub sessions_per_port_max: u32,
        /// UDP destination port of the tunnel.
        pub tunnel_port: u16,
        /// Source MAC of everything this host routes onto the tunnel or an uplink.
        pub dvr_mac: MacAddr,
        /// This host's tunnel address.
        pub vtep: Address,
    }
}

impl Config {
    /// Geneve on the wire; unset: VXLAN.
    pub const FLAG_GENEVE: u32 = 1;
    /// Lone packets are decapsulated by the program on the underlay; unset: all by the kernel device.
    pub const FLAG_LONE_PATH: u32 = 2;
    /// Header word 0 of a Geneve super-packet is rewritten for a VXLAN device that stands in for geneve.ko.
    pub const FLAG_GENEVE_AS_VXLAN: u32 = 4;
    /// Hosts speak BFD inside the tunnel; BFD outside of it is refused.
    pub const FLAG_TUNNEL_LIVENESS: u32 = 8;
}

table_type! {
    /// `ports`, keyed by [`PortKey`]: a VM's port on this host. No entry, no forwarding.
    pub struct Port {
        pub network_vni: u32,
        /// [`Port::FLAG_ACTIVE`] and friends.
        pub flags: u32,
        pub mac: MacAddr,
        /// MTU of the port's network: the largest IP packet in bytes.
        pub mtu: u16,
        /// What its security groups allow the VM to send, and to be sent.
        pub egress_acl: AclId,
        pub ingress_acl: AclId,
    }
}

impl Port {
    /// Administratively up and its policy is programmed. Unset: every packet from and to it is dropped.
    pub const FLAG_ACTIVE: u32 = 1;
    /// Anti-spoofing is off (Neutron `port_security_enabled = false`).
    pub const FLAG_UNRESTRICTED: u32 = 2;
    /// One end of a veth pair whose other end takes packets directly (`bpf_redirect_peer`).
    pub const FLAG_VETH_PEER: u32 = 4;
    /// The VM may send everything, and be answered; `egress_acl` is not asked.
    pub const FLAG_EGRESS_OPEN: u32 = 8;
    /// Likewise what it is sent.
    pub const FLAG_INGRESS_OPEN: u32 = 16;
}

table_type! {
    pub struct PortKey {
        pub ifindex: u32,
    }
}

table_type! {
    /// Key of `port_addresses`: a pair of MAC and address the port may use. Presence is permission.
    pub struct PortAddressKey {
        pub ifindex: u32,
        pub mac: MacAddr,
        /// 4 or 6, so that no prefix covers addresses of both.
        pub family: u16,
        pub address: Address,
    }
}

impl PortAddressKey {
    #[inline(always)]
    pub const fn new(ifindex: u32, mac: MacAddr, address: Address) -> Self {
        Self { ifindex, mac, family: if address.is_v4() { 4 } else { 6 }, address }
    }

    /// Length of the LPM prefix in `port_prefixes` for a prefix of so many bits of an address's own family.
    pub const fn lpm_len(address: Address, bits: u8) -> u32 {
        96 + family_len(address, bits)
    }

    /// Of every prefix.
    pub const LPM_LENS: RangeInclusive<u32> = 96..=Self::LPM_LEN;
    /// Of one address.
    pub const LPM_LEN: u32 = 96 + 128;
}

/// Length of a prefix of 0-32 or 0-128 bits as one of a 16-byte address.
const fn family_len(address: Address, bits: u8) -> u32 {
    if address.is_v4() { 96 + bits as u32 } else { bits as u32 }
}

table_type! {
    /// Names a list of what is allowed, or a class of remote ends in one: a hash of what it stands for, so that a
    /// name never changes its meaning. Zero: nothing.
    pub struct AclId {
        pub words: [u32; 2],
    }
}

impl AclId {
    #[inline(always)]
    pub const fn is_zero(&self) -> bool {
        let [a, b] = self.words;
        a | b == 0
    }

    /// The list's name where remote ends of one family are looked up.
    #[inline(always)]
    pub const fn of_family(self, v4: bool) -> Self {
        const IPV6: u32 = 0x8000_0000;
        let [a, b] = self.words;
        Self { words: [a, if v4 { b } else { b ^ IPV6 }] }
    }
}

table_type! {
    /// Data of the longest-prefix key of `acl_remotes`: a list, and the other end's address.
    pub struct AclRemoteKey {
        /// [`AclId::of_family`]: a list is two, so that no prefix covers addresses of both.
        pub list: AclId,
        pub address: Address,
    }
}

impl AclRemoteKey {
    pub const fn new(list: AclId, address: Address) -> Self {
        Self { list: list.of_family(address.is_v4()), address }
    }

    /// Length of the LPM prefix for a prefix of so many bits of an address's own family.
    pub const fn lpm_len(address: Address, bits: u8) -> u32 {
        64 + family_len(address, bits)
    }

    /// Of every prefix.
    pub const LPM_LENS: RangeInclusive<u32> = 64..=Self::LPM_LEN;
    /// Of one address.
    pub const LPM_LEN: u32 = 64 + 128;
}

table_type! {
    /// `acl_remotes`: the classes of remote ends that the prefix belongs to, its own and those of every shorter
    /// prefix that covers it. The first zero ends them.
    pub struct AclClasses {
        pub ids: [AclId; crate::bounds::ACL_CLASSES_MAX],
    }
}

table_type! {
    /// Data of the longest-prefix key of `acl_rules`: a class, a protocol, a destination port or ICMP type and code.
    /// A prefix covers 64 bits (every protocol), 72 (all of the protocol) or up to 88.
    pub struct AclRuleKey {
        pub class: AclId,
        pub protocol: u8,
        pub selector_be: [u8; 2],
        pub zero: u8,
    }
}

impl AclRuleKey {
    pub const LPM_LEN_CLASS: u32 = 64;
    pub const LPM_LEN_PROTOCOL: u32 = 72;
    pub const LPM_LEN: u32 = 88;
    /// Of every prefix.
    pub const LPM_LENS: RangeInclusive<u32> = Self::LPM_LEN_CLASS..=Self::LPM_LEN;
}

/// Values of `acl_rules`, of all rules that cover the prefix together; 0: none does.
pub mod allow {
    /// By a rule of a stateful group: answers pass, too.
    pub const STATEFUL: u32 = 1;
    /// By a rule of a stateless group: every packet asks for itself.
    pub const STATELESS: u32 = 2;
}

table_type! {
    pub struct NetworkKey {
        pub vni: u32,
    }
}

table_type! {
    /// `networks`: what a VNI is.
    pub struct Network {
        /// [`Network::TENANT`], [`Network::EXTERNAL`] or [`Network::TRANSIT`].
        pub kind: u32,
        /// Of a tenant network: the transit VNI of the router that owns the network's gateway address, 0 if
        /// none. Of a transit network: itself.
        pub router_vni: u32,
        /// Of a transit network: the VNI of the router's external network, 0 if none.
        pub external_vni: u32,
        /// Largest IP packet in bytes.
        pub mtu: u16,
        /// Of a tenant network: MAC of that router's interface here. Zero if none.
        pub router_mac: MacAddr,
    }
}

impl Network {
    pub const TENANT: u32 = 1;
    pub const EXTERNAL: u32 = 2;
    pub const TRANSIT: u32 = 3;
}

table_type! {
    /// Key of `stations`: who has a MAC on a network.
    pub struct StationKey {
        pub vni: u32,
        pub mac: MacAddr,
        pub zero: u16,
    }
}

table_type! {
    pub struct Station {
        /// [`Station::PORT`], [`Station::REMOTE`] or [`Station::ROUTER`].
        pub kind: u32,
        /// PORT: the ifindex. ROUTER: the transit VNI. REMOTE: 0.
        pub id: u32,
        /// REMOTE: the host's tunnel address.
        pub vtep: Address,
    }
}

impl Station {
    pub const PORT: u32 = 1;
    pub const REMOTE: u32 = 2;
    pub const ROUTER: u32 = 3;
}

table_type! {
    /// Key of `neighbors`: who has an address on a network.
    pub struct NeighborKey {
        pub vni: u32,
        pub address: Address,
    }
}

table_type! {
    /// A MAC, known from the model (tenant networks) or resolved by the agent (external networks).
    pub struct Neighbor {
        /// [`Neighbor::FLAG_ROUTER`]: the address is the router's own.
        pub flags: u16,
        pub mac: MacAddr,
    }
}

impl Neighbor {
    pub const FLAG_ROUTER: u16 = 1;
}

table_type! {
    /// Data of the longest-prefix key of `routes`. A prefix covers the 32 bits of `router_vni_be` and then
    /// 0-128 bits of the address (IPv4 prefixes are 96 longer than usual).
    pub struct RouteKey {
        /// Transit VNI and family, big-endian: the LPM trie compares bytes from the first.
        pub router_vni_be: u32,
        pub address: Address,
    }
}

impl RouteKey {
    /// Beside the VNI, which has 24 bits: the address is no IPv4 address, so that no prefix covers both families.
    const IPV6: u32 = 0x8000_0000;

    #[inline(always)]
    pub const fn new(router_vni: u32, address: Address) -> Self {
        let family = if address.is_v4() { 0 } else { Self::IPV6 };
        Self { router_vni_be: (router_vni | family).to_be(), address }
    }

    pub const fn router_vni(&self) -> u32 {
        u32::from_be(self.router_vni_be) & !Self::IPV6
    }

    /// Length of the LPM prefix for a prefix of so many bits of an address's own family.
    pub const fn lpm_len(address: Address, bits: u8) -> u32 {
        32 + family_len(address, bits)
    }

    /// Of an LPM prefix with this key, the bits of its address's own family.
    pub const fn address_bits(&self, lpm_len: u32) -> u32 {
        lpm_len.saturating_sub(if self.address.is_v4() { 32 + 96 } else { 32 })
    }

    /// Of every prefix.
    pub const LPM_LENS: RangeInclusive<u32> = 32..=Self::LPM_LEN;
    /// Of one address.
    pub const LPM_LEN: u32 = 32 + 128;
}

table_type! {
    /// `routes`: where a router sends a destination.
    pub struct Route {
        /// [`Route::CONNECTED`] and friends.
        pub kind: u32,
        /// The network the packet continues on.
        pub vni: u32,
        /// Zero: the destination itself is on-link.
        pub next_hop: Address,
        /// CONNECTED: the router's interface there, the source MAC for the VM.
        pub mac: MacAddr,
        /// Largest IP packet in bytes.
        pub mtu: u16,
    }
}

impl Route {
    pub const CONNECTED: u32 = 1;
    pub const EXTERNAL: u32 = 2;
    pub const BLACKHOLE: u32 = 3;
    /// To the external network as the packet is, by nobody's but its own address, and back from there likewise
    /// (RFC 6888 REQ-6); the only way out for IPv6.
    pub const EXTERNAL_UNTRANSLATED: u32 = 4;

    #[inline(always)]
    pub const fn is_external(&self) -> bool {
        self.kind == Self::EXTERNAL || self.kind == Self::EXTERNAL_UNTRANSLATED
    }
}

table_type! {
    /// `externals`, keyed by [`NetworkKey`]: an external network as this host sees it.
    pub struct External {
        /// The NIC of its physical network on this host; 0: this host does not have it.
        pub uplink_ifindex: u32,
        /// [`External::FLAG_DIRECT`] and friends.
        pub flags: u32,
        /// Number of consecutive entries in `gateways`, 0 to [`crate::bounds::GATEWAYS_MAX`].
        pub gateway_count: u32,
        /// 802.1Q VLAN id, 0: untagged.
        pub vlan: u16,
        /// log2 of the port block size, 6 to 12.
        pub block_shift: u16,
    }
}

impl External {
    /// Hosts that have the physical network send themselves.
    pub const FLAG_DIRECT: u32 = 1;
    /// This host is a live gateway of the network.
    pub const FLAG_GATEWAY: u32 = 2;

    /// The number of the port block that a port is in.
    #[inline(always)]
    pub const fn block_of(&self, port: u16) -> u32 {
        // The mask proves a shift in range; the size's logarithm is at most 12.
        port as u32 >> (self.block_shift & 15)
    }
}

table_type! {
    /// Key of `uplinks`: which external network a frame on a NIC belongs to. The value is its
    /// [`NetworkKey`].
    pub struct UplinkKey {
        pub ifindex: u32,
        /// 0: untagged.
        pub vlan: u32,
    }
}

table_type! {
    /// Key of `gateways`: slots 0..`gateway_count` hold the live gateways' [`GatewayValue`].
    pub struct GatewayKey {
        pub external_vni: u32,
        pub slot: u32,
    }
}

table_type! {
    pub struct GatewayValue {
        pub vtep: Address,
    }
}

table_type! {
    /// Key of `external_addresses`.
    pub struct ExternalAddressKey {
        pub external_vni: u32,
        pub address: Address,
    }
}

table_type! {
    /// An address of ours on an external network.
    pub struct ExternalAddress {
        /// [`ExternalAddress::SNAT`] and friends.
        pub kind: u32,
        /// [`ExternalAddress::FLAG_ANSWER`].
        pub flags: u32,
        /// Transit VNI of the router. Of a SNAT address shared by several routers: any of them.
        pub router_vni: u32,
        /// FLOATING, ROUTED: tenant network of the fixed address.
        pub network_vni: u32,
        /// FLOATING: the fixed address it stands for. ROUTED: the address itself.
        pub fixed: Address,
        /// FLOATING, ROUTED: tunnel address of the VM's host; zero: this host.
        pub vtep: Address,
    }
}

impl ExternalAddress {
    pub const SNAT: u32 = 1;
    pub const FLOATING: u32 = 2;
    /// A floating IP whose ports stand for endpoints of their own: `forwardings` has them.
    pub const FORWARDED: u32 = 3;
    /// A VM's fixed address, used on the external network as it is, by routes that are not translated.
    pub const ROUTED: u32 = 4;
    /// A router's own address there, which nothing is translated to: it answers ping only.
    pub const ROUTER: u32 = 5;

    /// All of it belongs to one VM.
    #[inline(always)]
    pub const fn is_of_vm(&self) -> bool {
        self.kind == Self::FLOATING || self.kind == Self::ROUTED
    }

    /// A router speaks from it.
    #[inline(always)]
    pub const fn is_of_router(&self) -> bool {
        self.kind == Self::SNAT || self.kind == Self::ROUTER
    }

    /// This host answers ARP or neighbour solicitations for the address.
    pub const FLAG_ANSWER: u32 = 1;
}

table_type! {
    /// `forwardings`, keyed by [`crate::nat::BindingKey`]: the internal endpoint that a port of a forwarded floating
    /// IP stands for.
    pub struct Forwarding {
        /// Transit VNI of the router.
        pub router_vni: u32,
        /// Tenant network of the endpoint; 0 where it is not known, which is never the VM's host.
        pub network_vni: u32,
        pub address: Address,
        /// Tunnel address of the VM's host; zero: this host.
        pub vtep: Address,
        pub port: u16,
        pub zero: u16,
    }
}

table_type! {
    /// Key of `floating_by_fixed`.
    pub struct FixedKey {
        pub router_vni: u32,
        pub address: Address,
    }
}

table_type! {
    /// The floating IP of a fixed address.
    pub struct Floating {
        pub external_vni: u32,
        pub address: Address,
    }
}

table_type! {
    /// Key of `snat`: a router.
    pub struct RouterKey {
        pub router_vni: u32,
    }
}

table_type! {
    /// `snat`: how a router's VMs without a floating IP leave. No entry: they do not.
    pub struct Snat {
        pub external_vni: u32,
        /// Number of consecutive entries in `own_blocks`, 0 to [`crate::bounds::BLOCKS_MAX`]; a multiple of
        /// `address_count`.
        pub block_count: u32,
        /// Number of SNAT addresses among them: slot `n` holds a block of address `n % address_count`, so
        /// that each VM keeps to one address (paired pooling, RFC 4787 REQ-2). Not 0 if `block_count` is not.
        pub address_count: u32,
        /// Most mappings of one fixed address, 0: no limit (RFC 6888 REQ-4).
        pub ports_max: u32,
        /// New mappings of one fixed address per second, 0: no limit (RFC 6888 REQ-4c). As many may come at once.
        pub mappings_per_second: u32,
        /// [`Snat::FLAG_INDEPENDENT_FILTERING`] or [`Snat::FLAG_ADDRESS_FILTERING`], and [`Snat::FLAG_PORT_CONTROL`].
        pub flags: u32,
    }
}

impl Snat {
    /// Anyone outside may send to a mapping (endpoint-independent filtering); with neither flag, only those it
    /// was used towards, address and port (RFC 4787 REQ-8, RFC 5382 REQ-3).
    pub const FLAG_INDEPENDENT_FILTERING: u32 = 1;
    /// Every port of an address that the mapping was used towards may.
    pub const FLAG_ADDRESS_FILTERING: u32 = 2;
    /// VMs may ask for mappings that anyone may send to, by PCP (RFC 6887).
    pub const FLAG_PORT_CONTROL: u32 = 4;
}

table_type! {
    /// `port_usage`, keyed by [`FixedKey`]: what an address has of its router's mappings.
    pub struct Usage {
        pub ports: u32,
        pub zero: u32,
        /// When its bucket of new mappings is full again, nanoseconds of the monotonic clock.
        pub full_at_ns: u64,
    }
}

table_type! {
    /// Key of `own_blocks`: slots 0..`block_count` hold this host's port blocks of the router.
    pub struct BlockKey {
        pub router_vni: u32,
        pub slot: u32,
    }
}

table_type! {
    /// A port block: `size` ports from `first`. Aligned and a power of two but for the block of port 1024, which
    /// may begin late.
    pub struct PortBlock {
        pub address: Address,
        pub first: u16,
        pub size: u16,
    }
}

table_type! {
    /// Key of `block_owners`: which host a returning packet belongs to.
    pub struct BlockOwnerKey {
        pub external_vni: u32,
        /// Port divided by the block size.
        pub block: u32,
        pub address: Address,
    }
}

table_type! {
    pub struct BlockOwner {
        /// The router whose mappings are in the block: the transit VNI to send it on.
        pub router_vni: u32,
        /// The owner's tunnel address; zero: this host.
        pub vtep: Address,
    }
}

table_type! {
    /// Key of `vteps`: hosts from which tunnel packets are accepted.
    pub struct VtepKey {
        pub address: Address,
    }
}

table_type! {
    pub struct Vtep {
        pub dvr_mac: MacAddr,
        /// [`Vtep::FLAG_ON_LINK`].
        pub flags: u16,
    }
}

impl Vtep {
    /// A neighbour on the underlay: no route has to be looked up.
    pub const FLAG_ON_LINK: u16 = 1;
}

table_type! {
    /// Key of `services`: a guest of the host's services, by where its packets come from, and its address there. Of a
    /// VM these are its port and its own address; of the same VM as the service knows it, the service's link and an
    /// address that no other VM has.
    pub struct ServiceKey {
        pub ifindex: u32,
        pub address: Address,
    }
}

table_type! {
    /// The same guest on the other side.
    pub struct Service {
        pub ifindex: u32,
        /// Who takes packets there.
        pub mac: MacAddr,
        pub zero: u16,
        pub address: Address,
    }
}

table_type! {
    /// `port_counters`, keyed by [`PortKey`], one per CPU. Wire packets, and bytes of whole frames as the
    /// pipeline saw them.
    pub struct PortCounters {
        pub sent_packets: u64,
        pub sent_bytes: u64,
        pub delivered_packets: u64,
        pub delivered_bytes: u64,
    }
}

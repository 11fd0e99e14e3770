//! Every bound of the packet path and the reason for it. The BPF maps are created with these sizes; the
//! agent's configuration may lower the table sizes, never raise a loop bound.

/// Random probes for a free external port of one new mapping before it is looked for: with half of the ports of
/// a host's blocks taken, one flow in 16 gets that far.
pub const PORT_PROBES_MAX: u32 = 4;
/// Steps of the search behind: each looks at 64 ports and tries one of them at most. With 1 % of the ports free
/// in blocks of any size, all of them fail less than once in a million tries.
pub const PORT_SEARCH_MAX: u32 = 128;
/// Words of 64 ports in the largest block.
pub const BLOCK_WORDS_MAX: u32 = 64;
/// Extension headers of an IPv6 packet that are stepped over; hosts send one or two.
pub const EXTENSION_HEADERS_MAX: u32 = 4;
/// Options of a neighbour discovery message; hosts send one or two.
pub const NEIGHBOR_OPTIONS_MAX: u32 = 4;
/// Live gateways of an external network that traffic spreads over.
pub const GATEWAYS_MAX: u32 = 64;
/// Port blocks of one router on one host: all blocks of an address of the smallest size.
pub const BLOCKS_MAX: u32 = 1024;

pub const PORTS_MAX: u32 = 4096;
pub const PORT_ADDRESSES_MAX: u32 = 16384;
/// Remote ends of security groups' rules, and the rules: both in prefixes, and once for all ports that have the
/// same groups.
pub const ACL_REMOTES_MAX: u32 = 131_072;
pub const ACL_RULES_MAX: u32 = 131_072;
/// Classes that an address may belong to in one list; what belongs to more gets one that stands for several.
pub const ACL_CLASSES_MAX: usize = 8;
pub const NETWORKS_MAX: u32 = 16384;
pub const STATIONS_MAX: u32 = 65536;
pub const NEIGHBORS_MAX: u32 = 65536;
pub const ROUTES_MAX: u32 = 65536;
pub const EXTERNALS_MAX: u32 = 256;
pub const EXTERNAL_ADDRESSES_MAX: u32 = 65536;
/// Ports of floating IPs that are forwarded.
pub const FORWARDINGS_MAX: u32 = 65536;
pub const ROUTERS_MAX: u32 = 8192;
pub const OWN_BLOCKS_MAX: u32 = 16384;
pub const BLOCK_OWNERS_MAX: u32 = 131_072;
pub const VTEPS_MAX: u32 = 4096;
/// Two for each address of a port.
pub const SERVICES_MAX: u32 = 2 * PORT_ADDRESSES_MAX;
pub const SESSIONS_MAX: u32 = 262_144;
/// Sessions of one port, unless the agent is told otherwise: half of the table, so that no VM fills it alone.
pub const SESSIONS_PER_PORT_MAX: u32 = SESSIONS_MAX / 2;
pub const MAPPINGS_MAX: u32 = 131_072;
/// Mappings that VMs asked for by PCP, and those of one VM: none takes what others may want.
pub const OPENINGS_MAX: u32 = 16384;
pub const OPENINGS_PER_VM_MAX: usize = 256;
/// Fragmented datagrams under way: 600 KB.
pub const FRAGMENTS_MAX: u32 = 8192;
/// How long the fragments of a datagram may be apart, nanoseconds: RFC 791 and Linux wait longer for the
/// whole, but what takes seconds here was lost.
pub const FRAGMENT_TIME_NS: u64 = 5_000_000_000;
/// Bytes of the event ring: about 1,300 events of the largest size.
pub const EVENT_RING_BYTES: u32 = 1 << 18;

/// Bytes of the ring of whole frames: some 300 of them on an Ethernet of 1500 bytes.
pub const FRAME_RING_BYTES: u32 = 1 << 19;
/// Largest frame that the agent is handed whole: jumbo frames and their headers fit. A power of two, for the
/// verifier's sake.
pub const FRAME_BYTES: usize = 16384;
/// Whole frames an ingress may hand over: a burst of this many, refilled at this rate per second. Apart from the
/// other punts, so that a flood of fragments keeps no neighbour unresolved.
pub const FRAME_BURST: u64 = 128;
pub const FRAMES_PER_SECOND: u64 = 512;
/// In the keys of `punt_buckets`: the ingress's bucket of whole frames. Interface indexes have the bit clear.
pub const FRAME_BUCKET: u32 = 0x4000_0000;
/// Largest ICMP error whose checksum is verified; RFC 1812 §4.3.2.3 wants none above 576 bytes.
pub const ICMP_ERROR_BYTES_MAX: u32 = 2048;

/// Punts a port may cause: a burst of this many, refilled at this rate per second. A VM pressing on the
/// slow path fills its own bucket only.
pub const PUNT_BURST: u64 = 32;
pub const PUNTS_PER_SECOND: u64 = 64;
/// Bytes of the packet that an event carries: Ethernet, IPv4 with options, and 28 more, which is what an
/// ICMP error quotes (RFC 792 asks for 8, RFC 1812 for more where it fits).
pub const EVENT_PACKET_BYTES: usize = 128;

/// Captures whose packets the programs choose themselves; further ones share the last slot, and the agent chooses.
pub const CAPTURE_SLOTS: usize = 8;
/// Walks that a bounded capture may be told of at once: what belongs together comes together.
pub const CAPTURE_BURST: u64 = 32;
/// Bytes of the ring of captured frames: 100,000 frames of 1500 bytes per second for 25 milliseconds.
pub const CAPTURE_RING_BYTES: u32 = 1 << 22;

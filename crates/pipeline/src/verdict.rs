//! Stages, verdicts, drop reasons, punts and the numbering of the counters: the one list that the code, the
//! trace, the metrics and the documents share. Append only: numbers are stored in pinned maps and shown to
//! people.

macro_rules! listed {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$item:meta])* $variant:ident = $number:literal, $text:literal, $sentence:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        $vis enum $name { $($(#[$item])* #[doc = $sentence] $variant = $number,)* }

        impl $name {
            /// Every member, in order of number.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in counters, events and output.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// One sentence for people.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }

            /// The member of a number, if there is one.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

listed! {
    /// The stages of the walk, in order.
    pub enum Stage {
        Classify = 0, "classify", "Reads the headers and finds the port, network and session.";
        PortSecurity = 1, "port-security", "Checks that the port may use the source MAC and address.";
        EgressAcl = 2, "egress-acl", "Security group rules for traffic leaving the VM.";
        Switch = 3, "switch", "Answers ARP and neighbour discovery, and finds the destination MAC on the network.";
        Route = 4, "route", "Longest-prefix match in the router, TTL, the router's own addresses.";
        Dnat = 5, "dnat", "Floating IP to fixed address, and steering of returning packets by port block.";
        Snat = 6, "snat", "Fixed address to floating IP or to a mapping of a port block.";
        IngressAcl = 7, "ingress-acl", "Security group rules for traffic entering the VM.";
        Resolve = 8, "resolve", "Finds the MAC, the host or the neighbour to send to.";
        Output = 9, "output", "Size check, rewriting, and the way out: port, tunnel or uplink.";
    }
}

listed! {
    /// Why a packet was dropped.
    pub enum Reason {
        NotProgrammed = 0, "not-programmed", "The agent has not programmed this host yet.";
        NoPort = 1, "no-port", "The interface is not a port of this host.";
        PortInactive = 2, "port-inactive", "The port is administratively down or has no policy yet.";
        Truncated = 3, "truncated", "The frame ends before a header it announces.";
        MalformedIpv4 = 4, "malformed-ipv4", "The IPv4 header contradicts itself or the frame.";
        MalformedL4 = 5, "malformed-l4", "The transport header is shorter than its minimum.";
        EthertypeUnsupported = 6, "ethertype-unsupported", "Only IPv4, IPv6 and ARP are carried.";
        VlanFromPort = 7, "vlan-from-port", "A VM sent a VLAN tag; its port is untagged.";
        SpoofedMac = 8, "spoofed-mac", "The source MAC does not belong to the port.";
        SpoofedAddress = 9, "spoofed-address", "The source address does not belong to the port.";
        SpoofedArp = 10, "spoofed-arp", "The ARP sender is not an address of the port.";
        MalformedArp = 11, "malformed-arp", "Not ARP for IPv4 over Ethernet.";
        ArpUnknownTarget = 12, "arp-unknown-target", "Nobody on the network has the address asked for.";
        ArpIgnored = 13, "arp-ignored", "An ARP reply or announcement, or an advertisement of IPv6, that is no news: it says what is known already, or names an address that the port may not move. Also searches for duplicates of the VM's own address, multicast reports.";
        MulticastUnsupported = 14, "multicast-unsupported", "Broadcast and multicast are not carried.";
        UnknownStation = 15, "unknown-station", "No port of the network has the destination MAC.";
        NoRoute = 16, "no-route", "The router has no route to the destination.";
        Blackhole = 17, "blackhole", "The route says to discard.";
        NotForRouter = 18, "not-for-router", "The router's own address answers ping only.";
        SnatDisabled = 19, "snat-disabled", "The router has no SNAT and the port no floating IP.";
        NoPortBlock = 20, "no-port-block", "This host has no port block for the router yet.";
        PortsExhausted = 21, "ports-exhausted", "No free external port was found in this host's blocks.";
        ProtocolNotTranslated = 22, "protocol-not-translated", "NAT carries TCP, UDP and ICMP echo only.";
        FragmentNotTranslated = 23, "fragment-not-translated", "A fragment of a protocol that is not translated.";
        NoMapping = 24, "no-mapping", "No connection from inside uses this external port; SNAT is outbound only.";
        Filtered = 25, "filtered", "The mapping exists but this remote endpoint was never contacted.";
        ExternalDestinationUnknown = 26, "external-destination-unknown", "Sent to this host's MAC on the external network for an address that is not ours there.";
        NeighborUnresolved = 27, "neighbor-unresolved", "The MAC of the next hop is not known yet; it is being asked for.";
        NoGateway = 28, "no-gateway", "No live gateway for the external network.";
        NotGateway = 29, "not-gateway", "This host is not a gateway of the external network.";
        UnknownVtep = 30, "unknown-vtep", "A tunnel packet from an address that is no host of the cluster.";
        UnknownVni = 31, "unknown-vni", "A tunnel packet for a network this host does not know.";
        NotLocal = 32, "not-local", "A tunnel packet for a port that is not on this host.";
        SourceNotOwned = 33, "source-not-owned", "A host sent a packet from an external address or port it does not own.";
        SessionEnded = 34, "session-ended", "The configuration no longer allows this connection; it was ended.";
        SessionTableFull = 35, "session-table-full", "The session table is full.";
        TooBig = 36, "too-big", "Larger than the path's MTU, and the sender cannot be told.";
        TtlExpired = 37, "ttl-expired", "The TTL ran out, and the sender cannot be told.";
        PuntLimited = 38, "punt-limited", "The port used up its share of the slow path.";
        OutputFailed = 39, "output-failed", "The kernel refused to rewrite or grow the packet.";
        PortPolicyMissing = 40, "port-policy-missing", "The destination port is down or has no policy yet.";
        IcmpErrorNotTranslated = 41, "icmp-error-not-translated", "ICMP errors are not translated for this connection.";
        MalformedTunnel = 42, "malformed-tunnel", "The tunnel header is invalid or of an unsupported kind.";
        SelfAddressed = 43, "self-addressed", "Source and destination are the same station.";
        PathLoop = 44, "path-loop", "The packet would leave by the way it came.";
        SourceMulticast = 45, "source-multicast", "The source address is multicast, broadcast or unspecified.";
        SessionConflict = 46, "session-conflict", "Another live connection has the same reply addresses and ports.";
        FragmentUnordered = 47, "fragment-unordered", "A fragment whose datagram's first fragment was not seen here before it.";
        FragmentOverlap = 48, "fragment-overlap", "A fragment that would overwrite the transport header of the first.";
        PortQuota = 49, "port-quota", "The VM has as many mappings as its router allows one VM.";
        LivenessRefused = 50, "liveness-refused", "BFD that is not from a host of the cluster by the way agreed on, inside the tunnel or outside.";
        MappingRate = 51, "mapping-rate", "The VM makes mappings faster than its router allows one VM.";
        SessionQuota = 52, "session-quota", "The VM has as many sessions as this host allows one VM.";
        IcmpChecksum = 53, "icmp-checksum", "The checksum of an ICMP error is wrong.";
        DhcpServer = 54, "dhcp-server", "A VM sent from a DHCP server's UDP port, 67 or, of IPv6, 547; only the host answers DHCP.";
        NotServed = 55, "not-served", "169.254.169.254 serves whole packets of DHCP and, where the host has it configured, of metadata on TCP port 80.";
        NoRule = 56, "no-rule", "No rule of the port's security groups allows the packet.";
        RuleGone = 57, "rule-gone", "The rule that allowed the connection is gone, or its groups are stateless and no rule allows this direction.";
        MalformedIpv6 = 58, "malformed-ipv6", "The IPv6 header contradicts itself or the frame, or has an address that stands for an IPv4 address.";
        ExtensionHeader = 59, "extension-header", "An IPv6 extension header that is not carried, or more than four of them.";
        Ipv6Fragment = 60, "ipv6-fragment", "A fragment of an IPv6 datagram; only whole ones are carried.";
        SpoofedNeighbor = 61, "spoofed-neighbor", "Neighbour discovery that names an address or MAC that is not the port's, or came by a router.";
        RogueRouter = 62, "rogue-router", "A VM sent a router advertisement or a redirect; only the host speaks for routers.";
        NotRouted = 63, "not-routed", "One end's own address is not used on the external network, or the router translates what goes to the other.";
    }
}

listed! {
    /// What the agent is asked to do with a packet it gets as an event.
    pub enum Punt {
        /// Details: the next hop's VNI and address.
        ResolveNeighbor = 0, "resolve-neighbor", "Find the MAC of a next hop on an external network.";
        LearnNeighbor = 1, "learn-neighbor", "An ARP message or neighbour advertisement on an external network names a neighbour.";
        TtlExceeded = 2, "ttl-exceeded", "Tell the sender that the TTL ran out (ICMP 11/0, ICMPv6 3/0).";
        FragmentationNeeded = 3, "fragmentation-needed", "Tell the sender the MTU (ICMP 3/4, ICMPv6 2/0).";
        PortBlockLow = 4, "port-block-low", "Ask the controller for another port block.";
        Prohibited = 5, "prohibited", "Tell the sender that no resource or rule lets it out (ICMP 3/13, ICMPv6 1/1).";
        Unreachable = 6, "unreachable", "Tell the sender that there is no way (ICMP 3/1).";
        EarlyFragment = 7, "early-fragment", "Hold a fragment until the first of its datagram has come.";
        FirstFragment = 8, "first-fragment", "The first fragment of a datagram came whose others are held.";
        Fragment = 9, "fragment", "Cut a packet that is too big and may be fragmented.";
        Dhcp = 10, "dhcp", "Answer a VM's DHCP message.";
        AddressAnnounced = 11, "address-announced", "A VM announced an address that was known to be elsewhere: an allowed address pair's may move.";
        RouterSolicitation = 12, "router-solicitation", "Answer a VM's router solicitation.";
        Dhcp6 = 13, "dhcp6", "Answer a VM's DHCPv6 message.";
        PortControl = 14, "port-control", "Answer a VM that asks for a mapping (PCP).";
    }
}

listed! {
    /// Where a packet came in and how it ended, counted once each.
    pub enum Total {
        InPort = 0, "in-port", "From VMs.";
        InTunnelLone = 1, "in-tunnel-lone", "From the tunnel, decapsulated by the program.";
        InTunnelDevice = 2, "in-tunnel-device", "From the tunnel, decapsulated by the kernel's device.";
        InUplink = 3, "in-uplink", "From an uplink.";
        OutPort = 4, "out-port", "To VMs and the host's services to them.";
        OutTunnel = 5, "out-tunnel", "To other hosts.";
        OutUplink = 6, "out-uplink", "To an external network.";
        OutHost = 7, "out-host", "Left to the host's own stack, untouched: not ours.";
        Punted = 8, "punted", "Handed to the agent instead of being forwarded.";
        Dropped = 9, "dropped", "Dropped; the drop counters say why.";
        InService = 10, "in-service", "From the host's services to its VMs: metadata.";
    }
}

/// How a packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours: the host's stack gets it as it came.
    Pass,
    /// To an interface of this host: a VM's port or, for an answer, back where it came from.
    Port {
        ifindex: u32,
    },
    /// Out of an uplink, tagged if the network has a VLAN.
    Uplink {
        ifindex: u32,
    },
    /// To another host: outer headers are in place except MACs, which the kernel's neighbour table gives.
    Tunnel {
        ifindex: u32,
    },
    /// Consumed; the event has been written.
    Punt(Punt),
    Drop(Stage, Reason),
}

/// Slots of the per-CPU array `counters`: totals, then drops by stage and reason, then punts by kind.
pub mod counter {
    use super::{Punt, Reason, Stage, Total};

    pub const REASONS_PER_STAGE: u32 = 64;
    const DROPS: u32 = 16;
    const PUNTS: u32 = DROPS + 16 * REASONS_PER_STAGE;
    /// Length of the array.
    pub const SLOTS: u32 = PUNTS + 32;

    #[inline(always)]
    pub const fn total(total: Total) -> u32 {
        total as u32
    }

    #[inline(always)]
    pub const fn drop(stage: Stage, reason: Reason) -> u32 {
        DROPS + stage as u32 * REASONS_PER_STAGE + reason as u32
    }

    #[inline(always)]
    pub const fn punt(punt: Punt) -> u32 {
        PUNTS + punt as u32
    }
}

//! The contestants. Each owns its machines and answers, for a figure, which two ends to measure between.

use crate::overlay::Overlay;
use crate::topology::{
    Kind, NIC, OUTSIDE, PORT, Topology, UNDERLAY, UPLINK, Underlay, VTEP_A, VTEP_B, ip, tool,
};
use crate::traffic::Ends;
use anyhow::Context as _;
use std::net::Ipv4Addr;

const MASQUERADE_ON: &str = "table ip bench {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname \"uplink0\" masquerade
    }
}";
const MASQUERADE_OFF: &str = "delete table ip bench";

/// A way of connecting the VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Subject {
    /// The hosts route, without overlay and without translation.
    Plain,
    /// A Linux bridge and a VXLAN device on each host, with the kernel's defaults: where it has bridge netfilter, that
    /// is on, as Neutron's Linux bridges need it.
    Bridge,
    /// The hosts route, and host a masquerades with nftables.
    Masquerade,
    /// Bridge and VXLAN to host b, which routes and masquerades with nftables: a network node.
    BridgeMasquerade,
    Nanboku,
}

impl Subject {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "routing",
            Self::Bridge => "bridge+vxlan",
            Self::Masquerade => "routing+nft",
            Self::BridgeMasquerade => "bridge+vxlan+nft",
            Self::Nanboku => "nanboku",
        }
    }
}

/// Which way the traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From VM to VM.
    EastWest,
    /// From VM 1 out of its own host, translated there.
    NorthSouth,
    /// From VM 1 out of the other host.
    NorthSouthRemote,
}

/// Every machine of one kind of VM.
pub(crate) struct Variants {
    routing: Topology,
    bridge: Topology,
    overlay: Overlay,
}

impl Variants {
    pub(crate) fn build(kind: Kind) -> anyhow::Result<Self> {
        let routing = Topology::build("route", kind)?;
        configure_routing(&routing)?;
        let bridge = Topology::build("bridge", kind)?;
        configure_bridge(&bridge)?;
        let overlay = Overlay::build(kind)?;
        Ok(Self { routing, bridge, overlay })
    }

    pub(crate) fn set_underlay(&mut self, underlay: Underlay) -> anyhow::Result<()> {
        [&mut self.routing, &mut self.bridge, self.overlay.topology_mut()]
            .into_iter()
            .try_for_each(|topology| topology.set_underlay(underlay))
    }

    /// Runs a measurement on a subject, in the state it needs, and takes that state away again.
    pub(crate) fn measure(
        &mut self,
        subject: Subject,
        way: Way,
        measure: impl FnOnce(Ends<'_>) -> anyhow::Result<f64>,
    ) -> anyhow::Result<f64> {
        match subject {
            Subject::Plain => measure(ends(&self.routing, Way::EastWest, Ipv4Addr::new(10, 2, 0, 10))),
            Subject::Bridge => measure(ends(&self.bridge, Way::EastWest, Ipv4Addr::new(10, 1, 0, 20))),
            Subject::Masquerade => {
                let ends = ends(&self.routing, Way::NorthSouth, OUTSIDE);
                masqueraded(&self.routing.a, || measure(ends))
            }
            Subject::BridgeMasquerade => {
                let ends = ends(&self.bridge, Way::NorthSouthRemote, OUTSIDE);
                masqueraded(&self.bridge.b, || measure(ends))
            }
            Subject::Nanboku => {
                self.overlay.prepare(way)?;
                let address = if way == Way::EastWest { Ipv4Addr::new(10, 1, 0, 20) } else { OUTSIDE };
                let result = measure(ends(self.overlay.topology(), way, address));
                let drops = if result.is_err() { self.overlay.drops() } else { String::new() };
                self.overlay.forget_sessions()?;
                result.context(drops)
            }
        }
    }
}

fn ends(topology: &Topology, way: Way, address: Ipv4Addr) -> Ends<'_> {
    let server = match way {
        Way::EastWest => &topology.vm2,
        Way::NorthSouth => &topology.exta,
        Way::NorthSouthRemote => &topology.extb,
    };
    Ends { client: &topology.vm1, server, address }
}

/// Connection tracking costs also what is not translated, so it is there only while it is measured.
fn masqueraded<T>(host: &netlink::Netns, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    tool(host, "nft", &["-f", "-"], MASQUERADE_ON)?;
    let result = work();
    tool(host, "nft", &["-f", "-"], MASQUERADE_OFF)?;
    result
}

fn configure_routing(topology: &Topology) -> anyhow::Result<()> {
    for (number, host, vm, uplink) in [(1, &topology.a, &topology.vm1, 2), (2, &topology.b, &topology.vm2, 3)]
    {
        let (other, next_hop) = if number == 1 { (2, VTEP_B) } else { (1, VTEP_A) };
        host.sysctl("net/ipv4/ip_forward", "1")?;
        ip(
            host,
            &format!(
                "address add 10.{number}.0.1/24 dev {PORT}
                 address add 203.0.113.{uplink}/24 dev {UPLINK}
                 route add 10.{other}.0.0/24 via {next_hop}"
            ),
        )?;
        ip(
            vm,
            &format!(
                "address add 10.{number}.0.10/24 dev {NIC}
                 route add default via 10.{number}.0.1"
            ),
        )?;
    }
    Ok(())
}

fn configure_bridge(topology: &Topology) -> anyhow::Result<()> {
    let hosts = [(&topology.a, VTEP_A, VTEP_B), (&topology.b, VTEP_B, VTEP_A)];
    for (host, local, remote) in hosts {
        ip(
            host,
            &format!(
                "link add br0 type bridge forward_delay 0 mcast_snooping 0
                 link add vxlan0 type vxlan id 100 local {local} remote {remote} dstport 4789 dev {UNDERLAY}
                 link set vxlan0 mtu 1450 master br0 up
                 link set {PORT} master br0
                 link set br0 up"
            ),
        )?;
    }
    // Host b is the network node: the VMs' router.
    topology.b.sysctl("net/ipv4/ip_forward", "1")?;
    ip(&topology.b, &format!("address add 10.1.0.1/24 dev br0\naddress add 203.0.113.3/24 dev {UPLINK}"))?;
    for (vm, last) in [(&topology.vm1, 10), (&topology.vm2, 20)] {
        ip(vm, &format!("address add 10.1.0.{last}/24 dev {NIC}\nroute add default via 10.1.0.1"))?;
    }
    Ok(())
}

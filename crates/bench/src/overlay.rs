//! Nanboku itself: the real programs, tables and compiler on both hosts. There is no agent and no controller
//! behind them: the packets of an established configuration meet neither.

use crate::scenario::{self, Interfaces, SNAT_ADDRESS, Side};
use crate::topology::{Kind, NIC, PORT, Topology, UNDERLAY, UPLINK, ip, mac};
use crate::variant::Way;
use anyhow::{Context as _, ensure};
use compiler::{LinkFacts, TunnelFacts, TunnelProtocol};
use dataplane::{Dataplane, Hook, Settings, Sizes, Sweeper, Timeouts};
use netlink::{Links, Netns, Offloads, TunnelDevice, TunnelKind};
use std::path::{Path, PathBuf};

const TUNNEL: &str = "nbk-tunnel";
const TUNNEL_PORT: u16 = 6081;
/// Pins of the benchmark and nothing else.
pub(crate) const PINS: &str = "/sys/fs/bpf/nanboku/bench";

struct Host {
    side: Side,
    interfaces: Interfaces,
    dataplane: Dataplane,
    sweeper: Sweeper,
    geneve_as_vxlan: bool,
}

pub(crate) struct Overlay {
    topology: Topology,
    hosts: Vec<Host>,
    /// What the tables were last compiled for.
    way: Option<Way>,
}

impl Overlay {
    pub(crate) fn build(kind: Kind) -> anyhow::Result<Self> {
        let topology = Topology::build("nanboku", kind)?;
        for vm in [(&topology.vm1, 10), (&topology.vm2, 20)] {
            ip(vm.0, &format!("address add 10.1.0.{}/24 dev {NIC}\nroute add default via 10.1.0.1", vm.1))?;
        }
        // The machines outside know whom to answer, as they would after an ARP request.
        for (side, outside) in [(Side::A, &topology.exta), (Side::B, &topology.extb)] {
            let host_mac = mac(side.dvr_mac().0);
            ip(outside, &format!("neighbor add {SNAT_ADDRESS} lladdr {host_mac} dev {NIC}"))?;
        }
        let hosts = [(Side::A, &topology.a), (Side::B, &topology.b)]
            .into_iter()
            .map(|(side, netns)| Host::start(side, netns, kind))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { topology, hosts, way: None })
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    pub(crate) fn topology_mut(&mut self) -> &mut Topology {
        &mut self.topology
    }

    /// Programs both hosts for traffic of a way.
    pub(crate) fn prepare(&mut self, way: Way) -> anyhow::Result<()> {
        if self.way == Some(way) {
            return Ok(());
        }
        let slice = scenario::slice(way)?;
        for host in &mut self.hosts {
            host.program(&slice, way)?;
        }
        self.way = Some(way);
        Ok(())
    }

    /// Ends every session and mapping, so that the next measurement begins as this one did.
    pub(crate) fn forget_sessions(&mut self) -> anyhow::Result<()> {
        for host in &mut self.hosts {
            host.dataplane.purge_mappings(|_, _| false)?;
            let tables = host.dataplane.read_tables()?;
            host.sweeper.sweep(u64::MAX, &Timeouts::default(), &tables, &mut |_, _| {})?;
        }
        Ok(())
    }

    /// What the programs dropped so far, for a message about traffic that does not arrive.
    pub(crate) fn drops(&self) -> String {
        let mut lines = String::new();
        for host in &self.hosts {
            let Ok(counters) = host.dataplane.counters() else { continue };
            for (stage, reason, count) in counters.drops() {
                lines += &format!("host {:?}: {count} dropped: {stage:?} {reason:?}\n", host.side);
            }
        }
        lines
    }
}

impl Host {
    fn start(side: Side, netns: &Netns, kind: Kind) -> anyhow::Result<Self> {
        let geneve_as_vxlan = add_tunnel_device(netns)?;
        let directory = format!("{}-{side:?}", kind.name());
        let settings = Settings { pin_dir: Path::new(PINS).join(directory), sizes: Sizes::default() };
        let mut dataplane = Dataplane::open(&settings)?;
        let interfaces = netns.run(|| -> anyhow::Result<Interfaces> {
            let ifindex = dataplane.attach(Hook::Port, PORT)?.ifindex;
            let port = LinkFacts { ifindex, veth_peer_elsewhere: kind == Kind::Veth };
            let underlay = dataplane.attach(Hook::Underlay, UNDERLAY)?.ifindex;
            let uplink = dataplane.attach(Hook::Uplink, UPLINK)?.ifindex;
            dataplane.attach(Hook::Tunnel, TUNNEL)?;
            Ok(Interfaces { port, underlay, uplink })
        })??;
        let sweeper = dataplane.sweeper()?;
        Ok(Self { side, interfaces, dataplane, sweeper, geneve_as_vxlan })
    }

    fn program(&mut self, slice: &model::slice::Slice, way: Way) -> anyhow::Result<()> {
        let tunnel = TunnelFacts {
            protocol: TunnelProtocol::Geneve,
            port: TUNNEL_PORT,
            lone_path: true,
            geneve_as_vxlan: self.geneve_as_vxlan,
            liveness: false,
        };
        let facts = scenario::facts(self.side, way, self.interfaces, tunnel)?;
        let compiled = compiler::compile(slice, &facts);
        ensure!(compiled.problems.is_empty(), "the benchmark's model is wrong: {:?}", compiled.problems);
        self.dataplane.apply(&compiled.tables).context("programming")?;
        Ok(())
    }
}

/// Makes the device that receives super-packets; true if a VXLAN device stands in for Geneve.
fn add_tunnel_device(netns: &Netns) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let links = Links::connect_in(netns)?;
        let device = |kind| TunnelDevice { name: TUNNEL, kind, port: TUNNEL_PORT, mac: None };
        let stand_in = match links.add_tunnel_device(&device(TunnelKind::Geneve)).await {
            Ok(()) => false,
            Err(netlink::Error::Unsupported { .. }) => {
                links.add_tunnel_device(&device(TunnelKind::Vxlan)).await?;
                true
            }
            Err(error) => return Err(error.into()),
        };
        let index = links.get(TUNNEL).await?.index;
        netns.run(|| netlink::set_offloads(TUNNEL, Offloads::TUNNEL))??;
        links.set_up(index).await?;
        Ok(stand_in)
    })
}

/// Removes every pin of the benchmark.
pub(crate) fn remove_pins() {
    let path = PathBuf::from(PINS);
    if path.exists()
        && let Err(error) = std::fs::remove_dir_all(&path)
    {
        eprintln!("cannot remove {}: {error}", path.display());
    }
}

//! The wires: one namespace of bridges for the underlay and the physical networks, one namespace per machine, veth
//! pairs between them, addresses and routes.
//!
//! A bridge carries tagged frames as they are. A machine outside that is on a VLAN knows nothing of it: its port of
//! the bridge is an access port, where a program tags what comes in and untags what goes out.

use crate::names::{self, CONTROLLER, FABRIC, GUEST_LINK, Names, UNDERLAY_LINK};
use crate::plan::{ControllerPlace, ExternalHost, Place, Plan, Segment, first_address};
use anyhow::Context as _;
use ipnet::{Ipv4Net, Ipv6Net};
use netlink::{Links, Netns, Offloads, Route, Veth, VethPeer, set_offloads};
use std::net::Ipv4Addr;

/// The fabric's bridge that stands for the underlay.
pub(crate) const UNDERLAY_BRIDGE: &str = "underlay";
/// A tagged frame is 4 bytes longer and its MTU still this.
const PHYSICAL_MTU: u32 = 1500;

/// A namespace and the handle to its links.
pub(crate) struct Machine {
    pub(crate) netns: Netns,
    pub(crate) links: Links,
}

impl Machine {
    pub(crate) fn create(names: &Names, machine: &str) -> anyhow::Result<Self> {
        let netns = Netns::create(&names.netns(machine)).context("needs root")?;
        // A kernel without IPv6 has no such switches; its machines send no router solicitations either.
        for scope in ["all", "default"] {
            let key = format!("net/ipv6/conf/{scope}/disable_ipv6");
            if let Err(error) = netns.sysctl(&key, "1") {
                tracing::debug!(%error, "IPv6 stays as it is");
            }
            netns.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
        }
        let links = Links::connect_in(&netns)?;
        Ok(Self { netns, links })
    }

    /// Gives a link its address, if any, and sets it up. Answers its index.
    pub(crate) async fn start(&self, link: &str, address: Option<Ipv4Net>) -> anyhow::Result<u32> {
        let index = self.links.get(link).await?.index;
        if let Some(address) = address {
            self.links.add_address(index, address.into()).await?;
        }
        self.links.set_up(index).await?;
        Ok(index)
    }

    pub(crate) async fn route(
        &self,
        destination: Ipv4Net,
        gateway: Option<Ipv4Addr>,
        link: Option<u32>,
    ) -> anyhow::Result<()> {
        let (destination, gateway) = (destination.into(), gateway.map(Into::into));
        Ok(self.links.add_route(&Route { destination, gateway, link }).await?)
    }
}

/// Turns the offloads of a link off if the lab is to run without.
pub(crate) fn apply_offloads(plan: &Plan, netns: &Netns, link: &str) -> anyhow::Result<()> {
    if !plan.offloads {
        netns.run(|| set_offloads(link, Offloads::OFF))??;
    }
    Ok(())
}

/// The default route's destination.
pub(crate) fn everywhere() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)
}

/// Makes every namespace of the plan except the VMs', and every wire.
pub(crate) async fn build(plan: &Plan, names: &Names) -> anyhow::Result<()> {
    let fabric = Fabric { plan, names, machine: Machine::create(names, FABRIC)? };
    fabric.bridge(UNDERLAY_BRIDGE, plan.underlay.mtu).await?;
    for index in 0..plan.physical_networks.len() {
        fabric.bridge(&names::physical_bridge(index), PHYSICAL_MTU).await?;
    }
    for index in 0..plan.hosts.len() {
        fabric.host(index).await.with_context(|| format!("wiring host {}", plan.hosts[index].name))?;
    }
    if let ControllerPlace::Own(address) = plan.controller {
        let controller = Machine::create(names, CONTROLLER)?;
        fabric.underlay_port(&controller, "uc", address).await.context("wiring the controller")?;
    }
    let mut outside: Vec<Machine> = Vec::new();
    for (index, host) in plan.external_hosts.iter().enumerate() {
        let context = || format!("wiring external host {}", host.name);
        outside.push(fabric.external_host(index, &outside).await.with_context(context)?);
    }
    Ok(())
}

struct Fabric<'a> {
    plan: &'a Plan,
    names: &'a Names,
    machine: Machine,
}

/// A wire from a bridge of the fabric to a machine.
struct Wire<'a> {
    bridge: &'a str,
    port: &'a str,
    link: &'a str,
    mtu: u32,
}

impl Fabric<'_> {
    async fn bridge(&self, name: &str, mtu: u32) -> anyhow::Result<()> {
        self.machine.links.add_bridge(name).await?;
        let index = self.machine.links.get(name).await?.index;
        self.machine.links.set_mtu(index, mtu).await?;
        Ok(self.machine.links.set_up(index).await?)
    }

    async fn wire(&self, machine: &Machine, wire: &Wire<'_>) -> anyhow::Result<()> {
        let peer = VethPeer { name: wire.link, mac: None, netns: Some(&machine.netns) };
        let links = &self.machine.links;
        links.add_veth(&Veth { name: wire.port, mac: None, mtu: Some(wire.mtu), peer }).await?;
        let port = links.get(wire.port).await?.index;
        links.set_master(port, links.get(wire.bridge).await?.index).await?;
        links.set_up(port).await?;
        let far = machine.links.get(wire.link).await?;
        machine.links.set_mtu(far.index, wire.mtu).await?;
        apply_offloads(self.plan, &self.machine.netns, wire.port)?;
        apply_offloads(self.plan, &machine.netns, wire.link)
    }

    async fn underlay_port(&self, machine: &Machine, port: &str, address: Ipv4Addr) -> anyhow::Result<()> {
        let mtu = self.plan.underlay.mtu;
        self.wire(machine, &Wire { bridge: UNDERLAY_BRIDGE, port, link: UNDERLAY_LINK, mtu }).await?;
        let net = Ipv4Net::new(address, self.plan.underlay.cidr.prefix_len())?;
        machine.start(UNDERLAY_LINK, Some(net)).await?;
        Ok(())
    }

    async fn host(&self, index: usize) -> anyhow::Result<()> {
        let host = &self.plan.hosts[index];
        let machine = Machine::create(self.names, &host.name)?;
        self.underlay_port(&machine, &names::underlay_port(index), host.vtep).await?;
        for (position, physical) in host.physical_networks.iter().enumerate() {
            let (bridge, port) = (names::physical_bridge(*physical), names::uplink_port(*physical, index));
            let link = names::uplink(position);
            let wire = Wire { bridge: &bridge, port: &port, link: &link, mtu: PHYSICAL_MTU };
            self.wire(&machine, &wire).await?;
            machine.start(&link, None).await?;
        }
        Ok(())
    }

    async fn external_host(&self, index: usize, outside: &[Machine]) -> anyhow::Result<Machine> {
        let host = &self.plan.external_hosts[index];
        let machine = Machine::create(self.names, &host.name)?;
        machine.netns.sysctl("net/ipv4/ip_forward", "1")?;
        match host.place {
            Place::Attached(segment) => self.attach(&machine, index, segment).await?,
            Place::Behind(nearer) => hide(host, index, &machine, &outside[nearer]).await?,
        }
        for route in &host.routes {
            machine.route(route.destination, Some(route.via), None).await?;
        }
        Ok(machine)
    }

    async fn attach(&self, machine: &Machine, index: usize, segment: Segment) -> anyhow::Result<()> {
        let physical = segment.physical_network;
        let (bridge, port) = (names::physical_bridge(physical), names::access_port(physical, index));
        let wire = Wire { bridge: &bridge, port: &port, link: GUEST_LINK, mtu: PHYSICAL_MTU };
        self.wire(machine, &wire).await?;
        if let Some(vlan) = segment.vlan {
            crate::access::attach(self.names, &self.machine.netns, &port, vlan)?;
        }
        let link = machine.start(GUEST_LINK, None).await?;
        for address in &self.plan.external_hosts[index].addresses {
            machine.links.add_address(link, (*address).into()).await?;
        }
        self.attach_ipv6(machine, index, link).await
    }

    /// IPv6 of a machine that is an external network's gateway: its address, and the way to VMs by their routers.
    async fn attach_ipv6(&self, machine: &Machine, index: usize, link: u32) -> anyhow::Result<()> {
        for (network, external) in self.plan.external_networks.iter().enumerate() {
            let Some(prefix) = external.ipv6.filter(|_| self.plan.gateway_of(network) == Some(index)) else {
                continue;
            };
            machine.netns.sysctl("net/ipv6/conf/all/disable_ipv6", "0")?;
            machine.netns.sysctl("net/ipv6/conf/all/forwarding", "1")?;
            let address = Ipv6Net::new(first_address(prefix), prefix.prefix_len())?;
            machine.links.add_address(link, address.into()).await?;
            for (router, inside) in self.plan.routed_ipv6(network) {
                let route = Route { destination: inside.into(), gateway: Some(router.into()), link: None };
                machine.links.add_route(&route).await?;
            }
        }
        Ok(())
    }
}

/// Puts a machine behind another one: a wire of their own, on-link routes, the default route to the nearer one. Only
/// the nearer end gets a link-local address, so that the farther machine always speaks with its own.
async fn hide(host: &ExternalHost, index: usize, machine: &Machine, nearer: &Machine) -> anyhow::Result<()> {
    let name = format!("behind{index}");
    let peer = VethPeer { name: GUEST_LINK, mac: None, netns: Some(&machine.netns) };
    nearer.links.add_veth(&Veth { name: &name, mac: None, mtu: Some(PHYSICAL_MTU), peer }).await?;
    let gateway = Ipv4Addr::new(169, 254, u8::try_from(index).unwrap_or(u8::MAX), 1);
    let near = nearer.start(&name, Some(Ipv4Net::new(gateway, 32)?)).await?;
    let far = machine.start(GUEST_LINK, None).await?;
    for address in &host.addresses {
        machine.links.add_address(far, (*address).into()).await?;
        nearer.route(Ipv4Net::new(address.addr(), 32)?, None, Some(near)).await?;
    }
    machine.route(Ipv4Net::new(gateway, 32)?, None, Some(far)).await?;
    machine.route(everywhere(), Some(gateway), None).await
}

#[cfg(test)]
mod tests;

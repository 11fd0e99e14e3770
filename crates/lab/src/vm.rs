//! A VM: a namespace whose `eth0` is the far end of a link on its host named after its port.
//!
//! Kind veth: the pair itself. Kind tap: two taps with virtio-net headers and a process between them that carries
//! frames unchanged ([`crate::guest`]), as a hypervisor's network card would.

use crate::fabric::{Machine, apply_offloads, everywhere};
use crate::file::VmKind;
use crate::guest::GuestArgs;
use crate::names::{GUEST_LINK, Names};
use crate::plan::{Plan, Vm};
use crate::process::{self, Process, Spawn};
use crate::state::VmPort;
use crate::wait::{self, Seen};
use ipnet::Ipv4Net;
use netlink::{Links, MacAddr, Netns, Veth, VethPeer};
use std::process::Child;
use std::time::Duration;

/// Opening two taps takes a millisecond; loading the binary some more.
const GUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A process that a VM needs, if it needs one.
pub(crate) type Guest = Option<(Process, Child)>;

/// Plugs a VM: its namespace, its link on the host, its address and its default route.
pub(crate) async fn plug(plan: &Plan, names: &Names, vm: &Vm, port: &VmPort) -> anyhow::Result<Guest> {
    let machine = Machine::create(names, &vm.name)?;
    let host = Netns::open(&names.netns(&plan.hosts[vm.host].name))?;
    let host_links = Links::connect_in(&host)?;
    let mac: MacAddr = port.mac.parse().map_err(|error| anyhow::anyhow!("{}: {error}", port.mac))?;
    let guest = match vm.kind {
        VmKind::Veth => {
            let peer = VethPeer { name: GUEST_LINK, mac: Some(mac), netns: Some(&machine.netns) };
            host_links.add_veth(&Veth { name: &port.link, mac: None, mtu: Some(port.mtu), peer }).await?;
            None
        }
        VmKind::Tap => Some(start_guest(plan, names, vm, port, &machine).await?),
    };
    let host_link = host_links.get(&port.link).await?.index;
    host_links.set_mtu(host_link, port.mtu).await?;
    let guest_link = machine.links.get(GUEST_LINK).await?.index;
    machine.links.set_mtu(guest_link, port.mtu).await?;
    machine.links.set_mac(guest_link, mac).await?;
    apply_offloads(plan, &machine.netns, GUEST_LINK)?;
    apply_offloads(plan, &host, &port.link)?;
    if plan.networks[vm.network].ipv6.is_some() {
        // The kernel configures itself; nothing else of the lab has IPv6.
        machine.netns.sysctl("net/ipv6/conf/all/disable_ipv6", "0")?;
    }
    let subnet = plan.networks[vm.network].subnets[vm.subnet];
    machine.start(GUEST_LINK, Some(Ipv4Net::new(vm.address, subnet.cidr.prefix_len())?)).await?;
    machine.route(everywhere(), Some(subnet.gateway), None).await?;
    host_links.set_up(host_link).await?;
    Ok(guest)
}

async fn start_guest(
    plan: &Plan,
    names: &Names,
    vm: &Vm,
    port: &VmPort,
    machine: &Machine,
) -> anyhow::Result<(Process, Child)> {
    let args = GuestArgs {
        host_netns: names.netns(&plan.hosts[vm.host].name),
        host_link: port.link.clone(),
        guest_link: GUEST_LINK.to_owned(),
        offloads: plan.offloads,
    };
    let args = args.command_line();
    let log = names.log(&vm.name);
    let spawn = Spawn {
        role: format!("guest {}", vm.name),
        netns: &machine.netns,
        log: &log,
        args: args.iter().map(AsRef::as_ref).collect(),
    };
    let (process, mut child) = process::spawn(&spawn)?;
    let host_links = Links::connect_in(&Netns::open(&names.netns(&plan.hosts[vm.host].name))?)?;
    wait::until(&format!("the taps of {}", vm.name), GUEST_TIMEOUT, async || {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("the guest process ended ({status}): {}", process::tail(&log));
        }
        for (links, link) in [(&host_links, port.link.as_str()), (&machine.links, GUEST_LINK)] {
            match links.get(link).await {
                Ok(_) => {}
                Err(error) if error.is_gone() => return Ok(Seen::Not(format!("no link {link}"))),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Seen::Done(()))
    })
    .await?;
    Ok((process, child))
}

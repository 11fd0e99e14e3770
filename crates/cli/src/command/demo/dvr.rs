//! Scenario B: north-south with a distributed virtual router, as in OpenStack Neutron DVR.

use super::show::Show;

pub(super) const LAB: &str = "demo-dvr";

const SNAT: &str = "192.168.74.102";
/// Of vm1, translated on its own host.
const FLOATING: &str = "192.168.74.104";
const INTERNET: &str = "8.8.8.8";

pub(super) fn run(show: &mut Show) -> anyhow::Result<()> {
    show.scenario(
        LAB,
        "dvr: a distributed router with two tenant networks (VXLAN, untagged external network)",
    );
    show.say("A network node and two compute hosts; compute02 has no external network.");
    show.up("dvr")?;
    hosts(show)?;
    snat(show)?;
    east_west(show)?;
    floating_ip(show)?;
    isolation(show)?;
    super::fvn::state(show)?;
    show.say("Everything else that must hold, computed from the lab file:");
    show.check()
}

fn hosts(show: &mut Show) -> anyhow::Result<()> {
    show.say("Each host has a DVR MAC of its own, so the fabric never sees one router MAC in two places.");
    let hosts = show.nanboku("host list")?;
    let macs = show.quietly("host list -o value -c dvr_mac")?;
    let mut distinct: Vec<&str> = macs.text.lines().collect();
    distinct.sort_unstable();
    distinct.dedup();
    let names = hosts.has_all(&["controller01", "compute01", "compute02"]);
    show.prove("three hosts are connected, with three DVR MACs", names && distinct.len() == 3);
    show.nanboku("router show router1 -c name -c external_gateway_info").map(drop)
}

fn snat(show: &mut Show) -> anyhow::Result<()> {
    show.say(
        "vm2 (compute02, no floating IP, no uplink) pings 8.8.8.8: through a gateway, with the SNAT address.",
    );
    let seen = show.capture(("internet", "any"), (2, "icmp"), |show| {
        show.on("vm2", &format!("ping -c 3 -i 0.2 -W 2 {INTERNET}")).map(drop)
    })?;
    show.prove("the outside sees vm2 as 192.168.74.102", seen.has_all(&[&format!("{SNAT} > {INTERNET}")]));
    Ok(())
}

fn east_west(show: &mut Show) -> anyhow::Result<()> {
    show.say(
        "vm1 (192.168.111.0/24, compute01) pings vm4 (10.16.0.0/24, compute02): routed at the source host.",
    );
    let mut routed = false;
    // Smaller ones are the hosts': they watch each other in the same tunnel.
    let seen =
        show.capture(("compute01", super::UNDERLAY), (2, "udp port 4789 and greater 130"), |show| {
            let ping = show.on("vm1", "ping -c 3 -i 0.2 -W 2 10.16.0.14")?;
            routed = ping.has_all(&[" 0% packet loss", "ttl=63"]);
            Ok(())
        })?;
    let tunnelled = seen.has_all(&["VXLAN", "192.168.111.11", "10.16.0.14"]);
    show.prove("the router is on every host: one hop less TTL, one tunnel, no detour", routed && tunnelled);
    Ok(())
}

fn floating_ip(show: &mut Show) -> anyhow::Result<()> {
    show.say("vm1 has the floating IP 192.168.74.104: its own host translates and sends, no detour.");
    let seen = show.capture(("compute01", super::UPLINK), (2, "icmp"), |show| {
        show.on("vm1", &format!("ping -c 3 -i 0.2 -W 2 {INTERNET}")).map(drop)
    })?;
    show.prove(
        "vm1 leaves from its own host as 192.168.74.104",
        seen.has_all(&[&format!("{FLOATING} > {INTERNET}")]),
    );
    let ping = format!("lab exec internet -- ping -c 1 -W 1 {FLOATING}");
    let reached = show.on("internet", &format!("ping -c 2 -i 0.2 -W 1 {FLOATING}"))?;
    show.say("It is moved to vm2 while running, on a host without the external network, and back.");
    show.nanboku(&format!(
        "floatingip set {FLOATING} --port vm2 -c fixed_ip_address -c floating_ip_address"
    ))?;
    let moved = show.until(&ping, |ran| ran.success)?;
    let at_vm2 = show.capture(("vm2", "eth0"), (1, "icmp"), |show| {
        show.on("internet", &format!("ping -c 2 -i 0.2 -W 1 {FLOATING}")).map(drop)
    })?;
    show.nanboku(&format!(
        "floatingip set {FLOATING} --port vm1 -c fixed_ip_address -c floating_ip_address"
    ))?;
    let back = show.until(&ping, |ran| ran.success)?;
    let moves = moved.is_some() && back.is_some() && at_vm2.has_all(&["192.168.111.12"]);
    show.prove("a floating IP moves between VMs while running", reached.success && moves);
    Ok(())
}

fn isolation(show: &mut Show) -> anyhow::Result<()> {
    show.say("other1 is in another VPC, on the host of vm1 and with its address, 192.168.111.11.");
    let seen = show.capture(("vm2", "eth0"), (1, "icmp and src host 192.168.111.11"), |show| {
        show.on("other1", "ping -c 2 -i 0.2 -W 1 192.168.111.12").map(drop)
    })?;
    show.prove("two VPCs with equal addresses never meet", seen.text.is_empty());
    Ok(())
}

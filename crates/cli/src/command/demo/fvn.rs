//! Scenario A: SNAT through gateway hosts, as in Nutanix Flow Virtual Networking.

use super::show::Show;
use serde_json::Value;

pub(super) const LAB: &str = "demo-fvn";

/// The SNAT address of VPC `blue`.
const SNAT: &str = "172.22.7.27";
const INTERNET: &str = "8.8.8.8";

pub(super) fn run(show: &mut Show) -> anyhow::Result<()> {
    show.scenario(LAB, "fvn: a VPC whose hosts reach the outside through gateways (Geneve, VLAN 2207)");
    show.say(
        "Three hosts with a controller and agents of their own, each in a network namespace of this machine.",
    );
    show.up("fvn")?;
    hosts(show)?;
    snat(show)?;
    vlan(show)?;
    east_west(show)?;
    floating_ip(show)?;
    isolation(show)?;
    state(show)?;
    show.say("Everything else that must hold, computed from the lab file:");
    show.check()
}

fn hosts(show: &mut Show) -> anyhow::Result<()> {
    show.say("ahv01 and ahv02 have the physical network; ahv03 has none and needs them as gateways.");
    let hosts = show.nanboku("host list")?;
    show.prove("three hosts are connected", hosts.success && hosts.has_all(&["ahv01", "ahv02", "ahv03"]));
    show.say("The VPC `blue` has one SNAT address for all its VMs.");
    let columns = "-c name -c external_gateway_info -c nanboku:gateways -c nanboku:port_blocks";
    let router = show.nanboku(&format!("router show blue {columns}"))?;
    let told = router.has_all(&[SNAT, "ahv01", "ahv02"]);
    show.prove("router blue has the SNAT address 172.22.7.27, and two gateways at once", told);
    Ok(())
}

fn snat(show: &mut Show) -> anyhow::Result<()> {
    for (vm, route) in [
        ("blue-1", "its host sends to the outside itself"),
        ("blue-3", "its host has no uplink: translated there, then through the tunnel to a gateway"),
    ] {
        show.say(&format!("{vm} pings a host on the internet ({route}); what that host sees:"));
        let seen = show.capture(("internet", "any"), (2, "icmp"), |show| {
            show.on(vm, &format!("ping -c 3 -i 0.2 -W 2 {INTERNET}")).map(drop)
        })?;
        let from = format!("{SNAT} > {INTERNET}");
        show.prove(
            &format!("the outside sees {vm} as {SNAT}"),
            seen.has_all(&[&from]) && !seen.text.contains("192.168.10."),
        );
    }
    Ok(())
}

fn vlan(show: &mut Show) -> anyhow::Result<()> {
    show.say("On the wire of ahv01's uplink the frame carries VLAN 2207, and the host's own MAC, not the router's.");
    let seen = show.capture(("ahv01", super::UPLINK), (2, "vlan 2207 and icmp"), |show| {
        show.quietly(&format!("lab exec blue-1 -- ping -c 3 -i 0.2 -W 2 {INTERNET}")).map(drop)
    })?;
    show.prove("frames to the outside are tagged VLAN 2207", seen.has_all(&["vlan 2207", SNAT, INTERNET]));
    Ok(())
}

fn east_west(show: &mut Show) -> anyhow::Result<()> {
    show.say("blue-1 (ahv01) pings blue-2 (ahv02): the frame crosses the underlay in a Geneve packet.");
    let mut answered = false;
    // Smaller ones are the hosts': they watch each other in the same tunnel.
    let seen = show.capture(("ahv01", super::UNDERLAY), (2, "udp port 6081 and greater 130"), |show| {
        let ping = show.on("blue-1", "ping -c 3 -i 0.2 -W 2 192.168.10.12")?;
        answered = ping.has_all(&[" 0% packet loss"]);
        Ok(())
    })?;
    let tunnelled = seen.has_all(&["Geneve", "10.90.0.11", "10.90.0.12", "192.168.10.11", "192.168.10.12"]);
    show.prove("VMs on two hosts talk through the tunnel", answered && tunnelled);
    Ok(())
}

fn floating_ip(show: &mut Show) -> anyhow::Result<()> {
    show.say(
        "A floating IP is attached to blue-1 while everything runs, reached from outside, and taken away.",
    );
    let taken = show.nanboku("floatingip create external -o value -c floating_ip_address")?;
    let address = taken.text.trim().to_owned();
    let ping = format!("lab exec neighbour -- ping -c 1 -W 1 {address}");
    let before = show.quietly(&ping)?;
    show.nanboku(&format!(
        "floatingip set {address} --port blue-1 -c fixed_ip_address -c floating_ip_address"
    ))?;
    let took = show.until(&ping, |ran| ran.success)?;
    show.on("neighbour", &format!("ping -c 2 -i 0.2 -W 1 {address}"))?;
    if let Some(took) = took {
        println!("    first answer {} ms after the API call", took.as_millis());
    }
    show.prove(
        "a floating IP works at once when attached",
        taken.success && !before.success && took.is_some(),
    );
    show.nanboku(&format!("floatingip unset {address} --port -c port_id -c floating_ip_address"))?;
    let ended = show.until(&ping, |ran| !ran.success)?;
    show.prove("and stops at once when detached", ended.is_some());
    show.nanboku(&format!("floatingip delete {address}")).map(drop)
}

fn isolation(show: &mut Show) -> anyhow::Result<()> {
    show.say("VPC `green` has the same subnet; green-1 even has the address of blue-1, on the same host.");
    show.nanboku("port list -c name -c fixed_ips -c binding:host_id --device-owner compute:lab").map(drop)?;
    let mut answered = false;
    let seen = show.capture(("blue-1", "eth0"), (1, "icmp"), |show| {
        let ping = show.on("green-3", "ping -c 3 -i 0.2 -W 2 192.168.10.11")?;
        answered = ping.has_all(&[" 0% packet loss"]);
        Ok(())
    })?;
    let elsewhere = show.on("green-3", "ping -c 1 -W 1 192.168.10.12")?;
    show.prove(
        "two VPCs with equal addresses never meet: green's own VM answers, blue sees nothing",
        answered && seen.text.is_empty() && !elsewhere.success,
    );
    Ok(())
}

/// Sessions and counters of the lab: what was seen must add up.
pub(super) fn state(show: &mut Show) -> anyhow::Result<()> {
    show.say("Every connection is one row, with both directions and its NAT.");
    let columns = "-c host -c source -c destination -c nat -c translated_src -c forward_packets -c reply_packets -c forward_output";
    let sessions = show.nanboku(&format!("sessions {columns}"))?;
    show.prove("sessions can be read, with their NAT", sessions.has_all(&[" snat "]));
    show.say(
        "Every packet is counted once where it came in and once where it ended; every drop has a reason.",
    );
    // Hosts report every few seconds, each on its own.
    let balanced =
        |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|status| status["balanced"] == true);
    let settled = show.until("status -o json", |ran| balanced(&ran.text))?;
    show.nanboku("status")?;
    show.prove("in = out + dropped + punted, exactly, on every host", settled.is_some());
    Ok(())
}

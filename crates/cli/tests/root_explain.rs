//! Goal: `explain reach` names the right cause of a planted fault, in at least 95 % of them, and in less than two
//! seconds each. Method: a lab, one fault after the other, healed before the next; the real binary, as a user runs
//! it. Needs root.

use serde_json::Value;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A fault takes effect within this time: liveness and carrier changes are the slowest.
const EFFECT: Duration = Duration::from_secs(12);
const ANSWER: Duration = Duration::from_secs(2);
/// Of all faults, in per cent.
const RIGHT_MIN: usize = 95;

/// A planted fault. Commands are those of `nanboku`; `@MACHINE …` runs inside a machine of the lab; `stop HOST`,
/// `go HOST` and `kill HOST` hold the agent of a host, let it go on and end it. `$green` is the id of the green subnet.
struct Fault {
    title: &'static str,
    plant: &'static [&'static str],
    /// What `explain reach` is asked.
    ask: &'static str,
    causes: &'static [&'static str],
    heal: &'static [&'static str],
}

const fn fault(
    title: &'static str,
    plant: &'static [&'static str],
    ask: &'static str,
    causes: &'static [&'static str],
    heal: &'static [&'static str],
) -> Fault {
    Fault { title, plant, ask, causes, heal }
}

const SNAT_OFF: &[&str] = &["router set green --external-gateway external --disable-snat"];
const SNAT_ON: &[&str] = &["router set green --external-gateway external --snat-address 172.22.7.28"];
const NO_GATEWAY: &[&str] = &["router unset green --external-gateway"];
const NO_INTERFACE: &[&str] = &["router remove-subnet green $green"];
const INTERFACE: &[&str] = &["router add-subnet green $green"];
const BLUE_1_DOWN: &[&str] = &["port set blue-1 --disable"];
const BLUE_1_UP: &[&str] = &["port set blue-1 --enable"];
const BLUE_2_DOWN: &[&str] = &["port set blue-2 --disable"];
const BLUE_2_UP: &[&str] = &["port set blue-2 --enable"];
const BLUE_NET_DOWN: &[&str] = &["network set blue-net --disable"];
const BLUE_NET_UP: &[&str] = &["network set blue-net --enable"];
const GREEN_DOWN: &[&str] = &["router set green --disable"];
const GREEN_UP: &[&str] = &["router set green --enable"];
const BLUE_DOWN: &[&str] = &["router set blue --disable"];
const BLUE_UP: &[&str] = &["router set blue --enable"];
const GUEST_3_DOWN: &[&str] = &["@blue-3 ip link set eth0 down"];
const GUEST_3_UP: &[&str] =
    &["@blue-3 ip link set eth0 up", "@blue-3 ip route replace default via 192.168.10.1"];
const GUEST_2_DOWN: &[&str] = &["@blue-2 ip link set eth0 down"];
const GUEST_2_UP: &[&str] =
    &["@blue-2 ip link set eth0 up", "@blue-2 ip route replace default via 192.168.10.1"];
const DRAINED: &[&str] = &["host drain ahv01", "host drain ahv02"];
const UNDRAINED: &[&str] = &["host undrain ahv01", "host undrain ahv02"];
const UPLINKS_DOWN: &[&str] = &["@ahv01 ip link set uplink0 down", "@ahv02 ip link set uplink0 down"];
const UPLINKS_UP: &[&str] = &["@ahv01 ip link set uplink0 up", "@ahv02 ip link set uplink0 up"];
const OUTSIDE_GONE: &[&str] = &["@gateway ip link set eth0 down"];
const OUTSIDE_BACK: &[&str] = &["@gateway ip link set eth0 up"];
const OUTSIDE_NAMELESS: &[&str] = &["@gateway ip address delete 172.22.7.1/24 dev eth0"];
const OUTSIDE_NAMED: &[&str] = &["@gateway ip address add 172.22.7.1/24 dev eth0"];
const WRONG_VLAN: &[&str] =
    &["router unset green --external-gateway", "router set green --external-gateway wrong-vlan"];
const NO_PHYSNET: &[&str] =
    &["router unset green --external-gateway", "router set green --external-gateway nowhere"];
const DEAD_END: &[&str] =
    &["router unset green --external-gateway", "router set green --external-gateway dead-end"];
const RIGHT_NETWORK: &[&str] = &[
    "router unset green --external-gateway",
    "router set green --external-gateway external --snat-address 172.22.7.28",
];
const UNDERLAY_DOWN: &[&str] = &["@ahv03 ip link set underlay0 down"];
const UNDERLAY_UP: &[&str] = &["@ahv03 ip link set underlay0 up"];
const AGENT_3_STOPPED: &[&str] = &["stop ahv03"];
const AGENT_3_GOES: &[&str] = &["go ahv03"];
const AGENT_1_STOPPED: &[&str] = &["stop ahv01"];
const AGENT_1_GOES: &[&str] = &["go ahv01"];
const NO_FLOATING: &[&str] = &["floatingip unset 172.22.7.40 --port"];
const FLOATING: &[&str] = &["floatingip set 172.22.7.40 --port blue-2"];
const BLUE_1_ALONE: &[&str] = &["port set blue-1 --no-security-group"];
const BLUE_1_OPEN: &[&str] = &["port set blue-1 --security-group everything"];
const BLUE_2_ALONE: &[&str] = &["port set blue-2 --no-security-group"];
const BLUE_2_OPEN: &[&str] = &["port set blue-2 --security-group everything"];
/// Allows what its members send, and nobody is one but the port itself.
const BLUE_2_DEFAULT: &[&str] = &["port set blue-2 --security-group default"];
const BLUE_3_DEFAULT: &[&str] = &["port set blue-3 --security-group default"];
const BLUE_3_OPEN: &[&str] = &["port set blue-3 --security-group everything"];
const QUOTA: &[&str] = &["router set blue --ports-per-vm-max 1", "@blue-1 ping -c 1 -W 2 8.8.8.8"];
const NO_QUOTA: &[&str] = &["router set blue --ports-per-vm-max 0"];

/// Ports and networks that some faults are about; made once.
const SETUP: &[&str] = &[
    "network create lonely",
    "subnet create lonely-s --network lonely --subnet-range 10.9.0.0/24 --gateway none",
    "port create stray --network lonely --host ahv03",
    "port create unplugged --network blue-net --fixed-ip ip-address=192.168.10.51 --host ahv03",
    "port create unbound --network blue-net --fixed-ip ip-address=192.168.10.52",
    "port create astray --network blue-net --fixed-ip ip-address=192.168.10.53 --host nowhere",
    "floatingip create external --floating-ip-address 172.22.7.60",
    "network create wrong-vlan --external --provider-physical-network physnet1 --provider-segment 2208",
    "subnet create wrong-vlan-s --network wrong-vlan --subnet-range 172.22.8.0/24 --gateway 172.22.8.1",
    "network create nowhere --external --provider-physical-network physnet9 --provider-segment 2209",
    "subnet create nowhere-s --network nowhere --subnet-range 172.22.9.0/24 --gateway 172.22.9.1",
    "network create dead-end --external --provider-physical-network physnet1 --provider-segment 2210",
    "subnet create dead-end-s --network dead-end --subnet-range 172.22.10.0/24 --gateway none",
];

#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    fault("SNAT is off", SNAT_OFF, "green-3 8.8.8.8", &["snat-off"], SNAT_ON),
    fault("SNAT is off, TCP", SNAT_OFF, "green-3 8.8.8.8 --tcp 443", &["snat-off"], SNAT_ON),
    fault("SNAT is off on a host with the uplink", SNAT_OFF, "green-1 8.8.8.8 --udp 53", &["snat-off"], SNAT_ON),
    fault("no external gateway", NO_GATEWAY, "green-3 8.8.8.8", &["no-external-gateway"], SNAT_ON),
    fault("no external gateway, UDP", NO_GATEWAY, "green-1 8.8.8.8 --udp 53", &["no-external-gateway"], SNAT_ON),
    fault("no router interface", NO_INTERFACE, "green-3 8.8.8.8", &["no-router-interface"], INTERFACE),
    fault("no router interface, tap", NO_INTERFACE, "green-1 8.8.8.8 --tcp 80", &["no-router-interface"], INTERFACE),
    fault("the router is down", GREEN_DOWN, "green-3 8.8.8.8", &["router-down"], GREEN_UP),
    fault("the router is down, to its address", GREEN_DOWN, "green-3 192.168.10.1", &["router-down"], GREEN_UP),
    fault("the floating IP's router is down", BLUE_DOWN, "external/8.8.8.8 172.22.7.40", &["router-down"], BLUE_UP),
    fault("the sender's port is down", BLUE_1_DOWN, "blue-1 8.8.8.8", &["port-down"], BLUE_1_UP),
    fault("the sender's port is down, on link", BLUE_1_DOWN, "blue-1 blue-2", &["port-down"], BLUE_1_UP),
    fault("the receiver's port is down", BLUE_1_DOWN, "blue-3 blue-1", &["port-down"], BLUE_1_UP),
    fault("the receiver's port is down, TCP", BLUE_1_DOWN, "blue-2 blue-1 --tcp 22", &["port-down"], BLUE_1_UP),
    fault("the floating IP's port is down", BLUE_2_DOWN, "external/8.8.8.8 172.22.7.40", &["port-down"], BLUE_2_UP),
    fault("the network is down", BLUE_NET_DOWN, "blue-1 8.8.8.8", &["network-down"], BLUE_NET_UP),
    fault("the network is down, on link", BLUE_NET_DOWN, "blue-3 blue-2", &["network-down"], BLUE_NET_UP),
    fault("the receiver's VM is off", GUEST_3_DOWN, "blue-1 blue-3", &["link-down"], GUEST_3_UP),
    fault("the sender's VM is off", GUEST_3_DOWN, "blue-3 8.8.8.8", &["link-down"], GUEST_3_UP),
    fault("the floating IP's VM is off", GUEST_2_DOWN, "external/8.8.8.8 172.22.7.40", &["link-down"], GUEST_2_UP),
    fault("the receiver is not plugged", &[], "blue-1 unplugged", &["not-plugged"], &[]),
    fault("the receiver is not plugged, same host", &[], "blue-3 unplugged", &["not-plugged"], &[]),
    fault("the sender is not plugged", &[], "unplugged 8.8.8.8", &["not-plugged"], &[]),
    fault("the receiver is not bound", &[], "blue-1 unbound", &["not-bound"], &[]),
    fault("the sender is not bound", &[], "unbound 8.8.8.8", &["not-bound"], &[]),
    fault("the receiver's host does not exist", &[], "blue-1 astray", &["not-bound"], &[]),
    fault("the sender's host does not exist", &[], "astray 8.8.8.8", &["not-bound"], &[]),
    fault("the subnet has no gateway", &[], "stray 8.8.8.8", &["no-gateway-address"], &[]),
    fault("another address as source", &[], "blue-1 8.8.8.8 --from-ip 192.168.10.99", &["spoofed"], &[]),
    fault("another VM's address as source", &[], "blue-1 blue-3 --from-ip 192.168.10.12", &["spoofed"], &[]),
    fault("nobody has the address", &[], "blue-1 192.168.10.77", &["no-such-address"], &[]),
    fault("too big for the overlay", &[], "blue-1 blue-3 --length 1451", &["mtu"], &[]),
    fault("too big for the outside", &[], "blue-1 8.8.8.8 --length 1501", &["mtu"], &[]),
    fault("too big for the gateway's tunnel", &[], "blue-3 8.8.8.8 --length 1500 --udp 53", &["mtu"], &[]),
    fault("another VPC", &[], "blue-1 green-3", &["other-vpc"], &[]),
    fault("another VPC with the sender's own address", &[], "blue-1 green-1", &["other-vpc"], &[]),
    fault("no floating IP", &[], "external/8.8.8.8 172.22.7.55", &["no-floating-ip"], &[]),
    fault("a floating IP of nobody", &[], "external/8.8.8.8 172.22.7.60", &["floating-ip-free"], &[]),
    fault("a floating IP taken away", NO_FLOATING, "external/172.22.7.9 172.22.7.40 --tcp 22", &["floating-ip-free"], FLOATING),
    fault("inbound to a SNAT address", &[], "external/8.8.8.8 172.22.7.27 --tcp 443", &["snat-is-outbound"], &[]),
    fault("inbound to a SNAT address, UDP", &[], "external/172.22.7.9 172.22.7.28 --udp 53", &["snat-is-outbound"], &[]),
    fault("inbound to a private address", &[], "external/8.8.8.8 192.168.10.11", &["not-external"], &[]),
    fault("TCP to the router", &[], "blue-1 192.168.10.1 --tcp 22", &["router-address"], &[]),
    fault("UDP to the router", &[], "blue-3 192.168.10.1 --udp 53", &["router-address"], &[]),
    fault("all gateways are drained", DRAINED, "blue-3 8.8.8.8", &["no-gateway"], UNDRAINED),
    fault("all gateways are drained, inbound", DRAINED, "external/8.8.8.8 172.22.7.27", &["no-gateway"], UNDRAINED),
    fault("all uplinks are down", UPLINKS_DOWN, "blue-3 8.8.8.8", &["uplink-down"], UPLINKS_UP),
    fault("all uplinks are down, own host's too", UPLINKS_DOWN, "blue-1 8.8.8.8 --tcp 443", &["uplink-down"], UPLINKS_UP),
    fault("all uplinks are down, inbound", UPLINKS_DOWN, "external/8.8.8.8 172.22.7.40", &["uplink-down"], UPLINKS_UP),
    fault("the provider's router is gone", OUTSIDE_GONE, "blue-1 8.8.8.8", &["neighbor"], OUTSIDE_BACK),
    fault("the provider's router is gone, by a gateway", OUTSIDE_GONE, "blue-3 8.8.8.8", &["neighbor"], OUTSIDE_BACK),
    fault("the provider's router has lost its address", OUTSIDE_NAMELESS, "blue-2 8.8.8.8", &["neighbor"], OUTSIDE_NAMED),
    fault("the sender's agent hangs", AGENT_3_STOPPED, "blue-3 8.8.8.8", &["agent-silent", "agent-gone"], AGENT_3_GOES),
    fault("the receiver's agent hangs", AGENT_3_STOPPED, "blue-1 blue-3", &["agent-silent", "agent-gone"], AGENT_3_GOES),
    fault("the sender's agent hangs, with uplink", AGENT_1_STOPPED, "blue-1 8.8.8.8", &["agent-silent", "agent-gone"], AGENT_1_GOES),
    fault("the hop limit is too small", &[], "blue-1 8.8.8.8 --ttl 1", &["ttl"], &[]),
    fault("the hop limit is too small, by a gateway", &[], "blue-3 8.8.8.8 --ttl 1 --udp 53", &["ttl"], &[]),
    fault("the wrong VLAN", WRONG_VLAN, "green-1 8.8.8.8", &["neighbor"], RIGHT_NETWORK),
    fault("the wrong VLAN, by a gateway", WRONG_VLAN, "green-3 8.8.8.8 --tcp 443", &["neighbor"], RIGHT_NETWORK),
    fault("no host has the physical network", NO_PHYSNET, "green-3 8.8.8.8", &["no-gateway"], RIGHT_NETWORK),
    fault("no host has the physical network, TCP", NO_PHYSNET, "green-1 8.8.8.8 --tcp 80", &["no-gateway"], RIGHT_NETWORK),
    fault("the external subnet has no gateway", DEAD_END, "green-3 8.8.8.8", &["no-route"], RIGHT_NETWORK),
    fault("the sender's host is cut off", UNDERLAY_DOWN, "blue-3 8.8.8.8", &["agent-silent", "agent-gone"], UNDERLAY_UP),
    fault("no rule lets the sender out", BLUE_1_ALONE, "blue-1 8.8.8.8 --tcp 443", &["no-egress-rule"], BLUE_1_OPEN),
    fault("no rule lets the sender out, on link", BLUE_1_ALONE, "blue-1 blue-3", &["no-egress-rule"], BLUE_1_OPEN),
    fault("no rule lets the packet in", BLUE_2_ALONE, "blue-1 blue-2 --tcp 22", &["no-ingress-rule"], BLUE_2_OPEN),
    fault("no rule lets the packet in, by the floating IP", BLUE_2_ALONE, "external/8.8.8.8 172.22.7.40", &["no-ingress-rule"], BLUE_2_OPEN),
    fault("a rule is for another group", BLUE_2_DEFAULT, "blue-1 blue-2 --udp 53", &["wrong-remote-group"], BLUE_2_OPEN),
    fault("a rule is for another group, other host", BLUE_3_DEFAULT, "blue-1 blue-3 --tcp 80", &["wrong-remote-group"], BLUE_3_OPEN),
    fault("the VM has all the mappings it may have", QUOTA, "blue-1 8.8.8.8 --tcp 443", &["port-quota"], NO_QUOTA),
    // Last: nothing brings these agents back.
    fault("the sender's agent is dead", &["kill ahv03"], "blue-3 8.8.8.8", &["agent-silent", "agent-gone"], &[]),
    fault("the receiver's agent is dead", &[], "blue-1 blue-3", &["agent-silent", "agent-gone"], &[]),
];

/// A lab that is taken down when the test ends, however it ends.
struct Lab {
    name: String,
    green: String,
}

impl Lab {
    fn up() -> Self {
        let mut lab = Self { name: format!("x{}", std::process::id()), green: String::new() };
        let output = nanboku(&["lab", "up", "fvn", "--name", &lab.name]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let port = nanboku(&["--lab", &lab.name, "port", "show", "green-3", "-o", "json"]);
        let port: Value = serde_json::from_slice(&port.stdout).unwrap();
        lab.green = port["fixed_ips"][0]["subnet_id"].as_str().unwrap().to_owned();
        lab
    }

    fn run(&self, command: &str) {
        let command = command.replace("$green", &self.green);
        let words: Vec<&str> = command.split_whitespace().collect();
        let signal = match words[0] {
            "stop" => "-STOP",
            "go" => "-CONT",
            "kill" => "-KILL",
            _ => return self.command(&words),
        };
        assert!(Command::new("kill").args([signal, &self.agent(words[1])]).status().unwrap().success());
    }

    fn command(&self, words: &[&str]) {
        let output = match words[0].strip_prefix('@') {
            Some(machine) => {
                let exec = ["--lab", &self.name, "lab", "exec", machine, "--"];
                nanboku(&[&exec, &words[1..]].concat())
            }
            None => nanboku(&[&["--lab", self.name.as_str()], words].concat()),
        };
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The process id of a host's agent.
    fn agent(&self, host: &str) -> String {
        let state = std::fs::read(format!("/run/nanboku/lab/{}/state.json", self.name)).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        let role = format!("agent {host}");
        let mut processes = state["processes"].as_array().unwrap().iter();
        processes.find(|process| process["role"] == *role).unwrap()["pid"].to_string()
    }

    /// What `explain reach` says, and how long it took.
    fn explain(&self, ask: &str) -> (Value, Duration) {
        let start = Instant::now();
        let fixed = ["--lab", &self.name, "-o", "json", "explain", "reach"];
        let output = nanboku(&fixed.into_iter().chain(ask.split_whitespace()).collect::<Vec<_>>());
        let took = start.elapsed();
        let answer = serde_json::from_slice(&output.stdout);
        (answer.unwrap_or_else(|_| panic!("{ask}: {}", String::from_utf8_lossy(&output.stderr))), took)
    }

    /// Asks until the answer is as wanted, or too late; the last answer.
    fn ask_until(&self, ask: &str, is_wanted: impl Fn(&Value) -> bool) -> (Value, Duration) {
        let deadline = Instant::now() + EFFECT;
        loop {
            let (answer, took) = self.explain(ask);
            if is_wanted(&answer) || Instant::now() > deadline {
                return (answer, took);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn assert_healthy(&self, after: &str) {
        for ask in [
            "blue-1 8.8.8.8",
            "blue-3 8.8.8.8",
            "blue-1 blue-3",
            "green-3 8.8.8.8",
            "external/8.8.8.8 172.22.7.40",
        ] {
            let (answer, _) = self.ask_until(ask, |answer| answer["reachable"] == Value::Bool(true));
            assert_eq!(answer["reachable"], Value::Bool(true), "after {after}: {ask}: {answer:#}");
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(nanboku(&["lab", "down", &self.name]));
    }
}

fn nanboku(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nanboku")).args(args).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn root_the_cause_of_every_planted_fault_is_named() {
    let lab = Lab::up();
    SETUP.iter().for_each(|command| lab.run(command));
    lab.assert_healthy("the setup");
    let (mut wrong, mut slow) = (Vec::new(), Vec::new());
    for fault in FAULTS {
        let started = Instant::now();
        fault.plant.iter().for_each(|command| lab.run(command));
        let is_right =
            |answer: &Value| answer["cause_id"].as_str().is_some_and(|id| fault.causes.contains(&id));
        let (answer, took) = lab.ask_until(fault.ask, is_right);
        let said = format!("{}: {} ({})", fault.title, answer["cause"], answer["cause_id"]);
        println!("{:6} ms, {:5} ms in all  {said}", took.as_millis(), started.elapsed().as_millis());
        if !is_right(&answer) {
            wrong.push(format!("{said}, and not {:?}", fault.causes));
        }
        if took > ANSWER {
            slow.push(format!("{}: {took:?}", fault.title));
        }
        fault.heal.iter().for_each(|command| lab.run(command));
        if !fault.heal.is_empty() {
            lab.assert_healthy(fault.title);
        }
    }
    let right = (FAULTS.len() - wrong.len()) * 100 / FAULTS.len();
    assert!(right >= RIGHT_MIN, "{right} % of {} are right; wrong: {wrong:#?}", FAULTS.len());
    assert!(slow.is_empty(), "slower than {ANSWER:?}: {slow:#?}");
}

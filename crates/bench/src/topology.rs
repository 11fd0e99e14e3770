//! The machines every variant runs on, with the same wires:
//!
//! ```text
//! vm1 --port0-- a ==underlay0== b --port0-- vm2
//!               |uplink0        |uplink0
//!              exta            extb
//! ```
//!
//! The VMs' MTU leaves room for a tunnel header on the underlay, in every variant. A tap VM is a tap with
//! virtio-net headers on the host, a second one in the VM's namespace, and two threads that carry frames
//! between them, as a hypervisor's network backend does.

use anyhow::{Context as _, ensure};
use dataplane::PlayedNic;
use netlink::{Netns, Offloads, Tap, TapOptions, VNET_HDR_LEN, set_offloads};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

/// Namespaces of the benchmark and nothing else.
pub(crate) const PREFIX: &str = "nbkbench-";
pub(crate) const PORT: &str = "port0";
pub(crate) const UNDERLAY: &str = "underlay0";
pub(crate) const UPLINK: &str = "uplink0";
/// Name of the only NIC of a VM or an external machine.
pub(crate) const NIC: &str = "eth0";
pub(crate) const VTEP_A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const VTEP_B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Address of the machine outside, behind either host.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub(crate) const VM1_MAC: [u8; 6] = [0x02, 0x16, 0x3e, 0, 0, 1];
pub(crate) const VM2_MAC: [u8; 6] = [0x02, 0x16, 0x3e, 0, 0, 2];
pub(crate) const OUTSIDE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 9];
pub(crate) const VM_MTU: u16 = 1450;
/// The largest super-packet with its headers.
const FRAME_BYTES_MAX: usize = 65536 + 64 + VNET_HDR_LEN;

/// How a VM is connected to its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    Veth,
    Tap,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Veth, Self::Tap];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Veth => "veth",
            Self::Tap => "tap",
        }
    }
}

/// How the underlay treats super-packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Underlay {
    /// They cross as they are.
    Offloaded,
    /// They are cut to wire MTU by the sender and merged by the receiver, as on a NIC without tunnel offload.
    Wire,
}

/// The machines of one variant.
pub(crate) struct Topology {
    pub(crate) vm1: Netns,
    pub(crate) vm2: Netns,
    pub(crate) a: Netns,
    pub(crate) b: Netns,
    pub(crate) exta: Netns,
    pub(crate) extb: Netns,
    /// Of an underlay at wire MTU: its two ends hide from the receiving host's GRO that the sender is on the same
    /// machine.
    nics: Vec<PlayedNic>,
}

impl Topology {
    /// Makes machines and wires; every link is up, the hosts have their underlay addresses and the machines
    /// outside theirs.
    pub(crate) fn build(name: &str, kind: Kind) -> anyhow::Result<Self> {
        let machine = |role: &str| create(&format!("{PREFIX}{name}-{}.{role}", kind.name()));
        let (a, b) = (machine("a")?, machine("b")?);
        join(&a, &b)?;
        let mut topology = Self {
            vm1: machine("vm1")?,
            vm2: machine("vm2")?,
            exta: machine("exta")?,
            extb: machine("extb")?,
            nics: Vec::new(),
            a,
            b,
        };
        topology.wire_hosts()?;
        topology.wire_vm(kind, &topology.a, &topology.vm1, VM1_MAC)?;
        topology.wire_vm(kind, &topology.b, &topology.vm2, VM2_MAC)?;
        topology.set_underlay(Underlay::Offloaded)?;
        Ok(topology)
    }

    fn wire_hosts(&self) -> anyhow::Result<()> {
        for (host, vtep, outside) in [(&self.a, VTEP_A, &self.exta), (&self.b, VTEP_B, &self.extb)] {
            let (peer, mac) = (outside.name(), mac(OUTSIDE_MAC));
            ip(
                host,
                &format!(
                    "address add {vtep}/24 dev {UNDERLAY}
                     link set {UNDERLAY} up
                     link add {UPLINK} type veth peer name {NIC} address {mac} netns {peer}
                     link set {UPLINK} up"
                ),
            )?;
            ip(outside, &format!("link set {NIC} up\naddress add {OUTSIDE}/24 dev {NIC}"))?;
        }
        Ok(())
    }

    fn wire_vm(&self, kind: Kind, host: &Netns, vm: &Netns, nic_mac: [u8; 6]) -> anyhow::Result<()> {
        match kind {
            Kind::Veth => {
                ip(host, &format!("link add {PORT} type veth peer name {NIC} netns {}", vm.name()))?
            }
            Kind::Tap => relay(host, vm)?,
        }
        ip(host, &format!("link set {PORT} mtu {VM_MTU} up"))?;
        ip(vm, &format!("link set {NIC} address {} mtu {VM_MTU} up", mac(nic_mac)))
    }

    /// Switches the underlay between the two ways of treating super-packets.
    pub(crate) fn set_underlay(&mut self, underlay: Underlay) -> anyhow::Result<()> {
        let wire = underlay == Underlay::Wire;
        let offloads = Offloads { tso: !wire, gso: !wire, gro: wire, ..Offloads::ON };
        self.nics.clear();
        for host in [&self.a, &self.b] {
            host.run(|| set_offloads(UNDERLAY, offloads))??;
            if wire {
                self.nics.push(host.run(|| PlayedNic::attach(UNDERLAY))??);
            }
        }
        Ok(())
    }
}

/// The underlay between two hosts.
fn join(a: &Netns, b: &Netns) -> anyhow::Result<()> {
    ip(a, &format!("link add {UNDERLAY} type veth peer name {UNDERLAY} netns {}", b.name()))
}

fn create(name: &str) -> anyhow::Result<Netns> {
    let netns = Netns::create(name).context("needs root")?;
    for scope in ["all", "default"] {
        netns.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
        // A kernel without IPv6 has no such switch and sends nothing that would disturb either.
        drop(netns.sysctl(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1"));
    }
    Ok(netns)
}

/// Two taps and two threads between them. Threads and taps last until the process ends: a read of a tap can't
/// be interrupted, and the machines are needed until then.
fn relay(host: &Netns, vm: &Netns) -> anyhow::Result<()> {
    let options = TapOptions { vnet_hdr: true, offloads: true };
    let outer = Arc::new(host.run(|| Tap::open(PORT, options))??);
    let inner = Arc::new(vm.run(|| Tap::open(NIC, options))??);
    for (from, to) in [(Arc::clone(&outer), Arc::clone(&inner)), (inner, outer)] {
        thread::spawn(move || {
            let mut frame = vec![0; FRAME_BYTES_MAX];
            while let Ok(len) = from.read(&mut frame) {
                // A link that is down refuses frames; a guest's NIC loses them.
                drop(to.write(&frame[..len]));
            }
        });
    }
    Ok(())
}

/// Runs lines of `ip -batch` inside a namespace.
pub(crate) fn ip(netns: &Netns, lines: &str) -> anyhow::Result<()> {
    tool(netns, "ip", &["-batch", "-"], lines)
}

/// Runs a tool inside a namespace with a script on its standard input.
pub(crate) fn tool(netns: &Netns, program: &str, args: &[&str], script: &str) -> anyhow::Result<()> {
    let run = || {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(script.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = netns.run(run)?.with_context(|| format!("cannot run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} in {}: {}\n{script}", netns.name(), errors.trim());
    Ok(())
}

pub(crate) fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// Removes every namespace of the benchmark, also those of a run that was killed.
pub(crate) fn remove_all() {
    for name in Netns::names().iter().filter(|name| name.starts_with(PREFIX)) {
        if let Err(error) = Netns::delete(name) {
            eprintln!("cannot remove {name}: {error}");
        }
    }
}

//! DHCP by three clients of other authors, each with the scripts that Debian gives it, in a namespace whose /etc and
//! /run are its own.

use crate::common::{Bench, Vm, port_id, wait_for};
use agent::control::Request;
use model::slice::{DhcpOption, Slice};
use std::process::{Child, Command, Stdio};

/// A client, and how it asks once and leaves what it got.
struct Client {
    name: &'static str,
    command: &'static str,
    /// Ends what goes on in the background.
    end: &'static str,
    /// Whether its scripts make classless routes.
    classless: bool,
}

const CLIENTS: [Client; 3] = [
    Client { name: "udhcpc", command: "udhcpc -i eth0 -n -q -f -O mtu", end: "true", classless: false },
    Client {
        name: "dhclient",
        command: "mkdir -p /var/lib/dhcp; dhclient -1 -4 -v eth0",
        end: "dhclient -x",
        classless: true,
    },
    Client {
        name: "dhcpcd",
        command: "mkdir -p /var/lib/dhcpcd /run/dhcpcd; dhcpcd -1 -4 -A -t 10 eth0",
        end: "true",
        classless: true,
    },
];

/// What a client may write to goes with it.
const OWN_FILES: &str = "mount -t tmpfs none /mnt && mkdir /mnt/new /mnt/work && \
    mount -t overlay -o lowerdir=/etc,upperdir=/mnt/new,workdir=/mnt/work none /etc && \
    mount -t tmpfs none /var/lib && mount -t tmpfs none /run";

pub(super) fn command(vm: &Vm, script: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", vm.0.name(), "sh", "-c", &format!("{OWN_FILES}; {script}")]);
    command
}

/// A VM whose link has nothing yet.
fn bare_vm(bench: &Bench, name: &str, number: u8) -> Vm {
    let vm = bench.vm(name);
    bench.plug(number, &vm).unwrap();
    vm.run("ip addr flush dev eth0");
    vm.run("ip link set eth0 mtu 1500");
    vm
}

pub(super) fn count(bench: &Bench, counter: &str) -> u64 {
    bench.status().counters.get(counter).copied().unwrap_or(0)
}

#[test]
fn clients_get_address_route_servers_and_mtu() {
    let mut bench = Bench::new("dhcp");
    bench.start();
    let vm = bare_vm(&bench, "a", 1);
    for Client { name, command: ask, end, classless } in CLIENTS {
        vm.run("ip addr flush dev eth0");
        vm.run("ip link set eth0 mtu 1500");
        let look = "ip addr show eth0; ip route; cat /etc/resolv.conf; ping -c 3 -i 0.2 192.168.10.1";
        let output = command(&vm, &format!("({ask}) >&2; {look}; {end} >&2")).output().unwrap();
        let (got, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let mut want = vec![
            "inet 192.168.10.11/24 brd 192.168.10.255",
            "mtu 1450",
            "default via 192.168.10.1",
            "nameserver 9.9.9.9",
            "bytes from 192.168.10.1",
        ];
        if classless {
            want.extend(["10.77.0.0/16 via 192.168.10.2", "169.254.169.254"]);
        }
        for want in want {
            assert!(got.contains(want), "{name}: '{want}' is not in\n{got}\nIt said:\n{said}");
        }
    }
    assert!(
        count(&bench, "punt.dhcp") > 0 && count(&bench, "agent.dhcp-acks") >= 3,
        "{:?}",
        bench.status().counters
    );
}

/// A client that goes on in the background; ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Goal: a lease outlives the agent. Method: renewal and rebinding after two and four seconds, by options of the port;
/// the agent is killed while the client is bound, and another one answers what comes next, by unicast and by broadcast.
#[test]
fn a_lease_is_renewed_and_rebound_by_the_next_agent() {
    let mut bench = Bench::new("renew");
    bench.change_slice(|slice| {
        let guest = slice.ports.get_mut(&port_id(2)).unwrap().guest.get_or_insert_default();
        let option = |name: &str, value: &str| DhcpOption { name: name.to_owned(), value: value.to_owned() };
        guest.dhcp_options = vec![option("T1", "2"), option("T2", "4"), option("lease-time", "60")];
    });
    bench.start();
    let vm = bare_vm(&bench, "b", 2);
    let log = bench.directory().join("dhclient.log");
    let script = "mkdir -p /var/lib/dhcp; exec dhclient -d -4 eth0";
    let file = std::fs::File::create(&log).unwrap();
    let client = command(&vm, script).stdout(Stdio::null()).stderr(file).spawn().unwrap();
    let _client = Running(client);
    let said = |what: &str| std::fs::read_to_string(&log).unwrap().contains(what).then_some(());
    wait_for("the first lease", || said("bound to 192.168.10.12"));
    bench.kill();
    wait_for("a renewal that nobody answers", || {
        said("DHCPREQUEST for 192.168.10.12 on eth0 to 169.254.169.254")
    });
    let rebinding = "DHCPREQUEST for 192.168.10.12 on eth0 to 255.255.255.255 port 67";
    let first = std::fs::read_to_string(&log).unwrap().matches(rebinding).count();
    wait_for("a rebinding", || {
        (std::fs::read_to_string(&log).unwrap().matches(rebinding).count() > first).then_some(())
    });
    bench.start();
    wait_for("an answer of the next agent", || (count(&bench, "agent.dhcp-acks") > 0).then_some(()));
    let acks = count(&bench, "agent.dhcp-acks");
    wait_for("a renewal", || (count(&bench, "agent.dhcp-acks") > acks).then_some(()));
    let addresses = vm.run("ip -4 addr show eth0");
    assert!(addresses.contains("192.168.10.12/24"), "{addresses}");
    assert_eq!(count(&bench, "agent.dhcp-offers"), 0, "the lease was never lost");
}

#[test]
fn a_subnet_without_dhcp_is_silent() {
    let mut bench = Bench::new("nodhcp");
    bench.change_slice(no_dhcp);
    bench.start();
    let vm = bare_vm(&bench, "a", 1);
    let output = command(&vm, "udhcpc -i eth0 -n -q -f -t 2 -T 1").output().unwrap();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait_for("the counter", || (count(&bench, "agent.dhcp-off") >= 2).then_some(()));
    bench.request(&Request::Status).unwrap();
}

fn no_dhcp(slice: &mut Slice) {
    for subnet in slice.networks.values_mut().flat_map(|network| network.subnets.values_mut()) {
        subnet.dhcp = None;
    }
}

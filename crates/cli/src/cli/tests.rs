//! The command line is read as it is documented.

use super::*;
use clap::CommandFactory as _;
use clap::error::ErrorKind;

mod documents;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("nanboku").chain(line.split_whitespace()))
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn documented_commands_are_accepted() {
    for line in [
        "server --config /etc/nanboku/server.toml",
        "agent --config /etc/nanboku/agent.toml",
        "ca init --dir pki",
        "ca issue ahv01 --san 10.0.0.1 --dir pki",
        "lab up fvn",
        "lab up fvn --name demo-fvn",
        "lab check fvn -o json",
        "lab fault faults --fault all --repetitions 20 -o json",
        "lab fault --lab faults --fault kill --fault return --host gw1 --sessions 100 --no-limits",
        "lab hostile faults --flood all --seconds 4 --rate 20000 --connections 250",
        "lab exec vm1 -- ping -c 1 192.168.10.12",
        "lab down fvn",
        "lab list",
        "network create blue-net",
        "network create ext --external --provider-physical-network physnet1 --provider-segment 2207 --egress gateway",
        "network list --external -o value -c id",
        "network delete a b --yes",
        "subnet create s --network n --subnet-range 172.22.7.0/24 --gateway 172.22.7.1 --allocation-pool start=172.22.7.20,end=172.22.7.99",
        "subnet create s --network n --subnet-range 10.0.0.0/24 --gateway none --no-dhcp",
        "port create vm1 --network n --fixed-ip ip-address=192.168.10.11 --host ahv01 --mac-address fa:16:3e:00:00:01",
        "port create vm1 --network n --allowed-address ip-address=10.0.0.0/24,mac-address=fa:16:3e:00:00:02",
        "port plug vm1 --netns vm1 --ifname eth0 --agent-socket /run/a.sock",
        "port unplug vm1",
        "router create blue --external-gateway ext --snat-address 172.22.7.27 --snat-address 172.22.7.28",
        "router set blue --external-gateway ext --disable-snat",
        "router unset blue --external-gateway",
        "router add-subnet blue s",
        "router remove-subnet blue s",
        "router add-route blue --route destination=10.9.0.0/16,gateway=192.168.10.9",
        "host list --lab fvn",
        "host show ahv01 --endpoint unix:/run/x.sock",
        "sessions --host ahv01",
        "sessions --port vm1 --router blue --address 8.8.8.8:53 --protocol udp --state active --nat snat --sort bytes:asc --watch",
        "sessions delete 0123456789abcdef --yes",
        "flows --host node1 --stage snat --never",
        "fdb --network blue --host node1",
        "neighbors --network blue -o json",
        "top --page flows --interval 1 --batch 2",
        "block list --router blue --host ahv01 --address 172.22.7.27",
        "trace --from vm1 --to 8.8.8.8",
        "trace --from vm1 --to 8.8.8.8 --tcp 443 --source-port 4000 --tcp-flags syn,ack --ttl 3 --df --length 1500 -v",
        "trace --from-external ext --from-ip 8.8.8.8 --to 172.22.7.40 --udp 53 --fresh --no-answer",
        "explain who 172.22.7.27:2050",
        "explain reach vm1 8.8.8.8",
        "explain reach ext/8.8.8.8 172.22.7.40 --tcp 443 --length 1500",
        "explain gateway 172.22.7.27",
        "explain drop snat-disabled",
        "explain who 172.22.7.27:2050 --at 2026-11-22T07:00:00Z",
        "status",
        "completion zsh",
        "demo --keep",
    ] {
        if let Err(error) = parse(line) {
            panic!("nanboku {line}\n{error}");
        }
    }
}

#[test]
fn floating_ips_groups_and_sharing_are_accepted() {
    for line in [
        "floatingip create ext --port vm1",
        "floatingip set 172.22.7.30 --port vm1",
        "floatingip unset 172.22.7.30 --port",
        "floatingip portforwarding create 172.22.7.30 --port vm1 --protocol tcp --external-port 2222 --internal-port 22",
        "floatingip portforwarding list 172.22.7.30",
        "floatingip portforwarding set 172.22.7.30 ID --external-port 80",
        "floatingip portforwarding delete 172.22.7.30 ID",
        "securitygroup create web --stateless --description front",
        "securitygroup list --name web",
        "securitygroup set web --stateful --name www",
        "securitygroup rule create web --protocol tcp --dst-port 80:443 --remote-ip 10.0.0.0/8",
        "securitygroup rule create web --protocol icmp --icmp-type 8 --icmp-code 0 --remote-group db",
        "securitygroup rule create web --egress --ethertype ipv6 --remote-address-group x",
        "securitygroup rule list web --ingress",
        "securitygroup rule delete a b --yes",
        "addressgroup create branches --address 10.0.0.0/8 --address 192.0.2.1 --description of_ours",
        "addressgroup set branches --address fd00::/8",
        "addressgroup unset branches --address 10.0.0.0/8",
        "addressgroup list --name branches",
        "meteringlabel create web --share --description of_all",
        "meteringlabel list --name web",
        "meteringlabel rule create web --egress --exclude --source-ip 10.0.0.0/8 --destination-ip 192.0.2.0/24",
        "meteringlabel rule create web --remote-ip 0.0.0.0/0",
        "meteringlabel rule list web",
        "meteringlabel rule delete a b --yes",
        "rbac create blue --type network --target-project red",
        "rbac create web --type securitygroup --action shared --target-all-projects",
        "rbac set 0e2d --target-project green",
        "rbac list --type addressgroup --action shared",
    ] {
        if let Err(error) = parse(line) {
            panic!("nanboku {line}\n{error}");
        }
    }
}

#[test]
fn captures_and_live_traces_are_accepted() {
    for line in [
        "trace --live --from vm1 --icmp",
        "trace --live --router blue --rate 10 --count 5 host 8.8.8.8 and not arp",
        "capture --port vm1 --at in --at snat --at out -w dump.pcapng -s 128 --count 100 tcp port 443",
        "capture --uplink physnet1 --host ahv01 -w - -C 100 -G 60 -W 5 --duration 60",
        "capture --router blue --network net --text",
        "capture --port vm1 --here",
        "trace --pcap dump.pcap --number 3 --port vm1 -o json",
    ] {
        if let Err(error) = parse(line) {
            panic!("nanboku {line}\n{error}");
        }
    }
}

#[test]
fn wrong_arguments_are_refused_with_the_reason() {
    for (line, said) in [
        ("network create x --external", "--provider-physical-network"),
        ("network create x --provider-segment 5000 --provider-physical-network p", "1..=4094"),
        ("network create x --external --provider-physical-network p --block-size 100", "use 64, 128"),
        ("network create x --mtu 10", "68.."),
        ("subnet create s --network n --subnet-range 10.0.0.0", "invalid IP address syntax"),
        ("subnet create s --network n --subnet-range 10.0.0.0/24 --gateway first", "'auto' or 'none'"),
        (
            "subnet create s --network n --subnet-range 10.0.0.0/24 --allocation-pool start=10.0.0.9,end=10.0.0.2",
            "start is after its end",
        ),
        (
            "subnet create s --network n --subnet-range 10.0.0.0/24 --allocation-pool first=1",
            "unknown key 'first'",
        ),
        ("port create p --network n --fixed-ip ip-address=1.2.3", "not an IPv4 address"),
        ("port create p --network n --mac-address 01:00:00:00:00:01", "not a valid MAC"),
        ("port create p --network n --enable --disable", "cannot be used with"),
        ("router create r --snat-address 1.2.3.4", "--external-gateway"),
        ("router add-route r --route destination=1,gateway=2", "destination=CIDR"),
        ("router unset r", "--external-gateway"),
        ("floatingip unset 1.2.3.4", "--port"),
        ("securitygroup rule create web --dst-port 80", "--protocol"),
        ("securitygroup rule create web --protocol tcp --dst-port 443:80", "443 is behind 80"),
        ("securitygroup rule create web --remote-ip 10.0.0.0/8 --remote-group db", "cannot be used with"),
        ("addressgroup create a --address 10.0.0", "is not an address or a prefix"),
        ("addressgroup unset a", "--address"),
        ("meteringlabel rule create web --egress", "--source-ip"),
        ("meteringlabel rule create web --remote-ip ::/0 --source-ip ::/0", "cannot be used with"),
        ("rbac create blue --type network", "--target-project"),
        ("rbac create blue --type router --target-project red", "possible values: network"),
        ("explain who 172.22.7.27", "invalid IPv4 socket address"),
        ("capture --snaplen 0", "1..=16384"),
        ("capture -C 5", "--write"),
        ("trace --live --pcap dump.pcap", "cannot be used with"),
        ("network lst", "similar subcommand exists: 'list'"),
        ("netwrk list", "similar subcommand"),
    ] {
        let error = parse(line).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(said), "nanboku {line}: want '{said}' in\n{text}");
        assert_eq!(error.exit_code(), 2, "nanboku {line}");
    }
}

#[test]
fn help_exists_for_every_command_and_argument() {
    fn walk(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some() || path == "nanboku", "{path} has no help");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            assert!(argument.get_help().is_some(), "{path}: {} has no help", argument.get_id());
        }
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            walk(sub, &format!("{path} {}", sub.get_name()));
        }
    }
    walk(&Cli::command(), "nanboku");
    assert_eq!(parse("--help").unwrap_err().kind(), ErrorKind::DisplayHelp);
    assert_eq!(parse("--version").unwrap_err().kind(), ErrorKind::DisplayVersion);
}

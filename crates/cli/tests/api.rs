//! The commands of the API against a real controller: a process of its own, reached through its Unix socket.

use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const NANBOKU: &str = env!("CARGO_BIN_EXE_nanboku");
const START: Duration = Duration::from_secs(20);

/// A controller with an empty store; ends with the test.
struct Controller {
    process: Child,
    dir: TempDir,
}

impl Controller {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for args in [vec!["ca", "init"], vec!["ca", "issue", "controller"]] {
            let output = Command::new(NANBOKU).args(&args).args(["--dir", &path("pki")]).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", text(&output));
        }
        let process = Command::new(NANBOKU)
            .args(["server", "--api-listen", "off", "--agents-listen", "127.0.0.1:0"])
            .args([
                "--api-socket",
                &path("api.sock"),
                "--data-dir",
                &path("data"),
                "--certificates",
                &path("pki"),
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let controller = Self { process, dir };
        let deadline = Instant::now() + START;
        while !controller.run("network list").status.success() {
            assert!(Instant::now() < deadline, "last seen: {}", text(&controller.run("network list")));
            std::thread::sleep(Duration::from_millis(20));
        }
        controller
    }

    fn socket(&self) -> String {
        self.dir.path().join("api.sock").display().to_string()
    }

    fn run(&self, line: &str) -> Output {
        let endpoint = format!("unix:{}", self.socket());
        let mut command = Command::new(NANBOKU);
        command.env_remove("NANBOKU_ENDPOINT").args(["--endpoint", &endpoint]);
        command.args(line.split_whitespace()).output().unwrap()
    }

    /// Standard output of a command that succeeds.
    fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "nanboku {line}\n{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} -o json"))).unwrap()
    }

    fn value(&self, line: &str) -> String {
        self.ok(&format!("{line} -o value")).trim().to_owned()
    }

    /// Standard error of a command that fails with this exit code.
    fn fails(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(code), "nanboku {line}\n{}", text(&output));
        assert!(output.stdout.is_empty(), "nanboku {line} printed {}", text(&output));
        String::from_utf8(output.stderr).unwrap()
    }

    /// External network, tenant network and router, as in scenario A.
    fn with_vpc(self) -> Self {
        for line in [
            "network create external --external --provider-physical-network physnet1 --provider-segment 2207 --egress gateway --block-size 512",
            "subnet create external4 --network external --subnet-range 172.22.7.0/24 --gateway 172.22.7.1 --no-dhcp \
             --allocation-pool start=172.22.7.20,end=172.22.7.99",
            "network create blue-net --description of_blue",
            "subnet create blue4 --network blue-net --subnet-range 192.168.10.0/24 --dns-nameserver 9.9.9.9",
            "router create blue --external-gateway external --snat-address 172.22.7.27",
            "router add-subnet blue blue4",
            "port create vm1 --network blue-net --fixed-ip subnet=blue4,ip-address=192.168.10.11 --mac-address fa:16:3e:00:00:11",
        ] {
            self.ok(line);
        }
        self
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_nat_of_a_router_is_set_and_shown() {
    let cli = Controller::start().with_vpc();
    cli.ok("router set blue --external-gateway external --disable-snat");
    cli.ok("router set blue --filtering endpoint-independent --ports-per-vm-max 500 --snat-shared true");
    let info = cli.json("router show blue")["external_gateway_info"].clone();
    assert_eq!(
        (&info["nanboku:filtering"], &info["nanboku:ports_per_vm_max"]),
        (&"endpoint-independent".into(), &500.into())
    );
    assert_eq!(
        (&info["nanboku:snat_shared"], &info["enable_snat"]),
        (&true.into(), &false.into()),
        "SNAT stays off"
    );
    cli.ok("router create green --external-gateway external --snat-address 172.22.7.27 --snat-shared true");
    assert_eq!(cli.value("router list -c name").lines().count(), 2);
    let said = cli.fails("router create red --external-gateway external --snat-address 172.22.7.27", 1);
    assert!(said.contains("172.22.7.27 already allocated"), "{said}");
    cli.ok("router create bare");
    for command in ["set bare", "create other"] {
        let said = cli.fails(&format!("router {command} --ports-per-vm-max 5"), 1);
        assert!(said.contains("has no external gateway: name one with --external-gateway"), "{said}");
    }
    let said = cli.fails("router set blue --ports-per-vm-max 200000", 2);
    assert!(said.contains("131072"), "{said}");
}

#[test]
fn a_vpc_is_made_and_taken_away_by_names() {
    let cli = Controller::start().with_vpc();
    let external = cli.json("network show external");
    assert_eq!(external["provider:network_type"], "vlan");
    assert_eq!(external["provider:segmentation_id"], 2207);
    assert_eq!(
        (&external["nanboku:egress"], &external["nanboku:block_size"]),
        (&"gateway".into(), &512.into())
    );
    let router = cli.json("router show blue");
    assert_eq!(router["external_gateway_info"]["external_fixed_ips"][0]["ip_address"], "172.22.7.27");
    assert_eq!(router["external_gateway_info"]["network_id"], external["id"]);
    let port = cli.json("port show vm1");
    assert_eq!(port["fixed_ips"][0]["ip_address"], "192.168.10.11");
    assert_eq!(port["mac_address"], "fa:16:3e:00:00:11");
    assert_eq!(
        cli.value("port list --router blue --device-owner network:router_interface -c fixed_ips"),
        "192.168.10.1"
    );

    let address = cli.value("floatingip create external --port vm1 -c floating_ip_address");
    assert_eq!(cli.json(&format!("floatingip show {address}"))["fixed_ip_address"], "192.168.10.11");
    assert_eq!(cli.value("floatingip list --port vm1 -c address"), address);
    cli.ok(&format!("floatingip unset {address} --port"));
    assert_eq!(cli.json(&format!("floatingip show {address}"))["port_id"], Value::Null);
    cli.ok(&format!("floatingip set {address} --port vm1"));

    cli.ok(&format!("floatingip delete {address}"));
    cli.ok("securitygroup create web --description front");
    let rule = cli
        .value("securitygroup rule create web --protocol tcp --dst-port 80:443 --remote-ip 10.0.0.0/8 -c id");
    cli.ok("securitygroup rule create web --protocol icmp --icmp-type 8 --remote-group web");
    assert_eq!(cli.json("securitygroup rule list web --ingress").as_array().unwrap().len(), 2);
    assert_eq!(cli.value("securitygroup list --name web -c rules"), "4");
    cli.ok(&format!("securitygroup rule delete {rule}"));
    cli.ok("securitygroup set web --name www");
    cli.ok("port set vm1 --security-group www");
    let said = cli.fails("securitygroup delete www", 1);
    assert!(said.contains("in use"), "{said}");
    cli.ok("port set vm1 --no-security-group");
    cli.ok("securitygroup delete www");
    cli.ok("addressgroup create branches --address 10.0.0.0/8 --description offices");
    cli.ok("addressgroup set branches --address 192.0.2.1 --address fd00::/8");
    cli.ok("addressgroup unset branches --address 10.0.0.0/8");
    assert_eq!(cli.value("addressgroup list --name branches -c addresses"), "192.0.2.1/32,fd00::/8");
    cli.ok("securitygroup create db");
    cli.ok("securitygroup rule create db --remote-address-group branches");
    let said = cli.fails("addressgroup delete branches", 1);
    assert!(said.contains("in use"), "{said}");
    let said = cli.fails("addressgroup set branches --name b --address 10.0.0.1", 2);
    assert!(said.contains("a command of its own"), "{said}");
    let policy = cli.value("rbac create blue-net --type network --target-project green -c id");
    cli.ok("rbac create db --type securitygroup --target-all-projects");
    assert_eq!(cli.value("rbac list --type securitygroup -c target_tenant"), "*");
    cli.ok(&format!("rbac set {policy} --target-project red"));
    assert_eq!(cli.json(&format!("rbac show {policy}"))["target_tenant"], "red");
    cli.ok(&format!("rbac delete {policy}"));
    assert_eq!(cli.json("rbac list --type network --action shared").as_array().unwrap().len(), 0);
    cli.ok("securitygroup delete db");
    cli.ok("addressgroup delete branches");
    cli.ok("router remove-subnet blue blue4");
    cli.ok("router unset blue --external-gateway");
    assert_eq!(cli.json("router show blue")["external_gateway_info"], Value::Null);
    cli.ok("router delete blue");
    cli.ok("port delete vm1");
    cli.ok("network delete blue-net external --yes");
    for noun in ["network", "subnet", "port", "router", "floatingip"] {
        assert_eq!(cli.json(&format!("{noun} list")), Value::Array(Vec::new()), "{noun}");
    }
}

#[test]
fn attributes_are_changed_one_at_a_time() {
    let cli = Controller::start().with_vpc();
    cli.ok("network set blue-net --name azure-net --mtu 1400");
    let network = cli.json("network show azure-net");
    assert_eq!((&network["mtu"], &network["description"]), (&1400.into(), &"of_blue".into()));
    cli.ok("subnet set blue4 --dns-nameserver 1.1.1.1 --no-dhcp");
    let subnet = cli.json("subnet show blue4");
    assert_eq!((&subnet["dns_nameservers"][0], &subnet["enable_dhcp"]), (&"1.1.1.1".into(), &false.into()));
    cli.ok("port set vm1 --disable --host node1");
    let port = cli.json("port show vm1");
    assert_eq!((&port["admin_state_up"], &port["binding:host_id"]), (&false.into(), &"node1".into()));
    assert_eq!(port["mac_address"], "fa:16:3e:00:00:11");
    cli.ok("router add-route blue --route destination=10.9.0.0/16,gateway=192.168.10.11");
    assert_eq!(cli.json("router show blue")["routes"][0]["nexthop"], "192.168.10.11");
    cli.ok("router remove-route blue --route destination=10.9.0.0/16,gateway=192.168.10.11");
    assert_eq!(cli.json("router show blue")["routes"], Value::Array(Vec::new()));
    let said = cli.fails("router set blue", 2);
    assert!(said.contains("nothing to change; see `nanboku router set --help`"), "{said}");
}

#[test]
fn wrong_names_are_answered_with_near_ones_and_change_nothing() {
    let cli = Controller::start().with_vpc();
    let said = cli.fails("router show blu", 1);
    assert_eq!(said, "nanboku: there is no router 'blu'. Did you mean 'blue'? See `nanboku router list`.\n");
    let said = cli.fails("floatingip set 172.22.7.1 --port vm1", 1);
    assert!(said.contains("there is no floating IP '172.22.7.1'"), "{said}");
    let said = cli.fails("sessions --host nowhere", 1);
    assert_eq!(said, "nanboku: there is no host 'nowhere'. See `nanboku host list`.\n");
    let said = cli.fails("capture --uplink physnet9", 1);
    assert!(said.contains("no host has the physical network 'physnet9'"), "{said}");
    let said = cli.fails("explain drop spoofed-source", 1);
    assert!(said.contains("Did you mean ") && said.contains("'spoofed-address'"), "{said}");
    let said = cli.fails("port show ..", 1);
    assert!(said.contains("there is no port '..'"), "{said}");
    cli.ok("network create twin");
    cli.ok("network create twin");
    let said = cli.fails("network delete twin", 1);
    assert!(said.contains("2 networks are named 'twin'; use one of their ids: "), "{said}");
    let said = cli.fails("port delete vm1 vm2 --yes", 1);
    assert!(said.contains("there is no port 'vm2'"), "{said}");
    cli.ok("port show vm1");
}

#[test]
fn deleting_several_needs_yes() {
    let cli = Controller::start();
    cli.ok("network create a");
    cli.ok("network create b");
    let said = cli.fails("network delete a b", 2);
    assert!(said.contains("this deletes 2 networks at once; repeat the command with --yes"), "{said}");
    assert_eq!(cli.json("network list").as_array().unwrap().len(), 2);
    cli.ok("network delete a b --yes");
    assert_eq!(cli.value("network list -c name"), "");
}

#[test]
fn what_the_api_refuses_is_said_in_its_words() {
    let cli = Controller::start().with_vpc();
    let line = "port create vm2 --network blue-net --fixed-ip ip-address=192.168.10.11";
    let said = cli.fails(line, 1);
    assert!(said.contains("(409 IpAddressAlreadyAllocated)"), "{said}");
    let said = cli.fails("network delete blue-net", 1);
    assert!(said.contains("(409 NetworkInUse)"), "{said}");
    let said = cli.fails("router create r --external-gateway blue-net", 1);
    assert!(said.contains("(400 "), "{said}");
    assert_eq!(cli.value("router list -c name"), "blue");
}

#[test]
fn tables_are_for_people() {
    let cli = Controller::start().with_vpc();
    let table = cli.ok("port list --name vm1 -c name -c mac -c addresses -c status");
    assert_eq!(
        table,
        "NAME  MAC                ADDRESSES      STATUS\nvm1   fa:16:3e:00:00:11  192.168.10.11  DOWN\n"
    );
    let table = cli.ok("router list -c name -c status");
    assert_eq!(table, "NAME  STATUS\nblue  ACTIVE\n");
    let table = cli.ok("host list");
    assert!(table.starts_with("NAME  VTEP"), "{table}");
    assert!(cli.ok("sessions").starts_with("HOST  "), "sessions of no host");
    assert_eq!(cli.json("status")["balanced"], false, "nobody has reported");
}

#[test]
fn an_absent_controller_is_said_to_be_absent() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(NANBOKU)
        .args(["--endpoint", &format!("unix:{}", dir.path().join("none.sock").display()), "network", "list"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no controller answers at unix:"), "{}", text(&output));
    assert!(text(&output).contains("--endpoint"), "{}", text(&output));
    let output = Command::new(NANBOKU).args(["--lab", "no-such-lab", "network", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no lab 'no-such-lab' is up"), "{}", text(&output));
}

#[test]
fn a_second_controller_on_the_same_socket_is_refused_in_one_sentence() {
    let first = Controller::start();
    let pki = first.dir.path().join("pki");
    let output = Command::new(NANBOKU)
        .args([
            "server",
            "--api-listen",
            "off",
            "--agents-listen",
            "127.0.0.1:0",
            "--api-socket",
            &first.socket(),
        ])
        .args([Path::new("--data-dir"), &first.dir.path().join("other"), Path::new("--certificates"), &pki])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("taken by another process"), "{}", text(&output));
    first.ok("network list");
}

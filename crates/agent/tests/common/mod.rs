//! One host in namespaces of its own: an underlay NIC, an uplink to `outside`, namespaces for VMs; and the
//! agent as a task that can be killed.
//!
//! The test's thread enters the host's namespace, and so do the threads of the runtime it makes.

use agent::config::Config;
use agent::control::{self, Request, Response};
use model::slice::*;
use model::{HostId, Mac, NetworkId, PortId, RouterId, SubnetId, Vni};
use netlink::Netns;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) const VTEP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// Has `outside`'s end of the uplink.
pub(crate) const GATEWAY: &str = "172.22.7.1";
pub(crate) const SNAT_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 27);
pub(crate) const DVR_MAC: Mac = Mac([0xfa, 0x16, 0x3f, 0, 0, 1]);
const DEADLINE: Duration = Duration::from_secs(10);

/// Everything of one test; gone when it ends, however it ends.
pub(crate) struct Bench {
    prefix: String,
    pub(crate) host: Netns,
    pub(crate) outside: Netns,
    directory: tempfile::TempDir,
    runtime: Runtime,
    agent: Option<JoinHandle<Result<(), agent::Error>>>,
}

pub(crate) fn port_id(number: u8) -> PortId {
    PortId::from_uuid(Uuid::from_u128((u128::from(number) << 96) | 1))
}

pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(crate) fn run_in(netns: &Netns, command: &str) -> bool {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default().to_owned();
    let arguments: Vec<String> = words.map(str::to_owned).collect();
    let output = netns.run(|| Command::new(program).args(arguments).output()).unwrap().unwrap();
    output.status.success()
}

impl Bench {
    pub(crate) fn new(title: &str) -> Self {
        let prefix = format!("nbk-agtest-{}-{title}", std::process::id());
        let host = Netns::create(&format!("{prefix}-host")).expect("create a namespace (root needed)");
        let outside = Netns::create(&format!("{prefix}-outside")).unwrap();
        for netns in [&host, &outside] {
            for scope in ["all", "default"] {
                netns.sysctl(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1").unwrap();
            }
        }
        host.enter().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
        let bench =
            Self { prefix, host, outside, directory: tempfile::tempdir().unwrap(), runtime, agent: None };
        bench.ip(&format!("link add uplink0 type veth peer name ext0 netns {}", bench.outside.name()));
        bench.ip("link add underlay0 type veth peer name fabric0");
        bench.ip(&format!("addr add {VTEP}/24 dev underlay0"));
        for link in ["uplink0", "underlay0", "fabric0"] {
            bench.ip(&format!("link set {link} up"));
        }
        assert!(run_in(&bench.outside, &format!("ip addr add {GATEWAY}/24 dev ext0")));
        assert!(run_in(&bench.outside, "ip link set ext0 up"));
        bench.write_files();
        bench
    }

    /// Runs `ip` on the host.
    pub(crate) fn ip(&self, arguments: &str) {
        assert!(run_in(&self.host, &format!("ip {arguments}")), "ip {arguments}");
    }

    pub(crate) fn links(&self) -> String {
        let output = self.host.run(|| Command::new("ip").args(["-br", "link"]).output()).unwrap().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Certificates that lead nowhere, and the state of a host that met its controller once.
    fn write_files(&self) {
        let directory = self.directory.path();
        for name in ["ca.pem", "host1.pem", "host1.key"] {
            std::fs::write(directory.join(name), "not a certificate").unwrap();
        }
        let welcome = json!({
            "host": id(1), "dvr_mac": DVR_MAC, "cluster": id(99), "tunnel": "geneve:6081",
        });
        let state = json!({"version": 1, "welcome": welcome, "slice": slice()});
        std::fs::write(directory.join("state.json"), state.to_string()).unwrap();
    }

    /// Adds another host with the physical network to what the agent starts with.
    pub(crate) fn add_host(&self, number: u128, vtep: Ipv4Addr) {
        let path = self.directory.path().join("state.json");
        let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let hosts = &mut state["slice"]["hosts"];
        let mut host = hosts[id(HOST).to_string()].clone();
        (host["name"], host["vtep"]) = (format!("host{number}").into(), vtep.to_string().into());
        hosts[id(number).to_string()] = host;
        std::fs::write(path, state.to_string()).unwrap();
    }

    /// Changes what the agent starts with.
    pub(crate) fn change_slice(&self, change: impl FnOnce(&mut Slice)) {
        let path = self.directory.path().join("state.json");
        let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let mut slice: Slice = serde_json::from_value(state["slice"].take()).unwrap();
        change(&mut slice);
        state["slice"] = serde_json::to_value(slice).unwrap();
        std::fs::write(path, state.to_string()).unwrap();
    }

    /// A directory that goes with the bench.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub(crate) fn config(&self) -> Config {
        let directory = self.directory.path();
        Config {
            host: "host1".to_owned(),
            controller: "127.0.0.1:1".to_owned(),
            controller_name: "controller".to_owned(),
            certificates: directory.to_owned(),
            vtep: VTEP,
            underlay: None,
            physical_networks: BTreeMap::from([("physnet1".to_owned(), "uplink0".to_owned())]),
            state_dir: directory.to_owned(),
            pin_dir: self.pin_dir(),
            control_socket: directory.join("agent.sock"),
            lone_path: true,
            metrics_listen: None,
            flow_log: None,
            bfd_interval_ms: 50,
            bfd_multiplier: 3,
            bfd_in_tunnel: true,
            sessions_per_vm_max: 0,
            acl_sizes: Default::default(),
            dhcp_lease_s: 86_400,
            port_control_lifetime_s: 86_400,
            metadata: None,
            detach: false,
        }
    }

    pub(crate) fn pin_dir(&self) -> PathBuf {
        PathBuf::from("/sys/fs/bpf").join(&self.prefix)
    }

    /// Starts the agent and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.start_with(self.config());
    }

    pub(crate) fn start_with(&mut self, config: Config) {
        self.agent = Some(self.runtime.spawn(agent::run(config)));
        wait_for("the agent's answer", || self.request(&Request::Status).ok());
    }

    /// Ends the agent between two instructions, as a kill would.
    pub(crate) fn kill(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        agent.abort();
        drop(self.runtime.block_on(agent));
    }

    /// Runs an agent that is expected to end by itself.
    pub(crate) fn outcome(&self, config: Config) -> Result<(), String> {
        let run = async { tokio::time::timeout(DEADLINE, tokio::spawn(agent::run(config))).await };
        let outcome = self.runtime.block_on(run).expect("the agent to end").unwrap();
        outcome.map_err(|error| error.to_string())
    }

    pub(crate) fn request(&self, request: &Request) -> Result<Response, control::ControlError> {
        control::request(&self.config().control_socket, request)
    }

    pub(crate) fn status(&self) -> control::Status {
        match self.request(&Request::Status).unwrap() {
            Response::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Makes a namespace for a VM.
    pub(crate) fn vm(&self, name: &str) -> Vm {
        Vm(Netns::create(&format!("{}-{name}", self.prefix)).unwrap())
    }

    pub(crate) fn plug(&self, number: u8, vm: &Vm) -> Result<control::Plugged, String> {
        let (netns, ifname) = (vm.0.name().to_owned(), "eth0".to_owned());
        let request = Request::Plug { port_id: port_id(number), netns, ifname };
        match self.request(&request).map_err(|error| error.to_string())? {
            Response::Plugged(plugged) => Ok(plugged),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.kill();
        drop(std::fs::remove_dir_all(self.pin_dir()));
        drop(Netns::delete(self.host.name()));
        drop(Netns::delete(self.outside.name()));
    }
}

/// A VM's namespace.
pub(crate) struct Vm(pub(crate) Netns);

impl Vm {
    /// Whether one ping of several is answered within a second each.
    pub(crate) fn reaches(&self, address: &str) -> bool {
        (0..3).any(|_| run_in(&self.0, &format!("ping -c 1 -W 1 -q {address}")))
    }

    pub(crate) fn run(&self, command: &str) -> String {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let output = self.0.run(|| Command::new(&words[0]).args(&words[1..]).output()).unwrap().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        drop(Netns::delete(self.0.name()));
    }
}

/// Waits for a condition; panics with its name at the deadline.
pub(crate) fn wait_for<T>(what: &str, ready: impl FnMut() -> Option<T>) -> T {
    wait_for_within(DEADLINE, || what.to_owned(), ready)
}

/// Likewise with a deadline of its own; what it was is asked for at the end.
pub(crate) fn wait_for_within<T>(
    most: Duration,
    what: impl FnOnce() -> String,
    mut ready: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + most;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        if Instant::now() >= deadline {
            panic!("waited in vain for {}", what());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

const HOST: u128 = 1;
const BLUE: u128 = 2;
const PROVIDER: u128 = 3;
const ROUTER: u128 = 4;

fn subnets(cidr: &str, gateway: &str) -> BTreeMap<SubnetId, Subnet> {
    let route = StaticRoute {
        destination: "10.77.0.0/16".parse().unwrap(),
        next_hop: Ipv4Addr::new(192, 168, 10, 2).into(),
    };
    let dhcp =
        SubnetDhcp { dns_nameservers: vec![Ipv4Addr::new(9, 9, 9, 9).into()], host_routes: vec![route] };
    let (cidr, gateway) = (cidr.parse().unwrap(), Some(gateway.parse().unwrap()));
    BTreeMap::from([(SubnetId::from_uuid(id(9)), Subnet { dhcp: Some(dhcp), ..Subnet::new(cidr, gateway) })])
}

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

/// Two ports on one network of a router with SNAT on an untagged external network.
fn slice() -> Slice {
    let mut slice = Slice { revision: 7, ..Slice::default() };
    let host = HostId::from_uuid(id(HOST));
    let own = Host {
        name: "host1".to_owned(),
        vtep: VTEP,
        dvr_mac: DVR_MAC,
        physical_networks: vec!["physnet1".to_owned()],
        live: true,
    };
    slice.upsert(Object::Host(host, own));
    let network = Network {
        vni: vni(101),
        name: "blue".to_owned(),
        mtu: 1450,
        admin_up: true,
        subnets: subnets("192.168.10.0/24", "192.168.10.1"),
    };
    slice.upsert(Object::Network(NetworkId::from_uuid(id(BLUE)), network));
    for number in [1, 2] {
        let port = Port {
            network: NetworkId::from_uuid(id(BLUE)),
            mac: Mac([0xfa, 0x16, 0x3e, 0, 0, number]),
            addresses: vec![Ipv4Addr::new(192, 168, 10, 10 + number).into()],
            host: Some(host),
            admin_up: true,
            port_security: true,
            allowed_pairs: Vec::new(),
            security_groups: None,
            guest: None,
        };
        slice.upsert(Object::Port(port_id(number), port));
    }
    add_outside(&mut slice, host);
    slice
}

fn add_outside(slice: &mut Slice, host: HostId) {
    let provider = NetworkId::from_uuid(id(PROVIDER));
    let external = ExternalNetwork {
        vni: vni(201),
        name: "provider".to_owned(),
        mtu: 1500,
        physical_network: "physnet1".to_owned(),
        vlan: None,
        egress: Egress::Direct,
        block_size: 1024,
        subnets: subnets("172.22.7.0/24", GATEWAY),
        gateways: vec![host],
    };
    slice.upsert(Object::ExternalNetwork(provider, external));
    let interface = Interface {
        port: PortId::from_uuid(id(5)),
        network: NetworkId::from_uuid(id(BLUE)),
        subnet: SubnetId::from_uuid(id(9)),
        mac: Mac([0xfa, 0x16, 0x3e, 0, 1, 1]),
        address: Ipv4Addr::new(192, 168, 10, 1).into(),
    };
    let gateway = RouterGateway {
        network: provider,
        enable_snat: true,
        addresses: vec![SNAT_ADDRESS],
        ipv6_addresses: Vec::new(),
        filtering: Default::default(),
        ports_per_vm_max: 0,
        mappings_per_second_max: 0,
        port_control: false,
        untranslated_destinations: Vec::new(),
        meters: Vec::new(),
    };
    let router = Router {
        vni: vni(301),
        name: "blue".to_owned(),
        admin_up: true,
        interfaces: vec![interface],
        gateway: Some(gateway),
        routes: Vec::new(),
    };
    let router_id = RouterId::from_uuid(id(ROUTER));
    slice.upsert(Object::Router(router_id, router));
    let block = BlockId { external_network: provider, address: SNAT_ADDRESS, first_port: 1024 };
    slice.upsert(Object::Block(block, Block { router: router_id, host, retiring: false }));
}

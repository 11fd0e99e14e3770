//! Goal: our BFD is that of the RFCs, and only a watched host can change what is thought of it. Method: the agent in
//! a namespace, BIRD (a BFD daemon of other authors) in another one as the only other host, plain BFD over the
//! underlay between them, packets dropped by nftables where a state has to be held. Needs root and BIRD 2.

use crate::common::{self, Bench, Vm, wait_for};
use agent::config::Config;
use agent::control::PeerStatus;
use netlink::Netns;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const AGENT: Ipv4Addr = common::VTEP;
const BIRD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// In BIRD's namespace too, but no host.
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 66);
const BFD_PORT: u16 = 3784;
/// BIRD sends every 100 ms, and five may be missing; the agent's are 50 ms and three.
const BIRD_DETECTION: Duration = Duration::from_millis(500);
const AGENT_DETECTION: Duration = Duration::from_millis(300);
/// What this busy machine may add.
const SLACK: Duration = Duration::from_millis(400);
const BIRD_CONF: &str = r#"
    router id 10.1.0.2;
    protocol device { }
    protocol bfd bfd1 {
        accept ipv4 direct;
        interface "fabric0" { interval 100 ms; multiplier 5; idle tx interval 200 ms; };
        neighbor 10.1.0.1 dev "fabric0";
    }
"#;

struct World {
    daemon: Option<Child>,
    bird: Vm,
    bench: Bench,
    directory: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_bird();
    }
}

impl World {
    fn new(title: &str) -> Self {
        let bench = Bench::new(title);
        let bird = bench.vm("bird");
        bench.ip(&format!("link set fabric0 netns {}", bird.0.name()));
        for address in [BIRD, STRANGER] {
            run(&bird.0, &["ip", "address", "add", &format!("{address}/24"), "dev", "fabric0"]);
        }
        for link in ["lo", "fabric0"] {
            run(&bird.0, &["ip", "link", "set", link, "up"]);
        }
        bench.add_host(2, BIRD);
        let directory = bench.directory().to_owned();
        std::fs::write(directory.join("bird.conf"), BIRD_CONF).unwrap();
        let mut world = Self { daemon: None, bird, bench, directory };
        world.start_agent();
        world.start_bird();
        world
    }

    fn start_agent(&mut self) {
        self.bench.start_with(Config { bfd_in_tunnel: false, ..self.bench.config() });
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn start_bird(&mut self) {
        let arguments =
            ["-f", "-c", &self.path("bird.conf"), "-s", &self.path("bird.ctl")].map(str::to_owned);
        let spawn = || {
            let mut command = Command::new("bird");
            command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let child = self.bird.0.run(spawn).unwrap();
        self.daemon = Some(child.expect("bird (apt install bird2, or scripts/setup --test)"));
    }

    fn kill_bird(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    fn birdc(&self, command: &str) -> String {
        let output = Command::new("birdc").args(["-s", &self.path("bird.ctl"), command]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// State, interval and timeout of the session as BIRD shows them.
    fn at_bird(&self) -> Option<(String, String, String)> {
        let page = self.birdc("show bfd sessions");
        let line = page.lines().find(|line| line.starts_with("10.1.0.1 "))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        Some((words.get(2)?.to_string(), words.get(4)?.to_string(), words.get(5)?.to_string()))
    }

    /// The session as the agent shows it.
    fn at_agent(&self) -> PeerStatus {
        let find = || self.bench.status().peers.into_iter().find(|peer| peer.address == BIRD);
        wait_for("a session at the agent", find)
    }

    fn agent_is(&self, state: &str) -> PeerStatus {
        wait_for(&format!("'{state}' at the agent"), || Some(self.at_agent()).filter(|p| p.state == state))
    }

    fn bird_is(&self, state: &str) {
        wait_for(&format!("'{state}' at BIRD"), || self.at_bird().filter(|(is, ..)| is == state));
    }

    fn both_up(&self) {
        self.agent_is("up");
        self.bird_is("Up");
    }

    /// Drops control packets that come in, at one end or at none.
    fn deaf(&self, deaf: Option<&Netns>) {
        for netns in [&self.bench.host, &self.bird.0] {
            run(netns, &["nft", "flush", "ruleset"]);
        }
        if let Some(netns) = deaf {
            let rules =
                "table ip deaf { chain in { type filter hook input priority 0; udp dport 3784 drop; }; }";
            run(netns, &["nft", rules]);
        }
    }

    fn counter(&self, name: &str) -> u64 {
        self.bench.status().counters.get(name).copied().unwrap_or(0)
    }
}

fn run(netns: &Netns, command: &[&str]) {
    let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    let output = netns.run(|| Command::new(&words[0]).args(&words[1..]).output()).unwrap().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_session_with_bird_comes_up_with_negotiated_intervals_and_each_end_notices_the_others_death() {
    let mut world = World::new("bird");
    world.both_up();
    let (_, interval, timeout) = world.at_bird().expect("a session");
    assert_eq!(
        (interval.as_str(), timeout.as_str()),
        ("0.100", "0.300"),
        "BIRD's interval, our three of them"
    );

    let killed = Instant::now();
    world.kill_bird();
    let peer = world.agent_is("down");
    let took = killed.elapsed().saturating_sub(Duration::from_millis(peer.for_ms));
    assert!(took <= BIRD_DETECTION + SLACK, "noticed after {took:?}");
    assert_eq!((peer.usable, peer.why.as_str()), (false, "silent"));
    world.start_bird();
    world.both_up();
    wait_for("trust after the hold-down", || world.at_agent().usable.then_some(()));

    let killed = Instant::now();
    world.bench.kill();
    world.bird_is("Down");
    let took = killed.elapsed();
    assert!(took <= AGENT_DETECTION + SLACK, "BIRD noticed after {took:?}");
    world.start_agent();
    world.both_up();
}

#[test]
fn either_end_may_restart_in_every_state() {
    let mut world = World::new("restart");
    world.both_up();
    // In Up: with another discriminator, before the other side has noticed.
    world.kill_bird();
    world.start_bird();
    world.both_up();
    world.bench.kill();
    world.start_agent();
    world.both_up();
    // In Init: the other hears it, it does not hear the other.
    world.deaf(Some(&world.bird.0));
    world.agent_is("init");
    world.kill_bird();
    world.start_bird();
    world.agent_is("init");
    world.bench.kill();
    world.start_agent();
    world.agent_is("init");
    world.deaf(None);
    world.both_up();
    world.deaf(Some(&world.bench.host));
    world.bird_is("Init");
    world.bench.kill();
    world.start_agent();
    world.bird_is("Init");
    world.kill_bird();
    world.start_bird();
    world.bird_is("Init");
    world.deaf(None);
    world.both_up();
    // In Down, and in BIRD's AdminDown.
    world.kill_bird();
    world.agent_is("down");
    world.bench.kill();
    world.start_agent();
    world.start_bird();
    world.both_up();
    world.birdc("disable bfd1");
    world.agent_is("down");
    world.birdc("enable bfd1");
    world.both_up();
}

/// A control packet that says Down and, if it is taken, ends the session.
fn down(your_discriminator: u32) -> Vec<u8> {
    let mut packet = vec![0x20, 0x40, 3, 24, 0, 0, 0, 66];
    packet.extend(your_discriminator.to_be_bytes());
    packet.extend([0, 0x0f, 0x42, 0x40, 0, 0x0f, 0x42, 0x40, 0, 0, 0, 0]);
    packet
}

fn send(netns: &Netns, from: Ipv4Addr, to: (Ipv4Addr, u16), ttl: u32, payload: &[u8]) {
    let socket = netns.run(|| UdpSocket::bind(SocketAddrV4::new(from, 0))).unwrap().unwrap();
    socket.set_ttl(ttl).unwrap();
    for _ in 0..3 {
        // Refusals come back as ICMP errors, which is as good as silence.
        drop(socket.send_to(payload, SocketAddrV4::new(to.0, to.1)));
    }
}

/// The session has not changed since it was seen last, and the agent has taken what was sent in between.
fn unchanged(world: &World, before: &PeerStatus, since: Instant) {
    let peer = world.at_agent();
    let age = Duration::from_millis(peer.for_ms + 1);
    assert_eq!((peer.state.as_str(), peer.usable), ("up", before.usable));
    assert!(
        age >= since.elapsed().saturating_sub(SLACK) && age.as_millis() as u64 >= before.for_ms,
        "{peer:?}"
    );
    assert_eq!(world.at_bird().expect("a session").0, "Up");
}

#[test]
fn cve_2024_2182_nobody_but_the_host_itself_changes_its_session() {
    let world = World::new("cve");
    let vm = world.bench.vm("a");
    world.bench.plug(1, &vm).unwrap();
    world.both_up();
    let (before, since) = (world.at_agent(), Instant::now());
    let mut geneve = vec![0, 0x80, 0x65, 0x58, 0, 0, 0, 0];
    geneve.extend([0, 0, 0x5e, 0, 0x52, 2, 2, 0, 0x5e, 0, 0x52, 2, 8, 0]);
    geneve.extend([0x45, 0, 0, 52, 0, 0, 0, 0, 255, 17, 0, 0, 10, 1, 0, 2, 127, 0, 0, 1]);
    geneve.extend([0xc0, 0, 0x0e, 0xc8, 0, 32, 0, 0]);
    geneve.extend(down(0));
    let router = Ipv4Addr::new(192, 168, 10, 1);
    for address in [AGENT, BIRD, router, Ipv4Addr::new(192, 168, 10, 12), Ipv4Addr::new(172, 22, 7, 27)] {
        send(&vm.0, Ipv4Addr::UNSPECIFIED, (address, BFD_PORT), 255, &down(0));
        send(&vm.0, Ipv4Addr::UNSPECIFIED, (address, 6081), 255, &geneve);
    }
    let refused = |name: &str| world.counter(&format!("bfd.refused.{name}"));
    let all = || ["unknown-sender", "ttl", "malformed", "other-session"].map(refused);
    assert_eq!(all(), [0; 4], "nothing of it came near");
    unchanged(&world, &before, since);
    // On the underlay itself: each is refused for its reason, and counted.
    let to = (AGENT, BFD_PORT);
    send(&world.bird.0, STRANGER, to, 255, &down(0));
    send(&world.bird.0, BIRD, to, 254, &down(0));
    send(&world.bird.0, BIRD, to, 255, &down(0)[..23]);
    send(&world.bird.0, BIRD, to, 255, &down(0xffff_fff0));
    wait_for("all four reasons", || (all() == [3; 4]).then_some(()));
    unchanged(&world, &before, since);
    // The control: the same packet with everything right does end the session.
    send(&world.bird.0, BIRD, to, 255, &down(0));
    wait_for("the end of the session", || (world.at_agent().for_ms < before.for_ms).then_some(()));
}

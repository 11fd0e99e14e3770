//! Goal: hosts watch each other through the tunnel, so that a host without its programs is dead whatever its daemon
//! does, and a VM changes nothing about it (CVE-2024-2182). Method: the lab `fvn` with real agents; packets from VMs and
//! from hosts; the local status of every agent. Needs root.

use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const HOSTS: [&str; 3] = ["ahv01", "ahv02", "ahv03"];
const DEADLINE: Duration = Duration::from_secs(15);
/// Three intervals, and what this busy machine may add.
const DETECTION: Duration = Duration::from_millis(150 + 400);

struct Lab(String);

impl Drop for Lab {
    fn drop(&mut self) {
        drop(nanboku(&["lab", "down", &self.0]));
    }
}

fn nanboku(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nanboku")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

impl Lab {
    fn up(title: &str, flags: &[&str]) -> Self {
        let lab = Self(format!("t{}-{title}", std::process::id()));
        let output = nanboku(&[&["lab", "up", "fvn", "--name", &lab.0], flags].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        lab
    }

    fn status(&self, host: &str) -> Value {
        let socket = format!("/run/nanboku/lab/{}/{host}/agent.sock", self.0);
        let output = nanboku(&["status", "--local", "-o", "json", "--agent-socket", &socket]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Every session as its host sees it, by (host, peer).
    fn sessions(&self) -> BTreeMap<(String, String), Value> {
        let of = |host: &str| {
            let peers = self.status(host)["peers"].as_array().cloned().unwrap_or_default();
            let name = host.to_owned();
            peers.into_iter().map(move |peer| ((name.clone(), text(&peer, "host")), peer))
        };
        HOSTS.iter().flat_map(|host| of(host)).collect()
    }

    /// Waits until every host with an uplink and every other one trust each other.
    fn all_well(&self) {
        wait_for("every session well", || {
            let sessions = self.sessions();
            let well = sessions.values().all(|peer| text(peer, "state") == "up" && peer["usable"] == true);
            if well && sessions.len() == 6 { Ok(()) } else { Err(format!("{sessions:?}")) }
        });
    }

    fn shell(&self, machine: &str, script: &str) {
        let output = nanboku(&["--lab", &self.0, "lab", "exec", machine, "--", "bash", "-c", script]);
        assert!(output.status.success(), "{machine}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn refused(&self, host: &str) -> u64 {
        let status = self.status(host);
        status["counters"]["drop.classify.liveness-refused"].as_u64().unwrap_or(0)
    }

    fn refused_by_agents(&self) -> u64 {
        let of = |host: &str| {
            let status = self.status(host);
            let counters = status["counters"].as_object().cloned().unwrap_or_default();
            let refused = counters.iter().filter(|(name, _)| name.starts_with("bfd.refused."));
            refused.filter_map(|(_, count)| count.as_u64()).sum::<u64>()
        };
        HOSTS.iter().map(|host| of(host)).sum()
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn wait_for(what: &str, mut ready: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(seen) = ready() {
        assert!(Instant::now() < deadline, "waited in vain for {what}; last seen: {seen}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A control packet that says Down, as bash's printf takes it.
const DOWN: &str =
    r"\x20\x40\x03\x18\x00\x00\x00\x42\x00\x00\x00\x00\x00\x0f\x42\x40\x00\x0f\x42\x40\x00\x00\x00\x00";
/// The tunnel's headers of the management network in front of it, from ahv02, in Geneve.
const TUNNEL: &str = concat!(
    r"\x00\x80\x65\x58\x00\x00\x00\x00\x00\x00\x5e\x00\x52\x02\x02\x00\x5e\x00\x52\x02\x08\x00",
    r"\x45\x00\x00\x34\x00\x00\x00\x00\xff\x11\x00\x00\x0a\x5a\x00\x0c\x7f\x00\x00\x01",
    r"\xc0\x00\x0e\xc8\x00\x20\x00\x00"
);

/// Sends with TTL 255, three times each.
fn send(packets: &[(&str, u16, String)]) -> String {
    let mut script = "sysctl -qw net.ipv4.ip_default_ttl=255\n".to_owned();
    for (address, port, payload) in packets {
        script +=
            &format!("for i in 1 2 3; do printf '{payload}' > /dev/udp/{address}/{port} || true; done\n");
    }
    script
}

#[test]
fn root_cve_2024_2182_a_vm_cannot_change_what_hosts_think_of_each_other() {
    let lab = Lab::up("cve", &[]);
    lab.all_well();
    let (before, since) = (lab.sessions(), Instant::now());
    let tunnelled = format!("{TUNNEL}{DOWN}");
    let targets = ["10.90.0.11", "10.90.0.12", "10.90.0.13", "192.168.10.1", "192.168.10.12", "172.22.7.27"];
    let packets: Vec<_> = targets
        .iter()
        .flat_map(|address| [(*address, 3784, DOWN.to_owned()), (*address, 6081, tunnelled.clone())])
        .collect();
    for vm in ["blue-1", "blue-3"] {
        lab.shell(vm, &send(&packets));
    }
    // From a host that is known, without the tunnel: refused by the program, and counted.
    let refused = lab.refused("ahv01");
    lab.shell("ahv02", &send(&[("10.90.0.11", 3784, DOWN.to_owned())]));
    wait_for("the count of refused packets", || match lab.refused("ahv01") - refused {
        3 => Ok(()),
        count => Err(count.to_string()),
    });
    assert_eq!(lab.refused_by_agents(), 0, "nothing came as far as an agent");
    let elapsed = since.elapsed();
    for (pair, peer) in lab.sessions() {
        let age = |peer: &Value| Duration::from_millis(peer["for_ms"].as_u64().unwrap_or(0));
        assert!(age(&peer) >= age(&before[&pair]) + elapsed / 2, "{pair:?} has changed: {peer}");
        assert_eq!((text(&peer, "state"), text(&peer, "why")), ("up".to_owned(), "well".to_owned()));
    }
}

#[test]
fn root_a_host_whose_tables_are_gone_is_dead_although_its_daemon_runs() {
    for tunnel in ["geneve", "vxlan"] {
        let lab = Lab::up(tunnel, &["--tunnel", tunnel]);
        lab.all_well();
        // The programs refuse everything in epoch 0.
        let pins = format!("/sys/fs/bpf/nanboku/lab/{}/ahv02/v1/config", lab.0);
        let zeroes = "0 ".repeat(value_size(&pins));
        let done = Instant::now();
        let words = format!("bpftool map update pinned {pins} key 0 0 0 0 value {zeroes}");
        assert!(Command::new("bash").args(["-c", &words]).status().unwrap().success());
        wait_for("ahv02 dead", || {
            let sessions = lab.sessions();
            let seen = |by: &str| &sessions[&(by.to_owned(), "ahv02".to_owned())];
            let gone = ["ahv01", "ahv03"].map(seen).iter().all(|peer| peer["usable"] == false);
            if gone { Ok(()) } else { Err(format!("{sessions:?}")) }
        });
        let peer = &lab.sessions()[&("ahv01".to_owned(), "ahv02".to_owned())];
        let took = done.elapsed().saturating_sub(Duration::from_millis(peer["for_ms"].as_u64().unwrap_or(0)));
        assert!(took <= DETECTION, "{tunnel}: noticed after {took:?}");
        assert_eq!(lab.status("ahv02")["connected"], true, "its daemon runs");
        let well = &lab.sessions()[&("ahv01".to_owned(), "ahv03".to_owned())];
        assert_eq!(well["usable"], true, "the others are not concerned");
    }
}

/// Bytes of a pinned map's value.
fn value_size(pins: &str) -> usize {
    let output = Command::new("bpftool").args(["-j", "map", "show", "pinned", pins]).output().unwrap();
    let map: Value = serde_json::from_slice(&output.stdout).expect("bpftool's JSON");
    map["bytes_value"].as_u64().expect("a size") as usize
}

//! What an agent takes: its memory, and the time from `port plug` to the first ping of a VM on another host.
//! Measured on the real product: a lab with a controller and two agents.

use crate::figure::Target;
use crate::report::Row;
use crate::topology::PREFIX;
use anyhow::{Context as _, bail, ensure};
use netlink::Netns;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde_json::Value;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Name by which `--figure` chooses everything here.
pub(crate) const FIGURE: &str = "agent";
const LAB: &str = "nbkbench";
const LAB_FILE: &str = include_str!("footprint.toml");
/// The host that is plugged into, and a VM on the other one.
const HOST: &str = "host2";
const PEER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
const FIRST_PING_TIMEOUT: Duration = Duration::from_secs(5);
/// From one attempt to the next; also how exactly the time is known.
const PING_INTERVAL_MS: i64 = 1;

const RSS_TARGET_MB: f64 = 40.0;
const PLUG_TARGET_MS: f64 = 50.0;

/// The `nanboku` beside this program, and the lab it has up.
pub(crate) struct Lab {
    nanboku: PathBuf,
}

impl Lab {
    /// Brings the lab up. None if there is no `nanboku` to do it.
    pub(crate) fn up() -> anyhow::Result<Option<Self>> {
        let nanboku = std::env::current_exe()?.with_file_name("nanboku");
        if !nanboku.exists() {
            eprintln!("{} is not there: memory and plug time are left out", nanboku.display());
            return Ok(None);
        }
        let lab = Self { nanboku };
        let file = std::env::temp_dir().join(format!("{LAB}-{}.toml", std::process::id()));
        fs::write(&file, LAB_FILE)?;
        let answer = lab.run(&["lab", "up", &file.to_string_lossy()]);
        fs::remove_file(&file)?;
        answer.context("the lab does not come up")?;
        Ok(Some(lab))
    }

    /// Memory of the agents now, and `rounds` plugs.
    pub(crate) fn measure(&self, rounds: u32) -> anyhow::Result<Vec<Row>> {
        let mut plug_ms = Vec::new();
        for round in 0..rounds {
            let elapsed = self.plug(round).with_context(|| format!("plug {round}"))?;
            eprintln!("  {:24} {:18} {elapsed:12.1} ms", "port_plug_to_ping", "nanboku");
            plug_ms.push(elapsed);
        }
        let agents = self.agents()?;
        let memory = |of: fn(u32) -> anyhow::Result<f64>| {
            agents.iter().map(|pid| of(*pid)).collect::<anyhow::Result<Vec<_>>>()
        };
        let at_most = |bound| Some(Target::AtMost(bound));
        let rows = [
            Row::absolute(("agent_rss", "agent", "MB"), &memory(rss_mb)?, at_most(RSS_TARGET_MB)),
            Row::absolute(("agent_tables", "agent", "MB"), &memory(tables_mb)?, None),
            Row::absolute(("port_plug_to_ping", "veth", "ms"), &plug_ms, at_most(PLUG_TARGET_MS)),
        ];
        Ok(rows.into_iter().flatten().collect())
    }

    /// Milliseconds from the start of the command to the first answer of a VM on the other host.
    fn plug(&self, round: u32) -> anyhow::Result<f64> {
        let name = format!("{PREFIX}plug{round}");
        let netns = Netns::create(&name)?;
        netns.sysctl("net/ipv4/ping_group_range", "0 0")?;
        let port = self.create_port(&name)?;
        let agent = format!("/run/nanboku/lab/{LAB}/{HOST}/agent.sock");
        let begin = Instant::now();
        self.run(&["port", "plug", "--netns", &name, "--agent-socket", &agent, &port])?;
        netns.run(|| first_ping(begin))??;
        let elapsed = begin.elapsed();
        self.run(&["port", "unplug", "--agent-socket", &agent, &port])?;
        self.run(&["--lab", LAB, "port", "delete", &port])?;
        Netns::delete(&name)?;
        Ok(elapsed.as_secs_f64() * 1000.0)
    }

    /// A port bound to the host; its id.
    fn create_port(&self, name: &str) -> anyhow::Result<String> {
        let port =
            ["--lab", LAB, "-o", "json", "port", "create", "--network", "inside", "--host", HOST, name];
        let answer: Value = serde_json::from_str(&self.run(&port)?)?;
        let id = answer.get("id").or_else(|| answer.pointer("/port/id")).and_then(Value::as_str);
        Ok(id.with_context(|| format!("a port without id: {answer}"))?.to_owned())
    }

    fn agents(&self) -> anyhow::Result<Vec<u32>> {
        let state = fs::read_to_string(format!("/run/nanboku/lab/{LAB}/state.json"))?;
        let state: Value = serde_json::from_str(&state)?;
        let processes =
            state.get("processes").and_then(Value::as_array).context("a lab without processes")?;
        let is_agent = |process: &&Value| {
            process.get("role").and_then(Value::as_str).is_some_and(|role| role.starts_with("agent"))
        };
        let pid = |process: &Value| {
            process.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok())
        };
        let pids: Vec<u32> = processes.iter().filter(is_agent).filter_map(pid).collect();
        ensure!(!pids.is_empty(), "a lab without agents");
        Ok(pids)
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(&self.nanboku).args(args).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nanboku {}: {}", args.join(" "), errors.trim());
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Takes the lab down, also one of a run that was killed.
pub(crate) fn remove_lab() {
    let Ok(nanboku) = std::env::current_exe().map(|path| path.with_file_name("nanboku")) else { return };
    if Path::new("/run/nanboku/lab").join(LAB).exists()
        && let Err(error) = Command::new(nanboku).args(["lab", "down", LAB]).output()
    {
        eprintln!("cannot take the lab {LAB} down: {error}");
    }
}

/// Sends echo requests until one is answered.
fn first_ping(begin: Instant) -> anyhow::Result<()> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        nix::sys::socket::SockProtocol::Icmp,
    )?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(PING_INTERVAL_MS))?;
    // Type 8; the kernel fills checksum and identifier.
    let request = [8, 0, 0, 0, 0, 0, 0, 1];
    let peer = SockaddrIn::from(SocketAddrV4::new(PEER, 0));
    let mut answer = [0; 64];
    while begin.elapsed() < FIRST_PING_TIMEOUT {
        match sendto(socket.as_raw_fd(), &request, &peer, MsgFlags::empty()) {
            Ok(_) | Err(nix::Error::ENETUNREACH | nix::Error::EHOSTUNREACH) => {}
            Err(error) => return Err(error).context("echo request"),
        }
        match recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(std::io::Error::from) {
            Ok(_) => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::HostUnreachable) => {}
            Err(error) => return Err(error).context("echo reply"),
        }
    }
    bail!("{PEER} does not answer within {FIRST_PING_TIMEOUT:?}")
}

/// Resident memory of a process.
fn rss_mb(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes / 1024.0)
}

/// Memory of the BPF maps that a process holds, as the kernel accounts for them.
fn tables_mb(pid: u32) -> anyhow::Result<f64> {
    let mut seen = std::collections::BTreeSet::new();
    let mut bytes = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may close meanwhile.
        let Ok(info) = fs::read_to_string(entry?.path()) else { continue };
        let field =
            |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        if let (Some(id), Some(size)) = (field("map_id:"), field("memlock:"))
            && seen.insert(id)
        {
            bytes += size;
        }
    }
    Ok(bytes as f64 / (1024.0 * 1024.0))
}

//! The lab's processes: started inside a namespace, remembered by pid and start time, found again by namespace.

use anyhow::Context as _;
use netlink::Netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Killed processes are gone within milliseconds; a stuck one is told about.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A process that was started: the pid alone could be somebody else's later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// What it is: `controller`, `agent ahv01`, `guest green-1`.
    pub(crate) role: String,
    pub(crate) pid: i32,
    /// Clock ticks after boot.
    pub(crate) started: u64,
}

impl Process {
    pub(crate) fn is_running(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// A process to be started: this very executable with other arguments.
pub(crate) struct Spawn<'a> {
    pub(crate) role: String,
    pub(crate) netns: &'a Netns,
    pub(crate) log: &'a Path,
    pub(crate) args: Vec<&'a OsStr>,
}

/// Starts a process in its namespace, in a process group of its own, so that a Ctrl-C at the terminal is not its.
pub(crate) fn spawn(spawn: &Spawn<'_>) -> anyhow::Result<(Process, Child)> {
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let log = File::options().create(true).append(true).open(spawn.log);
    let log = log.with_context(|| format!("cannot write {}", spawn.log.display()))?;
    let errors = log.try_clone()?;
    let mut command = Command::new(executable);
    command.args(&spawn.args).stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    let child = spawn.netns.run(|| command.spawn())?;
    let child = child.with_context(|| format!("cannot start {}", spawn.role))?;
    let pid = i32::try_from(child.id())?;
    let started = start_time(pid).with_context(|| format!("{} ended at once", spawn.role))?;
    Ok((Process { role: spawn.role.clone(), pid, started }, child))
}

/// Field 22 of `/proc/PID/stat`; `None` for a process that is gone or a zombie.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything, so count from the last one.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Kills every process that lives in one of these namespaces and waits until none is left. This process is spared.
pub(crate) fn kill_inside(netns_names: &[String]) -> anyhow::Result<()> {
    let spaces: BTreeSet<(u64, u64)> =
        netns_names.iter().filter_map(|name| identity(&Netns::path_of(name))).collect();
    let deadline = Instant::now() + KILL_TIMEOUT;
    loop {
        let inside = processes_in(&spaces);
        if inside.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "processes {inside:?} in the lab's namespaces do not end");
        for pid in inside {
            // One that is gone already is what we want.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn processes_in(spaces: &BTreeSet<(u64, u64)>) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        *pid != own
            && identity(Path::new(&format!("/proc/{pid}/ns/net"))).is_some_and(|id| spaces.contains(&id))
    })
    .collect()
}

/// What makes a namespace the same one under two names.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 5;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

//! Labs that are up: finding them, listing them, entering their machines.

use crate::names::{self, Names};
use crate::plan::Plan;
use crate::state::State;
use anyhow::{Context as _, bail};
use netlink::Netns;
use serde::Serialize;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Of a bare lab's `clouds.yaml`.
const CLOUD: &str = "nanboku";

/// A lab that is up, as it was made.
pub(crate) struct Running {
    pub(crate) names: Names,
    pub(crate) plan: Plan,
    pub(crate) state: State,
}

impl Running {
    /// # Errors
    /// No such lab, or it was not brought up completely.
    pub(crate) fn open(lab: &str) -> anyhow::Result<Self> {
        let names = Names::new(lab);
        if !names.dir().exists() {
            let labs = names::labs();
            let up = if labs.is_empty() { "none".to_owned() } else { labs.join(", ") };
            bail!("no lab `{lab}` is up (up: {up}); start it with `nanboku lab up FILE|fvn|dvr`");
        }
        let text = fs::read_to_string(names.file()).with_context(|| format!("lab `{lab}` is damaged"))?;
        let state =
            State::load(&names).with_context(|| format!("lab `{lab}` was not brought up completely"))?;
        let plan = Plan::parse(&text, &state.overrides)?;
        Ok(Self { names, plan, state })
    }

    /// The lab of that name, or the only one.
    ///
    /// # Errors
    /// As [`Self::open`], or there is not exactly one.
    pub(crate) fn find(lab: Option<&str>) -> anyhow::Result<Self> {
        match (lab, names::labs().as_slice()) {
            (Some(lab), _) => Self::open(lab),
            (None, [only]) => Self::open(only),
            (None, []) => bail!("no lab is up; start one with `nanboku lab up FILE|fvn|dvr`"),
            (None, labs) => bail!("several labs are up ({}); say which one", labs.join(", ")),
        }
    }
}

/// A row of `lab list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub name: String,
    /// `up`, `degraded` (a process is gone) or `partial` (never came up; take it down).
    pub status: &'static str,
    pub hosts: usize,
    pub vms: usize,
    /// Processes that run and that should.
    pub processes: String,
}

/// Every lab that has left anything on this machine.
pub fn list() -> Vec<Listed> {
    names::labs().into_iter().map(|lab| row(&lab)).collect()
}

fn row(lab: &str) -> Listed {
    let Ok(running) = Running::open(lab) else {
        let processes = "-".to_owned();
        return Listed { name: lab.to_owned(), status: "partial", hosts: 0, vms: 0, processes };
    };
    let all = &running.state.processes;
    let alive = all.iter().filter(|process| process.is_running()).count();
    let status = match (running.state.complete, alive == all.len()) {
        (false, _) => "partial",
        (true, false) => "degraded",
        (true, true) => "up",
    };
    Listed {
        name: lab.to_owned(),
        status,
        hosts: running.plan.hosts.len(),
        vms: running.plan.vms.len(),
        processes: format!("{alive}/{}", all.len()),
    }
}

/// Becomes the command, inside a machine of a lab: does not return unless it fails. The exit code is the command's.
///
/// # Errors
/// No such lab or machine, or the command can't be started.
pub fn exec(
    lab: Option<&str>,
    machine: &str,
    command: &[String],
) -> anyhow::Result<std::convert::Infallible> {
    let running = Running::find(lab)?;
    if !running.plan.machines().any(|known| known == machine) {
        let known: Vec<&str> = running.plan.machines().collect();
        bail!("lab `{}` has no machine `{machine}`; it has {}", running.plan.name, known.join(", "));
    }
    let (program, args) =
        command.split_first().context("no command given; write `lab exec MACHINE -- COMMAND`")?;
    let Running { names, plan, state } = running;
    Netns::open(&names.netns(machine))?.enter()?;
    let mut process = Command::new(program);
    process.args(args);
    if state.overrides.bare {
        process.env("OS_CLIENT_CONFIG_FILE", names.clouds()).env("OS_CLOUD", CLOUD);
        process.env_remove("NANBOKU_ENDPOINT");
    } else {
        process.env("NANBOKU_ENDPOINT", format!("unix:{}", names.api_socket().display()));
    }
    if plan.hosts.iter().any(|host| host.name == machine) {
        process.env("NANBOKU_AGENT_SOCKET", names.agent_socket(machine));
    }
    let error = process.exec();
    Err(error).with_context(|| format!("cannot run `{program}`"))
}

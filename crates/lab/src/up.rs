//! Bringing a lab up: wires, certificates, processes, resources, VMs; then waiting until all of it is active.

use crate::api::{Api, text};
use crate::config;
use crate::fabric::{self, Machine};
use crate::names::{CONTROLLER, Names};
use crate::plan::{ControllerPlace, Overrides, Plan};
use crate::presets;
use crate::process::{self, Spawn};
use crate::resources;
use crate::state::State;
use crate::vm;
use crate::wait::{self, Seen};
use anyhow::{Context as _, bail, ensure};
use netlink::Netns;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::process::Child;
use std::time::Duration;

const SERVER_TIMEOUT: Duration = Duration::from_secs(10);
const AGENTS_TIMEOUT: Duration = Duration::from_secs(20);
const ACTIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What came up.
#[derive(Clone, Debug)]
pub struct Summary {
    pub name: String,
    pub hosts: usize,
    pub vms: usize,
    pub floating_ips: usize,
}

/// # Errors
/// Whoever runs this is not root, which a lab needs.
pub fn check_root() -> anyhow::Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "a lab needs root: it makes network namespaces and loads eBPF");
    Ok(())
}

/// Brings a lab up from a preset or a file, with what the overrides change. If it fails, what was made is removed.
///
/// # Errors
/// A file that is refused, a lab of that name that is up already, missing privileges, or what did not come up.
pub async fn up(preset_or_path: &str, overrides: &Overrides) -> anyhow::Result<Summary> {
    let text = presets::load(preset_or_path)?;
    let plan = Plan::parse(&text, overrides)?;
    check_root()?;
    let names = Names::new(&plan.name);
    if names.dir().exists() || !names.existing_netns().is_empty() {
        bail!(
            "a lab named `{0}` is there already; take it down with `nanboku lab down {0}` or choose another --name",
            plan.name
        );
    }
    let mut build = Build {
        plan: &plan,
        names: &names,
        state: State { overrides: overrides.clone(), ..State::default() },
        children: Vec::new(),
    };
    let outcome = tokio::select! {
        outcome = build.run(&text) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = outcome {
        let error = build.explain(error);
        if let Err(left) = crate::down::down(&plan.name) {
            return Err(error.context(format!("and cleaning up failed: {left:#}")));
        }
        return Err(error);
    }
    let floating_ips = if overrides.bare { 0 } else { plan.floating_ips.len() };
    let (hosts, vms) = (plan.hosts.len(), plan.vms.len());
    Ok(Summary { name: plan.name.clone(), hosts, vms, floating_ips })
}

struct Build<'a> {
    plan: &'a Plan,
    names: &'a Names,
    state: State,
    /// With the name of each one's log.
    children: Vec<(String, Child)>,
}

impl Build<'_> {
    async fn run(&mut self, text: &str) -> anyhow::Result<()> {
        self.directories(text)?;
        fabric::build(self.plan, self.names).await?;
        self.certificates()?;
        self.start_server()?;
        let api = Api::new(self.names)?;
        self.await_server(&api).await?;
        self.start_agents()?;
        if self.state.overrides.bare {
            self.await_agents(&api).await?;
            return self.leave_bare();
        }
        let external = resources::create(self.plan, &api, &mut self.state).await?;
        self.state.save(self.names)?;
        self.await_agents(&api).await?;
        self.plug_vms().await?;
        resources::create_floating_ips(self.plan, &external, &self.state, &api).await?;
        self.await_active(&api, "port", "/v2.0/ports?device_owner=compute:lab&fields=name&fields=status")
            .await?;
        self.await_active(&api, "floatingip", "/v2.0/floatingips").await?;
        self.state.complete = true;
        self.state.save(self.names)
    }

    /// VMs are there and have no network.
    fn leave_bare(&mut self) -> anyhow::Result<()> {
        for vm in &self.plan.vms {
            Machine::create(self.names, &vm.name).with_context(|| format!("making VM {}", vm.name))?;
        }
        self.state.complete = true;
        self.state.save(self.names)
    }

    fn directories(&self, text: &str) -> anyhow::Result<()> {
        let dir = self.names.dir();
        let make = |path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(dir.join("logs")).with_context(|| format!("cannot make {}", dir.display()))?;
        make(self.names.machine_dir(CONTROLLER))?;
        for host in &self.plan.hosts {
            make(self.names.machine_dir(&host.name))?;
        }
        fs::create_dir_all(self.names.pins())
            .context("cannot make the directory for pins; is /sys/fs/bpf mounted?")?;
        fs::write(self.names.file(), text).context("cannot keep the lab file")?;
        self.state.save(self.names)
    }

    /// One authority per lab, by the same commands an operator would use.
    fn certificates(&self) -> anyhow::Result<()> {
        let dir = self.names.certificates();
        let own = |args: &[&str]| {
            let args = [&["ca"], args, &["--dir"]].concat();
            run(args.into_iter().map(AsRef::as_ref).chain([dir.as_os_str()]))
        };
        own(&["init"])?;
        own(&["issue", CONTROLLER, "--san", &self.plan.controller_address().to_string()])?;
        for host in &self.plan.hosts {
            own(&["issue", &host.name])?;
        }
        Ok(())
    }

    /// Starts a process of the lab and remembers it at once.
    fn start(&mut self, role: String, machine: &str, log: &str, args: &[&OsStr]) -> anyhow::Result<()> {
        let netns = Netns::open(&self.names.netns(machine))?;
        let path = self.names.log(log);
        let (process, child) =
            process::spawn(&Spawn { role, netns: &netns, log: &path, args: args.to_vec() })?;
        self.remember(process, log, child)
    }

    fn remember(&mut self, process: process::Process, log: &str, child: Child) -> anyhow::Result<()> {
        self.state.processes.push(process);
        self.children.push((log.to_owned(), child));
        self.state.save(self.names)
    }

    fn start_server(&mut self) -> anyhow::Result<()> {
        let machine = match self.plan.controller {
            ControllerPlace::Host(index) => self.plan.hosts[index].name.as_str(),
            ControllerPlace::Own(_) => CONTROLLER,
        };
        let file = self.names.server_file();
        let users = self.state.overrides.bare;
        fs::write(&file, config::server(self.plan, self.names, users))?;
        if users {
            let clouds = self.names.clouds();
            let args = ["server", "--config"].map(OsStr::new).into_iter().chain([file.as_os_str()]);
            let bootstrap = ["bootstrap", "--clouds-yaml"].map(OsStr::new);
            run(args.chain(bootstrap).chain([clouds.as_os_str()]))?;
        }
        let args = ["server".as_ref(), "--config".as_ref(), file.as_os_str()];
        self.start(CONTROLLER.to_owned(), machine, CONTROLLER, &args)
    }

    fn start_agents(&mut self) -> anyhow::Result<()> {
        for host in &self.plan.hosts {
            fs::write(self.names.agent_file(&host.name), config::agent(self.plan, self.names, host))?;
            let (process, child) = start_agent(self.names, &host.name)?;
            self.remember(process, &agent_log(&host.name), child)?;
        }
        Ok(())
    }

    async fn plug_vms(&mut self) -> anyhow::Result<()> {
        let (plan, names) = (self.plan, self.names);
        for vm in &plan.vms {
            let context = || format!("plugging VM {}", vm.name);
            let port = self.state.ports.get(&vm.name).with_context(context)?.clone();
            if let Some((process, child)) = vm::plug(plan, names, vm, &port).await.with_context(context)? {
                self.remember(process, &vm.name, child)?;
            }
        }
        Ok(())
    }

    /// Fails if a process of the lab has ended.
    fn check_children(&mut self) -> anyhow::Result<()> {
        for (log, child) in &mut self.children {
            if let Some(status) = child.try_wait()? {
                bail!("{log} ended ({status}): {}", process::tail(&self.names.log(log)));
            }
        }
        Ok(())
    }

    async fn await_server(&mut self, api: &Api) -> anyhow::Result<()> {
        wait::until("the controller's API", SERVER_TIMEOUT, async || {
            self.check_children()?;
            Ok(match api.get("/").await {
                Ok(_) => Seen::Done(()),
                Err(error) => Seen::Not(format!("{error:#}")),
            })
        })
        .await
    }

    async fn await_agents(&mut self, api: &Api) -> anyhow::Result<()> {
        wait::until("all agents", AGENTS_TIMEOUT, async || {
            self.check_children()?;
            let answer = api.get("/v2.0/agents").await?;
            let agents = answer["agents"].as_array().map(Vec::as_slice).unwrap_or_default();
            let alive = |name: &str| {
                agents.iter().any(|agent| {
                    agent["host"].as_str() == Some(name) && agent["alive"].as_bool() == Some(true)
                })
            };
            let missing: Vec<&str> =
                self.plan.hosts.iter().map(|host| host.name.as_str()).filter(|name| !alive(name)).collect();
            Ok(if missing.is_empty() {
                Seen::Done(())
            } else {
                Seen::Not(format!("not alive: {}", missing.join(", ")))
            })
        })
        .await
    }

    /// Waits until every object of a kind has status ACTIVE.
    async fn await_active(&mut self, api: &Api, kind: &str, path: &str) -> anyhow::Result<()> {
        wait::until(&format!("every {kind} to be ACTIVE"), ACTIVE_TIMEOUT, async || {
            self.check_children()?;
            let answer = api.get(path).await?;
            let objects = answer[format!("{kind}s")].as_array().cloned().unwrap_or_default();
            let waiting: Vec<String> = objects.iter().filter_map(not_active).collect();
            Ok(if waiting.is_empty() { Seen::Done(()) } else { Seen::Not(waiting.join(", ")) })
        })
        .await
    }

    /// Adds the last words of the controller and the agents.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let logs: Vec<String> = self
            .children
            .iter()
            .filter_map(|(log, _)| {
                let tail = process::tail(&self.names.log(log));
                (!tail.is_empty()).then(|| format!("--- {log}\n{tail}"))
            })
            .collect();
        if logs.is_empty() {
            return error;
        }
        anyhow::anyhow!("{error:#}\nThe logs of the lab's processes end with\n{}", logs.join("\n"))
    }
}

/// Runs our own binary to its end, as an operator would.
fn run<'a>(args: impl Iterator<Item = &'a OsStr>) -> anyhow::Result<()> {
    let args: Vec<&OsStr> = args.collect();
    let output = std::process::Command::new(std::env::current_exe()?).args(&args).output()?;
    if !output.status.success() {
        let line = args.join(OsStr::new(" "));
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`nanboku {}` failed: {}", line.display(), said.trim());
    }
    Ok(())
}

/// The log of a host's agent.
fn agent_log(host: &str) -> String {
    format!("agent-{host}")
}

/// What a host's agent is called among the lab's processes.
pub(crate) fn agent_role(host: &str) -> String {
    format!("agent {host}")
}

/// Starts the agent of a host, whose configuration is there.
pub(crate) fn start_agent(names: &Names, host: &str) -> anyhow::Result<(process::Process, Child)> {
    let netns = Netns::open(&names.netns(host))?;
    let (file, log) = (names.agent_file(host), names.log(&agent_log(host)));
    let args = vec!["agent".as_ref(), "--config".as_ref(), file.as_os_str()];
    process::spawn(&Spawn { role: agent_role(host), netns: &netns, log: &log, args })
}

/// The object's name or address with its status, unless that is ACTIVE.
fn not_active(object: &Value) -> Option<String> {
    let status = object["status"].as_str().unwrap_or("no status");
    let name = text(object, "name").or_else(|_| text(object, "floating_ip_address")).unwrap_or_default();
    (status != "ACTIVE").then(|| format!("{name} {status}"))
}

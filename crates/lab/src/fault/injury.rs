//! What happens to a gateway, and how it is made good again.
//!
//! Wires are cut at the far end, where a switch would be: the host's own NIC loses its carrier. A *mute* wire keeps
//! its carrier and carries nothing, which a host can only find out by silence.

use super::Fault;
use crate::agents;
use crate::api::Api;
use crate::fabric::UNDERLAY_BRIDGE;
use crate::names::{self, FABRIC, Names};
use crate::plan::{Index, Plan};
use crate::process::{self, Process};
use crate::state::State;
use crate::up;
use anyhow::Context as _;
use netlink::{Links, Netns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::io;

/// What is done to a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// No carrier.
    Cut,
    Uncut,
    /// A carrier and nothing else.
    Mute,
    Unmute,
}

/// A wire's end at the fabric.
struct Wire {
    bridge: String,
    port: String,
}

/// The gateway that things happen to.
pub(super) struct Patient {
    pub(super) host: Index,
    /// As the API knows it.
    pub(super) agent_id: String,
    /// The gateway that would own the most of its addresses without it.
    pub(super) rival: Index,
    pub(super) physical_network: Index,
}

pub(super) struct Surgery<'a> {
    pub(super) plan: &'a Plan,
    pub(super) names: &'a Names,
    pub(super) api: &'a Api,
    pub(super) patient: &'a Patient,
    /// Of the fabric's namespace.
    pub(super) fabric: Links,
}

impl<'a> Surgery<'a> {
    pub(super) fn open(
        plan: &'a Plan,
        names: &'a Names,
        api: &'a Api,
        patient: &'a Patient,
    ) -> anyhow::Result<Self> {
        let fabric = Links::connect_in(&Netns::open(&names.netns(FABRIC))?)?;
        Ok(Self { plan, names, api, patient, fabric })
    }

    fn host(&self) -> &str {
        &self.plan.hosts[self.patient.host].name
    }

    fn underlay(&self) -> Wire {
        Wire { bridge: UNDERLAY_BRIDGE.to_owned(), port: names::underlay_port(self.patient.host) }
    }

    fn external(&self, physical: Index) -> Wire {
        let port = names::uplink_port(physical, self.patient.host);
        Wire { bridge: names::physical_bridge(physical), port }
    }

    /// Every wire of the host.
    fn wires(&self) -> Vec<Wire> {
        let physical = self.plan.hosts[self.patient.host].physical_networks.iter();
        physical.map(|physical| self.external(*physical)).chain([self.underlay()]).collect()
    }

    /// Makes it happen. A fault that is a return is the death before it.
    pub(super) async fn inflict(&self, fault: Fault) -> anyhow::Result<()> {
        let outcome = match fault {
            Fault::Drain => self.drain(true).await,
            Fault::Kill | Fault::Return => self.kill().await,
            Fault::Pause => {
                self.signal(Signal::SIGSTOP)?;
                self.all_wires(Change::Mute).await
            }
            Fault::StopAgent => self.signal(Signal::SIGSTOP),
            Fault::CutUnderlay => self.wire(&self.underlay(), Change::Cut).await,
            Fault::CutExternal => self.wire(&self.external(self.patient.physical_network), Change::Cut).await,
            Fault::MuteUnderlay => self.wire(&self.underlay(), Change::Mute).await,
            Fault::MuteExternal => {
                self.wire(&self.external(self.patient.physical_network), Change::Mute).await
            }
            Fault::Split => self.split(true).await,
        };
        outcome.with_context(|| format!("{fault} of {}", self.host()))
    }

    /// Undoes it. What was not inflicted may be healed too.
    pub(super) async fn heal(&self, fault: Fault) -> anyhow::Result<()> {
        let outcome = match fault {
            Fault::Drain => self.drain(false).await,
            Fault::Kill | Fault::Return => self.revive().await,
            Fault::Pause => {
                self.all_wires(Change::Unmute).await?;
                self.signal(Signal::SIGCONT)
            }
            Fault::StopAgent => self.signal(Signal::SIGCONT),
            Fault::CutUnderlay => self.wire(&self.underlay(), Change::Uncut).await,
            Fault::CutExternal => {
                self.wire(&self.external(self.patient.physical_network), Change::Uncut).await
            }
            Fault::MuteUnderlay => self.wire(&self.underlay(), Change::Unmute).await,
            Fault::MuteExternal => {
                self.wire(&self.external(self.patient.physical_network), Change::Unmute).await
            }
            Fault::Split => self.split(false).await,
        };
        outcome.with_context(|| format!("healing {fault} of {}", self.host()))
    }

    async fn drain(&self, drained: bool) -> anyhow::Result<()> {
        let path = format!("/v2.0/agents/{}", self.patient.agent_id);
        self.api.put(&path, &json!({ "agent": { "admin_state_up": !drained } })).await.map(drop)
    }

    /// As if the power failed: no carrier, no process, no program, no table.
    async fn kill(&self) -> anyhow::Result<()> {
        self.all_wires(Change::Cut).await?;
        process::kill_inside(&[self.names.netns(self.host())])?;
        match std::fs::remove_dir_all(self.names.pins().join(self.host())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("removing pins"),
            _ => Ok(()),
        }
    }

    async fn revive(&self) -> anyhow::Result<()> {
        self.all_wires(Change::Uncut).await?;
        let mut state = State::load(self.names)?;
        let role = up::agent_role(self.host());
        if state.processes.iter().any(|process| process.role == role && process.is_running()) {
            return Ok(());
        }
        state.processes.retain(|process| process.role != role);
        // Whoever waits for this child is this process, or init after it.
        let (process, _) = up::start_agent(self.names, self.host())?;
        state.processes.push(process);
        state.save(self.names)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.agent()?;
        kill(Pid::from_raw(process.pid), signal).context("signalling the agent")
    }

    fn agent(&self) -> anyhow::Result<Process> {
        let role = up::agent_role(self.host());
        let processes = State::load(self.names)?.processes;
        let process = processes.into_iter().find(|process| process.role == role && process.is_running());
        process.with_context(|| format!("the agent of {} does not run", self.host()))
    }

    async fn all_wires(&self, change: Change) -> anyhow::Result<()> {
        for wire in self.wires() {
            self.wire(&wire, change).await?;
        }
        Ok(())
    }

    async fn wire(&self, wire: &Wire, change: Change) -> anyhow::Result<()> {
        let port = self.fabric.get(&wire.port).await?.index;
        match change {
            Change::Cut => self.fabric.set_down(port).await?,
            Change::Uncut => self.fabric.set_up(port).await?,
            Change::Mute => self.fabric.clear_master(port).await?,
            Change::Unmute => {
                self.fabric.set_master(port, self.fabric.get(&wire.bridge).await?.index).await?
            }
        }
        Ok(())
    }

    /// Patient and rival hear nothing of one another on the underlay; everybody else hears both.
    async fn split(&self, apart: bool) -> anyhow::Result<()> {
        for host in [self.patient.host, self.patient.rival] {
            let index = self.fabric.get(&names::underlay_port(host)).await?.index;
            self.fabric.set_port_isolated(index, apart).await?;
        }
        Ok(())
    }
}

/// What is not as it should be in a lab at rest: the hosts that are not live, drained, or whose agent complains.
pub(super) async fn unwell_hosts(plan: &Plan, names: &Names, api: &Api) -> anyhow::Result<Vec<String>> {
    let answer = api.get("/nanboku/v1/hosts").await?;
    let hosts = answer["hosts"].as_array().cloned().unwrap_or_default();
    let mut unwell = Vec::new();
    for host in &plan.hosts {
        let known = hosts.iter().find(|known| known["name"].as_str() == Some(&host.name));
        let flag = |field: &str| known.and_then(|known| known[field].as_bool());
        if flag("live") != Some(true) || flag("drained") != Some(false) {
            unwell.push(format!("{} is not live, or drained", host.name));
        }
        match agents::status(&names.agent_socket(&host.name)).await {
            Err(error) => unwell.push(format!("{}: {error}", host.name)),
            Ok(status) => {
                let warnings = status["warnings"].as_array().into_iter().flatten();
                unwell.extend(
                    warnings.filter_map(|warning| Some(format!("{}: {}", host.name, warning.as_str()?))),
                );
                let revision = &status["revision"];
                if status["connected"] != true || *revision != status["programmed_revision"] {
                    unwell.push(format!("{} is not connected, or not programmed", host.name));
                }
            }
        }
    }
    Ok(unwell)
}

//! `lab check`: proves from the lab file what reaches what, what must not, and with which addresses.
//!
//! Every machine gets an echo service on TCP and UDP that tells its name and whom it saw ([`station`]); probes run
//! from sockets opened inside the namespaces ([`probe`]), raw frames from packet sockets ([`raw`]). The expectations
//! ([`east_west`], [`north_south`], [`hops`], [`mtu`], [`attacks`], [`wire`]) are computed from the plan alone: nothing
//! knows a preset.

mod attacks;
mod bulk;
pub(crate) mod conservation;
mod east_west;
mod forwarding;
mod groups;
mod hops;
mod ipv6;
mod mtu;
mod north_south;
mod probe;
pub(crate) mod raw;
mod station;
mod too_big;
mod tool;
mod wire;

use crate::api::Api;
use crate::plan::{Index, Plan, Segment};
use crate::resources;
use crate::running::Running;
use crate::state::State;
use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use serde::Serialize;
use station::Station;
use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Checks that run at the same time: enough to hide waiting, few enough for a small machine.
const CONCURRENCY: usize = 24;

/// Transfers at the same time: each keeps a core busy.
const BULK_CONCURRENCY: usize = 2;

/// One line of `lab check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub name: String,
    pub ok: bool,
    /// What was seen, or what was wrong with it.
    pub detail: String,
}

/// A check that has not run: its name and the future that finds out.
struct Check {
    name: String,
    run: BoxFuture<'static, Result<String, String>>,
}

impl Check {
    fn new(name: String, run: impl Future<Output = Result<String, String>> + Send + 'static) -> Self {
        Self { name, run: Box::pin(run) }
    }
}

/// Everything a check may need.
struct Bench {
    plan: Plan,
    state: State,
    names: crate::names::Names,
    /// In the order of the plan's VMs.
    vms: Vec<Arc<Station>>,
    /// In the order of the plan's external hosts.
    outside: Vec<Arc<Station>>,
}

impl Bench {
    fn open(running: Running) -> anyhow::Result<Self> {
        let Running { names, plan, state } = running;
        let plan = plan.unfiltered();
        let station = |name: &str, address| Station::start(&names, name, address).map(Arc::new);
        let vms = plan.vms.iter().map(|vm| station(&vm.name, vm.address)).collect::<Result<_, _>>()?;
        let outside = plan.external_hosts.iter();
        let outside =
            outside.map(|host| station(&host.name, host.addresses[0].addr())).collect::<Result<_, _>>()?;
        Ok(Self { plan, state, names, vms, outside })
    }

    /// Addresses a VM may be seen with outside: its floating IP, or else its router's SNAT addresses.
    fn external_addresses(&self, vm: Index) -> Vec<Ipv4Addr> {
        if let Some(address) = self.plan.floating_of(vm) {
            return vec![address];
        }
        let router = self.plan.router_of(self.plan.vms[vm].network);
        let addresses =
            router.and_then(|index| self.state.snat_addresses.get(&self.plan.routers[index].name));
        addresses.cloned().unwrap_or_default()
    }

    /// What a VM makes of its network's IPv6 prefix.
    fn ipv6_of(&self, vm: Index) -> Option<Ipv6Addr> {
        self.state.ports.get(&self.plan.vms[vm].name)?.ipv6
    }

    /// Machines outside on a segment: attached to it (`direct`) or also behind such a one.
    fn outside_of(&self, segment: Segment, direct: bool) -> impl Iterator<Item = &Arc<Station>> {
        self.plan.external_hosts.iter().enumerate().filter_map(move |(index, host)| {
            let attached = matches!(host.place, crate::plan::Place::Attached(_));
            (self.plan.segment_of(index) == segment && (attached || !direct)).then(|| &self.outside[index])
        })
    }

    /// Segment of the external network a VM's router leads to.
    fn segment_of_vm(&self, vm: Index) -> Option<Segment> {
        let network = self.plan.external_of(&self.plan.vms[vm])?;
        Some(self.plan.external_networks[network].segment)
    }
}

/// Checks a lab that is up: the one named, or the only one. The order of the answer is the same in every run.
///
/// # Errors
/// No such lab, or a namespace can't be entered. A check that fails is no error: it is in the answer.
pub async fn check(lab: Option<&str>) -> anyhow::Result<Vec<Checked>> {
    let mut running = Running::find(lab)?;
    if running.state.overrides.bare {
        let api = Api::new(&running.names)?;
        resources::find(&running.plan, &api, &mut running.state).await?;
    }
    let directory = File::open(running.names.dir()).context("cannot open the lab's directory")?;
    if directory.try_lock().is_err() {
        bail!("lab `{}` is being checked already; wait for that to end", running.plan.name);
    }
    let bench = Arc::new(Bench::open(running).context("cannot start the echo services")?);
    let mut results = run(together(&bench), CONCURRENCY).await;
    results.extend(run(bulk::checks(&bench), BULK_CONCURRENCY).await);
    results.extend(run(mtu::checks(&bench), 1).await);
    // These look at what passes on a wire or count frames, so nothing else may be sent meanwhile.
    results.extend(run(wire::checks(&bench), 1).await);
    results.extend(run(groups::checks(&bench), 1).await);
    results.extend(run(forwarding::checks(&bench), 1).await);
    results.extend(run(conservation::checks(&bench), 1).await);
    Ok(results)
}

fn together(bench: &Arc<Bench>) -> Vec<Check> {
    let mut checks = east_west::checks(bench);
    checks.extend(north_south::checks(bench));
    checks.extend(hops::checks(bench));
    checks.extend(attacks::checks(bench));
    checks.extend(too_big::checks(bench));
    checks.extend(ipv6::checks(bench));
    checks
}

async fn run(checks: Vec<Check>, concurrency: usize) -> Vec<Checked> {
    let running = checks.into_iter().map(|Check { name, run }| async move {
        match run.await {
            Ok(detail) => Checked { name, ok: true, detail },
            Err(detail) => Checked { name, ok: false, detail },
        }
    });
    futures::stream::iter(running).buffered(concurrency).collect().await
}
